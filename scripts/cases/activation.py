"""Activations. Reference: torch where it has the function, else the definition in numpy."""

import numpy as np
import torch
import torch.nn.functional as F
from coremltools.converters.mil.mil import Builder as mb

from .case import case, given, real, torch_reference


def spread(*shape):
    """Inputs on both sides of every kink, and zero itself."""
    return real(*shape, lo=-4.0, hi=8.0)


X = {"x": spread(2, 3, 5, 7)}
EDGES = given([[-np.inf, -1e4, -90.0, -1.0, -1e-3, -0.0, 0.0, 1e-3, 1.0, 90.0, 1e4, np.inf]], "fp32")


def channel(values, x):
    return values.reshape([1, -1] + [1] * (x.ndim - 2))


def hard_sigmoid(x, alpha, beta):
    return np.clip(alpha * x + beta, 0, 1)


case("activation/relu", lambda x: mb.relu(x=x), lambda x: np.maximum(x, 0), X, both=True)
case("activation/relu-edges", lambda x: mb.relu(x=x), lambda x: np.maximum(x, 0), {"x": EDGES})
case("activation/relu-rank1-one", lambda x: mb.relu(x=x), lambda x: np.maximum(x, 0), {"x": real(1)})
case("activation/relu-rank5", lambda x: mb.relu(x=x), lambda x: np.maximum(x, 0), {"x": real(2, 1, 3, 2, 5)})
case("activation/relu6", lambda x: mb.relu6(x=x), lambda x: np.clip(x, 0, 6), X, both=True)

for opset in (15, 17):
    tail = "" if opset == 15 else f"-ios{opset}"
    both = opset == 15
    case(
        f"activation/leaky_relu{tail}",
        lambda x, alpha: mb.leaky_relu(x=x, alpha=alpha),
        lambda x, alpha: np.where(x >= 0, x, alpha * x),
        X,
        {"alpha": 0.1},
        opset=opset,
        both=both,
    )
    case(
        f"activation/elu{tail}",
        lambda x, alpha: mb.elu(x=x, alpha=alpha),
        torch_reference(lambda x, alpha: F.elu(x, float(alpha))),
        X,
        {"alpha": 0.7},
        opset=opset,
        both=both,
    )
    case(
        f"activation/prelu{tail}",
        lambda x, alpha: mb.prelu(x=x, alpha=alpha),
        torch_reference(lambda x, alpha: F.prelu(x, alpha)),
        X,
        {"alpha": given([0.1, -0.5, 2.0], "fp32")},
        opset=opset,
        both=both,
    )
    case(
        f"activation/clamped_relu{tail}",
        lambda x, alpha, beta: mb.clamped_relu(x=x, alpha=alpha, beta=beta),
        lambda x, alpha, beta: np.minimum(beta, np.where(x >= 0, x, alpha * x)),
        X,
        {"alpha": 0.25, "beta": 3.3},
        opset=opset,
        both=both,
    )
    case(
        f"activation/thresholded_relu{tail}",
        lambda x, alpha: mb.thresholded_relu(x=x, alpha=alpha),
        lambda x, alpha: np.where(x >= alpha, x, 0),
        X,
        {"alpha": 1.1},
        opset=opset,
        both=both,
    )
    case(
        f"activation/sigmoid_hard{tail}",
        lambda x, alpha, beta: mb.sigmoid_hard(x=x, alpha=alpha, beta=beta),
        hard_sigmoid,
        X,
        {"alpha": 0.3, "beta": 0.4},
        opset=opset,
        both=both,
    )
    case(
        f"activation/scaled_tanh{tail}",
        lambda x, alpha, beta: mb.scaled_tanh(x=x, alpha=alpha, beta=beta),
        lambda x, alpha, beta: alpha * np.tanh(beta * x),
        X,
        {"alpha": 1.7, "beta": 0.6},
        opset=opset,
        both=both,
    )
    case(
        f"activation/linear_activation{tail}",
        lambda x, alpha, beta: mb.linear_activation(x=x, alpha=alpha, beta=beta),
        lambda x, alpha, beta: alpha * x + beta,
        X,
        {"alpha": -1.5, "beta": 0.6},
        opset=opset,
        both=both,
    )
    case(
        f"activation/softplus_parametric{tail}",
        lambda x, alpha, beta: mb.softplus_parametric(x=x, alpha=alpha, beta=beta),
        lambda x, alpha, beta: channel(alpha, x) * np.log1p(np.exp(channel(beta, x) * x)),
        X,
        {"alpha": given([0.5, 1.0, -2.0], "fp32"), "beta": given([1.0, 0.3, -0.8], "fp32")},
        opset=opset,
        both=both,
    )

case(
    "activation/leaky_relu-negative-slope",
    lambda x, alpha: mb.leaky_relu(x=x, alpha=alpha),
    lambda x, alpha: np.where(x >= 0, x, alpha * x),
    {"x": real(3, 4)},
    {"alpha": -1.0},
)
case(
    "activation/leaky_relu-slope-above-one",
    lambda x, alpha: mb.leaky_relu(x=x, alpha=alpha),
    lambda x, alpha: np.where(x >= 0, x, alpha * x),
    {"x": real(3, 4)},
    {"alpha": 2.5},
    note="max(x, alpha x) is wrong here",
)
case(
    "activation/thresholded_relu-negative",
    lambda x, alpha: mb.thresholded_relu(x=x, alpha=alpha),
    lambda x, alpha: np.where(x >= alpha, x, 0),
    {"x": real(3, 4, 5)},
    {"alpha": -1.0},
    note="how hard swish is written",
)
case(
    "activation/clamped_relu-rank2",
    lambda x, alpha, beta: mb.clamped_relu(x=x, alpha=alpha, beta=beta),
    lambda x, alpha, beta: np.minimum(beta, np.where(x >= 0, x, alpha * x)),
    {"x": spread(3, 5)},
    {"alpha": 2.0, "beta": 5.0},
)
for rank, shape in ((3, (2, 3, 5)), (5, (1, 3, 2, 2, 3))):
    case(
        f"activation/prelu-rank{rank}",
        lambda x, alpha: mb.prelu(x=x, alpha=alpha),
        torch_reference(lambda x, alpha: F.prelu(x, alpha)),
        {"x": real(*shape)},
        {"alpha": given([0.3, 0.3, 0.3], "fp32")},
        note="the builder takes only equal slopes at these ranks",
    )
case(
    "activation/softplus_parametric-large",
    lambda x, alpha, beta: mb.softplus_parametric(x=x, alpha=alpha, beta=beta),
    lambda x, alpha, beta: channel(alpha, x) * np.logaddexp(0, channel(beta, x) * x),
    {"x": real(1, 2, 9, lo=-200, hi=200)},
    {"alpha": given([0.5, 1.0], "fp32"), "beta": given([1.0, 2.0], "fp32")},
    disagrees=True,
    note="a plain log(1 + exp(x)) overflows; the true value is nearly x, and the interpreter overflows",
)

for mode, function in {
    "EXACT": torch_reference(lambda x: F.gelu(x)),
    "TANH_APPROXIMATION": torch_reference(lambda x: F.gelu(x, approximate="tanh")),
    "SIGMOID_APPROXIMATION": torch_reference(lambda x: x * torch.sigmoid(1.702 * x)),
}.items():
    case(
        f"activation/gelu-{mode.split('_')[0].lower()}",
        lambda x, mode=mode: mb.gelu(x=x, mode=mode),
        function,
        X,
        both=True,
    )
case(
    "activation/gelu-default",
    lambda x: mb.gelu(x=x),
    torch_reference(lambda x: F.gelu(x)),
    {"x": spread(3, 33)},
    bare=True,
)
case(
    "activation/gelu-far",
    lambda x: mb.gelu(x=x),
    torch_reference(lambda x: F.gelu(x)),
    {"x": given([[-12.0, -6.0, -5.0, -3.5, 5.0, 12.0, 60.0, -60.0]], "fp32")},
)

case("activation/sigmoid", lambda x: mb.sigmoid(x=x), torch_reference(lambda x: torch.sigmoid(x)), X, both=True)
case("activation/sigmoid-edges", lambda x: mb.sigmoid(x=x), torch_reference(lambda x: torch.sigmoid(x)), {"x": EDGES})
case("activation/silu", lambda x: mb.silu(x=x), torch_reference(lambda x: F.silu(x)), X, both=True)
case(
    "activation/silu-edges",
    lambda x: mb.silu(x=x),
    torch_reference(lambda x: F.silu(x)),
    {"x": given([[-1e4, -90.0, -20.0, -0.0, 0.0, 20.0, 90.0, 1e4]], "fp32")},
)
case("activation/softplus", lambda x: mb.softplus(x=x), lambda x: np.logaddexp(0, x), X, both=True)
case(
    "activation/softplus-edges",
    lambda x: mb.softplus(x=x),
    lambda x: np.logaddexp(0, x),
    {"x": given([[-200.0, -30.0, -1.0, 0.0, 1.0, 30.0, 200.0, 1e4]], "fp32")},
)
case("activation/softsign", lambda x: mb.softsign(x=x), torch_reference(lambda x: F.softsign(x)), X, both=True)
case("activation/tanh", lambda x: mb.tanh(x=x), lambda x: np.tanh(x), X, both=True)
case("activation/tanh-edges", lambda x: mb.tanh(x=x), lambda x: np.tanh(x), {"x": EDGES})

for axis in (0, 1, 2, 3, -1, -2, -4):
    case(
        f"activation/softmax-axis{axis}",
        lambda x, axis=axis: mb.softmax(x=x, axis=axis),
        torch_reference(lambda x, axis=axis: torch.softmax(x, axis)),
        {"x": spread(2, 3, 5, 7)},
        both=axis in (1, -1),
    )
case(
    "activation/softmax-default-axis",
    lambda x: mb.softmax(x=x),
    torch_reference(lambda x: torch.softmax(x, -1)),
    {"x": spread(3, 4, 17)},
    bare=True,
)
case(
    "activation/softmax-rank1",
    lambda x: mb.softmax(x=x, axis=0),
    torch_reference(lambda x: torch.softmax(x, 0)),
    {"x": spread(37)},
)
case(
    "activation/softmax-large-values",
    lambda x: mb.softmax(x=x, axis=-1),
    torch_reference(lambda x: torch.softmax(x, -1)),
    {"x": real(4, 9, lo=-3000.0, hi=3000.0)},
)
case(
    "activation/softmax-masked",
    lambda x: mb.softmax(x=x, axis=-1),
    torch_reference(lambda x: torch.softmax(x, -1)),
    {"x": given([[0.5, -np.inf, 1.0, -np.inf], [-np.inf, -np.inf, -np.inf, 2.0]], "fp32")},
)
case(
    "activation/softmax-one-element",
    lambda x: mb.softmax(x=x, axis=1),
    torch_reference(lambda x: torch.softmax(x, 1)),
    {"x": spread(3, 1)},
)
case(
    "activation/gelu-literal",
    lambda x: mb.gelu(x=x, mode="TANH_APPROXIMATION"),
    torch_reference(lambda x: F.gelu(x, approximate="tanh")),
    {"x": spread(2, 9)},
    literal=True,
    note="the parameter is bound as a value, not by the name of a const operation",
)

# ---- far from zero, and no numbers
# Nothing large above zero: it would make the bound on the other results large.
FAR = given([[np.nan, -np.inf, np.finfo(np.float32).min, -1e38, -1e30, -100.0, -1e-40, 1e-40, 1.0]], "fp32")
for name, program, reference in (
    ("relu", lambda x: mb.relu(x=x), lambda x: F.relu(x)),
    ("relu6", lambda x: mb.relu6(x=x), lambda x: F.relu6(x)),
    ("silu", lambda x: mb.silu(x=x), lambda x: F.silu(x)),
    ("sigmoid", lambda x: mb.sigmoid(x=x), lambda x: torch.sigmoid(x)),
    ("gelu", lambda x: mb.gelu(x=x, mode="EXACT"), lambda x: F.gelu(x)),
    ("elu", lambda x: mb.elu(x=x, alpha=1.0), lambda x: F.elu(x)),
    ("softplus", lambda x: mb.softplus(x=x), lambda x: F.softplus(x)),
    ("clip", lambda x: mb.clip(x=x, alpha=-1.0, beta=2.0), lambda x: torch.clamp(x, -1.0, 2.0)),
    ("maximum", lambda x: mb.maximum(x=x, y=np.float32(0.5)), lambda x: torch.maximum(x, torch.tensor(0.5))),
    ("minimum", lambda x: mb.minimum(x=x, y=np.float32(0.5)), lambda x: torch.minimum(x, torch.tensor(0.5))),
    ("reduce_max", lambda x: mb.reduce_max(x=x, axes=[0]), lambda x: torch.amax(x, 0)),
    ("reduce_argmax", lambda x: mb.reduce_argmax(x=x, axis=1), lambda x: torch.argmax(x, 1).to(torch.int32)),
):
    options = {"result_types": {"out": "int32"}} if name == "reduce_argmax" else {}
    case(
        f"activation/{name}-far-from-zero",
        program,
        torch_reference(reference),
        {"x": FAR},
        note="NaN stays, infinities and the largest numbers as torch has them",
        **options,
    )
