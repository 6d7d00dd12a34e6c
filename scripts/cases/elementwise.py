"""Operations on each element by itself: functions, arithmetic with broadcasting, comparison, logic, casts, select."""

import numpy as np
import torch
from coremltools.converters.mil.mil import Builder as mb

from .case import boolean, case, given, integers, real, torch_reference

# Function in numpy, and an interval it is tame on.
UNARY = {
    "abs": (np.abs, -3, 3),
    "acos": (np.arccos, -1, 1),
    "asin": (np.arcsin, -1, 1),
    "atan": (np.arctan, -6, 6),
    "atanh": (np.arctanh, -0.95, 0.95),
    "ceil": (np.ceil, -3, 3),
    "cos": (np.cos, -7, 7),
    "cosh": (np.cosh, -4, 4),
    "exp": (np.exp, -5, 3),
    "exp2": (np.exp2, -5, 5),
    "floor": (np.floor, -3, 3),
    "sign": (np.sign, -1, 1),
    "sin": (np.sin, -7, 7),
    "sinh": (np.sinh, -4, 4),
    "sqrt": (np.sqrt, 0, 9),
    "square": (np.square, -3, 3),
    "tan": (np.tan, -1.4, 1.4),
    "tanh": (np.tanh, -3, 3),
    "round": (np.rint, -3, 3),
    "identity": (lambda x: x, -3, 3),
}
for op, (function, low, high) in UNARY.items():
    if op != "tanh":
        case(
            f"elementwise/{op}",
            lambda x, op=op: getattr(mb, op)(x=x),
            lambda x, function=function: function(x),
            {"x": real(2, 3, 5, lo=low, hi=high)},
            both=op in ("exp", "sqrt", "floor", "round"),
        )
case(
    "elementwise/erf",
    lambda x: mb.erf(x=x),
    torch_reference(lambda x: torch.erf(x)),
    {"x": real(3, 33, lo=-4, hi=4)},
    both=True,
)

for op, function in {"floor": np.floor, "ceil": np.ceil, "round": np.rint, "sign": np.sign, "abs": np.abs}.items():
    case(
        f"elementwise/{op}-halves",
        lambda x, op=op: getattr(mb, op)(x=x),
        lambda x, function=function: function(x),
        {"x": given([-2.5, -1.5, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 1.5, 2.5, 3.5, 1e9], "fp32")},
        note="round goes to even",
    )
case("elementwise/abs-int32", lambda x: mb.abs(x=x), lambda x: np.abs(x), {"x": integers(3, 4)})
case("elementwise/sign-int32", lambda x: mb.sign(x=x), lambda x: np.sign(x), {"x": integers(3, 4, lo=-2, hi=3)})
case("elementwise/square-int32", lambda x: mb.square(x=x), lambda x: np.square(x), {"x": integers(3, 4)})
case(
    "elementwise/sqrt-edges",
    lambda x: mb.sqrt(x=x),
    lambda x: np.sqrt(x),
    {"x": given([0.0, 1e-30, 1e30, np.inf, -1.0], "fp32")},
)
case(
    "elementwise/exp-edges",
    lambda x: mb.exp(x=x),
    lambda x: np.exp(x),
    {"x": given([-np.inf, -100.0, -50.0, 0.0, 10.0], "fp32")},
)
case("elementwise/sin-large", lambda x: mb.sin(x=x), lambda x: np.sin(x), {"x": real(3, 11, lo=-300, hi=300)})
case("elementwise/cos-large", lambda x: mb.cos(x=x), lambda x: np.cos(x), {"x": real(3, 11, lo=-300, hi=300)})
case("elementwise/identity-int32", lambda x: mb.identity(x=x), lambda x: x, {"x": integers(2, 3)})

for opset in (15, 17):
    tail = "" if opset == 15 else f"-ios{opset}"
    both = opset == 15
    case(
        f"elementwise/clip{tail}",
        lambda x, alpha, beta: mb.clip(x=x, alpha=alpha, beta=beta),
        lambda x, alpha, beta: np.clip(x, alpha, beta),
        {"x": real(2, 3, 5, 7)},
        {"alpha": -0.7, "beta": 1.1},
        opset=opset,
        both=both,
    )
    case(
        f"elementwise/inverse{tail}",
        lambda x, epsilon: mb.inverse(x=x, epsilon=epsilon),
        lambda x, epsilon: 1 / (x + epsilon),
        {"x": real(2, 3, 5, lo=0.1, hi=3)},
        {"epsilon": 0.25},
        opset=opset,
        both=both,
    )
    case(
        f"elementwise/log{tail}",
        lambda x, epsilon: mb.log(x=x, epsilon=epsilon),
        lambda x, epsilon: np.log(x + epsilon),
        {"x": real(2, 3, 5, lo=0.0, hi=3)},
        {"epsilon": 0.125},
        opset=opset,
        both=both,
    )
    case(
        f"elementwise/rsqrt{tail}",
        lambda x, epsilon: mb.rsqrt(x=x, epsilon=epsilon),
        lambda x, epsilon: 1 / np.sqrt(x + epsilon),
        {"x": real(2, 3, 5, lo=0.0, hi=3)},
        {"epsilon": 0.125},
        opset=opset,
        both=both,
    )
case(
    "elementwise/inverse-default",
    lambda x: mb.inverse(x=x),
    lambda x: 1 / (x + np.float64(np.float32(1e-4))),
    {"x": real(4, 5, lo=0.001, hi=1)},
    bare=True,
    note="the default epsilon, 1e-4, is felt",
)
case("elementwise/log-default", lambda x: mb.log(x=x), lambda x: np.log(x), {"x": real(4, 5, lo=0.01, hi=9)}, bare=True)
case(
    "elementwise/rsqrt-default",
    lambda x: mb.rsqrt(x=x),
    lambda x: 1 / np.sqrt(x + 1e-12),
    {"x": real(4, 5, lo=0.01, hi=9)},
    bare=True,
)
case(
    "elementwise/clip-relu6",
    lambda x, alpha, beta: mb.clip(x=x, alpha=alpha, beta=beta),
    lambda x, alpha, beta: np.clip(x, 0, 6),
    {"x": real(3, 40, lo=-4, hi=12)},
    {"alpha": 0.0, "beta": 6.0},
    both=True,
    note="what converters write for relu6",
)
case(
    "elementwise/clip-infinite-bound",
    lambda x, alpha, beta: mb.clip(x=x, alpha=alpha, beta=beta),
    lambda x, alpha, beta: np.maximum(x, alpha),
    {"x": real(3, 5)},
    {"alpha": 0.5, "beta": float("inf")},
)
case(
    "elementwise/threshold",
    lambda x, alpha: mb.threshold(x=x, alpha=alpha),
    lambda x, alpha: np.maximum(x, alpha),
    {"x": real(2, 3, 5)},
    {"alpha": 0.3},
    both=True,
)
case(
    "elementwise/threshold-int32",
    lambda x: mb.threshold(x=x, alpha=np.int32(2)),
    lambda x: np.maximum(x, 2),
    {"x": integers(3, 5)},
)
case("elementwise/logical_not", lambda x: mb.logical_not(x=x), lambda x: ~x, {"x": boolean(3, 5)})

# ---- two operands
BROADCASTS = {
    "same": ((2, 3, 5), (2, 3, 5)),
    "scalar-shape": ((2, 3, 5), (1,)),
    "row": ((2, 3, 5), (5,)),
    "column": ((2, 3, 5), (3, 1)),
    "outer": ((4, 1), (1, 7)),
    "left-smaller": ((3, 1, 5), (2, 3, 4, 5)),
    "channel": ((2, 3, 5, 7), (1, 3, 1, 1)),
    "middle": ((2, 1, 5), (2, 3, 1)),
    "rank5": ((2, 1, 3, 1, 2), (1, 4, 1, 3, 2)),
}
BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "real_div": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
}
for op, function in BINARY.items():
    for what, (a, b) in BROADCASTS.items():
        if (
            op == "add"
            or what in ("same", "channel")
            or (op == "sub" and what in ("outer", "left-smaller", "middle"))
            or (op == "real_div" and what == "left-smaller")
        ):
            case(
                f"elementwise/{op}-{what}",
                lambda x, y, op=op: getattr(mb, op)(x=x, y=y),
                lambda x, y, function=function: function(x, y),
                {"x": real(*a), "y": real(*b, lo=0.5, hi=2.0)},
                both=what == "channel" and op in ("add", "mul"),
            )
    case(
        f"elementwise/{op}-const-scalar",
        lambda x, y, op=op: getattr(mb, op)(x=x, y=y),
        lambda x, y, function=function: function(x, y),
        {"x": real(2, 3, 5)},
        {"y": 1.3},
        half=op in ("mul", "real_div"),
    )
    case(
        f"elementwise/{op}-const-left",
        lambda y, x, op=op: getattr(mb, op)(x=x, y=y),
        lambda y, x, function=function: function(x, y),
        {"y": real(2, 3, 5, lo=0.5)},
        {"x": real(3, 1)},
    )
    if op != "real_div":
        case(
            f"elementwise/{op}-int32",
            lambda x, y, op=op: getattr(mb, op)(x=x, y=y),
            lambda x, y, function=function: function(x, y),
            {"x": integers(3, 4), "y": integers(4)},
        )
case("elementwise/add-same-input", lambda x: mb.add(x=x, y=x), lambda x: x + x, {"x": real(3, 4)})
case(
    "elementwise/real_div-by-zero",
    lambda x, y: mb.real_div(x=x, y=y),
    lambda x, y: np.divide(x, y),
    {"x": given([1.0, -1.0, 0.0, 2.0], "fp32"), "y": given([0.0, 0.0, 0.0, 4.0], "fp32")},
    note="infinities and NaN as IEEE 754 says",
)
case(
    "elementwise/mul-int32-wraps",
    lambda x, y: mb.mul(x=x, y=y),
    lambda x, y: x * y,
    {"x": given([2**30, -(2**31), 70000]), "y": given([4, -1, 70000])},
    note="whole numbers wrap around",
)

SIGNS = {
    "x": given([7.0, -7.0, 7.0, -7.0, 6.0, -6.0, 0.0, 5.5, -5.5], "fp32"),
    "y": given([3.0, 3.0, -3.0, -3.0, 3.0, 3.0, 3.0, 2.0, 2.0], "fp32"),
}
WHOLE = {"x": given([7, -7, 7, -7, 6, -6, 0]), "y": given([3, 3, -3, -3, 3, 3, 3])}
for op, function in {"floor_div": np.floor_divide, "mod": np.mod}.items():
    case(
        f"elementwise/{op}-signs",
        lambda x, y, op=op: getattr(mb, op)(x=x, y=y),
        lambda x, y, function=function: function(x, y),
        SIGNS,
        both=True,
    )
    case(
        f"elementwise/{op}-int32-signs",
        lambda x, y, op=op: getattr(mb, op)(x=x, y=y),
        lambda x, y, function=function: function(x, y),
        WHOLE,
    )
    case(
        f"elementwise/{op}-broadcast",
        lambda x, y, op=op: getattr(mb, op)(x=x, y=y),
        lambda x, y, function=function: function(x, y),
        {"x": real(3, 4, lo=-20, hi=20), "y": real(3, 1, lo=1.5, hi=4)},
    )
case(
    "elementwise/real_div-int32-exact",
    lambda x, y: mb.real_div(x=x, y=y),
    lambda x, y: x // y,
    {"x": given([12, -12, 9, 0]), "y": given([4, 4, -3, 5])},
    note="quotients are whole: what shape arithmetic does",
)
case(
    "elementwise/pow",
    lambda x, y: mb.pow(x=x, y=y),
    lambda x, y: np.power(x, y),
    {"x": real(2, 3, 5, lo=0.1, hi=3), "y": real(5)},
    both=True,
)
case(
    "elementwise/pow-square",
    lambda x, y: mb.pow(x=x, y=y),
    lambda x, y: np.power(x, y),
    {"x": real(2, 3, 5)},
    {"y": 2.0},
    both=True,
)
case(
    "elementwise/pow-negative-base",
    lambda x, y: mb.pow(x=x, y=y),
    lambda x, y: np.power(x, y),
    {
        "x": given([-2.0, -1.5, -2.0, 0.0, 0.0, -2.0, 4.0], "fp32"),
        "y": given([3.0, 2.0, -1.0, 0.0, 2.0, 0.5, 0.5], "fp32"),
    },
    note="a fractional power of a negative number is NaN",
)

COMPARE = {
    "equal": np.equal,
    "not_equal": np.not_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
}
for op, function in COMPARE.items():
    case(
        f"elementwise/{op}",
        lambda x, y, op=op: getattr(mb, op)(x=x, y=y),
        lambda x, y, function=function: function(x, y),
        {
            "x": given([[1.0, 2.0, 3.0, np.nan, -0.0], [3.0, 2.0, np.inf, 1.0, -np.inf]], "fp32"),
            "y": given([1.0, 2.0, 2.0, 1.0, 0.0], "fp32"),
        },
    )
    case(
        f"elementwise/{op}-int32",
        lambda x, y, op=op: getattr(mb, op)(x=x, y=y),
        lambda x, y, function=function: function(x, y),
        {"x": integers(3, 1, 4, lo=-2, hi=3), "y": integers(2, 1, lo=-2, hi=3)},
    )
for op, function in {"logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor}.items():
    case(
        f"elementwise/{op}",
        lambda x, y, op=op: getattr(mb, op)(x=x, y=y),
        lambda x, y, function=function: function(x, y),
        {"x": boolean(3, 1, 5), "y": boolean(4, 1)},
    )

# ---- casts
case(
    "elementwise/cast-f32-to-int32",
    lambda x: mb.cast(x=x, dtype="int32"),
    lambda x: np.trunc(x).astype(np.int32),
    {"x": given([-2.9, -1.5, -0.5, 0.0, 0.5, 1.5, 2.9, 1e6], "fp32")},
    note="towards zero",
)
case(
    "elementwise/cast-int32-to-f32",
    lambda x: mb.cast(x=x, dtype="fp32"),
    lambda x: x.astype(np.float64),
    {"x": integers(3, 4)},
)
case(
    "elementwise/cast-f32-to-bool",
    lambda x: mb.cast(x=x, dtype="bool"),
    lambda x: x != 0,
    {"x": given([0.0, -0.0, 0.1, -3.0, np.inf], "fp32")},
)
case(
    "elementwise/cast-int32-to-bool",
    lambda x: mb.cast(x=x, dtype="bool"),
    lambda x: x != 0,
    {"x": given([0, 1, -1, 256])},
)
case(
    "elementwise/cast-bool-to-f32",
    lambda x: mb.cast(x=x, dtype="fp32"),
    lambda x: x.astype(np.float64),
    {"x": boolean(3, 4)},
)
case(
    "elementwise/cast-f32-to-f16",
    lambda x: mb.cast(x=x, dtype="fp16"),
    lambda x: x.astype(np.float16).astype(np.float64),
    {
        "x": given(
            [
                1.0,
                0.1,
                65504.0,
                65519.0,
                65520.0,
                -1e6,
                6e-8,
                2.9e-8,
                1e-9,
                1.00048828125,
                1.00146484375,
                2049.0,
                2051.0,
            ],
            "fp32",
        )
    },
    rtol=0.0,
    atol=0.0,
    note="nearest, ties to even; beyond 65519 infinite; subnormal halves are kept",
)
case(
    "elementwise/cast-f16-to-int32",
    lambda x: mb.cast(x=x, dtype="int32"),
    lambda x: np.trunc(x).astype(np.int32),
    {"x": real(3, 5, lo=-50, hi=50)},
    half=True,
)
for dtype, values in {
    "int8": [-128, -1, 0, 127],
    "uint8": [0, 1, 127, 255],
    "int16": [-32768, -1, 0, 32767],
    "uint16": [0, 1, 32768, 65535],
}.items():
    case(
        f"elementwise/cast-int32-to-{dtype}",
        lambda x, dtype=dtype: mb.cast(x=x, dtype=dtype),
        lambda x: x,
        {"x": given(values)},
        opset=17,
    )
    case(
        f"elementwise/cast-f32-to-{dtype}",
        lambda x, dtype=dtype: mb.cast(x=x, dtype=dtype),
        lambda x: np.trunc(x).astype(np.int32),
        {"x": given([v + (0.4 if v >= 0 else -0.4) for v in values], "fp32")},
        opset=17,
    )
    case(
        f"elementwise/cast-{dtype}-to-f32",
        lambda x: mb.cast(x=x, dtype="fp32"),
        lambda x: x.astype(np.float64),
        {"x": given(values, dtype)},
        opset=17,
    )
case(
    "elementwise/cast-chain",
    lambda x: mb.cast(x=mb.cast(x=mb.cast(x=x, dtype="fp16"), dtype="fp32"), dtype="int32"),
    lambda x: np.trunc(x.astype(np.float16).astype(np.float64)).astype(np.int32),
    {"x": given([2049.0, 2051.0, 4097.9, -0.9], "fp32")},
)

# ---- select
case(
    "elementwise/select",
    lambda cond, a, b: mb.select(cond=cond, a=a, b=b),
    lambda cond, a, b: np.where(cond, a, b),
    {"cond": boolean(2, 3, 5), "a": real(2, 3, 5), "b": real(2, 3, 5)},
    both=True,
)
case(
    "elementwise/select-broadcast",
    lambda cond, a, b: mb.select(cond=cond, a=a, b=b),
    lambda cond, a, b: np.where(cond, a, b),
    {"cond": boolean(3, 1), "a": real(2, 3, 5), "b": real(5)},
)
case(
    "elementwise/select-infinite-branch",
    lambda cond, a, b: mb.select(cond=cond, a=a, b=b),
    lambda cond, a, b: np.where(cond, a, b),
    {"cond": boolean(3, 5), "a": given(np.full((3, 5), -np.inf), "fp32"), "b": real(3, 5)},
    note="never by arithmetic: 0 * inf is NaN",
)
case(
    "elementwise/select-scalar",
    lambda cond, a, b: mb.select(cond=cond, a=a, b=b),
    lambda cond, a, b: np.where(cond, a, b),
    {"cond": boolean(3, 5), "b": real(3, 5)},
    {"a": given(np.full((3, 5), 2.0), "fp32")},
)
case(
    "elementwise/select-int32",
    lambda cond, a, b: mb.select(cond=cond, a=a, b=b),
    lambda cond, a, b: np.where(cond, a, b),
    {"cond": boolean(3, 5), "a": integers(3, 5), "b": integers(3, 5)},
)
case(
    "elementwise/hard-swish",
    lambda x, c, d, e: mb.mul(x=mb.thresholded_relu(x=x, alpha=c), y=mb.sigmoid_hard(x=x, alpha=d, beta=e)),
    lambda x, c, d, e: np.where(x >= c, x, 0) * np.clip(d * x + e, 0, 1),
    {"x": real(2, 5, 4, lo=-5, hi=5)},
    {"c": -3.0, "d": 1 / 6, "e": 0.5},
    both=True,
    note="how converters write hard swish",
)

# ---- integers wrap
EDGE_INTS = given([2**31 - 1, -(2**31), 46341, -65537])
WRAPPING = {"x": EDGE_INTS, "y": given([1, -1, 46341, 65536])}
for name, function in (("add", torch.add), ("sub", torch.sub), ("mul", torch.mul)):
    case(
        f"elementwise/{name}-int32-edges-wrap",
        lambda x, y, name=name: getattr(mb, name)(x=x, y=y),
        torch_reference(lambda x, y, function=function: function(x.to(torch.int32), y.to(torch.int32))),
        WRAPPING,
        result_types={"out": "int32"},
    )
case(
    "elementwise/square-int32-edges-wrap",
    lambda x: mb.square(x=x),
    torch_reference(lambda x: torch.square(x.to(torch.int32))),
    {"x": EDGE_INTS},
    result_types={"out": "int32"},
)
case(
    "elementwise/reduce_sum-int32-edges-wrap",
    lambda x: mb.reduce_sum(x=x, axes=[0], keep_dims=True),
    torch_reference(lambda x: torch.sum(x.to(torch.int32), 0, keepdim=True, dtype=torch.int32)),
    {"x": EDGE_INTS},
    result_types={"out": "int32"},
)
