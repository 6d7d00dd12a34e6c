//! Integration suites live beside this file.
