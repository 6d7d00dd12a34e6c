//! The C interface of `swift-bridge/StandIn/CStandIn/include/coreml_standin.h`, line by line and under the same names.
#![allow(non_camel_case_types, missing_docs, reason = "the header's names, explained in the header")]

use std::ffi::{c_char, c_void};

use crate::ffi::{cmlb_description, cmlb_operation, cmlb_value};

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct cmlb_standin_engine {
    pub context: *mut c_void,
    pub open:
        unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char, *mut *mut c_void, *mut c_char, usize) -> i32,
    pub describe:
        unsafe extern "C" fn(*mut c_void, *mut c_void, unsafe extern "C" fn(*mut c_void, *const cmlb_description)),
    pub operations:
        unsafe extern "C" fn(*mut c_void, *mut c_void, unsafe extern "C" fn(*mut c_void, *const cmlb_operation)),
    pub predict: unsafe extern "C" fn(
        *mut c_void,
        *mut c_void,
        *const cmlb_value,
        usize,
        *mut c_void,
        unsafe extern "C" fn(*mut c_void, *const cmlb_value),
        *mut c_char,
        usize,
    ) -> i32,
    pub make_state: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    pub close_state: unsafe extern "C" fn(*mut c_void),
    pub close: unsafe extern "C" fn(*mut c_void),
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct cmlb_standin_faults {
    pub compile_seconds: f64,
    pub load_seconds: f64,
    pub predict_seconds: f64,
    pub plan_seconds: f64,
    pub compile_error: i32,
    pub load_error: i32,
    pub predict_error: i32,
    pub plan_error: i32,
    pub foreign_errors: i32,
    pub underlying_errors: i32,
    pub compiled_vanishes: i32,
    pub padded_rows: i32,
    pub outputs_alias_inputs: i32,
    pub half_outputs: i32,
    pub ignored_backings: i32,
    pub refused_backings: i32,
    pub missing_outputs: i32,
    pub wrong_shapes: i32,
    pub wrong_kinds: i32,
    pub unknown_types: i32,
    pub undefined_values: i32,
    pub wrong_values: i32,
    pub neural_bytes: i64,
}

pub const CMLB_STANDIN_PREDICTIONS: i32 = 0;
pub const CMLB_STANDIN_OVERLAPS: i32 = 1;
pub const CMLB_STANDIN_COMPILATIONS: i32 = 2;
pub const CMLB_STANDIN_LOADS: i32 = 3;
pub const CMLB_STANDIN_MODELS: i32 = 4;
pub const CMLB_STANDIN_BACKED: i32 = 5;
pub const CMLB_STANDIN_COUNTS: i32 = 6;

unsafe extern "C" {
    pub fn cmlb_standin_install(engine: *const cmlb_standin_engine);
    pub fn cmlb_standin_stage(faults: *const cmlb_standin_faults);
    pub fn cmlb_standin_observe(what: i32) -> i64;
}
