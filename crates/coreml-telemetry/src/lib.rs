//! Histograms, counters and the run report.
#![forbid(unsafe_code)]
