//! `docs/model-types.md` agrees with the tables. `UPDATE_EXPECT=1 cargo test -p coreml-classic --test model_types_page`
//! writes it again.
#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

use std::fmt::Write;

use coreml_classic::TYPES;
use coreml_model::REFUSED_TYPES;

/// Types that other crates run: their numbers in the format, names and notes.
const OTHERS: &[(u32, &str, &str)] = &[
    (200, "pipelineClassifier", "members of any type, pipelines among them"),
    (201, "pipelineRegressor", "as `pipelineClassifier`"),
    (202, "pipeline", "as `pipelineClassifier`"),
    (303, "neuralNetworkRegressor", "as `neuralNetwork`"),
    (403, "neuralNetworkClassifier", "as `neuralNetwork`"),
    (500, "neuralNetwork", "lowered to an ML Program; layers that are not supported yet are refused by name"),
    (502, "mlProgram", "see [operations](ops.md)"),
    (556, "linkedModel", "a `.mlmodel` or `.mlpackage` beside the model; paths that lead out are refused"),
];

fn page() -> String {
    let mut rows: Vec<_> =
        TYPES.iter().map(|row| (row.tag, row.name, row.notes)).chain(OTHERS.iter().copied()).collect();
    rows.sort_unstable();
    let mut text = String::from(
        "# Model types\n\n\
         Which of the format's types of models the CPU engine runs, written from its tables by a test. Within a pipeline \
         integers and doubles become each other where that is exact, and an array may have another shape with as many \
         elements.\n\n\
         | type | number | notes |\n|---|---:|---|\n",
    );
    for (tag, name, notes) in &rows {
        writeln!(text, "| `{name}` | {tag} | {notes} |").unwrap();
    }
    text += "\n## Refused\n\n| type | why | instead |\n|---|---|---|\n";
    for row in REFUSED_TYPES {
        writeln!(text, "| `{}` | {} | {} |", row.name, row.why, row.instead).unwrap();
    }
    text
}

#[test]
fn the_page_is_what_the_tables_say() {
    let path = coreml_testing::repository().join("docs/model-types.md");
    let page = page();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/model-types.md is out of date; UPDATE_EXPECT=1 writes it anew");
}
