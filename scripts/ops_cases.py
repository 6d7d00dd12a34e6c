"""The rows of `ops_speed.py`: one-operation programs beside torch's expression for the same thing.

`ROWS` is the table, `WITHOUT` names the operations that have no row and says why. A row's inputs are arguments of both
functions, in this order. Programs whose result is a truth value end in a cast, because no model gives one; torch's
expression casts too. Axes and broadcasting are varied where an implementation would walk memory in another order, types
where it would take another kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable

import numpy as np
import torch
import torch.nn.functional as F
from coremltools.converters.mil.mil import Builder as mb

SMALL, LARGE = (1, 8, 28, 28), (1, 64, 112, 112)
BOTH = (SMALL, LARGE)
MATRIX = (512, 1024)


@dataclass(frozen=True)
class Input:
    """Numbers between `low` and `high`, integers below it."""

    shape: tuple[int, ...]
    low: float = -2.0
    high: float = 2.0
    whole: bool = False

    def draw(self, random: np.random.Generator) -> np.ndarray:
        if self.whole:
            return random.integers(int(self.low), int(self.high), self.shape, dtype=np.int32)
        return random.uniform(self.low, self.high, self.shape).astype(np.float32)


@dataclass(frozen=True)
class Row:
    op: str  # as `coreml ops` names it
    what: str  # the form: axes, types, operands
    program: Callable[..., Any]
    torch: Callable[..., Any]
    inputs: tuple[Input, ...]
    target: int  # the lowest iOS that has it

    @property
    def title(self) -> str:
        return f"{self.op} {self.what}".strip()


ROWS: list[Row] = []


def row(op: str, what: str, program: Callable, twin: Callable, *inputs: Any, target: int = 17) -> None:
    """Adds a row. An input may be given by its shape alone."""
    full = tuple(each if isinstance(each, Input) else Input(tuple(each)) for each in inputs)
    ROWS.append(Row(op, what, program, twin, full, target))


def ints(shape: tuple, low: int = -100, high: int = 100) -> Input:
    return Input(tuple(shape), low, high, True)


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).uniform(-0.5, 0.5, shape).astype(np.float32)


def positive(*shape: int) -> np.ndarray:
    return np.abs(weights(*shape)) + np.float32(0.5)


def known(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array)


# ---- one operand
def unary() -> None:
    near_one, above = (-0.9, 0.9), (0.1, 4.0)
    table = {
        "abs": torch.abs, "ceil": torch.ceil, "cos": torch.cos, "cosh": torch.cosh, "erf": torch.erf,
        "exp": torch.exp, "exp2": torch.exp2, "floor": torch.floor, "round": torch.round, "sign": torch.sign,
        "sin": torch.sin, "sinh": torch.sinh, "square": torch.square, "tan": torch.tan, "tanh": torch.tanh,
        "atan": torch.atan, "relu": F.relu, "relu6": F.relu6, "sigmoid": torch.sigmoid, "silu": F.silu,
        "softplus": F.softplus, "softsign": F.softsign,
    }  # fmt: skip
    for shape in BOTH:
        for name, twin in table.items():
            row(name, "", lambda x, name=name: getattr(mb, name)(x=x), twin, shape)
        for name, twin in {"acos": torch.acos, "asin": torch.asin, "atanh": torch.atanh}.items():
            row(name, "", lambda x, name=name: getattr(mb, name)(x=x), twin, Input(shape, *near_one))
        row("sqrt", "", lambda x: mb.sqrt(x=x), torch.sqrt, Input(shape, *above))
        row("log", "", lambda x: mb.log(x=x), torch.log, Input(shape, *above))
        row("rsqrt", "", lambda x: mb.rsqrt(x=x), torch.rsqrt, Input(shape, *above))
        row("inverse", "", lambda x: mb.inverse(x=x, epsilon=1e-4), lambda x: (x + 1e-4).reciprocal(), Input(shape, *above))
        row("clip", "", lambda x: mb.clip(x=x, alpha=-1.0, beta=0.5), lambda x: x.clamp(-1, 0.5), shape)
        row("threshold", "", lambda x: mb.threshold(x=x, alpha=0.5), lambda x: x.clamp(min=0.5), shape)
        row("leaky_relu", "", lambda x: mb.leaky_relu(x=x, alpha=0.1), lambda x: F.leaky_relu(x, 0.1), shape)
        row("elu", "", lambda x: mb.elu(x=x, alpha=1.0), F.elu, shape)
        row("gelu", "exact", lambda x: mb.gelu(x=x, mode="EXACT"), F.gelu, shape)
        tanh_gelu = lambda x: F.gelu(x, approximate="tanh")  # noqa: E731
        row("gelu", "tanh", lambda x: mb.gelu(x=x, mode="TANH_APPROXIMATION"), tanh_gelu, shape)
        hard = lambda x: F.relu6(x + 3) / 6  # noqa: E731
        row("sigmoid_hard", "", lambda x: mb.sigmoid_hard(x=x, alpha=1 / 6, beta=0.5), hard, shape)
        row("scaled_tanh", "", lambda x: mb.scaled_tanh(x=x, alpha=0.5, beta=2.0), lambda x: torch.tanh(x * 2) * 0.5, shape)
        row("linear_activation", "", lambda x: mb.linear_activation(x=x, alpha=0.5, beta=2.0), lambda x: x * 0.5 + 2, shape)
        clamped = lambda x: torch.clamp(F.leaky_relu(x, 0.1), max=1.0)  # noqa: E731
        row("clamped_relu", "", lambda x: mb.clamped_relu(x=x, alpha=0.1, beta=1.0), clamped, shape)
        row("thresholded_relu", "", lambda x: mb.thresholded_relu(x=x, alpha=0.5), lambda x: F.threshold(x, 0.5, 0), shape)
        a, b = positive(shape[1]), positive(shape[1])
        row("prelu", "", lambda x, a=a: mb.prelu(x=x, alpha=a), lambda x, a=known(a): F.prelu(x, a), shape)
        wide = [known(each).reshape(1, -1, 1, 1) for each in (a, b)]
        parametric = lambda x, a, b: a * F.softplus(x * b)  # noqa: E731
        row("softplus_parametric", "", lambda x, a=a, b=b: mb.softplus_parametric(x=x, alpha=a, beta=b),
            lambda x, w=wide: parametric(x, *w), shape)  # fmt: skip
        row("logical_not", "", lambda x: mb.cast(x=mb.logical_not(x=mb.cast(x=x, dtype="bool")), dtype="int32"),
            lambda x: (~x.bool()).int(), ints(shape, 0, 2))  # fmt: skip
        row("cast", "to int32", lambda x: mb.cast(x=x, dtype="int32"), lambda x: x.int(), Input(shape, -99, 99))
        row("cast", "to fp32", lambda x: mb.cast(x=x, dtype="fp32"), lambda x: x.float(), ints(shape))
        row("abs", "int32", lambda x: mb.abs(x=x), torch.abs, ints(shape))
        row("identity", "", lambda x: mb.identity(x=x), torch.clone, shape)
        row("fill_like", "", lambda x: mb.fill_like(ref_tensor=x, value=2.0), lambda x: torch.full_like(x, 2.0), shape, target=16)
    for what, axis, shapes in (("last axis", -1, BOTH + (MATRIX,)), ("channels", 1, BOTH), ("axis 2", 2, BOTH)):
        for shape in shapes:
            row("softmax", what, lambda x, axis=axis: mb.softmax(x=x, axis=axis), lambda x, axis=axis: x.softmax(axis), shape)


# ---- two and three operands
def binary() -> None:
    arithmetic = {
        "add": torch.add, "sub": torch.sub, "mul": torch.mul, "real_div": torch.div, "floor_div": torch.floor_divide,
        "mod": torch.remainder, "pow": torch.pow, "maximum": torch.maximum, "minimum": torch.minimum,
    }  # fmt: skip
    compare = {
        "equal": torch.eq, "not_equal": torch.ne, "greater": torch.gt, "greater_equal": torch.ge, "less": torch.lt,
        "less_equal": torch.le,
    }  # fmt: skip
    logic = {"logical_and": torch.logical_and, "logical_or": torch.logical_or, "logical_xor": torch.logical_xor}

    def op(name: str) -> Callable:
        if name in compare:
            return lambda x, y: mb.cast(x=getattr(mb, name)(x=x, y=y), dtype="int32")
        return lambda x, y: getattr(mb, name)(x=x, y=y)

    def twin(name: str) -> Callable:
        if name in compare:
            return lambda x, y: compare[name](x, y).int()
        return arithmetic[name]

    for shape in BOTH:
        for name in arithmetic:
            row(name, "", op(name), twin(name), Input(shape, 0.1, 4), Input(shape, 0.5, 3))
            if name not in ("real_div", "pow"):
                row(name, "int32", op(name), twin(name), ints(shape), ints(shape, 1, 9))
        for name in compare:
            row(name, "", op(name), twin(name), shape, shape)
            row(name, "int32", op(name), twin(name), ints(shape), ints(shape))
        for name, function in logic.items():
            row(name, "", lambda x, y, name=name: mb.cast(x=getattr(mb, name)(x=mb.cast(x=x, dtype="bool"), y=mb.cast(x=y, dtype="bool")), dtype="int32"),
                lambda x, y, f=function: f(x.bool(), y.bool()).int(), ints(shape, 0, 2), ints(shape, 0, 2))  # fmt: skip
    n, c, h, w = LARGE
    across = {
        "scalar": (1, 1, 1, 1), "channel": (1, c, 1, 1), "row": (1, 1, 1, w), "column": (1, c, h, 1), "picture": (1, 1, h, w),
    }  # fmt: skip
    for name in ("add", "sub", "mul", "real_div", "mod", "pow", "maximum", "less"):
        for what, other in across.items():
            row(name, f"{what} right", op(name), twin(name), Input(LARGE, 0.1, 4), Input(other, 0.5, 3))
            if name in ("sub", "real_div", "less"):
                row(name, f"{what} left", op(name), twin(name), Input(other, 0.5, 3), Input(LARGE, 0.5, 4))
        row(name, "outer", op(name), twin(name), Input((768, 1), 0.1, 4), Input((1, 1024), 0.5, 3))
        if name in ("add", "mul", "less", "mod"):
            for what in ("channel", "row", "column"):
                row(name, f"int32 {what} right", op(name), twin(name), ints(LARGE), ints(across[what], 1, 9))
    row("pow", "constant 3", lambda x: mb.pow(x=x, y=3.0), lambda x: x.pow(3), Input(LARGE, 0.1, 3))
    row("mod", "constant", lambda x: mb.mod(x=x, y=0.7), lambda x: x.remainder(0.7), LARGE)
    chosen = lambda x, a, b: mb.select(cond=mb.cast(x=x, dtype="bool"), a=a, b=b)  # noqa: E731
    where = lambda x, a, b: torch.where(x.bool(), a, b)  # noqa: E731
    for shape in BOTH:
        row("select", "", chosen, where, ints(shape, 0, 2), shape, shape)
        row("select", "int32", chosen, where, ints(shape, 0, 2), ints(shape), ints(shape))
        row("select", "constant", lambda x, a: chosen(x, a, np.float32(-1e4)), lambda x, a: where(x, a, torch.tensor(-1e4)),
            ints(shape, 0, 2), shape)  # fmt: skip
    row("select", "mask of pictures", chosen, where, ints(across["picture"], 0, 2), LARGE, LARGE)
    row("select", "mask of channels", chosen, where, ints(across["channel"], 0, 2), LARGE, LARGE)


# ---- reductions
def reductions() -> None:
    def norm(power: int) -> Callable:
        return lambda x, axes: torch.linalg.vector_norm(x, power, axes)

    def product(x: torch.Tensor, axes: tuple) -> torch.Tensor:
        for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
            x = x.prod(axis)
        return x

    table = {
        "reduce_sum": lambda x, axes: x.sum(axes), "reduce_mean": lambda x, axes: x.mean(axes),
        "reduce_max": lambda x, axes: x.amax(axes), "reduce_min": lambda x, axes: x.amin(axes), "reduce_prod": product,
        "reduce_l1_norm": norm(1), "reduce_l2_norm": norm(2), "reduce_sum_square": lambda x, axes: x.square().sum(axes),
        "reduce_log_sum": lambda x, axes: x.sum(axes).log(), "reduce_log_sum_exp": lambda x, axes: x.logsumexp(axes),
    }  # fmt: skip
    for name, twin in table.items():
        forms = [("last axis", (-1,), LARGE), ("channels", (1,), LARGE), ("pictures", (2, 3), LARGE), ("channels", (1,), SMALL)]
        forms += [("last axis", (-1,), SMALL), ("last axis", (-1,), MATRIX), ("first axis", (0,), MATRIX)]
        forms += [("axis 2", (2,), LARGE)]
        for what, axes, shape in forms:
            numbers = Input(shape, 0.9, 1.1) if name == "reduce_prod" else Input(shape, 0.1, 2)
            row(name, what, lambda x, name=name, axes=axes: getattr(mb, name)(x=x, axes=list(axes), keep_dims=False),
                lambda x, twin=twin, axes=axes: twin(x, axes), numbers)  # fmt: skip
        if name in ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod"):
            for what, axes in (("last axis", (-1,)), ("channels", (1,))):
                # Sums of torch's are 64 bits wide unless told otherwise.
                whole = twin if name in ("reduce_max", "reduce_min") else lambda x, axes, name=name: (
                    x.sum(axes, dtype=torch.int32) if name == "reduce_sum" else x.prod(axes[0], dtype=torch.int32))  # fmt: skip
                row(name, f"int32 {what}", lambda x, name=name, axes=axes: getattr(mb, name)(x=x, axes=list(axes), keep_dims=False),
                    lambda x, twin=whole, axes=axes: twin(x, axes), ints(LARGE))  # fmt: skip
    for name, twin in {"reduce_argmax": torch.argmax, "reduce_argmin": torch.argmin}.items():
        forms = [("last axis", -1, LARGE), ("channels", 1, LARGE), ("axis 2", 2, LARGE), ("last axis", -1, SMALL)]
        forms += [("channels", 1, SMALL), ("last axis", -1, MATRIX), ("one long row", -1, (1, 100_000))]
        for what, axis, shape in forms:
            for numbers, kind in ((Input(shape), ""), (ints(shape, -10**6, 10**6), " int32")):
                row(name, what + kind, lambda x, name=name, axis=axis: getattr(mb, name)(x=x, axis=axis, keep_dims=False),
                    lambda x, twin=twin, axis=axis: twin(x, axis), numbers)  # fmt: skip


# ---- products, convolutions, pools, normalisation
def products() -> None:
    w, bias = weights(768, 512), weights(768)
    for rows in (1, 8, 128):
        row("linear", f"{rows} rows", lambda x: mb.linear(x=x, weight=w, bias=bias), lambda x: F.linear(x, known(w), known(bias)), (rows, 512))
    for what, a, b in (("", (256, 512), (512, 384)), ("batch", (8, 64, 64), (8, 64, 64)), ("vector", (1, 512), (512, 768))):
        row("matmul", what, lambda x, y: mb.matmul(x=x, y=y), torch.matmul, a, b)
    row("matmul", "transposed", lambda x, y: mb.matmul(x=x, y=y, transpose_y=True), lambda x, y: x @ y.T, (256, 512), (384, 512))
    row("matmul", "int32", lambda x, y: mb.matmul(x=x, y=y), torch.matmul, ints((128, 128)), ints((128, 128)))
    equation = "bchw,bwhu->bchu"
    row("einsum", "", lambda x, y: mb.einsum(values=(x, y), equation=equation), lambda x, y: torch.einsum(equation, x, y),
        (1, 32, 16, 48), (1, 48, 16, 32))  # fmt: skip
    for length in (16, 128):
        row("scaled_dot_product_attention", f"{length} tokens", lambda q, k, v: mb.scaled_dot_product_attention(query=q, key=k, value=v),
            F.scaled_dot_product_attention, *[(1, 8, length, 64)] * 3, target=18)  # fmt: skip
    convolution("3x3", (1, 64, 56, 56), (64, 64, 3, 3), pad=1)
    convolution("3x3 small", (1, 8, 14, 14), (8, 8, 3, 3), pad=1)
    convolution("1x1", (1, 64, 56, 56), (128, 64, 1, 1))
    convolution("7x7 stride 2", (1, 3, 112, 112), (32, 3, 7, 7), pad=3, stride=2)
    convolution("depthwise", (1, 64, 56, 56), (64, 1, 3, 3), pad=1, groups=64)
    convolution("groups", (1, 64, 56, 56), (64, 16, 3, 3), pad=1, groups=4)
    convolution("dilated", (1, 32, 56, 56), (32, 32, 3, 3), pad=2, dilation=2)
    convolution("1-D", (1, 64, 400), (64, 64, 5), pad=2)
    convolution("1-D depthwise", (1, 64, 400), (64, 1, 5), pad=2, groups=64)
    convolution("3-D", (1, 16, 12, 28, 28), (16, 16, 3, 3, 3), pad=1)
    convolution("3-D depthwise", (1, 16, 12, 28, 28), (16, 1, 3, 3, 3), pad=1, groups=16)
    transposed("2x2 stride 2", (1, 64, 28, 28), (64, 32, 2, 2), stride=2)
    transposed("3x3 stride 2", (1, 64, 28, 28), (64, 32, 3, 3), stride=2)
    transposed("depthwise", (1, 64, 28, 28), (64, 1, 2, 2), stride=2, groups=64)
    transposed("1-D", (1, 64, 200), (64, 32, 4), stride=2)
    transposed("3-D", (1, 16, 8, 14, 14), (16, 8, 2, 2, 2), stride=2)


def convolution(what: str, shape: tuple, kernel: tuple, pad: int = 0, stride: int = 1, dilation: int = 1, groups: int = 1) -> None:
    """With a constant weight, and with one that is an input."""
    axes = len(kernel) - 2
    w, twin = weights(*kernel), (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
    settings: dict = {"pad_type": "custom", "pad": [pad] * 2 * axes, "strides": [stride] * axes, "dilations": [dilation] * axes}
    same = {"stride": stride, "padding": pad, "dilation": dilation, "groups": groups}
    row("conv", what, lambda x: mb.conv(x=x, weight=w, groups=groups, **settings), lambda x: twin(x, known(w), **same), shape)
    if dilation == 1:
        row("conv", f"{what}, weight computed", lambda x, y: mb.conv(x=x, weight=y, groups=groups, **settings),
            lambda x, y: twin(x, y, **same), shape, kernel)  # fmt: skip


def transposed(what: str, shape: tuple, kernel: tuple, stride: int, groups: int = 1) -> None:
    axes = len(kernel) - 2
    w, twin = weights(*kernel), (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[axes - 1]
    row("conv_transpose", what, lambda x: mb.conv_transpose(x=x, weight=w, strides=[stride] * axes, groups=groups),
        lambda x: twin(x, known(w), stride=stride, groups=groups), shape)  # fmt: skip


def windows() -> None:
    for op, twins in (("max_pool", (F.max_pool1d, F.max_pool2d, F.max_pool3d)), ("avg_pool", (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d))):
        forms = [("3x3 stride 2", LARGE, 3, 2), ("3x3", LARGE, 3, 1), ("2x2 stride 2", SMALL, 2, 2), ("global", LARGE, 112, 112)]
        forms += [("1-D", (1, 64, 4000), 3, 2), ("3-D", (1, 16, 16, 56, 56), 2, 2), ("3-D 3x3x3", (1, 16, 16, 28, 28), 3, 1)]
        for what, shape, size, stride in forms:
            axes = len(shape) - 2
            row(op, what, lambda x, op=op, axes=axes, size=size, stride=stride: getattr(mb, op)(
                x=x, kernel_sizes=[size] * axes, strides=[stride] * axes, pad_type="valid"),
                lambda x, twin=twins[axes - 1], size=size, stride=stride: twin(x, size, stride), shape)  # fmt: skip
    row("l2_pool", "3x3 stride 2", lambda x: mb.l2_pool(x=x, kernel_sizes=[3, 3], strides=[2, 2], pad_type="valid"),
        lambda x: F.lp_pool2d(x, 2, 3, 2), LARGE)  # fmt: skip
    for shape in BOTH:
        c = shape[1]
        mean, variance, gamma, beta = weights(c), positive(c), weights(c), weights(c)
        row("batch_norm", "", lambda x, m=mean, v=variance, g=gamma, b=beta: mb.batch_norm(x=x, mean=m, variance=v, gamma=g, beta=b),
            lambda x, p=tuple(map(known, (mean, variance, gamma, beta))): F.batch_norm(x, *p), shape)  # fmt: skip
        row("instance_norm", "", lambda x, g=gamma, b=beta: mb.instance_norm(x=x, gamma=g, beta=b),
            lambda x, g=known(gamma), b=known(beta): F.instance_norm(x, weight=g, bias=b), shape)  # fmt: skip
        row("l2_norm", "", lambda x: mb.l2_norm(x=x, epsilon=1e-6),
            lambda x: x / (x.square().sum((1, 2, 3), keepdim=True) + 1e-6).sqrt(), shape)  # fmt: skip
        row("local_response_norm", "", lambda x: mb.local_response_norm(x=x, size=5, alpha=1e-4, beta=0.75, k=1.0),
            lambda x: F.local_response_norm(x, 5, 1e-4, 0.75, 1.0), shape)  # fmt: skip
    for shape in ((8, 512), MATRIX):
        gamma, beta = weights(shape[1]), weights(shape[1])
        row("layer_norm", "last axis", lambda x, g=gamma, b=beta: mb.layer_norm(x=x, axes=[-1], gamma=g, beta=b, epsilon=1e-5),
            lambda x, g=known(gamma), b=known(beta), n=shape[1]: F.layer_norm(x, (n,), g, b), shape)  # fmt: skip
    row("layer_norm", "channels", lambda x: mb.layer_norm(x=x, axes=[1], epsilon=1e-5),
        lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (64,)).permute(0, 3, 1, 2), LARGE)  # fmt: skip


# ---- pictures
def pictures() -> None:
    for shape in ((1, 8, 14, 14), (1, 32, 56, 56)):
        up = (shape[2] * 2, shape[3] * 2)
        odd = (shape[2] * 3 // 2 + 1, shape[3] * 3 // 2 + 1)
        row("upsample_nearest_neighbor", "2x2", lambda x: mb.upsample_nearest_neighbor(x=x, scale_factor_height=2, scale_factor_width=2),
            lambda x, s=up: F.interpolate(x, s, mode="nearest"), shape)  # fmt: skip
        for corners in (True, False):
            row("upsample_bilinear", f"2x2{', corners' * corners}", lambda x, c=corners: mb.upsample_bilinear(
                x=x, scale_factor_height=2, scale_factor_width=2, align_corners=c),
                lambda x, s=up, c=corners: F.interpolate(x, s, mode="bilinear", align_corners=c), shape)  # fmt: skip
        row("resize_nearest_neighbor", "", lambda x, s=odd: mb.resize_nearest_neighbor(x=x, target_size_height=s[0], target_size_width=s[1]),
            lambda x, s=odd: F.interpolate(x, s, mode="nearest"), shape)  # fmt: skip
        for what, size in (("up", odd), ("down", (shape[2] // 2 + 1, shape[3] // 2 + 1))):
            row("resize_bilinear", what, lambda x, s=size: mb.resize_bilinear(
                x=x, target_size_height=s[0], target_size_width=s[1], sampling_mode="STRICT_ALIGN_CORNERS"),
                lambda x, s=size: F.interpolate(x, s, mode="bilinear", align_corners=True), shape)  # fmt: skip
        full = (*shape[:2], *odd)
        row("resize", "linear", lambda x, s=odd: mb.resize(x=x, shape=np.array(s), resized_dims=np.uint32(2), interpolation_mode="LINEAR", sampling_mode="STRICT_ALIGN_CORNERS"),
            lambda x, s=full[2:]: F.interpolate(x, s, mode="bilinear", align_corners=True), shape)  # fmt: skip
        row("crop", "", lambda x: mb.crop(x=x, crop_height=[2, 3], crop_width=[1, 4]), lambda x: x[:, :, 2:-3, 1:-4].contiguous(), shape)
        grid = Input((1, *odd, 2), -1.05, 1.05)
        for mode, name in (("bilinear", "bilinear"), ("nearest", "nearest")):
            row("resample", mode, lambda x, y, m=mode: mb.resample(
                x=x, coordinates=y, sampling_mode=m, padding_mode="constant", padding_value=0.0,
                coordinates_mode="normalized_minus_one_to_one", align_corners=False),
                lambda x, y, m=name: F.grid_sample(x, y, mode=m, padding_mode="zeros", align_corners=False), shape, grid)  # fmt: skip
        turn = np.array([[0.9, 0.1, 0.05, -0.1, 0.8, -0.02]], np.float32)
        row("affine", "bilinear", lambda x, s=odd: mb.affine(
            x=x, transform_matrix=turn, output_height=s[0], output_width=s[1], sampling_mode="bilinear", padding_mode="constant",
            padding_value=0.0, coordinates_mode="normalized_minus_one_to_one", align_corners=True),
            lambda x, s=full: F.grid_sample(x, F.affine_grid(known(turn).reshape(1, 2, 3), s, align_corners=True), align_corners=True),
            shape)  # fmt: skip


def recurrent() -> None:
    inputs, hidden = 64, 128
    for length in (8, 128):
        x, h = Input((length, 1, inputs), -1, 1), np.zeros((1, hidden), np.float32)
        for op, gates, kind in (("lstm", 4, torch.nn.LSTM), ("rnn", 1, torch.nn.RNN)):
            w, r, b = weights(gates * hidden, inputs) / 4, weights(gates * hidden, hidden) / 4, weights(gates * hidden)
            state = {"initial_h": h} | ({"initial_c": h} if op == "lstm" else {})
            names = {"weight_ih": w, "weight_hh": r, "bias": b}
            if op == "rnn":
                names["activation"] = "tanh"
            program = lambda x, op=op, s=state, n=names: getattr(mb, op)(x=x, output_sequence=True, **s, **n)[0]  # noqa: E731
            row(op, f"{length} steps", program, recurrent_twin(op, w, r, b, kind), x)


def recurrent_twin(op: str, w: np.ndarray, r: np.ndarray, b: np.ndarray, kind: Any) -> Callable:
    """torch's layer with the same numbers, its gates in torch's order."""
    layer = kind(w.shape[1], r.shape[1])
    # ML Programs: input, forget, output, cell; torch: input, forget, cell, output.
    order = {"lstm": (0, 1, 3, 2), "rnn": (0,)}[op]
    n = r.shape[1]
    pick = lambda a: torch.cat([known(a)[k * n : (k + 1) * n] for k in order])  # noqa: E731
    with torch.no_grad():
        layer.weight_ih_l0.copy_(pick(w))
        layer.weight_hh_l0.copy_(pick(r))
        layer.bias_ih_l0.copy_(pick(b))
        layer.bias_hh_l0.zero_()
    return lambda x: layer(x)[0]


# ---- taking, putting, ordering
def indexed() -> None:
    table = (4000, 256)
    at = ints((256,), 0, 4000)
    rows_at = lambda y: y[:, None].expand(-1, 256).long()  # noqa: E731
    row("gather", "rows", lambda x, y: mb.gather(x=x, indices=y, axis=0), lambda x, y: F.embedding(y, x), table, at)
    row("gather", "few rows", lambda x, y: mb.gather(x=x, indices=y, axis=0), lambda x, y: F.embedding(y, x), table, ints((4,), 0, 4000))
    row("gather", "channels", lambda x, y: mb.gather(x=x, indices=y, axis=1), lambda x, y: x.index_select(1, y), LARGE, ints((48,), 0, 64))
    row("gather", "last axis", lambda x, y: mb.gather(x=x, indices=y, axis=3), lambda x, y: x.index_select(3, y), LARGE, ints((80,), 0, 112))
    row("gather", "int32 last axis", lambda x, y: mb.gather(x=x, indices=y, axis=3), lambda x, y: x.index_select(3, y), ints(LARGE), ints((80,), 0, 112))
    for what, axis in (("first axis", 0), ("last axis", 1)):
        top = MATRIX[axis]
        row("gather_along_axis", what, lambda x, y, a=axis: mb.gather_along_axis(x=x, indices=y, axis=a),
            lambda x, y, a=axis: x.gather(a, y.long()), MATRIX, ints(MATRIX, 0, top))  # fmt: skip
        row("scatter_along_axis", f"add, {what}", lambda x, y, z, a=axis: mb.scatter_along_axis(data=x, indices=y, updates=z, axis=a, mode="add"),
            lambda x, y, z, a=axis: x.scatter_add(a, y.long(), z), MATRIX, ints(MATRIX, 0, top), MATRIX)  # fmt: skip
    row("gather_nd", "points", lambda x, y: mb.gather_nd(x=x, indices=y), lambda x, y: x[y[:, 0], y[:, 1]], (512, 512), ints((20_000, 2), 0, 512))
    row("gather_nd", "rows", lambda x, y: mb.gather_nd(x=x, indices=y), lambda x, y: x[y[:, 0]], table, ints((512, 1), 0, 4000))
    for mode, twin in (("add", lambda x, y, z: x.index_add(0, y, z)), ("max", lambda x, y, z: x.scatter_reduce(0, rows_at(y), z, "amax"))):
        row("scatter", f"{mode}, rows", lambda x, y, z, m=mode: mb.scatter(data=x, indices=y, updates=z, axis=0, mode=m), twin,
            table, at, (256, 256))  # fmt: skip
    row("scatter_nd", "add, points", lambda x, y, z: mb.scatter_nd(data=x, indices=y, updates=z, mode="add"),
        lambda x, y, z: x.index_put((y[:, 0], y[:, 1]), z, accumulate=True), (512, 512), ints((20_000, 2), 0, 512), (20_000,))  # fmt: skip
    for what, shape, axis, k in (("5 of 1000", (1, 1000), -1, 5), ("5 of 1000, 64 rows", (64, 1000), -1, 5), ("1000 of 100k", (1, 100_000), -1, 1000),
                                 ("all of 1024", MATRIX, -1, 1024), ("4 channels", LARGE, 1, 4), ("8 of 112", LARGE, -1, 8)):  # fmt: skip
        row("topk", what, lambda x, a=axis, k=k: mb.topk(x=x, k=k, axis=a)[0], lambda x, a=axis, k=k: x.topk(k, a)[0], shape)
    row("argsort", "last axis", lambda x: mb.argsort(x=x, axis=-1, ascending=True), lambda x: x.argsort(dim=-1, stable=True).int(), MATRIX)
    row("argsort", "first axis", lambda x: mb.argsort(x=x, axis=0, ascending=True), lambda x: x.argsort(dim=0, stable=True).int(), MATRIX)
    row("argsort", "one long row", lambda x: mb.argsort(x=x, axis=-1, ascending=True), lambda x: x.argsort(dim=-1, stable=True).int(), (1, 100_000))
    for what, axis, shape in (("last axis", -1, LARGE), ("channels", 1, LARGE), ("last axis", -1, SMALL)):
        row("cumsum", what, lambda x, a=axis: mb.cumsum(x=x, axis=a), lambda x, a=axis: x.cumsum(a), shape)
        row("cumsum", f"int32 {what}", lambda x, a=axis: mb.cumsum(x=x, axis=a), lambda x, a=axis: x.cumsum(a, dtype=torch.int32), ints(shape))
    row("non_zero", "", lambda x: mb.non_zero(x=x), torch.nonzero, ints((512, 512), 0, 2))
    row("one_hot", "", lambda x: mb.one_hot(indices=x, one_hot_vector_size=1000), lambda x: F.one_hot(x.long(), 1000).int(), ints((256,), 0, 1000))
    row("band_part", "lower", lambda x: mb.band_part(x=x, lower=-1, upper=0), torch.tril, MATRIX)
    row("range_1d", "", lambda x: mb.range_1d(start=np.float32(0), end=mb.squeeze(x=x, axes=[0]), step=np.float32(1)),
        lambda x: torch.arange(0, float(x[0])), Input((1,), 49_999.5, 50_000))  # fmt: skip
    row("fill", "", lambda x: mb.fill(shape=x, value=1.5), lambda x: torch.full(x.tolist(), 1.5), ints((2,), 600, 601))
    row("quantize", "and dequantize", lambda x: mb.dequantize(input=mb.quantize(
        input=x, scale=np.float32(0.02), zero_point=np.int8(3), output_dtype="int8"), scale=np.float32(0.02), zero_point=np.int8(3)),
        lambda x: (((x / 0.02).round() + 3).clamp(-128, 127) - 3) * 0.02, LARGE)  # fmt: skip


# ---- moving
def moved() -> None:
    for shape in BOTH:
        n, c, h, w = shape
        for what, axis in (("channels", 1), ("last axis", 3)):
            row("concat", what, lambda x, y, a=axis: mb.concat(values=(x, y), axis=a), lambda x, y, a=axis: torch.cat((x, y), a), shape, shape)
            row("stack", what, lambda x, y, a=axis: mb.stack(values=(x, y), axis=a), lambda x, y, a=axis: torch.stack((x, y), a), shape, shape)
            # torch's halves are views: copied, as ours are results.
            row("split", what, lambda x, a=axis: mb.split(x=x, num_splits=2, axis=a)[1], lambda x, a=axis: x.chunk(2, a)[1].clone(memory_format=torch.contiguous_format), shape)
            row("reverse", what, lambda x, a=axis: mb.reverse(x=x, axes=[a]), lambda x, a=axis: x.flip(a), shape)
            row("concat", f"roll {what}", lambda x, a=axis, s=shape: roll(x, a, s), lambda x, a=axis: x.roll(3, a), shape)
        row("reverse", "int32 last axis", lambda x: mb.reverse(x=x, axes=[3]), lambda x: x.flip(3), ints(shape))
        row("reverse", "pictures", lambda x: mb.reverse(x=x, axes=[2, 3]), lambda x: x.flip(2, 3), shape)
        for mode in ("constant", "reflect", "replicate"):
            row("pad", mode, lambda x, m=mode: mb.pad(x=x, pad=[2, 1, 3, 2], mode=m), lambda x, m=mode: F.pad(x, (3, 2, 2, 1), mode=m), shape)
        row("pad", "channels", lambda x: mb.pad(x=x, pad=[2, 1, 0, 0, 0, 0], mode="constant"), lambda x: F.pad(x, (0, 0, 0, 0, 2, 1)), shape)
        row("tile", "channels", lambda x: mb.tile(x=x, reps=[1, 2, 1, 1]), lambda x: x.tile(1, 2, 1, 1), shape)
        row("tile", "last axis", lambda x: mb.tile(x=x, reps=[1, 1, 1, 2]), lambda x: x.tile(1, 1, 1, 2), shape)
        for perm in ((0, 2, 3, 1), (0, 1, 3, 2), (0, 2, 1, 3), (3, 2, 1, 0)):
            row("transpose", "".join(map(str, perm)), lambda x, p=perm: mb.transpose(x=x, perm=p), lambda x, p=perm: x.permute(p).contiguous(), shape)
        row("transpose", "int32 0231", lambda x: mb.transpose(x=x, perm=[0, 2, 3, 1]), lambda x: x.permute(0, 2, 3, 1).contiguous(), ints(shape))
        row("reshape", "", lambda x, s=shape: mb.reshape(x=x, shape=[s[1], -1]), lambda x, s=shape: x.reshape(s[1], -1).clone(), shape)
        row("expand_dims", "", lambda x: mb.expand_dims(x=x, axes=[2]), lambda x: x.unsqueeze(2).clone(), shape)
        row("squeeze", "", lambda x: mb.squeeze(x=x, axes=[0]), lambda x: x.squeeze(0).clone(), shape)
        row("flatten2d", "", lambda x: mb.flatten2d(x=x, axis=2), lambda x: x.flatten(0, 1).flatten(1).clone(), shape)
        row("reshape_like", "", lambda x, y: mb.reshape_like(x=x, ref_tensors=[y], begins=[0], ends=[0], end_masks=[True]),
            lambda x, y: x.reshape(y.shape).clone(), shape, (n, c, h * w), target=16) if hasattr(mb, "reshape_like") else None  # fmt: skip
        strided = {"begin": [0, 0, 1, 0], "end": [n, c, h, w], "stride": [1, 1, 2, 2]}
        row("slice_by_index", "stride 2", lambda x, s=strided: mb.slice_by_index(x=x, **s), lambda x: x[:, :, 1::2, ::2].contiguous(), shape)
        part = {"begin": [0, 0, 0, 3], "end": [n, c, h, w - 2]}
        row("slice_by_index", "last axis", lambda x, s=part: mb.slice_by_index(x=x, **s), lambda x: x[..., 3:-2].contiguous(), shape)
        middle = {"begin": [0, 2, 0, 0], "end": [n, c - 1, h, w]}
        row("slice_by_index", "channels", lambda x, s=middle: mb.slice_by_index(x=x, **s), lambda x: x[:, 2:-1].clone(), shape)
        row("slice_by_size", "channels", lambda x, y, s=shape: mb.slice_by_size(x=x, begin=y, size=[s[0], s[1] // 2, s[2], s[3]]),
            lambda x, y, s=shape: x.narrow(1, int(y[1]), s[1] // 2).clone(), shape, ints((4,), 0, 1))  # fmt: skip
        row("slice_update", "last axis", lambda x, y, s=part: mb.slice_update(x=x, update=y, **s), updated, shape, (n, c, h, w - 5), target=18)
        row("space_to_depth", "2", lambda x: mb.space_to_depth(x=x, block_size=2), to_depth, shape)
        row("depth_to_space", "2", lambda x: mb.depth_to_space(x=x, block_size=2), to_space, shape)
        row("pixel_shuffle", "2", lambda x: mb.pixel_shuffle(x=x, upscale_factor=2), lambda x: F.pixel_shuffle(x, 2), shape)
        row("pixel_unshuffle", "2", lambda x: mb.pixel_unshuffle(x=x, downscale_factor=np.uint32(2)), lambda x: F.pixel_unshuffle(x, 2), shape)
        blocks = {"block_shape": [2, 2], "paddings": np.zeros((2, 2), np.int32)}
        row("space_to_batch", "2", lambda x, b=blocks: mb.space_to_batch(x=x, **b), to_batch, shape)
        back = {"block_shape": [2, 2], "crops": np.zeros((2, 2), np.int32)}
        row("batch_to_space", "2", lambda x, b=back: mb.batch_to_space(x=x, **b), from_batch, (4, c, h // 2, w // 2))
        row("sliding_windows", "8 by 4", lambda x: mb.sliding_windows(x=x, axis=3, size=8, stride=4),
            lambda x: x.unfold(3, 8, 4).contiguous(), shape)  # fmt: skip


def roll(x: Any, axis: int, shape: tuple) -> Any:
    at = shape[axis] - 3
    zeros = [0] * 4
    middle = [at if k == axis else 0 for k in range(4)]
    head = mb.slice_by_index(x=x, begin=zeros, end=[at if k == axis else size for k, size in enumerate(shape)])
    return mb.concat(values=(mb.slice_by_index(x=x, begin=middle, end=list(shape)), head), axis=axis)


def updated(x: torch.Tensor, update: torch.Tensor) -> torch.Tensor:
    x = x.clone()
    x[..., 3:-2] = update
    return x


def to_depth(x: torch.Tensor) -> torch.Tensor:
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4).reshape(n, 4 * c, h // 2, w // 2)


def to_space(x: torch.Tensor) -> torch.Tensor:
    n, c, h, w = x.shape
    return x.reshape(n, 2, 2, c // 4, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // 4, 2 * h, 2 * w)


def to_batch(x: torch.Tensor) -> torch.Tensor:
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).permute(3, 5, 0, 1, 2, 4).reshape(4 * n, c, h // 2, w // 2)


def from_batch(x: torch.Tensor) -> torch.Tensor:
    n, c, h, w = x.shape
    return x.reshape(2, 2, n // 4, c, h, w).permute(2, 3, 4, 0, 5, 1).reshape(n // 4, c, 2 * h, 2 * w)


for family in (unary, binary, reductions, products, windows, pictures, recurrent, indexed, moved):
    family()

OTHER_NUMBERS = "draws other numbers than torch does, so that answers cannot be compared"
NO_TWIN = "torch has no expression for it"
LIST = "lists are loops' memory, and torch has none"
WITHOUT = {
    "const": "a constant computes nothing",
    "cond": "control flow: the time is that of the branch",
    "while_loop": "control flow: the time is that of the body",
    "shape": "the shapes of all values are known before a run",
    "classify": "a dictionary is what it gives",
    "read_state": "a view of a state",
    "write_state": "the copy of `identity`, into a state",
    "non_maximum_suppression": "in torchvision, which this environment lacks",
    "reverse_sequence": NO_TWIN,
    "gru": "torch resets after the product with the state, ML Programs before it",
    "crop_resize": NO_TWIN + "; its samples are taken as `resample`'s are",
    "dequantize": "in the row of quantize",
} | {
    name: reason
    for reason, names in {
        LIST: "make_list list_read list_gather list_write list_scatter list_length",
        OTHER_NUMBERS: "random_uniform random_normal random_bernoulli random_categorical",
        "constants are decompressed when a model is loaded": "constexpr_affine_dequantize constexpr_cast constexpr_lut_to_dense "
        "constexpr_lut_to_sparse constexpr_sparse_to_dense constexpr_blockwise_shift_scale constexpr_sparse_blockwise_shift_scale",
        "networks of old only, which this builder does not make": "neural_network:array neural_network:feature neural_network:ranked "
        "neural_network:slice neural_network:crop_resize neural_network:non_maximum_suppression",
    }.items()
    for name in names.split()
}  # fmt: skip
