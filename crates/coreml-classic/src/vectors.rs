//! Support vectors, and the kernels that compare a row with them.

use coreml_core::Error;
use coreml_model::Fields;

use crate::broken;
use crate::row::Width;

/// How alike two rows are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kernel {
    Linear,
    Rbf { gamma: f64 },
    Poly { degree: i32, c: f64, gamma: f64 },
    Sigmoid { gamma: f64, c: f64 },
}

impl Kernel {
    /// The kernel in field 1.
    pub(crate) fn read(fields: Fields<'_>) -> Result<Self, Error> {
        let kernel = fields.message(1)?.ok_or_else(|| broken("the model has no kernel"))?;
        let kind = kernel.one_of(&[1, 2, 3, 4])?.ok_or_else(|| broken("the kernel has no type"))?;
        let held = kernel.message(kind)?.unwrap_or_default();
        Ok(match kind {
            1 => Self::Linear,
            2 => Self::Rbf { gamma: held.double(1)? },
            3 => {
                let degree = held.int(1)?;
                let degree =
                    i32::try_from(degree).map_err(|_| broken(format!("the kernel has the degree {degree}")))?;
                Self::Poly { degree, c: held.double(2)?, gamma: held.double(3)? }
            }
            _ => Self::Sigmoid { gamma: held.double(1)?, c: held.double(2)? },
        })
    }
}

/// Support vectors, one after the other.
#[derive(Debug)]
pub(crate) enum Vectors {
    /// All as long as the features.
    Dense { width: usize, numbers: Vec<f64> },
    /// The numbers that are not zero with their features, which ascend within a vector; `starts` has one entry more than
    /// there are vectors.
    Sparse { starts: Vec<usize>, entries: Vec<(u32, f64)> },
}

impl Vectors {
    /// The vectors in one of these two fields.
    pub(crate) fn read(fields: Fields<'_>, sparse: u32, dense: u32) -> Result<Self, Error> {
        let kind = fields.one_of(&[sparse, dense])?.ok_or_else(|| broken("the model has no support vectors"))?;
        let vectors = fields.message(kind)?.unwrap_or_default().messages(1)?;
        if kind == sparse {
            return Self::sparse(&vectors);
        }
        let (mut width, mut numbers) = (None, Vec::new());
        for vector in vectors {
            let start = numbers.len();
            numbers.extend(vector.doubles(1)?);
            let (found, wanted) = (numbers.len() - start, *width.get_or_insert(numbers.len()));
            if found != wanted {
                return Err(broken(format!("there are support vectors of {wanted} and of {found} numbers")));
            }
        }
        let width = width.unwrap_or(0);
        if width == 0 {
            return Err(broken("the support vectors are empty"));
        }
        Ok(Self::Dense { width, numbers })
    }

    fn sparse(vectors: &[Fields<'_>]) -> Result<Self, Error> {
        let (mut starts, mut entries) = (vec![0], Vec::<(u32, f64)>::new());
        for (i, vector) in vectors.iter().enumerate() {
            let start = entries.len();
            for node in vector.messages(1)? {
                // Features are counted from 1.
                let index = node.int(1)?;
                let feature = index.checked_sub(1).and_then(|feature| u32::try_from(feature).ok());
                let none = || broken(format!("support vector {i} has the index {index}; they start at 1"));
                entries.push((feature.ok_or_else(none)?, node.double(2)?));
            }
            entries[start..].sort_by_key(|(feature, _)| *feature);
            if let Some([(twice, _), _]) = entries[start..].array_windows().find(|[a, b]| a.0 == b.0) {
                return Err(broken(format!("support vector {i} has the index {} twice", u64::from(*twice) + 1)));
            }
            starts.push(entries.len());
        }
        Ok(Self::Sparse { starts, entries })
    }

    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Dense { width, numbers } => numbers.len() / width,
            Self::Sparse { starts, .. } => starts.len() - 1,
        }
    }

    /// How many features a row must have.
    pub(crate) fn width(&self) -> Width {
        match self {
            Self::Dense { width, .. } => Width::Exactly(*width),
            Self::Sparse { entries, .. } => {
                Width::AtLeast(entries.iter().map(|(feature, _)| *feature as usize + 1).max().unwrap_or(0))
            }
        }
    }

    /// How alike `row`, which has as many features as [`Vectors::width`] says, is to each vector.
    pub(crate) fn compare(&self, kernel: Kernel, row: &[f64]) -> Vec<f64> {
        let square: f64 = if let Self::Sparse { .. } = self { row.iter().map(|x| x * x).sum() } else { 0.0 };
        let one = |vector: usize| {
            let dot = || match self {
                Self::Dense { width, numbers } => {
                    let vector = &numbers[vector * width..(vector + 1) * width];
                    vector.iter().zip(row).map(|(a, b)| a * b).sum::<f64>()
                }
                Self::Sparse { starts, entries } => {
                    let entries = &entries[starts[vector]..starts[vector + 1]];
                    entries.iter().map(|&(feature, a)| a * row[feature as usize]).sum()
                }
            };
            match kernel {
                Kernel::Linear => dot(),
                Kernel::Poly { degree, c, gamma } => (gamma * dot() + c).powi(degree),
                Kernel::Sigmoid { gamma, c } => (gamma * dot() + c).tanh(),
                Kernel::Rbf { gamma } => (-gamma * self.distance(vector, row, square)).exp(),
            }
        };
        (0..self.count()).map(one).collect()
    }

    /// The squared distance; `square` is the row's squared length, for sparse vectors.
    fn distance(&self, vector: usize, row: &[f64], square: f64) -> f64 {
        match self {
            Self::Dense { width, numbers } => {
                let vector = &numbers[vector * width..(vector + 1) * width];
                vector.iter().zip(row).map(|(a, b)| (a - b) * (a - b)).sum()
            }
            Self::Sparse { starts, entries } => {
                // The row's length, but for the features that the vector has.
                let change = |&(feature, a): &(u32, f64)| {
                    let b = row[feature as usize];
                    (a - b) * (a - b) - b * b
                };
                square + entries[starts[vector]..starts[vector + 1]].iter().map(change).sum::<f64>()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use coreml_testing::wire::Message;

    use super::*;

    /// The vectors `rows` in both forms; zeros are left out of the sparse one, whose entries are the other way round.
    fn both(rows: &[[f64; 5]]) -> [Vectors; 2] {
        let (mut dense, mut sparse) = (Message::new(), Message::new());
        for row in rows {
            dense = dense.message(1, &Message::new().doubles(1, row));
            let entries = (1..).zip(row).filter(|(_, number)| **number != 0.0).collect::<Vec<_>>();
            let vector = entries.into_iter().rev().fold(Message::new(), |vector, (index, &number)| {
                vector.message(1, &Message::new().int(1, index).double(2, number))
            });
            sparse = sparse.message(1, &vector);
        }
        [(2, sparse), (3, dense)].map(|(field, vectors)| {
            Vectors::read(Fields::new(Message::new().message(field, &vectors).bytes()), 2, 3).unwrap()
        })
    }

    #[test]
    fn sparse_vectors_compare_as_the_same_dense_ones_do() {
        let rows = [[1.0, 0.0, -2.0, 0.5, 0.0], [0.0; 5], [0.25, 3.0, 1.0, -1.0, 2.0]];
        let row = [0.5, -1.0, 2.0, 0.0, 4.0];
        let kernels = [
            Kernel::Linear,
            Kernel::Rbf { gamma: 0.1 },
            Kernel::Poly { degree: 3, c: 1.0, gamma: 0.5 },
            Kernel::Sigmoid { gamma: 0.1, c: -0.5 },
        ];
        for rows in [&rows[..], &rows[..2]] {
            let [sparse, dense] = both(rows);
            assert_eq!(sparse.count(), dense.count());
            for kernel in kernels {
                let (a, b) = (sparse.compare(kernel, &row), dense.compare(kernel, &row));
                assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1e-12), "{kernel:?}: {a:?} and {b:?}");
            }
        }
    }
}
