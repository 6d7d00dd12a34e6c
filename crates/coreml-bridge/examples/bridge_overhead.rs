//! What the bridge costs: a small model called directly, and through Rust, C, Swift and the stand-in for Core ML. The
//! difference includes the stand-in's own work, which Core ML does on a Mac.
#![expect(clippy::print_stdout, reason = "this is a command")]

use std::sync::Arc;
use std::time::Instant;

use coreml_bridge::stand_in::{self, Engine, EngineModel, PlannedOperation};
use coreml_bridge::{CoreMlBackend, CoreMlOptions};
use coreml_core::{Backend, CheckedInputs, Inputs, Label, LoadOptions, Model, ModelState, Outputs, check};
use coreml_engine::{CpuBackend, CpuOptions};
use coreml_model::{Interface, Package};
use coreml_tensor::Tensor;
use coreml_testing::tiny;

/// Answers at once with an answer given beforehand: what is left is the way there and back.
struct Instantly(Interface, Outputs);

impl Engine for Instantly {
    fn open(&self, _path: &std::path::Path, _function: Option<&str>) -> Result<Box<dyn EngineModel>, String> {
        Ok(Box::new(Self(self.0.clone(), self.1.clone())))
    }
}

impl EngineModel for Instantly {
    fn interface(&self) -> &Interface {
        &self.0
    }

    fn labels(&self) -> Vec<Label> {
        Vec::new()
    }

    fn operations(&self) -> Vec<PlannedOperation> {
        Vec::new()
    }

    fn predict(&self, _inputs: &CheckedInputs<'_>, _state: Option<&mut ModelState>) -> Result<Outputs, String> {
        Ok(self.1.clone())
    }

    fn new_state(&self) -> Result<ModelState, String> {
        Err("has none".into())
    }
}

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("tiny.mlmodel");
    std::fs::write(&path, tiny::elementwise_model(&[4, 30], &["relu"]))?;
    let package = Arc::new(Package::open(&path)?);
    let interface = package.interface(None)?;
    let x = Tensor::new([4, 30].into(), vec![1.5f32; 120])?;
    let inputs = Inputs::new().tensor("x", &x);
    let checked = check(interface, &inputs)?;
    let mut one = CpuOptions::default();
    one.threads = 1;
    let cpu = CpuBackend::new(one);
    let direct = cpu.load(&package, &LoadOptions::default())?;
    let answer = direct.predict(&checked, None)?;
    let bridged = |engine: bool, concurrent: bool, kept: &str| -> Result<Box<dyn Model>, Failure> {
        if engine {
            stand_in::install_backend(Arc::new(cpu.clone()));
        } else {
            stand_in::install(Instantly(interface.clone(), answer.clone()));
        }
        let mut options = CoreMlOptions::default();
        options.cache_folder = Some(folder.path().join(kept));
        options.concurrent = concurrent;
        Ok(CoreMlBackend::new(options).load(&package, &LoadOptions::default())?)
    };
    let models = [
        ("the engine, asked directly", direct),
        ("through the bridge, synchronous", bridged(true, false, "a")?),
        ("through the bridge, asynchronous", bridged(true, true, "b")?),
        ("the way alone: an engine that answers at once", bridged(false, false, "c")?),
    ];
    // Interleaved, so that whatever disturbs the machine disturbs all alike.
    let mut samples: Vec<Vec<f64>> = vec![Vec::new(); models.len()];
    for round in 0..20_200 {
        for ((_, model), samples) in models.iter().zip(&mut samples) {
            let start = Instant::now();
            std::hint::black_box(model.predict(&checked, None)?);
            if round >= 200 {
                samples.push(start.elapsed().as_secs_f64() * 1e6);
            }
        }
    }
    let mut medians = Vec::new();
    println!("microseconds per prediction, 20000 each, interleaved: p50, p90, p99");
    for ((name, _), samples) in models.iter().zip(&mut samples) {
        samples.sort_by(f64::total_cmp);
        let at = |part: f64| samples[(samples.len() as f64 * part) as usize];
        println!("{:7.2} {:7.2} {:7.2}  {name}", at(0.5), at(0.9), at(0.99));
        medians.push(at(0.5));
    }
    println!("the bridge adds {:.2} us (p50), {:.2} us of it the way alone", medians[1] - medians[0], medians[3]);
    // Rust's side is several times slower in builds without optimisation, which say nothing about the limit.
    if cfg!(debug_assertions) {
        println!("not judged: this build is not optimised");
    } else if medians[1] - medians[0] > 20.0 {
        return Err("more than 20 us".into());
    }
    Ok(())
}
