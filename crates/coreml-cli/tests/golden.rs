//! Compares what people read on standard output and standard error with files in `golden/`, one for each subcommand.
//!
//! `UPDATE_GOLDEN=1 cargo test -p coreml-cli --test golden` writes them again; reading the difference is then the test.
//! Anything that differs from run to run is replaced: measured numbers by their unit (`<ms>`), facts of the machine by
//! `<machine>`, temporary folders by `<scratch>`, the version by `<version>`. Columns are aligned again after that.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Units of numbers that are measured.
const UNITS: [&str; 5] = ["ms", "µs", "us", "GFLOP/s", "1/s"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A command that is run where the repository is, and what is replaced in what it says.
struct Case<'a> {
    line: &'a str,
    mask: &'a dyn Fn(&str) -> String,
}

fn case(line: &str) -> Case<'_> {
    Case { line, mask: &measured }
}

fn masked<'a>(line: &'a str, mask: &'a dyn Fn(&str) -> String) -> Case<'a> {
    Case { line, mask }
}

/// Holds what the commands say against the file of this name. `{scratch}` in a command is an empty folder.
fn golden(name: &str, cases: &[Case<'_>]) {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().to_str().unwrap();
    let mut told = String::new();
    for Case { line, mask } in cases {
        let arguments = line.split(' ').map(|word| word.replace("{scratch}", folder));
        let output = Command::new(env!("CARGO_BIN_EXE_coreml"))
            .args(arguments)
            .current_dir(repository())
            .env_remove("RUST_LOG")
            .output()
            .unwrap();
        let text = |bytes: &[u8]| mask(&replace_known(std::str::from_utf8(bytes).unwrap(), folder));
        let shown = line.replace("{scratch}", "<scratch>");
        told += &format!("$ coreml {shown}\n{}", text(&output.stdout));
        let errors = text(&output.stderr);
        if !errors.is_empty() {
            told += &format!("--- standard error\n{errors}");
        }
        if output.status.code() != Some(0) {
            told += &format!("--- exit code {}\n", output.status.code().unwrap());
        }
        told.push('\n');
    }
    compare_with(name, &told);
}

fn compare_with(name: &str, told: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, told).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    if told != expected {
        let different = |(found, expected): (&str, &str)| found != expected;
        let line = told.lines().zip(expected.lines()).position(different);
        let line = line.unwrap_or_else(|| told.lines().count().min(expected.lines().count()));
        panic!(
            "{} differs from line {} on (UPDATE_GOLDEN=1 writes it anew):\n  expected {:?}\n  found    {:?}\n\n{told}",
            path.display(),
            line + 1,
            expected.lines().nth(line),
            told.lines().nth(line),
        );
    }
}

/// Without what depends on where and when the test runs.
fn replace_known(text: &str, scratch: &str) -> String {
    let text = text.replace(scratch, "<scratch>").replace(env!("CARGO_PKG_VERSION"), "<version>");
    // Some messages name a file by its whole path.
    let root = repository().canonicalize().unwrap();
    let text = text.replace(root.to_str().unwrap(), "<repository>");
    let text = text.replace("This is a debug build: its times say nothing about speed.\n", "");
    let text = text.replace(" (debug build: slow)", "");
    let line = |line: &str| match line.split_once(' ') {
        // Lines of the log begin with the time.
        Some((time, rest)) if time.ends_with('Z') && time.contains('T') => format!("<time> {}\n", rest.trim_start()),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// Numbers before a unit of something measured become that unit.
fn measured(text: &str) -> String {
    let words = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let word = |(i, word): (usize, &&str)| {
            let unit = words.get(i + 1).map(|unit| unit.trim_end_matches([',', '.', ';', ')']));
            let number = word.trim_start_matches('(');
            let open = &word[..word.len() - number.len()];
            match unit.filter(|unit| UNITS.contains(unit) && number.parse::<f64>().is_ok()) {
                Some(unit) => format!("{open}<{unit}>"),
                None => (*word).to_owned(),
            }
        };
        words.iter().enumerate().map(word).collect::<Vec<_>>().join(" ") + "\n"
    };
    text.lines().map(words).collect()
}

/// The cells of Markdown tables in columns of these titles become `<title>`; columns are aligned again.
fn columns(text: &str, measured: &[&str]) -> String {
    let mut out = String::new();
    let lines: Vec<&str> = text.lines().collect();
    for block in lines.chunk_by(|a, b| a.starts_with('|') == b.starts_with('|')) {
        if !block[0].starts_with('|') {
            block.iter().for_each(|line| out += &format!("{line}\n"));
            continue;
        }
        let cells =
            |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
        let mut rows: Vec<Vec<String>> = block.iter().map(|line| cells(line)).collect();
        let titles = rows[0].clone();
        for row in &mut rows[2..] {
            for (cell, title) in row.iter_mut().zip(&titles) {
                if measured.contains(&title.as_str()) && cell != "-" {
                    *cell = format!("<{title}>");
                }
            }
        }
        let width =
            |i: usize| rows.iter().enumerate().filter(|(r, _)| *r != 1).map(|(_, row)| row[i].chars().count()).max();
        let widths: Vec<usize> = (0..titles.len()).map(|i| width(i).unwrap()).collect();
        for (r, row) in rows.iter().enumerate() {
            for (cell, width) in row.iter().zip(&widths) {
                let right = rows[1][0].is_empty() || cell.parse::<f64>().is_ok();
                out += &match r {
                    1 if cell.ends_with(':') => format!("|{}:", "-".repeat(width + 1)),
                    1 => format!("|{}", "-".repeat(width + 2)),
                    _ if right => format!("| {cell:>width$} "),
                    _ => format!("| {cell:width$} "),
                };
            }
            out += "|\n";
        }
    }
    out
}

/// Lines that begin with one of these words say something of the machine.
fn machine(text: &str, words: &[&str]) -> String {
    let line = |line: &str| {
        let word = words.iter().find(|word| line.trim_start().starts_with(**word));
        word.map_or_else(
            || format!("{line}\n"),
            |word| {
                let begin = line.find(word).unwrap() + word.len();
                let gap = line[begin..].chars().take_while(|c| *c == ' ').count().max(1);
                format!("{}{}<machine>\n", &line[..begin], " ".repeat(gap))
            },
        )
    };
    text.lines().map(line).collect()
}

/// Only the lines that this says.
fn only(text: &str, keep: impl Fn(&str) -> bool) -> String {
    text.lines().filter(|line| keep(line)).map(|line| format!("{line}\n")).collect()
}

const ADD: &str = "tests/golden/elementwise/add-same.mlmodel";
const SUB: &str = "tests/golden/elementwise/sub-same.mlmodel";

#[test]
fn inspect() {
    let memory = |text: &str| machine(text, &["works in"]);
    golden(
        "inspect",
        &[
            masked(&format!("inspect {ADD}"), &memory),
            masked("inspect tests/golden/compression/chain-int8-table.mlmodel", &memory),
            masked("inspect tests/golden/state/accumulator.mlmodel", &memory),
            masked("inspect tests/fixtures/classic/pipeline-program-and-tree.mlmodel", &memory),
            masked("inspect tests/fixtures/classic/pipeline-network-and-suppression.mlmodel", &memory),
            case(&format!("inspect {ADD} --stage program")),
            case(&format!("inspect {ADD} --stage graph")),
            case(&format!("inspect {ADD} --stage plan")),
            case("inspect tests/fixtures/classic/boosted-two.mlmodel --stage program"),
            case(&format!("inspect {ADD} --graph {{scratch}}/add.svg")),
            case(&format!("inspect {ADD} --graph {{scratch}}/add.png")),
            case(&format!("inspect {ADD} --graph {{scratch}}/add.svg --stage graph")),
            case("inspect tests/fixtures/classic/boosted-two.mlmodel --graph {scratch}/a.svg --stage program"),
        ],
    );
}

#[test]
fn ops() {
    let first = |text: &str| {
        let Some(last) = text.lines().last() else { return String::new() };
        text.lines().take(4).chain(["…", last]).map(|line| format!("{line}\n")).collect()
    };
    golden(
        "ops",
        &[
            masked("ops", &first),
            case(&format!("ops {ADD}")),
            case("ops tests/fixtures/classic/boosted-two.mlmodel"),
            case("ops tests/fixtures/classic/pipeline-network-and-suppression.mlmodel"),
        ],
    );
}

#[test]
fn run() {
    golden(
        "run",
        &[case(
            "run tests/fixtures/models/EfficientNetLite0.mlpackage --input image=tests/fixtures/images/chelsea.png --top 2",
        )],
    );
}

#[test]
fn bench() {
    let times = ["p50 ms", "± %", "min ms", "mean ms", "a second", "first ms", "load ms"];
    let table = |text: &str| {
        let text = only(text, |line| !line.contains("far above the others") && !line.contains("wide: take more"));
        let text = columns(&text, &times);
        let heading = |line: &str| match line.split_once(", ") {
            Some((model, rest)) if rest.contains("processors") => format!("{model}, <machine>\n"),
            _ => format!("{line}\n"),
        };
        text.lines().map(heading).collect::<String>().replace("\n\n\n", "\n\n")
    };
    golden("bench", &[masked(&format!("bench {ADD} -n 20 --threads 1"), &table)]);
}

#[test]
fn compare() {
    golden(
        "compare",
        &[
            case(&format!("compare {ADD} --plans")),
            case(&format!("compare {ADD} --with {ADD}")),
            case(&format!("compare {ADD} --plans --per-op")),
            case(&format!("compare {ADD} --with tests/fixtures/classic/boosted-two.mlmodel")),
        ],
    );
}

#[test]
fn convert() {
    golden(
        "convert",
        &[
            case(&format!("convert {ADD} {{scratch}}/new.mlpackage")),
            case(&format!("convert {ADD} {{scratch}}/new.mlpackage")),
            case(&format!("convert {ADD} {{scratch}}/new.mlmodelc --no-check")),
            case(&format!("convert {ADD} {{scratch}}/new.onnx")),
        ],
    );
}

#[test]
fn completions_and_manual() {
    let verbs = |text: &str| {
        let verbs = only(text, |line| line.starts_with("complete -c coreml -n \"__fish_coreml_needs_command\" -f -a"));
        // The server is in some builds only.
        only(&verbs, |line| !line.contains("-a \"serve\""))
    };
    golden("completions", &[masked("completions fish", &verbs)]);
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().to_str().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_coreml")).args(["man", folder]).output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    let page = std::fs::read_to_string(scratch.path().join("coreml-ops.1")).unwrap();
    compare_with("man", &replace_known(&page, folder));
}

#[test]
fn validate_and_report() {
    let verdicts = |text: &str| {
        // Each verdict is what may differ: how long a prediction took, and what the machine lacks.
        let from = text.find("Gate C").unwrap_or(text.len());
        let known = |line: &str| match line.trim_start().split_once("  ") {
            Some((criterion, _)) => format!("  {criterion}\n"),
            None => format!("{line}\n"),
        };
        text[from..].lines().map(known).collect()
    };
    golden("validate", &[masked(&format!("validate {ADD} -n 100"), &verdicts)]);
    golden(
        "report",
        &[
            case(&format!("report {ADD} -n 20 -o {{scratch}}/page.html")),
            case("report tests/golden/index.json"),
            case("report {scratch}/nothing.json"),
        ],
    );
}

#[test]
fn doctor() {
    if cfg!(feature = "coreml") {
        // What it says of Core ML is the machine's.
        return;
    }
    let facts = ["system", "processors", "processor", "memory", "caches", "instructions"];
    golden("doctor", &[masked("doctor", &|text| measured(&machine(text, &facts)))]);
}

#[test]
fn errors() {
    golden(
        "errors",
        &[
            case("inspect tests/fixtures/nothing.mlpackage"),
            case("inspect tests/fixtures/README.md"),
            case("inspect tests/fixtures"),
            case(&format!("inspect {ADD} --function other")),
            case(&format!("run {ADD}")),
            case(&format!("run {ADD} --input z=tests/fixtures/images/chelsea.png")),
            case(&format!("run {ADD} --backend reference --low-precision always")),
            case(&format!("compare {ADD}")),
            case(&format!("compare {ADD} --with {SUB} --reference x.npz")),
            case(&format!("bench {ADD} -n 0")),
            case("inspect"),
            case("inspect --jsn"),
            case("inspect --json tests/fixtures/nothing.mlpackage"),
        ],
    );
}

/// What is replaced is replaced whole, and nothing else.
#[test]
fn masks_leave_what_is_not_measured() {
    assert_eq!(measured("took 1.25 ms, (3.5e-1 µs) of 12 steps\n"), "took <ms> ms, (<µs> µs) of 12 steps\n");
    let table = "a\n| what | p50 ms |\n|------|-------:|\n| x    |   1.25 |\n| long |      - |\nb\n";
    let shown = "a\n| what | p50 ms   |\n|------|---------:|\n| x    | <p50 ms> |\n| long | -        |\nb\n";
    assert_eq!(columns(table, &["p50 ms"]), shown);
    assert_eq!(machine("  works in  12 MB\nx\n", &["works in"]), "  works in  <machine>\nx\n");
    assert_eq!(replace_known("2026-01-01T00:00:00Z  WARN x\ny\n", "/s"), "<time> WARN x\ny\n");
}
