//! `non_maximum_suppression`: of boxes that overlap too much, only the one with the highest score stays.
//!
//! Boxes are `[x, y, width, height]` around their centres. A box competes with its highest score; with
//! `per_class_suppression` only boxes whose highest score is in the same class compete. Up to iOS 16 boxes are
//! `[n, b, 4]` and scores `[n, b, k]`, scores below a threshold do not count, and a fourth result says how many boxes
//! were kept; from iOS 17 on the last two axes are swapped and there is neither. Unused places hold zeros and the
//! index -1.
//!
//! The layer of neural networks works like the operation up to iOS 16, but takes its limits from inputs, and if no box of
//! an image reaches the threshold, keeps the best one.

use coreml_model::Opset;

use crate::compute::Compute;
use crate::op::{Args, Bind, Env, Ins, Op, OpError, OpSpec, Outs, Types, constant, input, shape_of};
use crate::value::{Kind, Type};

pub(crate) static OPS: &[OpSpec] = &[
    OpSpec {
        name: "non_maximum_suppression",
        since: Opset::Ios15,
        params: &[
            input("boxes"),
            input("scores"),
            constant("iou_threshold"),
            constant("score_threshold"),
            constant("max_boxes"),
            constant("per_class_suppression").optional(),
        ],
        bind: Bind::Node(|args| bind(args, Some(args.float("score_threshold", 0.0)?))),
    },
    OpSpec {
        name: "non_maximum_suppression",
        since: Opset::Ios17,
        params: &[
            input("boxes"),
            input("scores"),
            constant("iou_threshold"),
            constant("max_boxes"),
            constant("per_class_suppression").optional(),
        ],
        bind: Bind::Node(|args| bind(args, None)),
    },
];

/// The row of the layer, whose name is this library's own.
pub(crate) const LAYER: OpSpec = OpSpec {
    name: "neural_network:non_maximum_suppression",
    since: Opset::Ios15,
    params: &[
        input("boxes"),
        input("scores"),
        input("iou_threshold"),
        input("score_threshold"),
        input("max_boxes"),
        constant("per_class_suppression").optional(),
    ],
    bind: Bind::Node(|args| {
        let per_class = args.bool("per_class_suppression", false)?;
        Ok(Box::new(Suppression { limits: None, has_threshold: true, per_class }))
    }),
};

#[derive(Debug)]
struct Suppression {
    /// `None` where inputs have them.
    limits: Option<Limits>,
    /// Up to iOS 16 scores have a threshold, and a box's numbers lie together.
    has_threshold: bool,
    per_class: bool,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    iou_threshold: f32,
    score_threshold: Option<f32>,
    max_boxes: usize,
}

fn bind(args: &Args<'_>, score_threshold: Option<f32>) -> Result<Box<dyn Op>, OpError> {
    let limits = Limits {
        iou_threshold: args.float("iou_threshold", 0.0)?,
        score_threshold,
        max_boxes: box_count(args.int("max_boxes", 0)?)?,
    };
    let per_class = args.bool("per_class_suppression", false)?;
    Ok(Box::new(Suppression { limits: Some(limits), has_threshold: score_threshold.is_some(), per_class }))
}

fn box_count(max_boxes: i64) -> Result<usize, OpError> {
    usize::try_from(max_boxes).map_err(|_| OpError::parameter("max_boxes", format!("{max_boxes} is negative")))
}

/// The boxes of one image, or their scores.
#[derive(Clone, Copy)]
struct Table<'a> {
    values: &'a [f32],
    box_step: usize,
    field_step: usize,
}

impl Table<'_> {
    fn get(&self, index: usize, field: usize) -> f32 {
        self.values[index * self.box_step + field * self.field_step]
    }

    /// Left, top, right and bottom.
    fn corners(&self, index: usize) -> [f32; 4] {
        let [x, y, half_width, half_height] =
            [self.get(index, 0), self.get(index, 1), self.get(index, 2) / 2.0, self.get(index, 3) / 2.0];
        [x - half_width, y - half_height, x + half_width, y + half_height]
    }

    /// The share two boxes have of the area they cover together.
    fn overlap(&self, a: usize, b: usize) -> f32 {
        let (first, second) = (self.corners(a), self.corners(b));
        let side = |low: usize, high: usize| (first[high].min(second[high]) - first[low].max(second[low])).max(0.0);
        let common = side(0, 2) * side(1, 3);
        let area = |index| self.get(index, 2) * self.get(index, 3);
        common / (area(a) + area(b) - common)
    }
}

impl Suppression {
    /// The most boxes that are kept of an image.
    fn max_boxes(&self, ins: Ins<'_>) -> Result<usize, OpError> {
        match &self.limits {
            Some(limits) => Ok(limits.max_boxes),
            None => match ins.known_ints(4)? {
                &[max_boxes] => box_count(max_boxes.into()),
                many => Err(OpError::parameter("max_boxes", format!("must be one number, is {}", many.len()))),
            },
        }
    }

    /// All limits, once the inputs have elements.
    fn limits(&self, ins: Ins<'_>) -> Result<Limits, OpError> {
        match self.limits {
            Some(limits) => Ok(limits),
            None => Ok(Limits {
                iou_threshold: ins.f32(2)[0],
                score_threshold: Some(ins.f32(3)[0]),
                max_boxes: self.max_boxes(ins)?,
            }),
        }
    }

    /// Images, boxes, and classes.
    fn sizes(&self, ins: Ins<'_>) -> Result<[usize; 3], OpError> {
        let (boxes, scores) = (ins.float(0)?.shape, ins.float(1)?.shape);
        let last = |dims: [usize; 3]| if self.has_threshold { dims } else { [dims[0], dims[2], dims[1]] };
        if let (&[n, a, b], &[m, c, d]) = (boxes.dims(), scores.dims())
            && let ([_, count, 4], [_, same, classes]) = (last([n, a, b]), last([m, c, d]))
            && (n, count) == (m, same)
            && classes > 0
        {
            return Ok([n, count, classes]);
        }
        Err(OpError::parameter("boxes", format!("{boxes} and scores {scores} are no boxes with their scores")))
    }

    /// Distances between boxes and between a box's numbers, in a tensor of `count` boxes with `fields` numbers each.
    fn table_steps(&self, count: usize, fields: usize) -> [usize; 2] {
        if self.has_threshold { [fields, 1] } else { [1, count] }
    }

    /// One image of a tensor with `fields` numbers for each of `count` boxes.
    fn table<'a>(&self, values: &'a [f32], image: usize, count: usize, fields: usize) -> Table<'a> {
        let [box_step, field_step] = self.table_steps(count, fields);
        Table { values: &values[image * count * fields..][..count * fields], box_step, field_step }
    }
}

impl Op for Suppression {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let [n, count, classes] = self.sizes(ins)?;
        let max = self.max_boxes(ins)?;
        let swap = !self.has_threshold;
        if self.limits.is_none() {
            for (i, name) in [(2, "iou_threshold"), (3, "score_threshold")] {
                if ins.float(i)?.count() != 1 {
                    return Err(OpError::parameter(name, "must be one number"));
                }
            }
            if count == 0 || max == 0 {
                return Err(OpError::parameter("max_boxes", format!("{max} of {count} boxes: one is always kept")));
            }
        }
        let float = |fields: usize| {
            let dims = if swap { [n, fields, max] } else { [n, max, fields] };
            Ok(Type::new(Kind::Float, shape_of(&dims)?))
        };
        let mut types = vec![float(4)?, float(classes)?, Type::new(Kind::Int, shape_of(&[n, max])?)];
        if !swap {
            types.push(Type::new(Kind::Int, shape_of(&[n])?));
        }
        Ok(types)
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, env: &mut Env<'_>) -> Result<(), OpError> {
        let [images, count, classes] = self.sizes(ins)?;
        let Limits { iou_threshold, score_threshold, max_boxes: max } = self.limits(ins)?;
        outs.f32(0).fill(0.0);
        outs.f32(1).fill(0.0);
        outs.i32(2).fill(-1);
        let (order, rest) = env.scratch.split_at_mut(count);
        let (best_score, rest) = rest.split_at_mut(count);
        let order: &mut [i32] = bytemuck::cast_slice_mut(order);
        let best_class: &mut [i32] = &mut bytemuck::cast_slice_mut(rest)[..count];
        for image in 0..images {
            let boxes = self.table(ins.f32(0), image, count, 4);
            let scores = self.table(ins.f32(1), image, count, classes);
            for i in 0..count {
                let mut best = 0;
                for class in 1..classes {
                    if scores.get(i, class) > scores.get(i, best) {
                        best = class;
                    }
                }
                (order[i], best_score[i], best_class[i]) = (i as i32, scores.get(i, best), best as i32);
            }
            order.sort_unstable_by(|&a, &b| best_score[b as usize].total_cmp(&best_score[a as usize]).then(a.cmp(&b)));
            let kept = &mut outs.i32(2)[image * max..][..max];
            let mut found = 0;
            for &candidate in &*order {
                let i = candidate as usize;
                if found == max || score_threshold.is_some_and(|threshold| best_score[i] < threshold) {
                    continue;
                }
                let suppressed = kept[..found].iter().any(|&other| {
                    let other = other as usize;
                    (!self.per_class || best_class[other] == best_class[i]) && boxes.overlap(i, other) > iou_threshold
                });
                if !suppressed {
                    kept[found] = candidate;
                    found += 1;
                }
            }
            if found == 0 && self.limits.is_none() {
                (kept[0], found) = (order[0], 1);
            }
            for (output, from, fields) in [(0, boxes, 4), (1, scores, classes)] {
                let to = self.table_steps(max, fields);
                for place in 0..found {
                    let index = outs.i32(2)[image * max + place] as usize;
                    for field in 0..fields {
                        outs.f32(output)[image * max * fields + place * to[0] + field * to[1]] = from.get(index, field);
                    }
                }
            }
            if self.has_threshold && outs.types.len() > 3 {
                outs.i32(3)[image] = found as i32;
            }
        }
        Ok(())
    }

    fn scratch(&self, ins: Ins<'_>, _compute: &Compute) -> usize {
        self.sizes(ins).map_or(0, |[_, count, _]| 3 * count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Value, run, run_in};

    /// Three boxes: the first two overlap by 3/5, the third is alone.
    const BOXES: [f32; 12] = [2.0, 2.0, 4.0, 4.0, 3.0, 2.0, 4.0, 4.0, 20.0, 20.0, 2.0, 2.0];
    const SCORES: [f32; 6] = [0.5, 0.1, 0.2, 0.9, 0.3, 0.1];

    fn constants(iou: f32, per_class: bool) -> Vec<(&'static str, Value)> {
        vec![
            ("iou_threshold", Value::float(&[], &[iou])),
            ("max_boxes", Value::int(&[], &[3])),
            ("per_class_suppression", Value::bool(&[], &[per_class])),
        ]
    }

    #[test]
    fn the_best_box_of_a_cluster_stays() {
        for (iou, per_class, threshold, kept) in [
            (0.5, false, 0.0, vec![1, 2, -1]),
            (0.7, false, 0.0, vec![1, 0, 2]),
            (0.5, true, 0.0, vec![1, 0, 2]),
            (0.5, true, 0.4, vec![1, 0, -1]),
        ] {
            let mut constants = constants(iou, per_class);
            constants.push(("score_threshold", Value::float(&[], &[threshold])));
            let ins = [Value::float(&[1, 3, 4], &BOXES), Value::float(&[1, 3, 2], &SCORES)];
            let out = run_in(Opset::Ios15, "non_maximum_suppression", &ins, &constants).unwrap();
            assert_eq!(out[2], Value::int(&[1, 3], &kept), "{iou} {per_class} {threshold}");
            let count = kept.iter().filter(|&&index| index >= 0).count();
            assert_eq!(out[3], Value::int(&[1], &[count as i32]));
            let second = if kept[1] < 0 { [0.0; 2] } else { [0, 1].map(|k| SCORES[2 * kept[1] as usize + k]) };
            assert_eq!(out[1].floats()[2..4], second.map(f64::from));
        }
    }

    #[test]
    fn the_layer_keeps_one_box_at_least() {
        let number = |value: f32| Value::float(&[1], &[value]);
        for (threshold, kept) in [(0.4, [1, 0]), (0.95, [1, -1])] {
            let boxes = [Value::float(&[1, 3, 4], &BOXES), Value::float(&[1, 3, 2], &SCORES)];
            let ins = [&boxes[..], &[number(0.7), number(threshold), Value::int(&[], &[2])]].concat();
            let out = run("neural_network:non_maximum_suppression", &ins, &[]).unwrap();
            assert_eq!(out[2], Value::int(&[1, 2], &kept), "{threshold}");
            assert_eq!(out[3], Value::int(&[1], &[kept.iter().filter(|&&index| index >= 0).count() as i32]));
        }
    }

    #[test]
    fn later_sets_swap_the_axes() {
        let across = |values: &[f32], fields: usize| -> Vec<f32> {
            (0..fields).flat_map(|field| (0..3).map(move |i| (i, field))).map(|(i, f)| values[i * fields + f]).collect()
        };
        let ins = [Value::float(&[1, 4, 3], &across(&BOXES, 4)), Value::float(&[1, 2, 3], &across(&SCORES, 2))];
        let out = run("non_maximum_suppression", &ins, &constants(0.5, false)).unwrap();
        assert_eq!(out.len(), 3);
        assert_eq!(out[2], Value::int(&[1, 3], &[1, 2, -1]));
        assert_eq!(out[0].floats()[..3], [3.0, 20.0, 0.0]);
        let swapped = [Value::float(&[1, 3, 4], &BOXES), Value::float(&[1, 3, 2], &SCORES)];
        assert!(run("non_maximum_suppression", &swapped, &constants(0.5, false)).is_err());
    }
}
