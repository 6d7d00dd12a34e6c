//! Orders the items of each row so that few lines cross.

use super::{APART, LINES_APART, Rows, Spot};

/// How often rows are sorted, alternately by the row above and by the row below.
const SWEEPS: usize = 14;

/// Sorts each row by where its lines come from and go to, and leaves provisional places in `x`.
pub(super) fn sort(rows: &mut Rows) {
    let [above, below] = neighbours(rows);
    rows.rows.iter().for_each(|row| pack(&mut rows.spots, row));
    let mut best = (crossings(rows, &above), rows.rows.clone());
    for sweep in 0..SWEEPS {
        if best.0 == 0 {
            break;
        }
        let count = rows.rows.len();
        let (links, order): (_, Vec<usize>) =
            if sweep % 2 == 0 { (&above, (0..count).collect()) } else { (&below, (0..count).rev().collect()) };
        for row in order {
            let side = sweep % 2;
            let mean = |spot: usize| {
                let places = links[spot].iter().map(|&link| {
                    let link = &rows.links[link];
                    let other = if side == 0 { link.from } else { link.to };
                    rows.spots[other].x + link.offsets[side]
                });
                let count = links[spot].len();
                if count == 0 { rows.spots[spot].x } else { places.sum::<f64>() / count as f64 }
            };
            let mut keyed: Vec<(f64, usize)> = rows.rows[row].iter().map(|&spot| (mean(spot), spot)).collect();
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
            rows.rows[row] = keyed.into_iter().map(|(_, spot)| spot).collect();
            pack(&mut rows.spots, &rows.rows[row]);
        }
        let crossings = crossings(rows, &above);
        if crossings < best.0 {
            best = (crossings, rows.rows.clone());
        }
    }
    rows.rows = best.1;
    rows.rows.iter().for_each(|row| pack(&mut rows.spots, row));
}

/// The links that end at each spot, and those that begin there.
pub(super) fn neighbours(rows: &Rows) -> [Vec<Vec<usize>>; 2] {
    let mut neighbours = [vec![Vec::new(); rows.spots.len()], vec![Vec::new(); rows.spots.len()]];
    for (i, link) in rows.links.iter().enumerate() {
        neighbours[0][link.to].push(i);
        neighbours[1][link.from].push(i);
    }
    neighbours
}

/// The least distance between the middles of two neighbours.
pub(super) fn distance(a: &Spot, b: &Spot) -> f64 {
    let apart = if a.is_item() || b.is_item() { APART } else { LINES_APART };
    (a.width + b.width) / 2.0 + apart
}

/// Puts a row side by side, its middle at 0.
fn pack(spots: &mut [Spot], row: &[usize]) {
    let mut x = 0.0;
    for (i, &spot) in row.iter().enumerate() {
        if i > 0 {
            x += distance(&spots[row[i - 1]], &spots[spot]);
        }
        spots[spot].x = x;
    }
    row.iter().for_each(|&spot| spots[spot].x -= x / 2.0);
}

/// How many pairs of lines between successive rows cross.
fn crossings(rows: &Rows, above: &[Vec<usize>]) -> usize {
    rows.rows
        .iter()
        .map(|row| {
            let ends = row.iter().flat_map(|&spot| above[spot].iter().map(|&link| &rows.links[link]));
            let mut lines: Vec<[f64; 2]> = ends
                .map(|link| [rows.spots[link.from].x + link.offsets[0], rows.spots[link.to].x + link.offsets[1]])
                .collect();
            lines.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
            inversions(lines.into_iter().map(|line| line[1]).collect())
        })
        .sum()
}

/// Pairs of numbers of which the larger comes first, counted by merging sorted halves.
fn inversions(mut numbers: Vec<f64>) -> usize {
    fn count(numbers: &mut [f64], spare: &mut Vec<f64>) -> usize {
        if numbers.len() < 2 {
            return 0;
        }
        let middle = numbers.len() / 2;
        let (left, right) = numbers.split_at_mut(middle);
        let mut found = count(left, spare) + count(right, spare);
        spare.clear();
        let (mut i, mut j) = (0, 0);
        while i < left.len() || j < right.len() {
            if j == right.len() || (i < left.len() && left[i] <= right[j]) {
                spare.push(left[i]);
                i += 1;
            } else {
                found += left.len() - i;
                spare.push(right[j]);
                j += 1;
            }
        }
        numbers.copy_from_slice(spare);
        found
    }
    count(&mut numbers, &mut Vec::new())
}

#[cfg(test)]
mod tests {
    #[test]
    fn crossings_are_pairs_in_the_wrong_order() {
        assert_eq!(super::inversions(vec![1.0, 2.0, 3.0]), 0);
        assert_eq!(super::inversions(vec![3.0, 2.0, 1.0]), 3);
        assert_eq!(super::inversions(vec![2.0, 1.0, 1.0, 0.0]), 5);
    }
}
