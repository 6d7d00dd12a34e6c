/* The C ABI between Core ML and Rust: its one written form.
 *
 * crates/coreml-bridge/src/ffi.rs mirrors this file, swift-bridge/Sources/CoreMLBridge exports it; a test compares the three as text,
 * and both sides assert the structs' sizes and offsets.
 *
 * Rules
 *  - Names are cmlb_<object>_<action>. Calls return a status; all but CMLB_OK fill the error, if one is given.
 *  - Texts are UTF-8 and end in NUL. Pointers to arrays may be NULL where their count is 0.
 *  - What a call takes is borrowed for that call. What it gives through a `**` belongs to the caller, who releases it with
 *    the function named after it. Releasing NULL does nothing.
 *  - Every call may be made from any thread but one that runs Swift tasks. A call may take long or never return: it
 *    holds its model by itself, so that releasing the model from another thread neither waits nor pulls anything from under it.
 *  - Multi-arrays have strides in elements. NULL strides mean dense and row-major.
 */
#ifndef COREML_BRIDGE_H
#define COREML_BRIDGE_H

#include <stddef.h>
#include <stdint.h>

#define CMLB_ABI_VERSION 1

/* Statuses. */
#define CMLB_OK 0
/* The caller broke a rule of this header. */
#define CMLB_INVALID_ARGUMENT 1
/* This system does not have what was asked for; a newer one may. */
#define CMLB_UNAVAILABLE 2
/* Core ML gave or was to be given something this bridge has no form for. */
#define CMLB_UNSUPPORTED 3
/* The call's time was up. What it had begun goes on, and is cleared away when it ends. */
#define CMLB_TIMEOUT 4
/* The model was in use for as long as the caller would wait. */
#define CMLB_BUSY 5
/* An NSError; domain and code say which. */
#define CMLB_ERROR 6
/* An Objective-C exception; the domain is its name. */
#define CMLB_EXCEPTION 7

/* Kinds of values and features: the raw values of MLFeatureType. */
#define CMLB_KIND_NONE 0
#define CMLB_KIND_INT64 1
#define CMLB_KIND_DOUBLE 2
#define CMLB_KIND_STRING 3
#define CMLB_KIND_IMAGE 4
#define CMLB_KIND_ARRAY 5
#define CMLB_KIND_DICTIONARY 6
#define CMLB_KIND_SEQUENCE 7
#define CMLB_KIND_STATE 8

/* Data types of multi-arrays: the raw values of MLMultiArrayDataType. */
#define CMLB_TYPE_DOUBLE 0x10040
#define CMLB_TYPE_FLOAT32 0x10020
#define CMLB_TYPE_FLOAT16 0x10010
#define CMLB_TYPE_INT32 0x20020
#define CMLB_TYPE_INT8 0x20008

/* Pixels: height x width x channels, rows without gaps. */
#define CMLB_PIXELS_GRAY8 1
#define CMLB_PIXELS_RGB8 2
#define CMLB_PIXELS_GRAY16F 3

/* Roles of features. */
#define CMLB_ROLE_INPUT 0
#define CMLB_ROLE_OUTPUT 1
#define CMLB_ROLE_STATE 2

/* Which shapes a feature admits: the raw values of MLMultiArrayShapeConstraintType, 1 for the default shape only. */
#define CMLB_SHAPES_FIXED 1
#define CMLB_SHAPES_ENUMERATED 2
#define CMLB_SHAPES_RANGE 3

/* Compute devices; also bits of masks: 1 << device. */
#define CMLB_DEVICE_CPU 0
#define CMLB_DEVICE_GPU 1
#define CMLB_DEVICE_NEURAL_ENGINE 2
#define CMLB_DEVICE_UNKNOWN 3

/* How a requested output came. */
#define CMLB_OUTPUT_ELSEWHERE 0
#define CMLB_OUTPUT_IN_PLACE 1
#define CMLB_OUTPUT_COPIED 2

/* Handles that are counted. */
#define CMLB_HANDLE_MODEL 0
#define CMLB_HANDLE_STATE 1
#define CMLB_HANDLE_PREDICTION 2
#define CMLB_HANDLE_DESCRIPTION 3
#define CMLB_HANDLE_PLAN 4
#define CMLB_HANDLE_KINDS 5

typedef struct cmlb_model cmlb_model;
typedef struct cmlb_state cmlb_state;
typedef struct cmlb_prediction cmlb_prediction;

/* Why a call failed. Zeroed by the caller before its first use; texts are cleared with cmlb_error_clear. */
typedef struct cmlb_error {
    int64_t code;
    char *domain;
    char *message;
    /* The error underneath; a NULL domain where there is none. */
    int64_t underlying_code;
    char *underlying_domain;
    char *underlying_message;
} cmlb_error;

/* How a model is loaded. -1 leaves a setting at the system's default. */
typedef struct cmlb_configuration {
    /* The function of a model with several; NULL for its default. */
    const char *function_name;
    /* Loading or planning longer than this is CMLB_TIMEOUT; 0 waits for ever. */
    double timeout_seconds;
    /* How long a prediction waits for a model in use before it is CMLB_BUSY; 0 waits for ever. */
    double busy_seconds;
    /* MLComputeUnits. */
    int32_t compute_units;
    /* MLOptimizationHints.ReshapeFrequency. */
    int32_t reshape_frequency;
    /* MLOptimizationHints.SpecializationStrategy. */
    int32_t specialization_strategy;
    /* Whether sums may lose precision on a GPU: 0 or 1. */
    int32_t low_precision_accumulation;
    /* 1: predictions side by side through Core ML's asynchronous call. 0: one after another, which is quicker for each. */
    int32_t concurrent;
    int32_t reserved;
} cmlb_configuration;

/* The sizes a dimension may take; a negative maximum is none. */
typedef struct cmlb_range {
    int64_t minimum;
    int64_t maximum;
} cmlb_range;

/* One feature of a model. */
typedef struct cmlb_feature {
    const char *name;
    int32_t role;
    int32_t kind;
    int32_t optional;
    /* Of arrays and states. */
    int32_t data_type;
    /* Of dictionaries and sequences: CMLB_KIND_STRING or CMLB_KIND_INT64. */
    int32_t key_kind;
    /* Of images: the FourCC of their pixel format. */
    uint32_t pixel_format;
    /* Arrays: their default shape. Images: height, width. */
    const int64_t *shape;
    size_t rank;
    int32_t shapes;
    int32_t reserved;
    /* CMLB_SHAPES_ENUMERATED: this many shapes of `rank` sizes each, one after another. */
    const int64_t *enumerated;
    size_t enumerated_count;
    /* CMLB_SHAPES_RANGE: `rank` ranges. */
    const cmlb_range *ranges;
} cmlb_feature;

/* What a model takes and gives. */
typedef struct cmlb_description {
    const cmlb_feature *features;
    size_t feature_count;
    /* NULL where the model is no classifier. */
    const char *predicted_feature;
    const char *predicted_probabilities;
    /* Class labels: texts or numbers, the other is NULL. */
    const char *const *label_texts;
    const int64_t *label_numbers;
    size_t label_count;
    /* The bridge's. */
    void *owner;
} cmlb_description;

/* One value of a feature, given or got. */
typedef struct cmlb_value {
    const char *name;
    int32_t kind;
    /* Arrays: a CMLB_TYPE. Images: a CMLB_PIXELS. Dictionaries and sequences: their keys' kind. */
    int32_t type;
    /* Arrays and images: the elements. */
    void *data;
    size_t byte_count;
    /* Arrays: their shape. Images: height, width, channels. */
    const int64_t *shape;
    const int64_t *strides;
    size_t rank;
    int64_t int64_value;
    double double_value;
    const char *text;
    /* Dictionaries and sequences: texts or numbers as keys, and the dictionary's values. */
    const char *const *key_texts;
    const int64_t *key_numbers;
    const double *values;
    size_t count;
} cmlb_value;

/* Where a multi-array output is wanted: dense and row-major. */
typedef struct cmlb_output {
    const char *name;
    void *data;
    size_t byte_count;
    const int64_t *shape;
    size_t rank;
    int32_t type;
    /* Set by the call: a CMLB_OUTPUT. ELSEWHERE where type or shape turned out to be others; it is then among the values. */
    int32_t came;
} cmlb_output;

/* The inputs of one prediction of a batch. */
typedef struct cmlb_item {
    const cmlb_value *inputs;
    size_t input_count;
} cmlb_item;

/* Where Core ML means to run an operation. */
typedef struct cmlb_operation {
    const char *operator_name;
    /* The first output's name. */
    const char *output_name;
    /* A CMLB_DEVICE; -1 where nothing is reported, as for constants. */
    int32_t preferred;
    /* Bits of CMLB_DEVICE. */
    uint32_t supported;
    /* Share of the model's cost, 0 to 1; NaN where nothing is reported. */
    double cost;
} cmlb_operation;

/* Where Core ML means to run a model. */
typedef struct cmlb_plan {
    const cmlb_operation *operations;
    size_t operation_count;
    /* The bridge's. */
    void *owner;
} cmlb_plan;

/* A compute device of this machine. */
typedef struct cmlb_device {
    int32_t kind;
    /* Cores of a Neural Engine; 0 where nothing is reported. */
    int32_t core_count;
    /* Whether Core ML may use it: 0 or 1. */
    int32_t usable;
    int32_t reserved;
} cmlb_device;

/* This process and machine now. -1 is: cannot be told here. */
typedef struct cmlb_system {
    int64_t physical_bytes;
    int64_t physical_peak_bytes;
    int64_t neural_bytes;
    int64_t neural_peak_bytes;
    /* ProcessInfo.ThermalState: 0 nominal to 3 critical. */
    int32_t thermal_state;
    int32_t low_power_mode;
} cmlb_system;

#ifdef __cplusplus
extern "C" {
#endif

/* CMLB_ABI_VERSION of the library. */
uint32_t cmlb_bridge_version(void);
/* How many handles of a kind are alive; -1 for an unknown kind. */
int64_t cmlb_handle_count(int32_t kind);
/* Frees an error's texts and zeroes it. */
void cmlb_error_clear(cmlb_error *error);
/* Frees a text. */
void cmlb_text_release(char *text);

/* Compiles a model file or package. `compiled` is the path of a folder that Core ML will delete some day: move it. */
int32_t cmlb_model_compile(const char *path, double timeout_seconds, char **compiled, cmlb_error *error);
/* Loads a compiled model. */
int32_t cmlb_model_load(const char *compiled, const cmlb_configuration *configuration, cmlb_model **model, cmlb_error *error);
/* Lets go of a model; calls in progress finish on it. */
void cmlb_model_release(cmlb_model *model);
/* What a model takes and gives. */
int32_t cmlb_model_describe(cmlb_model *model, const cmlb_description **description, cmlb_error *error);
void cmlb_description_release(const cmlb_description *description);

/* Predicts. `state` is NULL or of this model. Outputs that are not among `outputs`, or came elsewhere, are in `prediction`, which
 * is NULL where there are none. Memory of inputs and outputs is used during the call only. */
int32_t cmlb_model_predict(cmlb_model *model, cmlb_state *state, const cmlb_value *inputs, size_t input_count, cmlb_output *outputs, size_t output_count, cmlb_prediction **prediction, cmlb_error *error);
/* Predicts for `item_count` items; `predictions` has room for as many. */
int32_t cmlb_model_predict_batch(cmlb_model *model, const cmlb_item *items, size_t item_count, cmlb_prediction **predictions, cmlb_error *error);
/* The values of a prediction, which owns them. */
const cmlb_value *cmlb_prediction_values(const cmlb_prediction *prediction, size_t *count);
void cmlb_prediction_release(cmlb_prediction *prediction);

/* A fresh state, all zero. Predictions on one state run one after another. */
int32_t cmlb_state_make(cmlb_model *model, cmlb_state **state, cmlb_error *error);
void cmlb_state_release(cmlb_state *state);

/* Where Core ML means to run a compiled model; of the function named, or the one called main. */
int32_t cmlb_plan_load(const char *compiled, const cmlb_configuration *configuration, const cmlb_plan **plan, cmlb_error *error);
void cmlb_plan_release(const cmlb_plan *plan);

/* The compute devices: writes at most `capacity`, gives how many there are. */
int32_t cmlb_device_list(cmlb_device *devices, size_t capacity, size_t *count, cmlb_error *error);
/* Memory, heat and power. */
int32_t cmlb_system_measure(cmlb_system *system);
/* The build of the operating system. */
int32_t cmlb_system_build(char **text);

#ifdef __cplusplus
}
#endif
#endif
