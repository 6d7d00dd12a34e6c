"""Joining, splitting, sorting, filling and the other operations on whole tensors. Reference: numpy."""

import numpy as np
from coremltools.converters.mil.mil import Builder as mb

from .case import boolean, case, distinct, given, integers, real

# ---- join and split
for axis in (0, 1, -1):

    def shapes(axis=axis):
        a, b, c = [2, 3, 4], [2, 3, 4], [2, 3, 4]
        b[axis], c[axis] = 5, 1
        return {"a": real(*a), "b": real(*b), "c": real(*c)}

    case(
        f"tensor/concat-axis{axis}",
        lambda a, b, c, axis=axis: mb.concat(values=[a, b, c], axis=axis),
        lambda a, b, c, axis=axis: np.concatenate([a, b, c], axis),
        shapes(),
        both=axis == 1,
    )
case("tensor/concat-one", lambda a: mb.concat(values=[a], axis=0), lambda a: a, {"a": real(3, 4)})
case(
    "tensor/concat-channels",
    lambda a, b: mb.concat(values=[a, b], axis=1),
    lambda a, b: np.concatenate([a, b], 1),
    {"a": real(2, 17, 5, 6), "b": real(2, 3, 5, 6)},
    both=True,
)
case(
    "tensor/concat-same-twice",
    lambda a: mb.concat(values=[a, a], axis=-1),
    lambda a: np.concatenate([a, a], -1),
    {"a": real(2, 3)},
)
case(
    "tensor/concat-with-const",
    lambda a, b: mb.concat(values=[b, a], axis=0),
    lambda a, b: np.concatenate([b, a], 0),
    {"a": real(3, 4)},
    {"b": real(2, 4)},
)
case(
    "tensor/concat-interleave",
    lambda a, b, c: mb.concat(values=[a, b, c], axis=1, interleave=True),
    lambda a, b, c: np.stack([a, b, c], 2).reshape(2, 12, 3),
    {n: real(2, 4, 3) for n in "abc"},
    both=True,
)
case(
    "tensor/concat-int32-shape",
    lambda a: mb.concat(values=[mb.shape(x=a), np.array([7], np.int32)], axis=0),
    lambda a: np.array([3, 4, 7], np.int32),
    {"a": real(3, 4)},
)
for axis in (0, 1, -1, -2):
    case(
        f"tensor/stack-axis{axis}",
        lambda a, b, axis=axis: mb.stack(values=[a, b], axis=axis),
        lambda a, b, axis=axis: np.stack([a, b], axis),
        {"a": real(3, 4), "b": real(3, 4)},
        both=axis == 1,
    )
case(
    "tensor/split-even",
    lambda x: mb.split(x=x, num_splits=3, axis=1),
    lambda x: tuple(np.split(x, 3, 1)),
    {"x": real(2, 6, 4)},
    both=True,
)
case(
    "tensor/split-sizes",
    lambda x: mb.split(x=x, split_sizes=[1, 3, 2], axis=-2),
    lambda x: (x[:, :1], x[:, 1:4], x[:, 4:]),
    {"x": real(2, 6, 4)},
    both=True,
)
case(
    "tensor/split-sizes-and-count",
    lambda x: mb.split(x=x, num_splits=2, split_sizes=[4, 1], axis=0),
    lambda x: (x[:4], x[4:]),
    {"x": real(5, 3)},
)
case(
    "tensor/split-last",
    lambda x: mb.split(x=x, num_splits=2, axis=-1),
    lambda x: tuple(np.split(x, 2, -1)),
    {"x": real(2, 3, 8)},
)
case(
    "tensor/split-swap-concat",
    lambda x: mb.concat(values=mb.split(x=x, num_splits=2, axis=1)[::-1], axis=1),
    lambda x: np.concatenate(np.split(x, 2, 1)[::-1], 1),
    {"x": real(1, 6, 3, 4)},
    note="views of one tensor joined in another order",
)

# ---- padding and repeating
X = {"x": real(2, 3, 4, 5)}
for what, pad in {"two": [1, 2, 0, 3], "one": [2, 1], "all": [1, 0, 0, 2, 1, 1, 0, 1], "nothing": [0, 0, 0, 0]}.items():
    width = [(0, 0)] * (4 - len(pad) // 2) + list(zip(pad[::2], pad[1::2]))
    case(
        f"tensor/pad-constant-{what}",
        lambda x, c, pad=pad: mb.pad(x=x, pad=pad, mode="constant", constant_val=c),
        lambda x, c, width=width: np.pad(x, width, constant_values=c),
        X,
        {"c": -1.5},
        both=what == "two",
    )
    if what == "two" or what == "one":
        for mode, name in {"reflect": "reflect", "replicate": "edge"}.items():
            case(
                f"tensor/pad-{mode}-{what}",
                lambda x, pad=pad, mode=mode: mb.pad(x=x, pad=pad, mode=mode),
                lambda x, width=width, name=name: np.pad(x, width, mode=name),
                X,
                both=what == "two",
            )
case(
    "tensor/pad-default",
    lambda x: mb.pad(x=x, pad=[1, 1, 2, 2]),
    lambda x: np.pad(x, [(0, 0), (0, 0), (1, 1), (2, 2)]),
    X,
    bare=True,
)
for what, reps in {"two": [2, 3], "ones": [1, 1], "first": [3, 1]}.items():
    case(
        f"tensor/tile-{what}",
        lambda x, reps=reps: mb.tile(x=x, reps=reps),
        lambda x, reps=reps: np.tile(x, reps),
        {"x": real(2, 3)},
        both=what == "two",
    )
case(
    "tensor/tile-rank4",
    lambda x: mb.tile(x=x, reps=[1, 2, 1, 3]),
    lambda x: np.tile(x, [1, 2, 1, 3]),
    {"x": real(2, 1, 3, 2)},
)
case(
    "tensor/tile-runtime",
    lambda x, r: mb.tile(x=x, reps=r),
    lambda x, r: np.tile(x, [2, 3]),
    {"x": real(2, 2), "r": given([2, 3])},
    note="the repetitions are an input",
)
case(
    "tensor/tile-heads",
    lambda x: mb.reshape(x=mb.tile(x=mb.expand_dims(x=x, axes=[2]), reps=[1, 1, 3, 1, 1]), shape=[1, 6, 4, 5]),
    lambda x: np.repeat(x, 3, 1),
    {"x": real(1, 2, 4, 5)},
    both=True,
    note="how keys are repeated for grouped-query attention",
)

# ---- filling
case(
    "tensor/fill",
    lambda x: mb.add(x=mb.fill(shape=[2, 3], value=np.float32(1.5)), y=x),
    lambda x: x + 1.5,
    {"x": real(2, 3)},
)
case("tensor/fill-default", lambda s: mb.fill(shape=s), lambda s: np.zeros((2, 3)), {"s": given([2, 3])}, bare=True)
case(
    "tensor/fill-runtime-int32",
    lambda s: mb.fill(shape=s, value=np.int32(-4)),
    lambda s: np.full((3, 2), -4),
    {"s": given([3, 2])},
)
case("tensor/fill-bool", lambda s: mb.fill(shape=s, value=True), lambda s: np.full((3, 2), True), {"s": given([3, 2])})
case(
    "tensor/fill_like",
    lambda x: mb.fill_like(ref_tensor=x, value=np.float32(2.5)),
    lambda x: np.full((2, 3), 2.5),
    {"x": real(2, 3)},
    opset=16,
)
case(
    "tensor/fill_like-int32",
    lambda x: mb.fill_like(ref_tensor=x, value=np.int32(3)),
    lambda x: np.full((2, 3), 3),
    {"x": real(2, 3)},
    opset=16,
    note="the type is the value's, not the tensor's",
)
for what, (start, end, step) in {"up": (2, 9, 3), "down": (5, -2, -2), "float": (0.5, 3.0, 0.75)}.items():
    dtype = np.float32 if what == "float" else np.int32
    case(
        f"tensor/range_1d-{what}",
        lambda a, b, c: mb.range_1d(start=mb.squeeze(x=a), end=mb.squeeze(x=b), step=mb.squeeze(x=c)),
        lambda a, b, c: np.arange(a[0], b[0], c[0]),
        {
            "a": given([start], "fp32" if dtype is np.float32 else "int32"),
            "b": given([end], "fp32" if dtype is np.float32 else "int32"),
            "c": given([step], "fp32" if dtype is np.float32 else "int32"),
        },
    )
case(
    "tensor/range_1d-const",
    lambda x: mb.add(x=mb.range_1d(start=np.int32(0), end=np.int32(6), step=np.int32(2)), y=x),
    lambda x: np.arange(0, 6, 2) + x,
    {"x": integers(3)},
)
case(
    "tensor/range_1d-positions",
    lambda x: mb.range_1d(
        start=np.int32(0), end=mb.gather(x=mb.shape(x=x), indices=np.int32(1), axis=0), step=np.int32(1)
    ),
    lambda x: np.arange(5),
    {"x": real(2, 5)},
)
for lower, upper in ((-1, 0), (0, -1), (1, 2), (0, 0), (-1, -1)):

    def band(x, lower=lower, upper=upper):
        rows, columns = np.indices(x.shape[-2:])
        keep = ((lower < 0) | (rows - columns <= lower)) & ((upper < 0) | (columns - rows <= upper))
        return np.where(keep, x, 0)

    case(
        f"tensor/band_part-{lower}-{upper}",
        lambda x, lower=lower, upper=upper: mb.band_part(x=x, lower=lower, upper=upper),
        band,
        {"x": real(2, 5, 4)},
        both=lower == 1,
    )
for axis in (0, 1, -1):
    for exclusive in (False, True):
        for backward in (False, True):

            def cumulated(x, axis=axis, exclusive=exclusive, backward=backward):
                x = np.flip(x, axis) if backward else x
                y = np.cumsum(x, axis) - (x if exclusive else 0)
                return np.flip(y, axis) if backward else y

            if axis == 1 or not (exclusive or backward):
                case(
                    f"tensor/cumsum-axis{axis}{'-exclusive' * exclusive}{'-reverse' * backward}",
                    lambda x, axis=axis, e=exclusive, b=backward: mb.cumsum(x=x, axis=axis, exclusive=e, reverse=b),
                    cumulated,
                    {"x": real(2, 5, 3)},
                )
case("tensor/cumsum-default", lambda x: mb.cumsum(x=x), lambda x: np.cumsum(x, 0), {"x": real(4, 3)}, bare=True)
case("tensor/cumsum-int32", lambda x: mb.cumsum(x=x, axis=1), lambda x: np.cumsum(x, 1), {"x": integers(2, 6)})
for axis in (-1, 0, 1):
    case(
        f"tensor/one_hot-axis{axis}",
        lambda x, axis=axis: mb.one_hot(
            indices=x, one_hot_vector_size=5, axis=axis, on_value=np.float32(2), off_value=np.float32(-1)
        ),
        lambda x, axis=axis: np.moveaxis(np.where(x[..., None] == np.arange(5), 2.0, -1.0), -1, axis),
        {"x": integers(3, 4, lo=0, hi=5)},
    )
case(
    "tensor/one_hot-default",
    lambda x: mb.one_hot(indices=x, one_hot_vector_size=4),
    lambda x: (x[..., None] == np.arange(4)).astype(np.int32),
    {"x": given([0, 3, 1, 2])},
    bare=True,
)
case(
    "tensor/one_hot-out-of-range",
    lambda x: mb.one_hot(indices=x, one_hot_vector_size=3, on_value=np.int32(1), off_value=np.int32(0)),
    lambda x: (x[..., None] == np.arange(3)).astype(np.int32),
    {"x": given([0, 3, -1, 2])},
    note="an index outside is off everywhere",
)
for what, draw in {
    "bool": boolean(3, 4),
    "int32": integers(3, 4, lo=0, hi=2),
    "f32": given([[0.0, 1.0, -0.5], [0.0, 0.0, 2.0]], "fp32"),
    "none": given(np.zeros((2, 3)), "fp32"),
}.items():
    case(
        f"tensor/non_zero-{what}",
        lambda x: mb.non_zero(x=x),
        lambda x: np.argwhere(x).astype(np.int32),
        {"x": draw},
        note="no element: shape (0, 2)" if what == "none" else "",
    )


# ---- sorting
def order(x, axis, ascending):
    return np.argsort(x if ascending else -x, axis=axis, kind="stable")


def top(x, k, axis, ascending):
    places = np.take(order(x, axis, ascending), range(k), axis)
    return np.take_along_axis(x, places, axis), places


for axis in (-1, 0, 1):
    for ascending in (False, True):
        name = f"axis{axis}-{'ascending' if ascending else 'descending'}"
        case(
            f"tensor/argsort-{name}",
            lambda x, axis=axis, up=ascending: mb.argsort(x=x, axis=axis, ascending=up),
            lambda x, axis=axis, up=ascending: order(x, axis, up),
            {"x": distinct(3, 4, 5)},
        )
        case(
            f"tensor/topk-{name}",
            lambda x, axis=axis, up=ascending: mb.topk(x=x, k=2, axis=axis, ascending=up),
            lambda x, axis=axis, up=ascending: top(x, 2, axis, up),
            {"x": distinct(3, 4, 5)},
            both=axis == 0,
        )
case(
    "tensor/argsort-default",
    lambda x: mb.argsort(x=x),
    lambda x: order(x, -1, False),
    {"x": distinct(3, 7)},
    bare=True,
    note="the largest comes first",
)
case(
    "tensor/argsort-int32",
    lambda x: mb.argsort(x=x, axis=0, ascending=True),
    lambda x: order(x, 0, True),
    {"x": given([[5, -2], [1, 9], [3, 0]])},
)
case("tensor/topk-default", lambda x: mb.topk(x=x), lambda x: top(x, 1, -1, False), {"x": distinct(3, 7)}, bare=True)
case(
    "tensor/topk-ties",
    lambda x: mb.topk(x=x, k=3, axis=1),
    lambda x: top(x, 3, 1, False),
    {"x": given([[1.0, 2.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]], "fp32")},
    note="ties keep their order; Core ML leaves this open",
)
case(
    "tensor/topk-ios16-values-only",
    lambda x: mb.topk(x=x, k=3, axis=1, sort=True, return_indices=False),
    lambda x: top(x, 3, 1, False)[0],
    {"x": distinct(3, 8)},
    opset=16,
)
case(
    "tensor/topk-ios16-unsorted",
    lambda x: mb.topk(x=x, k=8, axis=1, sort=False, return_indices=False),
    lambda x: top(x, 8, 1, False)[0],
    {"x": distinct(3, 8)},
    opset=16,
    note="the order of an unsorted result is open; sorted is one of the right ones, and what is expected here",
)
case(
    "tensor/topk-ios17-uint16",
    lambda x: mb.topk(x=x, k=2, axis=1, output_indices_dtype="uint16"),
    lambda x: top(x, 2, 1, False),
    {"x": distinct(3, 8)},
    opset=17,
)
case(
    "tensor/topk-int32",
    lambda x: mb.topk(x=x, k=2, axis=0, ascending=True),
    lambda x: top(x, 2, 0, True),
    {"x": given([[5, -2], [1, 9], [3, 0]])},
)


def overlap(a, b):
    sides = [
        max(0.0, min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2) - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2))
        for i in (0, 1)
    ]
    both = sides[0] * sides[1]
    return both / (a[2] * a[3] + b[2] * b[3] - both)


def suppressed(boxes, scores, iou, most, per_class, threshold=-np.inf):
    """Greedy suppression of (batch, n, 4) boxes given as centre and size; what is not used is 0, and -1 as an index."""
    batch, _, classes = scores.shape
    kept_boxes, kept_scores = np.zeros((batch, most, 4)), np.zeros((batch, most, classes))
    kept_places, counts = np.full((batch, most), -1, np.int32), np.zeros(batch, np.int32)
    for b in range(batch):
        best, label, kept = scores[b].max(1), scores[b].argmax(1), []
        for j in np.argsort(-best, kind="stable"):
            rivals = [k for k in kept if not per_class or label[k] == label[j]]
            if (
                best[j] >= threshold
                and len(kept) < most
                and all(overlap(boxes[b, j], boxes[b, k]) <= iou for k in rivals)
            ):
                kept.append(j)
        n = len(kept)
        kept_boxes[b, :n], kept_scores[b, :n], kept_places[b, :n], counts[b] = boxes[b, kept], scores[b, kept], kept, n
    return kept_boxes, kept_scores, kept_places, counts


def boxes(count, flipped):
    rng = np.random.default_rng(5)
    array = np.concatenate([rng.uniform(1, 9, (2, count, 2)), rng.uniform(2, 5, (2, count, 2))], 2)
    return given(array.swapaxes(1, 2) if flipped else array, "fp32")


for per_class in (False, True):
    name = "per-class" if per_class else "all-classes"
    case(
        f"tensor/non_maximum_suppression-{name}",
        lambda b, s, p=per_class: mb.non_maximum_suppression(
            boxes=b,
            scores=s,
            iou_threshold=np.float32(0.3),
            score_threshold=np.float32(0.2),
            max_boxes=6,
            per_class_suppression=p,
        ),
        lambda b, s, p=per_class: suppressed(b, s, 0.3, 6, p, 0.2),
        {"b": boxes(12, False), "s": real(2, 12, 3, lo=0.0, hi=1.0)},
    )
    case(
        f"tensor/non_maximum_suppression-ios17-{name}",
        lambda b, s, p=per_class: mb.non_maximum_suppression(
            boxes=b, scores=s, iou_threshold=np.float32(0.3), max_boxes=9, per_class_suppression=p
        ),
        lambda b, s, p=per_class: (lambda r: (r[0].swapaxes(1, 2), r[1].swapaxes(1, 2), r[2]))(
            suppressed(b.swapaxes(1, 2), s.swapaxes(1, 2), 0.3, 9, p)
        ),
        {"b": boxes(12, True), "s": real(2, 3, 12, lo=0.0, hi=1.0)},
        opset=17,
    )
