//! What Core ML and the system report about this machine and process.

use crate::ffi::{CMLB_DEVICE_CPU, CMLB_DEVICE_GPU, CMLB_DEVICE_NEURAL_ENGINE, cmlb_device, cmlb_system};

/// A compute device of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// What it is.
    pub kind: DeviceKind,
    /// Cores, of a Neural Engine.
    pub core_count: Option<u32>,
    /// Whether Core ML may use it.
    pub usable: bool,
}

/// Kinds of compute devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceKind {
    /// The processor.
    Cpu,
    /// A graphics processor.
    Gpu,
    /// A Neural Engine.
    NeuralEngine,
    /// One that this version does not know.
    Unknown,
}

impl DeviceKind {
    pub(crate) fn from_raw(raw: i32) -> Self {
        match raw {
            CMLB_DEVICE_CPU => Self::Cpu,
            CMLB_DEVICE_GPU => Self::Gpu,
            CMLB_DEVICE_NEURAL_ENGINE => Self::NeuralEngine,
            _ => Self::Unknown,
        }
    }
}

impl From<cmlb_device> for Device {
    fn from(raw: cmlb_device) -> Self {
        let core_count = u32::try_from(raw.core_count).ok().filter(|&count| count > 0);
        Self { kind: DeviceKind::from_raw(raw.kind), core_count, usable: raw.usable == 1 }
    }
}

/// This process and machine at one moment. `None` means unknown here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SystemReport {
    /// Bytes of memory that count against the process, compressed ones included.
    pub physical_bytes: Option<u64>,
    /// The most there ever were.
    pub physical_peak_bytes: Option<u64>,
    /// Bytes that the Neural Engine holds for the process. More than none is evidence that the process used it.
    pub neural_bytes: Option<u64>,
    /// The most there ever were.
    pub neural_peak_bytes: Option<u64>,
    /// How hot the machine is: 0 nominal, 1 fair, 2 serious, 3 critical.
    pub thermal_state: Option<u8>,
    /// Whether the machine saves power.
    pub low_power_mode: Option<bool>,
}

impl From<cmlb_system> for SystemReport {
    fn from(raw: cmlb_system) -> Self {
        let bytes = |bytes: i64| u64::try_from(bytes).ok();
        Self {
            physical_bytes: bytes(raw.physical_bytes),
            physical_peak_bytes: bytes(raw.physical_peak_bytes),
            neural_bytes: bytes(raw.neural_bytes),
            neural_peak_bytes: bytes(raw.neural_peak_bytes),
            thermal_state: u8::try_from(raw.thermal_state).ok(),
            low_power_mode: (raw.low_power_mode >= 0).then_some(raw.low_power_mode == 1),
        }
    }
}
