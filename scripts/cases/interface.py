"""What surrounds a program: feature types, images, classifiers, flexible shapes, optional inputs, functions, weights.

Descriptions that the builder would not write by itself are set on the finished model, as converters set them.
"""

import coremltools as ct
import numpy as np
import torch
import torch.nn.functional as F
from coremltools.converters.mil.mil import Builder as mb
from coremltools.proto import FeatureTypes_pb2

from .case import Draw, case, given, integers, normal, real, torch_reference
from .compression import looked_up, narrow, packed, short, table

COLOURS = FeatureTypes_pb2.ImageFeatureType.ColorSpace
LAYOUTS = {"RGB": 3, "BGR": 3, "GRAYSCALE": 1, "GRAYSCALE_FLOAT16": 1}


def feature(features, name):
    return next(f for f in features if f.name == name)


# ---- feature types
case(
    "interface/f16-features",
    lambda x, w: mb.linear(x=x, weight=w),
    lambda x, w: x @ w.T,
    {"x": real(3, 8)},
    {"w": normal(5, 8)},
    opset=16,
    half=True,
    features={"x": "fp16"},
    raw_outputs=True,
    rtol=1e-3,
    note="f16 goes in and out; the bound is the rounding of the result",
)
case(
    "interface/f16-in-f32-out",
    lambda x: mb.exp(x=x),
    lambda x: np.exp(x),
    {"x": real(3, 8)},
    opset=16,
    half=True,
    features={"x": "fp16"},
)
case(
    "interface/f16-out-overflow",
    lambda x: mb.mul(x=x, y=x),
    lambda x: x * x,
    {"x": given([2.0, 250.0, -300.0, 1e-4], "fp32")},
    opset=16,
    half=True,
    raw_outputs=True,
    rtol=1e-3,
    atol=0.0,
    note="a result beyond f16 is infinite in an f16 feature",
    disagrees=True,
)
case(
    "interface/int32-features",
    lambda x, y: mb.add(x=x, y=y),
    lambda x, y: x + y,
    {"x": integers(2, 3), "y": integers(3)},
)
case(
    "interface/int8-features",
    lambda x: (mb.reverse(x=x, axes=[1]), mb.cast(x=x, dtype="fp32")),
    lambda x: (np.flip(x, 1), x.astype(float)),
    {"x": integers(2, 3, lo=-128, hi=128, inner="int8")},
    opset=26,
    features={"x": "int8"},
    raw_outputs=True,
    outputs=["y", "wide"],
    result_types={"y": np.int8, "wide": np.float32},
    note="8 bit features, from iOS 26",
)
case(
    "interface/one-number",
    lambda x: mb.reduce_sum(x=x),
    lambda x: x.sum(),
    {"x": real(1)},
    note="scalars travel as arrays of one element",
)
case(
    "interface/several-inputs-and-outputs",
    lambda a, b, c: (mb.add(x=a, y=b), mb.mul(x=b, y=c), mb.sub(x=c, y=a)),
    lambda a, b, c: (a + b, b * c, c - a),
    {n: real(2, 3) for n in "abc"},
    outputs=["sum", "product", "difference"],
)
case(
    "interface/unused-input", lambda x, y: mb.relu(x=x), lambda x, y: np.maximum(x, 0), {"x": real(2, 3), "y": real(4)}
)
case(
    "interface/input-is-output",
    lambda x: (x, mb.relu(x=x)),
    lambda x: (x, np.maximum(x, 0)),
    {"x": real(2, 3)},
    outputs=["x", "y"],
    note="an input is an output as it is",
)
case(
    "interface/constant-output",
    lambda x, c: (mb.add(x=x, y=c), mb.const(val=c, name="constant")),
    lambda x, c: (x + c, c),
    {"x": real(2, 3)},
    {"c": real(2, 3)},
    outputs=["y", "constant"],
    note="a constant is an output as it is",
)
case(
    "interface/intermediate-output",
    lambda x: (lambda h: (h, mb.exp(x=h)))(mb.relu(x=x)),
    lambda x: (np.maximum(x, 0), np.exp(np.maximum(x, 0))),
    {"x": real(2, 3)},
    outputs=["hidden", "y"],
    note="an output is also an operand",
)
case(
    "interface/dead-code",
    lambda x: (mb.exp(x=x), mb.relu(x=x))[1],
    lambda x: np.maximum(x, 0),
    {"x": real(2, 3)},
    note="an operation nobody reads",
)
case(
    "interface/literal-everything",
    lambda x, w, b: mb.relu(x=mb.conv(x=x, weight=w, bias=b, strides=[2, 1], pad_type="custom", pad=[1, 1, 0, 0])),
    torch_reference(lambda x, w, b: F.relu(F.conv2d(F.pad(x, (0, 0, 1, 1)), w, b, stride=(2, 1)))),
    {"x": real(1, 3, 6, 5)},
    {"w": normal(4, 3, 3, 3), "b": normal(4)},
    literal=True,
    note="weights too are bound as values",
)


# ---- images
def as_image(colour, kind, name="image", height=5, width=4):
    """Turns a feature of the finished model into an image."""

    def edit(model):
        image = feature(getattr(model.description, kind), name).type.imageType
        image.width, image.height, image.colorSpace = width, height, COLOURS.Value(colour)

    return edit


def pixels(colour):
    """uint8 pixels, height x width x RGB or height x width, from planes as the program has them."""

    def convert(planes):
        whole = np.clip(np.rint(np.asarray(planes, np.float64)[0]), 0, 255).astype(np.uint8)
        if colour.startswith("GRAY"):
            return whole[0]
        return np.ascontiguousarray((whole[::-1] if colour == "BGR" else whole).transpose(1, 2, 0))

    return convert


def picture(channels):
    return Draw(lambda rng: rng.integers(0, 256, (1, channels, 5, 4)).astype(np.float32), "fp32")


for colour, channels in LAYOUTS.items():
    name = colour.lower().replace("_", "-")
    gray16 = colour == "GRAYSCALE_FLOAT16"
    extra = {"features": {"image": "fp16"}, "half": True, "opset": 16} if gray16 else {"opset": 15}
    case(
        f"interface/image-in-{name}",
        lambda image, s, b: mb.add(x=mb.mul(x=image, y=s), y=b),
        lambda image, s, b: image * s + b,
        {"image": picture(channels)},
        {"s": given(np.array([0.5, 1.0, 2.0][:channels]).reshape(1, -1, 1, 1), "fp32"), "b": -3.0},
        images={"image": pixels(colour)},
        edit=as_image(colour, "input"),
        note="planes in the order blue, green, red" if colour == "BGR" else "",
        **extra,
    )
    case(
        f"interface/image-out-{name}",
        lambda x, s: mb.mul(x=x, y=s),
        lambda x, s: x * s,
        {"x": Draw(lambda rng, n=channels: (rng.integers(-60, 310, (1, n, 5, 4)) + 0.25).astype(np.float32), "fp32")},
        {"s": 1.0},
        outputs=["image"],
        edit=as_image(colour, "output"),
        image_outputs={"image": (lambda planes: np.asarray(planes[0, 0], np.float16)) if gray16 else pixels(colour)},
        note="numbers beyond 0..255 are clamped, the others rounded to the nearest"
        if not gray16
        else "half precision grey is not rounded to whole numbers",
        **({"half": True, "opset": 16, "raw_outputs": True} if gray16 else {"opset": 15}),
    )
case(
    "interface/image-scale-bias",
    lambda image, s, b, w: mb.conv(x=mb.add(x=mb.mul(x=image, y=s), y=b), weight=w, pad_type="same"),
    torch_reference(lambda image, s, b, w: F.conv2d(image * float(s) + b, w, padding=1)),
    {"image": picture(3)},
    {"s": 1 / 255, "b": given(np.array([-0.485, -0.456, -0.406]).reshape(1, 3, 1, 1), "fp32"), "w": normal(4, 3, 3, 3)},
    images={"image": pixels("RGB")},
    edit=as_image("RGB", "input"),
    note="preprocessing as converters write it; padding is zero after scale and bias, not before",
)


def both_images(model):
    as_image("RGB", "input")(model)
    as_image("BGR", "output", "negative")(model)


case(
    "interface/image-in-and-out",
    lambda image: mb.sub(x=np.float32(255), y=mb.reverse(x=image, axes=[1])),
    lambda image: 255 - image[:, ::-1],
    {"image": picture(3)},
    outputs=["negative"],
    images={"image": pixels("RGB")},
    image_outputs={"negative": pixels("BGR")},
    edit=both_images,
)


def flexible_image(model):
    image = feature(model.description.input, "image").type.imageType
    image.width, image.height, image.colorSpace = 4, 5, COLOURS.Value("RGB")
    for side, upper in ((image.imageSizeRange.widthRange, 16), (image.imageSizeRange.heightRange, -1)):
        side.lowerBound, side.upperBound = 2, upper


def flexible(shape):
    return Draw(lambda rng: rng.integers(0, 256, shape).astype(np.float32), "fp32", (1, 3, None, None))


case(
    "interface/image-flexible",
    lambda image: mb.reduce_mean(x=image, axes=[2, 3], keep_dims=False),
    lambda image: image.mean((2, 3)),
    {"image": flexible((1, 3, 5, 4))},
    images={"image": pixels("RGB")},
    alt={"image": flexible((1, 3, 9, 16))},
    edit=flexible_image,
)


# ---- classifiers
def classifier(what, labels, program, reference, inputs, consts=None, **options):
    def named(**arguments):
        probabilities = np.asarray(reference(**arguments)).astype(np.float32).astype(np.float64)
        return labels[int(probabilities.argmax())], probabilities.reshape(-1)

    case(
        f"interface/classifier-{what}",
        program,
        named,
        inputs,
        consts,
        load={"classifier_config": ct.ClassifierConfig(labels, **options.pop("config", {}))},
        stored=["classLabel", "probabilities"],
        **options,
    )


LOGITS = {"x": real(2, 3), "w": normal(4, 3)}
NAMES = ["cat", "dog", 'größe, "quoted"', "snake \U0001f40d"]
SOFTMAX = torch_reference(lambda x, w: torch.softmax(x @ w.T, -1))
for what, labels in {"strings": NAMES, "integers": [7, -1, 2**40, 0]}.items():
    classifier(
        what,
        labels,
        lambda x, w: mb.softmax(x=mb.linear(x=x, weight=w)),
        SOFTMAX,
        {"x": real(1, 3)},
        {"w": normal(4, 3)},
        source="torch",
    )
classifier(
    "named-features",
    NAMES,
    lambda x, w: mb.softmax(x=mb.linear(x=x, weight=w)),
    SOFTMAX,
    {"x": real(1, 3)},
    {"w": normal(4, 3)},
    config={"predicted_feature_name": "kind"},
    source="torch",
)
classifier(
    "f16",
    NAMES,
    lambda x, w: mb.softmax(x=mb.linear(x=x, weight=w)),
    SOFTMAX,
    {"x": real(1, 3)},
    {"w": normal(4, 3)},
    half=True,
    source="torch",
)
classifier(
    "logits",
    NAMES,
    lambda x, w: mb.linear(x=x, weight=w),
    lambda x, w: x @ w.T,
    {"x": real(1, 3)},
    {"w": normal(4, 3)},
    note="nothing makes probabilities of logits: they come out as they are",
)
classifier(
    "rank1",
    NAMES,
    lambda x: mb.softmax(x=x, axis=0),
    torch_reference(lambda x: torch.softmax(x, 0)),
    {"x": real(4)},
    source="torch",
)
classifier(
    "tie",
    NAMES,
    lambda x: mb.identity(x=x),
    lambda x: x,
    {"x": given([[0.1, 0.4, 0.4, 0.1]], "fp32")},
    note="of equals the first is the label; Core ML leaves this open",
)


def two_heads(x, w):
    hidden = mb.tanh(x=mb.linear(x=x, weight=w), name="embedding")
    return mb.softmax(x=hidden), hidden


case(
    "interface/classifier-extra-output",
    two_heads,
    lambda x, w: (lambda h: (lambda p: (NAMES[int(p.argmax())], p.reshape(-1), h))(np.exp(h) / np.exp(h).sum()))(
        np.tanh(x @ w.T)
    ),
    {"x": real(1, 3)},
    {"w": normal(4, 3)},
    outputs=["p", "embedding"],
    stored=["classLabel", "probabilities", "embedding"],
    load={"classifier_config": ct.ClassifierConfig(NAMES, predicted_probabilities_output="p")},
    note="another output beside label and probabilities",
)


# ---- flexible shapes
def ranged(default, *bounds, name="x"):
    def edit(model):
        array = feature(model.description.input, name).type.multiArrayType
        array.ClearField("shape")
        array.shape.extend(default)
        array.ClearField("shapeRange")
        for low, high in bounds:
            size = array.shapeRange.sizeRanges.add()
            size.lowerBound, size.upperBound = low, high

    return edit


def enumerated(*shapes, name="x"):
    def edit(model):
        array = feature(model.description.input, name).type.multiArrayType
        array.ClearField("shape")
        array.shape.extend(shapes[0])
        array.ClearField("shapeRange")
        for shape in shapes:
            array.enumeratedShapes.shapes.add().shape.extend(shape)

    return edit


case(
    "interface/range-batch",
    lambda x, w, b: mb.relu(x=mb.linear(x=x, weight=w, bias=b)),
    lambda x, w, b: np.maximum(x @ w.T + b, 0),
    {"x": real(2, 6, dims=(None, 6))},
    {"w": normal(4, 6), "b": normal(4)},
    alt={"x": real(5, 6)},
    edit=ranged((2, 6), (1, 8), (6, 6)),
)
case(
    "interface/range-unbounded",
    lambda x: mb.cumsum(x=x, axis=1),
    lambda x: np.cumsum(x, 1),
    {"x": real(1, 5, dims=(1, None))},
    alt={"x": real(1, 40)},
    edit=ranged((1, 5), (1, 1), (1, -1)),
    note="no upper bound",
)
case(
    "interface/range-conv",
    lambda x, w: mb.max_pool(
        x=mb.conv(x=x, weight=w, pad_type="same", strides=[2, 2]), kernel_sizes=[2, 2], strides=[1, 1], pad_type="valid"
    ),
    torch_reference(
        lambda x, w: F.max_pool2d(
            F.conv2d(F.pad(x, [0, 1, 0, 1] if x.shape[2] % 2 == 0 else [1, 1, 1, 1]), w, stride=2), 2, 1
        )
    ),
    {"x": real(1, 3, 8, 8, dims=(1, 3, None, None))},
    {"w": normal(4, 3, 3, 3)},
    alt={"x": real(1, 3, 11, 13)},
    edit=ranged((1, 3, 8, 8), (1, 1), (3, 3), (4, 32), (4, 32)),
)


def flatten_batch(x):
    size = mb.gather(x=mb.shape(x=x), indices=np.int32(0), axis=0)
    shape = mb.concat(values=[mb.expand_dims(x=size, axes=[0]), np.array([-1], np.int32)], axis=0)
    return mb.reshape(x=x, shape=shape)


case(
    "interface/range-shape-arithmetic",
    flatten_batch,
    lambda x: x.reshape(len(x), -1),
    {"x": real(2, 3, 4, dims=(None, 3, None))},
    alt={"x": real(5, 3, 2)},
    edit=ranged((2, 3, 4), (1, 9), (3, 3), (1, 9)),
)
case(
    "interface/range-attention",
    lambda x, s: mb.matmul(x=mb.softmax(x=mb.matmul(x=mb.mul(x=x, y=s), y=x, transpose_y=True)), y=x),
    torch_reference(lambda x, s: torch.softmax((x * s) @ x.transpose(1, 2), -1) @ x),
    {"x": real(1, 4, 8, dims=(1, None, 8))},
    {"s": 8**-0.5},
    both=True,
    alt={"x": real(1, 11, 8)},
    edit=ranged((1, 4, 8), (1, 1), (1, 64), (8, 8)),
)
case(
    "interface/enumerated",
    lambda x: mb.reduce_mean(x=mb.square(x=x), axes=[2, 3], keep_dims=False),
    lambda x: np.square(x).mean((2, 3)),
    {"x": real(1, 2, 4, 4, dims=(1, 2, None, None))},
    alt={"x": real(1, 2, 6, 3)},
    edit=enumerated((1, 2, 4, 4), (1, 2, 6, 3), (1, 2, 8, 8)),
)


# ---- optional inputs
def optional(name, value=None):
    def edit(model):
        described = feature(model.description.input, name)
        described.type.isOptional = True
        if value is not None:
            described.type.multiArrayType.floatDefaultValue = value

    return edit


case(
    "interface/optional-default",
    lambda x, y: mb.add(x=x, y=y),
    lambda x, y: x + y,
    {"x": real(2, 3), "y": given(np.full((2, 3), 1.5), "fp32")},
    opset=17,
    absent=["y"],
    edit=optional("y", 1.5),
    note="y is not passed: it is 1.5 everywhere",
)
case(
    "interface/optional-without-default",
    lambda x, y: mb.add(x=x, y=y),
    lambda x, y: x + y,
    {"x": real(2, 3), "y": given(np.zeros((2, 3)), "fp32")},
    opset=17,
    absent=["y"],
    edit=optional("y"),
    note="y is not passed: it is zero",
)
case(
    "interface/optional-passed",
    lambda x, y: mb.add(x=x, y=y),
    lambda x, y: x + y,
    {"x": real(2, 3), "y": real(2, 3)},
    opset=17,
    edit=optional("y", 1.5),
    note="y is passed: the default is not used",
)

# ---- packages: weights in weight.bin
case(
    "package/f32",
    lambda x, w, b: mb.conv(x=x, weight=w, bias=b, pad_type="same"),
    torch_reference(lambda x, w, b: F.conv2d(x, w, b, padding=1)),
    {"x": real(1, 3, 5, 6)},
    {"w": normal(12, 3, 3, 3), "b": normal(12)},
    package=True,
)
case(
    "package/f16",
    lambda x, w, b: mb.linear(x=x, weight=w, bias=b),
    lambda x, w, b: x @ w.T + b,
    {"x": real(3, 9)},
    {"w": normal(11, 9), "b": normal(11)},
    half=True,
    package=True,
)
for dtype, low, high in (("int8", -128, 128), ("uint8", 0, 256)):
    case(
        f"package/{dtype}-ios16",
        lambda x, q, s, z: mb.linear(
            x=x, weight=mb.constexpr_affine_dequantize(quantized_data=q, zero_point=z, scale=s, axis=np.int32(0))
        ),
        lambda x, q, s, z: x @ ((q.astype(float) - z.astype(float)[:, None]) * s[:, None]).T,
        {"x": real(3, 9)},
        {
            "q": integers(11, 9, lo=low, hi=high, inner=dtype),
            "s": short(11),
            "z": integers(11, lo=0, hi=4, inner=dtype),
        },
        opset=16,
        half=True,
        package=True,
    )
for kind, bits, signed in (("int4", 4, True), ("uint4", 4, False), ("int8", 8, True)):
    case(
        f"package/{kind}-blocks",
        lambda x, q, s, b=bits, g=signed: mb.linear(
            x=x, weight=mb.constexpr_blockwise_shift_scale(data=narrow(q, b, g), scale=s)
        ),
        lambda x, q, s: x @ (q * np.repeat(s, 16, 1)).T,
        {"x": real(3, 32)},
        {"q": integers(7, 32, lo=-8 if signed else 0, hi=8, inner="int8" if signed else "uint8"), "s": short(7, 2)},
        opset=18,
        half=True,
        package=True,
    )
for bits in (1, 2, 3, 4, 6, 8):
    case(
        f"package/table-{bits}bit",
        lambda x, i, t, b=bits: mb.add(x=mb.constexpr_lut_to_dense(indices=narrow(i, b), lut=t), y=x),
        lambda x, i, t: looked_up(i, t) + x,
        {"x": real(1)},
        {"i": integers(5, 7, lo=0, hi=2**bits, inner="uint8"), "t": table(1, 1, 2**bits, 1)},
        opset=18,
        half=True,
        package=True,
    )
case(
    "package/table-4bit-ios16",
    lambda x, i, t: mb.add(
        x=mb.constexpr_lut_to_dense(indices=packed(i, 4), lut=t, shape=np.array([5, 7], np.uint32)), y=x
    ),
    lambda x, i, t: t[i] + x,
    {"x": real(1)},
    {"i": integers(5, 7, lo=0, hi=16, inner="uint8"), "t": table(16)},
    opset=16,
    half=True,
    package=True,
)
case(
    "package/int32-table",
    lambda i, t: mb.gather(x=t, indices=i, axis=0),
    lambda i, t: t[i],
    {"i": integers(4, lo=0, hi=12)},
    {"t": integers(12, 3, lo=-(2**31), hi=2**31)},
    opset=18,
    package=True,
    note="int32 constants are blobs from iOS 18",
)


def shared(value):
    """A constant that all functions of a model share: one blob, several references."""
    variable = mb.const(val=value, name="shared_weight")
    variable.op.weight_id = "shared"
    return variable


FUNCTIONS = {
    "project": (lambda x, w, v: mb.linear(x=x, weight=shared(w)), lambda x, w, v: x @ w.T),
    "adapted": (
        lambda x, w, v: mb.add(x=mb.linear(x=x, weight=shared(w)), y=mb.linear(x=x, weight=v)),
        lambda x, w, v: x @ w.T + x @ v.T,
    ),
    "activated": (lambda x, w, v: mb.relu(x=mb.linear(x=x, weight=shared(w))), lambda x, w, v: np.maximum(x @ w.T, 0)),
}
case(
    "package/functions",
    {n: p for n, (p, _) in FUNCTIONS.items()},
    {n: r for n, (_, r) in FUNCTIONS.items()},
    {"x": real(2, 12)},
    {"w": normal(6, 12), "v": normal(6, 12)},
    opset=18,
    half=True,
    package=True,
    functions=list(FUNCTIONS),
    note="three functions on one set of weights; the first is the default",
)


def describe_twice(model):
    """Describes the only output a second time, and returns it twice: what converters make of `return y, y`."""
    model.description.output.add().CopyFrom(model.description.output[0])
    for function in model.mlProgram.functions.values():
        block = function.block_specializations[function.opset]
        block.outputs.append(block.outputs[0])


case(
    "interface/output-described-twice",
    lambda x: mb.relu(x=x),
    lambda x: np.maximum(x, 0),
    {"x": real(2, 3)},
    edit=describe_twice,
    note="one value under one name is one output",
)
