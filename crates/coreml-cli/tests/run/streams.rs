//! Pipes.

use super::{Scratch, numbers, piped, repository, run};

fn model() -> String {
    repository("tests/golden/interface/image-in-and-out.mlmodel")
}

#[test]
fn a_picture_comes_from_standard_input() {
    let file = repository("tests/fixtures/images/coffee.png");
    let named = run(&model(), &["--input", &format!("image={file}")]);
    let given = piped(&model(), &["--input", "image=-"], &std::fs::read(&file).unwrap());
    assert_eq!(given.code, Some(0), "{}", given.stderr);
    assert_eq!(given.text(), named.text());
    piped(&model(), &["--input", "image=-"], b"no picture").refused(3, &["standard input"]);
}

#[test]
fn arrays_go_through_pipes() {
    let scratch = Scratch::new();
    let model = scratch.file("m.mlmodel", &coreml_testing::tiny::elementwise_model(&[3], &["relu"]));
    let array = coreml_anywhere::tensor::Tensor::new([3].into(), vec![-1.0f32, 0.5, 2.0]).unwrap();
    let array = coreml_anywhere::tensor::npz::Array::Tensor(array);
    let given = scratch.path("in.npz");
    coreml_anywhere::tensor::npz::write(&given, [("x", &array)]).unwrap();
    let archive = std::fs::read(&given).unwrap();
    // One end of a pipe, the other, and both.
    for (arguments, input) in [
        (vec!["--inputs", given.to_str().unwrap()], &[][..]),
        (vec!["--inputs", "-"], &archive),
        (vec!["--input", "x=-"], &archive),
    ] {
        let done = piped(&model, &[arguments, vec!["-o", "-"]].concat(), input);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        std::fs::write(scratch.path("out.npz"), &done.stdout).unwrap();
        assert_eq!(numbers(scratch.path("out.npz"), "y"), [0.0, 0.5, 2.0]);
    }
}

#[test]
fn there_is_one_standard_input_and_one_standard_output() {
    run(&model(), &["--input", "image=-", "--inputs", "-"]).refused(2, &["standard input"]);
    run(&model(), &["--inputs", "-", "--inputs", "-"]).refused(2, &["standard input"]);
    let both = run(&model(), &["--input", "image=-", "--json", "-o", "-"]);
    assert_eq!(both.code, Some(2));
    assert!(both.stdout.is_empty() && both.stderr.contains("standard output"), "{}", both.stderr);
}
