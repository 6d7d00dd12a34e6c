//! A type error in a macOS-only function, behind a cfg that only `scripts/darwin-check --planted` sets. It proves that the check
//! does look into such functions.

#[cfg(target_os = "macos")]
pub(crate) fn planted() -> u32 {
    "not a number"
}
