//! Every flag in a subcommand's help does what it says: with it, the command does something that it does not do without
//! it.
//!
//! [`FLAGS`] has a line for each. A flag without one fails the test by name, and so does a line for a flag that is gone.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::Command;

use coreml_anywhere::tensor::npz::{self, Array};
use coreml_anywhere::tensor::{Shape, Tensor};
use coreml_testing::networks::{Message, Network};
use serde_json::Value as Json;

/// A verb, one of its flags, and the proof that it does something.
type Line = (&'static str, &'static str, fn(&Bench<'_>));

/// Words in capitals are files: see [`Bench::word`]. What cannot be seen from outside, such as threads, is at least read: a value
/// that is none is refused.
#[rustfmt::skip]
const FLAGS: &[Line] = &[
    ("", "--verbose", |b| b.tells("run ADD --inputs IN", "-v", "load{backend=\"cpu\"}")),
    ("", "--quiet", |b| b.drops("validate ADD -n 11", "--quiet", "WARN")),
    ("", "--log-format", |b| b.tells("run ADD --inputs IN -v", "--log-format json", "\n{\"timestamp\":")),
    ("inspect", "--function", |b| b.tells("inspect TWO --json", "--function adapted", "\"function\": \"adapted\"")),
    ("inspect", "--stage", |b| b.tells("inspect ADD", "--stage program", "%out: (2,3,5,fp32) = add(")),
    ("inspect", "--json", |b| b.tells("inspect ADD", "--json", "\"schema\": \"coreml-anywhere.package/1\"")),
    ("inspect", "--graph", |b| b.writes("inspect ADD", "--graph NEW.svg", "NEW.svg")),
    ("ops", "--json", |b| b.tells("ops ADD", "--json", "\"schema\": \"coreml-anywhere.model-ops/1\"")),
    ("doctor", "--json", |b| b.tells("doctor", "--json", "\"schema\": \"coreml-anywhere.doctor/1\"")),
    ("run", "--function", |b| b.changes("run TWO --input x=TWO_X", "--function activated")),
    ("run", "--image-input", |b| b.tells("run ADD --inputs IN", "--image-input x=rgb", "error: ")),
    ("run", "--backend", |b| b.tells("run ADD --inputs IN --json", "--backend reference", "\"served_by\": \"reference\"")),
    ("run", "--compute-units", |b| b.refuses("run ADD --inputs IN", "--compute-units nowhere", "cpu_and_neural_engine")),
    ("run", "--low-precision", |b| b.tells("run ADD --inputs IN --json", "--low-precision always", "\"cpu-bf16\"")),
    ("run", "--inputs", |b| b.tells("run ADD", "--inputs IN", "\nout")),
    ("run", "--input", |b| b.tells("run ADD --input x=X", "--input y=X", "\nout")),
    ("run", "--raw-orientation", |b| b.changes("run PICTURE --input image=PHOTO", "--raw-orientation")),
    ("run", "--text", |b| b.tells("run ADD --inputs IN", "--text z=word", "`z`")),
    ("run", "--sample-rate", |b| b.tells("run SOUND --input x=HUM", "--sample-rate 16000", "\ny")),
    ("run", "--pad", |b| b.tells("run SOUND --input x=HUM", "--pad", "\ny")),
    ("run", "--images", |b| b.writes("run IMAGED --input image=PHOTO", "--images NEW", "NEW/negative.png")),
    ("run", "--annotate", |b| b.writes("run DETECTOR --input image=PHOTO", "--annotate NEW.png", "NEW.png")),
    ("run", "--output", |b| b.writes("run ADD --inputs IN", "--output NEW.npz", "NEW.npz")),
    ("run", "--json", |b| b.tells("run ADD --inputs IN", "--json", "\"schema\": \"coreml-anywhere.predictions/1\"")),
    ("run", "--top", |b| b.changes("run WORDS --input input=FOUR", "--top 1")),
    ("run", "--threads", |b| b.refuses("run ADD --inputs IN", "--threads many", "invalid digit")),
    ("bench", "--function", |b| b.tells("bench TWO -n 11", "--function nothing", "has no function `nothing`")),
    ("bench", "--image-input", |b| b.tells("bench ADD -n 11", "--image-input x=rgb", "error: ")),
    ("bench", "--backend", |b| b.tells("bench ADD -n 11", "--backend cpu,reference", "| reference ")),
    ("bench", "--compute-units", |b| b.tells("bench ADD -n 11 --json", "--compute-units cpu_only", "\"cpu_only\"")),
    ("bench", "--low-precision", |b| b.tells("bench ADD -n 11", "--low-precision always", "| cpu-bf16 ")),
    ("bench", "--threads", |b| b.tells("bench ADD -n 11 --json", "--threads 7", "\"threads\":7")),
    ("bench", "--batch", |b| b.tells("bench ROWS -n 11 --json", "--batch 3", "\"batch\":3")),
    ("bench", "--concurrency", |b| b.tells("bench ADD -n 11 --json", "--concurrency 2", "\"concurrency\":2")),
    ("bench", "--inputs", |b| b.tells("bench ADD -n 11", "--inputs X", "`y`")),
    ("bench", "--input", |b| b.tells("bench ADD -n 11", "--input z=X", "`z`")),
    ("bench", "--iterations", |b| b.tells("bench ADD --json", "--iterations 13", "\"n\":13")),
    ("bench", "--seconds", |b| b.drops("bench ADD --json", "--seconds 0.000001", "\"n\":200,")),
    ("bench", "--warmup", |b| b.tells("bench ADD -n 11 --json", "--warmup 3", "\"warmup\":3")),
    ("bench", "--baseline", |b| b.tells("bench ADD -n 11 --json", "--baseline BENCHED", "{\"baseline\":")),
    ("bench", "--tolerance", |b| b.refuses("bench ADD -n 11 --baseline BENCHED", "--tolerance 1001", "percent from 0 to 1000")),
    ("bench", "--format", |b| b.tells("bench ADD -n 11", "--format csv", "backend,")),
    ("bench", "--json", |b| b.tells("bench ADD -n 11", "--json", "\"schema\":\"coreml-anywhere.bench/1\"")),
    ("bench", "--seed", |b| b.refuses("bench ADD -n 11", "--seed one", "invalid digit")),
    ("bench", "--profile", |b| b.tells("bench ADD -n 3", "--profile", "| kind of operation")),
    ("bench", "--trace", |b| b.writes("bench ADD -n 3 --profile", "--trace NEW.json", "NEW.json")),
    ("compare", "--function", |b| b.tells("compare TWO --plans", "--function nothing", "has no function `nothing`")),
    ("compare", "--image-input", |b| b.tells("compare ADD --plans", "--image-input x=rgb", "error: ")),
    ("compare", "--backend", |b| b.codes("compare ADD --with SUB --low-precision always", "--backend reference", [1, 2])),
    ("compare", "--compute-units", |b| b.refuses("compare ADD --plans", "--compute-units nowhere", "cpu_and_gpu")),
    ("compare", "--low-precision", |b| b.changes("compare WIDE --plans", "--low-precision always")),
    ("compare", "--reference", |b| b.tells("compare ADD --inputs IN", "--reference ANSWER", "DIFFERS")),
    ("compare", "--with", |b| b.tells("compare ADD", "--with ADD", "agrees")),
    ("compare", "--plans", |b| b.tells("compare ADD", "--plans", "agrees")),
    ("compare", "--backends", |b| b.changes("compare ADD", "--backends")),
    ("compare", "--inputs", |b| b.changes("compare ADD --with SUB", "--inputs IN")),
    ("compare", "--input", |b| b.changes("compare ADD --with SUB --input x=X", "--input y=X")),
    ("compare", "--seed", |b| b.changes("compare ADD --with SUB", "--seed 5")),
    ("compare", "--atol", |b| b.codes("compare ADD --with SUB", "--atol 99", [1, 0])),
    ("compare", "--rtol", |b| b.codes("compare ADD --with SUB --atol 0.5", "--rtol 9999", [1, 0])),
    ("compare", "--tolerance", |b| b.codes("compare ADD --with SUB", "--tolerance out=99,0", [1, 0])),
    ("compare", "--top-k", |b| b.tells("compare ADD --with SUB --json", "--top-k 2", "\"k\": 2")),
    ("compare", "--per-op", |b| b.tells("compare ADD --plans", "--per-op", "stands for")),
    ("compare", "--op-l2", |b| b.codes("compare WIDE --plans --per-op --low-precision always --atol 99 --op-largest 1", "--op-l2 1", [1, 0])),
    ("compare", "--op-largest", |b| b.codes("compare WIDE --plans --per-op --low-precision always --atol 99 --op-l2 1", "--op-largest 1", [1, 0])),
    ("compare", "--cut", |b| b.writes("compare WIDE --plans --per-op --low-precision always", "--cut NEW", "NEW/model.mlpackage/Manifest.json")),
    ("compare", "--json", |b| b.tells("compare ADD --plans", "--json", "\"schema\": \"coreml-anywhere.comparison/1\"")),
    ("compare", "--threads", |b| b.refuses("compare ADD --plans", "--threads many", "invalid digit")),
    ("convert", "--f16", |b| b.shrinks("convert NETWORK FRESH.mlpackage", "--f16")),
    ("convert", "--image-input", |b| b.tells("convert ADD FRESH.mlpackage", "--image-input x=rgb", "error: ")),
    ("convert", "--no-check", |b| b.drops("convert ADD FRESH.mlpackage", "--no-check", "largest difference")),
    ("convert", "--predictions", |b| b.refuses("convert ADD FRESH.mlpackage", "--predictions few", "invalid digit")),
    ("validate", "--gate", |b| b.tells("validate ADD -n 11", "--gate NOTHING", "is no gate")),
    ("validate", "--iterations", |b| b.tells("validate ADD", "--iterations 17", "(n = 17)")),
    ("validate", "--threads", |b| b.tells("validate ADD -n 11 --json", "--threads 7", "\"threads\": 7,")),
    ("validate", "--deadline-ms", |b| b.tells("validate ADD -n 11 --json", "--deadline-ms 777", "\"deadline_ms\": 777.0")),
    ("validate", "--output", |b| b.writes("validate ADD -n 11", "--output NEW.json", "NEW.json")),
    ("validate", "--junit", |b| b.writes("validate ADD -n 11", "--junit NEW.xml", "NEW.xml")),
    ("validate", "--json", |b| b.tells("validate ADD -n 11", "--json", "\"schema\": \"coreml-anywhere.run/")),
    ("validate", "--plant", |b| b.codes("validate ADD -n 11", "--plant wrong-answers", [5, 1])),
    ("report", "--output", |b| b.writes("report RECORD", "--output NEW.html", "NEW.html")),
    ("report", "--baseline", |b| b.changes("report RECORD", "--baseline RECORD")),
    ("report", "--tolerance", |b| b.changes("report BENCHED --baseline QUICK", "--tolerance 1000")),
    ("report", "--profile", |b| b.changes("report RECORD", "--profile PROFILED")),
    ("report", "--json", |b| b.writes("report ADD -n 11", "--json NEW.json", "NEW.json")),
    ("report", "--iterations", |b| b.tells("report ADD", "--iterations 17", "\"iterations\":17")),
    ("report", "--threads", |b| b.refuses("report ADD -n 11", "--threads many", "invalid digit")),
    ("report", "--gate", |b| b.tells("report ADD -n 11", "--gate NOTHING", "is no gate")),
];

/// Those of the argument parser itself.
const EVERYWHERE: [&str; 2] = ["--help", "--version"];
/// In builds with the feature `server`; `--print-config` is judged where the server is.
const NOT_HERE: [&str; 1] = ["serve"];

/// Flags are tried here: files to try them on, and a folder for what they write.
struct Bench<'a> {
    given: &'a Path,
    written: tempfile::TempDir,
    fresh: Cell<usize>,
}

#[derive(Debug, PartialEq)]
struct Done {
    code: Option<i32>,
    /// Standard output and then standard error.
    told: String,
}

fn repository(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path).to_str().unwrap().to_owned()
}

fn coreml(arguments: &[String]) -> Done {
    let output = Command::new(env!("CARGO_BIN_EXE_coreml")).args(arguments).env_remove("RUST_LOG").output().unwrap();
    let [printed, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    Done { code: output.status.code(), told: format!("\n{printed}{errors}") }
}

impl Bench<'_> {
    /// The file that a word in capitals is.
    fn word(&self, word: &str) -> String {
        let given = |name: &str| self.given.join(name).to_str().unwrap().to_owned();
        match word {
            "ADD" => repository("tests/golden/elementwise/add-same.mlmodel"),
            "SUB" => repository("tests/golden/elementwise/sub-same.mlmodel"),
            "WIDE" => repository("tests/golden/conv/conv-1x1-large.mlmodel"),
            "TWO" => repository("tests/golden/package/functions.mlpackage"),
            "PICTURE" => repository("tests/golden/interface/image-in-rgb.mlmodel"),
            "IMAGED" => repository("tests/golden/interface/image-in-and-out.mlmodel"),
            "DETECTOR" => repository("tests/fixtures/drawn/detector.mlmodel"),
            "WORDS" => repository("tests/fixtures/classic/tree-three-words.mlmodel"),
            "image=PHOTO" => format!("image={}", repository("tests/fixtures/pictures/orientation_6.jpg")),
            "IN" | "X" | "ROWS" | "SOUND" | "NETWORK" | "RECORD" | "BENCHED" | "QUICK" | "PROFILED" | "ANSWER"
            | "NOTHING" => given(&file(word)),
            "FRESH.mlpackage" => {
                self.fresh.set(self.fresh.get() + 1);
                let path = self.written.path().join(format!("{}.mlpackage", self.fresh.get()));
                path.to_str().unwrap().to_owned()
            }
            new if new.starts_with("NEW") => self.written.path().join(new).to_str().unwrap().to_owned(),
            other => match other.split_once('=') {
                Some((name, word)) if word.chars().all(|c| c.is_ascii_uppercase() || c == '_') => {
                    format!("{name}={}", given(&file(word)))
                }
                _ => other.to_owned(),
            },
        }
    }

    fn run(&self, line: &str) -> Done {
        coreml(&line.split(' ').map(|word| self.word(word)).collect::<Vec<_>>())
    }

    /// What the command does without the flag and with it; that is not the same.
    fn both(&self, line: &str, flag: &str) -> [Done; 2] {
        let both = [self.run(line), self.run(&format!("{line} {flag}"))];
        assert_ne!(both[0], both[1], "{line}: {flag} makes no difference");
        both
    }

    fn changes(&self, line: &str, flag: &str) {
        // What differs from run to run is no difference.
        assert_eq!(self.run(line), self.run(line), "{line}: differs by itself");
        self.both(line, flag);
    }

    fn tells(&self, line: &str, flag: &str, words: &str) {
        let [without, with] = self.both(line, flag);
        assert!(!without.told.contains(words), "{line}: says {words:?} by itself: {}", without.told);
        assert!(with.told.contains(words), "{line} {flag}: {}", with.told);
    }

    fn drops(&self, line: &str, flag: &str, words: &str) {
        let [without, with] = self.both(line, flag);
        assert!(without.told.contains(words), "{line}: {}", without.told);
        assert!(with.code == without.code && !with.told.contains(words), "{line} {flag}: {}", with.told);
    }

    fn codes(&self, line: &str, flag: &str, codes: [i32; 2]) {
        let both = self.both(line, flag);
        assert_eq!(both.each_ref().map(|done| done.code), codes.map(Some), "{line} {flag}: {both:?}");
    }

    fn refuses(&self, line: &str, flag: &str, words: &str) {
        let [without, with] = self.both(line, flag);
        assert!(without.code != Some(2), "{line}: {}", without.told);
        assert!(with.code == Some(2) && with.told.contains(words), "{line} {flag}: {}", with.told);
    }

    fn writes(&self, line: &str, flag: &str, name: &str) {
        let path = self.written.path().join(name);
        self.run(line);
        assert!(!path.exists(), "{line}: writes {name} by itself");
        let done = self.run(&format!("{line} {flag}"));
        let length =
            std::fs::metadata(&path).unwrap_or_else(|error| panic!("{line} {flag}: {error}: {}", done.told)).len();
        assert!(length > 0);
    }

    /// The package that is written is smaller with the flag.
    fn shrinks(&self, line: &str, flag: &str) {
        let both = self.both(line, flag);
        assert!(both.iter().all(|done| done.code == Some(0)), "{both:?}");
        let weights = |package: usize| {
            let path = format!("{package}.mlpackage/Data/com.apple.CoreML/weights/weight.bin");
            std::fs::metadata(self.written.path().join(path)).unwrap().len()
        };
        assert!(weights(2) < weights(1), "{} and {}", weights(1), weights(2));
    }
}

/// The name of the file that is given by this word.
fn file(word: &str) -> String {
    match word {
        "RECORD" | "BENCHED" | "QUICK" | "PROFILED" => format!("{word}.json"),
        "ROWS" | "SOUND" | "NETWORK" => format!("{word}.mlmodel"),
        "HUM" => format!("{word}.wav"),
        _ => format!("{word}.npz"),
    }
}

/// Makes the files that commands are given.
fn give(folder: &Path) {
    let path = |word: &str| folder.join(file(word)).to_str().unwrap().to_owned();
    let array = |dims: &[usize], from: f32| {
        let count = u8::try_from(dims.iter().product::<usize>()).unwrap();
        let values = (0..count).map(|i| f32::from(i % 11) / 7.0 - from).collect();
        Array::Tensor(Tensor::new(Shape::new(dims), values).unwrap())
    };
    let four = Array::Tensor(Tensor::new(Shape::new(&[4]), vec![0.5f64, -1.0, 2.0, 0.25]).unwrap());
    npz::write(path("IN"), [("x", &array(&[2, 3, 5], 0.0)), ("y", &array(&[2, 3, 5], 1.0))]).unwrap();
    npz::write(path("X"), [("x", &array(&[2, 3, 5], 2.0))]).unwrap();
    npz::write(path("TWO_X"), [("x", &array(&[2, 12], 0.5))]).unwrap();
    npz::write(path("ANSWER"), [("out", &array(&[2, 3, 5], 0.0))]).unwrap();
    npz::write(path("FOUR"), [("input", &four)]).unwrap();
    std::fs::write(path("ROWS"), coreml_testing::tiny::elementwise_rows_model((1, 8), &[2, 3], &["tanh"])).unwrap();
    std::fs::write(path("SOUND"), coreml_testing::tiny::elementwise_model(&[8], &["tanh"])).unwrap();
    let spec =
        hound::WavSpec { channels: 1, sample_rate: 8000, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut hum = hound::WavWriter::create(path("HUM"), spec).unwrap();
    (0..4i16).for_each(|i| hum.write_sample(i * 1000).unwrap());
    hum.finalize().unwrap();
    // `y = W x` of an inner product.
    let weights = Message::default().number(1, 8).number(2, 8).weights(20, &[0.125; 64]);
    let network = Network::new().input("x", &[8]).output("y", &[8]).layer(140, &weights, &["x"], &["y"]).model(true);
    std::fs::write(path("NETWORK"), network).unwrap();
    let add = repository("tests/golden/elementwise/add-same.mlmodel");
    let say = |line: &str| coreml(&line.split(' ').map(|word| word.replace("ADD", &add)).collect::<Vec<_>>());
    say(&format!("validate ADD -n 11 --output {}", path("RECORD")));
    for (word, line) in [("BENCHED", "bench ADD -n 11 --json"), ("PROFILED", "bench ADD -n 3 --profile --json")] {
        std::fs::write(path(word), say(line).told.trim_start()).unwrap();
    }
    // What predictions took here may spread so far that a factor of four is not sure: times are given, and once a quarter of them.
    let mut benched: Json = serde_json::from_str(&std::fs::read_to_string(path("BENCHED")).unwrap()).unwrap();
    for (word, times) in [("BENCHED", [4.0, 4.2]), ("QUICK", [1.0, 1.05])] {
        for (i, sample) in benched["runs"][0]["latency_ms"]["samples"].as_array_mut().unwrap().iter_mut().enumerate() {
            *sample = times[i % 2].into();
        }
        std::fs::write(path(word), benched.to_string()).unwrap();
    }
}

/// The names of flags in a verb's help.
fn flags(help: &str) -> BTreeSet<String> {
    let flag = |line: &str| {
        let word = line.split([' ', ',']).find(|word| word.starts_with("--"))?;
        Some(word.trim_end_matches(['.', '=']).to_owned())
    };
    help.lines().map(str::trim_start).filter(|line| line.starts_with('-')).filter_map(flag).collect()
}

/// The verbs in the command's help.
fn verbs(help: &str) -> Vec<String> {
    let commands = help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
    let verbs = commands.take_while(|line| line.starts_with("  ")).map(|line| line.split_whitespace().next().unwrap());
    verbs.filter(|verb| *verb != "help" && !NOT_HERE.contains(verb)).map(str::to_owned).collect()
}

#[test]
fn every_flag_has_a_line() {
    let help = |verb: &str| coreml(&[verb, "--help"].map(str::to_owned)).told;
    let whole = coreml(&["--help".to_owned()]).told;
    let verbs = verbs(&whole);
    assert!(verbs.len() >= 11, "{verbs:?}");
    let mut there: BTreeSet<(String, String)> = flags(&whole).into_iter().map(|flag| (String::new(), flag)).collect();
    for verb in &verbs {
        let own = flags(&help(verb)).into_iter().filter(|flag| !there.contains(&(String::new(), flag.clone())));
        let own: Vec<_> = own.map(|flag| (verb.clone(), flag)).collect();
        there.extend(own);
    }
    there.retain(|(_, flag)| !EVERYWHERE.contains(&flag.as_str()));
    let lines: BTreeSet<_> = FLAGS.iter().map(|(verb, flag, _)| ((*verb).to_owned(), (*flag).to_owned())).collect();
    assert_eq!(lines.len(), FLAGS.len(), "a flag has two lines");
    let untried: Vec<_> = there.difference(&lines).collect();
    assert!(untried.is_empty(), "give these a line in FLAGS: {untried:?}");
    let gone: Vec<_> = lines.difference(&there).collect();
    assert!(gone.is_empty(), "these are in FLAGS only: {gone:?}");
}

#[test]
fn every_flag_does_something() {
    let given = tempfile::tempdir().unwrap();
    give(given.path());
    let attempt = |(verb, flag, check): &Line| {
        let bench = Bench { given: given.path(), written: tempfile::tempdir().unwrap(), fresh: Cell::new(0) };
        let done = std::panic::catch_unwind(AssertUnwindSafe(|| check(&bench)));
        done.is_err().then(|| format!("{verb} {flag}"))
    };
    let failed: Vec<_> = FLAGS.iter().filter_map(attempt).collect();
    assert!(failed.is_empty(), "see above what is wrong with {failed:?}");
}

#[test]
fn flags_are_found_in_help() {
    let help = "Usage: x --not\n\nOptions:\n  -v, --verbose...\n          words --no\n      --units <A,B>  x\n  -n\n";
    assert_eq!(flags(help).into_iter().collect::<Vec<_>>(), ["--units", "--verbose"]);
}
