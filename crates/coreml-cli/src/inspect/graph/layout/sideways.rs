//! Moves the items of each row sideways, without changing their order, until lines are as straight as they can be.

use super::Rows;
use super::rows::{distance, neighbours};

/// How often each row is moved towards its neighbours.
const SWEEPS: usize = 24;
/// How much it matters that boxes stand below each other.
const TO_AXIS: f64 = 8.0;

pub(super) fn place(rows: &mut Rows) {
    let links = neighbours(rows);
    let count = rows.rows.len();
    for sweep in 0..SWEEPS {
        // The last sweeps look at both sides, so that neither is favoured.
        let sides: &[usize] = match (sweep + 4 < SWEEPS, sweep % 2) {
            (true, 0) => &[0],
            (true, _) => &[1],
            (false, _) => &[0, 1],
        };
        let order: Vec<usize> = if sweep % 2 == 0 { (0..count).collect() } else { (0..count).rev().collect() };
        let axis = axis(rows);
        for row in order {
            let wanted: Vec<(f64, f64)> =
                rows.rows[row].iter().map(|&spot| wanted(rows, &links, spot, sides, axis)).collect();
            let spots = &rows.spots;
            let gaps: Vec<f64> =
                rows.rows[row].windows(2).map(|pair| distance(&spots[pair[0]], &spots[pair[1]])).collect();
            let places = closest(&wanted, &gaps);
            for (&spot, x) in rows.rows[row].iter().zip(places) {
                rows.spots[spot].x = x;
            }
        }
    }
    // What has moved makes room for others.
    for _ in 0..3 {
        straighten(rows, &links);
    }
}

/// Makes lines straight where there is room: the sweeps bring distant rows together slowly.
fn straighten(rows: &mut Rows, links: &[Vec<Vec<usize>>; 2]) {
    // What is to stand below a spot: where its line goes on, or the only operation that takes an operation's only result.
    let below = |spot: usize| {
        let own = &rows.spots[spot];
        let goes_on = |link: &&usize| {
            let next = rows.links[**link].to;
            let only = links[1][spot].len() == 1 && links[0][next].len() == 1;
            if own.is_item() { only && own.is_node && rows.spots[next].is_node } else { !rows.spots[next].is_item() }
        };
        let link = links[1][spot].iter().find(goes_on)?;
        let link = &rows.links[*link];
        Some((link.to, link.offsets[0] - link.offsets[1]))
    };
    let below: Vec<Option<(usize, f64)>> = (0..rows.spots.len()).map(below).collect();
    let mut first = vec![true; rows.spots.len()];
    below.iter().flatten().for_each(|&(spot, _)| first[spot] = false);
    let mut place = vec![(0, 0); rows.spots.len()];
    for (r, row) in rows.rows.iter().enumerate() {
        row.iter().enumerate().for_each(|(i, &spot)| place[spot] = (r, i));
    }
    for begin in (0..rows.spots.len()).filter(|&spot| first[spot]) {
        let chain = std::iter::successors(Some((begin, 0.0)), |&(spot, shift)| {
            let (next, more) = below[spot]?;
            Some((next, shift + more))
        });
        let chain: Vec<(usize, f64)> = chain.collect();
        let mut from = 0;
        while from < chain.len() {
            // As far down as one place suits all.
            let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
            let mut to = from;
            while let Some(&(spot, shift)) = chain.get(to) {
                let [left, right] = room(rows, place[spot]);
                let (narrow_low, narrow_high) = (low.max(left - shift), high.min(right - shift));
                if narrow_low > narrow_high && to > from {
                    break;
                }
                (low, high) = (narrow_low, narrow_high);
                to += 1;
            }
            let run = &chain[from..to];
            let mean = run.iter().map(|&(spot, shift)| rows.spots[spot].x - shift).sum::<f64>() / run.len() as f64;
            if low <= high {
                run.iter().for_each(|&(spot, shift)| rows.spots[spot].x = mean.clamp(low, high) + shift);
            }
            from = to;
        }
    }
}

/// Between which places a spot can stand while its neighbours stay where they are.
fn room(rows: &Rows, (row, i): (usize, usize)) -> [f64; 2] {
    let row = &rows.rows[row];
    let own = &rows.spots[row[i]];
    let neighbour = |at: Option<usize>| at.and_then(|at| row.get(at)).map(|&spot| &rows.spots[spot]);
    let left = neighbour(i.checked_sub(1)).map_or(f64::NEG_INFINITY, |left| left.x + distance(left, own));
    let right = neighbour(Some(i + 1)).map_or(f64::INFINITY, |right| right.x - distance(own, right));
    [left, right]
}

/// The middle of all boxes. Boxes that follow each other would drift to one side if each stood below the point where a line leaves
/// the one before.
fn axis(rows: &Rows) -> f64 {
    let boxes = || rows.spots.iter().filter(|spot| spot.is_item() && !spot.is_node);
    let widths: f64 = boxes().map(|one| one.width).sum();
    if widths > 0.0 { boxes().map(|one| one.x * one.width).sum::<f64>() / widths } else { 0.0 }
}

/// Where a spot's lines would be straight, and how much that matters.
fn wanted(rows: &Rows, links: &[Vec<Vec<usize>>; 2], spot: usize, sides: &[usize], axis: f64) -> (f64, f64) {
    let is_box = rows.spots[spot].is_item() && !rows.spots[spot].is_node;
    let mut weights = if is_box { TO_AXIS } else { 0.0 };
    let mut sum = weights * axis;
    for &side in sides {
        for &link in &links[side][spot] {
            let link = &rows.links[link];
            let (other, [own, theirs]) = if side == 0 {
                (link.from, [link.offsets[1], link.offsets[0]])
            } else {
                (link.to, [link.offsets[0], link.offsets[1]])
            };
            // Bends of lines between operations disturb more than those of a line's ends.
            let weight = match (rows.spots[spot].is_item(), rows.spots[other].is_item()) {
                (true, true) => 2.0,
                (false, false) => 6.0,
                _ => 1.0,
            };
            sum += weight * (rows.spots[other].x + theirs - own);
            weights += weight;
        }
    }
    if weights > 0.0 { (sum / weights, weights) } else { (rows.spots[spot].x, 0.05) }
}

/// The places closest to those that are wanted, in the sense of least squares, that keep order and distances: neighbours
/// that would be too close become a block, which stands at the mean of what its members want.
fn closest(wanted: &[(f64, f64)], gaps: &[f64]) -> Vec<f64> {
    struct Run {
        first: usize,
        sum: f64,
        weight: f64,
    }
    let mut shift = vec![0.0; wanted.len()];
    for (i, gap) in gaps.iter().enumerate() {
        shift[i + 1] = shift[i] + gap;
    }
    let mut runs: Vec<Run> = Vec::new();
    for (i, &(x, weight)) in wanted.iter().enumerate() {
        runs.push(Run { first: i, sum: weight * (x - shift[i]), weight });
        while let [.., before, last] = &runs[..]
            && before.sum / before.weight > last.sum / last.weight
        {
            let (sum, weight) = (last.sum, last.weight);
            runs.pop();
            if let Some(before) = runs.last_mut() {
                before.sum += sum;
                before.weight += weight;
            }
        }
    }
    let mut places = vec![0.0; wanted.len()];
    for (r, run) in runs.iter().enumerate() {
        let end = runs.get(r + 1).map_or(wanted.len(), |next| next.first);
        for i in run.first..end {
            places[i] = run.sum / run.weight + shift[i];
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn neighbours_keep_their_distance_and_order() {
        assert_eq!(closest(&[(0.0, 1.0), (100.0, 1.0)], &[10.0]), [0.0, 100.0]);
        assert_eq!(closest(&[(0.0, 1.0), (0.0, 1.0)], &[10.0]), [-5.0, 5.0]);
        assert_eq!(closest(&[(50.0, 1.0), (0.0, 3.0)], &[10.0]), [5.0, 15.0]);
        assert_eq!(closest(&[], &[]), [0.0; 0]);
    }
}
