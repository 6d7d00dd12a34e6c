"""Several operations together: what an optimiser folds, fuses, moves or keeps in place, and where it must not.

Reference: the same graph in torch or numpy.
"""

import numpy as np
import torch
import torch.nn.functional as F
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import types

from .case import case, given, integers, normal, real, torch_reference

IMAGE = {"x": real(1, 6, 9, 8)}
WEIGHT = {"w": normal(6, 6, 3, 3, scale=0.15), "b": normal(6)}


def like(x, number):
    """A scalar in the type of a variable."""
    return np.float16(number) if types.builtin_to_string(x.dtype) == "fp16" else np.float32(number)


def conv(x, w, b=None, **p):
    return mb.conv(x=x, weight=w, bias=b, pad_type="same", **p)


def convolved(x, w, b=None, **p):
    return F.conv2d(x, w, b, padding=(w.shape[2] // 2, w.shape[3] // 2), **p)


def graph(name, program, reference, inputs=IMAGE, consts=WEIGHT, **options):
    case(f"graph/{name}", program, torch_reference(reference), inputs, consts, both=True, **options)


# ---- what may be folded into a convolution
CHANNEL = {"c": given(np.linspace(-1.5, 2.0, 6).reshape(1, 6, 1, 1), "fp32")}
graph(
    "conv-mul-channel",
    lambda x, w, b, c: mb.mul(x=conv(x, w, b), y=c),
    lambda x, w, b, c: convolved(x, w, b) * c,
    consts=WEIGHT | CHANNEL,
)
graph(
    "conv-add-channel",
    lambda x, w, c: mb.add(x=conv(x, w), y=c),
    lambda x, w, c: convolved(x, w) + c,
    consts={"w": WEIGHT["w"]} | CHANNEL,
)
graph(
    "conv-sub-from-constant",
    lambda x, w, b, c: mb.sub(x=c, y=conv(x, w, b)),
    lambda x, w, b, c: c - convolved(x, w, b),
    consts=WEIGHT | CHANNEL,
)
graph(
    "conv-div-channel",
    lambda x, w, b, c: mb.real_div(x=conv(x, w, b), y=c),
    lambda x, w, b, c: convolved(x, w, b) / c,
    consts=WEIGHT | {"c": real(1, 6, 1, 1, lo=0.5, hi=2)},
)
graph(
    "conv-mul-scalar-add-scalar",
    lambda x, w, b, s, t: mb.add(x=mb.mul(x=conv(x, w, b), y=s), y=t),
    lambda x, w, b, s, t: convolved(x, w, b) * s + t,
    consts=WEIGHT | {"s": 1.7, "t": -0.4},
)
graph(
    "conv-add-row",
    lambda x, w, b, c: mb.add(x=conv(x, w, b), y=c),
    lambda x, w, b, c: convolved(x, w, b) + c,
    consts=WEIGHT | {"c": normal(8)},
    note="the constant goes along the width: not a bias",
)
graph(
    "conv-add-image",
    lambda x, w, b, c: mb.add(x=conv(x, w, b), y=c),
    lambda x, w, b, c: convolved(x, w, b) + c,
    consts=WEIGHT | {"c": normal(1, 6, 9, 8)},
)
graph(
    "scale-bias-conv-padded",
    lambda x, w, b, c, d: conv(mb.add(x=mb.mul(x=x, y=c), y=d), w, b),
    lambda x, w, b, c, d: convolved(x * c + d, w, b),
    consts=WEIGHT | CHANNEL | {"d": 0.7},
    note="the bias before the convolution cannot simply move into it: padding is zero",
)
graph(
    "batch_norm-conv",
    lambda x, w, b, m, v: conv(mb.batch_norm(x=x, mean=m, variance=v), w, b),
    lambda x, w, b, m, v: convolved(F.batch_norm(x, m, v), w, b),
    consts=WEIGHT | {"m": normal(6), "v": real(6, lo=0.5, hi=2)},
)
graph(
    "conv-batch_norm-depthwise",
    lambda x, w, m, v, g, b: mb.batch_norm(x=conv(x, w, groups=6), mean=m, variance=v, gamma=g, beta=b),
    lambda x, w, m, v, g, b: F.batch_norm(convolved(x, w, groups=6), m, v, g, b),
    consts={
        "w": normal(6, 1, 3, 3, scale=0.4),
        "m": normal(6),
        "v": real(6, lo=0.5, hi=2),
        "g": normal(6),
        "b": normal(6),
    },
)
graph(
    "pad-conv",
    lambda x, w, b: mb.conv(x=mb.pad(x=x, pad=[1, 2, 0, 1], mode="constant"), weight=w, bias=b),
    lambda x, w, b: F.conv2d(F.pad(x, (0, 1, 1, 2)), w, b),
)
graph(
    "pad-value-conv",
    lambda x, w, b, c: mb.conv(x=mb.pad(x=x, pad=[1, 1, 1, 1], mode="constant", constant_val=c), weight=w, bias=b),
    lambda x, w, b, c: F.conv2d(F.pad(x, (1, 1, 1, 1), value=float(c)), w, b),
    consts=WEIGHT | {"c": 0.75},
    note="padding with another number than zero cannot become the convolution's",
)
graph(
    "pad-reflect-conv",
    lambda x, w, b: mb.conv(x=mb.pad(x=x, pad=[1, 1, 1, 1], mode="reflect"), weight=w, bias=b),
    lambda x, w, b: F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), w, b),
)

# ---- activations behind a convolution, and results that are needed twice
for name, (program, reference) in {
    "relu": (lambda y: mb.relu(x=y), F.relu),
    "clip": (lambda y: mb.clip(x=y, alpha=like(y, 0), beta=like(y, 6)), lambda y: torch.clamp(y, 0, 6)),
    "silu": (lambda y: mb.silu(x=y), F.silu),
    "gelu": (lambda y: mb.gelu(x=y, mode="EXACT"), F.gelu),
    "sigmoid": (lambda y: mb.sigmoid(x=y), torch.sigmoid),
    "tanh": (lambda y: mb.tanh(x=y), torch.tanh),
}.items():
    graph(
        f"conv-{name}", lambda x, w, b, p=program: p(conv(x, w, b)), lambda x, w, b, r=reference: r(convolved(x, w, b))
    )
graph(
    "conv-result-used-twice",
    lambda x, w, b: (lambda y: mb.add(x=mb.relu(x=y), y=mb.tanh(x=y)))(conv(x, w, b)),
    lambda x, w, b: F.relu(convolved(x, w, b)) + torch.tanh(convolved(x, w, b)),
    note="the activation must not overwrite what the other branch reads",
)
graph(
    "conv-result-is-output",
    lambda x, w, b: (lambda y: (y, mb.relu(x=y)))(conv(x, w, b)),
    lambda x, w, b: (convolved(x, w, b), F.relu(convolved(x, w, b))),
    note="the result before the activation is wanted too",
)
graph(
    "conv-weight-used-twice",
    lambda x, w, b: conv(mb.relu(x=conv(x, w, b)), w, b),
    lambda x, w, b: convolved(F.relu(convolved(x, w, b)), w, b),
)
graph(
    "residual-chain",
    lambda x, w, b: (lambda y: mb.relu(x=mb.add(x=conv(y, w), y=y)))(mb.relu(x=mb.add(x=x, y=conv(x, w, b)))),
    lambda x, w, b: (lambda y: F.relu(convolved(y, w) + y))(F.relu(x + convolved(x, w, b))),
)
graph(
    "residual-of-two-convs",
    lambda x, w, b, v: mb.add(x=conv(x, w, b), y=conv(x, v)),
    lambda x, w, b, v: convolved(x, w, b) + convolved(x, v),
    consts=WEIGHT | {"v": normal(6, 6, 1, 1, scale=0.4)},
)
graph(
    "residual-broadcast",
    lambda x, w, b: mb.add(x=conv(x, w, b), y=mb.reduce_mean(x=x, axes=[2, 3], keep_dims=True)),
    lambda x, w, b: convolved(x, w, b) + x.mean((2, 3), keepdim=True),
    note="the other summand is one pixel",
)
graph(
    "inverted-residual",
    lambda x, w, d, v: mb.add(x=conv(mb.relu6(x=conv(mb.relu6(x=conv(x, w)), d, groups=12)), v), y=x),
    lambda x, w, d, v: convolved(F.relu6(convolved(F.relu6(convolved(x, w)), d, groups=12)), v) + x,
    consts={
        "w": normal(12, 6, 1, 1, scale=0.4),
        "d": normal(12, 1, 3, 3, scale=0.4),
        "v": normal(6, 12, 1, 1, scale=0.3),
    },
)
graph(
    "input-is-residual-and-output",
    lambda x, w, b: (mb.add(x=x, y=conv(x, w, b)), mb.square(x=x)),
    lambda x, w, b: (x + convolved(x, w, b), x**2),
    note="the input must survive",
)

# ---- layouts
graph(
    "conv-concat-conv",
    lambda x, w, b, v: conv(
        mb.concat(
            values=[conv(x, w, b), x, mb.max_pool(x=x, kernel_sizes=[3, 3], strides=[1, 1], pad_type="same")], axis=1
        ),
        v,
    ),
    lambda x, w, b, v: convolved(torch.cat([convolved(x, w, b), x, F.max_pool2d(x, 3, 1, 1)], 1), v),
    consts=WEIGHT | {"v": normal(5, 18, 1, 1, scale=0.3)},
)
graph(
    "conv-split-conv",
    lambda x, w, b, v: (lambda parts: mb.concat(values=[parts[0], conv(parts[1], v)], axis=1))(
        mb.split(x=conv(x, w, b), num_splits=2, axis=1)
    ),
    lambda x, w, b, v: (lambda y: torch.cat([y[:, :3], convolved(y[:, 3:], v)], 1))(convolved(x, w, b)),
    consts=WEIGHT | {"v": normal(3, 3, 3, 3, scale=0.3)},
)
graph(
    "conv-reshape-linear",
    lambda x, w, b, v: mb.linear(x=mb.reshape(x=conv(x, w, b), shape=[1, -1]), weight=v),
    lambda x, w, b, v: convolved(x, w, b).reshape(1, -1) @ v.T,
    consts=WEIGHT | {"v": normal(4, 432, scale=0.05)},
    note="the order of the elements is channels first, whatever the convolution left",
)
graph(
    "conv-tokens",
    lambda x, w, b: mb.layer_norm(
        x=mb.transpose(x=mb.reshape(x=conv(x, w, b), shape=[1, 6, 72]), perm=[0, 2, 1]), axes=[-1]
    ),
    lambda x, w, b: F.layer_norm(convolved(x, w, b).flatten(2).transpose(1, 2), (6,)),
    note="how a vision transformer begins",
)
graph(
    "tokens-conv",
    lambda x, w, b: conv(mb.reshape(x=mb.transpose(x=x, perm=[0, 2, 1]), shape=[1, 6, 4, 5]), w, b),
    lambda x, w, b: convolved(x.transpose(1, 2).reshape(1, 6, 4, 5), w, b),
    inputs={"x": real(1, 20, 6)},
)
graph(
    "transpose-conv-transpose",
    lambda x, w, b: mb.transpose(x=conv(mb.transpose(x=x, perm=[0, 3, 1, 2]), w, b), perm=[0, 2, 3, 1]),
    lambda x, w, b: convolved(x.permute(0, 3, 1, 2), w, b).permute(0, 2, 3, 1),
    inputs={"x": real(1, 9, 8, 6)},
)
graph(
    "transposes-cancel",
    lambda x, w, b: mb.exp(x=mb.transpose(x=mb.transpose(x=conv(x, w, b), perm=[0, 2, 3, 1]), perm=[0, 3, 1, 2])),
    lambda x, w, b: torch.exp(convolved(x, w, b)),
)
graph(
    "transposes-do-not-cancel",
    lambda x, w, b: mb.transpose(x=mb.transpose(x=conv(x, w, b), perm=[0, 2, 3, 1]), perm=[0, 2, 3, 1]),
    lambda x, w, b: convolved(x, w, b).permute(0, 3, 1, 2),
)
graph(
    "conv-softmax-channels",
    lambda x, w, b: mb.softmax(x=conv(x, w, b), axis=1),
    lambda x, w, b: torch.softmax(convolved(x, w, b), 1),
)
graph(
    "conv-argmax-channels",
    lambda x, w, b: mb.reduce_argmax(x=conv(x, w, b), axis=1),
    lambda x, w, b: convolved(x, w, b).argmax(1),
)
graph(
    "conv-reduce-channels",
    lambda x, w, b: mb.reduce_mean(x=conv(x, w, b), axes=[1], keep_dims=True),
    lambda x, w, b: convolved(x, w, b).mean(1, keepdim=True),
)
graph(
    "conv-slice-flip",
    lambda x, w, b: mb.reverse(
        x=mb.slice_by_index(x=conv(x, w, b), begin=[0, 1, 2, 0], end=[1, 5, 9, 8], stride=[1, 2, 1, 3]), axes=[1, 3]
    ),
    lambda x, w, b: convolved(x, w, b)[:, 1:5:2, 2:9, 0:8:3].flip(1, 3),
)
graph(
    "conv-upsample-skip",
    lambda x, w, b, v: conv(
        mb.concat(
            values=[
                mb.upsample_nearest_neighbor(
                    x=mb.max_pool(x=conv(x, w, b), kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid"),
                    scale_factor_height=2,
                    scale_factor_width=2,
                ),
                x,
            ],
            axis=1,
        ),
        v,
    ),
    lambda x, w, b, v: convolved(
        torch.cat([F.interpolate(F.max_pool2d(convolved(x, w, b), 2), scale_factor=2), x], 1), v
    ),
    inputs={"x": real(1, 6, 8, 10)},
    consts=WEIGHT | {"v": normal(3, 12, 1, 1, scale=0.3)},
    note="a small U-Net",
)
graph(
    "shuffle-channels",
    lambda x, w, b: mb.reshape(
        x=mb.transpose(x=mb.reshape(x=conv(x, w, b), shape=[1, 2, 3, 9, 8]), perm=[0, 2, 1, 3, 4]), shape=[1, 6, 9, 8]
    ),
    lambda x, w, b: convolved(x, w, b).reshape(1, 2, 3, 9, 8).transpose(1, 2).reshape(1, 6, 9, 8),
)
graph(
    "batch-of-three",
    lambda x, w, b: mb.relu(x=conv(x, w, b)),
    lambda x, w, b: F.relu(convolved(x, w, b)),
    inputs={"x": real(3, 6, 5, 4)},
)
graph(
    "instance_norm-between",
    lambda x, w, b: conv(mb.relu(x=mb.instance_norm(x=conv(x, w, b))), w),
    lambda x, w, b: convolved(F.relu(F.instance_norm(convolved(x, w, b))), w),
)

# ---- linear layers
TOKENS = {"x": real(1, 7, 12)}
graph(
    "matmul-add-bias",
    lambda x, w, b: mb.add(x=mb.matmul(x=x, y=w), y=b),
    lambda x, w, b: x @ w + b,
    TOKENS,
    {"w": normal(12, 10, scale=0.3), "b": normal(10)},
)
graph(
    "linear-relu",
    lambda x, w, b: mb.relu(x=mb.linear(x=x, weight=w, bias=b)),
    lambda x, w, b: F.relu(F.linear(x, w, b)),
    TOKENS,
    {"w": normal(10, 12, scale=0.3), "b": normal(10)},
)
graph(
    "linear-scale",
    lambda x, w, b, s: mb.mul(x=mb.linear(x=x, weight=w, bias=b), y=s),
    lambda x, w, b, s: F.linear(x, w, b) * s,
    TOKENS,
    {"w": normal(10, 12, scale=0.3), "b": normal(10), "s": normal(10)},
)


def self_attention(x, q, k, v, o, s):
    def heads(y):
        return mb.transpose(x=mb.reshape(x=y, shape=[1, 7, 3, 4]), perm=[0, 2, 1, 3])

    a, b, c = (heads(mb.linear(x=x, weight=m)) for m in (q, k, v))
    mixed = mb.matmul(x=mb.softmax(x=mb.matmul(x=mb.mul(x=a, y=s), y=b, transpose_y=True)), y=c)
    return mb.add(
        x=mb.linear(x=mb.reshape(x=mb.transpose(x=mixed, perm=[0, 2, 1, 3]), shape=[1, 7, 12]), weight=o), y=x
    )


def self_attention_reference(x, q, k, v, o, s):
    a, b, c = (F.linear(x, m).reshape(1, 7, 3, 4).transpose(1, 2) for m in (q, k, v))
    return F.linear((torch.softmax(a * s @ b.transpose(2, 3), -1) @ c).transpose(1, 2).reshape(1, 7, 12), o) + x


graph(
    "self-attention",
    self_attention,
    self_attention_reference,
    TOKENS,
    {n: normal(12, 12, scale=0.3) for n in "qkvo"} | {"s": 0.5},
)
graph(
    "swiglu",
    lambda x, g, u, d: mb.linear(x=mb.mul(x=mb.silu(x=mb.linear(x=x, weight=g)), y=mb.linear(x=x, weight=u)), weight=d),
    lambda x, g, u, d: F.linear(F.silu(F.linear(x, g)) * F.linear(x, u), d),
    TOKENS,
    {"g": normal(20, 12, scale=0.3), "u": normal(20, 12, scale=0.3), "d": normal(12, 20, scale=0.2)},
    note="the feed-forward block of a language model",
)


def rotary(x, c, s):
    first, second = mb.split(x=x, num_splits=2, axis=-1)
    turned = mb.concat(values=[mb.mul(x=second, y=like(x, -1)), first], axis=-1)
    return mb.add(x=mb.mul(x=x, y=c), y=mb.mul(x=turned, y=s))


graph(
    "rotary-embedding",
    rotary,
    lambda x, c, s: x * c + torch.cat([-x[..., 4:], x[..., :4]], -1) * s,
    {"x": real(1, 3, 5, 8)},
    {"c": real(5, 8, lo=-1, hi=1), "s": real(5, 8, lo=-1, hi=1)},
)

# ---- constants computed from constants, and chains an engine may shorten
graph(
    "constant-arithmetic",
    lambda x, a, b: mb.add(x=x, y=mb.mul(x=mb.add(x=a, y=b), y=mb.exp(x=a))),
    lambda x, a, b: x + (a + b) * torch.exp(a),
    {"x": real(2, 6)},
    {"a": normal(6), "b": normal(6)},
)
graph(
    "constant-weight-transposed",
    lambda x, w: mb.matmul(x=x, y=mb.transpose(x=w, perm=[1, 0])),
    lambda x, w: x @ w.T,
    {"x": real(3, 12)},
    {"w": normal(5, 12)},
)
graph(
    "reshape-chain",
    lambda x: mb.reshape(
        x=mb.squeeze(x=mb.expand_dims(x=mb.reshape(x=x, shape=[4, 6]), axes=[1]), axes=[1]), shape=[2, 12]
    ),
    lambda x: x.reshape(2, 12),
    {"x": real(2, 3, 4)},
    {},
)
graph(
    "elementwise-chain",
    lambda x, a, b: mb.maximum(x=mb.sub(x=mb.mul(x=mb.tanh(x=mb.add(x=x, y=a)), y=b), y=x), y=mb.sigmoid(x=x)),
    lambda x, a, b: torch.maximum(torch.tanh(x + a) * b - x, torch.sigmoid(x)),
    {"x": real(2, 3, 40)},
    {"a": normal(40), "b": normal(3, 1)},
)
graph(
    "in-place-trap",
    lambda x: (lambda y: mb.sub(x=mb.exp(x=y), y=mb.mul(x=y, y=y)))(mb.abs(x=x)),
    lambda x: torch.exp(x.abs()) - x.abs() ** 2,
    {"x": real(5, 7)},
    {},
    note="y is read three times",
)
graph(
    "same-operand-twice",
    lambda x, w, b: mb.mul(x=conv(x, w, b), y=conv(x, w, b)),
    lambda x, w, b: convolved(x, w, b) ** 2,
    note="two equal computations",
)
graph(
    "casts-in-the-middle",
    lambda x, w, b: conv(
        mb.cast(x=mb.cast(x=mb.relu(x=x), dtype="fp16"), dtype=types.builtin_to_string(x.dtype)), w, b
    ),
    lambda x, w, b: convolved(F.relu(x).half().double(), w, b),
    note="a cast to f16 rounds, also between two f32 operations",
)
graph(
    "division-by-constant-zero-free",
    lambda x, c: mb.real_div(x=x, y=c),
    lambda x, c: x / c,
    {"x": real(3, 7)},
    {"c": given([3.0, 7.0, 0.1, 11.0, 13.0, 1e-3, 17.0], "fp32")},
)


# ---- empty tensors and shapes known only at run time
def picked(x):
    """The elements above a half, however many there are."""
    return mb.gather_nd(x=x, indices=mb.non_zero(x=mb.greater(x=x, y=np.float32(0.5))))


case(
    "graph/empty-none-picked",
    picked,
    lambda x: x[x > 0.5],
    {"x": given(np.full((2, 3), 0.25), "fp32")},
    note="no element: shape (0,)",
)
case(
    "graph/empty-some-picked",
    picked,
    lambda x: x[x > 0.5],
    {"x": real(4, 5)},
    note="how many elements come out depends on the data",
)
case(
    "graph/empty-sum",
    lambda x: mb.reduce_sum(x=mb.exp(x=picked(x)), axes=[0], keep_dims=True),
    lambda x: np.exp(x[x > 0.5]).sum(0, keepdims=True),
    {"x": given(np.full((2, 3), 0.25), "fp32")},
    note="the sum of nothing is zero",
)
case(
    "graph/empty-concat",
    lambda x: mb.concat(values=[picked(x), mb.reshape(x=x, shape=[6])], axis=0),
    lambda x: np.concatenate([x[x > 0.5], x.reshape(6)]),
    {"x": given(np.full((2, 3), 0.25), "fp32")},
)
case(
    "graph/count-above",
    lambda x: mb.gather(x=mb.shape(x=mb.non_zero(x=mb.greater(x=x, y=np.float32(0.5)))), indices=np.int32(0), axis=0),
    lambda x: np.asarray((x > 0.5).sum()),
    {"x": real(4, 5)},
    note="rank 0",
)
case(
    "graph/data-dependent-slice",
    lambda x, n: mb.reduce_sum(x=mb.slice_by_size(x=x, begin=np.array([0], np.int32), size=n), axes=[0]),
    lambda x, n: x[:3].sum(0),
    {"x": real(7), "n": given([3])},
    note="rank 0",
)
case(
    "graph/mask-from-lengths",
    lambda x, n: mb.select(
        cond=mb.less(
            x=mb.range_1d(start=np.int32(0), end=np.int32(6), step=np.int32(1)), y=mb.expand_dims(x=n, axes=[1])
        ),
        a=x,
        b=mb.fill_like(ref_tensor=x, value=np.float32(-1e4)),
    ),
    lambda x, n: np.where(np.arange(6) < n[:, None], x, np.float32(-1e4)),
    {"x": real(3, 6), "n": integers(3, lo=0, hi=7)},
    opset=16,
)
