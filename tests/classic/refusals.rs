//! Parameters that break the format's rules, and inputs without an answer: each error names them.

use coreml_anywhere::model::{Limits, Package};
use coreml_anywhere::{Error, ErrorKind, Inputs, Label, Session};
use coreml_testing::wire::{Message, Type, feature, members, model};

use super::load;
use super::samples::{array, branch, ensemble, leaf, two_trees, weights};

#[track_caller]
fn refused(model: &Message, words: &[&str]) {
    told(load(model).map(drop), ErrorKind::InvalidModel, words);
}

#[track_caller]
fn told(outcome: Result<(), Error>, kind: ErrorKind, words: &[&str]) {
    let error = outcome.expect_err("is not refused");
    assert_eq!(error.kind(), kind, "{error}");
    for words in words {
        assert!(error.to_string().contains(words), "`{error}` does not say `{words}`");
    }
}

fn trees(nodes: &[Message], scores: i64, base: &[f64]) -> Message {
    let (x, y) = (feature("x", Type::Array(&[2])), feature("y", Type::Double));
    model(302, &ensemble(nodes, scores, base), &[x], &[y], &["y"])
}

#[test]
fn trees_that_are_none() {
    refused(
        &trees(&[branch(0, 0, 0, 0, 1.0, [1, 2]), leaf(0, 1, &[(0, 1.0)])], 1, &[]),
        &["leads to node 2, which is missing"],
    );
    refused(&trees(&[leaf(0, 0, &[(0, 1.0)]), leaf(0, 1, &[])], 1, &[]), &["tree 0 has two roots"]);
    refused(&trees(&[leaf(3, 1, &[(0, 1.0)]), leaf(3, 1, &[])], 1, &[]), &["node 1 of tree 3 is there twice"]);
    let shared = [branch(0, 0, 0, 0, 1.0, [1, 1]), leaf(0, 1, &[(0, 1.0)])];
    refused(&trees(&shared, 1, &[]), &["node 1 of tree 0 has two parents"]);
    let circle = [branch(0, 0, 0, 0, 1.0, [1, 2]), branch(0, 1, 0, 0, 1.0, [0, 3]), leaf(0, 2, &[]), leaf(0, 3, &[])];
    refused(&trees(&circle, 1, &[0.0]), &["tree 0 form a circle"]);
    let aside = [
        leaf(0, 0, &[(0, 1.0)]),
        branch(0, 1, 0, 0, 1.0, [2, 3]),
        branch(0, 2, 0, 0, 1.0, [1, 4]),
        leaf(0, 3, &[]),
        leaf(0, 4, &[]),
    ];
    refused(&trees(&aside, 1, &[]), &["form a circle"]);
    refused(&trees(&[leaf(0, 0, &[(1, 1.0)])], 1, &[]), &["adds to score 1 of 1"]);
    refused(
        &trees(&[leaf(0, 0, &[(0, 1.0)])], 1 << 40, &[]),
        &["declares 1099511627776 scores, and has numbers for 1"],
    );
    refused(&trees(&[leaf(0, 0, &[(0, 1.0)])], 0, &[]), &["declares 0 scores"]);
    refused(&trees(&[leaf(0, 0, &[(1 << 30, 1.0)])], 1 << 31, &[]), &["and has numbers for 1"]);
    refused(&trees(&two_trees(), 1, &[0.0, 0.0]), &["1 scores have 2 base values"]);
    let far = [branch(0, 0, 0, 2, 1.0, [1, 2]), leaf(0, 1, &[(0, 1.0)]), leaf(0, 2, &[])];
    refused(&trees(&far, 1, &[]), &["looks at 3 features or more, its inputs have 2"]);
    let odd = [branch(0, 0, 9, 0, 1.0, [1, 2]), leaf(0, 1, &[(0, 1.0)]), leaf(0, 2, &[])];
    refused(&trees(&odd, 1, &[]), &["the behaviour 9"]);
}

/// Deeper than any stack would bear.
#[test]
fn a_tree_may_be_as_deep_as_it_likes() {
    let depth = 100_000;
    let mut nodes: Vec<Message> = (0..depth).map(|i| branch(0, 2 * i, 0, 0, -1.0, [2 * i + 1, 2 * i + 2])).collect();
    nodes.extend((0..depth).map(|i| leaf(0, 2 * i + 1, &[])));
    nodes.push(leaf(0, 2 * depth, &[(0, 7.0)]));
    let session = load(&trees(&nodes, 1, &[])).unwrap();
    let answer = session.predict(&Inputs::new().owned_tensor("x", array(&[0.0, 0.0]))).unwrap();
    assert!((answer.double("y").unwrap() - 7.0).abs() < 1e-12);
}

#[test]
fn classifiers_that_contradict_themselves() {
    let classes = [feature("label", Type::String), feature("p", Type::ByString)];
    let linear = |parameters: &Message, outputs: &[Message], predicted: &[&str]| {
        model(400, parameters, &[feature("x", Type::Array(&[2]))], outputs, predicted)
    };
    let labelled = weights(&[&[1.0, 2.0]], &[0.0]).strings(100, &["a", "b"]);
    let names = ["label", "p"];
    assert!(load(&linear(&labelled, &classes, &names)).is_ok());
    refused(&linear(&weights(&[&[1.0, 2.0]], &[]), &classes, &names), &["no class labels"]);
    let three = weights(&[&[1.0, 2.0]], &[]).strings(100, &["a", "b", "c"]);
    refused(&linear(&three, &classes, &names), &["1 scores need 2 class labels, the model has 3"]);
    refused(
        &linear(&weights(&[&[1.0]], &[]).strings(100, &["a", "b"]), &classes, &names),
        &["looks at 1 features, its inputs have 2"],
    );
    refused(&linear(&weights(&[&[1.0, 2.0], &[1.0]], &[]), &classes, &names), &["rows of 2 and of 1 weights"]);
    refused(&linear(&labelled, &classes, &["label"]), &["feature `p`", "neither the label nor the probabilities"]);
    refused(&linear(&labelled, &classes, &[]), &["does not say which output"]);
    let integers = weights(&[&[1.0, 2.0]], &[]).integers(101, &[0, 1]);
    refused(&linear(&integers, &classes, &names), &["not of the type of the class labels"]);
}

#[test]
fn parameters_that_do_not_fit_the_features() {
    use Type::{Array, ByString, Double, Int64, String};

    let turned = |tag: u32, parameters: &Message, input: Type<'_>, output: Type<'_>| {
        model(tag, parameters, &[feature("x", input)], &[feature("y", output)], &[])
    };
    let none = Message::new();
    refused(
        &turned(604, &Message::new().doubles(2, &[1.0, 2.0]), Array(&[3]), Array(&[3])),
        &["3 numbers have 1 shifts and 2 scales"],
    );
    refused(&turned(604, &none, Array(&[3]), Array(&[4])), &["has 4 elements, the model gives 3 numbers"]);
    refused(&turned(609, &Message::new().ints(1, &[3]), Array(&[3]), Double), &["no element 3"]);
    refused(&turned(607, &Message::new().int(1, 3), Array(&[3]), Array(&[3])), &["no norm 3"]);
    refused(
        &turned(600, &Message::new().strings(1, &["a"]), Int64, Array(&[1])),
        &["not of the type of the categories"],
    );
    refused(&turned(600, &none, String, Array(&[1])), &["no categories"]);
    refused(&turned(601, &Message::new().text(3, "a"), Double, Double), &["of another type than what the imputer has"]);
    refused(&turned(603, &Message::new().integers(2, &[1]), ByString, Array(&[1])), &["keys of another type"]);
    refused(&turned(606, &none, String, Int64), &["no table"]);
    let column = |width: i64| Message::new().message(1, &Message::new().text(1, "x").int(2, width));
    refused(&turned(602, &column(2), Double, Array(&[2])), &["1 elements and 2 columns"]);
    refused(&turned(602, &column(-1), ByString, Array(&[2])), &["feature `x`"]);
    let wide = model(602, &column(1 << 40), &[feature("x", Type::ByInt64)], &[feature("y", Array(&[]))], &[]);
    refused(&wide, &["more than 67108864 numbers"]);
    refused(&turned(900, &none, Double, Double), &["`y`", "not an input"]);
}

/// Fields of a few bytes that ask for hundreds of megabytes.
#[test]
fn numbers_that_ask_for_memory_are_refused_by_the_session_s_limit() {
    let column = Message::new().message(1, &Message::new().text(1, "x").int(2, 1 << 26));
    let wide = model(602, &column, &[feature("x", Type::ByInt64)], &[feature("y", Type::Array(&[]))], &[]);
    let parameters = Message::new().text(200, "x").text(201, "y").text(210, "c").text(211, "b");
    let arrays = [feature("x", Type::Array(&[])), feature("y", Type::Array(&[]))];
    let rows = [feature("c", Type::Array(&[1 << 25, 1])), feature("b", Type::Array(&[]))];
    for model in [wide, model(610, &parameters, &arrays, &rows, &[])] {
        let package = Package::from_parts(model.bytes(), None, &Limits::default()).unwrap();
        let session = Session::builder().max_memory(64 << 20).load(package);
        told(session.map(drop), ErrorKind::Unsupported, &["above the limit of 67108864"]);
    }
}

/// Each member hands on a copy of what it got.
#[test]
fn values_between_members_are_bounded_together() {
    let wide = Type::Array(&[1 << 16]);
    let copy = |i: i64| {
        let (from, to) = (format!("v{i}"), format!("v{}", i + 1));
        model(604, &Message::new(), &[feature(&from, wide)], &[feature(&to, wide)], &[])
    };
    let copies: Vec<Message> = (0..100).map(copy).collect();
    let package = |count: usize| {
        let last = feature(&format!("v{count}"), wide);
        let pipeline = model(202, &members(&copies[..count]), &[feature("v0", wide)], &[last], &[]);
        Package::from_parts(pipeline.bytes(), None, &Limits::default()).unwrap()
    };
    let predict = |count: usize| {
        let session = Session::builder().max_memory(16 << 20).load(package(count)).unwrap();
        session.predict(&Inputs::new().owned_tensor("v0", array(&vec![1.0; 1 << 16]))).map(drop)
    };
    assert!(predict(20).is_ok());
    told(predict(100), ErrorKind::Unsupported, &["member 33 of the pipeline", "above the limit of 16777216"]);
}

#[test]
fn inputs_without_an_answer() {
    let predict = |model: &Message, inputs: Inputs<'_>| load(model).unwrap().predict(&inputs).map(drop);
    let encoder = model(
        600,
        &Message::new().strings(1, &["a"]),
        &[feature("x", Type::String)],
        &[feature("y", Type::Array(&[1]))],
        &[],
    );
    told(predict(&encoder, Inputs::new().string("x", "b")), ErrorKind::InvalidInput, &["`x`", "`b` is no category"]);
    let scaler =
        model(604, &Message::new().doubles(2, &[0.5]), &[feature("x", Type::Int64)], &[feature("y", Type::Int64)], &[]);
    assert!(predict(&scaler, Inputs::new().int64("x", 4)).is_ok());
    told(predict(&scaler, Inputs::new().int64("x", 3)), ErrorKind::InvalidInput, &["`y`", "1.5 is not"]);
    let vectorizer = Message::new().message(1, &Message::new().text(1, "x").int(2, 2));
    let vectorizer = model(602, &vectorizer, &[feature("x", Type::ByInt64)], &[feature("y", Type::Array(&[2]))], &[]);
    let inputs = Inputs::new().dictionary("x", [(Label::Int64(2), 1.0)]);
    told(predict(&vectorizer, inputs), ErrorKind::InvalidInput, &["`x`", "the key 2, but only 2 columns"]);
    // Keys of the wrong type never reach the model.
    let inputs = Inputs::new().dictionary("x", [(Label::String("2".into()), 1.0)]);
    told(predict(&vectorizer, inputs), ErrorKind::InvalidInput, &["`x`", "a dictionary by integers, `2` is not"]);
}

#[test]
fn members_that_do_not_fit_are_both_named() {
    let double = |name: &str| feature(name, Type::Double);
    let scaler = |input: &Message, output: &Message| {
        model(604, &Message::new(), std::slice::from_ref(input), std::slice::from_ref(output), &[])
    };
    let encoder = model(
        600,
        &Message::new().strings(1, &["a"]),
        &[feature("m", Type::String)],
        &[feature("y", Type::Array(&[1]))],
        &[],
    );
    let first = scaler(&double("x"), &double("m"));
    let pipeline = |models: &[Message], output: &Message| {
        model(202, &members(models), &[double("x")], std::slice::from_ref(output), &[])
    };
    let array = feature("y", Type::Array(&[1]));
    let told = ["member 2 of the pipeline, `oneHotEncoder`", "`m` as a string; member 1, `scaler`, has it as a double"];
    refused(&pipeline(&[first.clone(), encoder], &array), &told);
    let lost = scaler(&double("nobody"), &double("y"));
    refused(&pipeline(&[first.clone(), lost], &double("y")), &["member 2", "`nobody`, which nothing before gives"]);
    refused(&pipeline(std::slice::from_ref(&first), &double("y")), &["the pipeline", "gives the feature `y`"]);
    let broken = model(607, &Message::new().int(1, 7), &[double("m")], &[double("y")], &[]);
    refused(&pipeline(&[first, broken], &double("y")), &["member 2 of the pipeline, `normalizer`", "no norm 7"]);
}
