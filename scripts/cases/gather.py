"""Gathering and scattering. Reference: numpy, element by element for scatters."""

import numpy as np
from coremltools.converters.mil.mil import Builder as mb

from .case import case, given, integers, real

X = {"x": real(4, 5, 6)}


def index(*shape, size):
    return integers(*shape, lo=0, hi=size)


# ---- gather
for opset in (15, 16, 17):
    tail = "" if opset == 15 else f"-ios{opset}"
    for axis, size in ((0, 4), (1, 5), (-1, 6)) if opset == 15 else ((1, 5),):
        case(
            f"gather/gather-axis{axis}{tail}",
            lambda x, i, axis=axis: mb.gather(x=x, indices=i, axis=axis),
            lambda x, i, axis=axis: np.take(x, i, axis),
            X | {"i": index(2, 3, size=size)},
            opset=opset,
            both=axis == 1 and opset == 15,
        )
    case(
        f"gather/gather_along_axis{tail}",
        lambda x, i: mb.gather_along_axis(x=x, indices=i, axis=1),
        lambda x, i: np.take_along_axis(x, i, 1),
        X | {"i": index(4, 7, 6, size=5)},
        opset=opset,
    )
    case(
        f"gather/gather_nd{tail}",
        lambda x, i: mb.gather_nd(x=x, indices=i),
        lambda x, i: x[i[..., 0], i[..., 1]],
        X | {"i": index(3, 2, size=4)},
        opset=opset,
    )
case(
    "gather/gather-default",
    lambda x, i: mb.gather(x=x, indices=i),
    lambda x, i: x[i],
    X | {"i": index(3, size=4)},
    bare=True,
)
case(
    "gather/gather-negative",
    lambda x, i: mb.gather(x=x, indices=i, axis=1),
    lambda x, i: np.take(x, i, 1),
    X | {"i": given([-1, 0, -5, 4])},
    note="negative indices count from the end, before iOS 17",
)
case(
    "gather/gather-scalar-index",
    lambda x, i: mb.gather(x=x, indices=i, axis=1),
    lambda x, i: x[:, 3],
    X,
    {"i": given(3)},
    note="a scalar index removes the dimension",
)
case(
    "gather/gather-one-index",
    lambda x, i: mb.gather(x=x, indices=i, axis=2),
    lambda x, i: x[:, :, [2]],
    X,
    {"i": given([2])},
)
case(
    "gather/gather-embedding",
    lambda i, w: mb.gather(x=w, indices=i, axis=0),
    lambda i, w: w[i],
    {"i": index(2, 7, size=30)},
    {"w": real(30, 8)},
    both=True,
    note="an embedding table",
)
case(
    "gather/gather-int32",
    lambda x, i: mb.gather(x=x, indices=i, axis=0),
    lambda x, i: x[i],
    {"x": integers(5, 2), "i": index(3, size=5)},
)
case(
    "gather/gather-shape-element",
    lambda x: mb.gather(x=mb.shape(x=x), indices=np.int32(1), axis=0),
    lambda x: np.asarray(5, np.int32),
    X,
    note="the result has rank 0",
)
case(
    "gather/gather-ios16-batch",
    lambda x, i: mb.gather(x=x, indices=i, axis=1, batch_dims=1),
    lambda x, i: np.stack([x[b, i[b]] for b in range(4)]),
    X | {"i": index(4, 3, size=5)},
    opset=16,
    both=True,
)
case(
    "gather/gather-ios16-batch-later-axis",
    lambda x, i: mb.gather(x=x, indices=i, axis=2, batch_dims=1),
    lambda x, i: np.stack([x[b][:, i[b]] for b in range(4)]),
    X | {"i": index(4, 3, size=6)},
    opset=16,
)
case(
    "gather/gather-ios16-batch2",
    lambda x, i: mb.gather(x=x, indices=i, axis=2, batch_dims=2),
    lambda x, i: np.take_along_axis(x, i, 2),
    X | {"i": index(4, 5, 2, size=6)},
    opset=16,
)
case(
    "gather/gather-ios17-validated",
    lambda x, i: mb.gather(x=x, indices=i, axis=0, validate_indices=True),
    lambda x, i: x[i],
    X | {"i": index(3, size=4)},
    opset=17,
)
case(
    "gather/gather-ios17-uint16-index",
    lambda x, i: mb.gather(x=x, indices=i, axis=0),
    lambda x, i: x[i],
    X | {"i": given([3, 0, 2], "uint16")},
    opset=17,
)
case(
    "gather/gather-ios17-fixed-up-negative",
    lambda x, i: mb.gather(
        x=x, indices=mb.select(cond=mb.greater_equal(x=i, y=np.int32(0)), a=i, b=mb.add(x=i, y=np.int32(5))), axis=1
    ),
    lambda x, i: np.take(x, i, 1),
    X | {"i": given([-1, 0, -5, 4])},
    opset=17,
    note="how converters treat negative indices from iOS 17",
)
for axis, size in ((0, 4), (-1, 6)):
    shape = [4, 5, 6]
    shape[axis] = 3
    case(
        f"gather/gather_along_axis-axis{axis}",
        lambda x, i, axis=axis: mb.gather_along_axis(x=x, indices=i, axis=axis),
        lambda x, i, axis=axis: np.take_along_axis(x, i, axis),
        X | {"i": index(*shape, size=size)},
        both=axis == -1,
    )
case(
    "gather/gather_along_axis-negative",
    lambda x, i: mb.gather_along_axis(x=x, indices=i, axis=0),
    lambda x, i: np.take_along_axis(x, i % 3, 0),
    {"x": real(3, 2), "i": given([[-1, 0], [-3, 2]])},
)
case(
    "gather/gather_nd-full-depth",
    lambda x, i: mb.gather_nd(x=x, indices=i),
    lambda x, i: x[i[..., 0], i[..., 1], i[..., 2]],
    X | {"i": index(2, 3, 3, size=4)},
    both=True,
)
case(
    "gather/gather_nd-one-deep",
    lambda x, i: mb.gather_nd(x=x, indices=i),
    lambda x, i: x[i[..., 0]],
    X | {"i": index(2, 1, size=4)},
)
case(
    "gather/gather_nd-negative",
    lambda x, i: mb.gather_nd(x=x, indices=i),
    lambda x, i: x[i[..., 0], i[..., 1]],
    X | {"i": given([[-1, 2], [0, -5]])},
    opset=15,
)
case(
    "gather/gather_nd-ios16-batch",
    lambda x, i: mb.gather_nd(x=x, indices=i, batch_dims=1),
    lambda x, i: np.stack([x[b][i[b][..., 0]] for b in range(4)]),
    X | {"i": index(4, 3, 1, size=5)},
    opset=16,
)
case(
    "gather/gather_nd-ios16-batch2-deep",
    lambda x, i: mb.gather_nd(x=x, indices=i, batch_dims=1),
    lambda x, i: np.stack([x[b][i[b][..., 0], i[b][..., 1]] for b in range(4)]),
    X | {"i": index(4, 3, 2, size=5)},
    opset=16,
)

# ---- scatter
MODES = {
    "add": np.add.at,
    "sub": np.subtract.at,
    "mul": np.multiply.at,
    "div": np.divide.at,
    "max": np.maximum.at,
    "min": np.minimum.at,
}


def put(x, places, u, mode):
    y = x.copy()
    if mode == "update":
        y[places] = u
    else:
        MODES[mode](y, places, u)
    return y


for mode in (*MODES, "update"):
    u = real(2, 3, lo=0.5, hi=2.0)
    repeated = [1, 3] if mode == "update" else [1, 1]
    case(
        f"gather/scatter-{mode}",
        lambda x, u, i, mode=mode: mb.scatter(data=x, indices=i, updates=u, axis=0, mode=mode),
        lambda x, u, i, mode=mode: put(x, (i,), u, mode),
        {"x": real(4, 3), "u": u},
        {"i": given(repeated)},
        both=mode == "update",
        note="" if mode == "update" else "the same index twice: both count",
    )
    case(
        f"gather/scatter_along_axis-{mode}",
        lambda x, u, i, mode=mode: mb.scatter_along_axis(data=x, indices=i, updates=u, axis=1, mode=mode),
        lambda x, u, i, mode=mode: put(x, (np.indices(i.shape)[0], i), u, mode),
        {"x": real(2, 5), "u": u},
        {"i": given([[0, 4, 2], [1, 3, 0]] if mode == "update" else [[0, 4, 4], [1, 1, 0]])},
    )
    case(
        f"gather/scatter_nd-{mode}",
        lambda x, u, i, mode=mode: mb.scatter_nd(data=x, indices=i, updates=u, mode=mode),
        lambda x, u, i, mode=mode: put(x, (i[:, 0], i[:, 1]), u, mode),
        {"x": real(3, 4, 3), "u": u},
        {"i": given([[0, 1], [2, 3]] if mode == "update" else [[2, 1], [2, 1]])},
    )
case(
    "gather/scatter-axis1",
    lambda x, u, i: mb.scatter(data=x, indices=i, updates=u, axis=1, mode="update"),
    lambda x, u, i: put(x, (slice(None), i), u, "update"),
    {"x": real(2, 5, 3), "u": real(2, 2, 3), "i": given([4, 0])},
)
case(
    "gather/scatter-axis-last",
    lambda x, u, i: mb.scatter(data=x, indices=i, updates=u, axis=-1, mode="add"),
    lambda x, u, i: put(x, (slice(None), i), u, "add"),
    {"x": real(2, 5), "u": real(2, 3), "i": given([4, 0, 4])},
)
case(
    "gather/scatter-index-matrix",
    lambda x, u, i: mb.scatter(data=x, indices=i, updates=u, axis=0, mode="update"),
    lambda x, u, i: put(x, (i,), u, "update"),
    {"x": real(5, 3), "u": real(2, 2, 3), "i": given([[4, 0], [1, 2]])},
)
case(
    "gather/scatter-negative",
    lambda x, u, i: mb.scatter(data=x, indices=i, updates=u, axis=0, mode="update"),
    lambda x, u, i: put(x, (i,), u, "update"),
    {"x": real(5, 3), "u": real(2, 3), "i": given([-1, 1])},
)
case(
    "gather/scatter-default",
    lambda x, u, i: mb.scatter(data=x, indices=i, updates=u),
    lambda x, u, i: put(x, (i,), u, "add"),
    {"x": real(5, 3), "u": real(2, 3), "i": given([3, 3])},
    bare=True,
    note="without a mode: add",
)
case(
    "gather/scatter-int32",
    lambda x, u, i: mb.scatter(data=x, indices=i, updates=u, axis=0, mode="add"),
    lambda x, u, i: put(x, (i,), u, "add"),
    {"x": integers(5, 2), "u": integers(3, 2), "i": given([3, 0, 3])},
)
case(
    "gather/scatter-ios17",
    lambda x, u, i: mb.scatter(data=x, indices=i, updates=u, axis=0, mode="update", validate_indices=True),
    lambda x, u, i: put(x, (i,), u, "update"),
    {"x": real(5, 3), "u": real(2, 3), "i": given([4, 1])},
    opset=17,
)
case(
    "gather/scatter_along_axis-axis0",
    lambda x, u, i: mb.scatter_along_axis(data=x, indices=i, updates=u, axis=0, mode="update"),
    lambda x, u, i: put(x, (i, np.indices(i.shape)[1]), u, "update"),
    {"x": real(4, 3), "u": real(2, 3), "i": given([[0, 1, 3], [2, 3, 0]])},
    both=True,
)
case(
    "gather/scatter_along_axis-ios17-negative-axis",
    lambda x, u, i: mb.scatter_along_axis(data=x, indices=i, updates=u, axis=-1, mode="update"),
    lambda x, u, i: put(x, (np.indices(i.shape)[0], i), u, "update"),
    {"x": real(2, 5), "u": real(2, 2), "i": given([[0, 4], [1, 3]])},
    opset=17,
)
case(
    "gather/scatter_nd-full-depth",
    lambda x, u, i: mb.scatter_nd(data=x, indices=i, updates=u, mode="update"),
    lambda x, u, i: put(x, (i[..., 0], i[..., 1]), u, "update"),
    {"x": real(3, 4), "u": real(2, 2), "i": given([[[0, 0], [2, 3]], [[1, 1], [2, 0]]])},
    both=True,
)
case(
    "gather/scatter_nd-ios17",
    lambda x, u, i: mb.scatter_nd(data=x, indices=i, updates=u, mode="add"),
    lambda x, u, i: put(x, (i[:, 0],), u, "add"),
    {"x": real(4, 3), "u": real(3, 3), "i": given([[0], [2], [0]])},
    opset=17,
)

# ---- beyond the end
# The format leaves this open; the values are our rule's, see "Numbers" in docs/architecture.md.
case(
    "gather/scatter-ios17-beyond-the-end",
    lambda data, i, updates: mb.scatter(data=data, indices=i, updates=updates, validate_indices=False),
    lambda data, i, updates: np.array([data[0] + updates[1], data[1] + updates[0]]),
    {"data": real(2, 3), "updates": real(2, 3), "i": given([10, 0])},
    opset=17,
    note="an index beyond the end is the last one where nothing is validated",
)
