"""Products, convolutions, pools, normalisations and reductions."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from .case import Cases, numbers, positive


def convolved(x: Any, w: Any, stride: int = 1, dilation: int = 1, pad: int = 0, groups: int = 1) -> Any:
    """The definition, for any number of spatial axes; weights are output, input, then space."""
    space = w.ndim - 2
    x = np.pad(x, ((0, 0), (0, 0), *[(pad, pad)] * space))
    sizes = [(x.shape[2 + a] - dilation * (w.shape[2 + a] - 1) - 1) // stride + 1 for a in range(space)]
    y = np.zeros((x.shape[0], w.shape[0], *sizes))
    inputs, outputs = w.shape[1], w.shape[0] // groups
    for at in product(*map(range, sizes)):
        places = tuple(slice(p * stride, p * stride + dilation * (k - 1) + 1, dilation) for p, k in zip(at, w.shape[2:]))
        for group in range(groups):
            part = x[(slice(None), slice(group * inputs, (group + 1) * inputs), *places)]
            kernel = w[group * outputs : (group + 1) * outputs]
            axes = list(range(1, part.ndim))
            y[(slice(None), slice(group * outputs, (group + 1) * outputs), *at)] = np.tensordot(part, kernel, (axes, axes))
    return y


def transposed(x: Any, w: Any, stride: int) -> Any:
    """Every element adds a kernel to the result; weights are input, output, height, width."""
    n, c, h, width = x.shape
    y = np.zeros((n, w.shape[1], (h - 1) * stride + w.shape[2], (width - 1) * stride + w.shape[3]))
    for i, j in product(range(h), range(width)):
        place = y[:, :, i * stride : i * stride + w.shape[2], j * stride : j * stride + w.shape[3]]
        place += np.tensordot(x[:, :, i, j], w, (1, 0))
    return y


def pooled(x: Any, kind: str, size: int, stride: int) -> Any:
    """Over all axes but the first two."""
    space = x.ndim - 2
    sizes = [(n - size) // stride + 1 for n in x.shape[2:]]
    y = np.zeros((*x.shape[:2], *sizes))
    for at in product(*map(range, sizes)):
        part = x[(slice(None), slice(None), *(slice(p * stride, p * stride + size) for p in at))]
        axes = tuple(range(2, 2 + space))
        y[(slice(None), slice(None), *at)] = {
            "MAX": lambda: part.max(axes), "AVERAGE": lambda: part.mean(axes),
            "L2": lambda: np.sqrt((part**2).sum(axes)),
        }[kind]()  # fmt: skip
    return y


def add(cases: Cases) -> None:
    x, w, b = numbers("x", 2, 4), numbers("w", 3, 4), numbers("b", 3)
    cases.add("inner-product", lambda n: n.add_inner_product("l", w, b, 4, 3, True, "x", "y"), {"x": x},
              lambda x: x @ w.T + b)  # fmt: skip
    codes, scale = np.arange(12, dtype=np.uint8).reshape(3, 4), np.array([0.5, 0.25, 0.125], np.float32)
    cases.add("inner-product-of-bytes",
              lambda n: n.add_inner_product("l", codes.tobytes(), None, 4, 3, False, "x", "y", is_quantized_weight=True,
                                            nbits=8, quant_scale=scale, quant_bias=-scale),
              {"x": x}, lambda x: x @ (codes * scale[:, None] - scale[:, None]).T)  # fmt: skip
    half = np.float16(w)
    cases.add("inner-product-of-halves", lambda n: n.add_inner_product("l", half, None, 4, 3, False, "x", "y"), {"x": x},
              lambda x: x @ np.float64(half).T)  # fmt: skip
    cases.add("batched-matmul", lambda n: n.add_batched_mat_mul("l", ["a", "b"], "y", transpose_b=True),
              {"a": numbers("a", 2, 2, 4), "b": numbers("b", 1, 3, 4)}, lambda a, b: a @ b.transpose(0, 2, 1))  # fmt: skip
    cases.add("batched-matmul-of-weights",
              lambda n: n.add_batched_mat_mul("l", ["a"], "y", weight_matrix_rows=4, weight_matrix_columns=3,
                                              W=w.T.copy(), bias=b),
              {"a": x}, lambda a: a @ w.T + b)  # fmt: skip
    table = numbers("table", 2, 5)
    cases.add("embedding", lambda n: n.add_embedding("l", table, numbers("shift", 2), 5, 2, True, "x", "y"),
              {"x": np.array([3, 0, 4]).reshape(3, 1, 1, 1)},
              lambda x: (table.T[x.astype(int).ravel()] + numbers("shift", 2)).reshape(3, 2, 1, 1))  # fmt: skip
    cases.add("embedding-nd", lambda n: n.add_embedding_nd("l", "x", "y", 5, 2, table), {"x": [[3], [0], [4]]},
              lambda x: table.T[x.astype(int)[:, 0]])  # fmt: skip
    convolutions(cases)
    pools(cases)
    normalisations(cases)
    reductions(cases)


def convolutions(cases: Cases) -> None:
    image, w, b = numbers("image", 1, 2, 5, 4), numbers("kernel", 4, 2, 3, 3), numbers("bias", 4)
    one = {"has_bias": False, "b": None, "input_name": "x", "output_name": "y"}
    cases.add("convolution",
              lambda n: n.add_convolution("l", 2, 4, 3, 3, 2, 1, "valid", 1, w.transpose(2, 3, 1, 0), b, True,
                                          input_name="x", output_name="y"),
              {"x": image}, lambda x: convolved(x, w)[:, :, ::2] + b[:, None, None])  # fmt: skip
    cases.add("convolution-dilated",
              lambda n: n.add_convolution("l", 2, 4, 3, 3, 1, 1, "same", 1, w.transpose(2, 3, 1, 0), dilation_factors=[2, 2],
                                          **one),
              {"x": image}, lambda x: convolved(x, w, dilation=2, pad=2))  # fmt: skip
    groups = numbers("groups", 4, 1, 3, 3)
    cases.add("convolution-grouped",
              lambda n: n.add_convolution("l", 1, 4, 3, 3, 1, 1, "valid", 2, groups.transpose(2, 3, 1, 0), **one),
              {"x": image}, lambda x: convolved(x, groups, groups=2))  # fmt: skip
    back = numbers("back", 2, 3, 2, 2)
    cases.add("deconvolution",
              lambda n: n.add_convolution("l", 2, 3, 2, 2, 2, 2, "valid", 1, back.transpose(2, 3, 0, 1), is_deconv=True, **one),
              {"x": image}, lambda x: transposed(x, back, 2))  # fmt: skip
    volume, cube = numbers("volume", 1, 2, 3, 4, 4), numbers("cube", 3, 2, 2, 2, 2)
    cases.add("convolution-3d", lambda n: n.add_convolution3d("l", 2, 3, 2, 2, 2, cube, None, False, input_name="x", output_name="y"),
              {"x": volume}, lambda x: convolved(x, cube))  # fmt: skip


def pools(cases: Cases) -> None:
    image, volume = numbers("image", 1, 2, 5, 4), numbers("volume", 1, 2, 4, 4, 4)
    for kind in ("MAX", "AVERAGE", "L2"):
        cases.add(f"pooling-{kind.lower()}", lambda n, k=kind: n.add_pooling("l", 2, 2, 2, 2, k, "VALID", "x", "y"),
                  {"x": image}, lambda x, k=kind: pooled(x, k, 2, 2))  # fmt: skip
    cases.add("pooling-global", lambda n: n.add_pooling("l", 1, 1, 1, 1, "AVERAGE", "VALID", "x", "y", is_global=True),
              {"x": image}, lambda x: x.mean((2, 3), keepdims=True))  # fmt: skip
    for kind in ("MAX", "AVERAGE"):
        cases.add(f"pooling-3d-{kind.lower()}", lambda n, k=kind: n.add_pooling3d("l", "x", "y", k, 2, 2, 2, 2, 2, 2),
                  {"x": volume}, lambda x, k=kind: pooled(x, k, 2, 2))  # fmt: skip
        cases.add(f"pooling-3d-global-{kind.lower()}", lambda n, k=kind: n.add_global_pooling3d("l", "x", "y", k),
                  {"x": volume}, lambda x, k=kind: pooled(x, k, 4, 1))  # fmt: skip


def normalisations(cases: Cases) -> None:
    image, gamma, beta = numbers("image", 1, 2, 3, 4), numbers("gamma", 2), numbers("beta", 2)
    channel = lambda v: np.float64(v)[:, None, None]  # noqa: E731
    cases.add("scale", lambda n: n.add_scale("l", gamma, beta, True, "x", "y", [2], [2]), {"x": image},
              lambda x: x * channel(gamma) + channel(beta))  # fmt: skip
    cases.add("bias", lambda n: n.add_bias("l", beta, "x", "y", [2]), {"x": image}, lambda x: x + channel(beta))
    mean, variance = numbers("mean", 2), positive("variance", 2)
    cases.add("batchnorm", lambda n: n.add_batchnorm("l", 2, gamma, beta, mean, variance, "x", "y"), {"x": image},
              lambda x: (x - channel(mean)) / np.sqrt(channel(variance) + 1e-5) * channel(gamma) + channel(beta))  # fmt: skip

    def instance(x: Any) -> Any:
        m, v = x.mean((2, 3), keepdims=True), x.var((2, 3), keepdims=True)
        return (x - m) / np.sqrt(v + 1e-5) * channel(gamma) + channel(beta)

    cases.add("batchnorm-of-the-instance",
              lambda n: n.add_batchnorm("l", 2, gamma, beta, input_name="x", output_name="y", compute_mean_var=True,
                                        instance_normalization=True),
              {"x": image}, instance)  # fmt: skip
    cases.add("mvn", lambda n: n.add_mvn("l", "x", "y", across_channels=False, normalize_variance=False), {"x": image},
              lambda x: x - x.mean((2, 3), keepdims=True))  # fmt: skip
    cases.add("l2-normalize", lambda n: n.add_l2_normalize("l", "x", "y", epsilon=1e-6), {"x": image},
              lambda x: x / np.sqrt((x**2).sum() + 1e-6))  # fmt: skip
    cases.add("softmax", lambda n: n.add_softmax("l", "x", "y"), {"x": image},
              lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True))  # fmt: skip
    cases.add("softmax-nd", lambda n: n.add_softmax_nd("l", "x", "y", axis=2), {"x": image},
              lambda x: np.exp(x) / np.exp(x).sum(2, keepdims=True))  # fmt: skip

    def neighbours(x: Any) -> Any:
        squares = np.pad(x**2, ((0, 0), (1, 1), (0, 0), (0, 0)))
        sums = squares[:, :-2] + squares[:, 1:-1] + squares[:, 2:]
        return x / (2 + 0.5 / 3 * sums) ** 0.75

    cases.add("lrn", lambda n: n.add_lrn("l", "x", "y", alpha=0.5, beta=0.75, local_size=3, k=2.0),
              {"x": numbers("lrn", 1, 4, 2, 2)}, neighbours)  # fmt: skip
    g, s = numbers("g", 4), numbers("s", 4)
    cases.add("layer-normalization", lambda n: n.add_layer_normalization("l", "x", "y", [4], g, s), {"x": numbers("ln", 2, 3, 4)},
              lambda x: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * g + s)  # fmt: skip


def reductions(cases: Cases) -> None:
    x = positive("reduced", 2, 3, 4)
    functions = {
        "sum": np.sum, "mean": np.mean, "prod": np.prod, "max": np.max, "min": np.min,
        "l1": lambda x, a, keepdims: np.abs(x).sum(a, keepdims=keepdims),
        "l2": lambda x, a, keepdims: np.sqrt((x**2).sum(a, keepdims=keepdims)),
        "sumsquare": lambda x, a, keepdims: (x**2).sum(a, keepdims=keepdims),
        "logsum": lambda x, a, keepdims: np.log(x.sum(a, keepdims=keepdims)),
        "logsumexp": lambda x, a, keepdims: np.log(np.exp(x).sum(a, keepdims=keepdims)),
    }  # fmt: skip
    for name, function in functions.items():
        cases.add(f"reduce-{name}", lambda n, m=name: getattr(n, f"add_reduce_{m}")("l", "x", "y", axes=[0, 2], keepdims=False),
                  {"x": x}, lambda x, f=function: f(x, (0, 2), keepdims=False))  # fmt: skip
    cases.add("reduce-all", lambda n: n.add_reduce_max("l", "x", "y", reduce_all=True, keepdims=True), {"x": x},
              lambda x: x.max(keepdims=True))  # fmt: skip
    old = positive("old", 2, 3, 4)
    for mode, function in {"sum": np.sum, "avg": np.mean, "max": np.max}.items():
        cases.add(f"old-reduce-{mode}", lambda n, m=mode: n.add_reduce("l", "x", "y", "W", m), {"x": old},
                  lambda x, f=function: f(x, 2, keepdims=True), five=True)  # fmt: skip
    cases.add("old-reduce-argmax", lambda n: n.add_reduce("l", "x", "y", "C", "argmax"), {"x": old},
              lambda x: x.argmax(0)[None], five=True)  # fmt: skip
