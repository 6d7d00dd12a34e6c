//! A type error in a function for macOS only, behind a cfg that only `scripts/darwin-check --planted` sets: proof that the check
//! looks into such functions at all.

#[cfg(target_os = "macos")]
pub(crate) fn planted() -> u32 {
    "not a number"
}
