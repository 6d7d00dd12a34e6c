//! Plans and executes ML Programs on the CPU.
#![forbid(unsafe_code)]
