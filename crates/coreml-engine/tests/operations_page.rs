//! `docs/ops.md` agrees with the operation table. `UPDATE_EXPECT=1 cargo test -p coreml-engine --test operations_page`
//! writes it again.
#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

use std::collections::BTreeSet;
use std::fmt::Write;

use coreml_engine::{OperationInfo, operations, refused};

/// The page: counts by family, a table for each, and what is refused.
fn page() -> String {
    let rows = operations();
    // Families split over several files are one to a reader.
    let family = |row: &OperationInfo| row.family.split('/').next().unwrap_or_default();
    let names = |rows: &[&OperationInfo]| rows.iter().map(|row| row.name).collect::<BTreeSet<_>>().len();
    let families: BTreeSet<&str> = rows.iter().map(family).collect();
    let of = |name: &str| rows.iter().filter(|row| family(row) == name).collect::<Vec<_>>();
    let mut text = String::from(
        "# Operations\n\n\
         What the CPU engine runs, written from its operation table by a test. An operation that changed with a later \
         operation set has a row for each form; the newest not after the program's applies. Operation sets: `CoreML5` is \
         iOS 15, `CoreML6` iOS 16, `CoreML7` iOS 17, `CoreML8` iOS 18, `CoreML9` iOS 26.\n\n\
         Parameters in brackets may be left out; those in italics must be known when the model is loaded.\n\n\
         The family `neural_network`, whose names have a colon, is this library's own: no file of Apple's names these \
         operations. Neural networks are lowered to them where ML Programs have none that says the same.\n\n\
         | family | operations | forms |\n|---|---:|---:|\n",
    );
    for name in &families {
        let rows = of(name);
        writeln!(text, "| [{name}](#{name}) | {} | {} |", names(&rows), rows.len()).unwrap();
    }
    let all: Vec<_> = rows.iter().collect();
    writeln!(text, "| **all** | **{}** | **{}** |", names(&all), rows.len()).unwrap();
    for name in &families {
        write!(text, "\n## {name}\n\n| operation | since | parameters |\n|---|---|---|\n").unwrap();
        for row in of(name) {
            let parameters = row.parameters.iter().map(|parameter| {
                let shown = format!("`{}`", parameter.name);
                let shown = if parameter.constant { format!("*{shown}*") } else { shown };
                if parameter.required { shown } else { format!("[{shown}]") }
            });
            let parameters = parameters.collect::<Vec<_>>().join(" ");
            writeln!(text, "| `{}` | {} | {parameters} |", row.name, row.since).unwrap();
        }
    }
    text += "\n## Refused\n\n| operation | why |\n|---|---|\n";
    for (name, reason) in refused() {
        writeln!(text, "| `{name}` | {reason} |").unwrap();
    }
    text
}

#[test]
fn the_page_is_what_the_table_says() {
    let path = coreml_testing::repository().join("docs/ops.md");
    let page = page();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/ops.md is out of date; UPDATE_EXPECT=1 writes it anew");
}
