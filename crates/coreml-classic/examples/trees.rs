//! How long trees take: loading 500 of 1,000 nodes, and predicting with 100 of depth 8, by row.
//!
//! `cargo run --release -p coreml-classic --example trees`
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "an example")]

use std::time::{Duration, Instant};

use coreml_core::{Inputs, check};
use coreml_model::{Limits, Package};
use coreml_tensor::{Shape, Tensor};
use coreml_testing::wire::{Message, Type, feature, model};

const FEATURES: i64 = 20;

/// Numbers that look random and are the same every time.
struct Lcg(u64);

impl Lcg {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f64 / (1u64 << 24) as f64
    }
}

/// A regressor of so many trees, each with all nodes of the given number of levels.
fn forest(trees: i64, levels: u32) -> Message {
    let mut random = Lcg(1);
    let (inner, all) = ((1i64 << (levels - 1)) - 1, (1i64 << levels) - 1);
    let mut ensemble = Message::new();
    for tree in 0..trees {
        for id in 0..all {
            let node = Message::new().int(1, tree).int(2, id);
            let node = if id < inner {
                let (at, threshold) = ((random.next() * FEATURES as f64) as i64, random.next());
                node.int(3, 0).int(10, at).double(11, threshold).int(12, 2 * id + 1).int(13, 2 * id + 2)
            } else {
                node.int(3, 6).message(20, &Message::new().int(1, 0).double(2, random.next()))
            };
            ensemble = ensemble.message(1, &node);
        }
    }
    let parameters = Message::new().message(1, &ensemble.int(2, 1));
    model(302, &parameters, &[feature("x", Type::Array(&[FEATURES]))], &[feature("y", Type::Double)], &["y"])
}

fn best(times: usize, mut run: impl FnMut()) -> Duration {
    let time = || {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    std::iter::repeat_with(time).take(times).min().unwrap()
}

fn main() {
    // 500 trees of 1,023 nodes.
    let large = forest(500, 10);
    let load = || {
        let package = Package::from_parts(large.bytes(), None, &Limits::default()).unwrap();
        let stage = package.model();
        coreml_classic::read(stage.classic().unwrap(), stage.interface()).unwrap()
    };
    println!("load of 500 trees of 1,023 nodes, {} bytes: {:?}", large.bytes().len(), best(10, || drop(load())));

    let package = Package::from_parts(forest(100, 9).bytes(), None, &Limits::default()).unwrap();
    let stage = package.model();
    let trees = coreml_classic::read(stage.classic().unwrap(), stage.interface()).unwrap();
    let mut random = Lcg(2);
    let rows: Vec<Tensor> = (0..10_000)
        .map(|_| Tensor::new(Shape::from([FEATURES as usize]), (0..FEATURES).map(|_| random.next()).collect()).unwrap())
        .collect();
    let predict = |row: &Tensor| {
        let inputs = Inputs::new().tensor("x", row);
        let checked = check(stage.interface(), &inputs).unwrap();
        std::hint::black_box(trees.predict(&checked).unwrap());
    };
    println!("one row, 100 trees of depth 8: {:?}", best(1000, || predict(&rows[0])));
    println!("10,000 rows, one after the other: {:?}", best(10, || rows.iter().for_each(predict)));
}
