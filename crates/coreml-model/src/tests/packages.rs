//! Packages on disk.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;

pub(super) const MANIFEST: &str = r#"{"fileFormatVersion": "1.0.0", "rootModelIdentifier": "R", "itemInfoEntries": {
    "R": {"path": "com.apple.CoreML/model.mlmodel", "name": "model.mlmodel", "author": "a", "description": "d"},
    "W": {"path": "com.apple.CoreML/weights", "name": "weights", "author": "a", "description": "d"}}}"#;

/// The sample as a package.
pub(super) fn package() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("Data/com.apple.CoreML");
    fs::create_dir_all(data.join("weights")).unwrap();
    fs::write(root.path().join("Manifest.json"), MANIFEST).unwrap();
    fs::write(data.join("model.mlmodel"), sample().encode_to_vec()).unwrap();
    fs::write(data.join("weights/weight.bin"), sample_weights()).unwrap();
    root
}

pub(super) fn spec(root: &TempDir) -> std::path::PathBuf {
    root.path().join("Data/com.apple.CoreML/model.mlmodel")
}

pub(super) fn weights(root: &TempDir) -> std::path::PathBuf {
    root.path().join("Data/com.apple.CoreML/weights/weight.bin")
}

/// The package, broken by `change`, is refused, and the error names `file`.
#[track_caller]
fn refused_package(change: impl FnOnce(&TempDir), kind: ReadErrorKind, file: &str, mentions: &[&str]) {
    let root = package();
    change(&root);
    let result = Package::open(root.path());
    let path = result.as_ref().err().and_then(ReadError::path).map(Path::to_path_buf);
    assert_refused(result, kind, mentions);
    let path = path.expect("errors about files name them");
    assert!(path.ends_with(file), "{} does not end with {file}", path.display());
}

#[test]
fn packages_and_bare_files_are_told_apart() {
    let root = package();
    let memory = read(&sample()).unwrap();
    let package = Package::open(root.path()).unwrap();
    assert_eq!(package.program(), memory.program());
    assert_eq!(package.size_bytes(), memory.size_bytes());
    assert_eq!(package.path(), root.path());
    assert_eq!(Package::open(spec(&root)).unwrap().program(), memory.program());
}

#[test]
fn broken_packages_are_refused() {
    use ReadErrorKind::{Blob, Format, Limit, Manifest, NotFound, Path};

    let manifest = |root: &TempDir, text: &str| fs::write(root.path().join("Manifest.json"), text).unwrap();
    refused_package(|root| manifest(root, "{"), Manifest, "Manifest.json", &["manifest"]);
    refused_package(
        |root| manifest(root, &MANIFEST.replace("com.apple.CoreML/model.mlmodel", "../../etc/passwd")),
        Path,
        "Manifest.json",
        &["`../../etc/passwd`"],
    );
    refused_package(
        |root| manifest(root, &MANIFEST.replace("com.apple.CoreML/model.mlmodel", "com.apple.CoreML")),
        Path,
        "com.apple.CoreML",
        &["not a regular file"],
    );
    refused_package(
        |root| manifest(root, &format!("{MANIFEST}{}", " ".repeat(1 << 20))),
        Limit,
        "Manifest.json",
        &["limit of 1048576"],
    );
    refused_package(|root| fs::remove_file(spec(root)).unwrap(), NotFound, "model.mlmodel", &["cannot find"]);
    refused_package(|root| fs::write(spec(root), b"").unwrap(), Format, "model.mlmodel", &["empty"]);
    refused_package(|root| fs::write(spec(root), b"garbage!").unwrap(), Format, "model.mlmodel", &["not a Core ML"]);
    refused_package(|root| fs::remove_file(weights(root)).unwrap(), NotFound, "weight.bin", &["operation `w`"]);
    refused_package(
        |root| fs::write(weights(root), &sample_weights()[..139]).unwrap(),
        Blob,
        "weight.bin",
        &["function `main`, operation `w` (`const`)", "truncated"],
    );
    refused_package(
        |root| fs::remove_file(root.path().join("Manifest.json")).unwrap(),
        Format,
        "",
        &["no Manifest.json"],
    );
    refused_package(
        |root| {
            fs::remove_file(root.path().join("Manifest.json")).unwrap();
            fs::write(root.path().join("coremldata.bin"), b"").unwrap();
        },
        ReadErrorKind::Unsupported,
        "",
        &["compiled model", ".mlpackage"],
    );
    assert_refused(Package::open("/no/such/model"), NotFound, &["/no/such/model"]);
}

#[test]
fn the_size_of_the_model_file_is_bounded() {
    let root = package();
    let size = fs::metadata(spec(&root)).unwrap().len();
    let open = |spec_bytes| Package::open_with(root.path(), &Limits { spec_bytes, ..Limits::default() });
    assert!(open(size).is_ok());
    assert_refused(open(size - 1), ReadErrorKind::Limit, &["model.mlmodel", "above the limit"]);
}

#[cfg(unix)]
#[test]
fn links_may_not_lead_out_of_the_package() {
    use std::os::unix::fs::symlink;

    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("file");
    fs::write(&target, sample_weights()).unwrap();
    let relink = |path: std::path::PathBuf, target: &Path| {
        fs::remove_file(&path).unwrap();
        symlink(target, path).unwrap();
    };
    let kind = ReadErrorKind::Path;
    refused_package(
        |root| relink(weights(root), &target),
        kind,
        "weight.bin",
        &["link to", "outside", "copy the package"],
    );
    fs::write(&target, sample().encode_to_vec()).unwrap();
    refused_package(|root| relink(spec(root), &target), kind, "model.mlmodel", &["outside"]);
    fs::write(&target, MANIFEST).unwrap();
    refused_package(|root| relink(root.path().join("Manifest.json"), &target), kind, "Manifest.json", &["outside"]);
    refused_package(|root| relink(weights(root), Path::new("/dev/zero")), kind, "weight.bin", &["outside"]);
    refused_package(
        |root| relink(weights(root), Path::new("weight.bin")),
        ReadErrorKind::Io,
        "weight.bin",
        &["cannot"],
    );
    // A folder that is a link.
    refused_package(
        |root| {
            let folder = weights(root).parent().unwrap().to_path_buf();
            fs::rename(&folder, outside.path().join("weights")).unwrap();
            symlink(outside.path().join("weights"), folder).unwrap();
        },
        kind,
        "weight.bin",
        &["outside"],
    );
    // Links within the package, and to the package, are followed.
    let root = package();
    fs::rename(weights(&root), root.path().join("w")).unwrap();
    symlink("../../../w", weights(&root)).unwrap();
    let link = outside.path().join("link");
    symlink(root.path(), &link).unwrap();
    assert!(Package::open(&link).is_ok());
}

/// What the usual client of model hubs makes: `NAME/snapshots/REVISION/MODEL` with links to `NAME/blobs/HASH`.
#[cfg(unix)]
#[test]
fn links_into_the_cache_that_holds_the_package_are_followed() {
    use std::os::unix::fs::symlink;

    let cache = |folder: &str| {
        let root = tempfile::tempdir().unwrap();
        let blobs = root.path().join("blobs");
        fs::create_dir(&blobs).unwrap();
        let model = root.path().join(folder).join("sub/M.mlpackage");
        let data = model.join("Data/com.apple.CoreML");
        fs::create_dir_all(data.join("weights")).unwrap();
        let files: [(&str, &Path, Vec<u8>); 3] = [
            ("a", &model.join("Manifest.json"), MANIFEST.into()),
            ("b", &data.join("model.mlmodel"), sample().encode_to_vec()),
            ("c", &data.join("weights/weight.bin"), sample_weights()),
        ];
        for (hash, link, bytes) in files {
            fs::write(blobs.join(hash), bytes).unwrap();
            symlink(blobs.join(hash), link).unwrap();
        }
        (root, model)
    };
    let (_root, model) = cache("snapshots/abc");
    assert_eq!(Package::open(&model).unwrap().program(), read(&sample()).unwrap().program());
    // A folder that only looks like it, and a link from a cache to somewhere else.
    let (_root, model) = cache("elsewhere/abc");
    assert_refused(Package::open(&model), ReadErrorKind::Path, &["Manifest.json", "outside"]);
    let (root, model) = cache("snapshots/abc");
    fs::write(root.path().join("secret"), sample_weights()).unwrap();
    let weights = model.join("Data/com.apple.CoreML/weights/weight.bin");
    fs::remove_file(&weights).unwrap();
    symlink(root.path().join("secret"), &weights).unwrap();
    assert_refused(Package::open(&model), ReadErrorKind::Path, &["weight.bin", "outside"]);
}

#[test]
fn files_that_are_something_else_are_named() {
    use ReadErrorKind::{Blob, Format, Manifest};

    const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    let put = |path: std::path::PathBuf, text: &str| fs::write(path, text).unwrap();
    let manifest = |root: &TempDir| root.path().join("Manifest.json");
    refused_package(|root| put(manifest(root), POINTER), Manifest, "Manifest.json", &["git lfs pull"]);
    refused_package(|root| put(spec(root), POINTER), Format, "model.mlmodel", &["git lfs pull"]);
    refused_package(|root| put(weights(root), POINTER), Blob, "weight.bin", &["git lfs pull"]);
    let page = "<!DOCTYPE html><html><body>Not found</body></html>";
    refused_package(|root| put(manifest(root), page), Manifest, "Manifest.json", &["web page"]);
    refused_package(|root| put(spec(root), page), Format, "model.mlmodel", &["web page"]);
    refused_package(|root| put(weights(root), page), Blob, "weight.bin", &["web page"]);
    let link = "../../blobs/0a1b2c";
    refused_package(|root| put(manifest(root), link), Manifest, "Manifest.json", &["symbolic link", "copy the file"]);
    refused_package(|root| put(spec(root), link), Format, "model.mlmodel", &["symbolic link"]);
    refused_package(|root| put(weights(root), link), Blob, "weight.bin", &["symbolic link"]);
    refused_package(|root| put(spec(root), "\u{feff}text"), Format, "model.mlmodel", &["byte-order mark"]);
    // Before JSON it changes nothing.
    let root = package();
    put(manifest(&root), &format!("\u{feff}{MANIFEST}"));
    assert!(Package::open(root.path()).is_ok());
    // The folder around a package.
    let around = tempfile::tempdir().unwrap();
    fs::create_dir(around.path().join("Inner.mlpackage")).unwrap();
    assert_refused(Package::open(around.path()), Format, &["Inner.mlpackage"]);
}

#[test]
fn a_model_can_be_looked_at_without_its_weights() {
    let root = package();
    assert!(Package::outline(root.path(), &Limits::default()).unwrap().missing_weights().is_none());
    fs::remove_file(weights(&root)).unwrap();
    let package = Package::outline(root.path(), &Limits::default()).unwrap();
    let error = package.missing_weights().unwrap();
    assert_eq!(error.kind(), ReadErrorKind::NotFound);
    assert!(error.to_string().contains("weight.bin"), "{error}");
    let full = read(&sample()).unwrap();
    let shape = |package: &Package| package.program().functions["main"].body.operations.len();
    assert_eq!(shape(&package), shape(&full));
    assert_eq!(package.interface(None).unwrap(), full.interface(None).unwrap());
    // What is broken elsewhere is still refused.
    fs::write(spec(&root), b"garbage!").unwrap();
    assert!(Package::outline(root.path(), &Limits::default()).is_err());
}

#[cfg(unix)]
#[test]
fn pipes_are_refused_without_opening_them() {
    let make = |path: &Path| {
        fs::remove_file(path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    // Opening a pipe nobody writes to would never return.
    refused_package(|root| make(&weights(root)), ReadErrorKind::Path, "weight.bin", &["not a regular file"]);
    refused_package(|root| make(&spec(root)), ReadErrorKind::Path, "model.mlmodel", &["not a regular file"]);
    assert_refused(Package::open("/dev/null"), ReadErrorKind::Path, &["not a regular file"]);
}
