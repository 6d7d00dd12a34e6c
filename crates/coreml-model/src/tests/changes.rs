//! Files that change while a model is read: the result is one version or the other, or an error.

use std::fs::{self, File};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::packages::{package, spec, weights};
use super::*;
use crate::program::Constant;

const CONSTANTS: u64 = 64;
const BYTES: u64 = 4096;

/// The sample with more constants, all of which are in the weight file.
fn model() -> Vec<u8> {
    let mut model = sample();
    let constants = (0..CONSTANTS).map(|i| {
        let value = blob(tensor(F16, &[BYTES / 2]), 192 + i * (64 + BYTES));
        constant(&format!("w{i}"), value)
    });
    body(&mut model).operations.extend(constants);
    model.encode_to_vec()
}

/// Weights whose bytes are all `byte`, but those of the sample.
fn filled(byte: u8) -> Vec<u8> {
    let data = vec![byte; BYTES as usize];
    let records = std::iter::once((1, &HALVES[..])).chain((0..CONSTANTS).map(|_| (1, &data[..])));
    weight_file(&records.collect::<Vec<_>>())
}

/// The byte that all constants are made of.
fn read_byte(package: &Package) -> u8 {
    let operations = &package.program().functions["main"].body.operations;
    let tensors = operations.iter().rev().take(CONSTANTS as usize);
    let tensors: Vec<_> = tensors
        .map(|operation| operation.attribute("val").and_then(Constant::as_tensor).expect("a constant"))
        .collect();
    let first = tensors[0].view().as_bytes()[0];
    let whole = vec![first; BYTES as usize];
    assert!(tensors.iter().all(|tensor| tensor.view().as_bytes() == whole), "numbers of two models in one");
    first
}

/// Whether this system's clock for files tells a write from the one before it once somebody has looked between them.
fn tells_writes_apart(folder: &Path) -> bool {
    let file = folder.join("probe");
    let modified = |text: &str| {
        fs::write(&file, text).unwrap();
        fs::metadata(&file).unwrap().modified().unwrap()
    };
    (0..20).all(|_| modified("a") != modified("b"))
}

#[test]
fn a_model_whose_files_change_is_one_of_the_two_or_refused() {
    let root = package();
    let (file, other) = (weights(&root), root.path().join("other.bin"));
    let [one, two] = [filled(1), filled(2)];
    fs::write(spec(&root), model()).unwrap();
    let in_place = tells_writes_apart(root.path());
    if !in_place {
        eprintln!("not tried: writing into the file, which this system's clock for files is too coarse to notice");
    }
    let change = |how: usize| match how {
        0 => File::options().write(true).open(&file).and_then(|file| file.set_len(one.len() as u64 / 2)),
        1 => File::options().append(true).open(&file).and_then(|mut file| std::io::Write::write_all(&mut file, &two)),
        2 => fs::write(&other, &two).and_then(|()| fs::rename(&other, &file)),
        _ if in_place => {
            File::options().write(true).open(&file).and_then(|mut file| std::io::Write::write_all(&mut file, &two))
        }
        _ => Ok(()),
    };
    let (begin, begun) = mpsc::channel::<(usize, Duration)>();
    let (end, ended) = mpsc::channel();
    let mut seen = [0; 3];
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for (how, wait) in begun {
                let start = Instant::now();
                while start.elapsed() < wait {
                    std::hint::spin_loop();
                }
                end.send(change(how)).unwrap();
            }
        });
        let mut usual = Duration::from_millis(1);
        for round in 0..1000u32 {
            fs::write(&file, &one).unwrap();
            // Somewhere in a usual reading, or just beyond.
            begin.send((round as usize % 4, usual * (round * 7 % 11) / 9)).unwrap();
            let start = Instant::now();
            let read = Package::open(root.path());
            usual = usual.min(start.elapsed().max(Duration::from_micros(50)));
            match read {
                Ok(package) => seen[usize::from(read_byte(&package)) - 1] += 1,
                Err(error) => {
                    let path = error.path().expect("errors about files name them");
                    assert!(path.ends_with("weight.bin") || path.ends_with("model.mlmodel"), "{error}");
                    seen[2] += 1;
                }
            }
            ended.recv().unwrap().unwrap();
        }
        drop(begin);
    });
    println!("as it was {}, as it became {}, refused {}", seen[0], seen[1], seen[2]);
}

#[test]
fn a_file_that_changed_meanwhile_is_named() {
    let witness = crate::package::witness::Witness::default();
    let folder = tempfile::tempdir().unwrap();
    let [file, other] = ["weight.bin", "other.bin"].map(|name| folder.path().join(name));
    fs::write(&file, "numbers").unwrap();
    witness.saw(&file, &fs::metadata(&file).unwrap());
    witness.unchanged().unwrap();
    fs::write(&other, "another").unwrap();
    fs::rename(&other, &file).unwrap();
    let refused = witness.unchanged().unwrap_err();
    assert_eq!(refused.kind(), ReadErrorKind::Io);
    assert!(refused.to_string().contains("weight.bin: changed while the model was read"), "{refused}");
    fs::remove_file(&file).unwrap();
    assert!(witness.unchanged().is_err());
}
