"""Resizing and sampling images. Reference: torch for what torch has, else the sampling grids in numpy."""

import numpy as np
import torch
import torch.nn.functional as F
from coremltools.converters.mil.mil import Builder as mb

from .case import case, given, real, torch_reference

X = {"x": real(2, 3, 5, 4)}

# ---- torch's own
for h, w in ((2, 3), (1, 2), (3, 1)):
    case(
        f"image/upsample_nearest_neighbor-{h}x{w}",
        lambda x, h=h, w=w: mb.upsample_nearest_neighbor(x=x, scale_factor_height=h, scale_factor_width=w),
        torch_reference(lambda x, h=h, w=w: F.interpolate(x, scale_factor=(h, w), mode="nearest")),
        X,
        both=h == 2,
    )
case(
    "image/upsample_nearest_neighbor-fractional",
    lambda x: mb.upsample_nearest_neighbor(
        x=x, scale_factor_height=np.float32(1.6), scale_factor_width=np.float32(2.5)
    ),
    torch_reference(lambda x: F.interpolate(x, size=(8, 10), mode="nearest")),
    X,
)
case(
    "image/resize_nearest_neighbor-up",
    lambda x: mb.resize_nearest_neighbor(x=x, target_size_height=11, target_size_width=7),
    torch_reference(lambda x: F.interpolate(x, size=(11, 7), mode="nearest")),
    X,
    both=True,
)
case(
    "image/resize_nearest_neighbor-down",
    lambda x: mb.resize_nearest_neighbor(x=x, target_size_height=3, target_size_width=2),
    torch_reference(lambda x: F.interpolate(x, size=(3, 2), mode="nearest")),
    X,
)
for corners in (True, False):
    name = "corners" if corners else "half-pixel"
    for what, scale, size in (("2x3", (2, 3), (10, 12)), ("integer-4", (4, 4), (20, 16))):
        case(
            f"image/upsample_bilinear-{name}-{what}",
            lambda x, s=scale, c=corners: mb.upsample_bilinear(
                x=x, scale_factor_height=s[0], scale_factor_width=s[1], align_corners=c
            ),
            torch_reference(
                lambda x, size=size, c=corners: F.interpolate(x, size=size, mode="bilinear", align_corners=c)
            ),
            X,
            opset=15 if corners else 16,
            both=what == "2x3",
        )
    case(
        f"image/upsample_bilinear-{name}-fractional",
        lambda x, c=corners: mb.upsample_bilinear(
            x=x, scale_factor_height=np.float32(11.0001 / 5), scale_factor_width=np.float32(7.0001 / 4), align_corners=c
        ),
        torch_reference(lambda x, c=corners: F.interpolate(x, size=(11, 7), mode="bilinear", align_corners=c)),
        X,
        opset=16,
        note="converters write (size + 0.0001) / size: the grid follows from the whole size that comes out",
    )
    case(
        f"image/upsample_bilinear-{name}-down",
        lambda x, c=corners: mb.upsample_bilinear(
            x=x, scale_factor_height=np.float32(0.60002), scale_factor_width=np.float32(0.50003), align_corners=c
        ),
        torch_reference(lambda x, c=corners: F.interpolate(x, size=(3, 2), mode="bilinear", align_corners=c)),
        X,
        opset=16,
    )
case(
    "image/upsample_bilinear-defaults",
    lambda x: mb.upsample_bilinear(x=x, scale_factor_height=2, scale_factor_width=2),
    torch_reference(lambda x: F.interpolate(x, size=(10, 8), mode="bilinear", align_corners=True)),
    X,
    bare=True,
)


# ---- grids
def grid(n, m, mode):
    """Where the `m` samples of `n` pixels lie."""
    i = np.arange(m)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if m == 1:
            return np.full(1, (n - 1) / 2 if mode == "ALIGN_CORNERS" else 0.0)
        return i * (n - 1) / (m - 1)
    if mode == "DEFAULT":
        return i * n / m
    if mode == "OFFSET_CORNERS":
        step = max(1, n - 1) / m
        return step / 2 + i * step
    return (i + 0.5) * n / m - 0.5


def along(x, axis, places):
    """Linear interpolation along one axis at `places`, clamped to the ends."""
    n = x.shape[axis]
    places = np.clip(places, 0, n - 1)
    low = np.floor(places).astype(int)
    weight = (places - low).reshape([-1 if a == axis % x.ndim else 1 for a in range(x.ndim)])
    return np.take(x, low, axis) * (1 - weight) + np.take(x, np.minimum(low + 1, n - 1), axis) * weight


def bilinear(x, h, w, mode):
    return along(along(x, -2, grid(x.shape[-2], h, mode)), -1, grid(x.shape[-1], w, mode))


MODES = ("DEFAULT", "STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "UNALIGN_CORNERS", "OFFSET_CORNERS")
case(
    "image/upsample_bilinear-neither-ios16",
    lambda x: mb.upsample_bilinear(
        x=x, scale_factor_height=2, scale_factor_width=3, align_corners=False, half_pixel_centers=False
    ),
    lambda x: bilinear(x, 10, 12, "DEFAULT"),
    X,
    opset=16,
    note="neither corners nor pixel centres: sample i lies at i * n / m",
)
for mode in MODES:
    short = mode.lower().replace("_", "-")
    for what, h, w in (("up", 9, 7), ("down", 3, 2), ("one", 1, 6)):
        if mode == "UNALIGN_CORNERS" or what != "one" or mode != "OFFSET_CORNERS":
            case(
                f"image/resize_bilinear-{short}-{what}",
                lambda x, h=h, w=w, mode=mode: mb.resize_bilinear(
                    x=x, target_size_height=h, target_size_width=w, sampling_mode=mode
                ),
                lambda x, h=h, w=w, mode=mode: bilinear(x, h, w, mode),
                X,
                both=what == "up",
            )
    case(
        f"image/resize-linear-{short}",
        lambda x, mode=mode: mb.resize(
            x=x, shape=[9, 7], resized_dims=np.uint32(2), interpolation_mode="LINEAR", sampling_mode=mode
        ),
        lambda x, mode=mode: bilinear(x, 9, 7, mode),
        X,
        opset=17,
    )
    case(
        f"image/resize-nearest-{short}",
        lambda x, mode=mode: mb.resize(
            x=x, shape=[11, 3], resized_dims=np.uint32(2), interpolation_mode="NEAREST_NEIGHBOR", sampling_mode=mode
        ),
        lambda x, mode=mode: nearest(x, 11, 3, mode),
        {"x": real(1, 2, 4, 7)},
        opset=17,
        note="the nearest pixel to the sample's place, halves upwards" if mode != "DEFAULT" else "",
    )


def nearest(x, h, w, mode):
    for axis, size in ((-2, h), (-1, w)):
        n = x.shape[axis]
        places = np.clip(grid(n, size, mode), 0, n - 1)
        x = np.take(x, np.floor(places + 0.5).astype(int), axis)
    return x


case(
    "image/resize_bilinear-default",
    lambda x: mb.resize_bilinear(x=x, target_size_height=8, target_size_width=9),
    lambda x: bilinear(x, 8, 9, "DEFAULT"),
    X,
    bare=True,
)
case(
    "image/resize-keeps-zero",
    lambda x: mb.resize(
        x=x, shape=[0, 8], resized_dims=np.uint32(2), interpolation_mode="LINEAR", sampling_mode="UNALIGN_CORNERS"
    ),
    lambda x: along(x, -1, grid(4, 8, "UNALIGN_CORNERS")),
    X,
    opset=17,
    note="0 keeps the size",
)
case(
    "image/resize-one-dimension",
    lambda x: mb.resize(
        x=x, shape=[9], resized_dims=np.uint32(1), interpolation_mode="LINEAR", sampling_mode="STRICT_ALIGN_CORNERS"
    ),
    lambda x: along(x, -1, grid(4, 9, "STRICT_ALIGN_CORNERS")),
    X,
    opset=17,
)
case(
    "image/resize-runtime-shape",
    lambda x, s: mb.resize(
        x=x, shape=s, resized_dims=np.uint32(2), interpolation_mode="LINEAR", sampling_mode="DEFAULT"
    ),
    lambda x, s: bilinear(x, 6, 8, "DEFAULT"),
    X | {"s": given([6, 8])},
    opset=17,
)


# ---- crop_resize
def box_grid(low, high, m, mode):
    """Sample places from `low` to `high`, the centres of the first and last pixel of a box."""
    i, n = np.arange(m), high - low + 1
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        return (
            np.full(1, (low + high) / 2 if mode == "ALIGN_CORNERS" else low)
            if m == 1
            else low + i * (high - low) / (m - 1)
        )
    if mode == "DEFAULT":
        return np.full(1, low) if m == 1 else low + i * (n - n / m) / (m - 1)
    step = max(1, high - low) / m
    return low + step / 2 + i * step


def crop(image, box, h, w, box_mode, mode, normalized, scale, pad):
    size = np.array(image.shape[-2:]) - 1
    if box_mode.endswith("WIDTH_FIRST"):
        box = box[[1, 0, 3, 2]]
    low, high = (box[:2], box[2:]) if box_mode.startswith("CORNERS") else (box[:2] - box[2:] / 2, box[:2] + box[2:] / 2)
    low, high = (side * scale * (size if normalized else 1) for side in (low, high))
    ys, xs = box_grid(low[0], high[0], h, mode), box_grid(low[1], high[1], w, mode)
    result = along(along(image, -2, ys), -1, xs)
    outside = ((ys < 0) | (ys > size[0]))[:, None] | ((xs < 0) | (xs > size[1]))
    return np.where(outside, pad, result)


BOXES = [[0.1, 0.2, 0.7, 0.9], [0.0, 0.0, 1.0, 1.0], [0.4, 0.1, 0.6, 0.5]]
PIXELS = [[1.0, 0.5, 4.0, 5.0], [0.0, 0.0, 6.0, 7.0], [2.5, 3.0, 5.0, 3.5]]
IMAGE = {"x": real(2, 3, 7, 8)}
BOX_MODES = ("CORNERS_HEIGHT_FIRST", "CORNERS_WIDTH_FIRST", "CENTER_SIZE_HEIGHT_FIRST", "CENTER_SIZE_WIDTH_FIRST")


def one_crop_a_box(model):
    """Declares the shape that documentation states for boxes that name their image; the builder declares another."""
    for function in model.mlProgram.functions.values():
        for operation in function.block_specializations[function.opset].operations:
            for output in operation.outputs:
                if output.type.tensorType.rank == 5:
                    output.type.tensorType.dimensions[1].constant.size = 1
    model.description.output[0].type.multiArrayType.shape[1] = 1


def add_crop(
    what,
    opset,
    boxes,
    h=3,
    w=4,
    box_mode=BOX_MODES[0],
    mode="DEFAULT",
    normalized=False,
    scale=1.0,
    pad=None,
    both=False,
    note="",
    batched=True,
):
    count = len(boxes)
    common = {
        "target_height": h,
        "target_width": w,
        "normalized_coordinates": normalized,
        "spatial_scale": np.float32(scale),
        "box_coordinate_mode": box_mode,
        "sampling_mode": mode,
    }
    batch = [k % 2 for k in range(count)]
    consts = {} if pad is None else {"p": pad}
    if opset == 17:
        inputs = IMAGE | {"b": given(boxes, "fp32")}
        case(
            f"image/crop_resize-ios17-{what}",
            lambda x, b, p=None: mb.crop_resize(x=x, boxes=b, box_indices=batch, pad_value=p, **common),
            lambda x, b, p=0.0: np.stack(
                [crop(x[k], box, h, w, box_mode, mode, normalized, scale, p) for k, box in zip(batch, b)]
            ),
            inputs,
            consts,
            opset=17,
            both=both,
            note=note,
        )
    else:
        rows = [[k, *box] for k, box in zip(batch, boxes)] if batched else boxes
        inputs = IMAGE | {"r": given(np.array(rows).reshape(count, 1, -1, 1, 1), "fp32")}
        extra = {} if opset == 15 else {"pad_value": "p"}

        def reference(x, r, p=0.0):
            r = r.reshape(count, -1)
            args = (h, w, box_mode, mode, normalized, scale, p)
            if batched:
                return np.stack([crop(x[int(row[0])], row[1:], *args)[None] for row in r])
            return np.stack([np.stack([crop(image, row, *args) for image in x]) for row in r])

        case(
            f"image/crop_resize-ios{opset}-{what}",
            lambda x, r, p=None: mb.crop_resize(
                x=x, roi=r, **common, **({"pad_value": p} if extra and p is not None else {})
            ),
            reference,
            inputs,
            consts,
            opset=opset,
            both=both,
            note=note,
            **({"edit": one_crop_a_box} if batched else {}),
        )


for mode in MODES:
    if mode != "UNALIGN_CORNERS":
        short = mode.lower().replace("_", "-")
        add_crop(f"{short}", 15, PIXELS, mode=mode, both=mode == "DEFAULT")
        add_crop(f"{short}", 17, PIXELS, mode=mode, both=mode == "STRICT_ALIGN_CORNERS")
for box_mode in BOX_MODES:
    add_crop(
        f"normalized-{box_mode.lower().replace('_', '-')}",
        17,
        [[0.5, 0.4, 0.3, 0.5], [0.45, 0.5, 0.6, 0.7]] if "CENTER" in box_mode else BOXES,
        box_mode=box_mode,
        mode="STRICT_ALIGN_CORNERS",
        normalized=True,
    )
add_crop("normalized", 15, BOXES, mode="STRICT_ALIGN_CORNERS", normalized=True)
add_crop(
    "all-batches",
    15,
    PIXELS,
    mode="ALIGN_CORNERS",
    batched=False,
    note="boxes of four numbers: every box is cut from every image",
)
add_crop("spatial-scale", 17, [[2.0, 1.0, 8.0, 10.0]], mode="ALIGN_CORNERS", scale=0.5)
add_crop("one-pixel", 17, PIXELS, h=1, w=1, mode="ALIGN_CORNERS")
add_crop(
    "pad-value",
    16,
    [[-2.0, 1.0, 3.0, 5.0], [4.0, 5.0, 9.0, 9.0]],
    h=6,
    w=5,
    mode="STRICT_ALIGN_CORNERS",
    pad=7.5,
    note="a sample outside the image is the pad value as a whole",
)
add_crop(
    "pad-value",
    17,
    [[-2.0, 1.0, 3.0, 5.0], [4.0, 5.0, 9.0, 9.0]],
    h=6,
    w=5,
    mode="STRICT_ALIGN_CORNERS",
    pad=-3.0,
    both=True,
)
add_crop(
    "inverted-box",
    17,
    [[5.0, 6.0, 1.0, 2.0]],
    mode="STRICT_ALIGN_CORNERS",
    note="a box whose ends are swapped flips the image",
)


# ---- resample and affine
def sampled(sampling, padding, coordinates, corners):
    modes = {"constant": "zeros", "border": "border", "reflection": "reflection", "symmetric": "reflection"}

    def reference(x, c, p):
        height, width = x.shape[-2:]
        size = torch.tensor([width, height], dtype=torch.float64)
        if coordinates == "normalized_zero_to_one":
            c = c * 2 - 1
        elif coordinates == "unnormalized":
            c = c / (size - 1) * 2 - 1
        align = corners or coordinates == "unnormalized"
        shift = float(p) if padding == "constant" else 0.0
        return F.grid_sample(x - shift, c, sampling, modes[padding], align) + shift

    return torch_reference(reference)


def coordinates_for(kind):
    if kind == "unnormalized":
        return real(2, 3, 5, 2, lo=-2.0, hi=7.0)
    return real(2, 3, 5, 2, lo=-0.3, hi=1.3) if kind == "normalized_zero_to_one" else real(2, 3, 5, 2, lo=-1.4, hi=1.4)


for sampling in ("bilinear", "nearest"):
    for padding in ("constant", "border", "reflection"):
        for kind in ("normalized_minus_one_to_one", "normalized_zero_to_one", "unnormalized"):
            for corners in (True, False):
                if kind == "normalized_minus_one_to_one" or (
                    corners and padding == "constant" and sampling == "bilinear"
                ):
                    short = {
                        "normalized_minus_one_to_one": "",
                        "normalized_zero_to_one": "-zero-to-one",
                        "unnormalized": "-unnormalized",
                    }[kind]
                    case(
                        f"image/resample-{sampling}-{padding}{short}{'-corners' * corners}",
                        lambda x, c, p, s=sampling, q=padding, k=kind, a=corners: mb.resample(
                            x=x,
                            coordinates=c,
                            sampling_mode=s,
                            padding_mode=q,
                            padding_value=p,
                            coordinates_mode=k,
                            align_corners=a,
                        ),
                        sampled(sampling, padding, kind, corners),
                        {"x": real(2, 3, 6, 5), "c": coordinates_for(kind)},
                        {"p": 0.75 if padding == "constant" and not corners else 0.0},
                        opset=16,
                    )
case(
    "image/resample-ios15",
    lambda x, c, p: mb.resample(
        x=x,
        coordinates=c,
        sampling_mode="bilinear",
        padding_mode="border",
        padding_value=p,
        coordinates_mode="normalized_minus_one_to_one",
        align_corners=False,
    ),
    sampled("bilinear", "border", "normalized_minus_one_to_one", False),
    {"x": real(2, 3, 6, 5), "c": coordinates_for("")},
    {"p": 0.0},
    opset=15,
)
case(
    "image/resample-ios17-f16",
    lambda x, c, p: mb.resample(
        x=x,
        coordinates=c,
        sampling_mode="bilinear",
        padding_mode="constant",
        padding_value=p,
        coordinates_mode="normalized_minus_one_to_one",
        align_corners=True,
    ),
    sampled("bilinear", "constant", "normalized_minus_one_to_one", True),
    {"x": real(2, 3, 6, 5), "c": coordinates_for("")},
    {"p": 0.0},
    opset=17,
    half=True,
)
case(
    "image/affine",
    lambda x, m: mb.affine(
        x=x,
        transform_matrix=m,
        output_height=5,
        output_width=6,
        sampling_mode="bilinear",
        padding_mode="constant",
        padding_value=np.float32(0),
        coordinates_mode="normalized_minus_one_to_one",
        align_corners=True,
    ),
    torch_reference(
        lambda x, m: F.grid_sample(
            x, F.affine_grid(m.reshape(2, 2, 3), (2, 3, 5, 6), align_corners=True), "bilinear", "zeros", True
        )
    ),
    {"x": real(2, 3, 7, 4), "m": given([[0.8, 0.3, 0.1, -0.2, 1.1, 0.0], [1.0, 0.0, 0.25, 0.0, 0.5, -0.25]], "fp32")},
)
case(
    "image/affine-one-matrix",
    lambda x, m: mb.affine(
        x=x,
        transform_matrix=m,
        output_height=4,
        output_width=4,
        sampling_mode="bilinear",
        padding_mode="constant",
        padding_value=np.float32(0),
        coordinates_mode="normalized_minus_one_to_one",
        align_corners=True,
    ),
    torch_reference(
        lambda x, m: F.grid_sample(
            x,
            F.affine_grid(m.reshape(1, 2, 3).expand(2, 2, 3), (2, 3, 4, 4), align_corners=True),
            "bilinear",
            "zeros",
            True,
        )
    ),
    {"x": real(2, 3, 7, 4), "m": given([[0.8, 0.3, 0.1, -0.2, 1.1, 0.0]], "fp32")},
    note="one matrix for the whole batch",
)

case(
    "image/crop_resize-ios15-backwards-beyond",
    lambda x, r: mb.crop_resize(
        x=x,
        roi=r,
        target_height=2,
        target_width=2,
        normalized_coordinates=True,
        box_coordinate_mode="CORNERS_HEIGHT_FIRST",
        sampling_mode="UNALIGN_CORNERS",
    ),
    # The centres of the four quarters of the image, between four pixels each.
    lambda x, r: x.reshape(1, 1, 2, 2, 2, 2).mean((3, 5))[None],
    {"x": real(1, 1, 4, 4), "r": given(np.array([2, 2, 1, 1]).reshape(1, 1, 4, 1, 1), "fp32")},
    opset=15,
    note="a box that runs backwards and begins beyond the image is the whole image",
)
