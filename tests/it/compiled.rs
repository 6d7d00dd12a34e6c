//! Compiled models give the same answers as the packages they were written from, and damaged text gives an error.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use coreml_anywhere::model::{ColorLayout, Limits, NewModel, Package};
use coreml_anywhere::{
    Backend, CpuBackend, CpuOptions, Error, ErrorKind, Image, Inputs, Outputs, Session, synthetic_inputs,
};
use coreml_testing::mutants::{Mutants, asked_for};
use coreml_testing::random::Random;
use coreml_testing::{repository, tensor};

/// Every so many of the golden cases is run; all of them are read back by the tests of `coreml-model`.
const EVERY: usize = 8;

pub(crate) fn golden() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for family in std::fs::read_dir(repository().join("tests/golden")).unwrap() {
        let Ok(files) = std::fs::read_dir(family.unwrap().path()) else { continue };
        found.extend(files.map(|file| file.unwrap().path()));
    }
    found.retain(|path| path.extension().is_some_and(|extension| extension == "mlmodel"));
    found.sort();
    assert!(found.len() > 1000);
    found
}

/// Writes the model as a compiled folder; `None` for one that is not a single program.
fn compile(from: &Path, to: &Path) -> Option<()> {
    let package = Package::open(from).ok()?;
    NewModel::of(&package, |_| Err(())).ok()?.write_compiled(to).ok()
}

fn open(path: &Path) -> Result<Session, Error> {
    let backend = CpuBackend::new(CpuOptions::default());
    Session::builder()
        .backends([Arc::new(backend) as Arc<dyn Backend>])
        .threads(1)
        .max_memory(256 << 20)
        .max_loop_rounds(1000)
        .open(path)
}

fn answer(session: &Session) -> Result<Outputs, Error> {
    let inputs = synthetic_inputs(session.interface(), 1)?;
    let state = session.state();
    let stateful = !session.interface().states.is_empty();
    let answer = if stateful { session.predict_with_state(&inputs, &state) } else { session.predict(&inputs) };
    answer.map(coreml_anywhere::Prediction::into_outputs)
}

#[test]
fn compiled_models_answer_as_their_packages() {
    let scratch = tempfile::tempdir().unwrap();
    let mut compared = 0;
    for path in golden().into_iter().step_by(EVERY) {
        let compiled = scratch.path().join("model.mlmodelc");
        if compile(&path, &compiled).is_none() {
            continue;
        }
        // Random numbers differ from one prediction to the next.
        if !path.to_string_lossy().contains("random") {
            let answers = [&path, &compiled].map(|path| open(path).and_then(|session| answer(&session)));
            match answers {
                [Ok(a), Ok(b)] => {
                    assert_eq!(format!("{a:?}"), format!("{b:?}"), "{}", path.display());
                    compared += 1;
                }
                [Err(a), Err(b)] => assert_eq!(a.kind(), b.kind(), "{}", path.display()),
                [a, b] => panic!("{}: {a:?}, compiled {b:?}", path.display()),
            }
        }
        std::fs::remove_dir_all(&compiled).unwrap();
    }
    assert!(compared > 100, "only {compared} were compared");
}

/// As Core ML's compiler writes them, by the converter's tests of weights: old models' scalars are tensors without dimensions.
#[test]
fn scalars_are_written_as_the_version_of_the_model_has_them() {
    let scratch = tempfile::tempdir().unwrap();
    let text = |golden: &str| {
        let compiled = scratch.path().join("model.mlmodelc");
        compile(&repository().join("tests/golden").join(golden), &compiled).unwrap();
        let text = std::fs::read_to_string(compiled.join("model.mil")).unwrap();
        std::fs::remove_dir_all(&compiled).unwrap();
        text
    };
    let old = text("conv/conv-1x1-large.mlmodel");
    assert!(old.starts_with("program(1.0)\n"), "{old}");
    let blob =
        r#"(BLOBFILE(path = tensor<string, []>("@model_path/weights/weight.bin"), offset = tensor<uint64, []>(64)))"#;
    assert!(old.contains(blob) && old.contains("[name = tensor<string, []>(\""), "{old}");
    assert!(!old.contains("string("), "{old}");
    let new = text("state/accumulator.mlmodel");
    assert!(new.starts_with("program(1.3)\n") && new.contains("[name = string(\"") && !new.contains(", []>"), "{new}");
}

/// The text with one to three changes: bytes, words, lines, cuts, numbers made large.
fn damaged(text: &str, dice: &mut Random) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=dice.below(3) {
        if bytes.is_empty() {
            break;
        }
        let at = dice.below(bytes.len());
        match dice.below(8) {
            0 => bytes[at] = dice.below(256) as u8,
            1 => bytes[at] = b"()[]{}<>=,;\"?-.0x"[dice.below(17)],
            2 => _ = bytes.remove(at),
            3 => bytes.truncate(at),
            4 => {
                // A line once more somewhere else.
                let lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
                let line = [lines[dice.below(lines.len())], b"\n"].concat();
                bytes.splice(at..at, line);
            }
            5 => {
                let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                let number: &[u8] = [b"4294967295".as_slice(), b"-1", b"0", b"99999999999999999999"][dice.below(4)];
                bytes.splice(at..at + digits, number.iter().copied());
            }
            6 => {
                let other = dice.below(bytes.len());
                bytes.swap(at, other);
            }
            _ => {
                let end = (at + dice.below(40)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
    }
    bytes
}

/// `COREML_MUTANTS` is the number of damaged texts; a few thousand without it.
#[test]
fn damaged_text_costs_an_error() {
    let (count, first) = asked_for(2000);
    let scratch = tempfile::tempdir().unwrap();
    let compiled = scratch.path().join("model.mlmodelc");
    let mut texts = Vec::new();
    for path in golden().into_iter().filter(|path| path.metadata().unwrap().len() < 20_000).step_by(11) {
        if compile(&path, &compiled).is_some() {
            texts.push(std::fs::read_to_string(compiled.join("model.mil")).unwrap());
            std::fs::remove_dir_all(&compiled).unwrap();
        }
    }
    std::fs::create_dir(&compiled).unwrap();
    let mut mutants = Mutants::new();
    for seed in first..first + count {
        let mut dice = Random::new(seed);
        let text = dice.of::<String>(&texts);
        let text = damaged(text, &mut dice);
        std::fs::write(compiled.join("model.mil"), text).unwrap();
        mutants.attempt(&format!("COREML_SEED={seed}"), || {
            match open(&compiled).and_then(|session| answer(&session)) {
                Ok(_) => Ok("answered"),
                Err(error) if error.kind() == ErrorKind::Bug => Err(error.to_string()),
                Err(_) => Ok("refused"),
            }
        });
    }
    mutants.finish(&format!("{count} damaged texts of {} models", texts.len()));
    assert!(mutants.count("answered") > 0 && mutants.count("refused") > 0);
}

/// `COREML_PARSE_SPEED=1` measures how fast a large program is read.
#[test]
fn large_programs_are_read() {
    let operations = if std::env::var_os("COREML_PARSE_SPEED").is_some() { 60_000 } else { 2_000 };
    let mut text = String::from(
        "program(1.3)\n[buildInfo = dict<string, string>({{\"a\", \"b\"}})]\n{\n    func main<ios17>(tensor<fp32, [1, 4]> v0) {\n",
    );
    for i in 0..operations {
        let line = format!(
            "            tensor<fp32, [1, 4]> c{i} = const()[name = string(\"c{i}\"), val = tensor<fp32, [1, 4]>([[0x1.8p-3, 0x1p+0, -0x1.f0a3d8p-1, 0x0p+0]])];\n            tensor<fp32, [1, 4]> v{} = add(x = v{i}, y = c{i})[name = string(\"op_{i}\")];\n",
            i + 1
        );
        text.push_str(&line);
    }
    text.push_str(&format!("        }} -> (v{operations});\n}}\n"));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.mil"), &text).unwrap();
    let start = Instant::now();
    let package = Package::open_with(folder.path(), &Limits::default()).unwrap();
    let elapsed = start.elapsed().as_secs_f64();
    let megabytes = text.len() as f64 / 1e6;
    println!("{megabytes:.1} MB of text read in {:.0} ms: {:.0} MB/s", elapsed * 1e3, megabytes / elapsed);
    assert_eq!(package.program().functions["main"].body.operations.len(), 2 * operations);
}

/// A folder that has lost its description answers photographs once somebody says that its input is one.
#[test]
fn images_of_models_without_a_description_can_be_given() {
    let fixtures = repository().join("tests/fixtures");
    let original = fixtures.join("models/EfficientNetLite0.mlpackage");
    let photo = Image::open(fixtures.join("images/coffee.png")).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let compiled = scratch.path().join("model.mlmodelc");
    compile(&original, &compiled).unwrap();
    let described = Package::open(&compiled).unwrap();
    assert!(described.is_described());
    let error = described.with_image_input("image", ColorLayout::Rgb).unwrap_err();
    assert!(error.to_string().contains("the model says itself"), "{error}");

    std::fs::remove_file(compiled.join("coremldata.bin")).unwrap();
    assert!(!Package::open(&compiled).unwrap().is_described());
    let with = |name: &str, color| Package::open(&compiled).unwrap().with_image_input(name, color);
    for (name, color, message) in [
        ("picture", ColorLayout::Rgb, "no input `picture`"),
        ("image", ColorLayout::Grayscale, "would have [1, 1, height, width]"),
    ] {
        let error = with(name, color).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let cpu = || Session::builder().backends([Arc::new(CpuBackend::default()) as Arc<dyn Backend>]);
    let inputs = || Inputs::new().image("image", &photo);
    let label = |session: Session| session.predict(&inputs()).unwrap().string("classLabel").unwrap().to_owned();
    let expected = label(cpu().open(&original).unwrap());
    assert_eq!(label(cpu().image_input("image", ColorLayout::Rgb).open(&compiled).unwrap()), expected);
    // Without it the input is an array.
    assert!(cpu().open(&compiled).unwrap().predict(&inputs()).is_err());
}

/// A list may have names among the sizes of its elements; the first element says what they are.
#[test]
fn lists_whose_elements_have_named_sizes_are_filled() {
    let text = r#"program(1.0)
{
    func main<ios15>(tensor<fp32, [1, 3]> x) {
            list<tensor<fp32, [?, 3]>, ?> empty = make_list(init_length = int32(1), dynamic_length = bool(true), dtype = string("fp32"), elem_shape = (string("rows"), int32(3)))[name = string("empty")];
            list<tensor<fp32, [?, 3]>, ?> one = list_write(ls = empty, index = int32(0), value = x)[name = string("one")];
            tensor<fp32, [1, 3]> twice = add(x = x, y = x)[name = string("twice")];
            list<tensor<fp32, [?, 3]>, ?> two = list_write(ls = one, index = int32(1), value = twice)[name = string("two")];
            tensor<fp32, [2, 1, 3]> y = list_gather(ls = two, indices = tensor<int32, [2]>([1, 0]))[name = string("y")];
        } -> (y);
}
"#;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.mil"), text).unwrap();
    let x = tensor(&[1, 3], &[1.0f32, 2.0, 3.0]);
    for options in [CpuOptions::default(), CpuOptions::reference()] {
        let backend = Arc::new(CpuBackend::new(options)) as Arc<dyn Backend>;
        let session = Session::builder().backends([backend]).open(folder.path()).unwrap();
        let answer = session.predict(&Inputs::new().tensor("x", &x)).unwrap();
        assert_eq!(answer.tensor("y").unwrap().view().to_f64_vec(), [2.0, 4.0, 6.0, 1.0, 2.0, 3.0]);
    }
}
