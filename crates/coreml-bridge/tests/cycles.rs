//! Ten thousand models loaded, asked and dropped: nothing is left alive, and memory does not grow.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::sync::Arc;

use coreml_bridge::stand_in::{self, ffi};
use coreml_bridge::{CoreMlBackend, CoreMlOptions};
use coreml_core::{Backend, Inputs, LoadOptions, check};
use coreml_engine::CpuBackend;
use coreml_model::Package;
use coreml_tensor::Tensor;
use coreml_testing::tiny;

/// Kilobytes of memory that are resident.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// The least-squares slope of values at 0, 1, 2, … and the half-width of its interval of two standard errors.
fn slope(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let (mean_x, mean_y) = ((n - 1.0) / 2.0, values.iter().sum::<f64>() / n);
    let place = |i: usize| i as f64 - mean_x;
    let spread: f64 = (0..values.len()).map(|i| place(i).powi(2)).sum();
    let slope = values.iter().enumerate().map(|(i, y)| place(i) * (y - mean_y)).sum::<f64>() / spread;
    let residual: f64 =
        values.iter().enumerate().map(|(i, y)| (y - mean_y - slope * place(i)).powi(2)).sum::<f64>() / (n - 2.0);
    (slope, 2.0 * (residual / spread).sqrt())
}

#[test]
fn ten_thousand_cycles_leave_nothing() {
    // Fewer under an instrumented run, which is slower by an order of magnitude and keeps books of its own.
    let cycles: usize = std::env::var("COREML_CYCLES").map_or(10_000, |value| value.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.mlmodel");
    std::fs::write(&path, tiny::elementwise_model(&[4, 30], &["relu"])).unwrap();
    let package = Arc::new(Package::open(&path).unwrap());
    let interface = package.interface(None).unwrap();
    let mut engine = coreml_engine::CpuOptions::default();
    engine.threads = 1;
    stand_in::install_backend(Arc::new(CpuBackend::new(engine)));
    let mut options = CoreMlOptions::default();
    options.cache_folder = Some(folder.path().join("compiled"));
    let backend = CoreMlBackend::new(options);
    let x = Tensor::new([4, 30].into(), vec![1.5f32; 120]).unwrap();
    let inputs = Inputs::new().tensor("x", &x);
    let checked = check(interface, &inputs).unwrap();
    let cycle = |i: usize| {
        let model = backend.load(&package, &LoadOptions::default()).unwrap();
        let state = model.new_state().unwrap();
        let outputs = model.predict(&checked, None).unwrap();
        if i.is_multiple_of(100) {
            assert!(model.info().placement.is_some());
        }
        assert_eq!(outputs.tensor("y").unwrap().as_slice::<f32>().unwrap()[119], 1.5);
        drop(state);
    };
    // Memory settles first: the allocator's arenas, one for each of the threads that load, fill slowly.
    let warmup = cycles;
    (0..warmup).for_each(cycle);
    assert_eq!(backend.live_handles(), Some([0; 5]));
    let batch = (cycles / 50).max(1);
    let samples: Vec<f64> = (0..50)
        .map(|_| {
            (0..batch).for_each(cycle);
            resident()
        })
        .collect();
    assert_eq!(backend.live_handles(), Some([0; 5]));
    // The thread that loaded the last model may still be on its way out with a reference.
    let gone = (0..1000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(1));
        stand_in::observe(ffi::CMLB_STANDIN_MODELS) == 0
    });
    assert!(gone, "{} models are alive", stand_in::observe(ffi::CMLB_STANDIN_MODELS));
    let (slope, interval) = slope(&samples);
    let (first, last) = (samples[0], samples[samples.len() - 1]);
    println!(
        "{cycles} cycles after {warmup} to settle: {first} kB to {last} kB resident, slope {slope:.2} +- {interval:.2} kB \
         per {batch} cycles"
    );
    if cycles >= 10_000 {
        // Within its interval of zero; or so little that not every other cycle can have left the smallest block there is,
        // which is of 16 bytes: what still settles is no leak.
        let per_cycle = slope * 1024.0 / batch as f64;
        assert!(slope <= interval || per_cycle < 8.0, "memory grows: {slope:.2} +- {interval:.2} kB, {samples:?}");
    }
}
