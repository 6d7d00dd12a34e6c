//! The bridge's functions as safe calls, and its handles as values that release themselves.
//!
//! A handle's `Drop` only gives back one reference. It does not wait for a call in progress, which holds its own
//! reference on the Swift side. So a model may be dropped, or leaked with the thread that called it, even if a
//! prediction never returns.

use std::ffi::{CStr, CString, c_char};
use std::fmt;
use std::path::{Path, PathBuf};
use std::ptr::{NonNull, null, null_mut};

use coreml_core::{Error, ErrorKind};

use crate::failure::{self, CoreMlFailure, Phase, text};
use crate::ffi::{
    self, CMLB_ABI_VERSION, CMLB_OK, Functions, cmlb_configuration, cmlb_description, cmlb_device, cmlb_error,
    cmlb_item, cmlb_model, cmlb_operation, cmlb_output, cmlb_plan, cmlb_prediction, cmlb_state, cmlb_system,
    cmlb_value,
};

/// A bridge to call.
#[derive(Clone, Copy)]
pub(crate) struct Bridge(&'static Functions);

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bridge")
    }
}

impl Bridge {
    /// The bridge behind a table of functions, if it speaks this version of the ABI.
    pub(crate) fn new(functions: &'static Functions) -> Result<Self, String> {
        // SAFETY: the function takes nothing.
        let version = unsafe { (functions.cmlb_bridge_version)() };
        if version == CMLB_ABI_VERSION {
            Ok(Self(functions))
        } else {
            Err(format!("the Swift bridge speaks version {version} of its interface, this program {CMLB_ABI_VERSION}"))
        }
    }

    /// Makes one call and turns its status into a result.
    fn call(self, phase: Phase, call: impl FnOnce(&Functions, *mut cmlb_error) -> i32) -> Result<(), Error> {
        let mut error = cmlb_error::default();
        let status = call(self.0, &mut error);
        if status == CMLB_OK {
            return Ok(());
        }
        // SAFETY: the bridge filled the error with texts that end in NUL, or left it zero.
        let failure = unsafe { CoreMlFailure::read(&error) };
        // SAFETY: the error is the bridge's own, and not used afterwards.
        unsafe { (self.0.cmlb_error_clear)(&mut error) };
        Err(failure::error(phase, status, failure))
    }

    /// Takes over a text of the bridge's.
    fn take_text(self, pointer: *mut c_char) -> String {
        // SAFETY: the bridge gave the text, which ends in NUL.
        let copied = unsafe { text(pointer) };
        // SAFETY: it was given away, and is not used afterwards. NULL is allowed.
        unsafe { (self.0.cmlb_text_release)(pointer) };
        copied
    }

    /// Compiles a model file or package; the folder is Core ML's to delete, so it is to be moved.
    pub(crate) fn compile(self, path: &Path, timeout_seconds: f64) -> Result<PathBuf, Error> {
        let path = c_path(path)?;
        let mut compiled = null_mut();
        self.call(Phase::Compile, |functions, error| {
            // SAFETY: the path ends in NUL; the places outlive the call.
            unsafe { (functions.cmlb_model_compile)(path.as_ptr(), timeout_seconds, &mut compiled, error) }
        })?;
        Ok(PathBuf::from(self.take_text(compiled)))
    }

    /// Loads a compiled model.
    pub(crate) fn load(self, compiled: &Path, configuration: &Configuration) -> Result<ModelHandle, Error> {
        let path = c_path(compiled)?;
        let configuration = configuration.raw();
        let mut model = null_mut();
        self.call(Phase::Load, |functions, error| {
            // SAFETY: the path ends in NUL; configuration and places outlive the call.
            unsafe { (functions.cmlb_model_load)(path.as_ptr(), &configuration, &mut model, error) }
        })?;
        let model = NonNull::new(model).ok_or_else(|| nothing(Phase::Load))?;
        Ok(ModelHandle { bridge: self, model })
    }

    /// Where Core ML plans to run a compiled model: `each` is called for every operation.
    pub(crate) fn plan(
        self,
        compiled: &Path,
        configuration: &Configuration,
        mut each: impl FnMut(&cmlb_operation),
    ) -> Result<(), Error> {
        let path = c_path(compiled)?;
        let configuration = configuration.raw();
        let mut plan: *const cmlb_plan = null();
        self.call(Phase::Plan, |functions, error| {
            // SAFETY: the path ends in NUL; configuration and places outlive the call.
            unsafe { (functions.cmlb_plan_load)(path.as_ptr(), &configuration, &mut plan, error) }
        })?;
        let plan = NonNull::new(plan.cast_mut()).ok_or_else(|| nothing(Phase::Plan))?;
        let release = OnDrop(|| {
            // SAFETY: the plan was given away with the call, and is not used afterwards.
            unsafe { (self.0.cmlb_plan_release)(plan.as_ptr()) }
        });
        // SAFETY: the plan lives until it is released.
        let given = unsafe { plan.as_ref() };
        // SAFETY: by the header, an array of that count.
        unsafe { slice(given.operations, given.operation_count) }.iter().for_each(&mut each);
        drop(release);
        Ok(())
    }

    /// The compute devices of this machine.
    pub(crate) fn devices(self) -> Result<Vec<cmlb_device>, Error> {
        let mut devices = vec![cmlb_device::default(); 16];
        let mut count = 0;
        self.call(Phase::Devices, |functions, error| {
            // SAFETY: there is room for the capacity told; the places outlive the call.
            unsafe { (functions.cmlb_device_list)(devices.as_mut_ptr(), devices.len(), &mut count, error) }
        })?;
        devices.truncate(count);
        Ok(devices)
    }

    /// Memory, heat and power; `None` if the bridge cannot tell.
    pub(crate) fn system(self) -> Option<cmlb_system> {
        let mut system = cmlb_system::default();
        // SAFETY: the place outlives the call.
        let status = unsafe { (self.0.cmlb_system_measure)(&mut system) };
        (status == CMLB_OK).then_some(system)
    }

    /// The operating system's version and build in words; empty if the bridge cannot tell.
    pub(crate) fn system_build(self) -> String {
        let mut build = null_mut();
        // SAFETY: the place outlives the call.
        unsafe { (self.0.cmlb_system_build)(&mut build) };
        self.take_text(build)
    }

    /// How many of the bridge's handles are alive, of each kind.
    pub(crate) fn handle_counts(self) -> [i64; ffi::CMLB_HANDLE_KINDS as usize] {
        // SAFETY: the function takes a number.
        std::array::from_fn(|kind| unsafe { (self.0.cmlb_handle_count)(kind as i32) })
    }
}

fn nothing(phase: Phase) -> Error {
    let failure = CoreMlFailure {
        domain: "coreml-anywhere".into(),
        code: 0,
        message: "the bridge reports success and gives nothing".into(),
        underlying: None,
    };
    failure::error(phase, -1, failure)
}

fn c_path(path: &Path) -> Result<CString, Error> {
    let unusable = || Error::new(ErrorKind::Unsupported, format!("Core ML cannot open the path {}", path.display()));
    CString::new(path.to_str().ok_or_else(unusable)?).map_err(|_| unusable())
}

/// The elements at a pointer of the bridge's; none for NULL.
///
/// # Safety
/// The pointer is NULL, or to `count` values that live and do not change as long as the slice.
pub(crate) unsafe fn slice<'a, T>(pointer: *const T, count: usize) -> &'a [T] {
    if pointer.is_null() {
        return &[];
    }
    // SAFETY: by this function's own contract.
    unsafe { std::slice::from_raw_parts(pointer, count) }
}

/// Runs something when it goes out of scope, a panic included.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// How a model is loaded, owning its texts.
#[derive(Debug, Clone)]
pub(crate) struct Configuration {
    pub(crate) function: Option<CString>,
    /// Numbers; the texts' pointers are set in [`Configuration::raw`].
    pub(crate) numbers: cmlb_configuration,
}

// SAFETY: the raw pointers in `numbers` are always NULL; `raw` makes copies with pointers.
unsafe impl Send for Configuration {}
// SAFETY: as for `Send`.
unsafe impl Sync for Configuration {}

impl Configuration {
    fn raw(&self) -> cmlb_configuration {
        let function_name = self.function.as_deref().map_or(null(), CStr::as_ptr);
        cmlb_configuration { function_name, ..self.numbers }
    }
}

/// A loaded model.
#[derive(Debug)]
pub(crate) struct ModelHandle {
    bridge: Bridge,
    model: NonNull<cmlb_model>,
}

// SAFETY: the header allows every call from any thread.
unsafe impl Send for ModelHandle {}
// SAFETY: as for `Send`; calls on one model may overlap, the bridge orders them.
unsafe impl Sync for ModelHandle {}

impl Drop for ModelHandle {
    fn drop(&mut self) {
        // SAFETY: the handle is this value's own, and not used afterwards. Calls in progress hold the model by themselves.
        unsafe { (self.bridge.0.cmlb_model_release)(self.model.as_ptr()) }
    }
}

impl ModelHandle {
    /// What the model takes and gives: `read` is shown Core ML's own description.
    pub(crate) fn describe<T>(&self, read: impl FnOnce(&cmlb_description) -> T) -> Result<T, Error> {
        let mut description: *const cmlb_description = null();
        self.bridge.call(Phase::Describe, |functions, error| {
            // SAFETY: the model is alive; the places outlive the call.
            unsafe { (functions.cmlb_model_describe)(self.model.as_ptr(), &mut description, error) }
        })?;
        let description = NonNull::new(description.cast_mut()).ok_or_else(|| nothing(Phase::Describe))?;
        let release = OnDrop(|| {
            // SAFETY: the description was given away with the call, and is not used afterwards.
            unsafe { (self.bridge.0.cmlb_description_release)(description.as_ptr()) }
        });
        // SAFETY: the description lives until it is released.
        let result = read(unsafe { description.as_ref() });
        drop(release);
        Ok(result)
    }

    /// Predicts. What is not written to `outputs` is in the handle given back.
    ///
    /// # Safety
    /// The pointers of inputs and outputs are as the header asks, and live for the call. The memory of each output is
    /// nobody else's meanwhile.
    pub(crate) unsafe fn predict(
        &self,
        state: Option<&mut StateHandle>,
        inputs: &[cmlb_value],
        outputs: &mut [cmlb_output],
    ) -> Result<Option<PredictionHandle>, Error> {
        let state = state.map_or(null_mut(), |state| state.state.as_ptr());
        let mut prediction = null_mut();
        self.bridge.call(Phase::Predict, |functions, error| {
            let (given, wanted) = ((inputs.as_ptr(), inputs.len()), (outputs.as_mut_ptr(), outputs.len()));
            let model = self.model.as_ptr();
            // SAFETY: handles are alive; the rest is this function's own contract.
            unsafe {
                (functions.cmlb_model_predict)(
                    model,
                    state,
                    given.0,
                    given.1,
                    wanted.0,
                    wanted.1,
                    &mut prediction,
                    error,
                )
            }
        })?;
        Ok(PredictionHandle::new(self.bridge, prediction))
    }

    /// Predicts for many inputs at once.
    ///
    /// # Safety
    /// The pointers of the inputs are as the header asks, and live for the call.
    pub(crate) unsafe fn predict_batch(&self, items: &[cmlb_item]) -> Result<Vec<Option<PredictionHandle>>, Error> {
        let mut predictions = vec![null_mut(); items.len()];
        self.bridge.call(Phase::Predict, |functions, error| {
            let places = predictions.as_mut_ptr();
            // SAFETY: the handle is alive; there is a place for each item; the rest is this function's own contract.
            unsafe {
                (functions.cmlb_model_predict_batch)(self.model.as_ptr(), items.as_ptr(), items.len(), places, error)
            }
        })?;
        Ok(predictions.into_iter().map(|prediction| PredictionHandle::new(self.bridge, prediction)).collect())
    }

    /// A fresh state.
    pub(crate) fn state(&self) -> Result<StateHandle, Error> {
        let mut state = null_mut();
        self.bridge.call(Phase::State, |functions, error| {
            // SAFETY: the model is alive; the places outlive the call.
            unsafe { (functions.cmlb_state_make)(self.model.as_ptr(), &mut state, error) }
        })?;
        let state = NonNull::new(state).ok_or_else(|| nothing(Phase::State))?;
        Ok(StateHandle { bridge: self.bridge, state })
    }
}

/// A model's state.
#[derive(Debug)]
pub(crate) struct StateHandle {
    bridge: Bridge,
    state: NonNull<cmlb_state>,
}

// SAFETY: the header allows every call from any thread; predictions take the state exclusively.
unsafe impl Send for StateHandle {}

impl Drop for StateHandle {
    fn drop(&mut self) {
        // SAFETY: the handle is this value's own, and not used afterwards.
        unsafe { (self.bridge.0.cmlb_state_release)(self.state.as_ptr()) }
    }
}

/// The values of one prediction.
#[derive(Debug)]
pub(crate) struct PredictionHandle {
    bridge: Bridge,
    prediction: NonNull<cmlb_prediction>,
}

impl PredictionHandle {
    fn new(bridge: Bridge, prediction: *mut cmlb_prediction) -> Option<Self> {
        NonNull::new(prediction).map(|prediction| Self { bridge, prediction })
    }

    /// The values, which live as long as the handle.
    pub(crate) fn values(&self) -> &[cmlb_value] {
        let mut count = 0;
        // SAFETY: the handle is alive; the place outlives the call.
        let values = unsafe { (self.bridge.0.cmlb_prediction_values)(self.prediction.as_ptr(), &mut count) };
        // SAFETY: by the header, `count` values that the prediction owns and does not change.
        unsafe { slice(values, count) }
    }
}

impl Drop for PredictionHandle {
    fn drop(&mut self) {
        // SAFETY: the handle is this value's own, and not used afterwards.
        unsafe { (self.bridge.0.cmlb_prediction_release)(self.prediction.as_ptr()) }
    }
}
