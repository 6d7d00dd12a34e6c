//! A backend that misbehaves on schedule, around one that works.
//!
//! Every right answer it gives is the inner backend's, so that tests can tell right from wrong. Its behaviour at a load
//! or a prediction is an [`Act`], chosen by the number of the call.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coreml_core::{
    Availability, Backend, CheckedInputs, Error, ErrorKind, LoadOptions, Model, ModelInfo, ModelState, Outputs, Value,
};
use coreml_model::Package;
use coreml_tensor::{DType, Shape, Tensor, TensorView};
use parking_lot::{Condvar, Mutex};

/// What a scripted backend does when it is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Act {
    /// Answers as the inner backend does.
    Answer,
    /// Fails with an error of this kind.
    Fail(ErrorKind),
    /// Panics.
    Panic,
    /// Ends the process.
    Abort,
    /// Does not return before [`Scripted::release`] is called, then answers.
    Hang,
    /// Answers after this long.
    Slow(Duration),
    /// The first number of every multi-array is NaN.
    NaN,
    /// The last number of every multi-array is infinite.
    Infinite,
    /// Every multi-array has one dimension of 1 more in front.
    WrongShape,
    /// Every multi-array has elements of another type.
    WrongType,
    /// The numbers are off by one.
    WrongValues,
    /// The last output is missing.
    Missing,
    /// Answers, and leaks this many bytes.
    Leak(usize),
}

/// Acts by the number of the call, counted from 0.
pub type Script = Arc<dyn Fn(u64) -> Act + Send + Sync>;

/// The same act every time.
pub fn always(act: Act) -> Script {
    Arc::new(move |_| act)
}

/// These acts one after another, then answers.
pub fn sequence(acts: impl Into<Vec<Act>>) -> Script {
    let acts = acts.into();
    Arc::new(move |call| usize::try_from(call).ok().and_then(|call| acts.get(call).copied()).unwrap_or(Act::Answer))
}

/// `act` for a share of all calls, spread by a hash of the call's number and `seed`; answers otherwise.
pub fn sometimes(share: f64, seed: u64, act: Act) -> Script {
    Arc::new(move |call| {
        // SplitMix64's finisher: every bit of the number reaches every bit of the result.
        let mut x = call.wrapping_add(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let uniform = ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64;
        if uniform < share { act } else { Act::Answer }
    })
}

/// The backend. Clones share their counts, and what hangs.
#[derive(Clone)]
pub struct Scripted {
    name: &'static str,
    inner: Arc<dyn Backend>,
    present: bool,
    loads: Script,
    predictions: Script,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    loads: AtomicU64,
    predictions: AtomicU64,
    hung: AtomicU64,
    released: Mutex<bool>,
    changed: Condvar,
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scripted({})", self.name)
    }
}

impl Scripted {
    /// A backend called `name` that answers as `inner` does, all the time.
    pub fn new(name: &'static str, inner: Arc<dyn Backend>) -> Self {
        Self {
            name,
            inner,
            present: true,
            loads: always(Act::Answer),
            predictions: always(Act::Answer),
            shared: Arc::default(),
        }
    }

    /// What it does when it is asked to load a model. Acts that are about answers load as usual.
    pub fn on_load(self, script: Script) -> Self {
        Self { loads: script, ..self }
    }

    /// What it does when it is asked for a prediction.
    pub fn on_predict(self, script: Script) -> Self {
        Self { predictions: script, ..self }
    }

    /// Not on this host.
    pub fn absent(self) -> Self {
        Self { present: false, ..self }
    }

    /// How many predictions it was asked for.
    pub fn predictions(&self) -> u64 {
        self.shared.predictions.load(Ordering::Relaxed)
    }

    /// How many times it was asked to load a model.
    pub fn loads(&self) -> u64 {
        self.shared.loads.load(Ordering::Relaxed)
    }

    /// Calls that hang now.
    pub fn hung(&self) -> u64 {
        self.shared.hung.load(Ordering::Relaxed)
    }

    /// Lets everything that hangs, or would from now on, go on.
    pub fn release(&self) {
        *self.shared.released.lock() = true;
        self.shared.changed.notify_all();
    }

    /// As a session takes it.
    pub fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(self.clone())
    }

    /// Acts before the work: what fails here never begins it.
    fn begin(&self, act: Act) -> Result<(), Error> {
        match act {
            Act::Fail(kind) => Err(Error::new(kind, "scripted")),
            Act::Panic => panic!("scripted"),
            Act::Abort => std::process::abort(),
            Act::Hang => {
                self.shared.hung.fetch_add(1, Ordering::Relaxed);
                let mut released = self.shared.released.lock();
                self.shared.changed.wait_while(&mut released, |released| !*released);
                self.shared.hung.fetch_sub(1, Ordering::Relaxed);
                Ok(())
            }
            Act::Slow(duration) => {
                std::thread::sleep(duration);
                Ok(())
            }
            Act::Leak(bytes) => {
                // Written to, so that it is memory and not only an address.
                std::mem::forget(vec![1u8; bytes]);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Backend for Scripted {
    fn name(&self) -> &'static str {
        self.name
    }

    fn availability(&self) -> Availability {
        if self.present {
            Availability::Available
        } else {
            Availability::Unavailable { reason: "the script says so".into() }
        }
    }

    fn load(&self, package: &Arc<Package>, options: &LoadOptions) -> Result<Box<dyn Model>, Error> {
        self.begin((self.loads)(self.shared.loads.fetch_add(1, Ordering::Relaxed)))?;
        Ok(Box::new(ScriptedModel { script: self.clone(), inner: self.inner.load(package, options)? }))
    }
}

#[derive(Debug)]
struct ScriptedModel {
    script: Scripted,
    inner: Box<dyn Model>,
}

impl Model for ScriptedModel {
    fn predict(&self, inputs: &CheckedInputs<'_>, state: Option<&mut ModelState>) -> Result<Outputs, Error> {
        let call = self.script.shared.predictions.fetch_add(1, Ordering::Relaxed);
        let act = (self.script.predictions)(call);
        self.script.begin(act)?;
        Ok(spoil(self.inner.predict(inputs, state)?, act))
    }

    fn new_state(&self) -> Result<ModelState, Error> {
        self.inner.new_state()
    }

    fn read_state(&self, state: &mut ModelState, name: &str) -> Result<Tensor, Error> {
        self.inner.read_state(state, name)
    }

    fn write_state(&self, state: &mut ModelState, name: &str, contents: TensorView<'_>) -> Result<(), Error> {
        self.inner.write_state(state, name, contents)
    }

    fn info(&self) -> ModelInfo {
        self.inner.info()
    }
}

/// The answer as `act` has it.
fn spoil(outputs: Outputs, act: Act) -> Outputs {
    let mut entries: Vec<(String, Value)> =
        outputs.iter().map(|(name, value)| (name.to_owned(), value.clone())).collect();
    if act == Act::Missing {
        entries.pop();
    }
    for (_, value) in &mut entries {
        match value {
            Value::Tensor(tensor) => {
                if let Some(spoiled) = spoil_tensor(tensor.view(), act) {
                    *tensor = spoiled;
                }
            }
            Value::Dictionary(numbers) => {
                for (i, (_, number)) in numbers.iter_mut().enumerate() {
                    *number = spoil_number(*number, i == 0, act);
                }
            }
            Value::Double(number) => *number = spoil_number(*number, true, act),
            _ => {}
        }
    }
    Outputs::new(entries)
}

fn spoil_number(number: f64, first: bool, act: Act) -> f64 {
    match act {
        Act::NaN if first => f64::NAN,
        Act::Infinite if first => f64::INFINITY,
        Act::WrongValues => number + 1.0,
        _ => number,
    }
}

fn spoil_tensor(tensor: TensorView<'_>, act: Act) -> Option<Tensor> {
    match act {
        Act::WrongShape => {
            let dims: Vec<usize> = std::iter::once(1).chain(tensor.shape().iter().copied()).collect();
            tensor.to_tensor().reshape(Shape::new(&dims)).ok()
        }
        Act::WrongType => {
            let other = if tensor.dtype() == DType::Float64 { DType::Float32 } else { DType::Float64 };
            coreml_core::cast(tensor, other)
        }
        Act::NaN | Act::Infinite | Act::WrongValues => {
            let mut values: Vec<f32> = tensor.to_f64_vec().into_iter().map(|x| x as f32).collect();
            match act {
                Act::NaN => *values.first_mut()? = f32::NAN,
                Act::Infinite => *values.last_mut()? = f32::INFINITY,
                _ => values.iter_mut().for_each(|x| *x += 1.0),
            }
            coreml_core::cast(Tensor::new(tensor.shape(), values).ok()?.view(), tensor.dtype())
        }
        _ => None,
    }
}
