//! When a circuit opens, for how long, and how it is probed. Settings that make no sense are refused, never adjusted.

use std::fmt;
use std::time::Duration;

/// The longest window of calls: each takes three bytes.
const MAX_WINDOW: usize = 1 << 20;
/// The most probes at once: each takes a place allocated in advance.
const MAX_PROBES: usize = 1 << 10;

/// The rules of one circuit. Start from the default and change what differs.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerConfig {
    /// The calls that the rates are taken over. Default: the last 100.
    pub window: Window,
    /// No rate trips before the window holds this many calls. Default: 10.
    pub min_calls: u32,
    /// Trips when the share of successes in the window is below this, 0 to 1. Default: 0.95.
    pub success_rate: f64,
    /// The success rate trips only with at least this many failures in the window. Default: 1, which means that a single
    /// failure among the first 19 calls trips; 2 makes that rare (one healthy run of 1,000 calls in 60 at 99.5 %
    /// success, instead of one in 10).
    pub min_failures: u32,
    /// Trips at this many failures in a row, however few calls there were. Default: never.
    pub consecutive_failures: Option<u32>,
    /// Trips on slow calls. Default: never.
    pub slow_calls: Option<SlowCalls>,
    /// Trips at this many deadline misses in the window, however few calls there were. Default: never.
    pub deadline_misses: Option<u32>,
    /// Opens under memory pressure. Default: above 2 GiB, until below 1.5 GiB for 10 s.
    pub memory: Option<MemoryLimit>,
    /// Held open while this many calls have been given up but still run. Default: 2.
    pub abandoned_calls: u32,
    /// How long the circuit stays open before it is probed.
    pub open_wait: OpenWait,
    /// The most calls in flight while half-open. Default: 1.
    pub probes: u32,
    /// The number of probes that must succeed for the circuit to close; one that fails opens it. Default: 1.
    pub probe_successes: u32,
    /// A probe without a result for this long has failed, and its place is free again. Default: 5 s.
    pub probe_deadline: Duration,
    /// For each time span of this length that the circuit was closed, the next wait is one step shorter. Default: 60 s.
    pub sustained_health: Duration,
    /// What the breaker does. Default: all of the above.
    pub mode: Mode,
}

/// The parts of a time window, which enter and leave as a whole.
pub(crate) const PARTS: u64 = 10;

/// The calls that rates are taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// This many last calls, exactly.
    Calls(usize),
    /// The calls settled within this last span of time. Time is cut into ten parts, which enter and leave as a whole:
    /// at any time the window covers at most this duration and more than nine tenths of it. Within that span counts are
    /// exact.
    Time(Duration),
}

/// Trips when too many calls are slow, be they successes or failures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlowCalls {
    /// Calls that took longer than this are slow. A slow probe counts as failed.
    pub longer_than: Duration,
    /// Trips when at least this share of the window is slow: above 0, at most 1.
    pub rate: f64,
}

/// Opens under memory pressure and stays open until the pressure has gone for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimit {
    /// Opens when more than this is in use, in bytes.
    pub open_above: u64,
    /// Pressure ends below this, in bytes; at most `open_above`.
    pub close_below: u64,
    /// … and after it stayed below for this long.
    pub clear_for: Duration,
}

/// How long an open circuit waits before it is probed: the n-th wait in a row is `initial * multiplier^n`, at most `max`,
/// less a random share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OpenWait {
    /// The first wait. Default: 1 s.
    pub initial: Duration,
    /// The longest wait. Default: 60 s.
    pub max: Duration,
    /// The factor from one wait to the next, at least 1. Default: 2.
    pub multiplier: f64,
    /// A wait is shortened by a random share of up to this, 0 to 1, so that circuits that opened together are not probed
    /// together. Default: 0.2.
    pub jitter: f64,
}

/// What a breaker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Counts, and rejects calls when a trigger fires.
    #[default]
    Normal,
    /// Counts but admits every call. For trying out a configuration, or where there is nothing to fall back to.
    MetricsOnly,
    /// Admits every call and counts nothing.
    Disabled,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            window: Window::Calls(100),
            min_calls: 10,
            success_rate: 0.95,
            min_failures: 1,
            consecutive_failures: None,
            slow_calls: None,
            deadline_misses: None,
            memory: Some(MemoryLimit::default()),
            abandoned_calls: 2,
            open_wait: OpenWait::default(),
            probes: 1,
            probe_successes: 1,
            probe_deadline: Duration::from_secs(5),
            sustained_health: Duration::from_secs(60),
            mode: Mode::Normal,
        }
    }
}

impl Default for MemoryLimit {
    fn default() -> Self {
        Self { open_above: 2 << 30, close_below: 3 << 29, clear_for: Duration::from_secs(10) }
    }
}

impl Default for OpenWait {
    fn default() -> Self {
        Self { initial: Duration::from_secs(1), max: Duration::from_secs(60), multiplier: 2.0, jitter: 0.2 }
    }
}

/// Why a configuration was refused.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A number or duration that must be above zero (for a time window: at least 10 ns) is not.
    Zero {
        /// The field of [`BreakerConfig`].
        field: &'static str,
    },
    /// A rate or factor lies outside its range or is not a number.
    OutOfRange {
        /// The field of [`BreakerConfig`].
        field: &'static str,
        /// What it is.
        value: f64,
        /// What is allowed.
        range: &'static str,
    },
    /// A number of calls is larger than the window, so that it could never be reached.
    AboveWindow {
        /// The field of [`BreakerConfig`].
        field: &'static str,
        /// What it is.
        value: u32,
        /// The calls in the window.
        window: usize,
    },
    /// A number is so large that it would waste memory.
    TooLarge {
        /// The field of [`BreakerConfig`].
        field: &'static str,
        /// What it is.
        value: usize,
        /// The largest allowed.
        limit: usize,
    },
    /// Two limits are in the wrong order.
    Disordered {
        /// The field that must not be larger.
        lower: &'static str,
        /// The field that must not be smaller.
        upper: &'static str,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero { field } => write!(f, "{field} must be above zero"),
            Self::OutOfRange { field, value, range } => write!(f, "{field} is {value}, it must be {range}"),
            Self::AboveWindow { field, value, window } => {
                write!(f, "{field} is {value}, which a window of {window} calls can never reach")
            }
            Self::TooLarge { field, value, limit } => write!(f, "{field} is {value}, the limit is {limit}"),
            Self::Disordered { lower, upper } => write!(f, "{lower} must not be larger than {upper}"),
        }
    }
}

impl std::error::Error for ConfigError {}

impl BreakerConfig {
    /// Whether a breaker can be made from this.
    ///
    /// # Errors
    /// The first field that is out of bounds, could never have an effect, or contradicts another.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let zero = [
            ("window", self.window.is_empty()),
            ("min_calls", self.min_calls == 0),
            ("min_failures", self.min_failures == 0),
            ("consecutive_failures", self.consecutive_failures == Some(0)),
            ("deadline_misses", self.deadline_misses == Some(0)),
            ("slow_calls.longer_than", self.slow_calls.is_some_and(|slow| slow.longer_than.is_zero())),
            ("memory.close_below", self.memory.is_some_and(|memory| memory.close_below == 0)),
            ("memory.clear_for", self.memory.is_some_and(|memory| memory.clear_for.is_zero())),
            ("abandoned_calls", self.abandoned_calls == 0),
            ("open_wait.initial", self.open_wait.initial.is_zero()),
            ("probes", self.probes == 0),
            ("probe_successes", self.probe_successes == 0),
            ("probe_deadline", self.probe_deadline.is_zero()),
            ("sustained_health", self.sustained_health.is_zero()),
        ];
        if let Some((field, _)) = zero.into_iter().find(|(_, zero)| *zero) {
            return Err(ConfigError::Zero { field });
        }
        in_range("success_rate", self.success_rate, "between 0 and 1", (0.0..=1.0).contains(&self.success_rate))?;
        if let Some(SlowCalls { rate, .. }) = self.slow_calls {
            in_range("slow_calls.rate", rate, "above 0 and at most 1", rate > 0.0 && rate <= 1.0)?;
        }
        let OpenWait { initial, max, multiplier, jitter } = self.open_wait;
        let growing = multiplier >= 1.0 && multiplier.is_finite();
        in_range("open_wait.multiplier", multiplier, "at least 1", growing)?;
        in_range("open_wait.jitter", jitter, "between 0 and 1", (0.0..=1.0).contains(&jitter))?;
        if initial > max {
            return Err(ConfigError::Disordered { lower: "open_wait.initial", upper: "open_wait.max" });
        }
        if self.memory.is_some_and(|memory| memory.close_below > memory.open_above) {
            return Err(ConfigError::Disordered { lower: "memory.close_below", upper: "memory.open_above" });
        }
        not_above("probes", self.probes as usize, MAX_PROBES)?;
        if let Window::Calls(window) = self.window {
            not_above("window", window, MAX_WINDOW)?;
            let counts = [
                ("min_calls", Some(self.min_calls)),
                ("min_failures", Some(self.min_failures)),
                ("deadline_misses", self.deadline_misses),
            ];
            for (field, value) in counts {
                if let Some(value) = value.filter(|value| *value as usize > window) {
                    return Err(ConfigError::AboveWindow { field, value, window });
                }
            }
        }
        Ok(())
    }
}

impl Window {
    fn is_empty(self) -> bool {
        match self {
            Self::Calls(calls) => calls == 0,
            Self::Time(duration) => duration.as_nanos() < PARTS as u128,
        }
    }
}

fn in_range(field: &'static str, value: f64, range: &'static str, is: bool) -> Result<(), ConfigError> {
    if is { Ok(()) } else { Err(ConfigError::OutOfRange { field, value, range }) }
}

fn not_above(field: &'static str, value: usize, limit: usize) -> Result<(), ConfigError> {
    if value <= limit { Ok(()) } else { Err(ConfigError::TooLarge { field, value, limit }) }
}
