//! Every available model, written in both forms and read back, has the same program and the same interface.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};

use coreml_model::{NewModel, Package, ReadErrorKind};

fn models(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        let is = |name: &str| path.extension().is_some_and(|extension| extension == name);
        if is("mlpackage") || is("mlmodel") {
            found.push(path);
        } else if path.is_dir() {
            models(&path, found);
        }
    }
}

/// Not a number is not equal to itself, so texts are compared where values differ.
fn same<T: PartialEq + std::fmt::Debug>(a: &T, b: &T) -> bool {
    a == b || format!("{a:?}") == format!("{b:?}")
}

fn differs(path: &Path, scratch: &Path) -> Result<bool, String> {
    let package = match Package::open(path) {
        Ok(package) => package,
        // The models that tests of refusals use.
        Err(_) => return Ok(false),
    };
    let Ok(model) = NewModel::of(&package, |_| Err(())) else { return Ok(false) };
    for form in ["mlpackage", "mlmodelc"] {
        let written = scratch.join(form);
        let result = if form == "mlpackage" { model.write_package(&written) } else { model.write_compiled(&written) };
        match result {
            Err(error) if error.kind() == std::io::ErrorKind::Unsupported && package.program().functions.is_empty() => {
                continue;
            }
            other => other.map_err(|error| format!("{form}: {error}"))?,
        }
        let read = Package::open(&written).map_err(|error| format!("{form}: {error}"))?;
        for (a, b) in package.stages().iter().zip(read.stages()) {
            if !same(a.program(), b.program()) {
                return Err(format!("{form}: another program"));
            }
            if !same(a.interface(), b.interface()) || a.default_function() != b.default_function() {
                return Err(format!("{form}: another interface: {:?} {:?}", a.interface(), b.interface()));
            }
        }
        for function in package.functions() {
            if !same(package.interface(Some(function)).unwrap(), read.interface(Some(function)).unwrap()) {
                return Err(format!("{form}: another interface of {function}"));
            }
        }
        if package.metadata() != read.metadata() || package.stages().len() != read.stages().len() {
            return Err(format!("{form}: other metadata or members"));
        }
        std::fs::remove_dir_all(&written).unwrap();
    }
    Ok(true)
}

fn check(folder: &Path) -> usize {
    let mut paths = Vec::new();
    models(folder, &mut paths);
    paths.sort();
    let scratch = tempfile::tempdir().unwrap();
    let (mut count, mut failures) = (0, Vec::new());
    for path in paths {
        match differs(&path, scratch.path()) {
            Ok(written) => count += usize::from(written),
            Err(why) => {
                failures.push(format!("{}: {}", path.display(), why.chars().take(300).collect::<String>()));
                for form in ["mlpackage", "mlmodelc"] {
                    _ = std::fs::remove_dir_all(scratch.path().join(form));
                }
            }
        }
    }
    println!("{}: {count} models written and read back", folder.display());
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    count
}

#[test]
fn golden_cases_and_fixtures_come_back() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests");
    assert!(check(&tests.join("golden")) > 300);
    assert!(check(&tests.join("fixtures")) > 0);
}

#[test]
fn collections_come_back() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    if std::env::var_os("COREML_COLLECTIONS").is_none() || !shared.is_dir() {
        println!("skipped: the collections are not at hand, or COREML_COLLECTIONS is not set");
        return;
    }
    for collection in ["zoo", "zoo-real", "optests", "fixtures"] {
        check(&shared.join(collection));
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let compiled = folder.path().join("a.mlmodelc");
    std::fs::create_dir(&compiled).unwrap();
    let cases: [(&str, &[u8], ReadErrorKind, &str); 5] = [
        ("model.espresso.net", b"{}", ReadErrorKind::Unsupported, "compiled neural network"),
        (
            "model.mil",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
            ReadErrorKind::Format,
            "LFS",
        ),
        ("model.mil", b"program(2.0) {}", ReadErrorKind::Unsupported, "version `2.0`"),
        ("model.mil", b"program(1.0)\n{\n  func main<ios99>() {", ReadErrorKind::Unsupported, "line 3, column 13"),
        ("model.mil", b"program(1.0)\n{\n  fun", ReadErrorKind::Format, "line 3, column 3: expected `func`"),
    ];
    for (name, contents, kind, words) in cases {
        std::fs::write(compiled.join(name), contents).unwrap();
        let error = Package::open(&compiled).unwrap_err();
        assert!(error.kind() == kind && error.to_string().contains(words), "{error}");
    }
}
