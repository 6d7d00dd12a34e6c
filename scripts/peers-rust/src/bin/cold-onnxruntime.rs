//! One prediction with ONNX Runtime in a fresh native process: `LIBRARY MODEL.onnx INPUTS.npz THREADS`. For image
//! models.

use std::process::ExitCode;

use ort::session::{Session, builder::GraphOptimizationLevel};
use ort::value::TensorRef;
use peers_rust::{Array, largest, main_with, read_npz};

fn main() -> ExitCode {
    main_with(|| {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let [library, model, inputs, threads] = arguments.as_slice() else { return Err("four arguments".into()) };
        let inputs = read_npz(inputs.as_ref())?;
        let [Array::F32(input)] = inputs.as_slice() else { return Err("one f32 input is wanted".into()) };
        let environment = ort::init_from(library)?.build()?;
        let mut session = Session::builder(&environment)?
            .with_intra_threads(threads.parse()?)?
            .with_inter_threads(1)?
            .with_optimization_level(GraphOptimizationLevel::Level3)?
            .commit_from_file(model)?;
        let outputs = session.run(ort::inputs![TensorRef::from_array_view(input.view())?])?;
        let (_, logits) = outputs[0].try_extract_tensor::<f32>()?;
        println!("{}", largest(logits));
        Ok(())
    })
}
