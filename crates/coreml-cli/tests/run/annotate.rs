//! What is drawn on pictures. The expected places are worked out by hand.

use image::RgbImage;
use serde_json::Value as Json;

use super::models::{Constant, constants, detector};
use super::{Scratch, repository, run};

const GRAY: [u8; 3] = [128; 3];

/// The boxes that `--json` tells: label and place.
fn told(shown: &Json) -> Vec<(String, [f64; 4])> {
    let detections = shown["predictions"][0]["detections"].as_array().unwrap();
    let number = |value: &Json| value.as_f64().unwrap();
    let one = |found: &Json| {
        let place = found["box"].as_array().unwrap();
        (found["label"].as_str().unwrap().to_owned(), [0, 1, 2, 3].map(|i| number(&place[i])))
    };
    detections.iter().map(one).collect()
}

#[track_caller]
fn close(told: [f64; 4], expected: [f64; 4]) {
    let apart = told.iter().zip(expected).map(|(told, expected)| (told - expected).abs()).fold(0.0, f64::max);
    assert!(apart < 1.0, "{told:?} is not {expected:?}");
}

/// The first and the last place along a row (or a column) where the picture is neither the ground nor the dark edge of a line.
fn colored(pixels: impl Iterator<Item = [u8; 3]>) -> (usize, usize) {
    let places: Vec<usize> =
        pixels.enumerate().filter(|(_, pixel)| *pixel != GRAY && *pixel != [24; 3]).map(|(place, _)| place).collect();
    (places[0], *places.last().unwrap())
}

/// A box on the picture: along its middle row and column, within `around`, there is nothing but its lines.
#[track_caller]
fn drawn(picture: &RgbImage, [x, y, width, height]: [f64; 4], around: u32) {
    let [x, y, width, height] = [x, y, width, height].map(|number| number as u32);
    let at = |x: u32, y: u32| picture.get_pixel(x, y).0;
    // Below the label, which may be at the top or in it.
    let (row, column) = (y + height - 8, x + width - 5);
    let (left, right) = colored((x - around..x + width + around).map(|x| at(x, row)));
    let (top, bottom) = colored((y + height / 2..y + height + around).map(|y| at(column, y)));
    let near =
        |found: usize, expected: u32| assert!(found.abs_diff(expected as usize) <= 1, "{found} is not {expected}");
    near(left, around);
    near(right, around + width - 1);
    near(bottom, height - height / 2 - 1);
    assert!(top > 0);
}

/// Pictures are 640 x 400; the model takes 320 x 320, so that it sees 350 x 350 of them, 145 from the left and 25 from the top.
#[test]
fn boxes_of_a_suppression_lie_where_they_were_found() {
    let scratch = Scratch::new();
    let found: &[(&[f32], [f32; 4])] = &[
        (&[0.9, 0.1], [0.5, 0.5, 0.2, 0.4]),
        // Hidden by the first.
        (&[0.8, 0.0], [0.5, 0.5, 0.2, 0.4]),
        (&[0.0, 0.6], [0.2, 0.9, 0.1, 0.1]),
        // Not sure enough.
        (&[0.1, 0.2], [0.8, 0.1, 0.1, 0.1]),
    ];
    let model = scratch.file("m.mlmodel", &detector([320, 320], &["dog", "cat"], found));
    let given = format!("image={}", scratch.picture("p.png", 640, 400, GRAY));
    let file = scratch.text("drawn.png");
    let done = run(&model, &["--input", &given, "--json", "--annotate", &file]);
    let boxes = told(&done.json());
    let labels: Vec<_> = boxes.iter().map(|(label, _)| label.as_str()).collect();
    assert_eq!(labels, ["dog", "cat"]);
    let expected = [[145.0 + 140.0, 25.0 + 105.0, 70.0, 140.0], [145.0 + 52.5, 25.0 + 297.5, 35.0, 35.0]];
    close(boxes[0].1, expected[0]);
    close(boxes[1].1, expected[1]);
    let picture = image::open(&file).unwrap().to_rgb8();
    assert_eq!(picture.dimensions(), (640, 400));
    drawn(&picture, expected[0], 30);
    // Boxes are told without being drawn, too, and thresholds are the caller's.
    let sure = run(&model, &["--input", &given, "--json", "--text", "confidenceThreshold=0.7"]).json();
    assert_eq!(told(&sure).len(), 1);
}

/// The model takes 320 x 160 and sees 560 x 280 of the picture, 40 from the left and 60 from the top.
#[test]
fn boxes_of_a_raw_head_lie_where_they_were_found() {
    let scratch = Scratch::new();
    // A column for each box: centre, sides, then a score for each of two classes.
    let columns: &[[f32; 6]] = &[
        [160.0, 80.0, 64.0, 32.0, 0.9, 0.1],
        // Of its class and most of its area.
        [162.0, 80.0, 64.0, 32.0, 0.8, 0.1],
        // Of another class.
        [160.0, 80.0, 64.0, 32.0, 0.1, 0.5],
        // Overlaps the first by less than 0.45: 32 of 96.
        [192.0, 80.0, 64.0, 32.0, 0.7, 0.1],
        [20.0, 20.0, 10.0, 10.0, 0.2, 0.24],
    ];
    let values: Vec<f32> = (0..6).flat_map(|row| columns.iter().map(move |column| column[row])).collect();
    let head = Constant { name: "out", shape: &[1, 6, 5], values: &values };
    let notes = [("names", "{0: 'person', 1: \"bird's nest\"}"), ("task", "detect"), ("stride", "32")];
    let model = scratch.file("m.mlmodel", constants([320, 160], &[head], &notes).bytes());
    let given = format!("image={}", scratch.picture("p.png", 640, 400, GRAY));
    let file = scratch.text("drawn.png");
    let boxes = told(&run(&model, &["--input", &given, "--json", "--annotate", &file]).json());
    let labels: Vec<_> = boxes.iter().map(|(label, _)| label.as_str()).collect();
    assert_eq!(labels, ["person", "person", "bird's nest"]);
    close(boxes[0].1, [40.0 + 224.0, 60.0 + 112.0, 112.0, 56.0]);
    close(boxes[1].1, [40.0 + 280.0, 60.0 + 112.0, 112.0, 56.0]);
    close(boxes[2].1, boxes[0].1);
    assert!(std::path::Path::new(&file).is_file());
}

/// A picture of the model's size, seen whole, in two rows of four fields; then one of which the middle is seen.
#[test]
fn regions_have_their_colors() {
    let scratch = Scratch::new();
    let classes = [0.0, 1.0, 2.0, 0.0, 1.0, 1.0, 1.0, 2.0f32];
    // The same as scores, class after class.
    let scores: Vec<f32> =
        (0..3).flat_map(|class| classes.iter().map(move |&of| f32::from(u8::from(of == class as f32)))).collect();
    let preview = r##"{"labels": ["background", "cat", "dog"], "colors": ["#000000", "#FF0000", "#0000FF"]}"##;
    let notes = [("com.apple.coreml.model.preview.params", preview)];
    let (red, blue) = ([191, 64, 64], [64, 64, 191]);
    for (shape, values) in
        [(&[2, 4][..], &classes[..]), (&[1, 2, 4], &classes), (&[1, 1, 2, 4], &classes), (&[1, 3, 2, 4], &scores)]
    {
        let output = Constant { name: "classes", shape, values };
        let model = scratch.file("m.mlmodel", constants([80, 40], &[output], &notes).bytes());
        let file = scratch.text("drawn.png");
        let given = format!("image={}", scratch.picture("p.png", 80, 40, GRAY));
        let done = run(&model, &["--input", &given, "--annotate", &file]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let picture = image::open(&file).unwrap().to_rgb8();
        assert!(picture.width() >= 80 && picture.height() > 40, "the legend is below");
        for (field, class) in classes.iter().enumerate() {
            let corner = [(field % 4 * 20) as u32, (field / 4 * 20) as u32];
            let expected = [GRAY, red, blue][*class as usize];
            for [x, y] in [[0, 0], [19, 0], [0, 19], [19, 19]] {
                assert_eq!(picture.get_pixel(corner[0] + x, corner[1] + y).0, expected, "{shape:?}, field {field}");
            }
        }
        // 70 x 35 of it are seen, 45 from the left and 2 from the top: the second field begins 17.5 further right.
        let given = format!("image={}", scratch.picture("p.png", 160, 40, GRAY));
        assert_eq!(run(&model, &["--input", &given, "--annotate", &file]).code, Some(0));
        let picture = image::open(&file).unwrap().to_rgb8();
        let row: Vec<_> = [20, 50, 60, 64, 78, 82, 140].map(|x| picture.get_pixel(x, 10).0).to_vec();
        assert_eq!(row, [GRAY, GRAY, GRAY, red, red, blue, GRAY]);
    }
}

#[test]
fn what_cannot_be_drawn_is_told() {
    let scratch = Scratch::new();
    let file = scratch.text("drawn.png");
    let picture = scratch.picture("in/p.png", 8, 8, GRAY);
    let given = format!("image={picture}");
    let annotate = |model: &str, path: &str| run(model, &["--input", &given, "--annotate", path]);
    let values: Vec<f32> = (0..10).map(|i| i as f32 + 0.5).collect();
    let vector = Constant { name: "numbers", shape: &[1, 10], values: &values };
    let vector = scratch.file("v.mlmodel", constants([8, 8], &[vector], &[]).bytes());
    annotate(&vector, &file).refused(3, &["`numbers`", "[1, 10]", "non-maximum suppression", "YOLO"]);
    let depth = Constant { name: "depth", shape: &[2, 5], values: &values };
    let depth = scratch.file("d.mlmodel", constants([8, 8], &[depth], &[]).bytes());
    annotate(&depth, &file).refused(3, &["`depth`"]);
    assert!(!scratch.path("drawn.png").exists());
    let classifier = repository("tests/fixtures/models/EfficientNetLite0.mlpackage");
    annotate(&classifier, &file).refused(3, &["none of the model's outputs is an array"]);
    let found: &[(&[f32], [f32; 4])] = &[(&[0.9], [0.5, 0.5, 0.2, 0.4])];
    let model = scratch.file("m.mlmodel", &detector([8, 8], &["dog"], found));
    annotate(&model, &scratch.text("in")).refused(2, &["overwrite"]);
    let folder = format!("image={}", scratch.text("in"));
    run(&model, &["--input", &folder, "--annotate", &file]).refused(2, &["need a folder"]);
    let several = run(&model, &["--input", &folder, "--annotate", &scratch.text("out")]);
    assert_eq!(several.code, Some(0), "{}", several.stderr);
    assert!(several.text().contains("1 found  dog 0.9000"), "{}", several.text());
    assert!(scratch.path("out/p.png").is_file());
}
