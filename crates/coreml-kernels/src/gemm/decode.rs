//! Decodes stored elements of a packed matrix to vectors of `f32`: one type for each [`Format`].

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use super::few::Few;
use super::pack::{Format, PALETTE, PackedRef};
use super::tile::{Block, Singles};
use crate::simd::{Kernel, Simd, math};

/// A format that kernels can read. Rows that lie together are decoded together.
pub(super) trait Decode {
    /// What the elements of a vector of columns share over a block of rows.
    type Shared<S: Simd>: Copy;
    /// Rows that lie together, 1 or 2.
    const ROWS: usize = 1;
    /// Bytes for each column of so many rows.
    const BYTES: usize;

    /// Reads what vector `v` of a panel of `b` that is `width` wide shares.
    /// # Safety
    /// `parameters` must be those of a panel of that width that has the vector, for one block.
    unsafe fn shared<S: Simd>(
        s: S,
        b: &PackedRef<'_>,
        parameters: *const f32,
        width: usize,
        v: usize,
    ) -> Self::Shared<S>;

    /// The elements at `p`; with one row only the first vector counts.
    /// # Safety
    /// `p` must be readable for `LANES * BYTES` bytes.
    unsafe fn decode<S: Simd>(s: S, p: *const u8, shared: Self::Shared<S>) -> [S::F; 2];
}

/// [`Format::F32`]
pub(super) struct F32;

impl Decode for F32 {
    type Shared<S: Simd> = ();
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn shared<S: Simd>(_: S, _: &PackedRef<'_>, _: *const f32, _: usize, _: usize) {}

    #[inline(always)]
    unsafe fn decode<S: Simd>(s: S, p: *const u8, (): ()) -> [S::F; 2] {
        // SAFETY: as the caller vouches.
        unsafe { [s.load(p.cast()); 2] }
    }
}

/// [`Format::F16`]
pub(super) struct F16;

impl Decode for F16 {
    type Shared<S: Simd> = ();
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn shared<S: Simd>(_: S, _: &PackedRef<'_>, _: *const f32, _: usize, _: usize) {}

    #[inline(always)]
    unsafe fn decode<S: Simd>(s: S, p: *const u8, (): ()) -> [S::F; 2] {
        // SAFETY: as the caller vouches; only finite values are packed.
        unsafe { [s.load_f16(p); 2] }
    }
}

/// What makes elements of codes, for a vector of columns.
#[derive(Clone, Copy)]
pub(super) struct Affine<S: Simd> {
    scale: S::F,
    offset: S::F,
    rounding: S::F,
}

impl<S: Simd> Affine<S> {
    /// # Safety
    /// As for [`Decode::shared`].
    #[inline(always)]
    unsafe fn read(s: S, b: &PackedRef<'_>, parameters: *const f32, width: usize, v: usize) -> Self {
        // SAFETY: the panel has `width` scales, then as many offsets.
        let (scale, offset) =
            unsafe { (s.load(parameters.add(v * S::LANES)), s.load(parameters.add(width + v * S::LANES))) };
        Self { scale, offset, rounding: s.splat(b.rounding) }
    }

    #[inline(always)]
    fn apply(self, s: S, code: S::F) -> S::F {
        math::round_by(s, s.fma(code, self.scale, self.offset), self.rounding)
    }
}

/// One element, as vectors of them are made.
#[cfg(test)]
pub(super) struct Element {
    pub(super) code: f32,
    pub(super) scale: f32,
    pub(super) offset: f32,
    pub(super) rounding: f32,
}

#[cfg(test)]
impl Kernel for Element {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let [scale, offset, rounding] = [self.scale, self.offset, self.rounding].map(|x| s.splat(x));
        s.to_array(Affine::<S> { scale, offset, rounding }.apply(s, s.splat(self.code)))[0]
    }
}

/// [`Format::Int8`]
pub(super) struct Int8;

impl Decode for Int8 {
    type Shared<S: Simd> = Affine<S>;
    const BYTES: usize = 1;

    #[inline(always)]
    unsafe fn shared<S: Simd>(s: S, b: &PackedRef<'_>, parameters: *const f32, width: usize, v: usize) -> Affine<S> {
        // SAFETY: as the caller vouches.
        unsafe { Affine::read(s, b, parameters, width, v) }
    }

    #[inline(always)]
    unsafe fn decode<S: Simd>(s: S, p: *const u8, affine: Affine<S>) -> [S::F; 2] {
        // SAFETY: as the caller vouches.
        let code = unsafe { s.load_i8(p) };
        [affine.apply(s, code); 2]
    }
}

/// [`Format::Int4`]
pub(super) struct Int4;

impl Decode for Int4 {
    type Shared<S: Simd> = Affine<S>;
    const ROWS: usize = 2;
    const BYTES: usize = 1;

    #[inline(always)]
    unsafe fn shared<S: Simd>(s: S, b: &PackedRef<'_>, parameters: *const f32, width: usize, v: usize) -> Affine<S> {
        // SAFETY: as the caller vouches.
        unsafe { Affine::read(s, b, parameters, width, v) }
    }

    #[inline(always)]
    unsafe fn decode<S: Simd>(s: S, p: *const u8, affine: Affine<S>) -> [S::F; 2] {
        // SAFETY: as the caller vouches.
        let [low, high] = unsafe { s.load_nibbles(p) };
        [affine.apply(s, low), affine.apply(s, high)]
    }
}

/// [`Format::Palette`]
pub(super) struct Palette;

impl Decode for Palette {
    type Shared<S: Simd> = *const [f32; PALETTE];
    const ROWS: usize = 2;
    const BYTES: usize = 1;

    #[inline(always)]
    unsafe fn shared<S: Simd>(
        _: S,
        _: &PackedRef<'_>,
        parameters: *const f32,
        _: usize,
        v: usize,
    ) -> *const [f32; PALETTE] {
        parameters.wrapping_add(v * PALETTE).cast()
    }

    #[inline(always)]
    unsafe fn decode<S: Simd>(s: S, p: *const u8, table: *const [f32; PALETTE]) -> [S::F; 2] {
        // SAFETY: as the caller vouches, and the table is among the parameters of the panel.
        unsafe { s.lookup_nibbles(p, &*table) }
    }
}

/// Runs the generic kernel `$kernel::<format>` for the format of a matrix.
macro_rules! for_format {
    ($format:expr, $s:expr, $kernel:ident($($field:expr),*)) => {
        match $format {
            Format::F32 => $s.call($kernel::<F32>($($field,)* PhantomData)),
            Format::Bf16 => unreachable!("pairs are multiplied as they are"),
            Format::F16 => $s.call($kernel::<F16>($($field,)* PhantomData)),
            Format::Int8 => $s.call($kernel::<Int8>($($field,)* PhantomData)),
            Format::Int4 => $s.call($kernel::<Int4>($($field,)* PhantomData)),
            Format::Palette => $s.call($kernel::<Palette>($($field,)* PhantomData)),
        }
    };
}

/// Computes a block row by row where it has few of them.
pub(super) fn few<S: Simd>(s: S, block: &Block<'_>) {
    for_format!(block.product.b.format, s, Few(block));
}

/// Values that a decoded piece takes at most. Smaller ones would stay in the L1 cache, but sums would go to memory and back
/// more often, which costs more.
const VALUES: usize = 386 * 48;

/// The most rows of a panel `width` wide that are decoded at once. A piece may start between two rows that lie together, and
/// then end so.
fn piece_rows(width: usize) -> usize {
    (VALUES / width - 2) / 4 * 4
}

/// Computes a block whose weights are not `f32`, piece by piece of each panel.
pub(super) struct Decoded<'a>(pub(super) &'a Block<'a>);

#[repr(align(64))]
struct Values([MaybeUninit<f32>; VALUES]);

impl Kernel for Decoded<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut values = Values([MaybeUninit::uninit(); VALUES]);
        let out = values.0.as_mut_ptr().cast::<f32>();
        let b = self.0.product.b;
        self.0.pass::<S, Singles>(s, piece_rows, |column, vectors, row, rows| {
            let width = vectors * S::LANES;
            let skipped = row % b.format.rows();
            let piece = Piece { b, column, vectors, first: row - skipped, end: row + rows, out };
            for_format!(b.format, s, Fill(piece));
            out.wrapping_add(skipped * width)
        });
    }
}

/// Rows of a panel and where their elements are to go.
#[derive(Clone, Copy)]
struct Piece<'a> {
    b: PackedRef<'a>,
    column: usize,
    vectors: usize,
    /// The first of rows that lie together.
    first: usize,
    end: usize,
    out: *mut f32,
}

/// Decodes a piece; where rows lie together, all that do.
struct Fill<'a, D>(Piece<'a>, PhantomData<D>);

impl<D: Decode> Kernel for Fill<'_, D> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Piece { b, column, vectors, first, end, out } = self.0;
        let width = vectors * S::LANES;
        let mut row = first;
        while row < end {
            let block = row / b.block;
            let block_end = end.min((block + 1) * b.block);
            let parameters = b.parameters(column, width, block).as_ptr();
            let panel = b.data[b.offset(column, width, row)..].as_ptr();
            for v in 0..vectors {
                let mut p = panel.wrapping_add(v * S::LANES * D::BYTES);
                let mut to = out.wrapping_add((row - first) * width + v * S::LANES);
                // SAFETY: the panel has `vectors` vectors and all rows up to the end of the block, or one more where rows
                // lie together; `out` has room for the whole piece of at most `piece_rows` rows and two more.
                unsafe {
                    let shared = D::shared(s, &b, parameters, width, v);
                    for _ in 0..(block_end - row).div_ceil(D::ROWS) {
                        let values = D::decode(s, p, shared);
                        for value in &values[..D::ROWS] {
                            s.store(to, *value);
                            to = to.wrapping_add(width);
                        }
                        p = p.wrapping_add(width * D::BYTES);
                    }
                }
            }
            row = block_end;
        }
    }
}
