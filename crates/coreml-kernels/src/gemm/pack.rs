//! The right-hand matrix, rearranged into the order in which the kernels read it.
//!
//! The columns are cut into panels ([`Panels`]); a panel is stored row by row, with columns beyond the matrix as zeros. The
//! [`Format`] decides how an element is stored. Rows follow one another; if an element takes half a byte, two rows are
//! stored together, the later one in the high halves. Formats of codes also have parameters, in the order in which the
//! panels need them.

#[cfg(test)]
use super::decode::Element;
use super::panels::Panels;
use crate::aligned::{AlignedVec, LINE_VALUES, aligned, bytes_of};
use crate::simd::math::TO_HALF;
use crate::simd::{Isa, Kernel, Simd, bf16, half};
use crate::transpose::Strip;

/// How the elements of a packed matrix are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// As they are.
    F32,
    /// In half precision, which represents all of them exactly.
    F16,
    /// Rounded to bf16, in pairs from two successive rows: multiplied with pairs from the left matrix.
    Bf16,
    /// Bytes with an [`Affine`] for each column and block of rows.
    Int8,
    /// Half bytes with an [`Affine`] for each column and block of rows.
    Int4,
    /// Half bytes, which index a table for each vector of columns.
    Palette,
}

impl Format {
    /// Rows of the matrix to each of those that kernels see.
    pub(super) fn per_row(self) -> usize {
        if self == Self::Bf16 { 2 } else { 1 }
    }

    /// Rows, as kernels see them, that lie together.
    pub(super) fn rows(self) -> usize {
        if matches!(self, Self::Int4 | Self::Palette) { 2 } else { 1 }
    }

    /// Bytes for each column of so many rows.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::F32 | Self::Bf16 => 4,
            Self::F16 => 2,
            Self::Int8 | Self::Int4 | Self::Palette => 1,
        }
    }
}

/// What a code stands for: `(code - zero) * scale`, computed as `code * scale - zero * scale`. The two are the same if
/// scales are half-precision numbers and zeros are one-byte integers; with other scales the products are rounded first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// The distance between the values of two successive codes.
    pub scale: f32,
    /// The code of the value 0.
    pub zero: f32,
}

/// A packed matrix that owns its memory, for weights.
#[derive(Clone, Debug)]
pub struct PackedB {
    data: AlignedVec,
    /// `Int8`, `Int4`: for each panel and block of rows the scales of its columns, then what code 0 stands for. `Palette`: 16 entries
    /// for each vector of columns.
    parameters: AlignedVec,
    /// Rows that share parameters.
    block: usize,
    format: Format,
    /// What [`math::round_by`] takes to round the elements of codes.
    rounding: f32,
    /// Rows as kernels see them.
    k: usize,
    n: usize,
    isa: Isa,
    panels: Panels,
}

/// A packed matrix, wherever its values are stored.
#[derive(Clone, Copy, Debug)]
pub struct PackedRef<'a> {
    pub(crate) data: &'a [u8],
    pub(super) parameters: &'a [f32],
    pub(super) block: usize,
    pub(super) format: Format,
    pub(super) rounding: f32,
    pub(crate) k: usize,
    pub(crate) n: usize,
    pub(crate) isa: Isa,
    pub(crate) panels: Panels,
}

/// Values that a packed `[k, n]` matrix takes; scratch for [`PackedRef::pack_into`] needs
/// [`ALIGNMENT_SLACK`] more.
pub fn packed_len(isa: Isa, k: usize, n: usize) -> usize {
    k * Panels::new(n, isa.lanes()).padded()
}

/// Extra scratch values that let an aligned start be found.
pub const ALIGNMENT_SLACK: usize = LINE_VALUES;

/// Entries of a [`Format::Palette`] table.
pub const PALETTE: usize = 16;

impl PackedB {
    /// Packs the matrix whose element in row `k` and column `n` is `get(k, n)`.
    pub fn pack(isa: Isa, k: usize, n: usize, get: impl Fn(usize, usize) -> f32) -> Self {
        let mut packed = Self::empty(isa, k, n, Format::F32, k, Panels::new(n, isa.lanes()));
        pack(k, packed.panels, get, packed.data.as_mut_slice());
        packed
    }

    /// As [`PackedB::pack`] for a matrix in memory with these distances between rows and between columns, one of which is 1.
    ///
    /// # Panics
    /// If neither is, or the slice is too short.
    pub fn pack_strided(isa: Isa, [k, n]: [usize; 2], matrix: &[f32], distances: [usize; 2]) -> Self {
        let mut packed = Self::empty(isa, k, n, Format::F32, k, Panels::new(n, isa.lanes()));
        if k * n > 0 {
            fill(isa, [k, n], matrix, distances, 1.0, packed.data.as_mut_slice());
        }
        packed
    }

    /// Like [`PackedB::pack`] for half-precision elements with the bits `bits(k, n)`; `None` unless all are finite.
    pub fn pack_half(isa: Isa, k: usize, n: usize, bits: impl Fn(usize, usize) -> u16) -> Option<Self> {
        let mut packed = Self::empty(isa, k, n, Format::F16, k, Panels::new(n, isa.lanes()));
        let panels = packed.panels;
        let bytes = packed.data.as_bytes_mut();
        let all = walk(k, panels, |row, column, place| {
            let bits = bits(row, column);
            bytes[2 * place..2 * place + 2].copy_from_slice(&bits.to_ne_bytes());
            half::is_finite(bits)
        });
        all.then_some(packed)
    }

    /// Like [`PackedB::pack`], in half precision if that changes no element; products are then the same bit by bit.
    pub fn pack_exactly(isa: Isa, k: usize, n: usize, get: impl Fn(usize, usize) -> f32) -> Self {
        let bits = |k: usize, n: usize| half::exact(get(k, n)).unwrap_or(half::INFINITY);
        Self::pack_half(isa, k, n, bits).unwrap_or_else(|| Self::pack(isa, k, n, get))
    }

    /// As [`PackedB::pack`] with the elements rounded to bf16; `k` must be even.
    ///
    /// # Panics
    /// If it is not.
    pub fn pack_bf16(isa: Isa, k: usize, n: usize, get: impl Fn(usize, usize) -> f32) -> Self {
        assert!(k.is_multiple_of(2), "elements come in pairs");
        let panels = Panels::new(n, isa.lanes());
        let mut packed = Self::empty(isa, k / 2, n, Format::Bf16, k, panels);
        let pair = |k: usize, n: usize| bf16::pair(get(2 * k, n), get(2 * k + 1, n));
        pack(k / 2, panels, pair, packed.data.as_mut_slice());
        packed
    }

    /// Packs the matrix whose element in row `k` and column `n` is given by `code(k, n)` and `affine(k / block, n)`.
    pub fn pack_int8(
        isa: Isa,
        [k, n]: [usize; 2],
        block: usize,
        code: impl Fn(usize, usize) -> i8,
        affine: impl Fn(usize, usize) -> Affine,
    ) -> Self {
        let mut packed = Self::empty(isa, k, n, Format::Int8, block, Panels::new(n, isa.lanes()));
        packed.set_affine(affine);
        let panels = packed.panels;
        let bytes = packed.data.as_bytes_mut();
        walk(k, panels, |row, column, place| {
            bytes[place] = code(row, column).to_ne_bytes()[0];
            true
        });
        packed
    }

    /// The same matrix with the elements that codes stand for rounded to half precision; they must be below 65520.
    #[must_use]
    pub fn rounded_to_half(mut self) -> Self {
        self.rounding = TO_HALF;
        self
    }

    /// As [`PackedB::pack_int8`] with codes from 0 to 15.
    ///
    /// # Panics
    /// If there are several blocks of an odd number of rows.
    pub fn pack_int4(
        isa: Isa,
        [k, n]: [usize; 2],
        block: usize,
        code: impl Fn(usize, usize) -> u8,
        affine: impl Fn(usize, usize) -> Affine,
    ) -> Self {
        assert!(block.is_multiple_of(2) || block >= k, "two rows that lie together must belong to one block");
        let mut packed = Self::empty(isa, k, n, Format::Int4, block, Panels::new(n, isa.lanes()));
        packed.set_affine(affine);
        packed.set_nibbles(code);
        packed
    }

    /// Packs the matrix whose element in row `k` and column `n` is the entry `code(k, n)`, below 16, of the table of its
    /// columns; `None` if the columns of one vector have different tables. A table serves `columns` columns.
    pub fn pack_palette(
        isa: Isa,
        [k, n]: [usize; 2],
        columns: usize,
        tables: &[[f32; PALETTE]],
        code: impl Fn(usize, usize) -> u8,
    ) -> Option<Self> {
        let lanes = isa.lanes();
        if columns < n && !columns.is_multiple_of(lanes) {
            return None;
        }
        let mut packed = Self::empty(isa, k, n, Format::Palette, k, Panels::new(n, lanes));
        for (vector, entries) in packed.parameters.as_mut_slice().chunks_exact_mut(PALETTE).enumerate() {
            entries.copy_from_slice(&tables[vector * lanes / columns]);
        }
        packed.set_nibbles(code);
        Some(packed)
    }

    /// The same matrix, of [`Format::F32`], in panels of one vector each.
    pub(crate) fn narrow(&self) -> Self {
        assert_eq!(self.format, Format::F32, "vectors are moved, and codes do not come in such");
        let (k, lanes) = (self.k, self.isa.lanes());
        let mut narrow = Self::empty(self.isa, k, self.n, Format::F32, k, Panels::narrow(self.n, lanes));
        for index in 0..self.panels.count() {
            let (column, vectors) = self.panels.get(index);
            let from = &self.data.as_slice()[column * k..][..vectors * lanes * k];
            let to = &mut narrow.data.as_mut_slice()[column * k..][..vectors * lanes * k];
            for (at, vector) in from.chunks_exact(lanes).enumerate() {
                to[(at % vectors * k + at / vectors) * lanes..][..lanes].copy_from_slice(vector);
            }
        }
        narrow
    }

    /// Room for a matrix, filled with zeros.
    fn empty(isa: Isa, k: usize, n: usize, format: Format, block: usize, panels: Panels) -> Self {
        let block = block.clamp(1, k.max(1));
        let columns = panels.padded();
        let parameters = match format {
            Format::F32 | Format::F16 | Format::Bf16 => 0,
            Format::Int8 | Format::Int4 => 2 * columns * k.div_ceil(block),
            Format::Palette => columns / isa.lanes() * PALETTE,
        };
        let bytes = k.div_ceil(format.rows()) * columns * format.bytes();
        let (data, parameters) = (AlignedVec::zeroed(bytes.div_ceil(4)), AlignedVec::zeroed(parameters));
        Self { data, parameters, block, format, rounding: 0.0, k, n, isa, panels }
    }

    fn set_affine(&mut self, affine: impl Fn(usize, usize) -> Affine) {
        let blocks = self.k.div_ceil(self.block);
        let parameters = self.parameters.as_mut_slice();
        walk(blocks, self.panels, |block, column, place| {
            let (first, vectors) = self.panels.of(column);
            let width = vectors * self.isa.lanes();
            // Scales and offsets alternate by rows of the panel.
            let scale = 2 * place - (column - first);
            let Affine { scale: factor, zero } = affine(block, column);
            parameters[scale] = factor;
            parameters[scale + width] = -zero * factor;
            true
        });
    }

    fn set_nibbles(&mut self, code: impl Fn(usize, usize) -> u8) {
        let bytes = self.data.as_bytes_mut();
        let (rows, panels) = (self.k, self.panels);
        walk(rows.div_ceil(2), panels, |pair, column, place| {
            let high = if 2 * pair + 1 < rows { code(2 * pair + 1, column) } else { 0 };
            bytes[place] = code(2 * pair, column) & 15 | high << 4;
            true
        });
    }

    /// Rows of the matrix: the length of the dot products.
    pub fn k(&self) -> usize {
        self.k * self.format.per_row()
    }

    /// Columns of the matrix.
    pub fn n(&self) -> usize {
        self.n
    }

    /// How the elements are stored.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The packed values.
    pub fn view(&self) -> PackedRef<'_> {
        PackedRef {
            data: self.data.as_bytes(),
            parameters: self.parameters.as_slice(),
            block: self.block,
            format: self.format,
            rounding: self.rounding,
            k: self.k,
            n: self.n,
            isa: self.isa,
            panels: self.panels,
        }
    }
}

impl<'a> PackedRef<'a> {
    /// As [`PackedB::pack`] into `scratch` of `packed_len + ALIGNMENT_SLACK` values; allocates nothing.
    pub fn pack_into(isa: Isa, k: usize, n: usize, get: impl Fn(usize, usize) -> f32, scratch: &'a mut [f32]) -> Self {
        let len = packed_len(isa, k, n);
        let data = &mut aligned(scratch)[..len];
        pack(k, Panels::new(n, isa.lanes()), get, data);
        Self::plain(isa, k, n, data)
    }

    /// A matrix whose panels are filled with `f32`.
    pub(super) fn plain(isa: Isa, k: usize, n: usize, panels: &'a [f32]) -> Self {
        let (data, panels) = (bytes_of(panels), Panels::new(n, isa.lanes()));
        Self { data, parameters: &[], block: k.max(1), format: Format::F32, rounding: 0.0, k, n, isa, panels }
    }

    /// Bytes before row `row` of the panel that starts at `column` and is `width` wide; `row` must be one where rows that
    /// lie together start, or the end.
    pub(super) fn offset(&self, column: usize, width: usize, row: usize) -> usize {
        let rows = self.format.rows();
        (column * self.k.div_ceil(rows) + row.div_ceil(rows) * width) * self.format.bytes()
    }

    /// The parameters of a panel for a block of rows.
    pub(super) fn parameters(&self, column: usize, width: usize, block: usize) -> &'a [f32] {
        match self.format {
            Format::F32 | Format::F16 | Format::Bf16 => &[],
            Format::Int8 | Format::Int4 => {
                &self.parameters[2 * (column * self.k.div_ceil(self.block) + block * width)..][..2 * width]
            }
            Format::Palette => &self.parameters[column / self.isa.lanes() * PALETTE..],
        }
    }

    /// One element.
    #[cfg(test)]
    fn get(&self, k: usize, n: usize) -> f32 {
        let (k, half) = (k / self.format.per_row(), k % self.format.per_row());
        let (column, vectors) = self.panels.of(n);
        let width = vectors * self.isa.lanes();
        let within = n - column;
        let at = self.offset(column, width, k / self.format.rows() * self.format.rows()) + within * self.format.bytes();
        let parameters = self.parameters(column, width, k / self.block);
        let affine = |code: f32| {
            let (scale, offset) = (parameters[within], parameters[width + within]);
            self.isa.dispatch(Element { code, scale, offset, rounding: self.rounding })
        };
        let nibble = if k.is_multiple_of(2) { self.data[at] & 15 } else { self.data[at] >> 4 };
        let single = || f32::from_ne_bytes([0, 1, 2, 3].map(|i| self.data[at + i]));
        match self.format {
            Format::F32 => single(),
            Format::Bf16 => bf16::halves(single())[half],
            Format::F16 => half::to_f32(u16::from_ne_bytes([0, 1].map(|i| self.data[at + i]))),
            Format::Int8 => affine(f32::from(i8::from_ne_bytes([self.data[at]]))),
            Format::Int4 => affine(f32::from(nibble)),
            Format::Palette => parameters[within / self.isa.lanes() * PALETTE + usize::from(nibble)],
        }
    }
}

impl<'a> From<&'a PackedB> for PackedRef<'a> {
    fn from(b: &'a PackedB) -> Self {
        b.view()
    }
}

/// Calls `each` with the row, the column and the place of every element of the matrix, as they lie one after the other,
/// until it says no. Returns whether it never did.
fn walk(k: usize, panels: Panels, mut each: impl FnMut(usize, usize, usize) -> bool) -> bool {
    for index in 0..panels.count() {
        let (column, vectors) = panels.get(index);
        let width = vectors * panels.lanes;
        let live = width.min(panels.n - column);
        for row in 0..k {
            let start = column * k + row * width;
            if !(0..live).all(|j| each(row, column + j, start + j)) {
                return false;
            }
        }
    }
    true
}

fn pack(k: usize, panels: Panels, get: impl Fn(usize, usize) -> f32, out: &mut [f32]) {
    for index in 0..panels.count() {
        let (column, vectors) = panels.get(index);
        let width = vectors * panels.lanes;
        let live = width.min(panels.n - column);
        let panel = &mut out[column * k..][..width * k];
        for (row, line) in panel.chunks_exact_mut(width.max(1)).enumerate() {
            for (j, value) in line[..live].iter_mut().enumerate() {
                *value = get(row, column + j);
            }
            line[live..].fill(0.0);
        }
    }
}

/// Packs a matrix of which either the rows or the columns are adjacent in memory, its elements times `scale`.
///
/// # Panics
/// If neither are, the matrix has no element, or a slice is too short.
pub(super) fn fill(isa: Isa, [k, n]: [usize; 2], matrix: &[f32], [row, col]: [usize; 2], scale: f32, out: &mut [f32]) {
    assert!(row == 1 || col == 1, "elements lie apart both ways");
    assert!((k - 1) * row + (n - 1) * col < matrix.len(), "matrix too short");
    let panels = Panels::new(n, isa.lanes());
    for index in 0..panels.count() {
        let (column, vectors) = panels.get(index);
        let width = vectors * isa.lanes();
        let from = matrix[column * col..].as_ptr();
        let to = out[column * k..][..width * k].as_mut_ptr();
        let columns = width.min(n - column);
        isa.dispatch(Panel { from, row, col, to, k, width, columns, scale });
    }
}

/// A panel to be filled with `k` rows of `columns` values times `scale`, and zeros beyond. Either rows or columns are adjacent
/// in memory.
struct Panel {
    from: *const f32,
    row: usize,
    col: usize,
    to: *mut f32,
    k: usize,
    width: usize,
    columns: usize,
    scale: f32,
}

impl Kernel for Panel {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { from, row, col, to, k, width, columns, scale } = self;
        let (live, stride) = if col == 1 { (from, row) } else { (to.cast_const(), width) };
        // SAFETY: the matrix was checked to hold k rows of these columns, and the panel k rows of `width` values.
        unsafe {
            if col != 1 {
                Strip { from, from_stride: col, to, to_stride: width, rows: k, cols: columns }.run(s);
            }
            for at in 0..k {
                let (from, to) = (live.add(at * stride), to.add(at * width));
                let mut i = 0;
                while i < width {
                    let n = columns.saturating_sub(i).min(S::LANES);
                    let values = if n == S::LANES { s.load(from.add(i)) } else { s.load_partial(from.add(i), n) };
                    s.store(to.add(i), s.mul(s.splat(scale), values));
                    i += S::LANES;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_gives_back_its_elements() {
        let affine = |block: usize, n: usize| Affine { scale: 0.5 + block as f32, zero: (n % 3) as f32 };
        // Not exact in half precision.
        let odd = |block: usize, n: usize| Affine { scale: 0.1 + 3e-3 * block as f32, zero: (n % 3) as f32 };
        let value = |code: f32, a: Affine| (code - a.zero) * a.scale;
        let half = |x: f32| crate::reference::round_to_half(f64::from(x)) as f32;
        let code = |k: usize, n: usize| ((3 * k + 5 * n) % 16) as u8;
        for isa in Isa::available() {
            for (k, n) in [(0, 3), (1, 1), (7, 50), (10, 16), (13, 100)] {
                let tables: Vec<[f32; PALETTE]> =
                    (0..8).map(|t| std::array::from_fn(|i| (100 * t + i) as f32)).collect();
                let rows: Vec<f32> = (0..k * n).map(|i| 0.1 + (i / n * 1000 + i % n) as f32).collect();
                let columns: Vec<f32> = (0..k * n).map(|i| 0.1 + (i % k * 1000 + i / k) as f32).collect();
                let packed = [
                    PackedB::pack(isa, k, n, |k, n| 0.1 + (k * 1000 + n) as f32),
                    PackedB::pack_strided(isa, [k, n], &rows, [n, 1]),
                    PackedB::pack_strided(isa, [k, n], &columns, [1, k]),
                    PackedB::pack(isa, k, n, |k, n| 0.1 + (k * 1000 + n) as f32).narrow(),
                    PackedB::pack_exactly(isa, k, n, |k, n| (k * 10 + n) as f32 - 0.5),
                    PackedB::pack_int8(isa, [k, n], 4, |k, n| code(k, n) as i8 - 8, affine),
                    PackedB::pack_int4(isa, [k, n], 4, code, affine),
                    PackedB::pack_palette(isa, [k, n], 16, &tables, code).unwrap(),
                    PackedB::pack_int8(isa, [k, n], 4, |k, n| code(k, n) as i8 - 8, odd).rounded_to_half(),
                    PackedB::pack_int4(isa, [k, n], 4, code, odd).rounded_to_half(),
                ];
                for row in 0..k {
                    for column in 0..n {
                        let code = f32::from(code(row, column));
                        let scale = affine(row / 4, column);
                        let plain = 0.1 + (row * 1000 + column) as f32;
                        let expected = [
                            plain,
                            plain,
                            plain,
                            plain,
                            (row * 10 + column) as f32 - 0.5,
                            value(code - 8.0, scale),
                            value(code, scale),
                            (100 * (column / 16)) as f32 + code,
                            half(value(code - 8.0, odd(row / 4, column))),
                            half(value(code, odd(row / 4, column))),
                        ];
                        let found = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map(|i| packed[i].view().get(row, column));
                        assert_eq!(found, expected, "{} [{row}, {column}] of {k}x{n}", isa.name());
                    }
                }
                assert_eq!(packed[4].format(), Format::F16);
            }
            let pairs = PackedB::pack_bf16(isa, 14, 50, |k, n| 0.1 + (k * 100 + n) as f32);
            let rounded = |x: f32| bf16::halves(bf16::pair(x, 0.0))[0];
            for (k, n) in (0..14).flat_map(|k| (0..50).map(move |n| (k, n))) {
                assert_eq!(pairs.view().get(k, n), rounded(0.1 + (k * 100 + n) as f32), "[{k}, {n}]");
            }
            assert_eq!((pairs.k(), pairs.n(), pairs.format()), (14, 50, Format::Bf16));
            let inexact = PackedB::pack_exactly(isa, 5, 20, |k, n| if (k, n) == (4, 19) { 0.1 } else { 0.5 });
            assert_eq!(inexact.format(), Format::F32);
            assert_eq!((inexact.view().get(4, 19), inexact.view().get(0, 0)), (0.1, 0.5));
            assert!(PackedB::pack_palette(isa, [4, 20], 6, &[[0.0; PALETTE]; 4], |_, _| 0).is_none());
        }
    }
}
