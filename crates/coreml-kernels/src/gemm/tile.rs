//! The micro-kernel: a tile of the output held in registers while the dot products are summed.
//!
//! One kernel serves matrix products and convolutions. Rows of the left matrix are given by address, and the values of a
//! row's dot product are in runs of equal length: one run for a matrix, one run per kernel row for an image. If values
//! are multiplied in bf16, two of them are one element here, and everything is counted in such elements.

#![allow(clippy::needless_range_loop, reason = "loops with constant bounds over arrays that are to stay in registers")]

use std::marker::PhantomData;

use super::ROW_UNIT;
use super::decode::{self, Decoded};
use super::few;
use super::pack::{Format, PackedRef};
use crate::activation::{ActivateRows, Activation};
use crate::simd::{Kernel, Simd};

/// Bytes in a cache line.
const LINE: usize = 64;
/// The most rows a tile has on any instruction set.
const MAX_ROWS: usize = 12;

/// Where the values of a dot product lie, from the first: `outer` x `inner` runs of `len` values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Runs {
    pub(crate) outer: usize,
    pub(crate) outer_stride: usize,
    pub(crate) inner: usize,
    pub(crate) inner_stride: usize,
    pub(crate) len: usize,
}

/// Where the rows of the left matrix start: in lines of `per_line` rows, as output pixels are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    pub(crate) base: *const f32,
    pub(crate) per_line: usize,
    pub(crate) line_stride: usize,
    pub(crate) stride: usize,
}

impl Rows {
    /// Whether each row lies `stride` after the one before.
    fn are_even(self) -> bool {
        self.per_line == usize::MAX
    }
}

/// A product to compute: what all tiles share.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    pub(crate) rows: Rows,
    pub(crate) runs: Runs,
    pub(crate) b: PackedRef<'a>,
    pub(crate) bias: Option<&'a [f32]>,
    /// First value and row stride.
    pub(crate) residual: Option<(*const f32, usize)>,
    pub(crate) activation: Activation,
    pub(crate) out: *mut f32,
    pub(crate) out_stride: usize,
    /// What will be read after this product: brought into the cache meanwhile.
    pub(crate) next: Option<&'a [u8]>,
}

// SAFETY: the pointers are to input that is only read and to output of which every task writes its own part.
unsafe impl Sync for Product<'_> {}

/// Computes the rows `first_row..end_row` of the panels `first_panel..end_panel`.
pub(crate) struct Block<'a> {
    pub(crate) product: &'a Product<'a>,
    pub(crate) first_row: usize,
    pub(crate) end_row: usize,
    pub(crate) first_panel: usize,
    pub(crate) end_panel: usize,
}

impl Kernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Product { b, rows, runs, next, .. } = *self.product;
        if (1..=few::most_rows(b.format)).contains(&(self.end_row - self.first_row))
            && runs.outer * runs.inner == 1
            && rows.are_even()
            && next.is_none()
        {
            return decode::few(s, &self);
        }
        match b.format {
            Format::F32 => InPlace::<Singles>(&self, PhantomData).run(s),
            Format::Bf16 => s.call(InPlace::<Pairs>(&self, PhantomData)),
            _ => s.call(Decoded(&self)),
        }
    }
}

/// Computes a block whose panels are read where they lie.
struct InPlace<'a, E>(&'a Block<'a>, PhantomData<E>);

impl<E: Elements> Kernel for InPlace<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let b = self.0.product.b;
        self.0.pass::<S, E>(
            s,
            |_| PIECE_ROWS,
            |column, vectors, row, _| {
                let bytes = b.offset(column, vectors * S::LANES, row);
                b.data.as_ptr().wrapping_add(bytes).cast()
            },
        );
    }
}

/// What the 32 bits of an element of both matrices are.
pub(super) trait Elements {
    /// Runs `kernel` with the instructions for [`Elements::add_product`].
    fn call<S: Simd, K: Kernel>(s: S, kernel: K) -> K::Output;
    /// `a * b + c`, where `c` are `f32`.
    fn add_product<S: Simd>(s: S, a: S::F, b: S::F, c: S::F) -> S::F;
}

/// An `f32` each.
pub(super) struct Singles;

impl Elements for Singles {
    #[inline(always)]
    fn call<S: Simd, K: Kernel>(s: S, kernel: K) -> K::Output {
        s.call(kernel)
    }
    #[inline(always)]
    fn add_product<S: Simd>(s: S, a: S::F, b: S::F, c: S::F) -> S::F {
        s.fma(a, b, c)
    }
}

/// Two numbers in bf16 each, adjacent in a dot product; the earlier one in the low half.
struct Pairs;

impl Elements for Pairs {
    #[inline(always)]
    fn call<S: Simd, K: Kernel>(s: S, kernel: K) -> K::Output {
        s.call_dots(kernel)
    }
    #[inline(always)]
    fn add_product<S: Simd>(s: S, a: S::F, b: S::F, c: S::F) -> S::F {
        s.dot_pairs(a, b, c)
    }
}

impl Block<'_> {
    /// Passes with tiles over each panel, in pieces of at most `piece_rows(width)` rows. `values(column, vectors, row, rows)`
    /// gives the elements of a piece, row by row.
    #[inline(always)]
    pub(super) fn pass<S: Simd, E: Elements>(
        &self,
        s: S,
        piece_rows: impl Fn(usize) -> usize,
        mut values: impl FnMut(usize, usize, usize, usize) -> *const f32,
    ) {
        let Product { b, ref runs, .. } = *self.product;
        let rows = self.end_row - self.first_row;
        for panel in self.first_panel..self.end_panel {
            let (column, vectors) = b.panels.get(panel);
            let most = (S::ACCUMULATORS / vectors).min(MAX_ROWS);
            // Tiles of one height rather than high ones and a low one at the end: a low tile has too few sums under
            // way to keep the multipliers busy.
            let height = if rows <= 4 * ROW_UNIT { rows.div_ceil(rows.div_ceil(most).max(1)) } else { most };
            let limit = piece_rows(vectors * S::LANES);
            let mut piece = Piece::first(runs, limit);
            loop {
                let mut ahead = Ahead::new::<S>(self, column, vectors, &piece, rows.div_ceil(height.max(1)));
                let values = values(column, vectors, piece.offset(runs), piece.rows());
                let mut row = self.first_row;
                while row < self.end_row {
                    let live = height.min(self.end_row - row);
                    tile::<S, E>(s, self.product, row, live, column, vectors, values, &piece, &mut ahead);
                    row += live;
                }
                if piece.is_last(runs) {
                    break;
                }
                piece = piece.next(runs, limit);
            }
        }
    }
}

/// Rows of an `f32` panel that all tiles pass over before going on: these stay in the cache meanwhile.
const PIECE_ROWS: usize = 768;

/// A part of the dot products: whole runs, or a part of one run that is long. The sums so far lie in the output between
/// one piece and the next, so that all is added in the same order as in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    first_run: usize,
    runs: usize,
    /// Within each run.
    start: usize,
    len: usize,
}

impl Piece {
    fn first(runs: &Runs, limit: usize) -> Self {
        Self::at(runs, 0, 0, limit)
    }

    /// The piece of at most `limit` rows, a multiple of 4, that starts at `start` of run `first_run`.
    fn at(runs: &Runs, first_run: usize, start: usize, limit: usize) -> Self {
        let left = runs.outer * runs.inner - first_run;
        if runs.len > limit {
            let parts = runs.len.div_ceil(limit);
            let len = runs.len.div_ceil(parts).next_multiple_of(4).min(runs.len - start);
            return Self { first_run, runs: left.min(1), start, len };
        }
        Self { first_run, runs: left.min((limit / runs.len.max(1)).max(1)), start: 0, len: runs.len }
    }

    fn next(self, runs: &Runs, limit: usize) -> Self {
        if self.start + self.len < runs.len {
            return Self::at(runs, self.first_run, self.start + self.len, limit);
        }
        Self::at(runs, self.first_run + self.runs, 0, limit)
    }

    fn is_first(self) -> bool {
        self.first_run == 0 && self.start == 0
    }

    fn is_last(self, runs: &Runs) -> bool {
        self.start + self.len >= runs.len && self.first_run + self.runs >= runs.outer * runs.inner
    }

    /// Rows of the panel before this piece.
    fn offset(self, runs: &Runs) -> usize {
        self.first_run * runs.len + self.start
    }

    fn rows(self) -> usize {
        self.runs * self.len
    }
}

/// Matrices of fewer bytes than this are taken to be in the L2 cache already.
const RESIDENT_BYTES: usize = 256 * 1024;

/// Brings what is read next into the L2 cache while tiles pass over a piece of a panel: large weights come from the L3
/// cache or from memory, and waiting for them would cost as much as the arithmetic.
struct Ahead {
    next: *const u8,
    /// Cache lines to ask for with every four columns of the left matrix.
    lines: usize,
}

impl Ahead {
    fn new<S: Simd>(block: &Block<'_>, column: usize, vectors: usize, piece: &Piece, tiles: usize) -> Self {
        let Product { b, runs, .. } = block.product;
        let steps = (piece.rows() / 4).max(1) * tiles;
        let width = vectors * S::LANES;
        if let Some(next) = block.product.next {
            let (before, after) = (column, (column + width).min(b.n));
            let (start, end) = (next.len() * before / b.n, next.len() * after / b.n);
            return Self { next: next[start..].as_ptr(), lines: (end - start).div_ceil(LINE * steps) };
        }
        // Pieces and panels lie in the order in which they are read.
        let row = piece.offset(runs);
        let end = b.offset(column, width, row + piece.rows());
        let bytes = end - b.offset(column, width, row);
        let none = b.data.len() < RESIDENT_BYTES || end >= b.data.len();
        Self { next: b.data.as_ptr().wrapping_add(end), lines: if none { 0 } else { bytes.div_ceil(LINE * steps) } }
    }
}

/// Computes one tile with the smallest kernel that has enough rows.
#[allow(clippy::too_many_arguments, reason = "a place in the output and a part of the sums")]
#[inline(always)]
fn tile<S: Simd, E: Elements>(
    s: S,
    product: &Product<'_>,
    row: usize,
    live: usize,
    column: usize,
    vectors: usize,
    values: *const f32,
    piece: &Piece,
    ahead: &mut Ahead,
) {
    // A kernel may have a few rows more than are live; the last live row stands in for them.
    let height = (S::ACCUMULATORS / vectors).min(MAX_ROWS);
    let mut rows = [product.rows.base; MAX_ROWS];
    let Rows { base, per_line, line_stride, stride } = product.rows;
    if product.rows.are_even() {
        let mut at = base.wrapping_add(row * stride);
        for (i, p) in rows[..height].iter_mut().enumerate() {
            *p = at;
            if i + 1 < live {
                at = at.wrapping_add(stride);
            }
        }
    } else {
        let (mut line, mut x) = (row / per_line, row % per_line);
        for (i, p) in rows[..height].iter_mut().enumerate() {
            *p = base.wrapping_add(line * line_stride + x * stride);
            if i + 1 < live {
                x += 1;
                if x == per_line {
                    (line, x) = (line + 1, 0);
                }
            }
        }
    }
    let cols = (vectors * S::LANES).min(product.b.n - column);
    let part = Part { row, live, column, cols };
    let tile = Tile { product, rows: &rows, part, values, piece, ahead };
    macro_rules! rows {
        ($nv:literal: $($mr:literal)*) => {
            match live {
                $(..=$mr => E::call(s, Shaped::<E, $mr, $nv>(tile, PhantomData)),)*
                _ => unreachable!("a tile has at most ACCUMULATORS / vectors rows"),
            }
        };
    }
    match vectors {
        3 => rows!(3: 1 2 3 4 5 6 7 8),
        2 => rows!(2: 1 2 3 4 6 8 10 12),
        _ => rows!(1: 1 2 4 6 8 10 12),
    }
    if piece.is_last(&product.runs) {
        activate(s, product, part);
    }
}

/// Applies the activation to a part of the output, unless [`finish`] has.
#[inline(always)]
pub(super) fn activate<S: Simd>(s: S, product: &Product<'_>, at: Part) {
    if product.activation.as_clip().is_none() {
        let data = product.out.wrapping_add(at.row * product.out_stride + at.column);
        let stride = product.out_stride;
        s.call(ActivateRows { activation: product.activation, data, rows: at.live, cols: at.cols, stride });
    }
}

struct Tile<'a> {
    product: &'a Product<'a>,
    rows: &'a [*const f32; MAX_ROWS],
    part: Part,
    /// The piece's rows of the panel.
    values: *const f32,
    piece: &'a Piece,
    ahead: &'a mut Ahead,
}

/// The tile kernel for `MR` rows and `NV` vectors. Rows beyond the live ones repeat the last and are not stored.
struct Shaped<'a, E, const MR: usize, const NV: usize>(Tile<'a>, PhantomData<E>);

impl<E: Elements, const MR: usize, const NV: usize> Kernel for Shaped<'_, E, MR, NV> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Tile { product, rows, part: at, values, piece, ahead } = self.0;
        let (mut next, lines) = (ahead.next, ahead.lines);
        let Runs { outer_stride, inner, inner_stride, .. } = product.runs;
        let Piece { first_run, runs, start, len } = *piece;
        let width = NV * S::LANES;
        let mut acc = [[s.splat(0.0); NV]; MR];
        // SAFETY: `values` are the piece's rows of `width` values each, and the rows of the left matrix hold the runs, as
        // was checked where the product was set up. Output and residual hold `live` rows
        // of `cols` values from here on; vector v is touched only where it has columns below `cols`.
        unsafe {
            if !piece.is_first() {
                add(s, (product.out, product.out_stride), at, &mut acc);
            }
            let mut b = values;
            let (mut o, mut i) = if inner <= 1 { (first_run, 0) } else { (first_run / inner, first_run % inner) };
            for _ in 0..runs {
                let offset = o * outer_stride + i * inner_stride + start;
                let mut a = [rows[0]; MR];
                for r in 0..MR {
                    a[r] = rows[r].add(offset);
                }
                let mut k = 0;
                while k + 4 <= len {
                    for u in 0..4 {
                        step::<S, E, MR, NV>(s, &mut acc, &a, k + u, b.add(u * width));
                    }
                    for _ in 0..lines {
                        s.prefetch(next);
                        next = next.wrapping_add(LINE);
                    }
                    b = b.add(4 * width);
                    k += 4;
                }
                while k < len {
                    step::<S, E, MR, NV>(s, &mut acc, &a, k, b);
                    b = b.add(width);
                    k += 1;
                }
                i += 1;
                if i == inner {
                    (o, i) = (o + 1, 0);
                }
            }
            ahead.next = next;
            if piece.is_last(&product.runs) {
                finish(s, product, at, &acc);
            } else {
                store(s, product, at, &acc);
            }
        }
    }
}

/// A part of the output: `live` rows of `cols` columns.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub(super) row: usize,
    pub(super) live: usize,
    pub(super) column: usize,
    pub(super) cols: usize,
}

impl Part {
    /// Whether there is an output for every sum.
    #[inline(always)]
    fn is_full<S: Simd, const MR: usize, const NV: usize>(self) -> bool {
        self.live == MR && self.cols == NV * S::LANES
    }

    /// Columns that there are of vector `v`.
    #[inline(always)]
    fn columns<S: Simd>(self, v: usize) -> usize {
        self.cols.saturating_sub(v * S::LANES).min(S::LANES)
    }

    /// Where vector `v` of row `r` lies in a matrix.
    #[inline(always)]
    fn of<S: Simd>(self, matrix: *const f32, stride: usize, r: usize, v: usize) -> *const f32 {
        matrix.wrapping_add((self.row + r) * stride + self.column + v * S::LANES)
    }
}

// Sums stay in registers only while compilers unroll all loops over them, which they do not do with loops that may end early.
// And what a product has or a part lacks is asked once and not for every vector: with few values in a row that would take
// as long as the sums.

/// Adds what a matrix has at the part's place to `y`.
/// # Safety
/// The matrix must have the part.
#[inline(always)]
unsafe fn add<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    (matrix, stride): (*const f32, usize),
    at: Part,
    y: &mut [[S::F; NV]; MR],
) {
    let full = at.is_full::<S, MR, NV>();
    for r in 0..MR {
        for v in 0..NV {
            let p = at.of::<S>(matrix, stride, r, v);
            // SAFETY: as the caller vouches; only the columns that there are of a vector are touched, and only live rows.
            unsafe {
                if full {
                    y[r][v] = s.add(y[r][v], s.load(p));
                } else if r < at.live {
                    y[r][v] = s.add(y[r][v], s.load_partial(p, at.columns::<S>(v)));
                }
            }
        }
    }
}

/// Stores `y` in the output.
/// # Safety
/// The output must have the part.
#[inline(always)]
unsafe fn store<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    product: &Product<'_>,
    at: Part,
    y: &[[S::F; NV]; MR],
) {
    let full = at.is_full::<S, MR, NV>();
    for r in 0..MR {
        for v in 0..NV {
            let p = at.of::<S>(product.out, product.out_stride, r, v).cast_mut();
            // SAFETY: as the caller vouches; only the columns that there are of a vector are touched, and only live rows.
            unsafe {
                if full {
                    s.store(p, y[r][v]);
                } else if r < at.live {
                    s.store_partial(p, at.columns::<S>(v), y[r][v]);
                }
            }
        }
    }
}

/// Stores complete sums with bias, residual and, if it is a clip, the activation.
/// # Safety
/// Output and residual must have the part, the bias its columns.
#[inline(always)]
pub(super) unsafe fn finish<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    product: &Product<'_>,
    at: Part,
    acc: &[[S::F; NV]; MR],
) {
    let mut y = *acc;
    // SAFETY: as the caller vouches.
    unsafe {
        if let Some(bias) = product.bias {
            for v in 0..NV {
                let p = bias.as_ptr().wrapping_add(at.column + v * S::LANES);
                let bias = s.load_partial(p, at.columns::<S>(v));
                for r in 0..MR {
                    y[r][v] = s.add(y[r][v], bias);
                }
            }
        }
        if let Some(residual) = product.residual {
            add(s, residual, at, &mut y);
        }
        if let Some((lo, hi)) = product.activation.as_clip() {
            let (lo, hi) = (s.splat(lo), s.splat(hi));
            for r in 0..MR {
                for v in 0..NV {
                    y[r][v] = s.min(hi, s.max(lo, y[r][v]));
                }
            }
        }
        store(s, product, at, &y);
    }
}

/// Adds the products of column `k` of the left rows with one row of the panel.
/// # Safety
/// `a[..]` must be readable at `k`, `b` for `NV` vectors.
#[inline(always)]
pub(super) unsafe fn step<S: Simd, E: Elements, const MR: usize, const NV: usize>(
    s: S,
    acc: &mut [[S::F; NV]; MR],
    a: &[*const f32; MR],
    k: usize,
    b: *const f32,
) {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut row = [s.splat(0.0); NV];
        for v in 0..NV {
            row[v] = s.load(b.add(v * S::LANES));
        }
        for r in 0..MR {
            let x = s.splat(a[r].add(k).read());
            for v in 0..NV {
                acc[r][v] = E::add_product(s, x, row[v], acc[r][v]);
            }
        }
    }
}
