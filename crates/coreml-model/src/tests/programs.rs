//! Programs and interfaces.

use coreml_tensor::{DType, f16};

use super::*;
use crate::{ArrayFeature, Constant, Dim, FeatureKind, ShapeConstraint, SizeRange, TensorType, ValueType};

#[test]
fn the_sample_is_read_and_printed() {
    let package = read(&sample()).unwrap();
    assert_eq!(
        package.program().to_string(),
        "main<CoreML8>(%x: (2,3,fp32)) {\n\
         \x20 %axis: (int32) = const()[val=1]\n\
         \x20 %w: (2,3,fp16) = const()[val=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]\n\
         \x20 %wide: (2,3,fp32) = cast(dtype=\"fp32\", x=%w)\n\
         \x20 %y: (2,3,fp32) = add(x=%x, y=%wide)\n\
         } -> (%y)\n"
    );
    assert_eq!((package.specification_version(), package.default_function()), (9, "main"));
    assert_eq!(package.program().functions["main"].body.operations[3].name, "add_0");
    assert_eq!(package.size_bytes(), sample().encoded_len() as u64 + 64 + 64 + 12);
}

#[test]
fn broken_programs_are_refused_with_their_place() {
    use ReadErrorKind::{Limit, Program, Unsupported};

    refused(|m| main_function(m).opset = "CoreML99".into(), Unsupported, &["function `main`", "`CoreML99`"]);
    refused(|m| main_function(m).opset = "CoreML7".into(), Program, &["function `main`", "CoreML7"]);
    refused(|m| program(m).version = 2, Unsupported, &["version 2"]);
    refused(|m| program(m).functions.clear(), Program, &["no functions"]);
    refused(|m| body(m).outputs = vec!["z".into()], Program, &["function `main`", "results", "`z`"]);
    refused(|m| body(m).inputs = vec![named("p", tensor(F32, &[]))], Program, &["parameters of its own"]);
    refused(
        |m| body(m).operations.swap(2, 3),
        Program,
        &["operation `y` (`add`)", "parameter `y`", "`wide` is used, but not defined"],
    );
    refused(
        |m| {
            body(m).operations[2] =
                operation("cast", vec![("x", vec![name("y")])], vec![named("wide", tensor(F32, &[2, 3]))])
        },
        Program,
        &["operation `wide` (`cast`)", "`y` is used"],
    );
    refused(|m| body(m).operations[2].outputs[0].name = "x".into(), Program, &["`x` is defined twice"]);
    refused(|m| body(m).operations[2].outputs[0].name.clear(), Program, &["(`cast`)", "has no name"]);
    refused(|m| body(m).operations[2].outputs[0].r#type = None, Program, &["value `wide`", "no type"]);
    refused(|m| body(m).operations[2].outputs[0].r#type = Some(tensor(77, &[])), Program, &["data type 77"]);
    refused(
        |m| body(m).operations[2].outputs[0].r#type = Some(tensor(F32, &[u64::MAX / 2, 8])),
        Limit,
        &["value `wide`", "address space"],
    );
    refused(|m| body(m).operations[2].outputs[0].r#type = Some(tensor(F32, &[1; 9])), Limit, &["rank 9", "8"]);
    refused(|m| body(m).operations[2].kind.clear(), Program, &["operation `wide`", "no type"]);
    refused(
        |m| body(m).operations[2].inputs.get_mut("x").unwrap().bindings[0].to = None,
        Program,
        &["parameter `x`", "neither a name nor a value"],
    );
    refused(
        |m| drop(body(m).operations[2].attributes.insert("name".into(), literal(tensor(I32, &[]), ints(&[1])))),
        Program,
        &["`name` is not a string"],
    );
}

#[test]
fn broken_types_are_refused() {
    use proto::value_type::Kind;

    let with = |ty: proto::ValueType, kind, mentions: &[&str]| {
        refused(|m| body(m).operations[2].outputs[0].r#type = Some(ty), kind, mentions);
    };
    let tensor_type = |rank, dims| typed(Kind::Tensor(proto::TensorType { data_type: F32, rank, dims }));
    with(tensor_type(3, vec![dim(1)]), ReadErrorKind::Program, &["rank is 3, but 1 dimensions"]);
    with(tensor_type(-2, vec![]), ReadErrorKind::Program, &["rank -2"]);
    with(tensor_type(i64::MAX, vec![]), ReadErrorKind::Limit, &["rank"]);
    with(tensor_type(1, vec![proto::Dimension { kind: None }]), ReadErrorKind::Program, &["neither"]);
    with(typed(Kind::List(Box::default())), ReadErrorKind::Program, &["no type"]);
    let state = proto::StateType { wrapped: Some(Box::new(tensor(STRING, &[]))) };
    with(typed(Kind::State(Box::new(state))), ReadErrorKind::Program, &["state of something other"]);
}

#[test]
fn dimensions_and_rank_may_be_unknown() {
    let mut model = sample();
    let ty = |dims: Vec<_>| {
        let rank = dims.len().try_into().unwrap();
        Some(typed(proto::value_type::Kind::Tensor(proto::TensorType { data_type: F32, rank, dims })))
    };
    body(&mut model).operations[2].outputs[0].r#type = ty(vec![unknown(false), dim(3)]);
    body(&mut model).operations[3].outputs[0].r#type = ty(vec![unknown(true)]);
    let package = read(&model).unwrap();
    let values = &package.program().functions["main"].values;
    let dims = vec![Dim::Unknown, Dim::Fixed(3)];
    assert_eq!(values[3].ty, ValueType::Tensor(TensorType { dtype: DType::Float32, dims }));
    assert_eq!(values[4].ty, ValueType::Unranked(DType::Float32));
    assert_eq!(format!("{} {}", values[3].ty, values[4].ty), "(?,3,fp32) (...,fp32)");
}

/// Reads a model with one more constant.
fn with_constant(value: proto::Value) -> Result<Constant, ReadError> {
    let mut model = sample();
    body(&mut model).operations.push(constant("c", value));
    read(&model).map(|package| package.program().functions["main"].body.operations[4].attribute("val").unwrap().clone())
}

#[test]
fn literals_are_read_from_every_list() {
    let numbers = |ty: i32, dims: &[u64], kind| {
        with_constant(literal(tensor(ty, dims), kind)).unwrap().as_tensor().unwrap().view().to_f64_vec()
    };
    assert_eq!(numbers(F16, &[2, 3], bytes(&HALVES)), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(numbers(BF16, &[2], bytes(&[0x80, 0x3f, 0, 0xc0])), [1.0, -2.0]);
    assert_eq!(numbers(F32, &[1], bytes(&1.5f32.to_le_bytes())), [1.5]);
    assert_eq!(numbers(I8, &[2], bytes(&[1, 0xff])), [1.0, -1.0]);
    assert_eq!(numbers(I8, &[2], ints(&[-128, 127])), [-128.0, 127.0]);
    assert_eq!(numbers(I32, &[1], bytes(&[0xfe, 0xff, 0xff, 0xff])), [-2.0]);
    assert!(numbers(I32, &[0], bytes(&[])).is_empty());
    assert_eq!(numbers(BOOL, &[2], bytes(&[0, 1])), [0.0, 1.0]);
    let longs = elements::Kind::LongInts(proto::LongInts { values: vec![-1, 7] });
    assert_eq!(numbers(U64, &[2], longs), [u64::MAX as f64, 7.0]);
    let floats = elements::Kind::Floats(proto::Floats { values: vec![f32::NAN] });
    assert!(numbers(F32, &[], floats)[0].is_nan(), "NaN is a number like others");
    let empty = immediate(tensor(F32, &[0]), immediate::Kind::Tensor(proto::Elements { kind: None }));
    assert!(with_constant(empty).unwrap().as_tensor().unwrap().view().to_f64_vec().is_empty());
    let Constant::Packed(packed) = with_constant(literal(tensor(U3, &[3]), bytes(&[0b1111_0001, 0]))).unwrap() else {
        panic!("three bits are packed");
    };
    assert_eq!(packed.unpack(), [1, 6, 3]);
}

#[test]
fn broken_literals_are_refused() {
    let refused = |value, mention: &str| {
        let error = with_constant(value).unwrap_err();
        assert_eq!(error.kind(), ReadErrorKind::Program, "{error}");
        for part in ["operation `c` (`const`)", "attribute `val`", mention] {
            assert!(error.to_string().contains(part), "`{error}` does not mention `{part}`");
        }
    };
    refused(literal(tensor(I32, &[2]), ints(&[1, 2, 3])), "int32[2] has 3 elements instead of 2");
    refused(literal(tensor(I32, &[2]), ints(&[])), "has 0 elements instead of 2");
    refused(literal(tensor(I32, &[]), bytes(&[0; 3])), "has 3 bytes instead of 4");
    refused(literal(tensor(F16, &[2]), bytes(&[0; 5])), "has 5 bytes instead of 4");
    refused(literal(tensor(U3, &[3]), bytes(&[0])), "has 1 bytes instead of 2");
    refused(literal(tensor(I8, &[1]), ints(&[128])), "128 does not fit int8");
    refused(literal(tensor(BOOL, &[1]), bytes(&[2])), "2 is neither true nor false");
    refused(literal(tensor(F32, &[1]), ints(&[1])), "not one that fp32");
    refused(literal(tensor(STRING, &[1]), ints(&[1])), "not one that string");
    refused(literal(tensor(F32, &[1 << 40]), bytes(&[0; 4])), "instead of");
    refused(proto::Value { r#type: Some(tensor(F32, &[])), kind: None }, "no value");
    let list = proto::ListType { element: Some(Box::new(tensor(I32, &[]))), length: Some(dim(2)) };
    let list = typed(proto::value_type::Kind::List(Box::new(list)));
    let values = |values| immediate(list.clone(), immediate::Kind::List(proto::Values { values }));
    refused(values(vec![]), "a list of 2 has 0 elements");
    refused(values(vec![literal(tensor(I32, &[]), ints(&[1])), string("a")]), "element 1");
    refused(literal(list.clone(), ints(&[1, 2])), "not of its declared type");
}

#[test]
fn constants_have_the_type_of_their_result() {
    use ReadErrorKind::Program;

    refused(
        |m| body(m).operations[0].outputs[0].r#type = Some(tensor(F32, &[])),
        Program,
        &["`axis`", "(int32)", "(fp32)"],
    );
    refused(|m| body(m).operations[0].outputs.clear(), Program, &["operation 0 (`const`)", "0 results"]);
    refused(|m| drop(body(m).operations[0].attributes.remove("val")), Program, &["`axis`", "no attribute `val`"]);
}

fn loop_block(parameter: &str, result: &str) -> proto::Block {
    proto::Block {
        inputs: vec![named(parameter, tensor(F32, &[2, 3]))],
        outputs: vec![result.into()],
        operations: vec![operation("less", vec![("x", vec![name("x")])], vec![named("inner", tensor(BOOL, &[]))])],
    }
}

fn with_loop(model: &mut proto::Model) -> &mut proto::Operation {
    let mut looped =
        operation("while_loop", vec![("loop_vars", vec![name("x")])], vec![named("out", tensor(F32, &[2, 3]))]);
    looped.blocks = vec![loop_block("p", "inner"), loop_block("p", "p")];
    body(model).operations.push(looped);
    body(model).operations.last_mut().unwrap()
}

#[test]
fn blocks_are_scopes() {
    let mut model = sample();
    with_loop(&mut model);
    // Both blocks define `p` and `inner`: names need only be unique where they are visible.
    read(&model).unwrap();

    let looped = |change: fn(&mut proto::Operation), mentions: &[&str]| {
        refused(|m| change(with_loop(m)), ReadErrorKind::Program, mentions);
    };
    looped(
        |op| op.blocks[0].inputs[0].name = "x".into(),
        &["operation `out` (`while_loop`)", "block 0", "defined twice"],
    );
    looped(|op| op.blocks[1].outputs[0] = "out".into(), &["block 1", "`out` is used, but not defined"]);
    looped(|op| drop(op.blocks.pop()), &["1 blocks instead of 2"]);
    looped(|op| op.blocks[1].outputs.clear(), &["block 1 has 1 parameters and 0 results instead of 1 and 1"]);
    looped(|op| op.outputs.clear(), &["1 loop variables give 0 results"]);
    looped(|op| op.kind = "cond".into(), &["block 0 has 1 parameters"]);
    refused(
        |m| {
            with_loop(m);
            body(m).outputs = vec!["inner".into()];
        },
        ReadErrorKind::Program,
        &["`inner` is used, but not defined before and in scope"],
    );
}

#[test]
fn other_models_are_refused_by_name() {
    use proto::model::Kind;

    let other = |kind, mentions: &[&str]| refused(|m| m.kind = Some(kind), ReadErrorKind::Unsupported, mentions);
    let class = [0x52, 3, b'A', b'p', b'p'].to_vec().into();
    other(Kind::CustomModel(class), &["`customModel` (class `App`)", "not supported", "code of the app"]);
    other(Kind::WordTagger(proto::Opaque {}), &["`wordTagger`", "Apple's language models", "use Core ML directly"]);
    refused(|m| m.kind = None, ReadErrorKind::Unsupported, &["no type", "version 9"]);
    refused(|m| m.specification_version = 11, ReadErrorKind::Unsupported, &["version 11 is newer than 10"]);
    // A model of a kind this library does not list, such as a later one.
    let unlisted = [&[8, 12][..], &[0x82, 0xfa, 1, 0]].concat();
    let result = Package::from_parts(&unlisted, None, &Limits::default());
    assert_refused(result, ReadErrorKind::Unsupported, &["version 12"]);
}

#[test]
fn an_output_described_twice_in_the_same_words_is_one_output() {
    let mut twice = sample();
    let output = description(&mut twice).outputs[0].clone();
    let (name, count) = (output.name.clone(), description(&mut twice).outputs.len());
    description(&mut twice).outputs.push(output);
    let package = read(&twice).unwrap();
    let outputs = &package.interface(None).unwrap().outputs;
    assert_eq!(outputs.len(), count);
    assert_eq!(outputs[0].name, name);
}

#[test]
fn the_description_fits_the_program() {
    use ReadErrorKind::Interface;

    refused(|m| m.description = None, Interface, &["no description"]);
    refused(|m| description(m).inputs.clear(), Interface, &["function `main`", "parameter `x` is not described"]);
    refused(|m| description(m).inputs[0].name = "z".into(), Interface, &["`z` is not a parameter"]);
    refused(|m| description(m).outputs[0].name = "z".into(), Interface, &["`z` is not a result"]);
    refused(|m| description(m).inputs.push(array_feature("x", &[1])), Interface, &["`x` is described twice"]);
    let other = |m: &mut proto::Model| {
        let name = description(m).outputs[0].name.clone();
        description(m).outputs.push(array_feature(&name, &[7, 7]));
    };
    refused(other, Interface, &["output", "is described twice"]);
    refused(|m| description(m).states.push(array_feature("x", &[1])), Interface, &["state `x`", "only states"]);
    refused(|m| description(m).inputs[0].r#type = None, Interface, &["input `x`", "no type"]);
    refused(|m| description(m).inputs[0] = array_feature("x", &[-1]), Interface, &["input `x`", "-1 is not a size"]);
    refused(|m| description(m).predicted_feature = "label".into(), Interface, &["`label` is not among the outputs"]);
    refused(|m| description(m).default_function = "f".into(), Interface, &["`f` is not in the program"]);
}

#[test]
fn several_functions_have_an_interface_each() {
    let several = |default: &str| {
        let mut model = sample();
        let other = main_function(&mut model).clone();
        program(&mut model).functions.insert("other".into(), other);
        let top = std::mem::take(description(&mut model));
        let describe = |name: &str| proto::FunctionDescription {
            name: name.into(),
            inputs: top.inputs.clone(),
            outputs: top.outputs.clone(),
            ..Default::default()
        };
        description(&mut model).functions = vec![describe("main"), describe("other")];
        description(&mut model).default_function = default.into();
        model
    };
    let package = read(&several("other")).unwrap();
    assert_eq!(package.functions().collect::<Vec<_>>(), ["main", "other"]);
    assert_eq!(package.default_function(), "other");
    assert_eq!(package.interface(None).unwrap(), package.interface(Some("main")).unwrap());
    let error = package.interface(Some("third")).unwrap_err();
    assert_eq!(error.kind(), ReadErrorKind::Function);
    assert_eq!(error.to_string(), "the model has no function `third`; it has `main`, `other`");

    let mut model = several("main");
    description(&mut model).functions.pop();
    assert_eq!(read(&model).unwrap().interface(Some("other")).unwrap_err().kind(), ReadErrorKind::Function);
    description(&mut model).functions[0].name = "third".into();
    assert_refused(read(&model), ReadErrorKind::Interface, &["function `third`", "not in the program"]);
}

#[test]
fn shape_constraints_and_defaults_are_read() {
    use proto::array_type::{Default as Fill, Flexibility};

    let read_input = |change: fn(&mut proto::ArrayType)| {
        let mut model = sample();
        let ty = description(&mut model).inputs[0].r#type.as_mut().unwrap();
        ty.optional = true;
        let Some(proto::feature_type::Kind::MultiArray(array)) = &mut ty.kind else { panic!("an array") };
        change(array);
        read(&model).map(|package| package.interface(None).unwrap().inputs[0].clone())
    };
    let input = read_input(|array| {
        let dims = vec![proto::SizeRange { lower: 1, upper: -1 }, proto::SizeRange { lower: 3, upper: 3 }];
        array.flexibility = Some(Flexibility::Range(proto::ArrayShapeRange { dims }));
        array.default = Some(Fill::FloatDefault(0.5));
    })
    .unwrap();
    assert!(input.optional);
    let constraint = ShapeConstraint::Range(vec![SizeRange { min: 1, max: None }, SizeRange { min: 3, max: Some(3) }]);
    let expected = ArrayFeature { dtype: DType::Float32, shape: vec![2, 3], constraint, default: Some(0.5) };
    assert_eq!(input.kind, FeatureKind::MultiArray(expected));

    let broken = |change, mention: &str| {
        let error = read_input(change).unwrap_err();
        assert_eq!(error.kind(), ReadErrorKind::Interface);
        assert!(error.to_string().contains(mention), "{error}");
    };
    broken(
        |array| {
            let dims = vec![proto::SizeRange { lower: 5, upper: 4 }; 2];
            array.flexibility = Some(Flexibility::Range(proto::ArrayShapeRange { dims }));
        },
        "from 5 to 4 is empty",
    );
    broken(
        |array| {
            let shapes = vec![proto::ArrayShape { dims: vec![2] }];
            array.flexibility = Some(Flexibility::Enumerated(proto::ArrayShapes { shapes }));
        },
        "differ in rank",
    );
    broken(|array| array.flexibility = Some(Flexibility::Enumerated(proto::ArrayShapes::default())), "no shapes");
    broken(|array| array.data_type = 1, "data type 1");
}

#[test]
fn equal_offsets_share_their_constant() {
    let mut model = sample();
    body(&mut model).operations.push(constant("again", blob(tensor(F16, &[2, 3]), 64)));
    let package = read(&model).unwrap();
    let operations = &package.program().functions["main"].body.operations;
    let shared = |index: usize| operations[index].attribute("val").unwrap().as_tensor().unwrap();
    assert!(std::sync::Arc::ptr_eq(shared(1), shared(4)));
    assert_eq!(shared(1).as_slice::<f16>().unwrap()[5], f16::from_f32(6.0));
}

/// The features of a sample whose output `y` and input `x` are replaced.
fn with_feature(role: &str, kind: proto::feature_type::Kind) -> Result<FeatureKind, ReadError> {
    let mut model = sample();
    let description = description(&mut model);
    let feature = if role == "input" { &mut description.inputs[0] } else { &mut description.outputs[0] };
    feature.r#type.as_mut().unwrap().kind = Some(kind);
    read(&model).map(|package| {
        let interface = package.interface(None).unwrap();
        if role == "input" { interface.inputs[0].kind.clone() } else { interface.outputs[0].kind.clone() }
    })
}

#[test]
fn every_kind_of_feature_is_read() {
    use crate::{ColorLayout, DictionaryKey, ImageFeature};
    use proto::feature_type::Kind;
    use proto::{dictionary_feature, image_type, sequence_feature};

    let output = |kind| with_feature("output", kind).unwrap();
    assert_eq!(output(Kind::Int64(proto::Opaque {})), FeatureKind::Int64);
    assert_eq!(output(Kind::Double(proto::Opaque {})), FeatureKind::Double);
    assert_eq!(output(Kind::String(proto::Opaque {})), FeatureKind::String);
    let key = Some(dictionary_feature::Key::String(proto::Opaque {}));
    let dictionary = output(Kind::Dictionary(proto::DictionaryFeature { key }));
    assert_eq!(dictionary, FeatureKind::Dictionary(DictionaryKey::String));
    let element = Some(sequence_feature::Element::Int64(proto::Opaque {}));
    let sequence = output(Kind::Sequence(proto::SequenceFeature { element }));
    assert_eq!(sequence, FeatureKind::Sequence(DictionaryKey::Int64));

    let image = |color_space, flexibility| {
        with_feature("input", Kind::Image(proto::ImageType { width: 4, height: 3, color_space, flexibility }))
    };
    let expected = |color, constraint| FeatureKind::Image(ImageFeature { width: 4, height: 3, color, constraint });
    assert_eq!(image(10, None).unwrap(), expected(ColorLayout::Grayscale, ShapeConstraint::Fixed));
    assert_eq!(image(40, None).unwrap(), expected(ColorLayout::GrayscaleFloat16, ShapeConstraint::Fixed));
    let sizes = vec![proto::ImageSize { width: 8, height: 6 }];
    let enumerated = image(20, Some(image_type::Flexibility::Enumerated(proto::ImageSizes { sizes }))).unwrap();
    assert_eq!(enumerated, expected(ColorLayout::Rgb, ShapeConstraint::Enumerated(vec![[8, 6]])));
    let side = |lower, upper| Some(proto::SizeRange { lower, upper });
    let range = proto::ImageSizeRange { width: side(1, 8), height: side(2, -1) };
    let sides = [SizeRange { min: 1, max: Some(8) }, SizeRange { min: 2, max: None }];
    let range = image(30, Some(image_type::Flexibility::Range(range))).unwrap();
    assert_eq!(range, expected(ColorLayout::Bgr, ShapeConstraint::Range(sides)));

    let refused = |result: Result<FeatureKind, ReadError>, mention: &str| {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ReadErrorKind::Interface);
        assert!(error.to_string().contains(mention), "{error}");
    };
    refused(image(50, None), "colour space 50");
    let no_side = image_type::Flexibility::Range(proto::ImageSizeRange { width: side(1, 2), height: None });
    refused(image(20, Some(no_side)), "lacks a side");
    refused(with_feature("output", Kind::Dictionary(proto::DictionaryFeature { key: None })), "type of keys");
    refused(with_feature("output", Kind::Sequence(proto::SequenceFeature { element: None })), "type of elements");
}

#[test]
fn states_are_parameters_that_are_described_apart() {
    use proto::{feature_type, state_feature, value_type};

    let mut model = sample();
    let wrapped = Some(Box::new(tensor(F16, &[2])));
    let state = typed(value_type::Kind::State(Box::new(proto::StateType { wrapped })));
    main_function(&mut model).inputs.push(named("cache", state));
    assert_refused(read(&model), ReadErrorKind::Interface, &["parameter `cache` is not described"]);

    let array = proto::ArrayType { shape: vec![2], data_type: 65552, ..Default::default() };
    let mut feature = array_feature("cache", &[2]);
    let state = proto::StateFeature { kind: Some(state_feature::Kind::Array(array)) };
    feature.r#type.as_mut().unwrap().kind = Some(feature_type::Kind::State(state));
    description(&mut model).states.push(feature);
    let package = read(&model).unwrap();
    let shown = package.program().to_string();
    assert!(shown.starts_with("main<CoreML8>(%x: (2,3,fp32), %cache: state<(2,fp16)>) {"), "{shown}");
    let expected =
        ArrayFeature { dtype: DType::Float16, shape: vec![2], constraint: ShapeConstraint::Fixed, default: None };
    assert_eq!(package.interface(None).unwrap().states[0].kind, FeatureKind::State(expected));

    // An ordinary parameter cannot be described as a state, nor a state as an input.
    let states = std::mem::take(&mut description(&mut model).states);
    description(&mut model).inputs.extend(states);
    assert_refused(read(&model), ReadErrorKind::Interface, &["input `cache`", "only states"]);
    description(&mut model).inputs[1] = array_feature("cache", &[2]);
    assert_refused(read(&model), ReadErrorKind::Interface, &["`cache` is a state either in the description or in"]);
}
