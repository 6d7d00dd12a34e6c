"""Quantised and compressed constants, and the operations that quantise at run time. Reference: the formulas in numpy.

Scales are short binary fractions, so that a decompressed number is the same in f16 and in f32 and nothing depends on
where an engine rounds; the one case with arbitrary scales says so. Most cases add the decompressed tensor to an input,
so that a result shows every element; some use it as the weights of a convolution, a linear layer or a table.
"""

import numpy as np
import torch
import torch.nn.functional as F
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import types

from .case import boolean, case, given, integers, normal, real, torch_reference

X = {"x": real(1)}
BITS = (1, 2, 3, 4, 6, 8)


def short(*shape):
    """Scales with at most two significant bits."""
    return given(np.resize(np.array([1, 3, 2, 1, 6, 3, 4]) / 64, shape) if shape else 3 / 64, "fp32")


def table(*shape):
    """Table entries: eighths."""
    return given(
        np.random.default_rng(int(np.prod(shape))).permutation(int(np.prod(shape))).reshape(shape) / 8 - 2, "fp32"
    )


def narrow(array, bits, signed=False):
    """An array in a type of so few bits, as the builder knows it."""
    return array.astype(types.nptype_from_builtin(getattr(types, f"{'int' if signed else 'uint'}{bits}")))


def packed(indices, bits):
    """A stream of `bits` wide numbers, lowest bit first."""
    return np.packbits((indices.reshape(-1, 1) >> np.arange(bits)) & 1, bitorder="little")


def blocks(small, shape):
    """Every entry repeated over the block it stands for."""
    for axis, (have, want) in enumerate(zip(small.shape, shape)):
        small = np.repeat(small, want // have, axis)
    return small


# ---- iOS 16: parameters are attributes
for dtype, low, high in (("int8", -128, 128), ("uint8", 0, 256)):
    data = {"q": integers(4, 6, lo=low, hi=high, inner=dtype)}
    case(
        f"compression/constexpr_affine_dequantize-{dtype}-scalar",
        lambda x, q, s, z: mb.add(
            x=mb.constexpr_affine_dequantize(quantized_data=q, zero_point=z, scale=s, axis=np.int32(0)), y=x
        ),
        lambda x, q, s, z: (q.astype(float) - float(z)) * s + x,
        X,
        data | {"s": short(), "z": given(5, dtype)},
        opset=16,
        both=True,
    )
    case(
        f"compression/constexpr_affine_dequantize-{dtype}-axis0",
        lambda x, q, s, z: mb.add(
            x=mb.constexpr_affine_dequantize(quantized_data=q, zero_point=z, scale=s, axis=np.int32(0)), y=x
        ),
        lambda x, q, s, z: (q.astype(float) - z[:, None]) * s[:, None] + x,
        X,
        data | {"s": short(4), "z": given([1, 0, 3, 7], dtype)},
        opset=16,
        both=True,
    )
case(
    "compression/constexpr_affine_dequantize-axis-last",
    lambda x, q, s, z: mb.add(
        x=mb.constexpr_affine_dequantize(quantized_data=q, zero_point=z, scale=s, axis=np.int32(-1)), y=x
    ),
    lambda x, q, s, z: (q.astype(float) - float(z)) * s + x,
    X,
    {"q": integers(2, 3, 6, lo=-128, hi=128, inner="int8"), "s": short(6), "z": given(-3, "int8")},
    opset=16,
)
case(
    "compression/constexpr_affine_dequantize-any-scale-f16",
    lambda x, q, s, z: mb.add(
        x=mb.constexpr_affine_dequantize(quantized_data=q, zero_point=z, scale=s, axis=np.int32(0)), y=x
    ),
    lambda x, q, s, z: ((q.astype(float) - float(z)) * s).astype(np.float16) + x,
    X,
    {"q": integers(4, 6, lo=-128, hi=128, inner="int8"), "s": 0.0123, "z": given(0, "int8")},
    opset=16,
    half=True,
    rtol=1e-3,
    note="the decompressed number is f16; an engine that leaves it in f32 is within this bound too",
)
CONV = {"x": real(1, 3, 6, 7)}
case(
    "compression/constexpr_affine_dequantize-conv",
    lambda x, q, s, z: mb.conv(
        x=x,
        weight=mb.constexpr_affine_dequantize(quantized_data=q, zero_point=z, scale=s, axis=np.int32(0)),
        pad_type="same",
    ),
    torch_reference(
        lambda x, q, s, z: F.conv2d(x, (q.double() - z.reshape(-1, 1, 1, 1)) * s.reshape(-1, 1, 1, 1), padding=1)
    ),
    CONV,
    {"q": integers(5, 3, 3, 3, lo=-128, hi=128, inner="int8"), "s": short(5), "z": given([0, 1, -2, 3, 0], "int8")},
    opset=16,
    both=True,
)
case(
    "compression/constexpr_affine_dequantize-linear",
    lambda x, q, s, z, b: mb.linear(
        x=x, weight=mb.constexpr_affine_dequantize(quantized_data=q, zero_point=z, scale=s, axis=np.int32(0)), bias=b
    ),
    lambda x, q, s, z, b: x @ ((q.astype(float) - z[:, None]) * s[:, None]).T + b,
    {"x": real(3, 33)},
    {
        "q": integers(7, 33, lo=0, hi=256, inner="uint8"),
        "s": short(7),
        "z": given(np.full(7, 128), "uint8"),
        "b": normal(7),
    },
    opset=16,
    both=True,
)
case(
    "compression/constexpr_cast-ios16",
    lambda x, w: mb.add(x=mb.constexpr_cast(source_val=w, output_dtype="fp32"), y=x),
    lambda x, w: w + x,
    X,
    {"w": given([[0.1, 1e-7, -65504.0], [3.0, -0.0, 1 / 3]], "fp16")},
    opset=16,
)
case(
    "compression/constexpr_cast-ios18",
    lambda x, w: mb.add(x=mb.constexpr_cast(source_val=w, output_dtype="fp32"), y=x),
    lambda x, w: w + x,
    X,
    {"w": given([[0.1, 1e-7, -65504.0], [3.0, -0.0, 1 / 3]], "fp16")},
    opset=18,
)
for bits in (1, 2, 4, 6, 8):
    case(
        f"compression/constexpr_lut_to_dense-ios16-{bits}bit",
        lambda x, i, t, bits=bits: mb.add(
            x=mb.constexpr_lut_to_dense(indices=packed(i, bits), lut=t, shape=np.array([3, 5], np.uint32)), y=x
        ),
        lambda x, i, t: t[i] + x,
        X,
        {"i": integers(3, 5, lo=0, hi=2**bits, inner="uint8"), "t": table(2**bits)},
        opset=16,
        both=bits in (4, 6),
    )
case(
    "compression/constexpr_lut_to_dense-ios16-conv",
    lambda x, i, t: mb.conv(
        x=x,
        weight=mb.constexpr_lut_to_dense(indices=packed(i, 2), lut=t, shape=np.array([4, 3, 3, 3], np.uint32)),
        pad_type="same",
    ),
    torch_reference(lambda x, i, t: F.conv2d(x, t[i.long()], padding=1)),
    CONV,
    {"i": integers(4, 3, 3, 3, lo=0, hi=4, inner="uint8"), "t": table(4)},
    opset=16,
    both=True,
)
case(
    "compression/constexpr_sparse_to_dense-ios16",
    lambda x, m, v: mb.add(
        x=mb.constexpr_sparse_to_dense(
            nonzero_data=v[: int(m.sum())], mask=packed(m.astype(np.uint8), 1), shape=np.array([3, 7], np.uint32)
        ),
        y=x,
    ),
    lambda x, m, v: sparse(m, v) + x,
    X,
    {"m": boolean(3, 7), "v": normal(21)},
    opset=16,
    both=True,
)


def sparse(mask, values):
    """The values laid out over the places where the mask is set."""
    y = np.zeros(mask.shape)
    y[mask] = values[: int(mask.sum())]
    return y


# ---- iOS 18: parameters are inputs, and sub-byte types
KINDS = {
    "int4": (4, True, -8, 8),
    "uint4": (4, False, 0, 16),
    "int8": (8, True, -128, 128),
    "uint8": (8, False, 0, 256),
}
for kind, (bits, signed, low, high) in KINDS.items():
    for offset in (False, True):

        def program(x, q, s, o=None, bits=bits, signed=signed):
            extra = {} if o is None else {"offset": narrow(o, bits, signed)}
            return mb.add(x=mb.constexpr_blockwise_shift_scale(data=narrow(q, bits, signed), scale=s, **extra), y=x)

        def reference(x, q, s, o=None):
            shift = 0 if o is None else blocks(o.astype(float), q.shape)
            return (q.astype(float) - shift) * blocks(s, q.shape) + x

        inner = "int8" if signed else "uint8"
        consts = {"q": integers(4, 6, lo=low, hi=high, inner=inner), "s": short(2, 3)} | (
            {"o": integers(2, 3, lo=0, hi=4, inner=inner)} if offset else {}
        )
        case(
            f"compression/constexpr_blockwise_shift_scale-{kind}{'-offset' * offset}",
            program,
            reference,
            X,
            consts,
            opset=18,
            both=offset,
        )
case(
    "compression/constexpr_blockwise_shift_scale-per-channel",
    lambda x, q, s: mb.add(x=mb.constexpr_blockwise_shift_scale(data=narrow(q, 4, True), scale=s), y=x),
    lambda x, q, s: q * s + x,
    X,
    {"q": integers(5, 7, lo=-8, hi=8, inner="int8"), "s": short(5, 1)},
    opset=18,
    note="an odd number of 4 bit elements",
)
case(
    "compression/constexpr_blockwise_shift_scale-float-offset",
    lambda x, q, s, o: mb.add(x=mb.constexpr_blockwise_shift_scale(data=narrow(q, 4), scale=s, offset=o), y=x),
    lambda x, q, s, o: (q - blocks(o, q.shape)) * blocks(s, q.shape) + x,
    X,
    {
        "q": integers(4, 6, lo=0, hi=16, inner="uint8"),
        "s": short(4, 2),
        "o": given(np.arange(8).reshape(4, 2) / 2, "fp32"),
    },
    opset=18,
)
case(
    "compression/constexpr_blockwise_shift_scale-linear",
    lambda x, q, s: mb.linear(x=x, weight=mb.constexpr_blockwise_shift_scale(data=narrow(q, 4, True), scale=s)),
    lambda x, q, s: x @ (q * blocks(s, q.shape)).T,
    {"x": real(3, 64)},
    {"q": integers(9, 64, lo=-8, hi=8, inner="int8"), "s": short(9, 2)},
    opset=18,
    both=True,
    note="blocks of 32, as large language models have them",
)
case(
    "compression/constexpr_blockwise_shift_scale-conv",
    lambda x, q, s: mb.conv(x=x, weight=mb.constexpr_blockwise_shift_scale(data=q, scale=s), pad_type="same"),
    torch_reference(lambda x, q, s: F.conv2d(x, q.double() * s, padding=1)),
    CONV,
    {"q": integers(4, 3, 3, 3, lo=-128, hi=128, inner="int8"), "s": short(4, 1, 1, 1)},
    opset=18,
    both=True,
)
case(
    "compression/constexpr_blockwise_shift_scale-embedding",
    lambda i, q, s: mb.gather(x=mb.constexpr_blockwise_shift_scale(data=narrow(q, 4), scale=s), indices=i, axis=0),
    lambda i, q, s: (q * blocks(s, q.shape))[i],
    {"i": integers(2, 3, lo=0, hi=12)},
    {"q": integers(12, 8, lo=0, hi=16, inner="uint8"), "s": short(12, 1)},
    opset=18,
    both=True,
)


def looked_up(i, t, axis=None):
    """Entries of the table of each block; vectors are laid out along `axis`."""
    length = t.shape[-1]
    spread = blocks(t, (*i.shape, *t.shape[-2:]))
    y = np.take_along_axis(spread, i.astype(int)[..., None, None], -2)[..., 0, :]
    if length == 1:
        return y[..., 0]
    shape = [n * length if a == axis % i.ndim else n for a, n in enumerate(i.shape)]
    return np.moveaxis(y, -1, axis % i.ndim + 1).reshape(shape)


for bits in BITS:
    case(
        f"compression/constexpr_lut_to_dense-ios18-{bits}bit",
        lambda x, i, t, bits=bits: mb.add(x=mb.constexpr_lut_to_dense(indices=narrow(i, bits), lut=t), y=x),
        lambda x, i, t: looked_up(i, t) + x,
        X,
        {"i": integers(3, 5, lo=0, hi=2**bits, inner="uint8"), "t": table(1, 1, 2**bits, 1)},
        opset=18,
        both=bits in (3, 6),
    )
case(
    "compression/constexpr_lut_to_dense-ios18-grouped",
    lambda x, i, t: mb.add(x=mb.constexpr_lut_to_dense(indices=narrow(i, 2), lut=t), y=x),
    lambda x, i, t: looked_up(i, t) + x,
    X,
    {"i": integers(6, 4, lo=0, hi=4, inner="uint8"), "t": table(3, 2, 4, 1)},
    opset=18,
    both=True,
    note="a table for every block of 2 by 2",
)
for axis in (0, 1, -1):
    case(
        f"compression/constexpr_lut_to_dense-ios18-vectors-axis{axis}",
        lambda x, i, t, axis=axis: mb.add(
            x=mb.constexpr_lut_to_dense(indices=narrow(i, 2), lut=t, vector_axis=np.int32(axis)), y=x
        ),
        lambda x, i, t, axis=axis: looked_up(i, t, axis) + x,
        X,
        {"i": integers(3, 4, lo=0, hi=4, inner="uint8"), "t": table(1, 1, 4, 3)},
        opset=18,
    )
case(
    "compression/constexpr_lut_to_dense-ios18-grouped-vectors",
    lambda x, i, t: mb.add(x=mb.constexpr_lut_to_dense(indices=narrow(i, 3), lut=t, vector_axis=np.int32(0)), y=x),
    lambda x, i, t: looked_up(i, t, 0) + x,
    X,
    {"i": integers(4, 5, lo=0, hi=8, inner="uint8"), "t": table(2, 1, 8, 2)},
    opset=18,
)
case(
    "compression/constexpr_sparse_to_dense-ios18",
    lambda x, m, v: mb.add(
        x=mb.constexpr_sparse_to_dense(nonzero_data=v[: int(m.sum())], mask=narrow(m.astype(np.uint8), 1)), y=x
    ),
    lambda x, m, v: sparse(m, v) + x,
    X,
    {"m": boolean(3, 7), "v": normal(21)},
    opset=18,
    both=True,
)
# chains
case(
    "compression/chain-int8-table",
    lambda x, i, t, s: mb.add(
        x=mb.constexpr_lut_to_dense(indices=narrow(i, 4), lut=mb.constexpr_blockwise_shift_scale(data=t, scale=s)), y=x
    ),
    lambda x, i, t, s: looked_up(i, t * s) + x,
    X,
    {
        "i": integers(4, 6, lo=0, hi=16, inner="uint8"),
        "t": integers(1, 1, 16, 1, lo=-128, hi=128, inner="int8"),
        "s": short(1, 1, 1, 1),
    },
    opset=18,
    both=True,
    note="the table itself is quantised",
)
case(
    "compression/chain-scaled-table",
    lambda x, i, t, s: mb.add(
        x=mb.constexpr_blockwise_shift_scale(data=mb.constexpr_lut_to_dense(indices=narrow(i, 2), lut=t), scale=s), y=x
    ),
    lambda x, i, t, s: looked_up(i, t) * s + x,
    X,
    {"i": integers(4, 6, lo=0, hi=4, inner="uint8"), "t": table(1, 1, 4, 1), "s": short(4, 1)},
    opset=18,
    note="a scale for each channel after the table",
)


def sparse_table(x, m, i, t):
    mask, values = mb.constexpr_lut_to_sparse(
        indices_mask=narrow(m.astype(np.uint8), 1), indices_nonzero_data=narrow(i[: int(m.sum())], 2), lut=t
    )
    return mb.add(x=mb.constexpr_sparse_to_dense(nonzero_data=values, mask=mask), y=x)


case(
    "compression/chain-lut_to_sparse",
    sparse_table,
    lambda x, m, i, t: np.where(m, t.reshape(-1)[sparse(m, i).astype(int)], 0) + x,
    X,
    {"m": boolean(4, 6), "i": integers(24, lo=0, hi=4, inner="uint8"), "t": table(1, 1, 4, 1)},
    opset=18,
    both=True,
)


def sparse_vectors(x, m, i, t):
    mask, values = mb.constexpr_lut_to_sparse(
        indices_mask=narrow(m.astype(np.uint8), 1),
        indices_nonzero_data=narrow(i[: int(m.sum())], 2),
        lut=t,
        vector_axis=np.int32(1),
    )
    return mb.add(x=mb.constexpr_sparse_to_dense(nonzero_data=values, mask=mask), y=x)


case(
    "compression/chain-lut_to_sparse-vectors",
    sparse_vectors,
    lambda x, m, i, t: np.where(np.repeat(m, 2, 1), looked_up(sparse(m, i).astype(int), t, 1), 0) + x,
    X,
    {"m": boolean(4, 6), "i": integers(24, lo=0, hi=4, inner="uint8"), "t": table(1, 1, 4, 2)},
    opset=18,
)


def sparse_scaled(x, m, q, s, o=None):
    extra = {} if o is None else {"offset": o}
    mask, values = mb.constexpr_sparse_blockwise_shift_scale(
        data_mask=narrow(m.astype(np.uint8), 1), nonzero_data=q[: int(m.sum())], scale=s, **extra
    )
    return mb.add(x=mb.constexpr_sparse_to_dense(nonzero_data=values, mask=mask), y=x)


for offset in (False, True):
    case(
        f"compression/chain-sparse_blockwise_shift_scale{'-offset' * offset}",
        sparse_scaled,
        lambda x, m, q, s, o=None: (
            np.where(m, (sparse(m, q) - (0 if o is None else blocks(o.astype(float), m.shape))) * blocks(s, m.shape), 0)
            + x
        ),
        X,
        {"m": boolean(4, 6), "q": integers(24, lo=-128, hi=128, inner="int8"), "s": short(4, 2)}
        | ({"o": integers(4, 2, lo=0, hi=4, inner="int8")} if offset else {}),
        opset=18,
        both=not offset,
    )

# ---- at run time
for dtype, low, high in (("int8", -128, 127), ("uint8", 0, 255)):
    case(
        f"compression/quantize-{dtype}",
        lambda x, s, z, dtype=dtype: mb.quantize(input=x, zero_point=z, scale=s, output_dtype=dtype),
        lambda x, s, z, low=low, high=high: np.clip(np.rint(x / s) + int(z), low, high).astype(np.int32),
        {"x": real(3, 9, lo=-9, hi=9)},
        {"s": 0.0625, "z": given(10, dtype)},
        opset=17,
        both=True,
    )
    case(
        f"compression/quantize-{dtype}-axis",
        lambda x, s, z, dtype=dtype: mb.quantize(input=x, zero_point=z, scale=s, axis=1, output_dtype=dtype),
        lambda x, s, z, low=low, high=high: np.clip(np.rint(x / s[:, None]) + z.astype(int)[:, None], low, high).astype(
            np.int32
        ),
        {"x": real(2, 3, 4, lo=-4, hi=4)},
        {"s": short(3), "z": given([0, 3, 7], dtype)},
        opset=17,
    )
    case(
        f"compression/dequantize-{dtype}",
        lambda q, s, z: mb.dequantize(input=q, zero_point=z, scale=s),
        lambda q, s, z: (q.astype(float) - float(z)) * s,
        {"q": integers(3, 9, lo=low, hi=high + 1, inner=dtype)},
        {"s": 0.0625, "z": given(10, dtype)},
        opset=17,
    )
    case(
        f"compression/dequantize-{dtype}-axis",
        lambda q, s, z: mb.dequantize(input=q, zero_point=z, scale=s, axis=-1),
        lambda q, s, z: (q.astype(float) - z.astype(float)) * s,
        {"q": integers(2, 4, 3, lo=low, hi=high + 1, inner=dtype)},
        {"s": short(3), "z": given([0, 3, 7], dtype)},
        opset=17,
    )
case(
    "compression/quantize-no-zero-point-ties",
    lambda x, s: mb.quantize(input=x, scale=s, output_dtype="int8"),
    lambda x, s: np.clip(np.rint(x / s), -128, 127).astype(np.int32),
    {"x": given([0.25, 0.75, 1.25, -0.25, -0.75, 1e6, -1e6, 63.75], "fp32")},
    {"s": 0.5},
    opset=17,
    note="halves go to even; what is out of range saturates",
)
case(
    "compression/quantize-dequantize-conv",
    lambda x, s, q, w: mb.relu(
        x=mb.conv(
            x=mb.dequantize(input=mb.quantize(input=x, scale=s, output_dtype="int8"), scale=s),
            weight=mb.constexpr_affine_dequantize(quantized_data=q, zero_point=np.int8(0), scale=w, axis=np.int32(0)),
            pad_type="same",
        )
    ),
    torch_reference(
        lambda x, s, q, w: F.relu(
            F.conv2d(
                torch.clamp(torch.round(x / float(s)), -128, 127) * float(s),
                q.double() * w.reshape(-1, 1, 1, 1),
                padding=1,
            )
        )
    ),
    CONV,
    {"s": 0.03125, "q": integers(4, 3, 3, 3, lo=-128, hi=128, inner="int8"), "w": short(4)},
    opset=17,
    both=True,
    note="activations and weights of 8 bits",
)
