//! tract on one ONNX model: see the library for the arguments.

use std::process::ExitCode;

use peers_rust::{Array, Failure, Job, locked_version, main_with};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::tract_linalg::multithread::{Executor, set_default_executor};

fn main() -> ExitCode {
    main_with(|| {
        let job = Job::from_arguments()?;
        if job.threads > 1 {
            set_default_executor(Executor::multithread(job.threads));
        }
        let model = tract_onnx::onnx().model_for_path(&job.model)?.into_optimized()?.into_runnable()?;
        job.measure(locked_version("tract-onnx"), |inputs| {
            let inputs = inputs.iter().map(|input| match input {
                Array::F32(array) => array.clone().into_tensor().into_tvalue(),
                Array::I32(array) => array.clone().into_tensor().into_tvalue(),
            });
            let outputs = model.run(inputs.collect())?;
            outputs
                .iter()
                .map(|output| Ok(Array::F32(output.to_plain_array_view::<f32>()?.to_owned())))
                .collect::<Result<_, Failure>>()
        })
    })
}
