//! Functions of several tensors row by row: a row is as long as each operand either goes on or stays within it, so that the
//! loop over it is one that compilers make vectors of.

use coreml_tensor::{MAX_RANK, Shape};

/// An operand within a row.
#[derive(Clone, Copy)]
pub(crate) enum Side<'a, T> {
    Run(&'a [T]),
    Same(T),
}

impl<'a, T: Copy> Side<'a, T> {
    pub(crate) fn new(from: &'a [T], start: usize, goes_on: bool, len: usize) -> Self {
        if goes_on { Self::Run(&from[start..][..len]) } else { Self::Same(from[start]) }
    }

    fn part(self, start: usize, len: usize) -> Self {
        match self {
            Self::Run(run) => Self::Run(&run[start..][..len]),
            same => same,
        }
    }
}

/// A function of a row's elements.
pub(crate) type Row<T, U> = fn(&mut [U], Side<'_, T>, Side<'_, T>);

/// `out[i] = f(x[i], y[i])`
#[inline(always)]
pub(crate) fn row<T: Copy, U>(out: &mut [U], x: Side<'_, T>, y: Side<'_, T>, f: impl Fn(T, T) -> U) {
    match (x, y) {
        (Side::Run(x), Side::Run(y)) => out.iter_mut().zip(x).zip(y).for_each(|((out, &x), &y)| *out = f(x, y)),
        (Side::Run(x), Side::Same(y)) => out.iter_mut().zip(x).for_each(|(out, &x)| *out = f(x, y)),
        (Side::Same(x), Side::Run(y)) => out.iter_mut().zip(y).for_each(|(out, &y)| *out = f(x, y)),
        (Side::Same(x), Side::Same(y)) => out.iter_mut().for_each(|out| *out = f(x, y)),
    }
}

/// Applies `each` to all rows of an output of this shape.
pub(crate) fn apply<T: Copy, U>(each: Row<T, U>, shape: Shape, x: (&[T], Shape), y: (&[T], Shape), out: &mut [U]) {
    in_rows(shape, [x.1, y.1], |at, [i, j], [x_goes, y_goes], len| {
        each(&mut out[at..][..len], Side::new(x.0, i, x_goes, len), Side::new(y.0, j, y_goes, len));
    });
}

/// As [`apply`] where `out` holds the left operand, which has its shape.
pub(crate) fn apply_in_place<T: Copy + Default>(each: Row<T, T>, shape: Shape, y: (&[T], Shape), out: &mut [T]) {
    let mut held = [T::default(); 256];
    in_rows(shape, [shape, y.1], |at, [_, j], [_, y_goes], len| {
        let y = Side::new(y.0, j, y_goes, len);
        for (number, out) in out[at..][..len].chunks_mut(held.len()).enumerate() {
            let x = &mut held[..out.len()];
            x.copy_from_slice(out);
            each(out, Side::Run(x), y.part(number * 256, out.len()));
        }
    });
}

/// Calls `each` for the rows of a shape in order, with the row's offset, those of the operands, whether each operand goes on
/// within the row, and its length.
pub(crate) fn in_rows<const N: usize>(
    shape: Shape,
    operands: [Shape; N],
    mut each: impl FnMut(usize, [usize; N], [bool; N], usize),
) {
    let count = shape.count();
    if count == 0 {
        return;
    }
    let dim =
        |operand: &Shape, axis: usize| (axis + operand.rank()).checked_sub(shape.rank()).map_or(1, |a| operand[a]);
    let (mut len, mut first) = (1, shape.rank());
    let mut goes_on = None;
    while first > 0 {
        if shape[first - 1] != 1 {
            let here = operands.each_ref().map(|operand| dim(operand, first - 1) != 1);
            if *goes_on.get_or_insert(here) != here {
                break;
            }
            len *= shape[first - 1];
        }
        first -= 1;
    }
    let mut walk = Walk::new(shape, operands).over(first);
    for at in (0..count).step_by(len) {
        each(at, walk.next(), goes_on.unwrap_or([false; N]), len);
    }
}

/// Walks the elements of a shape in order, giving the offsets of the elements of operands broadcast to it.
pub(crate) struct Walk<const N: usize> {
    dims: [usize; MAX_RANK],
    rank: usize,
    strides: [[usize; MAX_RANK]; N],
    index: [usize; MAX_RANK],
    offsets: [usize; N],
}

impl<const N: usize> Walk<N> {
    pub(crate) fn new(shape: Shape, operands: [Shape; N]) -> Self {
        let rank = shape.rank();
        let mut dims = [0; MAX_RANK];
        dims[..rank].copy_from_slice(&shape);
        let strides = operands.map(|operand| {
            let own = operand.strides();
            let mut strides = [0; MAX_RANK];
            for axis in 0..operand.rank() {
                let broadcast = operand[axis] == 1;
                strides[axis + rank - operand.rank()] = if broadcast { 0 } else { own[axis] };
            }
            strides
        });
        Self { dims, rank, strides, index: [0; MAX_RANK], offsets: [0; N] }
    }

    /// Only over the first elements along the axes from `axis` on.
    pub(crate) fn over(mut self, axis: usize) -> Self {
        self.dims[axis..].fill(1);
        self
    }

    /// The offsets of the current element, then on to the next.
    pub(crate) fn next(&mut self) -> [usize; N] {
        let current = self.offsets;
        for axis in (0..self.rank).rev() {
            self.index[axis] += 1;
            for (offset, strides) in self.offsets.iter_mut().zip(&self.strides) {
                *offset += strides[axis];
            }
            if self.index[axis] < self.dims[axis] {
                break;
            }
            for (offset, strides) in self.offsets.iter_mut().zip(&self.strides) {
                *offset -= strides[axis] * self.dims[axis];
            }
            self.index[axis] = 0;
        }
        current
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::testing::{Value, run};

    /// Sides of a broadcast: alike, from either side, across each other, with ones in the middle and of fewer axes.
    const SHAPES: [(&[usize], &[usize]); 9] = [
        (&[2, 3, 5], &[2, 3, 5]),
        (&[2, 3, 5], &[1, 3, 1]),
        (&[1, 3, 1], &[2, 3, 5]),
        (&[4, 1], &[1, 300]),
        (&[5], &[2, 3, 5]),
        (&[2, 1, 5], &[2, 3, 1]),
        (&[1, 1], &[2, 600]),
        (&[2, 0, 3], &[1, 3]),
        (&[], &[2, 2]),
    ];

    #[test]
    fn rows_give_what_single_elements_do() {
        // `run` holds the form by rows against the one by elements.
        let numbers = |dims: &[usize], shift: usize| -> Vec<i32> {
            (0..dims.iter().product()).map(|i: usize| ((i * 7 + shift) % 11) as i32 - 5).collect()
        };
        for kind in ["add", "sub", "mul", "mod", "floor_div", "maximum", "less", "equal"] {
            for (a, b) in SHAPES {
                let (x, y) = (numbers(a, 1), numbers(b, 3));
                run(kind, &[Value::int(a, &x), Value::int(b, &y)], &[]).unwrap();
                let floats = |x: &[i32]| x.iter().map(|&x| x as f32 / 2.0 + 0.125).collect::<Vec<_>>();
                run(kind, &[Value::float(a, &floats(&x)), Value::float(b, &floats(&y))], &[]).unwrap();
            }
        }
    }
}
