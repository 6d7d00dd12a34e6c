//! Models in zip archives, and their fingerprints.

use std::io::{Cursor, Write};

use zip::write::{SimpleFileOptions, ZipWriter};

use super::packages::MANIFEST;
use super::*;

type Entry<'a> = (&'a str, Vec<u8>);

fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        archive.start_file(*name, SimpleFileOptions::default()).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// The sample as a package in `folder`.
fn package(folder: &str) -> Vec<(String, Vec<u8>)> {
    let data = format!("{folder}Data/com.apple.CoreML");
    vec![
        (format!("{folder}Manifest.json"), MANIFEST.into()),
        (format!("{data}/model.mlmodel"), sample().encode_to_vec()),
        (format!("{data}/weights/weight.bin"), sample_weights()),
    ]
}

fn entries(files: &[(String, Vec<u8>)]) -> Vec<Entry<'_>> {
    files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect()
}

fn open(bytes: &[u8]) -> Result<Package, ReadError> {
    Package::from_bytes(bytes, &Limits::default())
}

#[test]
fn packages_are_read_wherever_they_lie_in_an_archive() {
    let expected = read(&sample()).unwrap();
    for folder in ["", "M.mlpackage/", "models/v2/M.mlpackage/"] {
        let files = package(folder);
        let mut entries = entries(&files);
        entries.push(("__MACOSX/._M.mlpackage", b"bycatch".to_vec()));
        let bytes = archive(&entries);
        let package = open(&bytes).unwrap();
        assert_eq!(package.program(), expected.program());
        assert_eq!(package.fingerprint(), expected.fingerprint());
        let files = files.iter().cloned().chain([("__MACOSX/._M.mlpackage".into(), b"bycatch".to_vec())]);
        let package = Package::from_files(files, &Limits::default()).unwrap();
        assert_eq!((package.program(), package.fingerprint()), (expected.program(), expected.fingerprint()));
        assert_eq!(Package::from_reader(&bytes[..], &Limits::default()).unwrap().program(), expected.program());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("M.zip");
        std::fs::write(&path, &bytes).unwrap();
        let package = Package::open(&path).unwrap();
        assert_eq!((package.program(), package.path()), (expected.program(), path.as_path()));
    }
}

#[test]
fn model_files_with_weights_beside_them_are_read_too() {
    let files = [("a/m.mlmodel", sample().encode_to_vec()), ("a/weights/weight.bin", sample_weights())];
    assert_eq!(open(&archive(&files)).unwrap().program(), read(&sample()).unwrap().program());
}

#[test]
fn files_in_memory_are_refused_as_those_of_archives_are() {
    let files = |files: &[(String, Vec<u8>)], limits: &Limits| Package::from_files(files.to_vec(), limits);
    let (whole, limits) = (package(""), Limits::default());
    assert_refused(files(&[], &limits), ReadErrorKind::Format, &["holds no model"]);
    assert_refused(files(&whole[..2], &limits), ReadErrorKind::NotFound, &["`weights/weight.bin`"]);
    assert_refused(files(&[whole.clone(), whole.clone()].concat(), &limits), ReadErrorKind::Path, &["twice"]);
    assert_refused(files(&[("../a.mlmodel".into(), vec![])], &limits), ReadErrorKind::Path, &["`../a.mlmodel`"]);
    let few = Limits { archive_files: 2, ..limits };
    assert_refused(files(&whole, &few), ReadErrorKind::Limit, &["above the limit of 2"]);
}

#[test]
fn archives_without_one_model_are_refused() {
    let two: Vec<_> = [package("A.mlpackage/"), package("B.mlpackage/")].concat();
    assert_refused(open(&archive(&entries(&two))), ReadErrorKind::Format, &["`A.mlpackage`, `B.mlpackage`", "unpack"]);
    assert_refused(open(&archive(&[("a.txt", vec![])])), ReadErrorKind::Format, &["holds no model"]);
    let without_weights = &package("")[..2];
    assert_refused(open(&archive(&entries(without_weights))), ReadErrorKind::NotFound, &["`weights/weight.bin`"]);
    let bytes = archive(&entries(&package("")));
    for end in [4, 40, bytes.len() / 2, bytes.len() - 1] {
        assert_refused(open(&bytes[..end]), ReadErrorKind::Format, &["damaged zip archive"]);
    }
}

#[test]
fn names_that_lead_out_and_links_are_refused() {
    for name in ["../m.mlmodel", "/m.mlmodel", "a/../../m.mlmodel"] {
        assert_refused(open(&archive(&[(name, vec![])])), ReadErrorKind::Path, &["must be relative"]);
    }
    let mut links = ZipWriter::new(Cursor::new(Vec::new()));
    links.add_symlink("m.mlmodel", "/etc/passwd", SimpleFileOptions::default()).unwrap();
    assert_refused(open(&links.finish().unwrap().into_inner()), ReadErrorKind::Path, &["`m.mlmodel`", "symbolic link"]);
}

#[test]
fn bombs_cost_no_more_than_the_limit() {
    let mut limits = Limits { heap_bytes: 1 << 20, ..Limits::default() };
    let bomb = archive(&[("m.mlmodel", vec![0; 64 << 20])]);
    assert!(bomb.len() < 100_000);
    let refused = Package::from_zip(Cursor::new(bomb), &limits);
    assert_refused(refused, ReadErrorKind::Limit, &["`m.mlmodel`", "unpacks to more than the limit"]);
    limits.archive_files = 1;
    let refused = Package::from_zip(Cursor::new(archive(&entries(&package("")))), &limits);
    assert_refused(refused, ReadErrorKind::Limit, &["holds 3 files"]);
}

#[test]
fn fingerprints_tell_contents_apart() {
    let with = |spec: proto::Model, weights: Vec<u8>| {
        let blobs = BTreeMap::from([(WEIGHTS.to_owned(), weights)]);
        Package::from_parts(&spec.encode_to_vec(), Some(blobs), &Limits::default()).unwrap().fingerprint()
    };
    let same = with(sample(), sample_weights());
    assert_eq!(same, with(sample(), sample_weights()));
    assert_eq!(same.to_string().len(), 32);
    // The last weight, and the author.
    let mut weights = sample_weights();
    let at = weights.windows(HALVES.len()).rposition(|window| window == HALVES).unwrap();
    weights[at] ^= 1;
    assert_ne!(same, with(sample(), weights));
    let mut model = sample();
    let metadata = &mut model.description.as_mut().unwrap().metadata;
    metadata.get_or_insert_default().author = "somebody else".into();
    assert_ne!(same, with(model, sample_weights()));
}
