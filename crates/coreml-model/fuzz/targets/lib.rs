//! What the targets and the maker of their seeds share.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use coreml_model::{
    ArrayFeature, Block, Constant, Dim, Feature, FeatureKind, Function, Interface, Metadata, NewContent, NewModel,
    Operation, Opset, PackedTensor, PackedType, Program, ShapeConstraint, SmolStr, TensorType, Value, ValueId,
    ValueType,
};
use coreml_tensor::{DType, Data, Shape, Tensor, f16};

/// The files that a folder of the target `folder` may have; each begins with its position here and its length, in two bytes.
pub const NAMES: [&str; 8] = [
    "Manifest.json",
    "Data/com.apple.CoreML/model.mlmodel",
    "Data/com.apple.CoreML/weights/weight.bin",
    "model.mil",
    "coremldata.bin",
    "weights/weight.bin",
    "metadata.json",
    "model0/model.mil",
];

/// The name that programs have for the weight file.
pub const WEIGHTS: &str = "@model_path/weights/weight.bin";

/// The bytes of a folder with these files, by their position in [`NAMES`].
pub fn folder(files: &[(usize, &[u8])]) -> Vec<u8> {
    let file = |&(name, contents): &(usize, &[u8])| {
        let length = u16::try_from(contents.len()).unwrap_or(u16::MAX);
        let contents = &contents[..usize::from(length)];
        [&[u8::try_from(name).unwrap_or(0)], &length.to_le_bytes()[..], contents].concat()
    };
    files.iter().flat_map(file).collect()
}

/// The files in such bytes.
pub fn files(mut bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    while let [name, low, high, rest @ ..] = bytes {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (contents, after) = rest.split_at(length);
        files.push((NAMES[usize::from(*name) % NAMES.len()].to_owned(), contents.to_vec()));
        bytes = after;
    }
    files
}

/// A model of one program whose weights are of every type that weight files have, and its weight file.
///
/// # Panics
/// When it cannot be written.
pub fn weighty() -> (Vec<u8>, Vec<u8>) {
    let numbers = [
        Data::Float32(vec![0.5; 16]),
        Data::Float16(vec![f16::ONE; 16]),
        Data::Int8(vec![-3; 16]),
        Data::UInt8(vec![3; 16]),
        Data::Int16(vec![-300; 16]),
        Data::UInt16(vec![300; 16]),
    ];
    let shape = Shape::new(&[16]);
    let number = |data: Data| {
        let dtype = data.view().dtype();
        let tensor = Tensor::from_data(shape, data).expect("16 numbers");
        (Constant::Tensor(Arc::new(tensor)), ValueType::Tensor(TensorType { dtype, dims: vec![Dim::Fixed(16)] }))
    };
    let packed = [
        PackedType::UInt1,
        PackedType::UInt2,
        PackedType::UInt3,
        PackedType::Int4,
        PackedType::UInt4,
        PackedType::UInt6,
    ];
    let narrow = |ty: PackedType| {
        let constant = Constant::Packed(Arc::new(PackedTensor { ty, shape, bytes: vec![0x5a; 2 * ty.bits()] }));
        (constant, ValueType::Packed(ty, vec![Dim::Fixed(16)]))
    };
    let (mut values, mut operations) = (Vec::new(), Vec::new());
    for (at, (constant, ty)) in (0..).zip(numbers.into_iter().map(number).chain(packed.map(narrow))) {
        values.push(Value { name: format!("w{at}").into(), ty });
        operations.push(Operation {
            kind: "const".into(),
            name: SmolStr::default(),
            inputs: Vec::new(),
            outputs: [ValueId::new(at)].into_iter().collect(),
            blocks: Vec::new(),
            attributes: vec![("val".into(), constant)],
        });
    }
    let body = Block { inputs: Vec::new(), operations, outputs: vec![ValueId::new(0)] };
    let function = Function { opset: Opset::Ios18, values, inputs: Vec::new(), body };
    let program = Program { functions: BTreeMap::from([("main".into(), function)]) };
    let array =
        ArrayFeature { dtype: DType::Float32, shape: vec![16], constraint: ShapeConstraint::Fixed, default: None };
    let output = Feature {
        name: "w0".into(),
        description: String::new(),
        kind: FeatureKind::MultiArray(array),
        optional: false,
    };
    let interface = Interface {
        inputs: Vec::new(),
        outputs: vec![output],
        states: Vec::new(),
        predicted_feature: None,
        predicted_probabilities: None,
    };
    let model = NewModel {
        content: NewContent::Program(Cow::Owned(program)),
        interfaces: BTreeMap::from([("main".into(), &interface)]),
        default_function: "main".into(),
        metadata: Metadata::default(),
    };
    model.to_parts().expect("it can be written")
}
