"""Recurrent layers: sequences of vectors, step by step."""

from __future__ import annotations

from typing import Any

import numpy as np

from .case import Cases, numbers

INPUT, HIDDEN, STEPS = 3, 2, 4


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def column(x: Any) -> Any:
    """Sequence, batch, vector and two axes of size 1."""
    return x.reshape(*x.shape, 1, 1)


def weights(name: str, gates: int) -> tuple[Any, Any, Any]:
    """For each gate: of the hidden state, of the input, and the biases."""
    draw = lambda part, *shape: [numbers(f"{name} {part} {gate}", *shape) for gate in range(gates)]  # noqa: E731
    return draw("h", HIDDEN, HIDDEN), draw("x", HIDDEN, INPUT), draw("b", HIDDEN)


def add(cases: Cases) -> None:
    x = numbers("sequence", STEPS, 1, INPUT, 1, 1)
    w_h, w_x, b = weights("simple", 1)

    def simple(x: Any, backwards: bool = False, everything: bool = True) -> Any:
        h, found = np.zeros((1, HIDDEN)), []
        for step in x[::-1] if backwards else x:
            h = np.tanh(step[:, :, 0, 0] @ w_x[0].T + h @ w_h[0].T + b[0])
            found.append(h)
        found = np.stack(found[::-1] if backwards else found)
        return column(found if everything else h[None])

    cases.add("simple-recurrent",
              lambda n: n.add_simple_rnn("l", w_h[0], w_x[0], b[0], HIDDEN, INPUT, "TANH", ["x"], ["y"], output_all=True),
              {"x": x}, simple, five=True)  # fmt: skip
    cases.add("simple-recurrent-last",
              lambda n: n.add_simple_rnn("l", w_h[0], w_x[0], b[0], HIDDEN, INPUT, "TANH", ["x"], ["y"], reverse_input=True),
              {"x": x}, lambda x: simple(x, True, False), five=True)  # fmt: skip
    gru(cases, x)
    lstm(cases, x)


def gru(cases: Cases, x: Any) -> None:
    w_h, w_x, b = weights("gru", 3)

    def steps(x: Any) -> Any:
        h, found = np.zeros((1, HIDDEN)), []
        for step in x[:, :, :, 0, 0]:
            z = sigmoid(step @ w_x[0].T + h @ w_h[0].T + b[0])
            r = sigmoid(step @ w_x[1].T + h @ w_h[1].T + b[1])
            o = np.tanh(step @ w_x[2].T + (r * h) @ w_h[2].T + b[2])
            h = (1 - z) * o + z * h
            found.append(h)
        return column(np.stack(found))

    cases.add("gru",
              lambda n: n.add_gru("l", w_h, w_x, b, HIDDEN, INPUT, ["x"], ["y"], inner_activation="SIGMOID", output_all=True),
              {"x": x}, steps, five=True)  # fmt: skip


def lstm(cases: Cases, x: Any) -> None:
    forward, backward = weights("forward", 4), weights("backward", 4)

    def steps(x: Any, w_h: Any, w_x: Any, b: Any) -> tuple[Any, Any, Any]:
        """All hidden states, the last one, and the last cell."""
        h, c, found = np.zeros((1, HIDDEN)), np.zeros((1, HIDDEN)), []
        for step in x[:, :, :, 0, 0]:
            i, f, o = (sigmoid(step @ w_x[g].T + h @ w_h[g].T + b[g]) for g in range(3))
            c = f * c + i * np.tanh(step @ w_x[3].T + h @ w_h[3].T + b[3])
            h = o * np.tanh(c)
            found.append(h)
        return np.stack(found), h, c

    def one(x: Any) -> dict[str, Any]:
        found, h, c = steps(x, *forward)
        return {"y": column(found), "h": column(h[None]), "c": column(c[None])}

    cases.add("lstm",
              lambda n: n.add_unilstm("l", *forward, HIDDEN, INPUT, ["x", "h0", "c0"], ["y", "h", "c"], output_all=True),
              {"x": x, "h0": np.zeros((1, 1, HIDDEN, 1, 1)), "c0": np.zeros((1, 1, HIDDEN, 1, 1))},
              lambda x, h0, c0: one(x), five=True)  # fmt: skip

    def both(x: Any) -> Any:
        there, back = steps(x, *forward)[0], steps(x[::-1], *backward)[0][::-1]
        return column(np.concatenate([there, back], -1))

    cases.add("bidirectional-lstm",
              lambda n: n.add_bidirlstm("l", *forward, *backward, HIDDEN, INPUT, ["x"], ["y"], output_all=True),
              {"x": x}, both, five=True)  # fmt: skip
