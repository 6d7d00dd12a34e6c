//! How the columns of a right-hand matrix are cut into panels.
//!
//! Panels are three, two or one vectors wide. Three vectors keep the micro-kernel busiest; two panels of two replace one
//! of three and one of one, so that no column count wastes more than it must.

use super::ROW_UNIT;

/// How `n` columns are cut into panels for vectors of `lanes` values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panels {
    pub(super) n: usize,
    pub(super) lanes: usize,
    triples: usize,
    /// Vectors of the panels after the triples; the last may have fewer.
    width: usize,
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
        Self { n, lanes, triples, width: 2, count: triples + rest }
    }

    /// Panels of one vector each: for products that are computed one vector of columns at a time.
    pub(super) fn narrow(n: usize, lanes: usize) -> Self {
        Self { n, lanes, triples: 0, width: 1, count: n.div_ceil(lanes) }
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
        (first + (index - self.triples) * self.width * self.lanes, rest.min(self.width))
    }

    /// First column and number of vectors of the panel that has a column.
    pub(super) fn of(self, column: usize) -> (usize, usize) {
        let vector = column / self.lanes;
        let index = if vector < 3 * self.triples {
            vector / 3
        } else {
            self.triples + (vector - 3 * self.triples) / self.width
        };
        self.get(index)
    }

    /// Columns when each panel is filled up.
    pub(super) fn padded(self) -> usize {
        self.n.div_ceil(self.lanes) * self.lanes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_cover_all_columns_once_in_order() {
        for lanes in [4, 8, 16] {
            for n in 0..400 {
                for panels in [Panels::new(n, lanes), Panels::narrow(n, lanes)] {
                    let mut next = 0;
                    for index in 0..panels.count() {
                        let (column, vectors) = panels.get(index);
                        assert_eq!(column, next, "n {n} lanes {lanes}");
                        assert!((1..=3).contains(&vectors) && column < n);
                        next = column + vectors * lanes;
                        assert!((column..next).all(|column| panels.of(column) == panels.get(index)));
                    }
                    assert_eq!(next, panels.padded(), "n {n} lanes {lanes}");
                }
            }
        }
    }
}
