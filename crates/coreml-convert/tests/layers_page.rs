//! `docs/layers.md` agrees with the table of layers. `UPDATE_EXPECT=1 cargo test -p coreml-convert --test layers_page`
//! writes it again.
#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

use std::collections::BTreeMap;
use std::fmt::Write;

use coreml_convert::{LayerInfo, layers};

/// The page: a table for each family.
fn page() -> String {
    let all = layers();
    let refused = all.iter().filter(|layer| layer.refused.is_some()).count();
    let mut families: BTreeMap<&str, Vec<LayerInfo>> = BTreeMap::new();
    for &layer in &all {
        families.entry(layer.family).or_default().push(layer);
    }
    let mut text = String::from(
        "# Layers\n\n\
         The types of layers that neural networks have, written from the table of layers by a test. Each is lowered to \
         operations ([ops.md](ops.md)) as a network is loaded. The number is that of the format.\n\n",
    );
    writeln!(text, "{} types, of which {} are lowered and {refused} refused.", all.len(), all.len() - refused).unwrap();
    for (family, layers) in families {
        write!(text, "\n## {family}\n\n| layer | number | state |\n|---|---:|---|\n").unwrap();
        for LayerInfo { name, tag, refused, .. } in layers {
            let state = refused.map_or("lowered".to_owned(), |why| format!("refused: {why}"));
            writeln!(text, "| `{name}` | {tag} | {state} |").unwrap();
        }
    }
    text
}

#[test]
fn the_page_is_what_the_table_says() {
    let path = coreml_testing::repository().join("docs/layers.md");
    let page = page();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/layers.md is out of date; UPDATE_EXPECT=1 writes it anew");
}
