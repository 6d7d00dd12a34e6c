//! A valid model of each type, with an input and the answer worked out by hand from the format's formulas.

use std::slice::from_ref;

use coreml_anywhere::tensor::{Shape, Tensor};
use coreml_anywhere::{Inputs, Label, Value};
use coreml_testing::wire::{Message, Type, feature, members, model, optional};

/// A model and one prediction.
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) model: Message,
    pub(crate) inputs: Inputs<'static>,
    pub(crate) outputs: Vec<(&'static str, Value)>,
}

pub(crate) fn array(values: &[f64]) -> Tensor {
    Tensor::new(Shape::from([values.len()]), values.to_vec()).unwrap()
}

fn matrix(columns: usize, values: &[f64]) -> Tensor {
    Tensor::new(Shape::from([values.len() / columns, columns]), values.to_vec()).unwrap()
}

fn label(name: &str) -> Label {
    Label::String(name.into())
}

fn by_string(entries: &[(&str, f64)]) -> Value {
    Value::Dictionary(entries.iter().map(|(name, value)| (label(name), *value)).collect())
}

fn by_int64(entries: &[(i64, f64)]) -> Value {
    Value::Dictionary(entries.iter().map(|(key, value)| (Label::Int64(*key), *value)).collect())
}

fn x(values: &[f64]) -> Inputs<'static> {
    Inputs::new().owned_tensor("x", array(values))
}

fn gaussian(mean: f64, precision: f64) -> Message {
    Message::new().double(1, mean).double(2, precision)
}

/// A node that goes on at one of two others.
pub(crate) fn branch(tree: i64, id: i64, behavior: i64, feature: i64, threshold: f64, next: [i64; 2]) -> Message {
    let node = Message::new().int(1, tree).int(2, id).int(3, behavior).int(10, feature).double(11, threshold);
    node.int(12, next[0]).int(13, next[1])
}

/// A node that ends a walk with these numbers for these scores.
pub(crate) fn leaf(tree: i64, id: i64, values: &[(i64, f64)]) -> Message {
    let node = Message::new().int(1, tree).int(2, id).int(3, 6);
    values.iter().fold(node, |node, &(score, value)| node.message(20, &Message::new().int(1, score).double(2, value)))
}

/// An ensemble of these nodes.
pub(crate) fn ensemble(nodes: &[Message], scores: i64, base: &[f64]) -> Message {
    let ensemble = nodes.iter().fold(Message::new(), |ensemble, node| ensemble.message(1, node));
    Message::new().message(1, &ensemble.int(2, scores).doubles(3, base))
}

/// Two trees whose nodes are in no order and whose numbers have gaps.
pub(crate) fn two_trees() -> Vec<Message> {
    vec![
        leaf(7, 30, &[(0, 4.0)]),
        branch(7, 9, 3, 1, 0.5, [30, 2]),
        leaf(1, 1, &[(0, 1.0)]),
        leaf(7, 2, &[(0, -4.0)]),
        branch(1, 0, 0, 0, 2.0, [1, 5]).int(14, 1),
        leaf(1, 5, &[(0, 2.0)]),
    ]
}

/// Weights of a linear model, a row for each sum.
pub(crate) fn weights(rows: &[&[f64]], offsets: &[f64]) -> Message {
    let rows = rows.iter().fold(Message::new(), |model, row| model.message(1, &Message::new().doubles(1, row)));
    rows.doubles(2, offsets)
}

fn vectors(rows: &[&[f64]]) -> Message {
    rows.iter().fold(Message::new(), |vectors, row| vectors.message(1, &Message::new().doubles(1, row)))
}

fn kernel(number: u32, parameters: &Message) -> Message {
    Message::new().message(number, parameters)
}

fn classes() -> [Message; 2] {
    [feature("label", Type::String), feature("p", Type::ByString)]
}

const CLASSES: [&str; 2] = ["label", "p"];

fn regressor(name: &'static str, tag: u32, parameters: &Message, values: &[f64], y: f64) -> Sample {
    let inputs = [feature("x", Type::Array(&[values.len() as i64]))];
    let model = model(tag, parameters, &inputs, &[feature("y", Type::Double)], &["y"]);
    Sample { name, model, inputs: x(values), outputs: vec![("y", Value::Double(y))] }
}

fn classifier(name: &'static str, tag: u32, parameters: &Message, values: &[f64], p: &[(&str, f64)]) -> Sample {
    let inputs = [feature("x", Type::Array(&[values.len() as i64]))];
    let model = model(tag, parameters, &inputs, &classes(), &CLASSES);
    let best = p.iter().rev().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0;
    let outputs = vec![("label", Value::String(best.into())), ("p", by_string(p))];
    Sample { name, model, inputs: x(values), outputs }
}

/// From one feature to another.
fn turned(
    name: &'static str,
    tag: u32,
    parameters: &Message,
    types: [Type<'_>; 2],
    inputs: Inputs<'static>,
    y: Value,
) -> Sample {
    let model = model(tag, parameters, &[feature("x", types[0])], &[feature("y", types[1])], &[]);
    Sample { name, model, inputs, outputs: vec![("y", y)] }
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

pub(crate) fn samples() -> Vec<Sample> {
    let mut samples = vec![
        regressor("glmRegressor", 300, &weights(&[&[2.0, -1.0]], &[0.5]), &[3.0, 1.0], 5.5),
        regressor("glmRegressor", 300, &weights(&[&[2.0, -1.0]], &[]).int(3, 1), &[1.0, 2.0], 0.5),
        regressor("treeEnsembleRegressor", 302, &ensemble(&two_trees(), 1, &[10.0]), &[3.0, 0.75], 16.0),
        regressor("treeEnsembleRegressor", 302, &ensemble(&two_trees(), 1, &[]), &[f64::NAN, f64::NAN], -3.0),
        classifier(
            "treeEnsembleClassifier",
            402,
            &ensemble(&two_trees(), 1, &[]).int(2, 2).strings(100, &["no", "yes"]),
            &[0.0, 0.0],
            &[("no", 1.0 - logistic(-3.0)), ("yes", logistic(-3.0))],
        ),
        classifier(
            "glmClassifier",
            400,
            &weights(&[&[1.0, 0.0], &[0.0, 1.0], &[0.0, 0.0]], &[]).int(4, 1).strings(100, &["a", "b", "c"]),
            &[0.0, 0.0],
            &[("a", 1.0 / 3.0), ("b", 1.0 / 3.0), ("c", 1.0 / 3.0)],
        ),
        classifier(
            "glmClassifier",
            400,
            &weights(&[&[1.0, 1.0]], &[0.0]).strings(100, &["a", "b"]),
            &[0.5, 0.5],
            &[("a", 1.0 - logistic(1.0)), ("b", logistic(1.0))],
        ),
    ];
    samples.extend(machines());
    samples.extend(features());
    samples.extend(others());
    samples.extend(pipelines());
    samples
}

fn machines() -> Vec<Sample> {
    let machine = |kernel: Message, dense: &[&[f64]], coefficients: &[f64], rho: f64| {
        let machine = Message::new().message(1, &kernel).message(3, &vectors(dense));
        machine.message(4, &Message::new().doubles(1, coefficients)).double(5, rho)
    };
    let poly = kernel(3, &Message::new().int(1, 2).double(2, 1.0).double(3, 0.5));
    let linear = kernel(1, &Message::new());
    let sparse = [(1, 1.0), (3, 2.0)].into_iter().fold(Message::new(), |vector, (index, value)| {
        vector.message(1, &Message::new().int(1, index).double(2, value))
    });
    let one_sparse = Message::new().message(1, &kernel(2, &Message::new().double(1, 0.5)));
    let one_sparse = one_sparse.message(2, &Message::new().message(1, &sparse));
    // Three classes with a vector each, on one axis.
    let three = Message::new().message(1, &linear).ints(2, &[1, 1, 1]).message(4, &vectors(&[&[-1.0], &[0.0], &[1.0]]));
    let three = three.message(5, &Message::new().doubles(1, &[1.0, -1.0, -1.0]));
    let three = three.message(5, &Message::new().doubles(1, &[1.0, 1.0, -1.0])).doubles(6, &[0.5, 0.0, -0.5]);
    let pair = Message::new().message(1, &linear).ints(2, &[1, 1]).message(4, &vectors(&[&[1.0], &[-1.0]]));
    let pair = pair.message(5, &Message::new().doubles(1, &[1.0, -1.0])).doubles(6, &[0.0]);
    let likely = logistic(4.0);
    vec![
        regressor(
            "supportVectorRegressor",
            301,
            &machine(poly, &[&[1.0, 2.0], &[0.0, 2.0]], &[1.0, -2.0], 0.25),
            &[2.0, 0.0],
            // (0.5 * 2 + 1)^2 - 2 * (0 + 1)^2 - 0.25
            1.75,
        ),
        regressor(
            "supportVectorRegressor",
            301,
            &one_sparse.message(4, &Message::new().doubles(1, &[3.0])),
            &[1.0, 1.0, 1.0],
            3.0 * (-0.5f64 * 2.0).exp(),
        ),
        classifier(
            "supportVectorClassifier",
            401,
            &three.strings(100, &["low", "middle", "high"]),
            &[2.0],
            &[("low", 0.0), ("middle", 1.0 / 3.0), ("high", 2.0 / 3.0)],
        ),
        classifier(
            "supportVectorClassifier",
            401,
            &pair.doubles(7, &[-2.0]).doubles(8, &[0.0]).strings(100, &["plus", "minus"]),
            &[1.0],
            &[("plus", likely), ("minus", 1.0 - likely)],
        ),
    ]
}

fn features() -> Vec<Sample> {
    use Type::{Array, ByInt64, ByString, Double, Int64, String};

    let pair = |key: &str, value: i64| Message::new().text(1, key).int(2, value);
    let mapping = Message::new().message(1, &Message::new().message(1, &pair("a", 5)).message(1, &pair("b", -6)));
    let names = Message::new().message(1, &Message::new().int(1, 9).text(2, "nine"));
    let known = |key: &str, value: f64| Message::new().text(1, key).double(2, value);
    let imputed = Message::new().message(1, &known("a", 7.0)).message(1, &known("b", 8.0));
    let (words, found) = (&["red", "green"][..], Value::Tensor(array(&[0.0, 1.0])));
    let columns = [("n", 1), ("x", 2), ("d", 3)]
        .into_iter()
        .fold(Message::new(), |model, (name, width)| model.message(1, &Message::new().text(1, name).int(2, width)));
    let three = [feature("x", Array(&[2])), feature("d", ByInt64), feature("n", Int64)];
    vec![
        turned(
            "oneHotEncoder",
            600,
            &Message::new().strings(1, words),
            [String, Array(&[2])],
            Inputs::new().string("x", "green"),
            found,
        ),
        turned(
            "oneHotEncoder",
            600,
            &Message::new().integers(2, &[3, 1 << 60]).int(10, 1).int(11, 1),
            [Int64, ByInt64],
            Inputs::new().int64("x", 1 << 60),
            by_int64(&[(1, 1.0)]),
        ),
        turned("imputer", 601, &Message::new().double(1, 2.5), [Double, Double], nan(), Value::Double(2.5)),
        turned(
            "imputer",
            601,
            &Message::new().int(2, 7).int(12, -1),
            [Int64, Int64],
            Inputs::new().int64("x", -1),
            Value::Int64(7),
        ),
        turned(
            "imputer",
            601,
            &Message::new().text(3, "?").text(13, ""),
            [String, String],
            Inputs::new().string("x", ""),
            Value::String("?".into()),
        ),
        turned(
            "imputer",
            601,
            &Message::new().message(4, &Message::new().doubles(1, &[1.0, 2.0, 3.0])).double(11, 0.0),
            [Array(&[3]), Array(&[3])],
            x(&[0.0, 5.0, 0.0]),
            Value::Tensor(array(&[1.0, 5.0, 3.0])),
        ),
        turned(
            "imputer",
            601,
            &Message::new().message(6, &imputed),
            [ByString, ByString],
            Inputs::new().dictionary("x", [(label("b"), f64::NAN), (label("c"), 1.0)]),
            by_string(&[("b", 8.0), ("c", 1.0)]),
        ),
        Sample {
            name: "featureVectorizer",
            model: model(602, &columns, &three, &[feature("y", Array(&[6]))], &[]),
            inputs: x(&[4.0, 5.0]).int64("n", 3).dictionary("d", [(Label::Int64(2), 0.5)]),
            outputs: vec![("y", Value::Tensor(array(&[3.0, 4.0, 5.0, 0.0, 0.0, 0.5])))],
        },
        turned(
            "dictVectorizer",
            603,
            &Message::new().strings(1, &["a", "b", "c"]),
            [ByString, Array(&[3])],
            Inputs::new().dictionary("x", [(label("c"), 2.0), (label("unknown"), 9.0)]),
            Value::Tensor(array(&[0.0, 0.0, 2.0])),
        ),
        turned(
            "scaler",
            604,
            &Message::new().doubles(1, &[-1.0]).doubles(2, &[2.0, 0.5]),
            [Array(&[1, 2]), Array(&[1, 2])],
            Inputs::new().owned_tensor("x", matrix(2, &[3.0, 5.0])),
            Value::Tensor(matrix(2, &[4.0, 2.0])),
        ),
        turned("categoricalMapping", 606, &mapping, [String, Int64], Inputs::new().string("x", "b"), Value::Int64(-6)),
        turned(
            "categoricalMapping",
            606,
            &Message::new().message(2, &names).text(101, "many"),
            [Int64, String],
            Inputs::new().int64("x", 10),
            Value::String("many".into()),
        ),
        turned(
            "normalizer",
            607,
            &Message::new().int(1, 2),
            [Array(&[2]), Array(&[2])],
            x(&[3.0, -4.0]),
            Value::Tensor(array(&[0.6, -0.8])),
        ),
        turned(
            "arrayFeatureExtractor",
            609,
            &Message::new().ints(1, &[2]),
            [Array(&[3]), Int64],
            x(&[0.5, 1.5, 4.0]),
            Value::Int64(4),
        ),
    ]
}

fn nan() -> Inputs<'static> {
    Inputs::new().double("x", f64::NAN)
}

fn others() -> Vec<Sample> {
    use Type::{Array, Double, Int64, Integers};

    let similar = |id: i64, others: &[(i64, f64)], adjustment: f64| {
        let entry = others.iter().fold(Message::new().int(1, id), |entry, &(other, score)| {
            entry.message(2, &Message::new().int(1, other).double(2, score))
        });
        entry.double(3, adjustment)
    };
    let recommender = Message::new().message(1, &similar(0, &[(1, 1.0), (2, 3.0)], 0.0));
    let recommender = recommender.message(1, &similar(1, &[(2, 0.5)], 0.0)).message(1, &similar(2, &[], 0.5));
    let recommender = recommender.integers(3, &[10, 11, i64::MAX]).text(10, "items").text(11, "k");
    let recommender = recommender.text(13, "without").text(20, "list").text(21, "scores");
    let boxes = [0.5, 0.5, 1.0, 1.0, 0.5, 0.6, 1.0, 1.0, 4.0, 4.0, 1.0, 1.0];
    let suppression = Message::new().message(1, &Message::new().int(1, 1)).double(110, 0.5).double(111, 0.2);
    let suppression = suppression.text(200, "scores").text(201, "boxes").text(202, "overlap");
    let suppression = suppression.text(210, "confidence").text(211, "coordinates");
    let samples = [[0.0f32, 0.0], [0.0, 1.0], [5.0, 5.0]]
        .iter()
        .fold(Message::new().int(1, 2), |index, sample| index.message(2, &Message::new().floats(1, sample)));
    let neighbors = Message::new().message(1, &samples.message(100, &Message::new()).message(200, &Message::new()));
    let neighbors = neighbors.message(3, &Message::new().int(1, 2)).strings(100, &["near", "far", "near"]);
    let weight = |feature: i64, value: i64, mean: f64, precision: f64| {
        let weight = Message::new().int(1, value).message(2, &gaussian(mean, precision));
        Message::new().int(1, feature).message(2, &weight)
    };
    let probit = Message::new().int(1, 2).message(2, &gaussian(0.5, 2.0)).message(3, &weight(0, 4, 1.0, 4.0));
    let probit = probit.message(3, &weight(1, 0, -3.0, 1.0)).text(10, "x").text(20, "mean").text(21, "variance");
    vec![
        classifier(
            "kNearestNeighborsClassifier",
            404,
            &neighbors.message(200, &Message::new()),
            &[0.0, 0.4],
            &[("near", 0.5), ("far", 0.5)],
        ),
        Sample {
            name: "itemSimilarityRecommender",
            model: model(
                501,
                &recommender,
                &[feature("items", Integers), optional("k", Int64), optional("without", Integers)],
                &[feature("list", Integers), feature("scores", Type::ByInt64)],
                &[],
            ),
            inputs: Inputs::new().sequence("items", [Label::Int64(10), Label::Int64(99)]).int64("k", 1),
            outputs: vec![
                ("list", Value::Sequence(vec![Label::Int64(i64::MAX)])),
                ("scores", by_int64(&[(i64::MAX, 1.5)])),
            ],
        },
        turned(
            "classConfidenceThresholding",
            560,
            &Message::new(),
            [Array(&[3]), Array(&[2, 3])],
            x(&[0.5, 0.25, 0.125]),
            Value::Tensor(matrix(3, &[0.5, 0.25, 0.125, 1.0, 1.0, 1.0])),
        ),
        Sample {
            name: "nonMaximumSuppression",
            model: model(
                610,
                &suppression,
                &[feature("scores", Array(&[])), feature("boxes", Array(&[])), optional("overlap", Double)],
                &[feature("confidence", Array(&[3, 1])), feature("coordinates", Array(&[]))],
                &[],
            ),
            inputs: Inputs::new()
                .owned_tensor("scores", matrix(1, &[0.6, 0.9, 0.3]))
                .owned_tensor("boxes", matrix(4, &boxes)),
            outputs: vec![
                ("confidence", Value::Tensor(matrix(1, &[0.9, 0.3, 0.0]))),
                ("coordinates", {
                    let kept = [&boxes[4..12], &[0.0; 4]].concat();
                    Value::Tensor(matrix(4, &kept))
                }),
            ],
        },
        Sample {
            name: "bayesianProbitRegressor",
            model: model(
                304,
                &probit,
                &[feature("x", Array(&[2]))],
                &[feature("mean", Double), feature("variance", Double), feature("p", Double)],
                &["p"],
            ),
            // The second feature's value has no weight.
            inputs: x(&[4.0, 7.0]),
            outputs: vec![
                ("mean", Value::Double(1.5)),
                ("variance", Value::Double(0.75)),
                // Φ(1.5 / √1.75)
                ("p", Value::Double(0.871_580_371_021_071_7)),
            ],
        },
        Sample {
            name: "identity",
            model: model(
                900,
                &Message::new(),
                &[feature("x", Array(&[2])), feature("n", Int64)],
                &[feature("n", Int64), feature("x", Array(&[2]))],
                &[],
            ),
            inputs: x(&[1.0, 2.0]).int64("n", i64::MIN),
            outputs: vec![("n", Value::Int64(i64::MIN)), ("x", Value::Tensor(array(&[1.0, 2.0])))],
        },
    ]
}

/// Pipelines of the three kinds, one within another, with members that overwrite a value and one that passes an input on.
fn pipelines() -> Vec<Sample> {
    use Type::{Array, Double, Int64};

    let row = feature("row", Array(&[2]));
    let columns = ["a", "b"]
        .into_iter()
        .fold(Message::new(), |model, name| model.message(1, &Message::new().text(1, name).int(2, 1)));
    // The integer becomes a double, the row of shape [2] one of [1, 2], which is overwritten.
    let vectorizer = model(602, &columns, &[feature("a", Double), feature("b", Double)], from_ref(&row), &[]);
    let flat = feature("row", Array(&[1, 2]));
    let scaler = model(604, &Message::new().doubles(2, &[10.0, 1.0]), from_ref(&flat), from_ref(&flat), &[]);
    let inner_outputs = [row.clone()];
    let inner_inputs = [feature("a", Int64), feature("b", Double)];
    let inner = model(202, &members(&[vectorizer, scaler]), &inner_inputs, &inner_outputs, &[]);
    let trees = ensemble(&two_trees(), 1, &[]);
    let regressor = model(302, &trees, from_ref(&row), &[feature("y", Double)], &["y"]);
    let linear = weights(&[&[0.0, 1.0]], &[]).strings(100, &["small", "large"]);
    let classifier = model(400, &linear, from_ref(&row), &classes(), &CLASSES);
    let held = |models: &[Message]| Message::new().message(1, &members(models));
    let given = || Inputs::new().int64("a", 1).double("b", 0.75);
    vec![
        Sample {
            name: "pipelineRegressor",
            model: model(
                201,
                &held(&[inner.clone(), regressor]),
                &inner_inputs,
                &[feature("y", Double), feature("b", Double)],
                &["y"],
            ),
            inputs: given(),
            // 10 is more than 2, and 0.75 more than 0.5.
            outputs: vec![("y", Value::Double(6.0)), ("b", Value::Double(0.75))],
        },
        Sample {
            name: "pipelineClassifier",
            model: model(200, &held(&[inner, classifier]), &inner_inputs, &classes(), &CLASSES),
            inputs: given(),
            outputs: vec![
                ("label", Value::String("large".into())),
                ("p", by_string(&[("small", 1.0 - logistic(0.75)), ("large", logistic(0.75))])),
            ],
        },
    ]
}
