//! rten on one ONNX model: see the library for the arguments.

use std::process::ExitCode;
use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};
use peers_rust::{Array, Failure, Job, locked_version, main_with};
use rten::{ModelOptions, RunOptions, ThreadPool, ValueOrView};
use rten_tensor::prelude::*;
use rten_tensor::{Tensor, TensorView};

fn main() -> ExitCode {
    main_with(|| {
        let job = Job::from_arguments()?;
        let model = ModelOptions::with_all_ops().prepack_weights(true).load_file(&job.model)?;
        let mut options = RunOptions::default();
        options.thread_pool = Some(Arc::new(ThreadPool::with_num_threads(job.threads)));
        job.measure(locked_version("rten"), |inputs| {
            let views = inputs.iter().map(view).collect::<Result<Vec<_>, _>>()?;
            let named = model.input_ids().iter().copied().zip(views).collect();
            let outputs = model.run(named, model.output_ids(), Some(options.clone()))?;
            outputs
                .into_iter()
                .map(|output| {
                    let tensor: Tensor<f32> = output.try_into()?;
                    let shape = IxDyn(tensor.shape());
                    Ok(Array::F32(ArrayD::from_shape_vec(shape, tensor.into_data())?))
                })
                .collect::<Result<_, Failure>>()
        })
    })
}

fn view(array: &Array) -> Result<ValueOrView<'_>, Failure> {
    let missing = "an input is not contiguous";
    Ok(match array {
        Array::F32(array) => TensorView::from_data(array.shape(), array.as_slice().ok_or(missing)?).into(),
        Array::I32(array) => TensorView::from_data(array.shape(), array.as_slice().ok_or(missing)?).into(),
    })
}
