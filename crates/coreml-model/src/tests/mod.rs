//! Models made in memory, sound ones and broken ones.
//!
//! [`sample`] is a sound model that touches most of the format; each test breaks it in one way and says which error
//! must result, and which place it must name.

use std::collections::BTreeMap;

use prost::Message;

use crate::proto::{self, elements, immediate, value};
use crate::{Limits, Package, ReadError, ReadErrorKind};

#[cfg(feature = "zip")]
mod archives;
mod budget;
mod changes;
mod packages;
mod paths;
mod pipelines;
mod programs;
mod weights;

/// Element types as the program numbers them.
const BOOL: i32 = 1;
const STRING: i32 = 2;
const F16: i32 = 10;
const F32: i32 = 11;
const BF16: i32 = 13;
const I8: i32 = 21;
const I32: i32 = 23;
const U64: i32 = 34;
const U3: i32 = 39;

const WEIGHTS: &str = "@model_path/weights/weight.bin";
/// Six halves: 1 to 6.
const HALVES: [u8; 12] = [0, 0x3c, 0, 0x40, 0, 0x42, 0, 0x44, 0, 0x45, 0, 0x46];

fn dim(size: u64) -> proto::Dimension {
    let kind = proto::dimension::Kind::Constant(proto::ConstantDimension { size });
    proto::Dimension { kind: Some(kind) }
}

fn unknown(variadic: bool) -> proto::Dimension {
    proto::Dimension { kind: Some(proto::dimension::Kind::Unknown(proto::UnknownDimension { variadic })) }
}

fn typed(kind: proto::value_type::Kind) -> proto::ValueType {
    proto::ValueType { kind: Some(kind) }
}

fn tensor(data_type: i32, dims: &[u64]) -> proto::ValueType {
    let dims: Vec<_> = dims.iter().map(|&size| dim(size)).collect();
    let rank = i64::try_from(dims.len()).unwrap();
    typed(proto::value_type::Kind::Tensor(proto::TensorType { data_type, rank, dims }))
}

fn named(name: &str, ty: proto::ValueType) -> proto::NamedType {
    proto::NamedType { name: name.into(), r#type: Some(ty) }
}

fn immediate(ty: proto::ValueType, kind: immediate::Kind) -> proto::Value {
    let kind = value::Kind::Immediate(proto::Immediate { kind: Some(kind) });
    proto::Value { r#type: Some(ty), kind: Some(kind) }
}

fn literal(ty: proto::ValueType, kind: elements::Kind) -> proto::Value {
    immediate(ty, immediate::Kind::Tensor(proto::Elements { kind: Some(kind) }))
}

fn ints(values: &[i32]) -> elements::Kind {
    elements::Kind::Ints(proto::Ints { values: values.into() })
}

fn bytes(values: &[u8]) -> elements::Kind {
    elements::Kind::Bytes(proto::Bytes { values: values.into() })
}

fn string(text: &str) -> proto::Value {
    literal(tensor(STRING, &[]), elements::Kind::Strings(proto::Strings { values: vec![text.into()] }))
}

fn blob(ty: proto::ValueType, offset: u64) -> proto::Value {
    let blob = proto::BlobFile { file: WEIGHTS.into(), offset };
    proto::Value { r#type: Some(ty), kind: Some(value::Kind::BlobFile(blob)) }
}

fn constant(name: &str, value: proto::Value) -> proto::Operation {
    proto::Operation {
        kind: "const".into(),
        outputs: vec![named(name, value.r#type.clone().unwrap())],
        attributes: [("name".into(), string(name)), ("val".into(), value)].into(),
        ..Default::default()
    }
}

fn name(name: &str) -> proto::Binding {
    proto::Binding { to: Some(proto::binding::To::Name(name.into())) }
}

fn operation(kind: &str, inputs: Vec<(&str, Vec<proto::Binding>)>, outputs: Vec<proto::NamedType>) -> proto::Operation {
    proto::Operation {
        kind: kind.into(),
        inputs: inputs.into_iter().map(|(key, bindings)| (key.into(), proto::Argument { bindings })).collect(),
        outputs,
        attributes: outputs_name(kind),
        ..Default::default()
    }
}

fn outputs_name(kind: &str) -> BTreeMap<String, proto::Value> {
    [("name".to_owned(), string(&format!("{kind}_0")))].into()
}

fn array_feature(name: &str, shape: &[i64]) -> proto::Feature {
    let array = proto::ArrayType { shape: shape.into(), data_type: 65568, ..Default::default() };
    let kind = proto::feature_type::Kind::MultiArray(array);
    let ty = proto::FeatureType { kind: Some(kind), optional: false };
    proto::Feature { name: name.into(), description: String::new(), r#type: Some(ty) }
}

/// `y = x + f32(w)`, with `w` in the weight file.
fn sample() -> proto::Model {
    let wide = vec![named("wide", tensor(F32, &[2, 3]))];
    let dtype = proto::Binding { to: Some(proto::binding::To::Value(string("fp32"))) };
    let body = proto::Block {
        inputs: vec![],
        outputs: vec!["y".into()],
        operations: vec![
            constant("axis", literal(tensor(I32, &[]), ints(&[1]))),
            constant("w", blob(tensor(F16, &[2, 3]), 64)),
            operation("cast", vec![("x", vec![name("w")]), ("dtype", vec![dtype])], wide),
            operation(
                "add",
                vec![("x", vec![name("x")]), ("y", vec![name("wide")])],
                vec![named("y", tensor(F32, &[2, 3]))],
            ),
        ],
    };
    let function = proto::Function {
        inputs: vec![named("x", tensor(F32, &[2, 3]))],
        opset: "CoreML8".into(),
        specializations: [("CoreML8".into(), body)].into(),
    };
    let program = proto::Program { version: 1, functions: [("main".into(), function)].into() };
    proto::Model {
        specification_version: 9,
        description: Some(proto::Description {
            inputs: vec![array_feature("x", &[2, 3])],
            outputs: vec![array_feature("y", &[2, 3])],
            ..Default::default()
        }),
        kind: Some(proto::model::Kind::MlProgram(program)),
    }
}

fn program(model: &mut proto::Model) -> &mut proto::Program {
    match model.kind.as_mut().unwrap() {
        proto::model::Kind::MlProgram(program) => program,
        _ => panic!("the sample is a program"),
    }
}

fn main_function(model: &mut proto::Model) -> &mut proto::Function {
    program(model).functions.get_mut("main").unwrap()
}

fn body(model: &mut proto::Model) -> &mut proto::Block {
    main_function(model).specializations.get_mut("CoreML8").unwrap()
}

fn description(model: &mut proto::Model) -> &mut proto::Description {
    model.description.as_mut().unwrap()
}

/// A weight file with one record for each type code and data.
fn weight_file(records: &[(u32, &[u8])]) -> Vec<u8> {
    let mut file = vec![0; 64];
    file[0] = u8::try_from(records.len()).unwrap();
    file[4] = 2;
    for (code, data) in records {
        file.resize(file.len().next_multiple_of(64), 0);
        let start = u64::try_from(file.len() + 64).unwrap();
        file.extend(0xDEAD_BEEF_u32.to_le_bytes());
        file.extend(code.to_le_bytes());
        file.extend(u64::try_from(data.len()).unwrap().to_le_bytes());
        file.extend(start.to_le_bytes());
        // What follows is garbage in the files of older converters.
        file.extend([0xa5; 40]);
        file.extend(*data);
    }
    file
}

fn sample_weights() -> Vec<u8> {
    weight_file(&[(1, &HALVES)])
}

fn read(model: &proto::Model) -> Result<Package, ReadError> {
    read_with(model, sample_weights(), &Limits::default())
}

fn read_with(model: &proto::Model, weights: Vec<u8>, limits: &Limits) -> Result<Package, ReadError> {
    Package::from_parts(&model.encode_to_vec(), Some([(WEIGHTS.to_owned(), weights)].into()), limits)
}

/// Asserts that the error is of this kind and mentions all of these.
#[track_caller]
fn assert_refused(result: Result<Package, ReadError>, kind: ReadErrorKind, mentions: &[&str]) {
    let error = match result {
        Ok(package) => panic!("should be refused as {kind:?} {mentions:?}:\n{}", package.program()),
        Err(error) => error,
    };
    assert_eq!(error.kind(), kind, "{error}");
    for part in mentions {
        assert!(error.to_string().contains(part), "`{error}` does not mention `{part}`");
    }
}

/// The sample, broken by `change`, is refused.
#[track_caller]
fn refused(change: impl FnOnce(&mut proto::Model), kind: ReadErrorKind, mentions: &[&str]) {
    let mut model = sample();
    change(&mut model);
    assert_refused(read(&model), kind, mentions);
}
