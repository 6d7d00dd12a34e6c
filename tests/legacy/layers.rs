//! Every type of layer in a network of its own, made by `scripts/make_layer_cases.py`, with NumPy's answers.

use std::collections::BTreeSet;

use coreml_anywhere::model::{Fields, Limits, Package};
use coreml_testing::npz::Array;

use super::*;

/// Cases by name: the bytes of the model, inputs and answers.
pub(super) fn cases() -> BTreeMap<String, (Vec<u8>, Arrays)> {
    let mut cases: BTreeMap<String, (Vec<u8>, Arrays)> = BTreeMap::new();
    for (key, array) in coreml_testing::load(coreml_testing::repository().join("tests/fixtures/layers.npz")) {
        let (name, role) = key.split_once('/').unwrap();
        let (model, arrays) = cases.entry(name.to_owned()).or_default();
        match (role, &array) {
            ("model", Array::Tensor(bytes)) => *model = bytes.as_slice::<u8>().unwrap().to_vec(),
            _ => _ = arrays.insert(role.to_owned(), array),
        }
    }
    cases
}

/// The tags of all layers of a network, those within branches and loops too.
fn tags(network: Fields<'_>, found: &mut BTreeSet<u32>) {
    for layer in network.messages(1).unwrap() {
        for tag in layer.numbers().unwrap().into_iter().filter(|&tag| tag >= 100) {
            found.insert(tag);
            let holder = layer.message(tag).unwrap().unwrap();
            // Both parts of a branch, a loop's condition and body.
            let nested: &[u32] = match tag {
                605 => &[1, 2],
                615 => &[4, 5],
                _ => &[],
            };
            nested.iter().filter_map(|&part| holder.message(part).unwrap()).for_each(|part| tags(part, found));
        }
    }
}

#[test]
fn every_layer_answers_as_numpy_does() {
    let mut suite = Suite::new("layers of our own");
    for (name, (model, arrays)) in cases() {
        let (bound, prefix) = match arrays.keys().any(|key| key.starts_with("shape:")) {
            true => (Bound::Drawn, "shape:"),
            false => (Bound::Element(1e-5), "out:"),
        };
        suite.judge(&name, &Source::Bytes(&model), &arrays, &[prefix], Comparison { bound, squeezed: false });
    }
    suite.finish(200);
}

#[test]
fn every_type_of_layer_has_a_case() {
    let mut found = BTreeSet::new();
    for (name, (model, _)) in cases() {
        let package = Package::from_parts(&model, None, &Limits::default()).unwrap();
        let network = package.model().network().unwrap_or_else(|| panic!("{name} is no network"));
        tags(network.fields(), &mut found);
    }
    let missing: Vec<_> = coreml_convert::layers()
        .into_iter()
        .filter(|layer| layer.refused.is_none() && !found.contains(&layer.tag))
        .collect();
    assert!(missing.is_empty(), "layers without a case: {missing:?}");
}
