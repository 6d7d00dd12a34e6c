//! Mistakes in a model or a call give an error that names them, without using much memory: each row breaks one thing,
//! runs the command in 256 MiB, and expects an exit code and words that name the place.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test that cannot go on fails")]
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const MODEL: &str = "Data/com.apple.CoreML/model.mlmodel";
const WEIGHTS: &str = "Data/com.apple.CoreML/weights/weight.bin";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models/EfficientNetLite0.mlpackage")
}

/// A copy of the fixture to break.
struct Package {
    folder: TempDir,
}

impl Package {
    fn new() -> Self {
        let package = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir_all(package.path(WEIGHTS).parent().unwrap()).unwrap();
        for file in ["Manifest.json", MODEL, WEIGHTS] {
            fs::copy(fixture().join(file), package.path(file)).unwrap();
        }
        package
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("Broken.mlpackage")
    }

    fn path(&self, file: &str) -> PathBuf {
        self.root().join(file)
    }

    fn edit(&self, file: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.path(file)).unwrap();
        edit(&mut bytes);
        fs::write(self.path(file), bytes).unwrap();
    }

    /// Replaces the `nth` occurrence of some bytes of the model file by as many others.
    fn replace(&self, from: &[u8], to: &[u8], nth: usize) {
        assert_eq!(from.len(), to.len(), "lengths are written elsewhere in the file");
        self.edit(MODEL, |bytes| {
            let places: Vec<usize> = (0..bytes.len() - from.len()).filter(|&i| bytes[i..].starts_with(from)).collect();
            let place = *places.get(nth).expect("the model has these bytes");
            bytes[place..place + to.len()].copy_from_slice(to);
        });
    }

    fn replace_all(&self, from: &[u8], to: &[u8]) {
        let count = fs::read(self.path(MODEL)).unwrap().windows(from.len()).filter(|window| *window == from).count();
        (0..count).for_each(|_| self.replace(from, to, 0));
    }

    fn manifest(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.path("Manifest.json")).unwrap();
        assert!(text.contains(from));
        fs::write(self.path("Manifest.json"), text.replace(from, to)).unwrap();
    }
}

/// Runs the command with at most 256 MiB of address space, which bounds its memory whatever it does.
fn coreml(arguments: &[&str]) -> Output {
    let binary = env!("CARGO_BIN_EXE_coreml");
    if !cfg!(target_os = "linux") {
        return Command::new(binary).args(arguments).output().unwrap();
    }
    let limited = "ulimit -v 262144 && exec \"$0\" \"$@\"";
    Command::new("sh").args(["-c", limited, binary]).args(arguments).output().unwrap()
}

fn expect(what: &str, output: &Output, code: i32, words: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    println!("{what}\n    {}", stderr.trim_end().replace('\n', "\n    "));
    assert_eq!(output.status.code(), Some(code), "{what}: {stderr}");
    assert!(stderr.contains(words), "{what}: no `{words}` in: {stderr}");
    assert!(stderr.starts_with("error: "), "{what}: {stderr}");
    assert!(!stderr.contains("panicked"), "{what}: {stderr}");
}

#[test]
fn broken_packages() {
    type Row = (&'static str, fn(&Package), &'static str);
    let rows: &[Row] = &[
        ("no manifest", |p| fs::remove_file(p.path("Manifest.json")).unwrap(), "Manifest.json"),
        ("garbled manifest", |p| fs::write(p.path("Manifest.json"), "{ not json").unwrap(), "Manifest.json"),
        ("empty manifest", |p| fs::write(p.path("Manifest.json"), "").unwrap(), "Manifest.json"),
        ("no root model", |p| p.manifest("rootModelIdentifier", "rootModelIdentifierX"), "rootModelIdentifier"),
        (
            "a root model that is not listed",
            |p| p.manifest("\"6ec90179-a724-4983-8c54-91e59fd4286c\"\n", "\"x\"\n"),
            "Manifest.json",
        ),
        ("a path out of the package", |p| p.manifest("com.apple.CoreML/model.mlmodel", "../../../../etc/passwd"), ".."),
        ("an absolute path", |p| p.manifest("com.apple.CoreML/model.mlmodel", "/etc/passwd"), "/etc/passwd"),
        (
            "a manifest that is a folder",
            |p| {
                fs::remove_file(p.path("Manifest.json")).unwrap();
                fs::create_dir(p.path("Manifest.json")).unwrap();
            },
            "Manifest.json",
        ),
        ("no model file", |p| fs::remove_file(p.path(MODEL)).unwrap(), "model.mlmodel"),
        ("an empty model file", |p| fs::write(p.path(MODEL), "").unwrap(), "model.mlmodel"),
        (
            "a model file of noise",
            |p| {
                fs::write(
                    p.path(MODEL),
                    (0..5000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>(),
                )
                .unwrap();
            },
            "model.mlmodel",
        ),
        ("a truncated model file", |p| p.edit(MODEL, |bytes| bytes.truncate(60_000)), "model.mlmodel"),
        (
            "a model file that is a folder",
            |p| {
                fs::remove_file(p.path(MODEL)).unwrap();
                fs::create_dir(p.path(MODEL)).unwrap();
            },
            "model.mlmodel",
        ),
        (
            "a Git LFS pointer",
            |p| {
                fs::write(p.path(MODEL), "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n").unwrap();
            },
            "git lfs pull",
        ),
        ("no weights", |p| fs::remove_file(p.path(WEIGHTS)).unwrap(), "weight.bin"),
        ("empty weights", |p| fs::write(p.path(WEIGHTS), "").unwrap(), "weight.bin"),
        ("truncated weights", |p| p.edit(WEIGHTS, |bytes| bytes.truncate(bytes.len() / 2)), "weight.bin"),
        ("shifted weights", |p| p.edit(WEIGHTS, |bytes| drop(bytes.drain(..64))), "weight.bin"),
        ("weights of wrong magic", |p| p.edit(WEIGHTS, |bytes| bytes[64] = 0), "weight.bin"),
        ("weights beyond the end", |p| p.edit(WEIGHTS, |bytes| bytes[80..88].fill(0x7f)), "weight.bin"),
        ("weights of another size", |p| p.edit(WEIGHTS, |bytes| bytes[72] = 1), "weight.bin"),
        ("an unknown operation", |p| p.replace_all(b"softmax", b"softmix"), "softmix"),
        ("an unknown operation set", |p| p.replace_all(b"CoreML5", b"CoreML0"), "CoreML0"),
        ("an undefined name", |p| p.replace(b"image__biased__\x12", b"image__biasez__\x12", 0), "image__bia"),
        ("a name used before its definition", |p| p.replace(b"x_3_cast_fp16", b"x_5_cast_fp16", 2), "x_5_cast_fp16"),
        ("an absurd image", |p| p.replace(b"\x08\xe0\x01\x10\xe0\x01", b"\x08\xff\x7f\x10\xff\x7f", 0), "image"),
        ("a name twice", |p| p.replace_all(b"x_3_mode_0", b"x_5_mode_0"), "x_5_mode_0"),
    ];
    println!("{} broken packages", rows.len());
    for (what, break_it, words) in rows {
        let package = Package::new();
        break_it(&package);
        let root = package.root();
        expect(what, &coreml(&["run", root.to_str().unwrap(), "--input", "image=none.png"]), 3, words);
    }
}

#[cfg(unix)]
#[test]
fn links_and_permissions() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let outside = tempfile::tempdir().unwrap();
    fs::copy(fixture().join(MODEL), outside.path().join("secret")).unwrap();
    let package = Package::new();
    fs::remove_file(package.path(MODEL)).unwrap();
    symlink(outside.path().join("secret"), package.path(MODEL)).unwrap();
    let root = package.root();
    expect("a link out of the package", &coreml(&["inspect", root.to_str().unwrap()]), 3, "model.mlmodel");

    let package = Package::new();
    fs::set_permissions(package.path(MODEL), fs::Permissions::from_mode(0o0)).unwrap();
    if fs::read(package.path(MODEL)).is_ok() {
        println!("no permission: not tested, this user may read everything");
        return;
    }
    let root = package.root();
    expect("no permission", &coreml(&["inspect", root.to_str().unwrap()]), 3, "model.mlmodel");
}

/// An `.npz` of one array, written by hand so that it may be wrong.
fn npy(folder: &Path, descr: &str, shape: &str, bytes: &[u8]) -> String {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}\n");
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(bytes);
    let path = folder.join(format!("{}.npy", fs::read_dir(folder).unwrap().count()));
    fs::write(&path, file).unwrap();
    path.display().to_string()
}

#[test]
fn wrong_calls() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let fixture = fixture();
    let model = fixture.to_str().unwrap();
    let pixels = [0u8; 224 * 224 * 3];
    let good = npy(folder, "|u1", "224, 224, 3", &pixels);
    let nan: Vec<u8> = f32::NAN.to_le_bytes().repeat(3 * 224 * 224);
    let text = folder.join("text.png");
    fs::write(&text, "not a picture").unwrap();
    let rows: Vec<(&str, Vec<String>, i32, &str)> = vec![
        ("a wrong feature name", vec![format!("--input=imag={good}")], 3, "Did you mean `image`?"),
        ("a feature twice", vec![format!("--input=image={good}"), format!("--input=image={good}")], 3, "twice"),
        ("a missing feature", vec![], 3, "`image`: is missing"),
        ("a wrong rank", vec![format!("--input=image={}", npy(folder, "|u1", "150528,", &pixels))], 3, "[150528]"),
        (
            "a wrong shape",
            vec![format!("--input=image={}", npy(folder, "|u1", "224, 672, 1", &pixels))],
            3,
            "[224, 672, 1]",
        ),
        ("a wrong size", vec![format!("--input=image={}", npy(folder, "|u1", "112, 448, 3", &pixels))], 3, "448 x 112"),
        (
            "a wrong data type",
            vec![format!("--input=image={}", npy(folder, "<i4", "1, 3, 1, 1", &[0; 12]))],
            3,
            "int32",
        ),
        ("an image of NaN", vec![format!("--input=image={}", npy(folder, "<f4", "1, 3, 224, 224", &nan))], 3, "NaN"),
        (
            "a truncated array",
            vec![format!("--input=image={}", npy(folder, "|u1", "224, 224, 3", &pixels[..9]))],
            3,
            "9 bytes",
        ),
        (
            "an absurd array",
            vec![format!("--input=image={}", npy(folder, "|u1", "999999999999999999,", &[]))],
            3,
            "999999999999999999",
        ),
        ("no such file", vec!["--input=image=nowhere.png".into()], 3, "nowhere.png"),
        ("text as a picture", vec![format!("--input=image={}", text.display())], 3, "text.png"),
        ("an unknown function", vec!["--function=other".into()], 3, "`other`"),
        (
            "an output nowhere",
            vec![format!("--input=image={good}"), "--output=nowhere/out.npz".into()],
            3,
            "nowhere/out.npz",
        ),
        ("an unknown option", vec!["--bogus".into()], 2, "--bogus"),
        ("an input without a name", vec![format!("--input={good}")], 2, "NAME=FILE"),
        ("an unknown backend", vec!["--backend=gpu".into()], 2, "gpu"),
        ("an unknown kind of file", vec!["--input=image=photo.tiff".into()], 2, ".tiff"),
    ];
    for (what, arguments, code, words) in &rows {
        let mut call = vec!["run", model, "--threads=1"];
        call.extend(arguments.iter().map(String::as_str));
        expect(what, &coreml(&call), *code, words);
    }
    for (what, path, words) in [
        ("no such model", "nowhere.mlpackage", "nowhere.mlpackage"),
        ("a folder that is no package", folder.to_str().unwrap(), "Manifest.json"),
        ("a file that is no model", text.to_str().unwrap(), "text.png"),
    ] {
        expect(what, &coreml(&["run", path]), 3, words);
    }
    // The limit does not stop a sound call.
    let sound = coreml(&["run", model, "--threads=1", &format!("--input=image={good}"), "--json"]);
    assert!(sound.status.success(), "{}", String::from_utf8_lossy(&sound.stderr));
}
