"""Reshaping, slicing and moving elements. Reference: numpy, or torch where it has the operation."""

import numpy as np
import torch.nn.functional as F
from coremltools.converters.mil.mil import Builder as mb

from .case import boolean, case, given, integers, real, torch_reference

X = {"x": real(2, 3, 4)}

# ---- reshape and friends
for what, shape in {
    "flat": [24],
    "infer": [2, -1],
    "same-rank": [4, 3, 2],
    "more": [2, 1, 3, 2, 2],
    "infer-first": [-1, 6],
}.items():
    case(
        f"shape/reshape-{what}",
        lambda x, shape=shape: mb.reshape(x=x, shape=shape),
        lambda x, shape=shape: x.reshape(shape),
        X,
        both=what == "infer",
    )
case(
    "shape/reshape-zero",
    lambda x: mb.reshape(x=x, shape=[0, 4, 3]),
    lambda x: x.reshape(2, 4, 3),
    X,
    note="0 copies the size of this dimension",
)
case("shape/reshape-zero-and-infer", lambda x: mb.reshape(x=x, shape=[0, -1, 0]), lambda x: x.reshape(2, 3, 4), X)
case("shape/reshape-ios17-zero", lambda x: mb.reshape(x=x, shape=[3, 2, 0]), lambda x: x.reshape(3, 2, 4), X, opset=17)
case(
    "shape/reshape-ios17-zero-right-aligned",
    lambda x: mb.reshape(x=x, shape=[1, 6, 0]),
    lambda x: x.reshape(1, 6, 4),
    X,
    opset=17,
)
case(
    "shape/reshape-ios17-zero-from-the-right",
    lambda x: mb.reshape(x=x, shape=[6, 0]),
    lambda x: x.reshape(6, 4),
    X,
    opset=17,
    note="from iOS 17 zeros are counted from the right: the last size of x is copied, not the second",
)
case(
    "shape/reshape-int32",
    lambda x: mb.reshape(x=x, shape=[3, -1]),
    lambda x: x.reshape(3, -1),
    {"x": integers(2, 3, 4)},
)
case(
    "shape/reshape-to-scalar-and-back",
    lambda x: mb.add(x=mb.squeeze(x=x, axes=[0]), y=np.float32(1)),
    lambda x: np.asarray(x[0] + 1),
    {"x": real(1)},
    note="the result has rank 0",
)
case(
    "shape/reshape-runtime-shape",
    lambda x, s: mb.reshape(x=x, shape=s),
    lambda x, s: x.reshape(s),
    X | {"s": given([4, 6])},
    note="the shape is an input",
)
case(
    "shape/reshape-shape-arithmetic",
    lambda x: mb.reshape(
        x=x,
        shape=mb.concat(
            values=[mb.slice_by_index(x=mb.shape(x=x), begin=[2], end=[3]), np.array([-1], np.int32)], axis=0
        ),
    ),
    lambda x: x.reshape(4, -1),
    X,
)
for opset in (16, 17):
    case(
        f"shape/reshape_like-ios{opset}",
        lambda x, a, b: mb.reshape_like(x=x, ref_tensors=[a, b], begins=[0, 1], ends=[2, 0], end_masks=[False, True]),
        lambda x, a, b: x.reshape(2, 3, 4),
        {"x": real(6, 4), "a": real(2, 3, 5), "b": real(1, 4)},
        opset=opset,
    )
for what, axes in {"first": [0], "last": [-1], "two": [1, 3], "negative": [-2], "unsorted": [2, 0]}.items():
    shape = np.expand_dims(np.zeros((2, 3, 4)), tuple(axes)).shape
    case(
        f"shape/expand_dims-{what}",
        lambda x, axes=axes: mb.expand_dims(x=x, axes=axes),
        lambda x, shape=shape: x.reshape(shape),
        X,
        opset=17 if what == "two" else 15,
    )
case("shape/squeeze-one", lambda x: mb.squeeze(x=x, axes=[1]), lambda x: x.reshape(2, 3, 1), {"x": real(2, 1, 3, 1)})
case(
    "shape/squeeze-negative",
    lambda x: mb.squeeze(x=x, axes=[-1, -3]),
    lambda x: x.reshape(2, 3),
    {"x": real(2, 1, 3, 1)},
    opset=17,
)
case("shape/squeeze-all", lambda x: mb.squeeze(x=x), lambda x: x.reshape(2, 3), {"x": real(1, 2, 1, 3, 1)}, bare=True)
for what, perm in {
    "reverse": [2, 1, 0],
    "swap-last": [0, 2, 1],
    "negative": [-1, 0, -2],
    "identity": [0, 1, 2],
}.items():
    case(
        f"shape/transpose-{what}",
        lambda x, perm=perm: mb.transpose(x=x, perm=perm),
        lambda x, perm=perm: x.transpose([p % 3 for p in perm]),
        X,
        both=what == "reverse",
    )
case(
    "shape/transpose-channels-last",
    lambda x: mb.transpose(x=x, perm=[0, 2, 3, 1]),
    lambda x: x.transpose(0, 2, 3, 1),
    {"x": real(2, 19, 9, 7)},
    both=True,
)
case("shape/transpose-matrix", lambda x: mb.transpose(x=x, perm=[1, 0]), lambda x: x.T, {"x": real(37, 21)})
case(
    "shape/transpose-rank5",
    lambda x: mb.transpose(x=x, perm=[0, 3, 1, 4, 2]),
    lambda x: x.transpose(0, 3, 1, 4, 2),
    {"x": real(2, 3, 2, 4, 3)},
    opset=17,
)
case(
    "shape/transpose-int32",
    lambda x: mb.transpose(x=x, perm=[1, 2, 0]),
    lambda x: x.transpose(1, 2, 0),
    {"x": integers(2, 3, 4)},
)
for axis in (0, 1, 2, -1):
    case(
        f"shape/flatten2d-axis{axis}",
        lambda x, axis=axis: mb.flatten2d(x=x, axis=axis),
        lambda x, axis=axis: x.reshape(int(np.prod(x.shape[:axis])), -1),
        X,
    )
case("shape/flatten2d-default", lambda x: mb.flatten2d(x=x), lambda x: x.reshape(2, -1), X, bare=True)
case("shape/shape", lambda x: mb.shape(x=x), lambda x: np.array([2, 3, 4], np.int32), X)

# ---- slices
SLICES = {
    "plain": ((slice(0, 2), slice(1, 3)), {}),
    "negative-ends": ((slice(-3, -1), slice(0, -2)), {}),
    "stride": ((slice(0, 4, 2), slice(1, 6, 3)), {}),
    "clipped-end": ((slice(1, 100), slice(2, 6)), {}),
    "negative-stride": ((slice(3, 0, -1), slice(5, 1, -2)), {}),
}
for what, (slices, _) in SLICES.items():
    begin, end, stride = (
        [getattr(s, f) if getattr(s, f) is not None else 1 for s in slices] for f in ("start", "stop", "step")
    )
    case(
        f"shape/slice_by_index-{what}",
        lambda x, begin=begin, end=end, stride=stride: mb.slice_by_index(x=x, begin=begin, end=end, stride=stride),
        lambda x, slices=slices: x[slices],
        {"x": real(4, 6)},
        both=what == "stride",
    )
case(
    "shape/slice_by_index-defaults",
    lambda x: mb.slice_by_index(x=x, begin=[1, 0, 2], end=[2, 3, 4]),
    lambda x: x[1:2, 0:3, 2:4],
    X,
    bare=True,
)
case(
    "shape/slice_by_index-masks",
    lambda x: mb.slice_by_index(
        x=x, begin=[1, 1, 1], end=[1, 2, 1], begin_mask=[True, False, False], end_mask=[True, False, True]
    ),
    lambda x: x[:, 1:2, 1:],
    X,
    both=True,
)
case(
    "shape/slice_by_index-reverse-masks",
    lambda x: mb.slice_by_index(
        x=x, begin=[0, 0, 0], end=[0, 0, 0], stride=[1, -1, -2], begin_mask=[True] * 3, end_mask=[True] * 3
    ),
    lambda x: x[:, ::-1, ::-2],
    X,
)
case(
    "shape/slice_by_index-squeeze",
    lambda x: mb.slice_by_index(x=x, begin=[0, -1, 1], end=[2, 0, 3], squeeze_mask=[False, True, False]),
    lambda x: x[0:2, -1, 1:3],
    X,
)
case(
    "shape/slice_by_index-squeeze-two",
    lambda x: mb.slice_by_index(
        x=x, begin=[1, 2, 0], end=[2, 3, 0], squeeze_mask=[True, True, False], end_mask=[False, False, True]
    ),
    lambda x: x[1, 2],
    X,
    both=True,
)
case(
    "shape/slice_by_index-to-scalar",
    lambda x: mb.slice_by_index(x=x, begin=[1, 2, 0], end=[2, 3, 1], squeeze_mask=[True] * 3),
    lambda x: np.asarray(x[1, 2, 0]),
    X,
    note="the result has rank 0",
)
case(
    "shape/slice_by_index-runtime",
    lambda x, b, e: mb.slice_by_index(x=x, begin=b, end=e),
    lambda x, b, e: x[0:1, 1:3, 2:4],
    X | {"b": given([0, 1, 2]), "e": given([1, 3, 4])},
    note="begin and end are inputs",
)
case(
    "shape/slice_by_index-ios17-int32",
    lambda x: mb.slice_by_index(x=x, begin=[0, 1], end=[3, 3]),
    lambda x: x[0:3, 1:3],
    {"x": integers(4, 5)},
    opset=17,
)
case(
    "shape/slice_by_index-bool",
    lambda x: mb.slice_by_index(x=x, begin=[0, 1], end=[3, 3]),
    lambda x: x[0:3, 1:3],
    {"x": boolean(4, 5)},
)
for what, begin, size in (
    ("plain", [0, 1, 1], [2, 2, 3]),
    ("to-end", [1, 0, 2], [-1, 3, -1]),
    ("negative-begin", [-1, 0, -3], [1, 2, 2]),
):

    def cut(x, begin=begin, size=size):
        starts = [b % n for b, n in zip(begin, x.shape)]
        return x[tuple(slice(b, None if s == -1 else b + s) for b, s in zip(starts, size))]

    case(
        f"shape/slice_by_size-{what}",
        lambda x, begin=begin, size=size: mb.slice_by_size(x=x, begin=begin, size=size),
        cut,
        X,
        both=what == "plain",
    )
case(
    "shape/slice_by_size-runtime-begin",
    lambda x, b: mb.slice_by_size(x=x, begin=b, size=[1, 2, 2]),
    lambda x, b: x[1:2, 0:2, 2:4],
    X | {"b": given([1, 0, 2])},
)
case(
    "shape/slice_by_size-ios17",
    lambda x: mb.slice_by_size(x=x, begin=[0, 1, 0], size=[1, 2, 4]),
    lambda x: x[0:1, 1:3],
    X,
    opset=17,
)


def updated(x, u, *places):
    y = x.copy()
    y[places] = u.reshape(y[places].shape)
    return y


case(
    "shape/slice_update",
    lambda x, u: mb.slice_update(x=x, update=u, begin=[0, 1, 2], end=[2, 2, 4]),
    lambda x, u: updated(x, u, slice(0, 2), slice(1, 2), slice(2, 4)),
    X | {"u": real(2, 1, 2)},
    opset=18,
    both=True,
)
case(
    "shape/slice_update-stride",
    lambda x, u: mb.slice_update(x=x, update=u, begin=[0, 0, 3], end=[2, 3, 0], stride=[1, 2, -2]),
    lambda x, u: updated(x, u, slice(0, 2), slice(0, 3, 2), slice(3, 0, -2)),
    X | {"u": real(2, 2, 2)},
    opset=18,
)
case(
    "shape/slice_update-masks",
    lambda x, u: mb.slice_update(
        x=x, update=u, begin=[1, 2, 1], end=[2, 0, 0], begin_mask=[False, True, False], end_mask=[False, True, True]
    ),
    lambda x, u: updated(x, u, slice(1, 2), slice(None), slice(1, None)),
    X | {"u": real(1, 3, 3)},
    opset=18,
)
case(
    "shape/slice_update-squeeze",
    lambda x, u: mb.slice_update(x=x, update=u, begin=[0, -1, 0], end=[2, 0, 4], squeeze_mask=[False, True, False]),
    lambda x, u: updated(x, u, slice(None), -1, slice(None)),
    X | {"u": real(2, 4)},
    opset=18,
)
case(
    "shape/slice_update-runtime",
    lambda x, u, b, e: mb.slice_update(x=x, update=u, begin=b, end=e),
    lambda x, u, b, e: updated(x, u, slice(0, 2), slice(1, 3), slice(0, 4)),
    X | {"u": real(2, 2, 4), "b": given([0, 1, 0]), "e": given([2, 3, 4])},
    opset=18,
)
case(
    "shape/crop",
    lambda x: mb.crop(x=x, crop_height=[1, 2], crop_width=[0, 3]),
    lambda x: x[..., 1:-2, 0:-3],
    {"x": real(2, 3, 7, 8)},
    both=True,
)
case(
    "shape/crop-nothing",
    lambda x: mb.crop(x=x, crop_height=[0, 0], crop_width=[0, 0]),
    lambda x: x,
    {"x": real(1, 2, 3, 4)},
)

# ---- elements in another order
for what, axes in {"one": [1], "negative": [-1], "two": [0, 2]}.items():
    case(
        f"shape/reverse-{what}",
        lambda x, axes=axes: mb.reverse(x=x, axes=axes),
        lambda x, axes=axes: np.flip(x, axes),
        X,
        opset=17 if what == "two" else 15,
    )
case("shape/reverse-all", lambda x: mb.reverse(x=x), lambda x: np.flip(x), X, bare=True)
for what, seq, batch, lengths in (
    ("seq-then-batch", 0, 1, [4, 1, 3]),
    ("batch-then-seq", 1, 0, [3, 0, 2, 1]),
    ("defaults", 0, 0, None),
):
    if lengths is not None:

        def reversed_sequences(x, seq=seq, batch=batch, lengths=lengths):
            y = np.moveaxis(x, (batch, seq), (0, 1)).copy()
            for row, length in enumerate(lengths):
                y[row, :length] = y[row, :length][::-1]
            return np.moveaxis(y, (0, 1), (batch, seq))

        case(
            f"shape/reverse_sequence-{what}",
            lambda x, seq=seq, batch=batch, lengths=lengths: mb.reverse_sequence(
                x=x, lengths=lengths, seq_axis=seq, batch_axis=batch
            ),
            reversed_sequences,
            {"x": real(4, 3, 5)},
        )
case(
    "shape/reverse_sequence-ios17",
    lambda x, n: mb.reverse_sequence(x=x, lengths=n, seq_axis=1, batch_axis=0),
    lambda x, n: np.stack([np.concatenate([r[:k][::-1], r[k:]]) for r, k in zip(x, n)]),
    {"x": real(3, 5, 2), "n": given([5, 2, 3])},
    opset=17,
    note="the lengths are an input",
)
for axis, size, stride in ((0, 2, 1), (1, 3, 2), (-1, 2, 3), (2, 4, 1)):

    def windowed(x, axis=axis, size=size, stride=stride):
        axis %= x.ndim
        starts = range(0, x.shape[axis] - size + 1, stride)
        return np.stack([np.take(x, range(s, s + size), axis) for s in starts], axis)

    case(
        f"shape/sliding_windows-axis{axis}-size{size}-stride{stride}",
        lambda x, axis=axis, size=size, stride=stride: mb.sliding_windows(x=x, axis=axis, size=size, stride=stride),
        windowed,
        {"x": real(2, 7, 5)},
    )
case(
    "shape/sliding_windows-ios17-int32",
    lambda x: mb.sliding_windows(x=x, axis=0, size=3, stride=2),
    lambda x: np.stack([x[0:3], x[2:5], x[4:7]]),
    {"x": integers(7, 2)},
    opset=17,
)
case(
    "shape/pixel_shuffle-2",
    lambda x: mb.pixel_shuffle(x=x, upscale_factor=2),
    torch_reference(lambda x: F.pixel_shuffle(x, 2)),
    {"x": real(2, 12, 3, 4)},
    both=True,
)
case(
    "shape/pixel_shuffle-3",
    lambda x: mb.pixel_shuffle(x=x, upscale_factor=3),
    torch_reference(lambda x: F.pixel_shuffle(x, 3)),
    {"x": real(1, 9, 2, 5)},
)
case(
    "shape/pixel_unshuffle",
    lambda x: mb.pixel_unshuffle(x=x, downscale_factor=np.uint32(2)),
    torch_reference(lambda x: F.pixel_unshuffle(x, 2)),
    {"x": real(2, 3, 6, 4)},
    opset=16,
    both=True,
)


def to_space(x, b):
    n, c, h, w = x.shape
    return x.reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2).reshape(n, c // b**2, h * b, w * b)


def to_depth(x, b):
    n, c, h, w = x.shape
    return x.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4).reshape(n, c * b**2, h // b, w // b)


case(
    "shape/depth_to_space",
    lambda x: mb.depth_to_space(x=x, block_size=2),
    lambda x: to_space(x, 2),
    {"x": real(2, 12, 3, 4)},
    both=True,
    note="the offset in the block is the outer part of the channel number, unlike pixel_shuffle",
)
case(
    "shape/depth_to_space-3",
    lambda x: mb.depth_to_space(x=x, block_size=3),
    lambda x: to_space(x, 3),
    {"x": real(1, 18, 2, 3)},
)
case(
    "shape/space_to_depth",
    lambda x: mb.space_to_depth(x=x, block_size=2),
    lambda x: to_depth(x, 2),
    {"x": real(2, 3, 6, 4)},
    both=True,
)


def to_batch(x, block, paddings):
    x = np.pad(x, [(0, 0), (0, 0), *paddings])
    n, c, h, w = x.shape
    p, q = block
    return x.reshape(n, c, h // p, p, w // q, q).transpose(3, 5, 0, 1, 2, 4).reshape(n * p * q, c, h // p, w // q)


def from_batch(x, block, crops):
    m, c, h, w = x.shape
    p, q = block
    n = m // (p * q)
    y = x.reshape(p, q, n, c, h, w).transpose(2, 3, 4, 0, 5, 1).reshape(n, c, h * p, w * q)
    (top, bottom), (left, right) = crops
    return y[:, :, top : h * p - bottom, left : w * q - right]


case(
    "shape/space_to_batch",
    lambda x: mb.space_to_batch(x=x, block_shape=[2, 3], paddings=[[1, 0], [1, 1]]),
    lambda x: to_batch(x, (2, 3), [(1, 0), (1, 1)]),
    {"x": real(2, 3, 5, 7)},
    both=True,
)
case(
    "shape/space_to_batch-no-padding",
    lambda x: mb.space_to_batch(x=x, block_shape=[2, 2], paddings=[[0, 0], [0, 0]]),
    lambda x: to_batch(x, (2, 2), [(0, 0), (0, 0)]),
    {"x": real(1, 2, 4, 6)},
)
case(
    "shape/batch_to_space",
    lambda x: mb.batch_to_space(x=x, block_shape=[2, 3], crops=[[1, 0], [1, 1]]),
    lambda x: from_batch(x, (2, 3), [(1, 0), (1, 1)]),
    {"x": real(12, 3, 3, 2)},
    both=True,
)
