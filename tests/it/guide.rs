//! The guide in `docs/guide`: its links lead somewhere, its pages are compiled, and its lists are complete.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use coreml_anywhere::ErrorKind;
use coreml_anywhere::telemetry::names;
use coreml_testing::repository;

fn pages() -> PathBuf {
    repository().join("docs/guide/src")
}

/// The Markdown files of a folder.
fn markdown(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    files.sort();
    files
}

/// The lines of a page that are text, not code.
fn prose(text: &str) -> Vec<String> {
    let mut code = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
        } else if !code {
            // What is between backticks is no link: every second part.
            lines.push(line.split('`').step_by(2).collect::<Vec<_>>().join("`"));
        }
    }
    lines
}

/// The targets of a page's links.
fn links(text: &str) -> Vec<String> {
    let targets = |line: String| {
        let parts = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        parts.map(|(target, _)| target.to_owned()).collect::<Vec<_>>()
    };
    prose(text).into_iter().flat_map(targets).collect()
}

/// The anchors of a page: those that GitHub and mdBook give its headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut code = false;
    let headings = text.lines().filter(|line| {
        code ^= line.trim_start().starts_with("```");
        !code && line.starts_with('#')
    });
    let mut seen = BTreeMap::<String, usize>::new();
    let anchor = |heading: &str| -> String {
        let kept = heading.trim_start_matches('#').trim().chars();
        let kept = kept.filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>().to_lowercase()
    };
    let mut count = |anchor: String| {
        let times = seen.entry(anchor.clone()).or_default();
        *times += 1;
        if *times == 1 { anchor } else { format!("{anchor}-{}", *times - 1) }
    };
    headings.map(|heading| count(anchor(heading))).collect()
}

/// What is wrong with the links of a file.
fn broken(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let internal = links(&text).into_iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:"));
    let wrong = |link: String| {
        let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
        let target = if path.is_empty() { file.to_owned() } else { file.parent().unwrap().join(path) };
        if !target.exists() {
            return Some(format!("{}: there is no {path}", file.display()));
        }
        let reaches = anchor.is_empty() || anchors(&std::fs::read_to_string(&target).unwrap()).contains(anchor);
        (!reaches).then(|| format!("{}: {path} has no heading #{anchor}", file.display()))
    };
    internal.filter_map(wrong).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut files = markdown(&pages());
    assert!(files.len() > 10, "the guide was not found");
    files.extend(markdown(&repository().join("docs")));
    files.extend(markdown(&repository()));
    let broken: Vec<_> = files.iter().flat_map(|file| broken(file)).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_broken_link_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.md");
    let text = "# One `two`, three\n[a](page.md#one-two-three) [b](#one-two-three) `[no](link.md)`\n\
                ```rust\n# let x = [0](1);\n```\n[c](page.md#let-x--01) [d](gone.md) [e](https://example.org)\n";
    std::fs::write(&page, text).unwrap();
    let told = broken(&page).join("\n");
    assert_eq!(told.lines().count(), 2, "{told}");
    assert!(told.contains("no heading #let-x--01") && told.contains("there is no gone.md"), "{told}");
}

#[test]
fn every_page_is_in_the_table_of_contents_and_compiled() {
    let summary = std::fs::read_to_string(pages().join("SUMMARY.md")).unwrap();
    let listed: BTreeSet<_> = links(&summary).into_iter().collect();
    let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let written: BTreeSet<_> = markdown(&pages()).into_iter().map(name).filter(|name| name != "SUMMARY.md").collect();
    assert_eq!(listed, written, "pages in SUMMARY.md, and pages there are");
    let compiled = std::fs::read_to_string(repository().join("tests/src/lib.rs")).unwrap();
    for page in written {
        let text = std::fs::read_to_string(pages().join(&page)).unwrap();
        let has_code = text.lines().any(|line| line.starts_with("```rust"));
        assert!(!has_code || compiled.contains(&format!("/{page}\")]")), "{page} has no line in tests/src/lib.rs");
        // Rivals' code needs their crates; ours is always compiled.
        let spared = text.lines().filter(|line| line.starts_with("```rust") && line.contains("ignore")).count();
        assert!(spared == 0 || page == "migrating.md", "{page} has code that nothing compiles");
    }
}

/// The page of all metrics, from their table.
fn metrics() -> String {
    let mut text = String::from(
        "# All metrics\n\n\
         Written from the table `telemetry::names` by a test. [Telemetry](telemetry.md) tells how to read them.\n\n\
         | metric | kind | unit | labels | what it is |\n|---|---|---|---|---|\n",
    );
    for spec in names::ALL {
        let kind = format!("{:?}", spec.kind).to_lowercase();
        let labels: Vec<_> = spec.labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
        writeln!(text, "| `{}` | {kind} | {} | {labels} | {} |", spec.name, spec.unit, spec.help).unwrap();
    }
    text
}

/// `UPDATE_EXPECT=1 cargo test -p coreml-tests --test it guide` writes it anew.
#[test]
fn the_page_of_metrics_is_what_their_table_says() {
    let path = pages().join("metrics.md");
    let page = metrics();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/guide/src/metrics.md is out of date; UPDATE_EXPECT=1 writes it anew");
}

/// The variants of the public error enum, from its source: it is `non_exhaustive`, so that no `match` here would notice a new one.
fn error_kinds() -> Vec<String> {
    let source = std::fs::read_to_string(repository().join("crates/coreml-core/src/error.rs")).unwrap();
    let (_, rest) = source.split_once("pub enum ErrorKind {").unwrap();
    let (body, _) = rest.split_once("\n}").unwrap();
    let lines = body.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    lines.map(|line| line.trim_end_matches(',').to_owned()).collect()
}

#[test]
fn every_kind_of_error_is_explained() {
    let page = std::fs::read_to_string(pages().join("errors.md")).unwrap();
    let kinds = error_kinds();
    assert!(kinds.len() >= 9 && kinds.contains(&format!("{:?}", ErrorKind::Bug)), "{kinds:?}");
    let headings: BTreeSet<_> = page.lines().filter(|line| line.starts_with("## ")).collect();
    let known = |name: &str| ErrorKind::from_name(name).map(|kind| format!("{kind:?}"));
    for kind in kinds {
        assert!(headings.contains(format!("## `{kind}`").as_str()), "errors.md has no heading for {kind}");
        let mut name = String::new();
        for c in kind.chars() {
            if c.is_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.extend(c.to_lowercase());
        }
        assert_eq!(known(&name).as_deref(), Some(kind.as_str()), "{kind} goes by another name than `{name}`");
        assert!(page.contains(&format!("| [`{name}`](#")), "errors.md does not list {name}");
    }
}
