//! Classic models and pipelines of them.

use std::path::Path;

use coreml_anywhere::model::{FeatureKind, Interface};
use coreml_anywhere::{ErrorKind, Inputs, Label, Session};
use coreml_testing::npz::Array;
use serde::Deserialize;

use super::{Arrays, Bound, Comparison, known, labels, matches};

#[derive(Deserialize)]
struct Row {
    name: String,
    types: Vec<String>,
    tol: f64,
    /// Why the model, or its input, must be refused.
    #[serde(default)]
    expect_error: Option<String>,
}

/// The arrays of one prediction as inputs. A dictionary is two arrays; what is missing was left out.
fn inputs<'a>(interface: &Interface, arrays: &'a Arrays, start: &str) -> Inputs<'a> {
    let mut inputs = Inputs::new();
    for feature in &interface.inputs {
        let array = |end: &str| arrays.get(&format!("{start}in:{}{end}", feature.name));
        inputs = match (&feature.kind, array("")) {
            (FeatureKind::Dictionary(_), _) => match (array(".keys"), array(".values")) {
                (Some(keys), Some(Array::Tensor(values))) => {
                    inputs.dictionary(&feature.name, labels(keys).into_iter().zip(values.view().to_f64_vec()))
                }
                _ => inputs,
            },
            (FeatureKind::Sequence(_), Some(elements)) => inputs.sequence(&feature.name, labels(elements)),
            (_, Some(Array::Strings(_, strings))) => inputs.string(&feature.name, &strings[0]),
            (_, Some(Array::Tensor(tensor))) => inputs.tensor(&feature.name, tensor),
            (_, None) => inputs,
        };
    }
    inputs
}

fn run(model: &Path, arrays: &Arrays, row: &Row) -> Result<(), String> {
    let mut starts: Vec<&str> = arrays.keys().filter_map(|key| Some(key.split_at(key.find("in:")?).0)).collect();
    starts.sort_unstable();
    starts.dedup();
    let mut compared = 0;
    let session = match (Session::open(model), &row.expect_error) {
        (Ok(session), _) => session,
        (Err(error), Some(_)) if error.kind() != ErrorKind::Bug => return Ok(()),
        (Err(error), _) => return Err(format!("load: {error}")),
    };
    for start in starts {
        let prediction = session.predict(&inputs(session.interface(), arrays, start));
        let outputs = match (prediction, &row.expect_error) {
            (Ok(_), Some(why)) => return Err(format!("no error: {why}")),
            (Ok(prediction), None) => prediction.into_outputs(),
            (Err(error), Some(_)) if error.kind() == ErrorKind::InvalidInput => return Ok(()),
            (Err(error), _) => return Err(format!("{start}: {error}")),
        };
        for (key, expected) in arrays {
            let Some(name) = key.strip_prefix(&format!("{start}out:")) else { continue };
            let keys = name.strip_suffix(".values").and_then(|name| arrays.get(&format!("{start}out:{name}.keys")));
            matches(
                &outputs,
                name,
                expected,
                keys,
                Comparison { bound: Bound::Element(row.tol.max(1e-6)), squeezed: true },
            )
            .map_err(|why| format!("{key}: {why}"))?;
            compared += 1;
        }
    }
    if compared == 0 { Err("nothing was compared".into()) } else { Ok(()) }
}

/// Runs all models of a folder; how many answer rightly. Any other fails.
fn all(title: &str, folder: &Path) -> usize {
    let rows: Vec<Row> = serde_json::from_str(&std::fs::read_to_string(folder.join("index.json")).unwrap()).unwrap();
    let (mut right, mut wrong) = (0, 0);
    let skipped = |name: &str| std::env::var("COREML_CASES").is_ok_and(|text| !name.contains(&text));
    for row in rows.iter().filter(|row| !skipped(&row.name)) {
        let arrays = coreml_testing::load(folder.join(format!("{}.npz", row.name)));
        match run(&folder.join(format!("{}.mlmodel", row.name)), &arrays, row) {
            Ok(()) => right += 1,
            Err(why) => {
                wrong += 1;
                println!("  FAILED {} ({}): {why}", row.name, row.types.join(", "));
            }
        }
    }
    println!("{title}: {right} right, {wrong} wrong");
    assert_eq!(wrong, 0, "{title} answer wrongly");
    right
}

#[test]
fn classic_models() {
    let Some(folder) = coreml_testing::shared("legacy/classic") else { return };
    let right = all("classic models", &folder);
    if std::env::var("COREML_CASES").is_err() {
        assert!(right >= known::CLASSIC, "{right} answer rightly, {} did", known::CLASSIC);
    }
}

/// Those that are always at hand.
#[test]
fn classic_fixtures() {
    let right = all("classic fixtures", &coreml_testing::repository().join("tests/fixtures/classic"));
    assert!(right > 0 || std::env::var("COREML_CASES").is_ok(), "there are none");
}

#[test]
fn labels_keep_all_digits() {
    let large = (1i64 << 53) + 1;
    let tensor = coreml_anywhere::tensor::Tensor::new([1].into(), vec![large]).unwrap();
    assert_eq!(labels(&Array::Tensor(tensor)), [Label::Int64(large)]);
}
