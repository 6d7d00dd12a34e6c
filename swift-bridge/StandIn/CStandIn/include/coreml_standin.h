/* The stand-in for Core ML, from the side of tests: what computes for it, and how it is made to misbehave.
 *
 * On systems without Core ML a module of that name stands in for it. It computes nothing itself: it hands each
 * prediction to the engine installed here. Faults are staged for the whole process.
 */
#ifndef COREML_STANDIN_H
#define COREML_STANDIN_H

#include "coreml_bridge.h"

/* What computes. Texts of failures go into `message`, cut to `capacity`. Calls come from any thread. */
typedef struct cmlb_standin_engine {
    void *context;
    /* Opens the function of the model at `path`, or its default function. 0 is success. */
    int32_t (*open)(void *context, const char *path, const char *function, void **model, char *message, size_t capacity);
    /* Tells about a model: calls `tell` once; what it is given is borrowed. */
    void (*describe)(void *model, void *sink, void (*tell)(void *sink, const cmlb_description *description));
    /* Tells about each operation in order. */
    void (*operations)(void *model, void *sink, void (*tell)(void *sink, const cmlb_operation *operation));
    /* Computes: calls `tell` once for each output. 0 is success. */
    int32_t (*predict)(void *model, void *state, const cmlb_value *inputs, size_t count, void *sink,
                       void (*tell)(void *sink, const cmlb_value *value), char *message, size_t capacity);
    void *(*make_state)(void *model);
    void (*close_state)(void *state);
    void (*close)(void *model);
} cmlb_standin_engine;

/* What goes wrong. All zero: nothing. */
typedef struct cmlb_standin_faults {
    /* Slow or hanging calls. */
    double compile_seconds;
    double load_seconds;
    double predict_seconds;
    double plan_seconds;
    /* Errors: 1 + the code of an MLModelError; 0 is none. */
    int32_t compile_error;
    int32_t load_error;
    int32_t predict_error;
    int32_t plan_error;
    /* 1: errors are Cocoa's, with that code, instead of Core ML's. */
    int32_t foreign_errors;
    /* 1: errors carry one underneath. */
    int32_t underlying_errors;
    /* 1: the compiled folder is gone before it can be moved. */
    int32_t compiled_vanishes;
    /* 1: the innermost rows of outputs are padded to 32 elements, the gaps filled with 0xCD. */
    int32_t padded_rows;
    /* 1: an output of an input's shape and type lies in that input's memory. */
    int32_t outputs_alias_inputs;
    /* 1: floating-point outputs come in half precision. */
    int32_t half_outputs;
    /* 1: memory offered for outputs is not used. */
    int32_t ignored_backings;
    /* 1: memory offered for outputs is an error. */
    int32_t refused_backings;
    /* 1: outputs are missing. */
    int32_t missing_outputs;
    /* 1: multi-array outputs have a size more in front. */
    int32_t wrong_shapes;
    /* 1: multi-array outputs come as texts. */
    int32_t wrong_kinds;
    /* 1: multi-array outputs have a data type nobody knows. */
    int32_t unknown_types;
    /* 1: there is no error, and no value either. */
    int32_t undefined_values;
    /* 1: zero everywhere in outputs. */
    int32_t wrong_values;
    /* What cmlb_system_measure reports besides: bytes on the Neural Engine; 0 is: nothing. */
    int64_t neural_bytes;
} cmlb_standin_faults;

/* Things that are counted. */
#define CMLB_STANDIN_PREDICTIONS 0
/* Synchronous predictions that ran on one model at the same time, which Core ML does not allow. */
#define CMLB_STANDIN_OVERLAPS 1
#define CMLB_STANDIN_COMPILATIONS 2
#define CMLB_STANDIN_LOADS 3
/* Models that are alive. */
#define CMLB_STANDIN_MODELS 4
/* Outputs written into memory offered for them. */
#define CMLB_STANDIN_BACKED 5
#define CMLB_STANDIN_COUNTS 6

#ifdef __cplusplus
extern "C" {
#endif

/* Makes this engine compute. Models opened before keep theirs. */
void cmlb_standin_install(const cmlb_standin_engine *engine);
/* Makes these things go wrong from now on. */
void cmlb_standin_stage(const cmlb_standin_faults *faults);
/* A count since the process began; -1 for an unknown one. */
int64_t cmlb_standin_observe(int32_t what);

#ifdef __cplusplus
}
#endif
#endif
