//! Images resized and sampled.

use super::*;

const GRIDS: [&str; 5] = ["DEFAULT", "STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "UNALIGN_CORNERS", "OFFSET_CORNERS"];

fn value(name: &str, spec: &OpSpec, random: &mut Random) -> Option<Value> {
    let sampler = matches!(spec.name, "resample" | "affine");
    Some(match name {
        "scale_factor_height" | "scale_factor_width" => Value::float(&[], &[random.pick(&[1.0, 2.0, 3.0])]),
        "target_size_height" | "target_size_width" | "target_height" | "target_width" | "output_height"
        | "output_width" => int(random.pick(&[1, 1, 2, 5, 16, 19])),
        "sampling_mode" if sampler => Value::str(random.pick(&["bilinear", "nearest"])),
        "sampling_mode" => Value::str(random.pick(&GRIDS)),
        "interpolation_mode" => Value::str(random.pick(&["LINEAR", "NEAREST_NEIGHBOR"])),
        "padding_mode" => Value::str(random.pick(&["constant", "border", "reflection", "symmetric"])),
        "padding_value" | "pad_value" => Value::float(&[], &[1.5]),
        "coordinates_mode" if spec.name == "affine" => Value::str("normalized_minus_one_to_one"),
        "coordinates_mode" => {
            Value::str(random.pick(&["normalized_minus_one_to_one", "normalized_zero_to_one", "unnormalized"]))
        }
        "box_coordinate_mode" => Value::str(random.pick(&[
            "CORNERS_HEIGHT_FIRST",
            "CORNERS_WIDTH_FIRST",
            "CENTER_SIZE_HEIGHT_FIRST",
            "CENTER_SIZE_WIDTH_FIRST",
        ])),
        "align_corners" | "normalized_coordinates" => flag(random),
        "resized_dims" => int(2),
        "crop_height" | "crop_width" => ints(&[random.below(2) as i32, random.below(3) as i32]),
        _ => return None,
    })
}

fn case(spec: &OpSpec, random: &mut Random) -> Case {
    let shape = dims(random, 4);
    let n = shape[0];
    let declared = spec.params.iter().filter(|param| param.role == Role::Constant);
    let mut constants = Vec::new();
    for param in declared {
        let given = param.required || param.name.starts_with("target") || random.below(4) > 0;
        constants.extend(value(param.name, spec, random).filter(|_| given).map(|value| (param.name, value)));
    }
    let weight = random.below(2) == 0;
    let mut inputs = vec![(floats(random, &shape), false)];
    let places = 1 + random.below(4);
    match spec.name {
        "resize" => inputs.push((ints(&[random.below(20) as i32, random.below(20) as i32]), weight)),
        "resample" => inputs.push((floats(random, &[n, places, 3, 2]), weight)),
        "affine" => inputs.push((floats(random, &[if weight { 1 } else { n }, 6]), weight)),
        "crop_resize" if spec.since < Opset::Ios17 => inputs.push((floats(random, &[places, 1, 4, 1, 1]), weight)),
        "crop_resize" => {
            let images: Vec<i32> = (0..places).map(|_| random.below(n.max(1)) as i32).collect();
            inputs.extend([(floats(random, &[places, 4]), weight), (ints(&images), weight)]);
        }
        _ => {}
    }
    Case::new(inputs, constants)
}

#[test]
fn images_resized() {
    family("image_resizing", &[], case);
}

#[test]
fn images_sampled() {
    family("image_resizing/sampling", &[], case);
}
