//! Sampling images at coordinates: `resample`, `affine`, `crop_resize`.
//!
//! All read an image `[n, c, h, w]` at positions in pixels. Outside the image they read a constant, the edge, or the
//! mirrored image. `crop_resize` replaces a whole sample whose position is outside; the others blend at the edge.

use coreml_model::Opset;

use super::Grid;
use crate::op::{Args, Bind, Env, Ins, Op, OpError, OpSpec, Outs, Param, Types, constant, input, shape_of};
use crate::value::Kind;

pub(crate) static OPS: &[OpSpec] = &[
    OpSpec {
        name: "resample",
        since: Opset::Ios15,
        params: &[
            input("x"),
            input("coordinates"),
            constant("sampling_mode").optional(),
            constant("padding_mode").optional(),
            constant("padding_value").optional(),
            constant("coordinates_mode").optional(),
            constant("align_corners").optional(),
        ],
        bind: Bind::Node(|args| Ok(Box::new(Resample(Sampler::read(args)?)))),
    },
    OpSpec {
        name: "affine",
        since: Opset::Ios15,
        params: &[
            input("x"),
            input("transform_matrix"),
            constant("output_height"),
            constant("output_width"),
            constant("sampling_mode").optional(),
            constant("padding_mode").optional(),
            constant("padding_value").optional(),
            constant("coordinates_mode").optional(),
            constant("align_corners").optional(),
        ],
        bind: Bind::Node(bind_affine),
    },
    OpSpec {
        name: "crop_resize",
        since: Opset::Ios15,
        params: &REGIONS,
        bind: Bind::Node(|args| bind_crop_resize(args, Rois::Unpadded)),
    },
    OpSpec {
        name: "crop_resize",
        since: Opset::Ios16,
        params: &REGIONS,
        bind: Bind::Node(|args| bind_crop_resize(args, Rois::Padded)),
    },
    OpSpec {
        name: "crop_resize",
        since: Opset::Ios17,
        params: &BOXES,
        bind: Bind::Node(|args| bind_crop_resize(args, Rois::Boxes)),
    },
];

/// The row of the layer of neural networks, whose name is this library's own: as the operation of iOS 15, but what lies
/// outside the image is its edge.
pub(crate) const LAYER: OpSpec = OpSpec {
    name: "neural_network:crop_resize",
    since: Opset::Ios15,
    params: &REGIONS,
    bind: Bind::Node(|args| bind_crop_resize(args, Rois::Clamped)),
};

const REGIONS: [Param; 9] = crop_parameters([input("x"), input("roi")]);
const BOXES: [Param; 10] = crop_parameters([input("x"), input("boxes"), input("box_indices").optional()]);

const fn crop_parameters<const N: usize, const M: usize>(inputs: [Param; N]) -> [Param; M] {
    let constants = [
        constant("target_height").optional(),
        constant("target_width").optional(),
        constant("normalized_coordinates").optional(),
        constant("spatial_scale").optional(),
        constant("box_coordinate_mode").optional(),
        constant("sampling_mode").optional(),
        constant("pad_value").optional(),
    ];
    assert!(M == N + constants.len());
    let mut all = [constants[0]; M];
    let mut i = 0;
    while i < M {
        all[i] = if i < N { inputs[i] } else { constants[i - N] };
        i += 1;
    }
    all
}

/// What lies outside the image.
#[derive(Debug, Clone, Copy)]
enum Outside {
    Constant(f32),
    Edge,
    Mirror,
}

/// How coordinates become positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coordinates {
    /// -1 and 1 are the ends.
    Centred,
    /// 0 and 1 are the ends.
    Unit,
    /// Positions in pixels.
    Pixels,
}

/// Reads an image at any position.
#[derive(Debug, Clone)]
struct Sampler {
    linear: bool,
    outside: Outside,
    coordinates: Coordinates,
    /// The ends of normalised coordinates are the centres of the outermost pixels, else their outer edges.
    align_corners: bool,
}

impl Sampler {
    fn read(args: &Args<'_>) -> Result<Self, OpError> {
        let linear = match args.str("sampling_mode", "bilinear")? {
            "bilinear" => true,
            "nearest" => false,
            other => return Err(OpError::parameter("sampling_mode", format!("`{other}` is not a sampling mode"))),
        };
        let outside = match args.str("padding_mode", "constant")? {
            "constant" => Outside::Constant(args.float("padding_value", 0.0)?),
            "border" => Outside::Edge,
            "reflection" | "symmetric" => Outside::Mirror,
            other => return Err(OpError::parameter("padding_mode", format!("`{other}` is not a padding mode"))),
        };
        let coordinates = match args.str("coordinates_mode", "normalized_minus_one_to_one")? {
            "normalized_minus_one_to_one" => Coordinates::Centred,
            "normalized_zero_to_one" => Coordinates::Unit,
            "unnormalized" => Coordinates::Pixels,
            other => return Err(OpError::parameter("coordinates_mode", format!("`{other}` is not a mode"))),
        };
        Ok(Self { linear, outside, coordinates, align_corners: args.bool("align_corners", false)? })
    }

    /// The position on an axis of `size` pixels that a coordinate means.
    fn position(&self, coordinate: f32, size: usize) -> f32 {
        let size = size as f32;
        let unit = match self.coordinates {
            Coordinates::Pixels => return coordinate,
            Coordinates::Unit => coordinate,
            Coordinates::Centred => (coordinate + 1.0) / 2.0,
        };
        if self.align_corners { unit * (size - 1.0) } else { unit * size - 0.5 }
    }

    /// The position brought onto the axis, where that is the rule.
    fn bring_inside(&self, position: f32, size: usize) -> f32 {
        let last = size as f32 - 1.0;
        let mirrored = match self.outside {
            Outside::Constant(_) => return position,
            Outside::Edge => position,
            Outside::Mirror => {
                // Mirrors stand on the outermost pixels or on their outer edges.
                let (low, length) = if self.align_corners || self.coordinates == Coordinates::Pixels {
                    (0.0, last)
                } else {
                    (-0.5, last + 1.0)
                };
                if length == 0.0 {
                    0.0
                } else {
                    let way = (position - low).abs() % (2.0 * length);
                    low + if way > length { 2.0 * length - way } else { way }
                }
            }
        };
        // A coordinate that is no number ends up somewhere on the image.
        if mirrored.is_nan() { 0.0 } else { mirrored.clamp(0.0, last) }
    }

    /// What a sample at the coordinates `x` and `y` takes from a plane of `h x w` pixels.
    fn taps(&self, [h, w]: [usize; 2], x: f32, y: f32) -> Taps {
        let x = self.bring_inside(self.position(x, w), w);
        let y = self.bring_inside(self.position(y, h), h);
        let pixel = |row: f32, column: f32| {
            let inside = row >= 0.0 && row < h as f32 && column >= 0.0 && column < w as f32;
            inside.then(|| row as usize * w + column as usize)
        };
        if !self.linear {
            return Taps::One(pixel(y.round_ties_even(), x.round_ties_even()));
        }
        let (top, left) = (y.floor(), x.floor());
        let (down, right) = (y - top, x - left);
        Taps::Four([
            (pixel(top, left), (1.0 - down) * (1.0 - right)),
            (pixel(top, left + 1.0), (1.0 - down) * right),
            (pixel(top + 1.0, left), down * (1.0 - right)),
            (pixel(top + 1.0, left + 1.0), down * right),
        ])
    }

    /// Samples a plane of `h x w` pixels; `x` and `y` are coordinates.
    fn sample(&self, plane: &[f32], size: [usize; 2], x: f32, y: f32) -> f32 {
        self.taps(size, x, y).of(plane, self.outside)
    }

    /// Samples all planes of an image at the coordinates of each output pixel.
    fn sample_planes(
        &self,
        x: &[f32],
        size: [usize; 2],
        out: &mut [f32],
        pixels: usize,
        coordinates: impl Fn(usize) -> (f32, f32),
    ) {
        // Where a pixel comes from is the same in all planes. Few enough at a time that they stay in the cache.
        let mut held = [Taps::One(None); 64];
        for start in (0..pixels).step_by(held.len()) {
            let taps = &mut held[..(pixels - start).min(64)];
            for (pixel, taps) in taps.iter_mut().enumerate() {
                let (x, y) = coordinates(start + pixel);
                *taps = self.taps(size, x, y);
            }
            for (plane, out) in x.chunks_exact(size[0] * size[1]).zip(out.chunks_exact_mut(pixels)) {
                out[start..].iter_mut().zip(&*taps).for_each(|(out, taps)| *out = taps.of(plane, self.outside));
            }
        }
    }
}

/// The pixels that a sample is made of, `None` for one outside the image, and their shares.
#[derive(Debug, Clone, Copy)]
enum Taps {
    One(Option<usize>),
    Four([(Option<usize>, f32); 4]),
}

impl Taps {
    fn of(&self, plane: &[f32], outside: Outside) -> f32 {
        let pixel = |at: Option<usize>| match (at, outside) {
            (Some(at), _) => plane[at],
            (None, Outside::Constant(value)) => value,
            // Only as the far side of the last pixel, where its share is zero.
            (None, Outside::Edge | Outside::Mirror) => 0.0,
        };
        match *self {
            Self::One(at) => pixel(at),
            Self::Four(taps) => {
                let [a, b, c, d] = taps.map(|(at, share)| if share == 0.0 { 0.0 } else { pixel(at) * share });
                a + b + c + d
            }
        }
    }
}

/// `[n, c, h, w]` with pixels to sample.
fn image(ins: Ins<'_>) -> Result<[usize; 4], OpError> {
    match *ins.float(0)?.shape.dims() {
        [n, c, h, w] if h > 0 && w > 0 => Ok([n, c, h, w]),
        _ => Err(OpError::parameter("x", format!("{} is not an image [n, c, h, w]", ins.shape(0)))),
    }
}

/// The image at coordinates `(x, y)` given for every output pixel.
#[derive(Debug)]
struct Resample(Sampler);

impl Op for Resample {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let [n, c, _, _] = image(ins)?;
        let coordinates = ins.shape(1);
        match *coordinates.dims() {
            [m, height, width, 2] if m == n => Ok(vec![ins.ty(0).with_shape(shape_of(&[n, c, height, width])?)]),
            _ => Err(OpError::parameter("coordinates", format!("{coordinates} does not fit x {}", ins.shape(0)))),
        }
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let [_, c, h, w] = image(ins)?;
        let pixels: usize = outs.shape(0)[2..].iter().product();
        let x = ins.f32(0);
        let coordinate = |i: usize| {
            if ins.ty(1).kind == Kind::Float { ins.f32(1)[i] } else { ins.i32(1)[i] as f32 }
        };
        let images = x.chunks_exact((c * h * w).max(1)).zip(outs.f32(0).chunks_exact_mut((c * pixels).max(1)));
        for (image, (x, out)) in images.enumerate() {
            self.0.sample_planes(x, [h, w], out, pixels, |pixel| {
                let from = 2 * (image * pixels + pixel);
                (coordinate(from), coordinate(from + 1))
            });
        }
        Ok(())
    }
}

/// The image at the output's pixels moved by a matrix `[a, b, c, d, e, f]`: `(ax + by + c, dx + ey + f)`.
#[derive(Debug)]
struct Affine {
    sampler: Sampler,
    size: [usize; 2],
}

fn bind_affine(args: &Args<'_>) -> Result<Box<dyn Op>, OpError> {
    let sampler = Sampler::read(args)?;
    if sampler.coordinates != Coordinates::Centred {
        return Err(OpError::parameter("coordinates_mode", "must be `normalized_minus_one_to_one` for affine"));
    }
    Ok(Box::new(Affine { sampler, size: [target(args, "output_height")?, target(args, "output_width")?] }))
}

fn target(args: &Args<'_>, name: &'static str) -> Result<usize, OpError> {
    let size = args.int(name, 1)?;
    usize::try_from(size).map_err(|_| OpError::parameter(name, format!("{size} is not a size")))
}

impl Op for Affine {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let [n, c, _, _] = image(ins)?;
        let matrix = ins.float(1)?.shape;
        if matrix.last() != Some(&6) || matrix.rank() != 2 || ![1, n].contains(&matrix[0]) {
            return Err(OpError::parameter("transform_matrix", format!("{matrix} does not fit x {}", ins.shape(0))));
        }
        Ok(vec![ins.ty(0).with_shape(shape_of(&[n, c, self.size[0], self.size[1]])?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let [_, c, h, w] = image(ins)?;
        let [height, width] = self.size;
        let (x, matrices) = (ins.f32(0), ins.f32(1));
        let place = |i: usize, size: usize| match (self.sampler.align_corners, size) {
            (true, 1) => 0.0,
            (true, _) => 2.0 * i as f32 / (size - 1) as f32 - 1.0,
            (false, _) => (2 * i + 1) as f32 / size as f32 - 1.0,
        };
        let pixels = height * width;
        let images = x.chunks_exact((c * h * w).max(1)).zip(outs.f32(0).chunks_exact_mut((c * pixels).max(1)));
        for (image, (x, out)) in images.enumerate() {
            let matrix = if matrices.len() == 6 { matrices } else { &matrices[image * 6..][..6] };
            self.sampler.sample_planes(x, [h, w], out, pixels, |pixel| {
                let (u, v) = (place(pixel % width, width), place(pixel / width, height));
                (matrix[0] * u + matrix[1] * v + matrix[2], matrix[3] * u + matrix[4] * v + matrix[5])
            });
        }
        Ok(())
    }
}

/// What the four numbers of a box are.
#[derive(Debug, Clone, Copy)]
struct BoxMode {
    /// Centre and size, else two corners.
    centred: bool,
    width_first: bool,
}

/// How an operation set says what is to be cut out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rois {
    /// iOS 15: `[n, 1, 4 or 5, 1, 1]`, the fifth number in front being the image.
    Unpadded,
    /// Neural networks: the same, and outside the image is its edge.
    Clamped,
    /// iOS 16: as iOS 15, and what lies outside the image has a value.
    Padded,
    /// iOS 17: `[n, 4]`; the images they are of come apart.
    Boxes,
}

/// Boxes cut out of images and resized.
#[derive(Debug)]
struct CropResize {
    rois: Rois,
    size: [usize; 2],
    normalized: bool,
    scale: f64,
    mode: BoxMode,
    grid: Grid,
    pad_value: f32,
}

fn bind_crop_resize(args: &Args<'_>, rois: Rois) -> Result<Box<dyn Op>, OpError> {
    let (centred, width_first) = match args.str("box_coordinate_mode", "CORNERS_HEIGHT_FIRST")? {
        "CORNERS_HEIGHT_FIRST" => (false, false),
        "CORNERS_WIDTH_FIRST" => (false, true),
        "CENTER_SIZE_HEIGHT_FIRST" => (true, false),
        "CENTER_SIZE_WIDTH_FIRST" => (true, true),
        other => return Err(OpError::parameter("box_coordinate_mode", format!("`{other}` is not a mode"))),
    };
    Ok(Box::new(CropResize {
        rois,
        size: [target(args, "target_height")?, target(args, "target_width")?],
        normalized: args.bool("normalized_coordinates", false)?,
        scale: args.float("spatial_scale", 1.0)?.into(),
        mode: BoxMode { centred, width_first },
        grid: Grid::read(args)?,
        pad_value: args.float("pad_value", 0.0)?,
    }))
}

impl CropResize {
    fn has_boxes(&self) -> bool {
        self.rois == Rois::Boxes
    }

    /// Number of boxes, and numbers each has.
    fn regions(&self, ins: Ins<'_>) -> Result<(usize, usize), OpError> {
        let regions = ins.float(1)?.shape;
        let count = regions.first().copied().unwrap_or(0);
        let numbers = if self.has_boxes() || count == 0 { 4 } else { regions.count() / count };
        let valid = if self.has_boxes() { regions.rank() == 2 && regions[1] == 4 } else { regions.rank() > 0 };
        if valid && [4, 5].contains(&numbers) {
            return Ok((count, numbers));
        }
        let name = if self.has_boxes() { "boxes" } else { "roi" };
        Err(OpError::parameter(name, format!("{regions} are no boxes")))
    }

    /// The edges of a box in pixels: `[first, last]` row and column.
    fn edges(&self, numbers: &[f32], [h, w]: [usize; 2]) -> [[f64; 2]; 2] {
        let at = |i: usize| f64::from(numbers[if self.mode.width_first { i ^ 1 } else { i }]);
        [0, 1].map(|axis| {
            let unit = if self.normalized { [h, w][axis] as f64 - 1.0 } else { 1.0 } * self.scale;
            let (a, b) = (at(axis), at(axis + 2));
            let (first, last) = if self.mode.centred { (a - b / 2.0, a + b / 2.0) } else { (a, b) };
            [first * unit, last * unit]
        })
    }

    /// `edges`, or those of the whole image.
    ///
    /// iOS 15 asks for normalised coordinates within 0 and 1 and does not say what another box is. The converter's test
    /// of that operation set gives the box `[2, 2, 1, 1]`, backwards and beyond the image, and expects all of the image.
    fn replaced(&self, edges: [[f64; 2]; 2], [h, w]: [usize; 2]) -> [[f64; 2]; 2] {
        let image = [[0.0, h as f64 - 1.0], [0.0, w as f64 - 1.0]];
        let backwards_beyond = |([first, last], [_, end]): (&[f64; 2], &[f64; 2])| last < first && first > end;
        let replaces = self.rois == Rois::Unpadded && self.normalized;
        if replaces && edges.iter().zip(&image).all(backwards_beyond) { image } else { edges }
    }

    /// Cuts one box out of the planes of one image.
    fn cut(&self, image: &[f32], [h, w]: [usize; 2], edges: [[f64; 2]; 2], out: &mut [f32]) {
        let [height, width] = self.size;
        let sampler =
            Sampler { linear: true, outside: Outside::Edge, coordinates: Coordinates::Pixels, align_corners: true };
        for (at, slot) in out.iter_mut().enumerate() {
            let plane = &image[at / width / height * h * w..][..h * w];
            let [y, x] = [(at / width % height, height), (at % width, width)];
            let y = self.grid.position(y.0, y.1, edges[0][0], edges[0][1]);
            let x = self.grid.position(x.0, x.1, edges[1][0], edges[1][1]);
            let inside = y >= 0.0 && y <= (h - 1) as f64 && x >= 0.0 && x <= (w - 1) as f64;
            let inside = inside || self.rois == Rois::Clamped;
            *slot = if inside { sampler.sample(plane, [h, w], x as f32, y as f32) } else { self.pad_value };
        }
    }
}

impl Op for CropResize {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let [n, c, _, _] = image(ins)?;
        let (count, numbers) = self.regions(ins)?;
        let [height, width] = self.size;
        if !self.has_boxes() {
            let images = if numbers == 5 { 1 } else { n };
            return Ok(vec![ins.ty(0).with_shape(shape_of(&[count, images, c, height, width])?)]);
        }
        let indices = if ins.has(2) { ins.expect_kind(2, Kind::Int)?.count() } else { n };
        if indices != count && (ins.has(2) || indices < count) {
            return Err(OpError::parameter("box_indices", format!("{indices} images for {count} boxes")));
        }
        Ok(vec![ins.ty(0).with_shape(shape_of(&[count, c, height, width])?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let [n, c, h, w] = image(ins)?;
        let (_, numbers) = self.regions(ins)?;
        let len = c * self.size[0] * self.size[1];
        let per_box = if self.has_boxes() || numbers == 5 { 1 } else { n };
        let x = ins.f32(0);
        for (at, out) in outs.f32(0).chunks_exact_mut(len.max(1)).enumerate() {
            let index = at / per_box;
            let region = &ins.f32(1)[index * numbers..][..numbers];
            let image = match (self.has_boxes(), numbers) {
                (true, _) if ins.has(2) => i64::from(ins.i32(2)[index]),
                (true, _) => index as i64,
                (false, 5) => region[0] as i64,
                (false, _) => (at % per_box) as i64,
            };
            let image = usize::try_from(image).ok().filter(|&image| image < n).ok_or_else(|| {
                let name = if self.has_boxes() { "box_indices" } else { "roi" };
                OpError::parameter(name, format!("there is no image {image} among {n}"))
            })?;
            let edges = self.replaced(self.edges(&region[numbers - 4..], [h, w]), [h, w]);
            self.cut(&x[image * c * h * w..][..c * h * w], [h, w], edges, out);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use coreml_model::Opset;

    use crate::ops::testing::{Value, run, run_in};

    fn close(found: &Value, expected: &[f64]) {
        let found = found.floats();
        let same = found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(same, "{found:?}, not {expected:?}");
    }

    fn row() -> Value {
        Value::float(&[1, 1, 1, 4], &[10.0, 20.0, 30.0, 40.0])
    }

    #[test]
    fn what_lies_outside() {
        // torch.nn.functional.grid_sample(x, grid, mode, padding_mode, align_corners) at x = -1.5, 0.25, 1.25
        let coordinates = Value::float(&[1, 1, 3, 2], &[-1.5, 0.0, 0.25, 0.0, 1.25, 0.0]);
        for (padding, align, expected) in [
            ("constant", true, [2.5, 28.75, 25.0]),
            ("border", true, [10.0, 28.75, 40.0]),
            ("reflection", true, [17.5, 28.75, 36.25]),
            ("reflection", false, [15.0, 30.0, 40.0]),
        ] {
            let constants = [
                ("padding_mode", Value::str(padding)),
                ("padding_value", Value::float(&[], &[0.0])),
                ("align_corners", Value::bool(&[], &[align])),
                ("coordinates_mode", Value::str("normalized_minus_one_to_one")),
                ("sampling_mode", Value::str("bilinear")),
            ];
            close(&run("resample", &[row(), coordinates.clone()], &constants).unwrap()[0], &expected);
        }
    }

    #[test]
    fn coordinates_that_are_no_numbers_are_harmless() {
        let coordinates = Value::float(&[1, 1, 3, 2], &[f32::NAN, 0.0, f32::INFINITY, 0.0, 1e30, -1e30]);
        for padding in ["constant", "border", "reflection"] {
            for mode in ["bilinear", "nearest"] {
                let constants = [("padding_mode", Value::str(padding)), ("sampling_mode", Value::str(mode))];
                assert!(run("resample", &[row(), coordinates.clone()], &constants).is_ok());
            }
        }
    }

    #[test]
    fn the_layer_continues_the_edge() {
        let regions = Value::float(&[1, 1, 4, 1, 1], &[0.0, 0.0, 0.0, 6.0]);
        let constants = [("target_width", Value::int(&[], &[3])), ("sampling_mode", Value::str("ALIGN_CORNERS"))];
        let out = run("neural_network:crop_resize", &[row(), regions], &constants).unwrap();
        assert_eq!(out[0].shape()[..], [1, 1, 1, 1, 3]);
        close(&out[0], &[10.0, 40.0, 40.0]);
    }

    #[test]
    fn boxes_are_cut_out_and_padded() {
        let boxes = Value::float(&[2, 4], &[0.0, 1.0, 0.0, 3.0, 0.0, 3.0, 0.0, 5.0]);
        let constants = [
            ("target_width", Value::int(&[], &[3])),
            ("sampling_mode", Value::str("ALIGN_CORNERS")),
            ("pad_value", Value::float(&[], &[-1.0])),
        ];
        let ins = [row(), boxes.clone(), Value::int(&[2], &[0, 0])];
        close(&run("crop_resize", &ins, &constants).unwrap()[0], &[20.0, 30.0, 40.0, 40.0, -1.0, -1.0]);
        let ins = [row(), boxes, Value::int(&[2], &[0, 1])];
        assert!(run("crop_resize", &ins, &constants).unwrap_err().to_string().contains("box_indices"));
    }

    /// The converter's tests of iOS 15 and iOS 16, on the numbers 1 to 16.
    #[test]
    fn boxes_backwards_and_beyond_the_image() {
        let image = Value::float(&[1, 1, 4, 4], &(1..=16).map(|i| i as f32).collect::<Vec<_>>());
        let cut = |opset, region: [f32; 4], mode: &str| {
            let constants = [
                ("target_height", Value::int(&[], &[2])),
                ("target_width", Value::int(&[], &[2])),
                ("normalized_coordinates", Value::bool(&[], &[true])),
                ("sampling_mode", Value::str(mode)),
                ("pad_value", Value::float(&[], &[-1.0])),
            ];
            let region = Value::float(&[1, 1, 4, 1, 1], &region);
            run_in(opset, "crop_resize", &[image.clone(), region], &constants).unwrap().remove(0)
        };
        close(&cut(Opset::Ios15, [2.0, 2.0, 1.0, 1.0], "UNALIGN_CORNERS"), &[3.5, 5.5, 11.5, 13.5]);
        close(&cut(Opset::Ios16, [2.0, 2.0, 1.0, 1.0], "UNALIGN_CORNERS"), &[-1.0; 4]);
        for opset in [Opset::Ios15, Opset::Ios16] {
            close(&cut(opset, [0.5, 1.8, 1.0, 0.3], "ALIGN_CORNERS"), &[-1.0, 7.9, -1.0, 13.9]);
            close(&cut(opset, [1.0, 1.0, 0.0, 0.0], "ALIGN_CORNERS"), &[16.0, 13.0, 4.0, 1.0]);
        }
    }

    #[test]
    fn all_planes_of_all_images_are_sampled_at_the_positions_of_their_image() {
        // Two images of three planes, shifted by none and by one pixel to the left: more pixels than are held at a time.
        let (width, pixels) = (35, 70);
        let x: Vec<f32> = (0..6 * pixels).map(|i| (i * 7 % 101) as f32).collect();
        let at = |image: usize, pixel: usize| [(pixel % width + image) as f32, (pixel / width) as f32];
        let coordinates: Vec<f32> =
            (0..2).flat_map(|image| (0..pixels).flat_map(move |pixel| at(image, pixel))).collect();
        let expected: Vec<f32> = (0..6 * pixels)
            .map(|i| match (i / pixels / 3, i % width) {
                (1, column) if column == width - 1 => -1.0,
                (image, _) => x[i + image],
            })
            .collect();
        let ins = [Value::float(&[2, 3, 2, width], &x), Value::float(&[2, 2, width, 2], &coordinates)];
        for mode in ["bilinear", "nearest"] {
            let constants = [
                ("sampling_mode", Value::str(mode)),
                ("padding_value", Value::float(&[], &[-1.0])),
                ("coordinates_mode", Value::str("unnormalized")),
            ];
            close(
                &run("resample", &ins, &constants).unwrap()[0],
                &expected.iter().map(|&x| x.into()).collect::<Vec<_>>(),
            );
        }
    }

    #[test]
    fn affine_identity_restores() {
        let matrix = Value::float(&[1, 6], &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        let constants = [
            ("output_height", Value::int(&[], &[1])),
            ("output_width", Value::int(&[], &[4])),
            ("align_corners", Value::bool(&[], &[true])),
        ];
        close(&run("affine", &[row(), matrix], &constants).unwrap()[0], &[10.0, 20.0, 30.0, 40.0]);
    }
}
