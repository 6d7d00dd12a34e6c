//! Makes the untrained models for the guide's pictures, and the pictures.

use super::models::{Constant, constants, detector};
use super::{Scratch, repository, run};

/// Boxes of a picture of 512 x 512 by their edges, as parts of the 448 x 448 that the model sees of it, 32 from either side.
fn boxes() -> Vec<u8> {
    let labels = ["person", "helmet", "shuttle", "badge"];
    let seen = |[left, top, right, bottom]: [f32; 4]| {
        [(left + right) / 2.0 - 32.0, (top + bottom) / 2.0 - 32.0, right - left, bottom - top].map(|side| side / 448.0)
    };
    let found: &[(&[f32], [f32; 4])] = &[
        (&[0.97, 0.0, 0.0, 0.0], seen([40.0, 34.0, 362.0, 478.0])),
        (&[0.0, 0.88, 0.0, 0.0], seen([278.0, 344.0, 478.0, 478.0])),
        (&[0.0, 0.0, 0.81, 0.0], seen([354.0, 36.0, 470.0, 290.0])),
        (&[0.0, 0.0, 0.0, 0.64], seen([132.0, 346.0, 212.0, 424.0])),
        // Hidden by the helmet.
        (&[0.0, 0.52, 0.0, 0.0], seen([284.0, 350.0, 470.0, 470.0])),
    ];
    detector([320, 320], &labels, found)
}

/// Ellipses on a picture of 600 x 400, of which the model sees 525 x 350, 37 from the left and 25 from the top.
fn regions() -> Vec<u8> {
    // Class, middle and half of either side.
    let ellipses = [
        (1.0, [278.0, 234.0], [201.0, 150.0]),
        (2.0, [289.0, 152.0], [118.0, 132.0]),
        (3.0, [366.0, 282.0], [40.0, 44.0]),
    ];
    let class = |x: f32, y: f32| {
        let covers = |[cx, cy]: [f32; 2], [rx, ry]: [f32; 2]| ((x - cx) / rx).powi(2) + ((y - cy) / ry).powi(2) <= 1.0;
        let last = ellipses.iter().rev().find(|(_, middle, half)| covers(*middle, *half));
        last.map_or(0.0, |(class, ..)| *class)
    };
    let (wide, high) = (150, 100);
    let values: Vec<f32> = (0..wide * high)
        .map(|i| {
            let [x, y] = [(i % wide) as f32 + 0.5, (i / wide) as f32 + 0.5];
            class(37.0 + x * 525.0 / wide as f32, 25.0 + y * 350.0 / high as f32)
        })
        .collect();
    let output = Constant { name: "classes", shape: &[1, 100, 150], values: &values };
    let preview = r##"{"labels": ["background", "saucer", "cup", "spoon"], "colors": ["#000000", "#00C8FF", "#FFE000", "#FF00C0"]}"##;
    constants([300, 200], &[output], &[("com.apple.coreml.model.preview.params", preview)]).bytes().to_vec()
}

/// `UPDATE_EXPECT=1` writes them anew.
#[test]
fn models_and_pictures_are_those_of_the_guide() {
    let scratch = Scratch::new();
    let updates = std::env::var_os("UPDATE_EXPECT").is_some();
    for (name, model, photo) in [("detector", boxes(), "astronaut"), ("segmenter", regions(), "coffee")] {
        let file = repository(&format!("tests/fixtures/drawn/{name}.mlmodel"));
        let picture = repository(&format!("docs/guide/src/pictures/{name}.png"));
        if updates {
            std::fs::write(&file, &model).unwrap();
        }
        assert!(std::fs::read(&file).unwrap() == model, "{file} is another");
        let given = format!("image={}", repository(&format!("tests/fixtures/images/{photo}.png")));
        let drawn = if updates { picture.clone() } else { scratch.text("drawn.png") };
        let done = run(&file, &["--input", &given, "--annotate", &drawn]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let pixels = |file: &str| image::open(file).unwrap().to_rgb8();
        assert!(pixels(&drawn) == pixels(&picture), "{picture} shows something else; UPDATE_EXPECT=1 draws it anew");
    }
}
