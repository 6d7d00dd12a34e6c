//! Many pictures in one call.

use serde_json::Value as Json;

use super::{Scratch, numbers, repository, run};

/// Takes a picture `x` and gives numbers of it.
fn model() -> String {
    repository("tests/golden/interface/image-in-rgb.mlmodel")
}

/// Two pictures, and what else lies about in folders.
fn photos(scratch: &Scratch) -> String {
    scratch.picture("photos/b.png", 9, 9, [10, 20, 30]);
    scratch.picture("photos/a.PNG", 30, 20, [200, 100, 0]);
    scratch.file("photos/notes.txt", b"no picture");
    scratch.file("photos/inside/c.png", b"not looked at");
    scratch.text("photos")
}

fn image() -> String {
    let shown = std::process::Command::new(env!("CARGO_BIN_EXE_coreml")).args(["inspect", &model(), "--json"]).output();
    let shown: Json = serde_json::from_slice(&shown.unwrap().stdout).unwrap();
    shown["inputs"][0]["name"].as_str().unwrap().to_owned()
}

#[test]
fn each_picture_of_a_folder_has_a_line() {
    let scratch = Scratch::new();
    let name = image();
    let done = run(&model(), &["--input", &format!("{name}={}", photos(&scratch))]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(done.stderr, "passed over 1 file that is no picture\n");
    let lines: Vec<_> = done.text().lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with(&scratch.text("photos/a.PNG")), "{lines:?}");
    assert!(lines[1].starts_with(&scratch.text("photos/b.png")), "{lines:?}");
    assert!(lines.iter().all(|line| line.contains("mean")), "{lines:?}");
}

#[test]
fn a_classifier_tells_the_likeliest_label_of_each() {
    let pattern = repository("tests/fixtures/images/c[ho]*.png");
    let model = repository("tests/fixtures/models/EfficientNetLite0.mlpackage");
    let done = run(&model, &["--input", &format!("image={pattern}")]);
    let told: Vec<_> = done.text().lines().map(|line| line.split_once(".png").unwrap().1.trim()).collect();
    assert_eq!(told.len(), 2, "{}{}", done.text(), done.stderr);
    assert!(told[0].starts_with("tiger cat  0.42"), "{told:?}");
    assert!(told[1].starts_with("espresso  0.95"), "{told:?}");
}

#[test]
fn what_is_wrong_with_one_does_not_stop_the_others() {
    let scratch = Scratch::new();
    let (name, folder) = (image(), photos(&scratch));
    let broken = scratch.file("photos/aa.png", b"not a picture at all");
    let saved = scratch.text("out.npz");
    let done = run(&model(), &["--input", &format!("{name}={folder}"), "--json", "-o", &saved]);
    assert_eq!(done.code, Some(3));
    let lines: Vec<Json> = done.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let files: Vec<_> = lines.iter().map(|line| line["file"].as_str().unwrap()).collect();
    assert_eq!(files, [scratch.text("photos/a.PNG"), scratch.text("photos/b.png")]);
    assert!(lines.iter().all(|line| line["schema"] == "coreml-anywhere.prediction/1"));
    let told: Vec<&str> = done.stderr.lines().collect();
    assert!(told[1].contains(&broken) && told[1].starts_with('{'), "{told:?}");
    assert!(told[2].contains("1 of 3 pictures have no answer"), "{told:?}");
    // Numbers go by the place in the folder, whether or not there is an answer.
    let alone = scratch.text("alone.npz");
    let (output, value) = lines[1]["outputs"].as_object().unwrap().iter().next().unwrap();
    let given = format!("{name}={}", scratch.text("photos/b.png"));
    assert_eq!(run(&model(), &["--input", &given, "-o", &alone]).code, Some(0));
    assert_eq!(numbers(&saved, &format!("2/{output}")), numbers(&alone, output));
    if let Some(array) = value.get("array") {
        assert_eq!(array, &format!("2/{output}"));
    }
}

#[test]
fn patterns_stand_for_what_matches() {
    let scratch = Scratch::new();
    let name = image();
    photos(&scratch);
    let given = |pattern: &str| format!("{name}={}", scratch.text(pattern));
    let done = run(&model(), &["--input", &given("photos/b*")]);
    assert_eq!((done.code, done.text().lines().count()), (Some(0), 1), "{}", done.stderr);
    run(&model(), &["--input", &given("photos/*.gif")]).refused(3, &["photos/*.gif", "no pictures"]);
    run(&model(), &["--input", &given("photos/[")]).refused(2, &["photos/["]);
    let twice = run(&model(), &["--input", &given("photos"), "--input", &given("photos")]);
    twice.refused(2, &["only one input"]);
    run(&model(), &["--input", &format!("nothing={}", scratch.text("photos"))]).refused(3, &["`nothing`", &name]);
    // A name with such letters is a file's if there is such a file.
    scratch.picture("photos/what[1].png", 9, 9, [0, 0, 0]);
    let one = run(&model(), &["--input", &given("photos/what[1].png"), "--json"]);
    assert_eq!(one.json()["schema"], "coreml-anywhere.predictions/1");
}
