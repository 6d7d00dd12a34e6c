/* Sizes and offsets of the ABI's structs on 64-bit systems. crates/coreml-bridge/src/ffi.rs asserts the same numbers. */
#include "coreml_bridge.h"

#define LAYOUT(type, field, offset) _Static_assert(offsetof(type, field) == offset, #type "." #field)
#define SIZE(type, size) _Static_assert(sizeof(type) == size, #type)

_Static_assert(sizeof(void *) == 8, "the ABI is for 64-bit systems");
SIZE(cmlb_error, 48);
LAYOUT(cmlb_error, underlying_code, 24);
SIZE(cmlb_configuration, 48);
LAYOUT(cmlb_configuration, compute_units, 24);
LAYOUT(cmlb_configuration, concurrent, 40);
SIZE(cmlb_range, 16);
SIZE(cmlb_feature, 80);
LAYOUT(cmlb_feature, pixel_format, 28);
LAYOUT(cmlb_feature, shape, 32);
LAYOUT(cmlb_feature, shapes, 48);
LAYOUT(cmlb_feature, ranges, 72);
SIZE(cmlb_description, 64);
LAYOUT(cmlb_description, label_texts, 32);
LAYOUT(cmlb_description, owner, 56);
SIZE(cmlb_value, 112);
LAYOUT(cmlb_value, data, 16);
LAYOUT(cmlb_value, rank, 48);
LAYOUT(cmlb_value, text, 72);
LAYOUT(cmlb_value, count, 104);
SIZE(cmlb_output, 48);
LAYOUT(cmlb_output, type, 40);
LAYOUT(cmlb_output, came, 44);
SIZE(cmlb_item, 16);
SIZE(cmlb_operation, 32);
LAYOUT(cmlb_operation, preferred, 16);
LAYOUT(cmlb_operation, cost, 24);
SIZE(cmlb_plan, 24);
SIZE(cmlb_device, 16);
SIZE(cmlb_system, 40);
LAYOUT(cmlb_system, thermal_state, 32);
