"""Layers that look for places, and move what is there."""

from __future__ import annotations

import numpy as np

from .case import Cases, numbers


def add(cases: Cases) -> None:
    x, places = numbers("x", 4, 3), [2, 0]
    cases.add("gather", lambda b: b.add_gather("l", ["x", "i"], "y", axis=0), {"x": x, "i": places},
              lambda x, i: np.take(x, i.astype(int), 0))  # fmt: skip
    along = [[1, 0, 3], [2, 2, 0]]
    cases.add("gather-along-axis", lambda b: b.add_gather_along_axis("l", ["x", "i"], "y", axis=0), {"x": x, "i": along},
              lambda x, i: np.take_along_axis(x, i.astype(int), 0))  # fmt: skip
    pairs = [[0, 2], [3, 1]]
    cases.add("gather-nd", lambda b: b.add_gather_nd("l", ["x", "i"], "y"), {"x": x, "i": pairs},
              lambda x, i: x[tuple(i.astype(int).T)])  # fmt: skip

    def scattered(x, places, updates, add):  # noqa: ANN001, ANN202
        x = x.copy()
        (np.add.at(x, places, updates) if add else x.__setitem__(places, updates))
        return x

    rows, updates = numbers("rows", 2, 3), numbers("updates", 2)
    for mode in ("UPDATE", "ADD"):
        more = mode == "ADD"
        cases.add(f"scatter-{mode.lower()}", lambda b, m=mode: b.add_scatter("l", ["x", "i", "u"], "y", axis=0, mode=m),
                  {"x": x, "i": places, "u": rows},
                  lambda x, i, u, more=more: scattered(x, (i.astype(int),), u, more))  # fmt: skip
        cases.add(f"scatter-nd-{mode.lower()}", lambda b, m=mode: b.add_scatter_nd("l", ["x", "i", "u"], "y", mode=m),
                  {"x": x, "i": pairs, "u": updates},
                  lambda x, i, u, more=more: scattered(x, tuple(i.astype(int).T), u, more))  # fmt: skip
    def put(x, i, u):  # noqa: ANN001, ANN202
        x = x.copy()
        np.put_along_axis(x, i.astype(int), u, 0)
        return x

    cases.add("scatter-along-axis", lambda b: b.add_scatter_along_axis("l", ["x", "i", "u"], "y", axis=0),
              {"x": x, "i": along, "u": rows}, put)  # fmt: skip
    cases.add("argsort", lambda b: b.add_argsort("l", "x", "y", axis=1, descending=True), {"x": x},
              lambda x: np.argsort(-x, 1))  # fmt: skip

    def top(x):  # noqa: ANN001, ANN202
        order = np.argsort(-x, 1)[:, :2]
        return {"y": np.take_along_axis(x, order, 1), "i": order}

    cases.add("top-k", lambda b: b.add_topk("l", ["x"], ["y", "i"], k=2, axis=1), {"x": x}, top)
    cases.add("one-hot", lambda b: b.add_one_hot("l", ["x"], "y", one_hot_vector_size=4, on_value=2.0, off_value=-1.0),
              {"x": [1, 3, 0]}, lambda x: np.where(x[:, None] == np.arange(4), 2.0, -1.0))  # fmt: skip

    def sums(x, reverse, exclusive):  # noqa: ANN001, ANN202
        x = x[:, ::-1] if reverse else x
        found = np.cumsum(x, 1) - (x if exclusive else 0)
        return found[:, ::-1] if reverse else found

    for reverse in (False, True):
        for exclusive in (False, True):
            how = {"reverse": reverse, "exclusive": exclusive}
            cases.add(f"cumsum-{reverse:d}-{exclusive:d}", lambda b, h=how: b.add_cumsum("l", ["x"], "y", axis=1, **h),
                      {"x": x}, lambda x, h=how: sums(x, **h))  # fmt: skip
    holes = [[0, 2, 0], [1, 0, 3]]
    cases.add("where-non-zero", lambda b: b.add_where_nonzero("l", "x", "y"), {"x": holes}, lambda x: np.argwhere(x))
    for name, function in {"argmax": np.argmax, "argmin": np.argmin}.items():
        cases.add(name, lambda b, n=name: getattr(b, f"add_{n}")("l", "x", "y", axis=1), {"x": x},
                  lambda x, f=function: f(x, 1)[:, None])  # fmt: skip
        cases.add(f"{name}-without-axis", lambda b, n=name: getattr(b, f"add_{n}")("l", "x", "y", axis=0, keepdims=False),
                  {"x": x}, lambda x, f=function: f(x, 0))  # fmt: skip
    square = numbers("square", 4, 4)
    cases.add("lower-triangular", lambda b: b.add_lower_triangular("l", "x", "y", k=1), {"x": square},
              lambda x: np.tril(x, 1))  # fmt: skip
    cases.add("upper-triangular", lambda b: b.add_upper_triangular("l", "x", "y", k=-1), {"x": square},
              lambda x: np.triu(x, -1))  # fmt: skip
    cases.add("matrix-band-part", lambda b: b.add_matrix_band_part("l", "x", "y", num_lower=1, num_upper=-1), {"x": square},
              lambda x: np.triu(x, -1))  # fmt: skip
    boxes = [[[1, 1, 2, 2], [1, 1, 2, 2], [5, 5, 2, 2], [1, 1.5, 2, 2]]]
    scores = [[[0.5], [0.75], [0.25], [0.125]]]

    def kept(boxes, scores):  # noqa: ANN001, ANN202
        # The second box beats its double and the fourth, which shares three quarters of its area.
        return {"b": boxes[:, [1, 2]], "s": scores[:, [1, 2]], "i": np.array([[1, 2]]), "n": np.array([2])}

    cases.add("non-maximum-suppression",
              lambda b: b.add_nms("l", ["boxes", "scores"], ["b", "s", "i", "n"], iou_threshold=0.5, max_boxes=2),
              {"boxes": boxes, "scores": scores}, kept)  # fmt: skip
