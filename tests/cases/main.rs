//! Runs models with known results through the public API, on the reference plan and on the optimised plan:
//!
//! * `golden`: the cases of this repository, which cover every operation;
//! * `zoo`: converted models, against what the stored program gives in single precision (`exact:`) and against the
//!   network it was converted from (`out:`);
//! * `single_operations`: cases harvested from the converter's own tests;
//! * `failures_of_old`: models that once failed in use.
//!
//! All but the first are collections outside the repository and run if `COREML_COLLECTIONS` is set; otherwise the suite says
//! that they are skipped. Every case that is known to fail is listed with its cause; a listed case that passes fails the suite
//! too.
//!
//! `COREML_CASES=text` runs only the cases whose name contains the text.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test that cannot go on fails")]

mod known;
mod runner;

use std::path::{Path, PathBuf};

use coreml_testing::npz::Array;
use runner::{Bound, Case, Suite};
use serde::Deserialize;

#[derive(Deserialize)]
struct GoldenRow {
    name: String,
    model: String,
    atol: f64,
    rtol: f64,
    #[serde(default)]
    check: Option<String>,
}

fn index<T: for<'a> Deserialize<'a>>(path: &Path) -> Vec<T> {
    let text = std::fs::read_to_string(path).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn golden() {
    let folder = coreml_testing::repository().join("tests/golden");
    let mut suite = Suite::new("golden", known::GOLDEN);
    for row in index::<GoldenRow>(&folder.join("index.json")) {
        let bound = match row.check.as_deref() {
            Some("distribution") => Bound::Shape,
            _ => Bound::Values { atol: row.atol, rtol: row.rtol },
        };
        let npz = folder.join(format!("{}.npz", row.name));
        suite.run(&Case { name: row.name, model: folder.join(row.model), npz, prefix: "out:", bound });
    }
    suite.finish();
}

#[derive(Deserialize)]
struct ZooRow {
    name: String,
    rel_tol: f64,
}

#[test]
fn zoo() {
    let Some(folder) = coreml_testing::shared("zoo") else { return };
    let mut suite = Suite::new("zoo", known::ZOO);
    for row in index::<ZooRow>(&folder.join("index.json")) {
        let model = folder.join(format!("{}.mlpackage", row.name));
        let npz = folder.join(format!("{}.npz", row.name));
        let case = |prefix, rtol| Case {
            name: format!("{} {prefix}", row.name),
            model: model.clone(),
            npz: npz.clone(),
            prefix,
            bound: Bound::Values { atol: 0.0, rtol },
        };
        let arrays = coreml_testing::load(&npz);
        if arrays.keys().any(|key| key.contains("exact:")) {
            suite.run(&case("exact:", 1e-4));
        }
        suite.run(&case("out:", row.rel_tol));
    }
    suite.finish();
}

#[derive(Deserialize)]
struct OperationRow {
    id: String,
    atol: f64,
    rtol: f64,
    ops: Vec<String>,
}

#[test]
fn single_operations() {
    let Some(folder) = coreml_testing::shared("optests") else { return };
    let mut suite = Suite::new("single operations", known::SINGLE_OPERATIONS);
    for row in index::<OperationRow>(&folder.join("index.json")) {
        // Random numbers come from another generator.
        let random = row.ops.iter().any(|op| op.starts_with("random_"));
        let bound = match random {
            true => Bound::Shape,
            false => Bound::HalfAware { atol: row.atol.max(1e-4), rtol: row.rtol.max(1e-4), floor: 5e-3 },
        };
        let model = folder.join(format!("{}.mlpackage", row.id));
        let npz = folder.join(format!("{}.npz", row.id));
        suite.run(&Case { name: format!("{} {}", row.id, row.ops.join(",")), model, npz, prefix: "out:", bound });
    }
    suite.finish();
}

/// What failed when the product was used.
#[test]
fn failures_of_old() {
    let Some(folder) = coreml_testing::shared("cases") else { return };
    let mut suite = Suite::new("failures of old", known::FAILURES_OF_OLD);
    let mut models = Vec::new();
    collect_packages(&folder, &mut models);
    assert!(!models.is_empty(), "{} holds no packages with values", folder.display());
    for model in models {
        let npz = model.with_extension("npz");
        let bound = Bound::HalfAware { atol: 1e-4, rtol: 1e-4, floor: 5e-3 };
        let name = model.strip_prefix(&folder).unwrap().display().to_string();
        suite.run(&Case { name, model, npz, prefix: "out:", bound });
    }
    suite.finish();
}

/// The packages below `folder` that have a file of values beside them, in order.
fn collect_packages(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries.into_iter().filter(|path| path.is_dir()) {
        if path.extension().is_none_or(|extension| extension != "mlpackage") {
            collect_packages(&path, found);
        } else if path.with_extension("npz").exists() {
            found.push(path);
        }
    }
}

/// A comparison that cannot fail is no test: a reference that is off must be noticed.
#[test]
fn a_wrong_reference_is_noticed() {
    let expected = Array::Tensor(coreml_testing::tensor(&[2], &[1.0, 2.0]));
    let found = runner::Found::Tensor(coreml_testing::tensor(&[2], &[1.0, 2.1]));
    let bound = Bound::Values { atol: 0.0, rtol: 1e-2 };
    assert!(found.matches(&expected, &bound).is_err());
    assert!(found.matches(&expected, &Bound::Values { atol: 0.11, rtol: 0.0 }).is_ok());
}
