//! One f32 prediction with OpenVINO in a fresh native process: `LIBRARY MODEL.onnx INPUTS.npz THREADS`. For image
//! models.

use std::process::ExitCode;

use openvino::{Core, DeviceType, ElementType, RwPropertyKey, Shape, Tensor};
use peers_rust::{Array, largest, main_with, read_npz};

fn main() -> ExitCode {
    main_with(|| {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let [library, model, inputs, threads] = arguments.as_slice() else { return Err("four arguments".into()) };
        let inputs = read_npz(inputs.as_ref())?;
        let [Array::F32(input)] = inputs.as_slice() else { return Err("one f32 input is wanted".into()) };
        openvino_sys::library::load_from(library.as_str())?;
        let mut core = Core::new()?;
        core.set_properties(
            &DeviceType::CPU,
            [
                (RwPropertyKey::InferenceNumThreads, threads.as_str()),
                (RwPropertyKey::NumStreams, "1"),
                (RwPropertyKey::HintInferencePrecision, "f32"),
                (RwPropertyKey::HintPerformanceMode, "LATENCY"),
            ],
        )?;
        let model = core.read_model_from_file(model, "")?;
        let mut request = core.compile_model(&model, DeviceType::CPU)?.create_infer_request()?;
        let shape: Vec<i64> = input.shape().iter().map(|&size| size as i64).collect();
        let mut tensor = Tensor::new(ElementType::F32, &Shape::new(&shape)?)?;
        tensor.get_data_mut::<f32>()?.copy_from_slice(input.as_slice().ok_or("the input is not contiguous")?);
        request.set_input_tensor(&tensor)?;
        request.infer()?;
        let output = request.get_output_tensor()?;
        println!("{}", largest(output.get_data::<f32>()?));
        Ok(())
    })
}
