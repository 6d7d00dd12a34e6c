"""Pooling. Reference: torch on an input padded by hand, and window by window in numpy where torch has no such mode."""

import itertools
import math

import numpy as np
from coremltools.converters.mil.mil import Builder as mb

from .case import case, real
from .conv import same_pads


def windows(x, kernel, strides, pads, ceil):
    """For every result position the slice of `x` below the window, and its extent clipped to the padded input."""
    count = len(kernel)
    sizes = []
    for i in range(count):
        n, (before, after) = x.shape[2 + i], pads[i]
        free = n + before + after - kernel[i]
        size = (math.ceil(free / strides[i]) if ceil else free // strides[i]) + 1
        if ceil and before + after > 0 and (size - 1) * strides[i] >= n + before:
            size -= 1  # a window may not begin in the padding behind the input
        sizes.append(size)
    for place in itertools.product(*map(range, sizes)):
        slices, cells = [slice(None), slice(None)], 1
        for i, p in enumerate(place):
            n, (before, after) = x.shape[2 + i], pads[i]
            start = p * strides[i] - before
            slices.append(slice(max(start, 0), min(start + kernel[i], n)))
            cells *= min(start + kernel[i], n + after) - start
        yield sizes, (slice(None), slice(None), *place), x[tuple(slices)], cells


def pooled(kind, x, kernel_sizes, strides, pad_type, pad, ceil_mode, exclude):
    count = len(kernel_sizes)
    if pad_type == "custom":
        pads = [(pad[2 * i], pad[2 * i + 1]) for i in range(count)]
    elif pad_type == "valid":
        pads = [(0, 0)] * count
    else:
        pads = [
            same_pads(x.shape[2 + i], kernel_sizes[i], strides[i], 1, pad_type == "same_lower") for i in range(count)
        ]
    result, axes = None, tuple(range(2, 2 + count))
    for sizes, place, cells, padded in windows(x, kernel_sizes, strides, pads, ceil_mode):
        result = np.zeros((*x.shape[:2], *sizes)) if result is None else result
        if kind == "max":
            result[place] = cells.max(axes)
        elif kind == "l2":
            result[place] = np.sqrt(np.square(cells).sum(axes))
        else:
            result[place] = cells.sum(axes) / (math.prod(cells.shape[2:]) if exclude else padded)
    return result


def pool(kind, what, x, kernel_sizes, opset=15, both=False, note="", bare=False, **p):
    count = len(kernel_sizes)

    def program(x):
        return getattr(mb, f"{kind}_pool")(x=x, kernel_sizes=kernel_sizes, **p)

    def reference(x):
        return pooled(
            kind,
            x,
            kernel_sizes,
            p.get("strides", [1] * count),
            p["pad_type"],
            p.get("pad"),
            p.get("ceil_mode", False),
            p.get("exclude_padding_from_average", False),
        )

    case(f"pool/{kind}_pool-{what}", program, reference, {"x": real(*x)}, opset=opset, both=both, note=note, bare=bare)


X = (2, 3, 9, 8)
for kind in ("max", "avg", "l2"):
    pool(kind, "2x2", X, [2, 2], strides=[2, 2], pad_type="valid", both=True)
    pool(kind, "defaults", X, [3, 2], pad_type="valid", bare=True)
    pool(kind, "3x3-custom", X, [3, 3], strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1], both=kind != "l2")
    pool(kind, "same", X, [3, 2], strides=[2, 3], pad_type="same")
    pool(kind, "asymmetric-pad", X, [3, 3], strides=[2, 2], pad_type="custom", pad=[0, 1, 1, 0])
    pool(kind, "1d", (2, 3, 11), [3], strides=[2], pad_type="custom", pad=[1, 1])
pool("l2", "ceil", (1, 2, 8, 7), [3, 3], strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1], ceil_mode=True)
for kind in ("max", "avg"):
    pool(kind, "stride1-same", X, [3, 3], pad_type="same")
    pool(
        kind,
        "same-lower",
        X,
        [2, 2],
        pad_type="same_lower",
        opset=16,
        note="the larger half of odd padding comes first",
    )
    pool(kind, "ceil", (1, 2, 8, 7), [3, 3], strides=[2, 2], pad_type="valid", ceil_mode=True)
    pool(kind, "ceil-custom", (1, 2, 8, 7), [3, 3], strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1], ceil_mode=True)
    pool(
        kind,
        "ceil-dropped-window",
        (1, 2, 5, 6),
        [2, 2],
        strides=[3, 3],
        pad_type="custom",
        pad=[1, 1, 1, 1],
        ceil_mode=True,
        note="a window that would begin in the padding is dropped",
    )
    pool(kind, "global", (2, 4, 5, 6), [5, 6], pad_type="valid")
    pool(
        kind,
        "5x5-stride1-pad2",
        (1, 5, 7, 7),
        [5, 5],
        pad_type="custom",
        pad=[2, 2, 2, 2],
        note="spatial pyramid pooling",
    )
    pool(kind, "stride-larger-than-kernel", (1, 2, 9, 9), [1, 2], strides=[2, 4], pad_type="valid")
    pool(kind, "3d", (1, 2, 5, 6, 4), [2, 3, 2], strides=[2, 2, 1], pad_type="custom", pad=[0, 0, 1, 1, 1, 0])
    pool(kind, "3d-valid", (2, 3, 4, 4, 4), [2, 2, 2], strides=[2, 2, 2], pad_type="valid", both=True)
    pool(kind, "1d-ceil", (1, 3, 10), [4], strides=[3], pad_type="custom", pad=[1, 1], ceil_mode=True)
for what, p in {
    "custom": {"pad_type": "custom", "pad": [1, 1, 1, 1], "strides": [2, 2]},
    "same": {"pad_type": "same", "strides": [2, 2]},
    "asymmetric": {"pad_type": "custom", "pad": [1, 0, 0, 1], "strides": [1, 2]},
    "ceil": {"pad_type": "custom", "pad": [1, 1, 1, 1], "strides": [2, 2], "ceil_mode": True},
}.items():
    pool("avg", f"exclude-{what}", (2, 3, 8, 7), [3, 3], exclude_padding_from_average=True, **p)
pool("avg", "exclude-1d", (2, 3, 9), [3], exclude_padding_from_average=True, pad_type="same")
pool(
    "avg",
    "exclude-3d",
    (1, 2, 4, 5, 3),
    [3, 3, 2],
    exclude_padding_from_average=True,
    pad_type="custom",
    pad=[1, 1, 1, 1, 0, 1],
)
