//! Opens every converted model of the shared collection, where there is one.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test, helpers included")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use coreml_model::{Block, Package};

fn packages(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        println!("SKIPPED: there are no models in {}", folder.display());
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "mlpackage"));
    paths.sort();
    paths
}

fn shared() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared")
}

#[test]
fn every_package_opens() {
    let folders = [
        "zoo",
        "optests",
        "fixtures/models",
        "zoo-real/basic-pitch",
        "zoo-real/crepe",
        "zoo-real/dtln-aec",
        "zoo-real/efficientnet-lite0",
        "zoo-real/minilm",
        "zoo-real/silero-vad",
    ];
    let paths: Vec<_> = folders.iter().flat_map(|folder| packages(&shared().join(folder))).collect();
    let mut failures = Vec::new();
    for path in &paths {
        match Package::open(path) {
            Ok(package) => {
                let interface = package.interface(None).unwrap();
                assert!(!interface.outputs.is_empty(), "{}", path.display());
                assert!(package.size_bytes() > 0);
            }
            Err(error) => failures.push(error.to_string()),
        }
    }
    println!("opened {} packages", paths.len());
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), paths.len(), failures.join("\n"));
}

fn count(block: &Block, counts: &mut BTreeMap<String, u64>) {
    for operation in block.operations.iter().filter(|operation| operation.kind != "const") {
        *counts.entry(operation.kind.to_string()).or_default() += 1;
        operation.blocks.iter().for_each(|block| count(block, counts));
    }
}

/// The index was written by another reader of the format.
#[test]
fn operations_and_opsets_are_those_of_the_index() {
    let Ok(index) = std::fs::read(shared().join("zoo/index.json")) else {
        println!("SKIPPED: there is no index");
        return;
    };
    let index: Vec<serde_json::Value> = serde_json::from_slice(&index).unwrap();
    for entry in index.iter().filter(|entry| entry["type"] == "mlProgram") {
        let name = entry["name"].as_str().unwrap();
        let package = Package::open(shared().join(format!("zoo/{name}.mlpackage"))).unwrap();
        let mut counts = BTreeMap::new();
        let mut opsets = BTreeSet::new();
        for function in package.program().functions.values() {
            opsets.insert(function.opset.name().to_owned());
            count(&function.body, &mut counts);
        }
        let mut expected: BTreeMap<String, u64> = serde_json::from_value(entry["ops"].clone()).unwrap();
        let constants: BTreeMap<String, u64> = serde_json::from_value(entry["consts"].clone()).unwrap();
        expected.extend(constants.into_iter().filter(|(kind, _)| kind != "const"));
        assert_eq!(counts, expected, "{name}");
        // The index leaves the operation sets of models with several functions out.
        if !entry["opset"].is_null() {
            assert_eq!(serde_json::to_value(&opsets).unwrap(), entry["opset"], "{name}");
        }
    }
}
