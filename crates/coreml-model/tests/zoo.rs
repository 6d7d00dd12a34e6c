//! Opens every converted model of the shared collection, where there is one.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test, helpers included")]

use std::path::{Path, PathBuf};

use coreml_model::{Package, ReadErrorKind};

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

#[test]
fn every_package_opens() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared");
    let mut failures = Vec::new();
    let paths: Vec<_> = ["zoo", "optests"].iter().flat_map(|folder| packages(&shared.join(folder))).collect();
    for path in &paths {
        match Package::open(path) {
            Ok(package) => {
                let interface = package.interface(None).unwrap();
                assert!(!interface.outputs.is_empty(), "{}", path.display());
                assert!(package.size_bytes() > 0);
            }
            // The one kind of model in the collection that is not an ML Program.
            Err(error) if error.kind() == ReadErrorKind::Unsupported && error.to_string().contains("`pipeline`") => {}
            Err(error) => failures.push(error.to_string()),
        }
    }
    println!("opened {} packages", paths.len());
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), paths.len(), failures.join("\n"));
}
