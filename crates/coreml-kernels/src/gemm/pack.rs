//! The right-hand matrix, rearranged into the order in which the micro-kernel reads it.
//!
//! The columns are cut into panels of three, two or one vectors; a panel is stored row by row, with columns beyond
//! the matrix as zeros. Three vectors feed the micro-kernel best; two panels of two replace one of three and one of
//! one, so that no column count wastes more than it must.

use super::ROW_UNIT;
use crate::aligned::{AlignedVec, LINE_VALUES, aligned};
use crate::simd::Isa;

/// How `n` columns are cut into panels for vectors of `lanes` values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panels {
    n: usize,
    lanes: usize,
    triples: usize,
    count: usize,
}

impl Panels {
    pub(crate) fn new(n: usize, lanes: usize) -> Self {
        let vectors = n.div_ceil(lanes);
        let (triples, rest) = match vectors % 3 {
            0 => (vectors / 3, 0),
            1 if vectors > 3 => (vectors / 3 - 1, 2),
            _ => (vectors / 3, 1),
        };
        Self { n, lanes, triples, count: triples + rest }
    }

    pub(crate) fn count(self) -> usize {
        self.count
    }

    /// A number of rows that the tiles of all panels divide.
    pub(crate) fn row_unit(self) -> usize {
        // Tiles of three vectors are a third of the accumulators high, and these divide 24.
        if self.n.div_ceil(self.lanes).is_multiple_of(3) { ROW_UNIT / 3 } else { ROW_UNIT }
    }

    /// First column and number of vectors of a panel.
    pub(crate) fn get(self, index: usize) -> (usize, usize) {
        if index < self.triples {
            return (index * 3 * self.lanes, 3);
        }
        let first = self.triples * 3 * self.lanes;
        let rest = self.n.div_ceil(self.lanes) - self.triples * 3;
        let vectors = rest.min(2);
        (first + (index - self.triples) * 2 * self.lanes, vectors)
    }

    /// Columns when each panel is filled up.
    fn padded(self) -> usize {
        self.n.div_ceil(self.lanes) * self.lanes
    }
}

/// A packed matrix in memory of its own: for weights.
#[derive(Clone, Debug)]
pub struct PackedB {
    data: AlignedVec,
    k: usize,
    n: usize,
    isa: Isa,
}

/// A packed matrix, wherever its values lie.
#[derive(Clone, Copy, Debug)]
pub struct PackedRef<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) k: usize,
    pub(crate) n: usize,
    pub(crate) isa: Isa,
}

/// Values that a packed `[k, n]` matrix takes; scratch for [`PackedRef::pack_into`] needs
/// [`ALIGNMENT_SLACK`] more.
pub fn packed_len(isa: Isa, k: usize, n: usize) -> usize {
    k * Panels::new(n, isa.lanes()).padded()
}

/// Extra scratch values that let an aligned start be found.
pub const ALIGNMENT_SLACK: usize = LINE_VALUES;

impl PackedB {
    /// Packs the matrix whose element in row `k` and column `n` is `get(k, n)`.
    pub fn pack(isa: Isa, k: usize, n: usize, get: impl Fn(usize, usize) -> f32) -> Self {
        let mut data = AlignedVec::zeroed(packed_len(isa, k, n));
        pack(isa, k, n, get, data.as_mut_slice());
        Self { data, k, n, isa }
    }

    /// Rows of the matrix: the length of the dot products.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Columns of the matrix.
    pub fn n(&self) -> usize {
        self.n
    }

    /// The packed values.
    pub fn view(&self) -> PackedRef<'_> {
        PackedRef { data: self.data.as_slice(), k: self.k, n: self.n, isa: self.isa }
    }
}

impl<'a> PackedRef<'a> {
    /// As [`PackedB::pack`] into `scratch` of `packed_len + ALIGNMENT_SLACK` values; allocates nothing.
    pub fn pack_into(isa: Isa, k: usize, n: usize, get: impl Fn(usize, usize) -> f32, scratch: &'a mut [f32]) -> Self {
        let len = packed_len(isa, k, n);
        let data = &mut aligned(scratch)[..len];
        pack(isa, k, n, get, data);
        Self { data, k, n, isa }
    }
}

impl<'a> From<&'a PackedB> for PackedRef<'a> {
    fn from(b: &'a PackedB) -> Self {
        b.view()
    }
}

fn pack(isa: Isa, k: usize, n: usize, get: impl Fn(usize, usize) -> f32, out: &mut [f32]) {
    let panels = Panels::new(n, isa.lanes());
    for index in 0..panels.count() {
        let (column, vectors) = panels.get(index);
        let width = vectors * isa.lanes();
        let live = width.min(n - column);
        let panel = &mut out[column * k..][..width * k];
        for (row, line) in panel.chunks_exact_mut(width.max(1)).enumerate() {
            for (j, value) in line[..live].iter_mut().enumerate() {
                *value = get(row, column + j);
            }
            line[live..].fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_cover_all_columns_once_in_order() {
        for lanes in [4, 8, 16] {
            for n in 0..400 {
                let panels = Panels::new(n, lanes);
                let mut next = 0;
                for index in 0..panels.count() {
                    let (column, vectors) = panels.get(index);
                    assert_eq!(column, next, "n {n} lanes {lanes}");
                    assert!((1..=3).contains(&vectors) && column < n);
                    next = column + vectors * lanes;
                }
                assert_eq!(next, panels.padded(), "n {n} lanes {lanes}");
            }
        }
    }
}
