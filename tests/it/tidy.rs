//! Checks the rules of the repository; a failure says what to do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coreml_testing::repository;

/// Which of our crates each may depend on, development dependencies apart. A new edge is an event: add it here, and to
/// docs/architecture.md, with a reason in the commit.
const EDGES: &[(&str, &[&str])] = &[
    ("anywhere", &["core", "engine", "bridge", "isolation", "model", "telemetry", "tensor"]),
    // Needs nothing of ours, so that it can be model-checked and mutated in seconds.
    ("breaker", &[]),
    ("bridge", &["core", "model", "tensor"]),
    ("classic", &["core", "model", "tensor"]),
    ("cli", &["anywhere", "engine", "gate", "model", "server", "tensor"]),
    ("convert", &["model", "tensor"]),
    ("core", &["breaker", "tensor", "model", "telemetry"]),
    ("engine", &["classic", "convert", "core", "model", "tensor", "kernels"]),
    // Judges by what everybody has: the public surface.
    ("gate", &["anywhere"]),
    ("isolation", &["core", "model", "tensor"]),
    ("kernels", &[]),
    ("model", &["tensor"]),
    // Has a workspace of its own.
    ("python", &["anywhere"]),
    // What everybody has, over a network.
    ("server", &["anywhere"]),
    ("telemetry", &[]),
    ("tensor", &[]),
    ("testing", &["tensor", "model", "core"]),
    // Not the facade, whose isolation browsers cannot do.
    ("web", &["core", "engine", "model"]),
];

/// The homes of `unsafe`.
const UNSAFE: [&str; 2] = ["bridge", "kernels"];

fn crates() -> BTreeMap<String, PathBuf> {
    let folders = std::fs::read_dir(repository().join("crates")).unwrap();
    let crates = folders.map(|folder| folder.unwrap()).filter(|folder| folder.path().join("Cargo.toml").is_file());
    crates.map(|folder| (folder.file_name().into_string().unwrap().replace("coreml-", ""), folder.path())).collect()
}

#[test]
fn crates_depend_only_on_those_allowed() {
    let allowed: BTreeMap<_, _> = EDGES.iter().copied().collect();
    for (name, path) in crates() {
        let allowed = allowed.get(name.as_str()).unwrap_or_else(|| panic!("crate {name} has no line in EDGES"));
        let manifest = std::fs::read_to_string(path.join("Cargo.toml")).unwrap();
        let mut section = "";
        for line in manifest.lines() {
            if line.starts_with('[') {
                section = line;
            }
            let Some(dependency) = line.strip_prefix("coreml-") else { continue };
            let dependency = dependency.split(['.', ' ', '=']).next().unwrap();
            let counted = section == "[dependencies]" || section.starts_with("[target");
            let told =
                format!("coreml-{name} depends on coreml-{dependency}, which EDGES in tests/it/tidy.rs does not allow");
            assert!(!counted || allowed.contains(&dependency), "{told}");
        }
    }
}

#[test]
fn unsafe_is_forbidden_outside_its_two_homes() {
    for (name, path) in crates() {
        let roots = ["src/lib.rs", "src/main.rs"].map(|root| path.join(root));
        for root in roots.iter().filter(|root| root.is_file()) {
            let forbids = std::fs::read_to_string(root).unwrap().contains("#![forbid(unsafe_code)]");
            let home = UNSAFE.contains(&name.as_str());
            assert!(forbids || home, "{} must say #![forbid(unsafe_code)]", root.display());
        }
    }
}

fn texts(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !["target", ".git", "fixtures", ".venv", "node_modules"].contains(&name.as_str()) {
                texts(&path, found);
            }
        } else if ["rs", "toml", "md", "py", "swift", "h"]
            .iter()
            .any(|wanted| path.extension().is_some_and(|e| e == *wanted))
        {
            found.push(path);
        }
    }
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    // Put together here, so that this file does not match itself.
    let forbidden = ["/home", "/root", "/Users", "/work"].map(|start| format!("{start}/"));
    let mut files = Vec::new();
    texts(&repository(), &mut files);
    assert!(files.len() > 50, "the repository was not found");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for forbidden in &forbidden {
            assert!(!text.contains(forbidden.as_str()), "{} names a path of one machine: {forbidden}", file.display());
        }
    }
}

/// The layers of the engine, lowest first: each file or folder of `coreml-engine/src` may import those of earlier lines, and
/// of its own line. Read in this order, nothing needs a later one.
const ENGINE_LAYERS: &[&[&str]] = &[
    // Values, what is kept between runs, what plans compute with.
    &["value", "compute", "state", "error", "workspace"],
    // What a run may take, constants, and what plans share of them.
    &["ledger", "literal", "forms"],
    // The contract of an operation.
    &["op"],
    // The table of operations.
    &["ops"],
    // How a plan is made.
    &["options"],
    // The graph and its builder.
    &["graph"],
    // The forms that passes put in operations' stead.
    &["lowered"],
    // Passes, memory, executor.
    &["plan"],
    // The plans of a model, the backend, its pipelines, outlines, profiles, where plans diverge.
    &["plans", "backend", "pipeline", "outline", "profile", "as_program", "cut", "divergence"],
];

#[test]
fn the_engine_s_imports_follow_its_layers() {
    let layer = |name: &str| ENGINE_LAYERS.iter().position(|layer| layer.contains(&name));
    let source = repository().join("crates/coreml-engine/src");
    let mut files = Vec::new();
    texts(&source, &mut files);
    let mut imports = 0;
    for file in files {
        let inside = file.strip_prefix(&source).unwrap();
        let own = inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
        let path = inside.to_str().unwrap().replace('\\', "/");
        // Tests plan and run what they test.
        let is_test =
            ["ops/properties", "ops/robustness", "ops/testing", "tests.rs"].iter().any(|test| path.contains(test));
        if own == "lib" || is_test {
            continue;
        }
        let from = layer(own).unwrap_or_else(|| panic!("{path} has no line in ENGINE_LAYERS"));
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for (_, rest) in code.match_indices("crate::").map(|(at, word)| code[at..].split_at(word.len())) {
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let Some(to) = layer(&name) else { continue };
            imports += 1;
            assert!(to <= from, "{path} imports `{name}`, a later layer; see ENGINE_LAYERS in tests/it/tidy.rs");
        }
    }
    assert!(imports > 100, "only {imports} imports were found");
}

/// What computes a model's answers reaches nothing outside the process, whatever the model says.
#[test]
fn engines_touch_no_file_network_clock_or_environment() {
    let forbidden = ["fs", "net", "env", "process", "os"].map(|module| format!("std::{module}"));
    let clocks = ["Instant::now", "SystemTime"].map(str::to_owned);
    let mut looked_at = 0;
    for name in ["engine", "classic", "convert"] {
        let source = repository().join(format!("crates/coreml-{name}/src"));
        let mut files = Vec::new();
        texts(&source, &mut files);
        for file in files {
            let inside = file.strip_prefix(&source).unwrap().to_string_lossy().replace('\\', "/");
            let is_test = ["ops/properties", "ops/robustness", "ops/testing", "tests.rs"].iter();
            if is_test.clone().any(|test| inside.contains(test)) {
                continue;
            }
            let text = std::fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            looked_at += 1;
            for word in forbidden.iter().chain(&clocks) {
                assert!(!code.contains(word.as_str()), "coreml-{name}/src/{inside} names `{word}`");
            }
        }
    }
    assert!(looked_at > 60, "only {looked_at} files were found");
}
