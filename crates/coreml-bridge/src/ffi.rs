//! The C ABI of `swift-bridge/Sources/CBridge/include/coreml_bridge.h`, line by line and under the same names. The
//! header says what each item means; a test compares the two as text.
#![allow(non_camel_case_types, missing_docs, reason = "the header's names, explained in the header")]

use std::ffi::{c_char, c_void};

pub const CMLB_ABI_VERSION: u32 = 1;

pub const CMLB_OK: i32 = 0;
pub const CMLB_INVALID_ARGUMENT: i32 = 1;
pub const CMLB_UNAVAILABLE: i32 = 2;
pub const CMLB_UNSUPPORTED: i32 = 3;
pub const CMLB_TIMEOUT: i32 = 4;
pub const CMLB_BUSY: i32 = 5;
pub const CMLB_ERROR: i32 = 6;
pub const CMLB_EXCEPTION: i32 = 7;

pub const CMLB_KIND_NONE: i32 = 0;
pub const CMLB_KIND_INT64: i32 = 1;
pub const CMLB_KIND_DOUBLE: i32 = 2;
pub const CMLB_KIND_STRING: i32 = 3;
pub const CMLB_KIND_IMAGE: i32 = 4;
pub const CMLB_KIND_ARRAY: i32 = 5;
pub const CMLB_KIND_DICTIONARY: i32 = 6;
pub const CMLB_KIND_SEQUENCE: i32 = 7;
pub const CMLB_KIND_STATE: i32 = 8;

pub const CMLB_TYPE_DOUBLE: i32 = 0x10040;
pub const CMLB_TYPE_FLOAT32: i32 = 0x10020;
pub const CMLB_TYPE_FLOAT16: i32 = 0x10010;
pub const CMLB_TYPE_INT32: i32 = 0x20020;
pub const CMLB_TYPE_INT8: i32 = 0x20008;

pub const CMLB_PIXELS_GRAY8: i32 = 1;
pub const CMLB_PIXELS_RGB8: i32 = 2;
pub const CMLB_PIXELS_GRAY16F: i32 = 3;

pub const CMLB_ROLE_INPUT: i32 = 0;
pub const CMLB_ROLE_OUTPUT: i32 = 1;
pub const CMLB_ROLE_STATE: i32 = 2;

pub const CMLB_SHAPES_FIXED: i32 = 1;
pub const CMLB_SHAPES_ENUMERATED: i32 = 2;
pub const CMLB_SHAPES_RANGE: i32 = 3;

pub const CMLB_DEVICE_CPU: i32 = 0;
pub const CMLB_DEVICE_GPU: i32 = 1;
pub const CMLB_DEVICE_NEURAL_ENGINE: i32 = 2;
pub const CMLB_DEVICE_UNKNOWN: i32 = 3;

pub const CMLB_OUTPUT_ELSEWHERE: i32 = 0;
pub const CMLB_OUTPUT_IN_PLACE: i32 = 1;
pub const CMLB_OUTPUT_COPIED: i32 = 2;

pub const CMLB_HANDLE_MODEL: i32 = 0;
pub const CMLB_HANDLE_STATE: i32 = 1;
pub const CMLB_HANDLE_PREDICTION: i32 = 2;
pub const CMLB_HANDLE_DESCRIPTION: i32 = 3;
pub const CMLB_HANDLE_PLAN: i32 = 4;
pub const CMLB_HANDLE_KINDS: i32 = 5;

macro_rules! opaque {
    ($($name:ident),*) => {$(
        #[repr(C)]
        #[derive(Debug)]
        pub struct $name {
            _opaque: [u8; 0],
        }
    )*};
}

opaque!(cmlb_model, cmlb_state, cmlb_prediction);

/// Derives what plain C data has, and a value of zeros.
macro_rules! plain {
    ($($(#[$doc:meta])* pub struct $name:ident { $(pub $field:ident: $ty:ty,)* })*) => {$(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy)]
        pub struct $name {
            $(pub $field: $ty,)*
        }

        impl Default for $name {
            fn default() -> Self {
                // SAFETY: every field is a number or a raw pointer, for which all zeros is a value.
                unsafe { std::mem::zeroed() }
            }
        }
    )*};
}

plain! {
    pub struct cmlb_error {
        pub code: i64,
        pub domain: *mut c_char,
        pub message: *mut c_char,
        pub underlying_code: i64,
        pub underlying_domain: *mut c_char,
        pub underlying_message: *mut c_char,
    }

    pub struct cmlb_configuration {
        pub function_name: *const c_char,
        pub timeout_seconds: f64,
        pub busy_seconds: f64,
        pub compute_units: i32,
        pub reshape_frequency: i32,
        pub specialization_strategy: i32,
        pub low_precision_accumulation: i32,
        pub concurrent: i32,
        pub reserved: i32,
    }

    pub struct cmlb_range {
        pub minimum: i64,
        pub maximum: i64,
    }

    pub struct cmlb_feature {
        pub name: *const c_char,
        pub role: i32,
        pub kind: i32,
        pub optional: i32,
        pub data_type: i32,
        pub key_kind: i32,
        pub pixel_format: u32,
        pub shape: *const i64,
        pub rank: usize,
        pub shapes: i32,
        pub reserved: i32,
        pub enumerated: *const i64,
        pub enumerated_count: usize,
        pub ranges: *const cmlb_range,
    }

    pub struct cmlb_description {
        pub features: *const cmlb_feature,
        pub feature_count: usize,
        pub predicted_feature: *const c_char,
        pub predicted_probabilities: *const c_char,
        pub label_texts: *const *const c_char,
        pub label_numbers: *const i64,
        pub label_count: usize,
        pub owner: *mut c_void,
    }

    pub struct cmlb_value {
        pub name: *const c_char,
        pub kind: i32,
        pub r#type: i32,
        pub data: *mut c_void,
        pub byte_count: usize,
        pub shape: *const i64,
        pub strides: *const i64,
        pub rank: usize,
        pub int64_value: i64,
        pub double_value: f64,
        pub text: *const c_char,
        pub key_texts: *const *const c_char,
        pub key_numbers: *const i64,
        pub values: *const f64,
        pub count: usize,
    }

    pub struct cmlb_output {
        pub name: *const c_char,
        pub data: *mut c_void,
        pub byte_count: usize,
        pub shape: *const i64,
        pub rank: usize,
        pub r#type: i32,
        pub came: i32,
    }

    pub struct cmlb_item {
        pub inputs: *const cmlb_value,
        pub input_count: usize,
    }

    pub struct cmlb_operation {
        pub operator_name: *const c_char,
        pub output_name: *const c_char,
        pub preferred: i32,
        pub supported: u32,
        pub cost: f64,
    }

    pub struct cmlb_plan {
        pub operations: *const cmlb_operation,
        pub operation_count: usize,
        pub owner: *mut c_void,
    }

    pub struct cmlb_device {
        pub kind: i32,
        pub core_count: i32,
        pub usable: i32,
        pub reserved: i32,
    }

    pub struct cmlb_system {
        pub physical_bytes: i64,
        pub physical_peak_bytes: i64,
        pub neural_bytes: i64,
        pub neural_peak_bytes: i64,
        pub thermal_state: i32,
        pub low_power_mode: i32,
    }
}

/// Declares the functions and the table of them, in which tests put functions of their own.
macro_rules! functions {
    ($(fn $name:ident($($parameter:ident: $ty:ty),*) $(-> $result:ty)?;)*) => {
        /// Every function of the ABI.
        #[derive(Debug, Clone, Copy)]
        pub struct Functions {
            $(pub $name: unsafe extern "C" fn($($parameter: $ty),*) $(-> $result)?,)*
        }

        #[cfg(bridge_linked)]
        unsafe extern "C" {
            $(fn $name($($parameter: $ty),*) $(-> $result)?;)*
        }

        /// The functions of the bridge that was linked in.
        #[cfg(bridge_linked)]
        pub static LINKED: Functions = Functions { $($name,)* };
    };
}

functions! {
    fn cmlb_bridge_version() -> u32;
    fn cmlb_handle_count(kind: i32) -> i64;
    fn cmlb_error_clear(error: *mut cmlb_error);
    fn cmlb_text_release(text: *mut c_char);
    fn cmlb_model_compile(path: *const c_char, timeout_seconds: f64, compiled: *mut *mut c_char, error: *mut cmlb_error) -> i32;
    fn cmlb_model_load(compiled: *const c_char, configuration: *const cmlb_configuration, model: *mut *mut cmlb_model, error: *mut cmlb_error) -> i32;
    fn cmlb_model_release(model: *mut cmlb_model);
    fn cmlb_model_describe(model: *mut cmlb_model, description: *mut *const cmlb_description, error: *mut cmlb_error) -> i32;
    fn cmlb_description_release(description: *const cmlb_description);
    fn cmlb_model_predict(model: *mut cmlb_model, state: *mut cmlb_state, inputs: *const cmlb_value, input_count: usize, outputs: *mut cmlb_output, output_count: usize, prediction: *mut *mut cmlb_prediction, error: *mut cmlb_error) -> i32;
    fn cmlb_model_predict_batch(model: *mut cmlb_model, items: *const cmlb_item, item_count: usize, predictions: *mut *mut cmlb_prediction, error: *mut cmlb_error) -> i32;
    fn cmlb_prediction_values(prediction: *const cmlb_prediction, count: *mut usize) -> *const cmlb_value;
    fn cmlb_prediction_release(prediction: *mut cmlb_prediction);
    fn cmlb_state_make(model: *mut cmlb_model, state: *mut *mut cmlb_state, error: *mut cmlb_error) -> i32;
    fn cmlb_state_release(state: *mut cmlb_state);
    fn cmlb_plan_load(compiled: *const c_char, configuration: *const cmlb_configuration, plan: *mut *const cmlb_plan, error: *mut cmlb_error) -> i32;
    fn cmlb_plan_release(plan: *const cmlb_plan);
    fn cmlb_device_list(devices: *mut cmlb_device, capacity: usize, count: *mut usize, error: *mut cmlb_error) -> i32;
    fn cmlb_system_measure(system: *mut cmlb_system) -> i32;
    fn cmlb_system_build(text: *mut *mut c_char) -> i32;
}

/// The layouts that `layout.c` asserts on the other side.
#[cfg(target_pointer_width = "64")]
const _: () = {
    use std::mem::{offset_of, size_of};
    assert!(size_of::<cmlb_error>() == 48 && offset_of!(cmlb_error, underlying_code) == 24);
    assert!(size_of::<cmlb_configuration>() == 48 && offset_of!(cmlb_configuration, compute_units) == 24);
    assert!(offset_of!(cmlb_configuration, concurrent) == 40);
    assert!(size_of::<cmlb_range>() == 16);
    assert!(size_of::<cmlb_feature>() == 80 && offset_of!(cmlb_feature, pixel_format) == 28);
    assert!(offset_of!(cmlb_feature, shape) == 32 && offset_of!(cmlb_feature, shapes) == 48);
    assert!(offset_of!(cmlb_feature, ranges) == 72);
    assert!(size_of::<cmlb_description>() == 64 && offset_of!(cmlb_description, label_texts) == 32);
    assert!(offset_of!(cmlb_description, owner) == 56);
    assert!(size_of::<cmlb_value>() == 112 && offset_of!(cmlb_value, data) == 16);
    assert!(offset_of!(cmlb_value, rank) == 48 && offset_of!(cmlb_value, text) == 72);
    assert!(offset_of!(cmlb_value, count) == 104);
    assert!(size_of::<cmlb_output>() == 48 && offset_of!(cmlb_output, r#type) == 40);
    assert!(offset_of!(cmlb_output, came) == 44);
    assert!(size_of::<cmlb_item>() == 16);
    assert!(size_of::<cmlb_operation>() == 32 && offset_of!(cmlb_operation, preferred) == 16);
    assert!(offset_of!(cmlb_operation, cost) == 24);
    assert!(size_of::<cmlb_plan>() == 24);
    assert!(size_of::<cmlb_device>() == 16);
    assert!(size_of::<cmlb_system>() == 40 && offset_of!(cmlb_system, thermal_state) == 32);
};
