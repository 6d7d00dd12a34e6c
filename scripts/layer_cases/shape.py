"""Layers that move elements, and those that take or repeat a part of them."""

from __future__ import annotations

import numpy as np

from .case import Cases, numbers


def add(cases: Cases) -> None:
    x, cube, image = numbers("x", 2, 3), numbers("cube", 2, 3, 4), numbers("image", 1, 4, 2, 4)
    simple = {
        "transpose": (lambda b: b.add_transpose("l", [2, 0, 1], "x", "y"), cube, lambda x: x.transpose(2, 0, 1)),
        "tile": (lambda b: b.add_tile("l", "x", "y", [2, 1]), x, lambda x: np.tile(x, (2, 1))),
        "squeeze": (lambda b: b.add_squeeze("l", "x", "y", axes=[0]), x[None], lambda x: x[0]),
        "expand-dims": (lambda b: b.add_expand_dims("l", "x", "y", [1]), x, lambda x: x[:, None]),
        "flatten-to-2d": (lambda b: b.add_flatten_to_2d("l", "x", "y", axis=2), cube, lambda x: x.reshape(6, 4)),
        "reshape-static": (lambda b: b.add_reshape_static("l", "x", "y", [3, -1]), cube, lambda x: x.reshape(3, 8)),
        "rank-preserving-reshape": (
            lambda b: b.add_rank_preserving_reshape("l", "x", "y", [0, 2, -1]),
            cube,
            lambda x: x.reshape(2, 2, 6),
        ),
        "get-shape": (lambda b: b.add_get_shape("l", "x", "y"), cube, lambda x: np.array(x.shape)),
        "reverse": (lambda b: b.add_reverse("l", "x", "y", [False, True]), x, lambda x: x[:, ::-1]),
        "sliding-windows": (
            lambda b: b.add_sliding_windows("l", "x", "y", axis=1, window_size=3, step=2),
            numbers("windows", 2, 6),
            lambda x: np.stack([x[:, 0:3], x[:, 2:5]], 1),
        ),
        "slice-static": (
            lambda b: b.add_slice_static("l", "x", "y", [0, 1, 3], [1, 3, 0], [1, 1, -2], [True, False, True], [True, True, True]),
            cube,
            lambda x: x[:, 1:, ::-2],
        ),
        "constant-pad": (
            lambda b: b.add_constant_pad("l", ["x"], "y", value=1.5, pad_amounts=[1, 0, 0, 2]),
            x,
            lambda x: np.pad(x, ((1, 0), (0, 2)), constant_values=1.5),
        ),
    }
    for name, (build, given, function) in simple.items():
        cases.add(name, build, {"x": given}, function)
    cases.add("squeeze-all", lambda b: b.add_squeeze("l", "x", "y", squeeze_all=True), {"x": x[None]}, lambda x: x[0])
    y = numbers("y", 2, 3)
    cases.add("concat-nd", lambda b: b.add_concat_nd("l", ["a", "b"], "y", axis=1), {"a": x, "b": y},
              lambda a, b: np.concatenate([a, b], 1))  # fmt: skip
    cases.add("stack", lambda b: b.add_stack("l", ["a", "b"], "y", axis=1), {"a": x, "b": y},
              lambda a, b: np.stack([a, b], 1))  # fmt: skip
    cases.add("split-nd", lambda b: b.add_split_nd("l", "x", ["p", "q"], axis=1, split_sizes=[1, 2]), {"x": x},
              lambda x: {"p": x[:, :1], "q": x[:, 1:]})  # fmt: skip
    cases.add("reshape-like", lambda b: b.add_reshape_like("l", ["a", "b"], "y"), {"a": x, "b": numbers("like", 3, 2)},
              lambda a, b: a.reshape(b.shape))  # fmt: skip
    cases.add("reshape-dynamic", lambda b: b.add_reshape_dynamic("l", ["x", "s"], "y"), {"x": x, "s": [3, 2]},
              lambda x, s: x.reshape(3, 2))  # fmt: skip
    cases.add("slice-dynamic",
              lambda b: b.add_slice_dynamic("l", ["x", "s"], "y", end_ids=[2, 3], strides=[1, 1],
                                            begin_masks=[False, False], end_masks=[False, False],
                                            squeeze_masks=[False, False]),
              {"x": x, "s": [0, 1]}, lambda x, s: x[:, 1:])  # fmt: skip
    cases.add("slice-by-size", lambda b: b.add_slice_by_size("l", ["x", "s"], "y", axis=1, size=2), {"x": x, "s": [1]},
              lambda x, s: x[:, 1:3])  # fmt: skip
    cases.add("reverse-sequence",
              lambda b: b.add_reverse_sequence("l", ["x", "n"], "y", batch_axis=0, seq_axis=1),
              {"x": numbers("sequence", 2, 4), "n": [3, 2]},
              lambda x, n: np.stack([np.concatenate([r[: int(k)][::-1], r[int(k) :]]) for r, k in zip(x, n)]))  # fmt: skip
    old(cases, image)


def old(cases: Cases, image: np.ndarray) -> None:
    """Layers of the five axes, which count batch, channels, height and width from the end."""
    c = numbers("channels", 4, 2, 3)
    cases.add("concat", lambda b: b.add_elementwise("l", ["a", "b"], "y", "CONCAT"),
              {"a": c, "b": 2 * c[:2]}, lambda a, b: np.concatenate([a, b]), five=True)  # fmt: skip
    cases.add("sequence-concat", lambda b: b.add_sequence_repeat("l", 2, "x", "y"), {"x": numbers("row", 2, 1, 4, 1, 1)},
              lambda x: np.tile(x, (2, 1, 1, 1, 1)), five=True)  # fmt: skip
    cases.add("split", lambda b: b.add_split("l", "x", ["p", "q"]), {"x": c}, lambda x: {"p": x[:2], "q": x[2:]}, five=True)
    cases.add("slice", lambda b: b.add_slice("l", "x", "y", "width", 0, 3, 2), {"x": c}, lambda x: x[:, :, 0:3:2], five=True)
    cases.add("slice-channels", lambda b: b.add_slice("l", "x", "y", "channel", 1, -1, 1), {"x": c}, lambda x: x[1:-1],
              five=True)  # fmt: skip
    cases.add("permute", lambda b: b.add_permute("l", (0, 3, 1, 2), "x", "y"), {"x": c}, lambda x: x.transpose(2, 0, 1),
              five=True)  # fmt: skip
    cases.add("flatten", lambda b: b.add_flatten("l", 0, "x", "y"), {"x": c}, lambda x: x.reshape(-1), five=True)
    cases.add("flatten-channels-last", lambda b: b.add_flatten("l", 1, "x", "y"), {"x": c},
              lambda x: x.transpose(1, 2, 0).reshape(-1), five=True)  # fmt: skip
    cases.add("reshape", lambda b: b.add_reshape("l", "x", "y", (2, 3, 4), 0), {"x": c}, lambda x: x.reshape(2, 3, 4), five=True)
    cases.add("reshape-channels-last", lambda b: b.add_reshape("l", "x", "y", (2, 3, 4), 1), {"x": c},
              lambda x: x.transpose(1, 2, 0).reshape(3, 4, 2).transpose(2, 0, 1), five=True)  # fmt: skip

    def to_depth(x):  # noqa: ANN001, ANN202
        n, c, h, w = x.shape
        return x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 3, 5, 1, 2, 4).reshape(n, 4 * c, h // 2, w // 2)

    def to_space(x):  # noqa: ANN001, ANN202
        n, c, h, w = x.shape
        return x.reshape(n, 2, 2, c // 4, h, w).transpose(0, 3, 4, 1, 5, 2).reshape(n, c // 4, 2 * h, 2 * w)

    def shuffled(x):  # noqa: ANN001, ANN202
        n, c, h, w = x.shape
        return x.reshape(n, c // 4, 2, 2, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, c // 4, 2 * h, 2 * w)

    for mode, function in {"SPACE_TO_DEPTH": to_depth, "DEPTH_TO_SPACE": to_space, "PIXEL_SHUFFLE": shuffled}.items():
        cases.add(f"reorganize-{mode.lower()}", lambda b, m=mode: b.add_reorganize_data("l", "x", "y", m, 2), {"x": image},
                  function)  # fmt: skip
    cases.add("crop", lambda b: b.add_crop("l", 1, 1, 0, 1, [], ["x"], "y"), {"x": image}, lambda x: x[:, :, :-1, 1:-1])
    cases.add("crop-like", lambda b: b.add_crop("l", 0, 0, 0, 0, [1, 2], ["x", "z"], "y"),
              {"x": image, "z": numbers("smaller", 1, 1, 1, 2)}, lambda x, z: x[:, :, 1:2, 2:4])  # fmt: skip
    for kind, mode in {"constant": "constant", "reflection": "reflect", "replication": "edge"}.items():
        value = {"constant_values": 1.5} if kind == "constant" else {}
        cases.add(f"padding-{kind}",
                  lambda b, k=kind: b.add_padding("l", 1, 2, 1, 0, 1.5, "x", "y", padding_type=k), {"x": image},
                  lambda x, m=mode, v=value: np.pad(x, ((0, 0), (0, 0), (1, 0), (1, 2)), m, **v))  # fmt: skip
    cases.add("upsample-nearest", lambda b: b.add_upsample("l", 2, 3, "x", "y"), {"x": image},
              lambda x: x.repeat(2, 2).repeat(3, 3))  # fmt: skip
    cases.add("resize-bilinear", lambda b: b.add_resize_bilinear("l", "x", "y", 3, 7, "STRICT_ALIGN_ENDPOINTS_MODE"),
              {"x": image}, lambda x: sampled(x, np.linspace(0, 1, 3), np.linspace(0, 3, 7)))  # fmt: skip
    # Corners in pixels; the corners of the results are those of the box.
    box = np.array([0, 0.0, 1.0, 1.0, 3.0]).reshape(1, 5, 1, 1)
    cases.add("crop-resize", lambda b: b.add_crop_resize("l", ["x", "r"], "y", 2, 3, box_indices_mode="CORNERS_HEIGHT_FIRST"),
              {"x": image[:, :1], "r": box.reshape(1, 1, 5, 1, 1)},
              lambda x, r: sampled(x, np.linspace(0, 1, 2), np.linspace(1, 3, 3))[None])  # fmt: skip


def add_images(cases: Cases) -> None:
    """Pictures: their planes have a batch in exact networks that their results have not."""
    pixels = np.arange(4 * 2 * 3, dtype=np.uint8).reshape(2, 4, 3) * 9

    def biased(x: np.ndarray) -> np.ndarray:
        return x + np.array([-1.0, 0.0, 2.0])[:, None, None]

    for five in (False, True):
        cases.add_image(f"image-doubled-{'five' if five else 'exact'}",
                        lambda b: b.add_activation("l", "LINEAR", "x", "y", [2.0, 0.0]), pixels, lambda x: 2 * biased(x),
                        five)  # fmt: skip


def sampled(x: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """What lies at rows and columns between the pixels."""
    for axis, places in ((2, rows), (3, columns)):
        low = np.floor(places).astype(int)
        high = np.minimum(low + 1, x.shape[axis] - 1)
        share = (places - low).reshape([-1 if a == axis else 1 for a in range(4)])
        x = np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share
    return x
