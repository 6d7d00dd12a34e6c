//! Dense 3x3 convolution with stride 1 by Winograd's minimal filtering, F(4x4, 3x3) (Lavin and Gray, "Fast Algorithms
//! for Convolutional Neural Networks", 2015): 36 products for 16 outputs instead of 144.
//!
//! The image is cut into tiles of 4x4 outputs, which depend on 6x6 inputs. A linear transform turns these 36 pixels
//! into 36 others; each of them, for all tiles, is the left matrix of a product with weights transformed once, when the
//! convolution is made; a last transform turns the 36 products of a tile into its outputs. Transforms work on vectors of
//! channels. Their constants cost some accuracy: results are within about 20 times the rounding of plain summation.
//!
//! If the transformed weights fit a core's cache, threads take blocks of tiles through all three steps; otherwise they
//! divide the 36 products, so that each thread reads only its own part of the weights.

#![allow(clippy::needless_range_loop, reason = "small matrices, indexed as in the formulas")]

use std::ops::Range;

use super::ConvShape;
use super::images::Images;
use crate::activation::ActivateRows;
use crate::aligned::aligned;
use crate::gemm::tile::{Block, Product, Rows, Runs};
use crate::gemm::{ALIGNMENT_SLACK, PackedB};
use crate::parallel::ThreadPool;
use crate::simd::{Isa, Kernel, Simd};

/// Outputs along a tile's side.
const OUT: usize = 4;
/// Inputs along a tile's side.
const IN: usize = 6;
/// Products per tile.
const POINTS: usize = IN * IN;

/// Transformed weights of fewer values stay in the L2 cache.
const RESIDENT_VALUES: usize = 256 * 1024;
/// Values of transformed inputs, products and such weights per block of tiles: most of an L2 cache.
const BLOCK_VALUES: usize = 384 * 1024;
/// As above without the weights, where these do not stay anyway: the more tiles, the fewer times they are read.
const LARGE_BLOCK_VALUES: usize = 512 * 1024;

/// The transform of weights: `G w G^T`.
const G: [[f32; 3]; IN] = [
    [0.25, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

#[derive(Clone, Debug)]
pub(super) struct Winograd {
    /// `[cin, cout]` for each of the [`POINTS`].
    packed: Vec<PackedB>,
    bias: Option<Vec<f32>>,
}

/// Whether this way is faster than the plain one for `shape` on `h x w` images.
pub(super) fn pays(shape: &ConvShape, h: usize, w: usize) -> bool {
    let ConvShape { cin, cout, kernel, stride, dilation, groups, .. } = *shape;
    let (oh, ow) = shape.out_size(h, w);
    let tiles = oh.div_ceil(OUT) * ow.div_ceil(OUT);
    // Channels to spread the transforms' cost over, tiles to spread the weights' over, and few outputs beyond the edges.
    (kernel, stride, dilation, groups) == ([3, 3], [1, 1], [1, 1], 1)
        && cin.min(cout) >= 24
        && tiles >= 16
        && 3 * tiles * OUT * OUT <= 4 * oh * ow
}

impl Winograd {
    pub(super) fn new(isa: Isa, shape: &ConvShape, weights: &[f32], bias: Option<&[f32]>) -> Self {
        let (cin, cout) = (shape.cin, shape.cout);
        let mut transformed = vec![0.0; POINTS * cin * cout];
        for (index, filter) in weights.chunks_exact(9).enumerate() {
            let (o, c) = (index / cin, index % cin);
            let mut half = [[0.0; 3]; IN];
            for i in 0..IN {
                for j in 0..3 {
                    half[i][j] = (0..3).map(|k| G[i][k] * filter[3 * k + j]).sum();
                }
            }
            for i in 0..IN {
                for j in 0..IN {
                    let value: f32 = (0..3).map(|k| half[i][k] * G[j][k]).sum();
                    transformed[((i * IN + j) * cin + c) * cout + o] = value;
                }
            }
        }
        let packed = transformed
            .chunks_exact(cin * cout)
            .map(|matrix| PackedB::pack(isa, cin, cout, |k, n| matrix[k * cout + n]))
            .collect();
        Self { packed, bias: bias.map(<[f32]>::to_vec) }
    }

    /// How many tiles a block has, of all there are.
    fn block(shape: &ConvShape, tiles: usize, threads: usize) -> usize {
        let per_tile = POINTS * (shape.cin + shape.cout);
        if !Self::resident(shape) {
            let blocks = tiles.div_ceil((LARGE_BLOCK_VALUES / per_tile).max(16));
            return tiles.div_ceil(blocks.max(1));
        }
        let fitting = (BLOCK_VALUES - POINTS * shape.cin * shape.cout) / per_tile;
        let shared = if threads == 1 { tiles } else { tiles.div_ceil(2 * threads) };
        // Whole tiles of the matrix product.
        (fitting / 24 * 24).max(24).min(shared)
    }

    fn resident(shape: &ConvShape) -> bool {
        POINTS * shape.cin * shape.cout <= RESIDENT_VALUES
    }

    /// Values for the transformed inputs and the products of a block of tiles.
    fn slot_len(shape: &ConvShape, block: usize) -> usize {
        (POINTS * block * (shape.cin + shape.cout)).next_multiple_of(ALIGNMENT_SLACK)
    }

    pub(super) fn scratch_len(&self, shape: &ConvShape, h: usize, w: usize, threads: usize) -> usize {
        let (oh, ow) = shape.out_size(h, w);
        let block = Self::block(shape, oh.div_ceil(OUT) * ow.div_ceil(OUT), threads);
        let slots = if Self::resident(shape) { threads } else { 1 };
        slots * Self::slot_len(shape, block) + ALIGNMENT_SLACK
    }

    pub(super) fn run(&self, isa: Isa, pool: &ThreadPool, shape: &ConvShape, images: &Images, scratch: &mut [f32]) {
        struct Scratch(*mut f32);
        // SAFETY: participants use disjoint parts, or disjoint tiles and products of one part.
        unsafe impl Sync for Scratch {}
        let threads = pool.threads();
        let tiles = images.oh.div_ceil(OUT) * images.ow.div_ceil(OUT);
        let block = Self::block(shape, tiles, threads);
        let slot = Self::slot_len(shape, block);
        let scratch = aligned(scratch);
        assert!(scratch.len() >= if Self::resident(shape) { threads * slot } else { slot }, "scratch too short");
        let scratch = Scratch(scratch.as_mut_ptr());
        let blocks = tiles.div_ceil(block.max(1));
        let part = |image: usize, index: usize, participant: usize| {
            let Scratch(scratch) = &scratch;
            let tiles = index * block..tiles.min((index + 1) * block);
            Part { winograd: self, shape, images, image, tiles, scratch: scratch.wrapping_add(participant * slot) }
        };
        if threads == 1 || Self::resident(shape) {
            pool.run_indexed(images.n * blocks, &|participant, task| {
                let part = part(task / blocks, task % blocks, participant);
                let all = 0..part.tiles.len();
                isa.dispatch(Inputs { part: &part, tiles: all.clone() });
                for point in 0..POINTS {
                    isa.dispatch(part.product(point).all());
                }
                isa.dispatch(Outputs { part: &part, tiles: all });
            });
            return;
        }
        for task in 0..images.n * blocks {
            let part = part(task / blocks, task % blocks, 0);
            let count = part.tiles.len();
            let pieces = count.min(2 * threads);
            let piece = |index: usize| count * index / pieces..count * (index + 1) / pieces;
            pool.run(pieces, &|index| isa.dispatch(Inputs { part: &part, tiles: piece(index) }));
            pool.run(POINTS, &|point| isa.dispatch(part.product(point).all()));
            pool.run(pieces, &|index| isa.dispatch(Outputs { part: &part, tiles: piece(index) }));
        }
    }
}

/// A block of tiles of one image, and its scratch: `[POINTS, tiles, cin]`, then `[POINTS, tiles, cout]`.
struct Part<'a> {
    winograd: &'a Winograd,
    shape: &'a ConvShape,
    images: &'a Images,
    image: usize,
    tiles: Range<usize>,
    scratch: *mut f32,
}

// SAFETY: steps that run at the same time use disjoint tiles or products.
unsafe impl Sync for Part<'_> {}

impl Part<'_> {
    fn transformed(&self, point: usize) -> *mut f32 {
        self.scratch.wrapping_add(point * self.tiles.len() * self.shape.cin)
    }

    fn products(&self, point: usize) -> *mut f32 {
        let count = self.tiles.len();
        self.scratch.wrapping_add(POINTS * count * self.shape.cin + point * count * self.shape.cout)
    }

    fn product(&self, point: usize) -> PointProduct<'_> {
        let ConvShape { cin, cout, .. } = *self.shape;
        let base = self.transformed(point).cast_const();
        PointProduct {
            rows: self.tiles.len(),
            product: Product {
                rows: Rows { base, per_line: usize::MAX, line_stride: 0, stride: cin },
                runs: Runs { outer: 1, outer_stride: 0, inner: 1, inner_stride: 0, len: cin },
                b: self.winograd.packed[point].view(),
                bias: None,
                residual: None,
                activation: crate::Activation::None,
                out: self.products(point),
                out_stride: cout,
                next: self.winograd.packed.get(point + 1).map(|packed| packed.view().data),
            },
        }
    }

    /// Line and column of a tile's first output.
    fn place(&self, tile: usize) -> (usize, usize) {
        let across = self.images.ow.div_ceil(OUT);
        let tile = self.tiles.start + tile;
        (tile / across * OUT, tile % across * OUT)
    }
}

/// The product of one point for all tiles of a part.
struct PointProduct<'a> {
    product: Product<'a>,
    rows: usize,
}

impl PointProduct<'_> {
    fn all(&self) -> Block<'_> {
        let end_panel = self.product.b.panels.count();
        Block { product: &self.product, first_row: 0, end_row: self.rows, first_panel: 0, end_panel }
    }
}

/// Transforms the inputs of some tiles of a part: `B^T d B`.
struct Inputs<'a> {
    part: &'a Part<'a>,
    tiles: Range<usize>,
}

/// `B^T` times a vector.
#[inline(always)]
fn input_side<S: Simd>(s: S, d: [S::F; IN]) -> [S::F; IN] {
    let (two, four, five) = (s.splat(2.0), s.splat(4.0), s.splat(-5.0));
    // Sums that two rows share.
    let (even, odd) = (s.fma(s.splat(-4.0), d[2], d[4]), s.fma(s.splat(-4.0), d[1], d[3]));
    let (near, far) = (s.sub(d[4], d[2]), s.mul(two, s.sub(d[3], d[1])));
    [
        s.fma(four, d[0], s.fma(five, d[2], d[4])),
        s.add(even, odd),
        s.sub(even, odd),
        s.add(near, far),
        s.sub(near, far),
        s.fma(four, d[1], s.fma(five, d[3], d[5])),
    ]
}

impl Kernel for Inputs<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let part = self.part;
        let Images { h, w, .. } = *part.images;
        let (cin, [top, _, left, _]) = (part.shape.cin, part.shape.pad);
        let input = part.images.input.wrapping_add(part.image * h * w * cin);
        for tile in self.tiles {
            let (y, x) = part.place(tile);
            let mut channel = 0;
            while channel < cin {
                let live = S::LANES.min(cin - channel);
                let mut half = [[s.splat(0.0); IN]; IN];
                for j in 0..IN {
                    let Some(column) = (x + j).checked_sub(left).filter(|&column| column < w) else { continue };
                    let mut d = [s.splat(0.0); IN];
                    for i in 0..IN {
                        let Some(line) = (y + i).checked_sub(top).filter(|&line| line < h) else { continue };
                        // SAFETY: line and column are in the image, and `live` channels from `channel` on are.
                        d[i] = unsafe {
                            let p = input.add((line * w + column) * cin + channel);
                            if live == S::LANES { s.load(p) } else { s.load_partial(p, live) }
                        };
                    }
                    half[j] = input_side(s, d);
                }
                for i in 0..IN {
                    let row = input_side(s, [0, 1, 2, 3, 4, 5].map(|j| half[j][i]));
                    for j in 0..IN {
                        let p = part.transformed(i * IN + j).wrapping_add(tile * cin + channel);
                        // SAFETY: this tile's channels of this point, which the scratch holds.
                        unsafe { if live == S::LANES { s.store(p, row[j]) } else { s.store_partial(p, live, row[j]) } }
                    }
                }
                channel += S::LANES;
            }
        }
    }
}

/// Makes the outputs of some tiles of a part from the products: `A^T m A`, bias, residual, activation.
struct Outputs<'a> {
    part: &'a Part<'a>,
    tiles: Range<usize>,
}

/// `A^T` times a vector.
#[inline(always)]
fn output_side<S: Simd>(s: S, m: [S::F; IN]) -> [S::F; OUT] {
    let (sum1, sum2) = (s.add(m[1], m[2]), s.add(m[3], m[4]));
    let (difference1, difference2) = (s.sub(m[1], m[2]), s.sub(m[3], m[4]));
    [
        s.add(m[0], s.add(sum1, sum2)),
        s.fma(s.splat(2.0), difference2, difference1),
        s.fma(s.splat(4.0), sum2, sum1),
        s.add(m[5], s.fma(s.splat(8.0), difference2, difference1)),
    ]
}

impl Kernel for Outputs<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let part = self.part;
        let Images { oh, ow, residual, activation, out, .. } = *part.images;
        let cout = part.shape.cout;
        let clip = activation.as_clip();
        for tile in self.tiles {
            let (y, x) = part.place(tile);
            let (lines, columns) = (OUT.min(oh - y), OUT.min(ow - x));
            let start = ((part.image * oh + y) * ow + x) * cout;
            let mut channel = 0;
            while channel < cout {
                let live = S::LANES.min(cout - channel);
                let mut half = [[s.splat(0.0); OUT]; IN];
                for j in 0..IN {
                    half[j] = output_side(
                        s,
                        [0, 1, 2, 3, 4, 5].map(|i| {
                            let p = part.products(i * IN + j).wrapping_add(tile * cout + channel);
                            // SAFETY: this tile's channels of this point, which the products before have written.
                            unsafe { if live == S::LANES { s.load(p) } else { s.load_partial(p, live) } }
                        }),
                    );
                }
                let bias = match &part.winograd.bias {
                    // SAFETY: one value per output channel.
                    Some(bias) => unsafe { s.load_partial(bias.as_ptr().add(channel), live) },
                    None => s.splat(0.0),
                };
                for i in 0..OUT {
                    if i >= lines {
                        break;
                    }
                    let row = output_side(s, [0, 1, 2, 3, 4, 5].map(|j| half[j][i]));
                    for j in 0..OUT {
                        if j >= columns {
                            break;
                        }
                        let at = start + (i * ow + j) * cout + channel;
                        let mut value = s.add(row[j], bias);
                        // SAFETY: the pixel is in the output, as line and column are, and has these channels.
                        unsafe {
                            if let Some(residual) = residual {
                                value = s.add(value, s.load_partial(residual.add(at), live));
                            }
                            if let Some((lo, hi)) = clip {
                                value = s.min(s.splat(hi), s.max(s.splat(lo), value));
                            }
                            let p = out.add(at);
                            if live == S::LANES { s.store(p, value) } else { s.store_partial(p, live, value) }
                        }
                    }
                }
                channel += S::LANES;
            }
            if clip.is_none() {
                for line in 0..lines {
                    let data = out.wrapping_add(start + line * ow * cout);
                    s.call(ActivateRows { activation, data, rows: 1, cols: columns * cout, stride: 0 });
                }
            }
        }
    }
}
