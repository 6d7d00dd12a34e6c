//! Resizing of height and width, and cutting boxes out of images.

use super::convolution::pair;
use super::{Context, Lowered, Row, row};
use crate::error::ConvertError;

pub(super) static ROWS: &[Row] = &[
    row(210, "upsample", upsample),
    row(211, "resizeBilinear", |c| {
        let (x, outer) = c.image()?;
        let [height, width] = pair(c, 1, 1)?;
        let inputs = vec![
            ("x", x.into()),
            ("target_size_height", height.into()),
            ("target_size_width", width.into()),
            ("sampling_mode", sampling(c, 2)?.into()),
        ];
        let resized = c.builder.op("resize_bilinear", 4, inputs);
        Ok(vec![c.outer(resized, outer)])
    }),
    row(212, "cropResize", |c| {
        let (mut x, boxes) = (c.input(0)?, c.input(1)?);
        if x.rank == 5 {
            // There is no sequence.
            x = c.builder.squeeze(x, vec![0]);
        }
        if x.rank != 4 || boxes.rank < 2 {
            return Err(ConvertError::unsupported(format!("of blobs with {} and {} axes", x.rank, boxes.rank)));
        }
        let [height, width] = pair(c, 1, 1)?;
        let coordinates = match c.fields.message(4)?.unwrap_or_default().uint(1)? {
            0 => "CORNERS_HEIGHT_FIRST",
            1 => "CORNERS_WIDTH_FIRST",
            2 => "CENTER_SIZE_HEIGHT_FIRST",
            _ => "CENTER_SIZE_WIDTH_FIRST",
        };
        let inputs = vec![
            ("x", x.into()),
            ("roi", boxes.into()),
            ("target_height", height.into()),
            ("target_width", width.into()),
            ("normalized_coordinates", c.fields.bool(2)?.into()),
            ("spatial_scale", c.float_or(5, 1.0)?.into()),
            ("box_coordinate_mode", coordinates.into()),
            ("sampling_mode", sampling(c, 3)?.into()),
        ];
        Ok(vec![c.builder.op("neural_network:crop_resize", 5, inputs)])
    }),
];

/// The `SamplingMode` in field `number`, as operations call it.
fn sampling(c: &Context<'_>, number: u32) -> Result<&'static str, ConvertError> {
    Ok(match c.fields.message(number)?.unwrap_or_default().uint(1)? {
        0 => "STRICT_ALIGN_CORNERS",
        1 => "ALIGN_CORNERS",
        2 => "DEFAULT",
        _ => "OFFSET_CORNERS",
    })
}

fn upsample(c: &mut Context<'_>) -> Lowered {
    let (x, outer) = c.image()?;
    let fractional = c.fields.floats(7)?;
    let factors = match fractional.as_slice() {
        &[height, width] => [height, width],
        _ => pair(c, 1, 1)?.map(|factor| factor as f32),
    };
    let mut inputs =
        vec![("x", x.into()), ("scale_factor_height", factors[0].into()), ("scale_factor_width", factors[1].into())];
    if c.fields.uint(5)? == 0 {
        let y = c.builder.op("upsample_nearest_neighbor", 4, inputs);
        return Ok(vec![c.outer(y, outer)]);
    }
    let mode = c.fields.uint(6)?;
    inputs.push(("align_corners", (mode == 1).into()));
    inputs.push(("half_pixel_centers", (mode == 2).into()));
    let y = c.builder.op("upsample_bilinear", 4, inputs);
    Ok(vec![c.outer(y, outer)])
}
