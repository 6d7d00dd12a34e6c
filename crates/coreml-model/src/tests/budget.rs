//! Limits of the budget pass, at the limit and one beyond.

use super::*;
use crate::budget;

fn field(number: u8, contents: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_key(number.into(), prost::encoding::WireType::LengthDelimited, &mut bytes);
    prost::encoding::encode_varint(contents.len() as u64, &mut bytes);
    bytes.extend(contents);
    bytes
}

fn in_body(operations: &[u8]) -> Vec<u8> {
    let body = field(2, operations);
    let function = field(2, &field(3, &body));
    let program = field(2, &function);
    let mut model = Vec::new();
    prost::encoding::encode_key(502, prost::encoding::WireType::LengthDelimited, &mut model);
    prost::encoding::encode_varint(program.len() as u64, &mut model);
    model.extend(program);
    model
}

#[test]
fn bombs_are_refused_before_they_go_off() {
    let operations = in_body(&[0x1a, 0].repeat(1_000_000));
    let arguments = in_body(&field(3, &[0x12, 0].repeat(1_000_000)));
    let blocks = in_body(&field(3, &[0x22, 0].repeat(1_000_000)));
    let mut features = field(2, &[0x0a, 0].repeat(1_000_000));
    features.extend([8, 9]);
    for (what, bomb) in
        [("operations", operations), ("arguments", arguments), ("blocks", blocks), ("features", features)]
    {
        let error = budget::check(&bomb, &Limits::default()).expect_err(what);
        assert_eq!(error.kind(), ReadErrorKind::Limit, "{what}: {error}");
        assert!(error.to_string().contains("bytes of memory"), "{what}: {error}");
    }
}

#[test]
fn operations_functions_and_names_are_counted() {
    let spec = sample().encode_to_vec();
    let check = |limits: Limits| budget::check(&spec, &limits).map_err(|error| error.kind());
    let limits = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        limits
    };
    assert_eq!(check(limits(|l| l.operations = 4)), Ok(()));
    assert_eq!(check(limits(|l| l.operations = 3)), Err(ReadErrorKind::Limit));
    assert_eq!(check(limits(|l| l.functions = 1)), Ok(()));
    assert_eq!(check(limits(|l| l.functions = 0)), Err(ReadErrorKind::Limit));
    let functions = vec![proto::FunctionDescription::default(); 3];
    let described = proto::Description { functions, ..Default::default() };
    let described = proto::Model { description: Some(described), ..Default::default() }.encode_to_vec();
    let described = |functions| budget::check(&described, &Limits { functions, ..Limits::default() });
    assert!(described(3).is_ok());
    assert_eq!(described(2).unwrap_err().kind(), ReadErrorKind::Limit);
    assert_eq!(check(limits(|l| l.name_bytes = WEIGHTS.len())), Ok(()));
    assert_eq!(check(limits(|l| l.name_bytes = WEIGHTS.len() - 1)), Err(ReadErrorKind::Limit));
    assert_eq!(check(limits(|l| (l.heap_bytes, l.heap_factor) = (0, 1))), Err(ReadErrorKind::Limit));
}

fn nested(depth: usize) -> proto::Model {
    let mut model = sample();
    let mut block = proto::Block { outputs: vec![], ..Default::default() };
    for level in 0..depth {
        let mut outer = operation("nest", vec![], vec![]);
        outer.kind = format!("nest{level}");
        outer.blocks = vec![block];
        block = proto::Block { operations: vec![outer], ..Default::default() };
    }
    body(&mut model).operations.append(&mut block.operations);
    model
}

#[test]
fn nesting_is_bounded() {
    assert!(read(&nested(32)).is_ok());
    assert_refused(read(&nested(33)), ReadErrorKind::Limit, &["32 levels of nested blocks"]);
    // Far too deep for prost to decode.
    let mut block = Vec::new();
    for _ in 0..5_000 {
        block = field(3, &field(4, &block));
    }
    let result = Package::from_parts(&in_body(&block), None, &Limits::default());
    assert_refused(result, ReadErrorKind::Limit, &["nested"]);
}

#[test]
fn nested_types_are_bounded() {
    let mut ty = tensor(F32, &[]);
    for _ in 0..200 {
        let list = proto::ListType { element: Some(Box::new(ty)), length: None };
        ty = typed(proto::value_type::Kind::List(Box::new(list)));
    }
    let mut model = sample();
    main_function(&mut model).inputs[0].r#type = Some(ty);
    assert_refused(read(&model), ReadErrorKind::Limit, &["100 levels of nested messages"]);
}

#[test]
fn the_deepest_messages_that_pass_are_decoded() {
    let limits = Limits { block_depth: usize::MAX, ..Limits::default() };
    let open = |depth| read_with(&nested(depth), sample_weights(), &limits);
    let deepest = (32..100).take_while(|&depth| open(depth).is_ok()).last().unwrap();
    assert!((40..50).contains(&deepest), "{deepest}");
    assert_refused(open(deepest + 1), ReadErrorKind::Limit, &["nested messages"]);
}

#[test]
fn garbage_is_not_a_model() {
    let refused = |spec: &[u8], mention: &str| {
        let result = Package::from_parts(spec, None, &Limits::default());
        assert_refused(result, ReadErrorKind::Format, &[mention]);
    };
    refused(b"", "empty");
    refused(b"\0", "not a Core ML model");
    refused(b"PK\x03\x04 and so on", "unpack it");
    refused(b"version https://git-lfs.github.com/spec/v1", "git lfs pull");
    refused(&[0xff; 64], "not a Core ML model");
    // A varint without an end, a length beyond the file, a group.
    refused(&[0x08, 0x80], "byte 2");
    refused(&[0x12, 0x7f], "byte 2");
    refused(&[0x13, 0x14], "not a Core ML model");
}

#[test]
fn every_truncation_is_an_error() {
    let spec = sample().encode_to_vec();
    for length in 0..spec.len() {
        let blobs = [(WEIGHTS.to_owned(), sample_weights())].into();
        let result = Package::from_parts(&spec[..length], Some(blobs), &Limits::default());
        assert!(result.is_err(), "the first {length} bytes are not a model");
    }
}

#[test]
fn no_changed_byte_causes_a_panic() {
    let spec = sample().encode_to_vec();
    for position in 0..spec.len() {
        for change in [1u8, 0x80, 0xff] {
            let mut spec = spec.clone();
            spec[position] ^= change;
            let blobs = [(WEIGHTS.to_owned(), sample_weights())].into();
            // Some changes are harmless; the ones that print must print.
            if let Ok(package) = Package::from_parts(&spec, Some(blobs), &Limits::default()) {
                let _ = package.program().to_string();
            }
        }
    }
}
