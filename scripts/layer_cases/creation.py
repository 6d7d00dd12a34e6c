"""Layers that make arrays, at random too, and those that spread them."""

from __future__ import annotations

import numpy as np

from .case import Cases, numbers


def add(cases: Cases) -> None:
    x, constant = numbers("x", 2, 3), numbers("constant", 2, 3)
    old = numbers("old", 2, 1, 3)

    def loaded(b) -> None:  # noqa: ANN001
        b.add_load_constant("c", "c", old, [2, 1, 3])
        b.add_elementwise("l", ["x", "c"], "y", "ADD")

    def loaded_nd(b) -> None:  # noqa: ANN001
        b.add_load_constant_nd("c", "c", constant, [2, 3])
        b.add_add_broadcastable("l", ["x", "c"], "y")

    cases.add("load-constant", loaded, {"x": numbers("x", 2, 1, 3)}, lambda x: x + old, five=True)
    cases.add("load-constant-nd", loaded_nd, {"x": x}, lambda x: x + constant)

    def static(b) -> None:  # noqa: ANN001
        b.add_fill_static("c", "c", [2, 3], 1.5)
        b.add_add_broadcastable("l", ["x", "c"], "y")

    shape = {"s": [2, 3]}
    cases.add("fill-like", lambda b: b.add_fill_like("l", "x", "y", 2.5), {"x": x}, lambda x: np.full(x.shape, 2.5))
    cases.add("fill-static", static, {"x": x}, lambda x: x + 1.5)
    cases.add("fill-dynamic", lambda b: b.add_fill_dynamic("l", "s", "y", 2.5), shape, lambda s: np.full((2, 3), 2.5))
    row = numbers("row", 1, 3)
    cases.add("broadcast-to-static", lambda b: b.add_broadcast_to_static("l", "x", "y", [2, 3]), {"x": row},
              lambda x: np.broadcast_to(x, (2, 3)))  # fmt: skip
    cases.add("broadcast-to-like", lambda b: b.add_broadcast_to_like("l", ["x", "z"], "y"), {"x": row, "z": x},
              lambda x, z: np.broadcast_to(x, z.shape))  # fmt: skip
    cases.add("broadcast-to-dynamic", lambda b: b.add_broadcast_to_dynamic("l", ["x", "s"], "y"), {"x": row, **shape},
              lambda x, s: np.broadcast_to(x, (2, 3)))  # fmt: skip

    def steps(b) -> None:  # noqa: ANN001
        b.add_range_static("c", "c", end=2.5, start=1.0, step=0.5)
        b.add_add_broadcastable("l", ["x", "c"], "y")

    cases.add("range-static", steps, {"x": numbers("x", 2, 3)}, lambda x: x + np.array([1.0, 1.5, 2.0]))
    cases.add("range-dynamic", lambda b: b.add_range_dynamic("l", ["e", "s"], "y", step=2.0), {"e": [7], "s": [2]},
              lambda e, s: np.array([2.0, 4.0, 6.0]))  # fmt: skip
    draws = {"normal": {"mean": 1.0, "stddev": 2.0}, "uniform": {"minval": 1.0, "maxval": 2.0}, "bernoulli": {"prob": 0.25}}
    for kind, how in draws.items():
        def static_draw(b, kind=kind, how=how) -> None:  # noqa: ANN001
            getattr(b, f"add_random_{kind}_static")("c", "c", [2, 3], seed=1, **how)
            b.add_add_broadcastable("l", ["x", "c"], "y")

        like = lambda b, k=kind, h=how: getattr(b, f"add_random_{k}_like")("l", "x", "y", seed=1, **h)  # noqa: E731
        dynamic = lambda b, k=kind, h=how: getattr(b, f"add_random_{k}_dynamic")("l", "s", "y", seed=1, **h)  # noqa: E731
        cases.add(f"random-{kind}-like", like, {"x": x}, lambda x: x, drawn=True)
        cases.add(f"random-{kind}-static", static_draw, {"x": x}, lambda x: x, drawn=True)
        cases.add(f"random-{kind}-dynamic", dynamic, shape, lambda s: np.zeros((2, 3)), drawn=True)
    # A draw that can only have one result.
    sure = np.array([[-1e4, 0.0, -1e4], [0.0, -1e4, -1e4]])
    cases.add("categorical-distribution", lambda b: b.add_categorical_distribution("l", "x", "y", 4, seed=1), {"x": sure},
              lambda x: np.repeat([[1.0], [0.0]], 4, axis=1))  # fmt: skip


def add_flow(cases: Cases) -> None:
    """Branches and loops."""
    from coremltools.models.neural_network import NeuralNetworkBuilder

    def inner(network):  # noqa: ANN001, ANN202
        return NeuralNetworkBuilder(nn_spec=network, disable_rank5_shape_mapping=True)

    def branch(b) -> None:  # noqa: ANN001
        layer = b.add_branch("l", "c")
        then, other = inner(layer.branch.ifBranch), inner(layer.branch.elseBranch)
        then.add_activation("t", "LINEAR", "x", "y", [2.0, 0.0])
        other.add_activation("e", "LINEAR", "x", "y", [1.0, 10.0])

    for condition in (0, 1):
        cases.add(f"branch-{condition}", branch, {"c": [condition], "x": numbers("x", 2, 3)},
                  lambda c, x: 2 * x if c[0] else x + 10)  # fmt: skip

    def loop(b) -> None:  # noqa: ANN001
        b.add_copy("start", "x", "y")
        body = inner(b.add_loop("l", max_iterations=3).loop.bodyNetwork)
        body.add_activation("double", "LINEAR", "y", "twice", [2.0, 1.0])
        body.add_copy("next", "twice", "y")

    def three(x):  # noqa: ANN001, ANN202
        for _ in range(3):
            x = 2 * x + 1
        return x

    cases.add("loop", loop, {"x": numbers("x", 2)}, three)

    def jumps(b) -> None:  # noqa: ANN001
        # Counts to 4, adds up what is not 2.
        b.add_copy("start", "x", "y")
        b.add_fill_static("zero", "i", [1], 0.0)
        body = inner(b.add_loop("l", max_iterations=9).loop.bodyNetwork)
        body.add_activation("count", "LINEAR", "i", "more", [1.0, 1.0])
        body.add_copy("counted", "more", "i")
        body.add_greater_than("enough", ["i"], "done", alpha=4.0)
        inner(body.add_branch("stop", "done").branch.ifBranch).add_loop_break("break")
        body.add_equal("two", ["i"], "skip", alpha=2.0)
        inner(body.add_branch("pass", "skip").branch.ifBranch).add_loop_continue("continue")
        body.add_add_broadcastable("sum", ["y", "i"], "added")
        body.add_copy("next", "added", "y")

    cases.add("loop-break-and-continue", jumps, {"x": numbers("x", 2)}, lambda x: x + 1 + 3 + 4)
