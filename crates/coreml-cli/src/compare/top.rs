//! Whether two answers name the same largest entries: the likeliest labels of a classifier, the largest logits of a row.

use std::collections::HashSet;

use coreml_anywhere::tensor::npz::Array;

/// How many of the `k` largest entries are the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Agreement {
    pub(super) k: usize,
    /// The share of the expected entries that are among the found ones; the mean over the rows.
    pub(super) shared: f64,
    /// The share of the rows whose largest entry is the same.
    pub(super) first: f64,
}

/// Compares the `k` largest entries of each row. A vector is one row; for other tensors rows are along the last axis. `None`
/// if there are no rows of numbers, or the shapes differ.
pub(super) fn agreement(found: &Array, expected: &Array, k: usize) -> Option<Agreement> {
    let (Array::Tensor(found), Array::Tensor(expected)) = (found, expected) else { return None };
    let length = expected.shape().last().copied().filter(|&length| length > 0 && k > 0)?;
    if found.shape() != expected.shape() || !found.dtype().is_float() || !expected.dtype().is_float() {
        return None;
    }
    let (found, expected) = (found.view().to_f64_vec(), expected.view().to_f64_vec());
    let k = k.min(length);
    let (mut rows, mut shared, mut first) = (0, 0, 0);
    for (found, expected) in found.chunks(length).zip(expected.chunks(length)) {
        let (found, expected) = (largest(found, k), largest(expected, k));
        rows += 1;
        first += usize::from(found.first() == expected.first());
        let found: HashSet<usize> = found.into_iter().collect();
        shared += expected.iter().filter(|entry| found.contains(entry)).count();
    }
    let part = |count: usize, of: usize| count as f64 / of.max(1) as f64;
    Some(Agreement { k, shared: part(shared, rows * k), first: part(first, rows) })
}

/// The positions of the `k` largest numbers, largest first; of equal ones the earlier.
fn largest(row: &[f64], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
    order.truncate(k);
    order
}

#[cfg(test)]
mod tests {
    use coreml_anywhere::tensor::{Shape, Tensor};

    use super::*;

    fn rows(values: [[f32; 4]; 2]) -> Array {
        Array::Tensor(Tensor::new(Shape::from([2, 4]), values.concat()).unwrap())
    }

    #[test]
    fn each_row_is_counted() {
        let expected = rows([[0.1, 0.2, 0.3, 0.4], [4.0, 3.0, 2.0, 1.0]]);
        // The first row has its largest two swapped, the second another one in their place.
        let found = rows([[0.1, 0.2, 0.4, 0.3], [4.0, 1.0, 2.0, 3.0]]);
        let two = agreement(&found, &expected, 2).unwrap();
        assert_eq!((two.shared, two.first), (0.75, 0.5));
        let all = agreement(&found, &expected, 9).unwrap();
        assert_eq!((all.k, all.shared, all.first), (4, 1.0, 0.5));
        assert_eq!(agreement(&expected, &expected, 1), Some(Agreement { k: 1, shared: 1.0, first: 1.0 }));
    }

    #[test]
    fn what_is_no_row_of_numbers_has_none() {
        let scalar = Array::Tensor(Tensor::scalar(1.0f32));
        assert_eq!(agreement(&scalar, &scalar, 1), None);
        let label = Array::Strings(Shape::SCALAR, vec!["cat".into()]);
        assert_eq!(agreement(&label, &label, 1), None);
        let integers = Array::Tensor(Tensor::new(Shape::from([2]), vec![1i32, 2]).unwrap());
        assert_eq!(agreement(&integers, &integers, 1), None);
    }
}
