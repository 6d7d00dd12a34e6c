"""Convolutions and transposed convolutions in one, two and three dimensions. Reference: torch, padded by hand."""

import math

import torch
import torch.nn.functional as F
from coremltools.converters.mil.mil import Builder as mb

from .case import case, integers, normal, real, torch_reference

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def same_pads(size, kernel, stride, dilation, lower):
    """Padding before and after one dimension so that ceil(size / stride) results come out."""
    total = max(0, (math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size)
    small, large = total // 2, total - total // 2
    return (large, small) if lower else (small, large)


def pads(x, kernel, pad_type, pad, strides, dilations):
    """Padding of every spatial dimension, as (before, after) pairs."""
    count = len(kernel)
    if pad_type == "custom":
        return [(pad[2 * i], pad[2 * i + 1]) for i in range(count)]
    if pad_type == "valid":
        return [(0, 0)] * count
    return [
        same_pads(x.shape[2 + i], kernel[i], strides[i], dilations[i], pad_type == "same_lower") for i in range(count)
    ]


def conv(what, x, w, bias=True, opset=15, both=False, **p):
    """Adds a convolution case; `x` and `w` are shapes, `p` the parameters that are given."""

    def program(x, w, b=None, **_):
        return mb.conv(x=x, weight=w, bias=b, **p)

    def reference(x, w, b=None):
        count = x.dim() - 2
        strides, dilations = p.get("strides", [1] * count), p.get("dilations", [1] * count)
        sides = pads(x, w.shape[2:], p.get("pad_type", "valid"), p.get("pad"), strides, dilations)
        flat = [v for pair in reversed(sides) for v in pair]
        return CONV[count](F.pad(x, flat), w, b, strides, 0, dilations, p.get("groups", 1))

    scale = 1 / math.sqrt(math.prod(w[1:]))
    consts = {"w": normal(*w, scale=scale)} | ({"b": normal(w[0])} if bias else {})
    extra = {k: p.pop(k) for k in ("bare", "note", "literal", "wide", "half") if k in p}
    case(
        f"conv/conv-{what}",
        program,
        torch_reference(reference),
        {"x": real(*x)},
        consts,
        opset=opset,
        both=both,
        **extra,
    )


X2 = (2, 4, 9, 11)
conv("1x1", X2, (6, 4, 1, 1), both=True)
conv("1x1-large", (1, 32, 13, 7), (48, 32, 1, 1), both=True)
conv("3x3-valid", X2, (6, 4, 3, 3), pad_type="valid", both=True)
conv("3x3-no-bias", X2, (6, 4, 3, 3), bias=False)
conv("3x3-defaults", X2, (6, 4, 3, 3), bare=True, note="every optional parameter is absent")
conv("3x3-literal", X2, (6, 4, 3, 3), pad_type="custom", pad=[1, 1, 1, 1], literal=True)
conv("3x3-custom", X2, (6, 4, 3, 3), pad_type="custom", pad=[1, 1, 1, 1], both=True)
conv("3x3-asymmetric-pad", X2, (6, 4, 3, 3), pad_type="custom", pad=[0, 2, 1, 0])
conv("3x3-same", X2, (6, 4, 3, 3), pad_type="same")
conv("3x3-same-stride2", (1, 3, 8, 7), (5, 3, 3, 3), pad_type="same", strides=[2, 2], both=True)
conv("2x2-same", X2, (6, 4, 2, 2), pad_type="same", note="the smaller half of odd padding comes first")
conv(
    "2x2-same-lower",
    X2,
    (6, 4, 2, 2),
    pad_type="same_lower",
    opset=16,
    note="the larger half of odd padding comes first",
)
conv("4x3-same-lower-stride", (1, 3, 10, 9), (5, 3, 4, 3), pad_type="same_lower", strides=[3, 2], opset=16)
conv(
    "same-ignores-pad",
    X2,
    (6, 4, 3, 3),
    pad_type="same",
    pad=[5, 5, 5, 5],
    note="pad is used only with pad_type custom",
)
conv(
    "valid-ignores-pad",
    X2,
    (6, 4, 3, 3),
    pad_type="valid",
    pad=[5, 5, 5, 5],
    note="pad is used only with pad_type custom",
)
conv("stride", X2, (6, 4, 3, 3), strides=[2, 3], pad_type="custom", pad=[1, 1, 1, 1], both=True)
conv("stride-larger-than-kernel", X2, (6, 4, 1, 2), strides=[3, 4])
conv("dilation", X2, (6, 4, 3, 3), dilations=[2, 3], pad_type="custom", pad=[2, 2, 3, 3], both=True)
conv("dilation-same", X2, (6, 4, 3, 2), dilations=[3, 2], pad_type="same")
conv("non-square", X2, (6, 4, 1, 5), pad_type="custom", pad=[0, 0, 2, 2])
conv("7x7-stride4", (1, 3, 23, 20), (8, 3, 7, 7), pad_type="custom", pad=[3, 3, 3, 3], strides=[4, 4])
conv("groups", (1, 6, 7, 8), (9, 2, 3, 3), groups=3, pad_type="custom", pad=[1, 1, 1, 1], both=True)
conv("groups-1x1", (1, 8, 5, 5), (12, 2, 1, 1), groups=4)
conv("depthwise-3x3", (2, 7, 9, 8), (7, 1, 3, 3), groups=7, pad_type="custom", pad=[1, 1, 1, 1], both=True)
conv(
    "depthwise-3x3-stride2",
    (1, 16, 15, 14),
    (16, 1, 3, 3),
    groups=16,
    pad_type="custom",
    pad=[1, 1, 1, 1],
    strides=[2, 2],
    both=True,
)
conv("depthwise-7x7", (1, 9, 13, 12), (9, 1, 7, 7), groups=9, pad_type="custom", pad=[3, 3, 3, 3])
conv("depthwise-5x3-dilated", (1, 5, 14, 12), (5, 1, 5, 3), groups=5, dilations=[2, 1], pad_type="same")
conv("depthwise-multiplier", (1, 4, 6, 7), (12, 1, 3, 3), groups=4, pad_type="same")
conv("whole-image", (2, 4, 5, 6), (3, 4, 5, 6), note="the kernel is as large as the image")
conv("one-pixel", (3, 5, 1, 1), (4, 5, 1, 1))
conv("one-channel", (1, 1, 8, 9), (1, 1, 3, 3), pad_type="same")
conv("wide-channels", (1, 40, 6, 5), (70, 40, 3, 3), pad_type="same", both=True)
conv("ios17", X2, (6, 4, 3, 3), pad_type="same", opset=17, both=True)
conv(
    "ios17-f32-weights",
    X2,
    (6, 4, 3, 3),
    pad_type="same",
    opset=17,
    half=True,
    wide=("w", "b"),
    note="an f16 image with f32 weights, allowed from iOS 17",
)
conv("1d", (2, 4, 13), (6, 4, 3), pad_type="custom", pad=[1, 1], both=True)
conv("1d-causal-dilated", (1, 4, 17), (5, 4, 2), dilations=[4], pad_type="custom", pad=[4, 0])
conv("1d-stride-same", (2, 3, 14), (5, 3, 4), strides=[3], pad_type="same")
conv("1d-depthwise", (2, 6, 11), (6, 1, 5), groups=6, pad_type="custom", pad=[2, 2])
conv("1d-pointwise", (1, 8, 9), (5, 8, 1))
conv("3d", (1, 3, 5, 6, 7), (4, 3, 3, 3, 3), pad_type="custom", pad=[1, 1, 1, 1, 1, 1], both=True)
conv("3d-stride-dilation", (2, 2, 7, 8, 6), (3, 2, 2, 3, 2), strides=[2, 1, 2], dilations=[1, 2, 1], pad_type="valid")
conv("3d-same-groups", (1, 4, 4, 5, 6), (6, 2, 3, 2, 1), groups=2, pad_type="same")
conv("3d-depthwise", (1, 3, 4, 5, 6), (3, 1, 3, 3, 3), groups=3, pad_type="custom", pad=[1, 1, 1, 1, 1, 1])

case(
    "conv/conv-runtime-weight",
    lambda x, w: mb.conv(x=x, weight=w, pad_type="custom", pad=[1, 1, 1, 1]),
    torch_reference(lambda x, w: F.conv2d(x, w, padding=1)),
    {"x": real(1, 4, 6, 7), "w": normal(5, 4, 3, 3, scale=0.3)},
    note="the weights are an input, not a constant",
)
case(
    "conv/conv-runtime-weight-1d",
    lambda x, w: mb.conv(x=x, weight=w, groups=2),
    torch_reference(lambda x, w: F.conv1d(x, w, groups=2)),
    {"x": real(2, 4, 9), "w": normal(6, 2, 3, scale=0.3)},
)
case(
    "conv/conv-relu-add",
    lambda x, w, b: mb.relu(x=mb.add(x=mb.conv(x=x, weight=w, bias=b, pad_type="same"), y=x)),
    torch_reference(lambda x, w, b: F.relu(F.conv2d(x, w, b, padding=1) + x)),
    {"x": real(1, 8, 7, 6)},
    {"w": normal(8, 8, 3, 3, scale=0.12), "b": normal(8)},
    both=True,
    note="a residual block: what an optimiser fuses",
)
case(
    "conv/conv-batch_norm-clip",
    lambda x, w, m, v, g, b: mb.clip(
        x=mb.batch_norm(
            x=mb.conv(x=x, weight=w, strides=[2, 2]), mean=m, variance=v, gamma=g, beta=b, epsilon=g.dtype.type(1e-3)
        ),
        alpha=g.dtype.type(0),
        beta=g.dtype.type(6),
    ),
    torch_reference(
        lambda x, w, m, v, g, b: torch.clamp(F.batch_norm(F.conv2d(x, w, stride=2), m, v, g, b, eps=1e-3), 0, 6)
    ),
    {"x": real(1, 4, 9, 9)},
    {"w": normal(6, 4, 3, 3, scale=0.2), "m": normal(6), "v": real(6, lo=0.5, hi=2.0), "g": normal(6), "b": normal(6)},
)
case(
    "conv/conv-gelu-conv",
    lambda x, w, v: mb.conv(x=mb.gelu(x=mb.conv(x=x, weight=w, groups=6, pad_type="same")), weight=v),
    torch_reference(lambda x, w, v: F.conv2d(F.gelu(F.conv2d(x, w, padding=2, groups=6)), v)),
    {"x": real(1, 6, 8, 8)},
    {"w": normal(6, 1, 5, 5, scale=0.2), "v": normal(10, 6, 1, 1, scale=0.4)},
    both=True,
)
case(
    "conv/conv-squeeze-excite",
    lambda x, w, v: mb.mul(
        x=x,
        y=mb.sigmoid(
            x=mb.conv(x=mb.relu(x=mb.conv(x=mb.reduce_mean(x=x, axes=[2, 3], keep_dims=True), weight=w)), weight=v)
        ),
    ),
    torch_reference(lambda x, w, v: x * torch.sigmoid(F.conv2d(F.relu(F.conv2d(x.mean((2, 3), keepdim=True), w)), v))),
    {"x": real(2, 8, 5, 6)},
    {"w": normal(3, 8, 1, 1), "v": normal(8, 3, 1, 1)},
    both=True,
)
case(
    "conv/conv_quantized",
    lambda x, w, s, q: mb.conv_quantized(
        x=x, weight=w, quantization_type="linear", nbits=8, quant_scale=s, quant_bias=q, pad_type="same"
    ),
    torch_reference(
        lambda x, w, s, q: F.conv2d(x, w.double() * s.reshape(-1, 1, 1, 1) + q.reshape(-1, 1, 1, 1), padding=1)
    ),
    {"x": real(1, 3, 6, 5)},
    {
        "w": integers(4, 3, 3, 3, lo=0, hi=256, inner="uint8"),
        "s": real(4, lo=0.002, hi=0.01),
        "q": real(4, lo=-1, hi=0),
    },
    uncheckable="not known to the interpreter",
    note="weight * scale + bias for each output channel; documented, never emitted by converters",
)


def conv_transpose(what, x, w, bias=True, opset=15, both=False, output_shape=None, **p):
    """Adds a transposed convolution; the weight's shape is [in, out / groups, kernel...]."""

    def program(x, w, b=None):
        return mb.conv_transpose(x=x, weight=w, bias=b, output_shape=output_shape, **p)

    def reference(x, w, b=None):
        count = x.dim() - 2
        strides, dilations = p.get("strides", [1] * count), p.get("dilations", [1] * count)
        y = TRANSPOSED[count](x, w, None, strides, 0, 0, p.get("groups", 1), dilations)
        for i in range(count):
            full, kind = y.shape[2 + i], p.get("pad_type", "valid")
            before = after = 0
            if kind == "custom":
                before, after = p["pad"][2 * i], p["pad"][2 * i + 1]
            elif kind == "same":
                extra = max(0, full - x.shape[2 + i] * strides[i])
                before, after = extra // 2, extra - extra // 2
            y = y.narrow(2 + i, before, full - before - after)
        return y if b is None else y + b.reshape([1, -1] + [1] * count)

    scale = 1 / math.sqrt(w[0] * math.prod(w[2:]))
    consts = {"w": normal(*w, scale=scale)} | ({"b": normal(w[1] * p.get("groups", 1))} if bias else {})
    extra = {k: p.pop(k) for k in ("bare", "note", "wide", "half") if k in p}
    case(
        f"conv/conv_transpose-{what}",
        program,
        torch_reference(reference),
        {"x": real(*x)},
        consts,
        opset=opset,
        both=both,
        **extra,
    )


conv_transpose("2x2-stride2", (2, 4, 5, 6), (4, 3, 2, 2), strides=[2, 2], both=True)
conv_transpose("3x3-defaults", (1, 4, 5, 6), (4, 3, 3, 3), bare=True)
conv_transpose("3x3-no-bias", (1, 4, 5, 6), (4, 3, 3, 3), bias=False)
conv_transpose(
    "4x4-stride2-custom", (1, 4, 5, 6), (4, 3, 4, 4), strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1], both=True
)
conv_transpose("asymmetric-pad", (1, 4, 5, 6), (4, 3, 4, 3), strides=[2, 3], pad_type="custom", pad=[1, 2, 0, 1])
conv_transpose("same", (1, 4, 5, 6), (4, 3, 3, 3), strides=[2, 2], pad_type="same")
conv_transpose("same-4x5-stride1", (1, 4, 5, 6), (4, 3, 4, 5), pad_type="same")
conv_transpose("dilation", (1, 2, 5, 4), (2, 3, 3, 2), strides=[2, 1], dilations=[2, 3])
conv_transpose(
    "groups", (1, 6, 4, 5), (6, 2, 3, 3), groups=3, strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1], both=True
)
conv_transpose("depthwise", (1, 5, 4, 5), (5, 1, 4, 4), groups=5, strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1])
conv_transpose(
    "output-shape",
    (1, 4, 5, 6),
    (4, 3, 3, 3),
    strides=[2, 2],
    pad_type="custom",
    pad=[1, 1, 1, 1],
    output_shape=[1, 3, 9, 11],
    note="the shape is the one that follows anyway: coremltools always writes it",
)
case(
    "conv/conv_transpose-output-shape-larger",
    lambda x, w, b: mb.conv_transpose(
        x=x, weight=w, bias=b, strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1], output_shape=[1, 2, 8, 10]
    ),
    torch_reference(lambda x, w, b: F.conv_transpose2d(x, w, b, stride=2, padding=1, output_padding=1)),
    {"x": real(1, 3, 4, 5)},
    {"w": normal(3, 2, 3, 3), "b": normal(2)},
    note="a row and a column more than the formula says: torch's output padding",
)
conv_transpose("1d", (2, 4, 7), (4, 3, 3), strides=[2], both=True)
conv_transpose("1d-custom-groups", (1, 4, 7), (4, 2, 5), strides=[3], groups=2, pad_type="custom", pad=[1, 2])
conv_transpose("3d", (1, 3, 3, 4, 2), (3, 2, 2, 3, 2), strides=[2, 1, 2], pad_type="custom", pad=[0, 0, 1, 1, 0, 0])
conv_transpose("ios17", (1, 4, 5, 6), (4, 3, 3, 3), strides=[2, 2], opset=17, both=True)
conv_transpose("ios17-f32-weights", (1, 4, 5, 6), (4, 3, 3, 3), strides=[2, 2], opset=17, half=True, wide=("w", "b"))
case(
    "conv/conv_transpose-crop",
    lambda x, w: mb.crop(x=mb.conv_transpose(x=x, weight=w, strides=[2, 2]), crop_height=[1, 0], crop_width=[1, 0]),
    torch_reference(lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=1, output_padding=1)),
    {"x": real(1, 3, 4, 5)},
    {"w": normal(3, 2, 3, 3)},
    note="how torch's output padding is written",
)
