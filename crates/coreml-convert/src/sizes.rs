//! The sizes that blobs have when the inputs have the shapes their features declare.
//!
//! Callers may bring other shapes, so programs must not depend on these sizes. They are used only to find ranks that
//! follow from sizes, as the rank of a squeezed blob does. Where such a rank is used, the program has an operation that
//! checks it.

use coreml_model::Constant;

use crate::builder::{Arg, Blob};

/// One entry for each axis; `None` for a size that is not known.
pub(crate) type Sizes = Vec<Option<usize>>;

/// An operation's arguments.
pub(crate) struct Arguments<'a> {
    pub(crate) all: &'a [(&'a str, Arg)],
    pub(crate) known: &'a [Option<Sizes>],
}

impl Arguments<'_> {
    fn get(&self, name: &str) -> Option<&Arg> {
        self.all.iter().find(|(key, _)| *key == name).map(|(_, arg)| arg)
    }

    fn ints(&self, name: &str) -> Option<Vec<i64>> {
        match self.get(name)? {
            Arg::Constant(Constant::Tensor(tensor)) => {
                Some(tensor.view().to_f64_vec().into_iter().map(|value| value as i64).collect())
            }
            _ => None,
        }
    }

    fn float(&self, name: &str) -> Option<f64> {
        match self.get(name)? {
            Arg::Constant(Constant::Tensor(tensor)) => tensor.view().to_f64_vec().first().copied(),
            _ => None,
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Arg::Constant(constant) => constant.as_str(),
            _ => None,
        }
    }

    fn int(&self, name: &str) -> Option<i64> {
        self.ints(name)?.first().copied()
    }

    fn of(&self, arg: &Arg) -> Option<Sizes> {
        match arg {
            Arg::Blob(blob) => Some(known(self.known, *blob)),
            Arg::Constant(Constant::Tensor(tensor)) => Some(tensor.shape().iter().copied().map(Some).collect()),
            _ => None,
        }
    }

    fn sizes(&self, name: &str) -> Option<Sizes> {
        self.of(self.get(name)?)
    }

    fn list(&self, name: &str) -> Option<Vec<Sizes>> {
        match self.get(name)? {
            Arg::Blobs(blobs) => blobs.iter().map(|&blob| self.of(&Arg::Blob(blob))).collect(),
            _ => None,
        }
    }

    /// The axes in `name`, counted from the front of `rank`.
    fn axes(&self, name: &str, rank: usize) -> Option<Vec<usize>> {
        self.ints(name)?.into_iter().map(|axis| super::layers::axis(axis, rank).ok()).collect()
    }
}

/// What is known of a blob's sizes; at least how many they are.
pub(crate) fn known(all: &[Option<Sizes>], blob: Blob) -> Sizes {
    all.get(blob.id.index()).cloned().flatten().unwrap_or_else(|| vec![None; blob.rank])
}

/// The sizes of an operation's first result, if it is one whose sizes are followed.
pub(crate) fn of_result(kind: &str, arguments: &Arguments<'_>) -> Option<Sizes> {
    let x = || arguments.sizes("x");
    match kind {
        "shape" => Some(vec![Some(x()?.len())]),
        "neural_network:array" => array(&x()?, arguments.int("axes")?),
        "expand_dims" => {
            let mut sizes = x()?;
            let mut axes = arguments.axes("axes", sizes.len() + arguments.ints("axes")?.len())?;
            axes.sort_unstable();
            axes.into_iter().for_each(|axis| sizes.insert(axis.min(sizes.len()), Some(1)));
            Some(sizes)
        }
        "squeeze" => {
            let sizes = x()?;
            let axes = match arguments.get("axes") {
                Some(_) => arguments.axes("axes", sizes.len())?,
                None => (0..sizes.len()).filter(|&axis| sizes[axis] == Some(1)).collect(),
            };
            Some(without(sizes, &axes))
        }
        "transpose" => {
            let sizes = x()?;
            Some(arguments.axes("perm", sizes.len())?.into_iter().map(|axis| sizes[axis]).collect())
        }
        "reshape" => reshaped(x(), &arguments.ints("shape")?),
        "fill" => arguments.ints("shape")?.into_iter().map(|size| Some(usize::try_from(size).ok())).collect(),
        "fill_like" => arguments.sizes("ref_tensor"),
        "concat" | "stack" => {
            let (all, stack) = (arguments.list("values")?, kind == "stack");
            let mut sizes = all.first()?.clone();
            let axis = super::layers::axis(arguments.int("axis")?, sizes.len() + usize::from(stack)).ok()?;
            if stack {
                sizes.insert(axis, Some(all.len()));
            } else {
                sizes[axis] = all.iter().map(|sizes| *sizes.get(axis)?).sum();
            }
            Some(sizes)
        }
        "gather" => {
            let (sizes, indices) = (x()?, arguments.sizes("indices")?);
            let axis = super::layers::axis(arguments.int("axis")?, sizes.len()).ok()?;
            Some([&sizes[..axis], &indices, &sizes[axis + 1..]].concat())
        }
        "gather_nd" => {
            let (sizes, indices) = (x()?, arguments.sizes("indices")?);
            let (last, outer) = indices.split_last()?;
            Some([outer, sizes.get((*last)?..)?].concat())
        }
        "slice_by_index" => sliced(x()?, arguments),
        "select" => broadcast(broadcast(arguments.sizes("cond")?, arguments.sizes("a")?), arguments.sizes("b")?).into(),
        "scatter" | "scatter_nd" | "scatter_along_axis" => arguments.sizes("data"),
        "gather_along_axis" => arguments.sizes("indices"),
        "conv" | "conv_transpose" | "max_pool" | "avg_pool" | "l2_pool" => windows(kind, x()?, arguments),
        "upsample_nearest_neighbor" | "upsample_bilinear" => {
            scaled(x()?, [arguments.float("scale_factor_height")?, arguments.float("scale_factor_width")?])
        }
        "resize_bilinear" => {
            let (mut sizes, at) = (x()?, x()?.len().checked_sub(2)?);
            for (size, name) in sizes[at..].iter_mut().zip(["target_size_height", "target_size_width"]) {
                *size = usize::try_from(arguments.int(name)?).ok();
            }
            Some(sizes)
        }
        "pad" => {
            let (mut sizes, amounts) = (x()?, arguments.ints("pad")?);
            let first = sizes.len().checked_sub(amounts.len() / 2)?;
            for (size, pair) in sizes[first..].iter_mut().zip(amounts.chunks(2)) {
                let more = pair.iter().map(|&amount| usize::try_from(amount).ok()).sum::<Option<usize>>();
                *size = size.zip(more).and_then(|(size, more)| size.checked_add(more));
            }
            Some(sizes)
        }
        "flatten2d" => {
            let (sizes, axis) = (x()?, arguments.int("axis")?);
            let at = if axis < 0 { axis.checked_add(sizes.len() as i64)? } else { axis };
            let at = usize::try_from(at).ok().filter(|&at| at <= sizes.len())?;
            Some(vec![product(&sizes[..at]), product(&sizes[at..])])
        }
        "matmul" => {
            let operand = |name: &str, transposed: &str| {
                let mut sizes = arguments.sizes(name)?;
                let rank = sizes.len();
                if arguments.int(transposed).is_some_and(|flag| flag != 0) && rank >= 2 {
                    sizes.swap(rank - 2, rank - 1);
                }
                (rank >= 2).then(|| (sizes[..rank - 2].to_vec(), [sizes[rank - 2], sizes[rank - 1]]))
            };
            let ((outer, [rows, _]), (other, [_, columns])) =
                (operand("x", "transpose_x")?, operand("y", "transpose_y")?);
            Some([broadcast(outer, other), vec![rows, columns]].concat())
        }
        "linear" => {
            let mut sizes = x()?;
            *sizes.last_mut()? = *arguments.sizes("weight")?.first()?;
            Some(sizes)
        }
        _ if kind.starts_with("reduce_") => {
            let sizes = x()?;
            let axes = arguments.axes("axes", sizes.len()).or_else(|| arguments.axes("axis", sizes.len()))?;
            if arguments.int("keep_dims") == Some(0) {
                return Some(without(sizes, &axes));
            }
            Some((0..sizes.len()).map(|axis| if axes.contains(&axis) { Some(1) } else { sizes[axis] }).collect())
        }
        _ if KEEPING.contains(&kind) => x(),
        _ if arguments.get("y").is_some() => Some(broadcast(x()?, arguments.sizes("y")?)),
        _ => None,
    }
}

/// Operations whose result has the shape of `x`.
const KEEPING: &[&str] = &[
    "abs",
    "argsort",
    "band_part",
    "batch_norm",
    "cast",
    "ceil",
    "clip",
    "clamped_relu",
    "cumsum",
    "elu",
    "exp",
    "floor",
    "gelu",
    "identity",
    "inverse",
    "layer_norm",
    "leaky_relu",
    "linear_activation",
    "local_response_norm",
    "log",
    "neural_network:ranked",
    "relu",
    "reverse",
    "round",
    "rsqrt",
    "scaled_tanh",
    "sigmoid",
    "sigmoid_hard",
    "sign",
    "softmax",
    "softplus",
    "softsign",
    "sqrt",
    "square",
    "tanh",
    "thresholded_relu",
];

fn without(sizes: Sizes, axes: &[usize]) -> Sizes {
    sizes.into_iter().enumerate().filter(|(axis, _)| !axes.contains(axis)).map(|(_, size)| size).collect()
}

fn array(given: &Sizes, axes: i64) -> Option<Sizes> {
    let one = Some(1);
    let five = match *given.as_slice() {
        [c] => [one, one, c, one, one],
        [c, h, w] => [one, one, c, h, w],
        [b, c, h, w] => [one, b, c, h, w],
        [s, b, c, h, w] => [s, b, c, h, w],
        _ => return None,
    };
    if axes == 5 {
        return Some(five.to_vec());
    }
    let merged = five[0].zip(five[1]).and_then(|(s, b)| s.checked_mul(b));
    Some([&[merged], &five[2..]].concat())
}

fn reshaped(x: Option<Sizes>, target: &[i64]) -> Option<Sizes> {
    // A zero keeps a size, which is a matter of the operation.
    if target.contains(&0) {
        return None;
    }
    let mut sizes: Sizes = target.iter().map(|&size| usize::try_from(size).ok()).collect();
    if let Some(free) = target.iter().position(|&size| size == -1) {
        let product =
            |sizes: &[Option<usize>]| sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size?));
        let rest = product(&without(sizes.clone(), &[free]))?;
        sizes[free] = x.and_then(|x| product(&x)).and_then(|count| count.checked_div(rest));
    }
    Some(sizes)
}

/// All elements along these axes.
pub(crate) fn product(sizes: &[Option<usize>]) -> Option<usize> {
    sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size?))
}

fn scaled(mut sizes: Sizes, factors: [f64; 2]) -> Option<Sizes> {
    let at = sizes.len().checked_sub(2)?;
    for (size, factor) in sizes[at..].iter_mut().zip(factors) {
        *size = size.map(|size| (factor * size as f64) as usize);
    }
    Some(sizes)
}

/// Sizes of what windows give that move over all axes but the first two.
fn windows(kind: &str, x: Sizes, arguments: &Arguments<'_>) -> Option<Sizes> {
    let pools = kind.ends_with("_pool");
    let weight = if pools { None } else { Some(arguments.sizes("weight")?) };
    let kernel: Vec<Option<usize>> = match &weight {
        Some(weight) => weight.get(2..)?.to_vec(),
        None => arguments.ints("kernel_sizes")?.into_iter().map(|size| usize::try_from(size).ok()).collect(),
    };
    let channels = match kind {
        "conv" => *weight.as_ref()?.first()?,
        "conv_transpose" => {
            let groups = usize::try_from(arguments.int("groups")?).ok()?;
            weight.as_ref()?.get(1)?.and_then(|channels| channels.checked_mul(groups))
        }
        _ => *x.get(1)?,
    };
    let list = |name: &str, at: usize| arguments.ints(name).and_then(|list| list.get(at).copied());
    let size = |axis: usize| {
        let (size, kernel) =
            (i64::try_from(x.get(axis + 2).copied()??).ok()?, i64::try_from((*kernel.get(axis)?)?).ok()?);
        let stride = list("strides", axis).unwrap_or(1).max(1);
        let span = (kernel - 1).checked_mul(list("dilations", axis).unwrap_or(1))?.checked_add(1)?;
        let pad = |at: usize| list("pad", 2 * axis + at).unwrap_or(0);
        let around = match arguments.text("pad_type")? {
            "custom" => pad(0).checked_add(pad(1))?,
            "valid" => 0,
            // As many windows as steps fit.
            _ => return usize::try_from((size + stride - 1) / stride).ok(),
        };
        if kind == "conv_transpose" {
            return usize::try_from((size - 1).checked_mul(stride)?.checked_add(span)? - around).ok();
        }
        let room = size.checked_add(around)? - span;
        if room < 0 {
            return None;
        }
        let ceil = arguments.int("ceil_mode").is_some_and(|flag| flag != 0);
        let mut count = if ceil { (room + stride - 1) / stride + 1 } else { room / stride + 1 };
        if ceil && around > 0 && (count - 1) * stride >= size + pad(0) {
            count -= 1;
        }
        usize::try_from(count).ok()
    };
    let outer = [*x.first()?, channels];
    Some(outer.into_iter().chain((0..kernel.len()).map(size)).collect())
}

fn sliced(sizes: Sizes, arguments: &Arguments<'_>) -> Option<Sizes> {
    let mask = |name: &str, axis: usize| {
        arguments.ints(name).and_then(|mask| mask.get(axis).copied()).is_some_and(|flag| flag != 0)
    };
    let (begin, end) = (arguments.ints("begin"), arguments.ints("end"));
    let stride = arguments.ints("stride");
    let length = |axis: usize, size: Option<usize>| {
        let size = i64::try_from(size?).ok()?;
        let step = stride.as_ref().and_then(|stride| stride.get(axis).copied()).unwrap_or(1);
        if step <= 0 {
            return None;
        }
        let bound = |list: &Option<Vec<i64>>, open: bool, default: i64| {
            let value = if open { default } else { *list.as_ref()?.get(axis)? };
            Some(if value < 0 { value + size } else { value }.clamp(0, size))
        };
        let from = bound(&begin, mask("begin_mask", axis), 0)?;
        let to = bound(&end, mask("end_mask", axis), size)?;
        usize::try_from((to - from).max(0)).ok().map(|length| length.div_ceil(step as usize))
    };
    let kept = sizes.iter().enumerate().filter(|&(axis, _)| !mask("squeeze_mask", axis));
    Some(kept.map(|(axis, &size)| length(axis, size)).collect())
}

fn broadcast(a: Sizes, b: Sizes) -> Sizes {
    let rank = a.len().max(b.len());
    let at = |sizes: &Sizes, axis: usize| match (axis + sizes.len()).checked_sub(rank) {
        Some(axis) => sizes[axis],
        None => Some(1),
    };
    (0..rank)
        .map(|axis| match (at(&a, axis), at(&b, axis)) {
            (Some(1), other) | (other, Some(1)) => other,
            (Some(a), Some(b)) if a == b => Some(a),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::builder::Builder;

    #[test]
    fn sizes_follow_operations() {
        let mut b = Builder::default();
        let x = b.integers(vec![1, 2, 3, 4, 5, 6]);
        let x = b.reshape(x, vec![2, 1, -1]);
        assert_eq!(b.assumed(x), [Some(2), Some(1), Some(3)]);
        let y = b.transpose(x, vec![2, 0, 1]);
        assert_eq!(b.assumed(y), [Some(3), Some(2), Some(1)]);
        let wide = b.binary("add", x, y);
        assert_eq!(b.assumed(wide), [None, Some(2), Some(3)], "2 and 3 do not fit");
        let flat = b.op("squeeze", 2, vec![("x", x.into())]);
        assert_eq!(b.assumed(flat), [Some(2), Some(3)]);
        let tall = b.expand_dims(flat, vec![0, -1]);
        assert_eq!(b.assumed(tall), [Some(1), Some(2), Some(3), Some(1)]);
        let part = b.sizes(tall, 1, 3);
        assert_eq!(b.assumed(part), [Some(2)]);
        let sum =
            b.op("reduce_sum", 1, vec![("x", flat.into()), ("axes", vec![-1].into()), ("keep_dims", false.into())]);
        assert_eq!(b.assumed(sum), [Some(2)]);
        let pool = vec![
            ("x", tall.into()),
            ("kernel_sizes", vec![2, 1].into()),
            ("strides", vec![2, 2].into()),
            ("pad_type", "custom".into()),
            ("pad", vec![0, 0, 1, 1].into()),
        ];
        let pool = b.op("max_pool", 4, pool);
        assert_eq!(b.assumed(pool), [Some(1), Some(2), Some(1), Some(2)]);
        let strange = b.op("strange", 4, vec![("x", tall.into())]);
        assert_eq!(b.assumed(strange), [None; 4]);
        let product = b.op("matmul", 2, vec![("x", flat.into()), ("y", flat.into()), ("transpose_y", true.into())]);
        assert_eq!(b.assumed(product), [Some(2), Some(2)]);
    }
}
