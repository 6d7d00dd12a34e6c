//! Many threads on one model.

use std::thread;

use coreml_bridge::CoreMlBackend;
use coreml_bridge::stand_in::{self, ffi};
use coreml_core::Inputs;
use coreml_tensor::Tensor;

use super::support::{StandIn, load, predict};

#[test]
fn sixteen_threads_predict_two_hundred_times_each() {
    let stand_in = StandIn::new();
    let package = stand_in.tiny();
    for concurrent in [false, true] {
        let mut options = stand_in.options();
        options.concurrent = concurrent;
        let model = load(&CoreMlBackend::new(options), &package);
        let (predictions, overlaps) =
            (stand_in::observe(ffi::CMLB_STANDIN_PREDICTIONS), stand_in::observe(ffi::CMLB_STANDIN_OVERLAPS));
        thread::scope(|scope| {
            for thread in 0..16 {
                let (model, package) = (&*model, &package);
                scope.spawn(move || {
                    for i in 0..200 {
                        let value = (thread * 1000 + i) as f32;
                        let x = Tensor::new([4, 30].into(), vec![value; 120]).unwrap();
                        let outputs = predict(model, package, &Inputs::new().tensor("x", &x)).unwrap();
                        assert_eq!(outputs.tensor("y").unwrap().as_slice::<f32>(), Some(&[value; 120][..]));
                    }
                });
            }
        });
        assert_eq!(stand_in::observe(ffi::CMLB_STANDIN_PREDICTIONS), predictions + 16 * 200);
        assert_eq!(stand_in::observe(ffi::CMLB_STANDIN_OVERLAPS), overlaps, "synchronous predictions overlapped");
    }
}
