//! Models that try to read outside themselves: every place that names a path, and every kind of entry that is not a
//! file.

use std::fs;
use std::path::{Path, PathBuf};

use super::packages::{MANIFEST, package, spec, weights};
use super::*;

/// What the files outside the package say, which nothing may repeat.
const SECRET: &str = "the combination is 4711";

/// Paths that lead out, or are none.
const BAD: [&str; 14] = [
    "/etc/passwd",
    "//etc/passwd",
    "/proc/self/environ",
    "/dev/zero",
    "..",
    "../secret",
    "../../secret",
    "weights/../../../secret",
    "com.apple.CoreML/../../../secret",
    "./weights/weight.bin",
    "weights/..",
    "",
    "weights/weight.bin\0.txt",
    "\0",
];

/// What is refused says why with a type, and says nothing of what lies outside.
#[track_caller]
fn refused_all(attacks: Vec<(String, Result<Package, ReadError>)>, least: usize, kinds: &[ReadErrorKind]) {
    assert!(attacks.len() >= least, "{} attacks", attacks.len());
    for (what, result) in attacks {
        let error = result.map(drop).expect_err(&what);
        assert!(kinds.contains(&error.kind()), "{what}: {:?} {error}", error.kind());
        assert!(!format!("{error} {error:?}").contains(SECRET), "{what}: {error}");
    }
}

/// A package with a secret in the folder that it lies in.
fn beside_a_secret() -> (tempfile::TempDir, PathBuf) {
    let around = tempfile::tempdir().unwrap();
    let inner = around.path().join("M.mlpackage");
    fs::rename(package().keep(), &inner).unwrap();
    fs::write(around.path().join("secret"), SECRET).unwrap();
    (around, inner)
}

/// A compiled model whose weights lie at `path`, beside a secret.
fn compiled(path: &str) -> (tempfile::TempDir, PathBuf) {
    let (around, package) = beside_a_secret();
    let compiled = around.path().join("M.mlmodelc");
    fs::create_dir(&compiled).unwrap();
    fs::rename(package.join("Data/com.apple.CoreML/weights"), compiled.join("weights")).unwrap();
    let weight = "tensor<fp16, [2, 3]> w = const()[name = string(\"w\"), val = tensor<fp16, [2, 3]>(BLOBFILE(path = ";
    let text = format!(
        "program(1.3)\n{{\n func main<ios18>(tensor<fp16, [2, 3]> x) {{\n {weight}string(\"@model_path/{path}\"), \
         offset = uint64(64)))];\n tensor<fp16, [2, 3]> y = add(x = x, y = w)[name = string(\"y\")];\n }} -> (y);\n}}\n"
    );
    fs::write(compiled.join("model.mil"), text).unwrap();
    (around, compiled)
}

#[test]
fn paths_that_models_name_lead_nowhere_else() {
    let mut attacks = Vec::new();
    for bad in BAD {
        let (_around, root) = beside_a_secret();
        let manifest = MANIFEST.replace("com.apple.CoreML/model.mlmodel", &bad.replace('\0', "\\u0000"));
        fs::write(root.join("Manifest.json"), manifest).unwrap();
        attacks.push((format!("manifest {bad:?}"), Package::open(&root)));

        for prefix in ["@model_path/", ""] {
            let (_around, root) = beside_a_secret();
            let mut model = sample();
            let val = body(&mut model).operations[1].attributes.get_mut("val").unwrap();
            let Some(value::Kind::BlobFile(blob)) = &mut val.kind else { panic!("`w` is in the weight file") };
            blob.file = format!("{prefix}{bad}");
            fs::write(root.join("Data/com.apple.CoreML/model.mlmodel"), model.encode_to_vec()).unwrap();
            attacks.push((format!("weights {prefix}{bad:?}"), Package::open(&root)));
        }

        let (_around, compiled) = compiled(&bad.replace('\0', "\\0"));
        attacks.push((format!("compiled {bad:?}"), Package::open(&compiled)));
    }
    // Nothing of this is refused for another reason.
    let (_around, compiled) = compiled("weights/weight.bin");
    Package::open(&compiled).unwrap();
    refused_all(attacks, 4 * BAD.len(), &[ReadErrorKind::Path]);
}

#[cfg(unix)]
#[test]
fn links_and_special_files_are_not_followed_out() {
    use std::os::unix::fs::symlink;

    let mut attacks = Vec::new();
    for file in ["Manifest.json", "Data/com.apple.CoreML/model.mlmodel", "Data/com.apple.CoreML/weights/weight.bin"] {
        let mut attack = |what: &str, make: &dyn Fn(&Path, &Path)| {
            let (around, root) = beside_a_secret();
            let path = root.join(file);
            fs::remove_file(&path).unwrap();
            make(&path, around.path());
            attacks.push((format!("{file}: {what}"), Package::open(&root)));
        };
        attack("an absolute link", &|path, around| symlink(around.join("secret"), path).unwrap());
        attack("a relative link", &|path, around| {
            let up = path.strip_prefix(around).unwrap().components().count() - 1;
            symlink(Path::new(&"../".repeat(up)).join("secret"), path).unwrap();
        });
        attack("a link to a link", &|path, around| {
            symlink(around.join("secret"), around.join("M.mlpackage/inner")).unwrap();
            symlink(around.join("M.mlpackage/inner"), path).unwrap();
        });
        attack("a link to itself", &|path, _| symlink(path, path).unwrap());
        attack("a link to nothing", &|path, around| symlink(around.join("nothing"), path).unwrap());
        for device in ["/dev/zero", "/dev/null", "/dev/stdin", "/proc/self/environ", "/proc/self/mem", "/"] {
            attack(device, &|path, _| symlink(device, path).unwrap());
        }
        attack("a folder", &|path, _| fs::create_dir(path).unwrap());
        attack("nothing", &|_, _| {});
        attack("a socket", &|path, _| drop(std::os::unix::net::UnixListener::bind(path).unwrap()));
    }
    for folder in ["Data", "Data/com.apple.CoreML", "Data/com.apple.CoreML/weights"] {
        let (around, root) = beside_a_secret();
        fs::rename(root.join(folder), around.path().join("moved")).unwrap();
        symlink(around.path().join("moved"), root.join(folder)).unwrap();
        attacks.push((format!("{folder} is a link"), Package::open(&root)));
    }
    use ReadErrorKind::{Format, Io, NotFound};
    refused_all(attacks, 45, &[ReadErrorKind::Path, NotFound, Io, Format]);
    // Nothing of this is refused for another reason.
    let root = package();
    assert!(Package::open(root.path()).is_ok() && spec(&root).is_file() && weights(&root).is_file());
}
