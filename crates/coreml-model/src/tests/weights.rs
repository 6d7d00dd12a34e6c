//! Weight files.

use super::*;

#[track_caller]
fn refused_weights(change: impl FnOnce(&mut Vec<u8>), kind: ReadErrorKind, mentions: &[&str]) {
    let mut weights = sample_weights();
    change(&mut weights);
    assert_refused(read_with(&sample(), weights, &Limits::default()), kind, mentions);
}

#[test]
fn broken_weight_files_are_refused_with_their_place() {
    use ReadErrorKind::{Blob, NotFound, Unsupported};

    let place = "function `main`, operation `w` (`const`), attribute `val`, offset 64";
    let put = |at: usize, value: u64| move |file: &mut Vec<u8>| file[at..at + 8].copy_from_slice(&value.to_le_bytes());
    refused_weights(|file| file.truncate(file.len() - 1), Blob, &[place, "12 bytes from 128", "truncated"]);
    refused_weights(|file| file.truncate(100), Blob, &[place, "beyond the end"]);
    refused_weights(|file| file.truncate(40), Blob, &["`w`", "40 bytes is too short"]);
    refused_weights(Vec::clear, Blob, &["`w`", "too short"]);
    refused_weights(|file| file.insert(64, 0), Blob, &[place, "no record begins here"]);
    refused_weights(|file| file[64] = 0, Blob, &[place, "instead of 0xdeadbeef"]);
    refused_weights(|file| file[4] = 3, Blob, &["version 3"]);
    refused_weights(|file| file[4] = 1, Unsupported, &["version 1"]);
    refused_weights(|file| file[68] = 2, Blob, &[place, "holds fp32", "declares fp16"]);
    refused_weights(|file| file[68] = 99, Blob, &[place, "data type 99"]);
    refused_weights(put(72, 10), Blob, &[place, "has 10 bytes", "fp16[2, 3] needs 12"]);
    refused_weights(put(72, u64::MAX), Blob, &[place, "needs 12"]);
    refused_weights(put(80, 129), Blob, &[place, "129 is not a multiple of 64"]);
    refused_weights(put(80, 1 << 40), Blob, &[place, "beyond the file"]);
    refused_weights(put(80, u64::MAX - 63), Blob, &[place, "beyond the file"]);
    let none = Package::from_parts(&sample().encode_to_vec(), None, &Limits::default());
    assert_refused(none, NotFound, &["`w`", "`weights/weight.bin` was not given"]);
}

#[test]
fn broken_references_are_refused() {
    use ReadErrorKind::{Blob, Path};

    let reference = |change: fn(&mut proto::BlobFile), kind, mentions: &[&str]| {
        refused(
            |m| {
                let val = body(m).operations[1].attributes.get_mut("val").unwrap();
                let Some(value::Kind::BlobFile(blob)) = &mut val.kind else { panic!("`w` is in the weight file") };
                change(blob);
            },
            kind,
            mentions,
        );
    };
    reference(|blob| blob.offset = 65, Blob, &["offset 65", "multiple of 64"]);
    reference(|blob| blob.offset = 0, Blob, &["offset 0", "no record"]);
    reference(|blob| blob.offset = 1 << 20, Blob, &["beyond the end"]);
    reference(|blob| blob.offset = u64::MAX - 63, Blob, &["beyond the end"]);
    reference(|blob| blob.file = "/etc/passwd".into(), Path, &["`/etc/passwd`", "@model_path"]);
    reference(|blob| blob.file = "@model_path/../../secret".into(), Path, &["`../../secret`"]);
    reference(|blob| blob.file = "@model_path//etc/passwd".into(), Path, &["relative"]);
    reference(|blob| blob.file = "@model_path/a\0b".into(), Path, &["NUL"]);
    refused(
        |m| drop(body(m).operations[1].attributes.insert("val".into(), blob(tensor(F16, &[3, 3]), 64))),
        Blob,
        &["fp16[3, 3] needs 18"],
    );
    refused(
        |m| drop(body(m).operations[1].attributes.insert("val".into(), blob(tensor(STRING, &[1]), 64))),
        Blob,
        &["declares string"],
    );
}

#[test]
fn every_type_of_weight_is_read() {
    /// Type in the program and in the file, number of elements, bytes, values.
    type Case = (i32, u32, u64, &'static [u8], &'static [f64]);
    let cases: [Case; 5] = [
        (F32, 2, 1, &[0, 0, 0xc0, 0x3f], &[1.5]),
        (I8, 4, 2, &[0xff, 2], &[-1.0, 2.0]),
        (BF16, 5, 2, &[0x80, 0x3f, 0, 0xc0], &[1.0, -2.0]),
        (I32, 14, 1, &[0xfe, 0xff, 0xff, 0xff], &[-2.0]),
        (31, 3, 3, &[1, 2, 255], &[1.0, 2.0, 255.0]),
    ];
    for (ty, code, count, data, expected) in cases {
        let mut model = sample();
        body(&mut model).operations.push(constant("c", blob(tensor(ty, &[count]), 192)));
        let package = read_with(&model, weight_file(&[(1, &HALVES), (code, data)]), &Limits::default()).unwrap();
        let val = package.program().functions["main"].body.operations[4].attribute("val").unwrap().clone();
        assert_eq!(val.as_tensor().unwrap().view().to_f64_vec(), expected, "{code}");
    }
    let mut model = sample();
    body(&mut model).operations.push(constant("c", blob(tensor(U3, &[3]), 192)));
    let weights = weight_file(&[(1, &HALVES), (12, &[0b1111_0001, 0])]);
    let package = read_with(&model, weights, &Limits::default()).unwrap();
    let val = package.program().functions["main"].body.operations[4].attribute("val").unwrap();
    let crate::Constant::Packed(packed) = val else { panic!("three bits are packed") };
    assert_eq!(packed.unpack(), [1, 6, 3]);
}

#[test]
fn overlapping_records_do_not_multiply() {
    // Many records, all of which name the same megabyte of data.
    let records = 64;
    let data = vec![0u8; 1 << 20];
    let mut weights = weight_file(&vec![(3, &[][..]); records]);
    weights.resize(weights.len().next_multiple_of(64), 0);
    let start = weights.len();
    let mut model = sample();
    body(&mut model).operations.remove(1);
    body(&mut model).operations[1] = constant("wide", literal(tensor(I32, &[]), ints(&[1])));
    for record in 0..records {
        // Empty records lie 64 bytes apart.
        let offset = 64 + 64 * record;
        weights[offset + 8..offset + 16].copy_from_slice(&(data.len() as u64).to_le_bytes());
        weights[offset + 16..offset + 24].copy_from_slice(&(start as u64).to_le_bytes());
        let value = blob(tensor(31, &[data.len() as u64]), offset as u64);
        body(&mut model).operations.push(constant(&format!("c{record}"), value));
    }
    weights.extend(&data);
    assert_refused(read_with(&model, weights, &Limits::default()), ReadErrorKind::Limit, &["overlap"]);
}

#[test]
fn the_number_of_constants_is_bounded() {
    let limits = |blobs| Limits { blobs, ..Limits::default() };
    assert!(read_with(&sample(), sample_weights(), &limits(1)).is_ok());
    let result = read_with(&sample(), sample_weights(), &limits(0));
    assert_refused(result, ReadErrorKind::Limit, &["`w`", "more than 0 constants"]);
}
