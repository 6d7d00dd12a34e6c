"""Layers that look at one element at a time, and comparisons."""

from __future__ import annotations

from typing import Any

import numpy as np

from .case import Cases, numbers, positive


def erf(x: Any) -> Any:
    from scipy.special import erf

    return erf(x)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


UNARY = {
    "rsqrt": (lambda x: 1 / np.sqrt(x + 0.5), positive("rsqrt", 2, 3)),
    "sqrt": (np.sqrt, positive("sqrt", 2, 3)),
    "inverse": (lambda x: 1 / (x + 0.5), positive("inverse", 2, 3)),
    "exp": (np.exp, numbers("exp", 2, 3)),
    "log": (np.log, positive("log", 2, 3)),
    "abs": (np.abs, numbers("abs", 2, 3)),
}

ACTIVATIONS = {
    "SIGMOID": (None, sigmoid),
    "TANH": (None, np.tanh),
    "RELU": (None, lambda x: np.maximum(x, 0)),
    "LEAKYRELU": ([0.25], lambda x: np.where(x > 0, x, 0.25 * x)),
    "THRESHOLDEDRELU": (0.5, lambda x: np.where(x >= 0.5, x, 0)),
    "LINEAR": ([2.0, -1.0], lambda x: 2 * x - 1),
    "SCALED_TANH": ([2.0, 0.5], lambda x: 2 * np.tanh(0.5 * x)),
    "SIGMOID_HARD": ([0.25, 0.5], lambda x: np.clip(0.25 * x + 0.5, 0, 1)),
    "ELU": (0.5, lambda x: np.where(x >= 0, x, 0.5 * np.expm1(x))),
    "SOFTPLUS": (None, lambda x: np.log1p(np.exp(x))),
    "SOFTSIGN": (None, lambda x: x / (1 + np.abs(x))),
}

FUNCTIONS = {
    "ceil": np.ceil, "floor": np.floor, "round": np.round, "sign": np.sign, "exp2": np.exp2, "sin": np.sin, "cos": np.cos,
    "tan": np.tan, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh, "erf": erf,
}  # fmt: skip
WITHIN_ONE = {"asin": np.arcsin, "acos": np.arccos, "atanh": np.arctanh}

BROADCASTABLE = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "max": np.maximum, "min": np.minimum,
    "divide": np.divide, "mod": np.mod, "floor_div": np.floor_divide,
}  # fmt: skip

OLD = {
    "ADD": lambda a, b: a + b, "MULTIPLY": lambda a, b: a * b, "AVE": lambda a, b: (a + b) / 2,
    "MAX": np.maximum, "MIN": np.minimum,
}  # fmt: skip

LOGICAL = {"AND": np.logical_and, "OR": np.logical_or, "XOR": np.logical_xor}


def add(cases: Cases) -> None:
    for mode, (function, x) in UNARY.items():
        epsilon = 0.5 if mode in ("rsqrt", "inverse") else None
        cases.add(f"unary-{mode}", lambda b, m=mode, e=epsilon: b.add_unary("l", "x", "y", m, epsilon=e), {"x": x},
                  lambda x, f=function: f(x))  # fmt: skip
    cases.add(
        "unary-power-scaled",
        lambda b: b.add_unary("l", "x", "y", "power", alpha=3.0, shift=0.5, scale=2.0),
        {"x": positive("power", 2, 3)},
        lambda x: (2 * x + 0.5) ** 3,
    )
    cases.add(
        "unary-threshold",
        lambda b: b.add_unary("l", "x", "y", "threshold", alpha=0.25),
        {"x": numbers("threshold", 2, 3)},
        lambda x: np.maximum(x, 0.25),
    )
    for name, (params, function) in ACTIVATIONS.items():
        cases.add(
            f"activation-{name.lower()}",
            lambda b, n=name, p=params: b.add_activation("l", n, "x", "y", p),
            {"x": numbers(name, 1, 2, 3)},
            lambda x, f=function: f(x),
        )
    slopes = np.array([0.25, -0.5], np.float32)
    cases.add(
        "activation-prelu",
        lambda b: b.add_activation("l", "PRELU", "x", "y", slopes),
        {"x": numbers("prelu", 2, 2, 3)},
        lambda x: np.where(x > 0, x, slopes[:, None, None] * x),
        five=True,
    )
    cases.add(
        "activation-parametric-softplus",
        lambda b: b.add_activation("l", "PARAMETRICSOFTPLUS", "x", "y", [slopes, 2 * slopes]),
        {"x": numbers("softplus", 2, 2, 3)},
        lambda x: slopes[:, None, None] * np.log1p(np.exp(2 * slopes[:, None, None] * x)),
        five=True,
    )
    x = numbers("function", 2, 3)
    cases.add("clamped-relu", lambda b: b.add_clamped_relu("l", "x", "y", 0.25, 0.5), {"x": x},
              lambda x: np.minimum(np.where(x >= 0, x, 0.25 * x), 0.5))  # fmt: skip
    cases.add("clip", lambda b: b.add_clip("l", "x", "y", -0.5, 0.25), {"x": x}, lambda x: np.clip(x, -0.5, 0.25))
    tanh = lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))  # noqa: E731
    for mode, function in {
        "EXACT": lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))),
        "TANH_APPROXIMATION": tanh,
        "SIGMOID_APPROXIMATION": lambda x: x * sigmoid(1.702 * x),
    }.items():
        cases.add(f"gelu-{mode.lower()}", lambda b, m=mode: b.add_gelu("l", "x", "y", m), {"x": x}, function)
    for name, function in {**FUNCTIONS, **WITHIN_ONE, "acosh": np.arccosh}.items():
        given = np.clip(x, -0.9, 0.9) if name in WITHIN_ONE else x
        given = 1 + np.abs(x) if name == "acosh" else given
        cases.add(name, lambda b, n=name: getattr(b, f"add_{n}")("l", "x", "y"), {"x": given}, lambda x, f=function: f(x))
    a, row = numbers("pairs", 2, 3), np.array([0.5, -1.5, 2.0], np.float32)
    for name, function in BROADCASTABLE.items():
        cases.add(
            f"{name}-broadcastable",
            lambda b, n=name: getattr(b, f"add_{n}_broadcastable")("l", ["a", "b"], "y"),
            {"a": a, "b": row},
            lambda a, b, f=function: f(a, b),
        )
    cases.add(
        "pow-broadcastable",
        lambda b: b.add_pow_broadcastable("l", ["a", "b"], "y"),
        {"a": positive("pow", 2, 3), "b": row},
        lambda a, b: a**b,
    )
    for mode, function in OLD.items():
        cases.add(
            f"elementwise-{mode.lower()}",
            lambda b, m=mode: b.add_elementwise("l", ["a", "b"], "y", m),
            {"a": numbers("a", 2, 2, 3), "b": numbers("b", 2, 2, 3)},
            lambda a, b, f=function: f(a, b),
            five=True,
        )
    for mode in ("DOT", "COS"):
        def product(a: Any, b: Any, mode: str = mode) -> Any:
            length = np.linalg.norm(a) * np.linalg.norm(b) if mode == "COS" else 1
            return np.array([(a * b).sum() / length])

        cases.add(f"elementwise-{mode.lower()}", lambda b, m=mode: b.add_elementwise("l", ["a", "b"], "y", m),
                  {"a": numbers("a", 4), "b": numbers("b", 4)}, product, five=True)  # fmt: skip
    a, b = np.array([[0, 1, 2], [2, 1, 0]]), np.array([[1, 1, 1], [2, 0, 1]])
    comparisons = {
        "equal": (lambda n: n.add_equal("l", ["a", "b"], "y"), np.equal),
        "not-equal": (lambda n: n.add_not_equal("l", ["a", "b"], "y"), np.not_equal),
        "less-than": (lambda n: n.add_less_than("l", ["a", "b"], "y"), np.less),
        "less-equal": (lambda n: n.add_less_than("l", ["a", "b"], "y", use_less_than_equal=True), np.less_equal),
        "greater-than": (lambda n: n.add_greater_than("l", ["a", "b"], "y"), np.greater),
        "greater-equal": (lambda n: n.add_greater_than("l", ["a", "b"], "y", use_greater_than_equal=True), np.greater_equal),
        **{
            f"logical-{mode.lower()}": (lambda n, m=mode: n.add_logical("l", ["a", "b"], "y", m), function)
            for mode, function in LOGICAL.items()
        },
    }
    for name, (build, function) in comparisons.items():
        cases.add(name, build, {"a": a, "b": b}, lambda a, b, f=function: f(a, b))
    cases.add("equal-to-a-number", lambda n: n.add_equal("l", ["a"], "y", alpha=2.0), {"a": a}, lambda a: a == 2)
    cases.add("logical-not", lambda n: n.add_logical("l", ["a"], "y", "NOT"), {"a": a}, lambda a: a == 0)
    cases.add(
        "where-broadcastable",
        lambda n: n.add_where_broadcastable("l", ["a", "x", "z"], "y"),
        {"a": a, "x": numbers("x", 2, 3), "z": row},
        lambda a, x, z: np.where(a != 0, x, z),
    )
    cases.add("copy", lambda n: n.add_copy("l", "x", "y"), {"x": x}, lambda x: x)
