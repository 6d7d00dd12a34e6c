//! A misbehaving bridge, written in Rust as tables of functions that replace the linked ones. Runs without Swift.
//!
//! Each table starts as one whose functions all refuse; a test replaces the few it needs.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::ffi::{CStr, c_char};
use std::path::Path;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use coreml_bridge::ffi::*;
use coreml_bridge::{CoreMlBackend, CoreMlFailure, CoreMlModel, CoreMlOptions};
use coreml_core::{Availability, Backend, Error, ErrorKind, Inputs, LoadOptions, Model, check};
use coreml_model::Package;
use coreml_tensor::{Tensor, f16};

unsafe extern "C" fn version() -> u32 {
    CMLB_ABI_VERSION
}
unsafe extern "C" fn count(_: i32) -> i64 {
    -1
}
unsafe extern "C" fn clear(_: *mut cmlb_error) {}
unsafe extern "C" fn text_release(_: *mut c_char) {}
unsafe extern "C" fn compile(_: *const c_char, _: f64, _: *mut *mut c_char, _: *mut cmlb_error) -> i32 {
    CMLB_UNAVAILABLE
}
unsafe extern "C" fn load(
    _: *const c_char,
    _: *const cmlb_configuration,
    model: *mut *mut cmlb_model,
    _: *mut cmlb_error,
) -> i32 {
    MODELS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the caller has room for a handle, which is never looked into.
    unsafe { *model = std::ptr::without_provenance_mut(64) };
    CMLB_OK
}
unsafe extern "C" fn model_release(_: *mut cmlb_model) {
    MODELS.fetch_sub(1, Ordering::Relaxed);
}
unsafe extern "C" fn describe(
    _: *mut cmlb_model,
    description: *mut *const cmlb_description,
    _: *mut cmlb_error,
) -> i32 {
    // SAFETY: the caller has room for a pointer; what it points to is static.
    unsafe { *description = &raw const DESCRIPTION.0 };
    CMLB_OK
}
unsafe extern "C" fn description_release(_: *const cmlb_description) {}
unsafe extern "C" fn predict(
    _: *mut cmlb_model,
    _: *mut cmlb_state,
    _: *const cmlb_value,
    _: usize,
    _: *mut cmlb_output,
    _: usize,
    _: *mut *mut cmlb_prediction,
    _: *mut cmlb_error,
) -> i32 {
    CMLB_UNAVAILABLE
}
unsafe extern "C" fn batch(
    _: *mut cmlb_model,
    _: *const cmlb_item,
    _: usize,
    _: *mut *mut cmlb_prediction,
    _: *mut cmlb_error,
) -> i32 {
    CMLB_UNAVAILABLE
}
unsafe extern "C" fn values(_: *const cmlb_prediction, _: *mut usize) -> *const cmlb_value {
    std::ptr::null()
}
unsafe extern "C" fn prediction_release(_: *mut cmlb_prediction) {}
unsafe extern "C" fn state(_: *mut cmlb_model, _: *mut *mut cmlb_state, _: *mut cmlb_error) -> i32 {
    CMLB_OK
}
unsafe extern "C" fn state_release(_: *mut cmlb_state) {}
unsafe extern "C" fn plan(
    _: *const c_char,
    _: *const cmlb_configuration,
    _: *mut *const cmlb_plan,
    _: *mut cmlb_error,
) -> i32 {
    CMLB_OK
}
unsafe extern "C" fn plan_release(_: *const cmlb_plan) {}
unsafe extern "C" fn devices(_: *mut cmlb_device, _: usize, count: *mut usize, _: *mut cmlb_error) -> i32 {
    // SAFETY: the caller has room for a number.
    unsafe { *count = 3 };
    CMLB_OK
}
unsafe extern "C" fn system(_: *mut cmlb_system) -> i32 {
    CMLB_UNAVAILABLE
}
unsafe extern "C" fn build(_: *mut *mut c_char) -> i32 {
    CMLB_UNAVAILABLE
}

static MODELS: AtomicI64 = AtomicI64::new(0);

const BASE: Functions = Functions {
    cmlb_bridge_version: version,
    cmlb_handle_count: count,
    cmlb_error_clear: clear,
    cmlb_text_release: text_release,
    cmlb_model_compile: compile,
    cmlb_model_load: load,
    cmlb_model_release: model_release,
    cmlb_model_describe: describe,
    cmlb_description_release: description_release,
    cmlb_model_predict: predict,
    cmlb_model_predict_batch: batch,
    cmlb_prediction_values: values,
    cmlb_prediction_release: prediction_release,
    cmlb_state_make: state,
    cmlb_state_release: state_release,
    cmlb_plan_load: plan,
    cmlb_plan_release: plan_release,
    cmlb_device_list: devices,
    cmlb_system_measure: system,
    cmlb_system_build: build,
};

/// What the staged model says of itself: `x` and `y`, both of two half-precision numbers.
struct Described(cmlb_description);
// SAFETY: the pointers are to statics that nobody changes.
unsafe impl Sync for Described {}
struct Features([cmlb_feature; 2]);
// SAFETY: as above.
unsafe impl Sync for Features {}

static SHAPE: [i64; 1] = [2];
const fn array(name: &'static CStr, role: i32) -> cmlb_feature {
    cmlb_feature {
        name: name.as_ptr(),
        role,
        kind: CMLB_KIND_ARRAY,
        optional: 0,
        data_type: CMLB_TYPE_FLOAT16,
        key_kind: 0,
        pixel_format: 0,
        shape: SHAPE.as_ptr(),
        rank: 1,
        shapes: CMLB_SHAPES_FIXED,
        reserved: 0,
        enumerated: std::ptr::null(),
        enumerated_count: 0,
        ranges: std::ptr::null(),
    }
}
static FEATURES: Features = Features([array(c"x", CMLB_ROLE_INPUT), array(c"y", CMLB_ROLE_OUTPUT)]);
static DESCRIPTION: Described = Described(cmlb_description {
    features: FEATURES.0.as_ptr(),
    feature_count: 2,
    predicted_feature: std::ptr::null(),
    predicted_probabilities: std::ptr::null(),
    label_texts: std::ptr::null(),
    label_numbers: std::ptr::null(),
    label_count: 0,
    owner: null_mut(),
});

/// Kept for the rest of the program, where leak finders see it.
fn kept<T>(value: T) -> &'static T {
    static ADDRESSES: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    let value: &'static T = Box::leak(Box::new(value));
    ADDRESSES.lock().unwrap().push((&raw const *value).expose_provenance());
    value
}

fn backend(functions: Functions, probe: bool) -> CoreMlBackend {
    let mut options = CoreMlOptions::default();
    options.probe = probe;
    // Tables live as long as the program, as the linked one does.
    CoreMlBackend::with_functions(kept(functions), options)
}

fn loaded(functions: Functions) -> Result<CoreMlModel, Error> {
    backend(functions, false).load_compiled(Path::new("staged.mlmodelc"), &LoadOptions::default())
}

fn answer(functions: Functions) -> Result<Vec<f32>, Error> {
    let model = loaded(functions)?;
    let x = Tensor::new([2].into(), vec![1.0f32, -2.5]).unwrap();
    let inputs = Inputs::new().tensor("x", &x);
    let outputs = model.predict(&check(model.interface(), &inputs).unwrap(), None)?;
    Ok(outputs.tensor("y").unwrap().as_slice::<f32>().unwrap().to_vec())
}

#[test]
fn another_version_is_unavailable() {
    unsafe extern "C" fn newer() -> u32 {
        CMLB_ABI_VERSION + 1
    }
    let backend = backend(Functions { cmlb_bridge_version: newer, ..BASE }, false);
    let Availability::Unavailable { reason } = backend.availability() else { panic!("available") };
    assert!(reason.contains("version"), "{reason}");
    assert_eq!(backend.devices().unwrap_err().kind(), ErrorKind::Unavailable);
}

#[test]
fn half_precision_is_written_in_place() {
    unsafe extern "C" fn negate(
        _: *mut cmlb_model,
        _: *mut cmlb_state,
        inputs: *const cmlb_value,
        input_count: usize,
        outputs: *mut cmlb_output,
        output_count: usize,
        _: *mut *mut cmlb_prediction,
        _: *mut cmlb_error,
    ) -> i32 {
        assert_eq!((input_count, output_count), (1, 1));
        // SAFETY: by the header, one of each, complete, with room for what they say.
        unsafe {
            let (x, y) = (&*inputs, &mut *outputs);
            assert_eq!((x.r#type, x.byte_count, y.r#type, y.byte_count), (CMLB_TYPE_FLOAT16, 4, CMLB_TYPE_FLOAT16, 4));
            for i in 0..2 {
                *y.data.cast::<f16>().add(i) = -*x.data.cast::<f16>().add(i);
            }
            y.came = CMLB_OUTPUT_IN_PLACE;
        }
        CMLB_OK
    }
    assert_eq!(answer(Functions { cmlb_model_predict: negate, ..BASE }).unwrap(), [-1.0, 2.5]);
}

/// A prediction that fails with a status and an error.
macro_rules! failing {
    ($name:ident, $status:expr, $domain:expr, $code:expr) => {
        unsafe extern "C" fn $name(
            _: *mut cmlb_model,
            _: *mut cmlb_state,
            _: *const cmlb_value,
            _: usize,
            _: *mut cmlb_output,
            _: usize,
            _: *mut *mut cmlb_prediction,
            error: *mut cmlb_error,
        ) -> i32 {
            // SAFETY: the caller has room for an error; the texts are static, and `clear` frees nothing.
            unsafe {
                (*error).domain = $domain.as_ptr().cast_mut();
                (*error).message = c"staged".as_ptr().cast_mut();
                (*error).code = $code;
            }
            $status
        }
    };
}

#[test]
fn statuses_become_kinds() {
    failing!(invalid, CMLB_INVALID_ARGUMENT, c"coreml-anywhere", 0);
    failing!(unavailable, CMLB_UNAVAILABLE, c"coreml-anywhere", 0);
    failing!(unsupported, CMLB_UNSUPPORTED, c"coreml-anywhere", 0);
    failing!(timeout, CMLB_TIMEOUT, c"coreml-anywhere", 0);
    failing!(busy, CMLB_BUSY, c"coreml-anywhere", 0);
    failing!(generic, CMLB_ERROR, c"com.apple.CoreML", 0);
    failing!(feature_type, CMLB_ERROR, c"com.apple.CoreML", 1);
    failing!(cancelled, CMLB_ERROR, c"com.apple.CoreML", 11);
    failing!(exception, CMLB_EXCEPTION, c"NSInvalidArgumentException", 0);
    failing!(unheard_of, 77, c"?", 0);
    type Predict = unsafe extern "C" fn(
        *mut cmlb_model,
        *mut cmlb_state,
        *const cmlb_value,
        usize,
        *mut cmlb_output,
        usize,
        *mut *mut cmlb_prediction,
        *mut cmlb_error,
    ) -> i32;
    let all: [(Predict, ErrorKind); 10] = [
        (invalid, ErrorKind::Bug),
        (unavailable, ErrorKind::Unavailable),
        (unsupported, ErrorKind::Unsupported),
        (timeout, ErrorKind::Timeout),
        (busy, ErrorKind::Timeout),
        (generic, ErrorKind::Fault),
        (feature_type, ErrorKind::Unsupported),
        (cancelled, ErrorKind::Unavailable),
        (exception, ErrorKind::Fault),
        (unheard_of, ErrorKind::Bug),
    ];
    for (cmlb_model_predict, kind) in all {
        let error = answer(Functions { cmlb_model_predict, ..BASE }).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let source = std::error::Error::source(&error).unwrap().downcast_ref::<CoreMlFailure>().unwrap();
        assert_eq!(source.message, "staged");
    }
}

/// A prediction that succeeds, with one value elsewhere.
unsafe extern "C" fn elsewhere(
    _: *mut cmlb_model,
    _: *mut cmlb_state,
    _: *const cmlb_value,
    _: usize,
    _: *mut cmlb_output,
    _: usize,
    prediction: *mut *mut cmlb_prediction,
    _: *mut cmlb_error,
) -> i32 {
    // SAFETY: the caller has room for a handle, which is never looked into.
    unsafe { *prediction = std::ptr::without_provenance_mut(64) };
    CMLB_OK
}

/// Values of a prediction: one, made anew and never freed.
macro_rules! giving {
    ($name:ident, $value:expr) => {
        unsafe extern "C" fn $name(_: *const cmlb_prediction, count: *mut usize) -> *const cmlb_value {
            // SAFETY: the caller has room for a number.
            unsafe { *count = 1 };
            kept(cmlb_value { name: c"y".as_ptr(), ..$value })
        }
    };
}

#[test]
fn answers_are_not_believed_blindly() {
    static FLOATS: [f32; 2] = [0.25, 4.0];
    static NEGATIVE: [i64; 1] = [-2];
    static HUGE: [i64; 2] = [i64::MAX, 2];
    fn array(shape: &'static [i64], r#type: i32, byte_count: usize) -> cmlb_value {
        let (kind, data) = (CMLB_KIND_ARRAY, FLOATS.as_ptr().cast_mut().cast());
        let (shape, rank) = (shape.as_ptr(), shape.len());
        cmlb_value { kind, r#type, data, byte_count, shape, rank, ..cmlb_value::default() }
    }
    giving!(good, array(&SHAPE, CMLB_TYPE_FLOAT32, 8));
    giving!(too_few_bytes, array(&SHAPE, CMLB_TYPE_FLOAT32, 4));
    giving!(unknown_type, array(&SHAPE, 0x40100, 8));
    giving!(negative_size, array(&NEGATIVE, CMLB_TYPE_FLOAT32, 8));
    giving!(huge_size, array(&HUGE, CMLB_TYPE_FLOAT32, 8));
    giving!(strided, cmlb_value { strides: SHAPE.as_ptr(), ..array(&SHAPE, CMLB_TYPE_FLOAT32, 8) });
    giving!(another_kind, cmlb_value { kind: CMLB_KIND_STRING, ..cmlb_value::default() });
    let with =
        |cmlb_prediction_values| answer(Functions { cmlb_model_predict: elsewhere, cmlb_prediction_values, ..BASE });
    assert_eq!(with(good).unwrap(), FLOATS);
    for bad in [too_few_bytes, unknown_type, negative_size, huge_size, strided, another_kind, values] {
        let error = with(bad).unwrap_err();
        assert_eq!((error.kind(), error.about_feature()), (ErrorKind::Fault, Some("y")), "{error}");
    }
}

#[test]
fn success_without_a_result_is_a_bug() {
    unsafe extern "C" fn nothing(
        _: *const c_char,
        _: *const cmlb_configuration,
        _: *mut *mut cmlb_model,
        _: *mut cmlb_error,
    ) -> i32 {
        CMLB_OK
    }
    assert_eq!(loaded(Functions { cmlb_model_load: nothing, ..BASE }).unwrap_err().kind(), ErrorKind::Bug);
    let model = loaded(BASE).unwrap();
    assert_eq!(model.new_state().unwrap_err().kind(), ErrorKind::Bug);
    // What only informs is left out.
    assert_eq!(model.info().placement, None);
    assert_eq!(backend(BASE, false).devices().unwrap().len(), 3);
    assert_eq!(backend(BASE, false).system(), coreml_bridge::SystemReport::default());
}

#[test]
fn a_load_that_succeeds_proves_nothing() {
    let try_out = |probe| backend(BASE, probe).load_compiled(Path::new("staged.mlmodelc"), &LoadOptions::default());
    assert!(try_out(false).is_ok());
    assert_eq!(try_out(true).unwrap_err().kind(), ErrorKind::Unavailable);
}

/// The staged bridge refuses to compile, so whatever loads was not compiled.
#[test]
fn compiled_models_go_to_core_ml_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let program = |maker: &str| {
        format!(
            "program(1.0) [buildInfo = dict<string, string>({{{{\"{maker}\", \"1\"}}}})] {{\n\
             func main<ios16>(tensor<fp16, [2]> x) {{\n\
             tensor<fp16, [2]> y = relu(x = x)[name = string(\"y\")];\n}} -> (y);\n}}\n"
        )
    };
    let load = |maker: &str, data: bool| {
        let path = folder.path().join(format!("{maker}-{data}.mlmodelc"));
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("model.mil"), program(maker)).unwrap();
        if data {
            std::fs::write(path.join("coremldata.bin"), 502u32.to_le_bytes()).unwrap();
        }
        let backend = backend(BASE, false);
        if data {
            assert_eq!(backend.compile(&path, &LoadOptions::default()).unwrap(), path);
        }
        let package = Arc::new(Package::open(&path).unwrap());
        Backend::load(&backend, &package, &LoadOptions::default()).map(drop)
    };
    load("coremlc-version", true).unwrap();
    // Of this library, or without what Core ML reads first.
    for (maker, data) in [("coreml-anywhere", true), ("coremlc-version", false)] {
        let error = load(maker, data).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("coreml convert"), "{error}");
    }
}

#[test]
fn a_model_that_took_the_place_of_the_one_we_read_is_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.mlmodelc");
    let program = |operation: &str| {
        let text = format!(
            "program(1.0) [buildInfo = dict<string, string>({{{{\"coremlc-version\", \"1\"}}}})] {{\n\
             func main<ios16>(tensor<fp16, [2]> x) {{\n\
             tensor<fp16, [2]> y = {operation}(x = x)[name = string(\"y\")];\n}} -> (y);\n}}\n"
        );
        std::fs::write(path.join("model.mil"), text).unwrap();
    };
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("coremldata.bin"), 502u32.to_le_bytes()).unwrap();
    program("relu");
    let package = Arc::new(Package::open(&path).unwrap());
    let load = || Backend::load(&backend(BASE, false), &package, &LoadOptions::default()).map(drop);
    load().unwrap();
    program("exp");
    let error = load().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("open it anew"), "{error}");
    program("relu");
    load().unwrap();
}

#[test]
fn paths_that_c_cannot_express_are_refused() {
    let error = backend(BASE, false).load_compiled(Path::new("a\0b"), &LoadOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let error = backend(BASE, false).compile(Path::new("there is none"), &LoadOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[test]
fn models_are_released_once_each() {
    static LOADED: AtomicI64 = AtomicI64::new(0);
    unsafe extern "C" fn counted(
        path: *const c_char,
        configuration: *const cmlb_configuration,
        model: *mut *mut cmlb_model,
        error: *mut cmlb_error,
    ) -> i32 {
        LOADED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's arguments, handed on.
        unsafe { load(path, configuration, model, error) }
    }
    unsafe extern "C" fn uncounted(model: *mut cmlb_model) {
        LOADED.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { model_release(model) }
    }
    let functions = Functions { cmlb_model_load: counted, cmlb_model_release: uncounted, ..BASE };
    for _ in 0..1000 {
        let model = loaded(functions).unwrap();
        assert_eq!(LOADED.load(Ordering::Relaxed), 1);
        drop(model);
    }
    // A description that cannot be read lets go of the model, too.
    unsafe extern "C" fn undescribed(_: *mut cmlb_model, _: *mut *const cmlb_description, _: *mut cmlb_error) -> i32 {
        CMLB_ERROR
    }
    assert!(loaded(Functions { cmlb_model_describe: undescribed, ..functions }).is_err());
    assert_eq!(LOADED.load(Ordering::Relaxed), 0);
}
