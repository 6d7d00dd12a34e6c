"""Reductions. Reference: numpy in double precision."""

import numpy as np
from coremltools.converters.mil.mil import Builder as mb

from .case import case, distinct, given, integers, real

REDUCE = {
    "reduce_mean": lambda x, a, k: x.mean(a, keepdims=k),
    "reduce_sum": lambda x, a, k: x.sum(a, keepdims=k),
    "reduce_max": lambda x, a, k: x.max(a, keepdims=k),
    "reduce_min": lambda x, a, k: x.min(a, keepdims=k),
    "reduce_prod": lambda x, a, k: x.prod(a, keepdims=k),
    "reduce_l1_norm": lambda x, a, k: np.abs(x).sum(a, keepdims=k),
    "reduce_l2_norm": lambda x, a, k: np.sqrt(np.square(x).sum(a, keepdims=k)),
    "reduce_log_sum": lambda x, a, k: np.log(x.sum(a, keepdims=k)),
    "reduce_log_sum_exp": lambda x, a, k: np.log(np.exp(x - x.max()).sum(a, keepdims=k)) + x.max(),
    "reduce_sum_square": lambda x, a, k: np.square(x).sum(a, keepdims=k),
}
for op, function in REDUCE.items():
    low = 0.2 if op == "reduce_log_sum" else -2.0
    for what, axes, keep in (
        ("last", [-1], False),
        ("keep", [1], True),
        ("two", [-2, -1], True),
        ("outer", [0, 2], False),
    ):
        if what == "outer" and op not in ("reduce_mean", "reduce_max"):
            continue
        case(
            f"reduce/{op}-{what}",
            lambda x, op=op, axes=axes, keep=keep: getattr(mb, op)(x=x, axes=axes, keep_dims=keep),
            lambda x, function=function, axes=axes, keep=keep: function(x, tuple(axes), keep),
            {"x": real(2, 3, 4, 5, lo=low)},
            both=what == "two" and op in ("reduce_mean", "reduce_max", "reduce_l2_norm"),
        )
    case(
        f"reduce/{op}-all",
        lambda x, op=op: getattr(mb, op)(x=x),
        lambda x, function=function: function(x, None, False),
        {"x": real(3, 4, lo=low)},
        bare=True,
        note="without axes all dimensions go",
    )
    if op in ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_sum_square", "reduce_l1_norm"):
        case(
            f"reduce/{op}-int32",
            lambda x, op=op: getattr(mb, op)(x=x, axes=[1], keep_dims=False),
            lambda x, function=function: function(x, 1, False).astype(np.int32),
            {"x": integers(3, 4)},
        )
case(
    "reduce/reduce_mean-first",
    lambda x: mb.reduce_mean(x=x, axes=[0], keep_dims=False),
    lambda x: x.mean(0),
    {"x": real(5, 3, 7)},
)
case(
    "reduce/reduce_mean-global-pool",
    lambda x: mb.reduce_mean(x=x, axes=[2, 3], keep_dims=True),
    lambda x: x.mean((2, 3), keepdims=True),
    {"x": real(2, 19, 8, 9)},
    both=True,
)
case(
    "reduce/reduce_sum-many",
    lambda x: mb.reduce_sum(x=x, axes=[1], keep_dims=False),
    lambda x: x.sum(1),
    {"x": real(2, 4099, lo=0.0, hi=1.0)},
    half=True,
)
case(
    "reduce/reduce_max-infinities",
    lambda x: mb.reduce_max(x=x, axes=[1], keep_dims=False),
    lambda x: x.max(1),
    {"x": given([[-np.inf, -np.inf], [-np.inf, 1.0], [np.inf, -1.0]], "fp32")},
)
case(
    "reduce/reduce_log_sum_exp-large",
    lambda x: mb.reduce_log_sum_exp(x=x, axes=[-1], keep_dims=True),
    lambda x: np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)) + x.max(-1, keepdims=True),
    {"x": real(3, 9, lo=-500, hi=500)},
)
for op, function in {"reduce_argmax": np.argmax, "reduce_argmin": np.argmin}.items():
    for what, axis, keep in (("last", -1, False), ("keep", 1, True), ("first", 0, False)):
        case(
            f"reduce/{op}-{what}",
            lambda x, op=op, axis=axis, keep=keep: getattr(mb, op)(x=x, axis=axis, keep_dims=keep),
            lambda x, function=function, axis=axis, keep=keep: function(x, axis=axis, keepdims=keep),
            {"x": distinct(2, 5, 7)},
            both=what == "keep",
        )
    case(
        f"reduce/{op}-defaults",
        lambda x, op=op: getattr(mb, op)(x=x),
        lambda x, function=function: function(x, axis=-1),
        {"x": distinct(4, 9)},
        bare=True,
    )
    case(
        f"reduce/{op}-int32",
        lambda x, op=op: getattr(mb, op)(x=x, axis=0),
        lambda x, function=function: function(x, axis=0),
        {"x": given([[3, -1, 7], [2, 5, 9], [8, -4, 0]])},
    )
    case(
        f"reduce/{op}-ties",
        lambda x, op=op: getattr(mb, op)(x=x, axis=1),
        lambda x, function=function: function(x, axis=1),
        {"x": given([[1.0, 3.0, 3.0, 1.0], [2.0, 2.0, 2.0, 2.0]], "fp32")},
        note="ties go to the first; Core ML leaves this open",
    )
    for dtype in ("int32", "uint16"):
        case(
            f"reduce/{op}-ios17-{dtype}",
            lambda x, op=op, dtype=dtype: getattr(mb, op)(x=x, axis=1, output_dtype=dtype),
            lambda x, function=function: function(x, axis=1),
            {"x": distinct(3, 6)},
            opset=17,
        )
