"""LSTM, GRU and plain recurrence. Reference: the recurrences step by step in numpy, and torch for what torch has.

Gate orders: lstm has input, forget, output, cell; gru has reset, output, update.
"""

import numpy as np
import torch
from coremltools.converters.mil.mil import Builder as mb

from .case import case, given, normal, real, torch_reference

STEPS, BATCH, WIDTH, SIZE = 5, 2, 3, 4


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


ACTIVATIONS = {
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "linear": lambda x: x,
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "scaled_tanh": np.tanh,
}


def lstm_pass(x, h, c, weights, steps, recurrent="sigmoid", cell="tanh", activation="tanh", clip=None):
    w_ih, w_hh, bias, peephole = weights
    gate, inner, outer = ACTIVATIONS[recurrent], ACTIVATIONS[cell], ACTIVATIONS[activation]
    results = []
    for t in steps:
        i, f, o, z = np.split(x[t] @ w_ih.T + h @ w_hh.T + bias, 4, 1)
        p = np.split(peephole, 3)
        i, f = gate(i + p[0] * c), gate(f + p[1] * c)
        c = f * c + i * inner(z)
        if clip is not None:
            c = np.clip(c, -clip, clip)
        h = gate(o + p[2] * c) * outer(c)
        results.append(h)
    return np.stack(results), h, c


def lstm_reference(
    x,
    h,
    c,
    w,
    r,
    b=None,
    p=None,
    wb=None,
    rb=None,
    bb=None,
    pb=None,
    k=None,
    direction="forward",
    output_sequence=False,
    **activations,
):
    def weights(w, r, b, p):
        size = r.shape[1]
        return w, r, np.zeros(4 * size) if b is None else b, np.zeros(3 * size) if p is None else p

    size, steps = r.shape[1], range(len(x))
    activations = {
        n.replace("recurrent_activation", "recurrent").replace("cell_activation", "cell"): v
        for n, v in activations.items()
    } | {"clip": k}
    if direction == "bidirectional":
        y, h0, c0 = lstm_pass(x, h[:, :size], c[:, :size], weights(w, r, b, p), steps, **activations)
        z, h1, c1 = lstm_pass(x, h[:, size:], c[:, size:], weights(wb, rb, bb, pb), reversed(steps), **activations)
        y, h, c = np.concatenate([y, z[::-1]], 2), np.concatenate([h0, h1], 1), np.concatenate([c0, c1], 1)
    else:
        y, h, c = lstm_pass(
            x, h, c, weights(w, r, b, p), steps if direction == "forward" else reversed(steps), **activations
        )
    return y if output_sequence else h[None], h, c


def lstm(
    what,
    opset=15,
    both=False,
    half=False,
    bias=True,
    peephole=False,
    clip=None,
    bare=False,
    note="",
    sizes=(STEPS, BATCH, WIDTH, SIZE),
    source="numpy",
    reference=None,
    **options,
):
    steps, batch, width, size = sizes
    twice = 2 if options.get("direction") == "bidirectional" else 1
    inputs = {"x": real(steps, batch, width), "h": real(batch, twice * size), "c": real(batch, twice * size)}
    consts = {}
    for back in ("", "b")[:twice]:
        consts |= {"w" + back: normal(4 * size, width, scale=0.5), "r" + back: normal(4 * size, size, scale=0.5)}
        if bias:
            consts["b" + back if not back else "bb"] = normal(4 * size, scale=0.5)
        if peephole:
            consts["p" + back if not back else "pb"] = normal(3 * size, scale=0.5)
    if clip is not None:
        consts["k"] = clip

    def program(x, h, c, w, r, b=None, p=None, wb=None, rb=None, bb=None, pb=None, k=None):
        return mb.lstm(
            x=x,
            initial_h=h,
            initial_c=c,
            weight_ih=w,
            weight_hh=r,
            bias=b,
            peephole=p,
            weight_ih_back=wb,
            weight_hh_back=rb,
            bias_back=bb,
            peephole_back=pb,
            clip=k,
            **options,
        )

    case(
        f"recurrent/lstm-{what}",
        program,
        reference or (lambda **a: lstm_reference(**a, **options)),
        inputs,
        consts,
        opset=opset,
        both=both,
        half=half,
        bare=bare,
        note=note,
        source=source,
        outputs=["y", "last_h", "last_c"],
    )


def torch_lstm(x, h, c, w, r, b, wb=None, rb=None, bb=None):
    """torch's gates are in the order input, forget, cell, output."""

    def order(m):
        i, f, o, z = m.chunk(4)
        return torch.cat([i, f, z, o])

    size, twice = r.shape[1], 2 if wb is not None else 1
    module = torch.nn.LSTM(x.shape[2], size, bidirectional=twice == 2, dtype=torch.float64)
    with torch.no_grad():
        for tail, parts in {"": (w, r, b), "_reverse": (wb, rb, bb)}.items():
            if parts[0] is not None:
                getattr(module, "weight_ih_l0" + tail).copy_(order(parts[0]))
                getattr(module, "weight_hh_l0" + tail).copy_(order(parts[1]))
                getattr(module, "bias_ih_l0" + tail).copy_(order(parts[2]))
                getattr(module, "bias_hh_l0" + tail).zero_()
        split = [torch.stack(s.chunk(twice, 1)) for s in (h, c)]
        y, (h, c) = module(x, tuple(split))
    return y, torch.cat(list(h), 1), torch.cat(list(c), 1)


lstm("torch-forward", output_sequence=True, source="torch", reference=torch_reference(torch_lstm))
lstm(
    "torch-bidirectional",
    direction="bidirectional",
    output_sequence=True,
    source="torch",
    reference=torch_reference(torch_lstm),
)
lstm("defaults", bias=False, bare=True)
lstm("last-only", output_sequence=False)
lstm(
    "reverse",
    direction="reverse",
    output_sequence=True,
    note="the sequence of a reverse pass stays in the order it was computed in",
)
lstm("reverse-last-only", direction="reverse")
lstm("bidirectional-last-only", direction="bidirectional")
lstm("peephole", peephole=True, output_sequence=True)
lstm("peephole-bidirectional", peephole=True, direction="bidirectional", output_sequence=True)
lstm("clip", clip=0.4, output_sequence=True, note="the cell state is clamped after its update")
lstm("relu-cell", cell_activation="relu", activation="relu", output_sequence=True)
lstm("hard-sigmoid", recurrent_activation="hard_sigmoid", output_sequence=True, note="0.2 x + 0.5, clamped")
lstm("linear-output", activation="linear", output_sequence=True)
lstm("no-bias-bidirectional", bias=False, direction="bidirectional", output_sequence=True)
lstm("one-step", sizes=(1, 1, 3, 4), output_sequence=True)
lstm("wider", sizes=(6, 3, 33, 17), output_sequence=True)
lstm("ios17", opset=17, output_sequence=True)
lstm("ios17-f16", opset=17, half=True, direction="bidirectional", output_sequence=True)


def gru_reference(
    x,
    h,
    w,
    r,
    b=None,
    k=None,
    direction="forward",
    output_sequence=False,
    recurrent_activation="sigmoid",
    activation="tanh",
    reset_after=False,
):
    size = r.shape[1]
    bias = np.split(np.zeros(3 * size) if b is None else b, 3)
    extra = np.split(np.zeros(3 * size) if k is None else k, 3)
    gate, outer, results = ACTIVATIONS[recurrent_activation], ACTIVATIONS[activation], []
    rows = np.split(r, 3)
    for t in range(len(x)) if direction == "forward" else reversed(range(len(x))):
        ir, io, iz = np.split(x[t] @ w.T, 3, 1)
        reset = gate(ir + extra[0] + h @ rows[0].T + bias[0])
        update = gate(iz + extra[2] + h @ rows[2].T + bias[2])
        recurrent = reset * (h @ rows[1].T + bias[1]) if reset_after else (reset * h) @ rows[1].T + bias[1]
        h = (1 - update) * outer(io + extra[1] + recurrent) + update * h
        results.append(h)
    return np.stack(results) if output_sequence else h[None], h


def gru(
    what,
    opset=15,
    half=False,
    bias=True,
    input_bias=False,
    bare=False,
    note="",
    sizes=(STEPS, BATCH, WIDTH, SIZE),
    **options,
):
    steps, batch, width, size = sizes
    consts = {"w": normal(3 * size, width, scale=0.6), "r": normal(3 * size, size, scale=0.6)}
    consts |= {"b": normal(3 * size, scale=0.5)} if bias else {}
    consts |= {"k": normal(3 * size, scale=0.5)} if input_bias else {}

    def program(x, h, w, r, b=None, k=None):
        extra = {} if k is None else {"input_bias": k}
        return mb.gru(x=x, initial_h=h, weight_ih=w, weight_hh=r, bias=b, **extra, **options)

    case(
        f"recurrent/gru-{what}",
        program,
        lambda **a: gru_reference(**a, **options),
        {"x": real(steps, batch, width), "h": real(batch, size)},
        consts,
        opset=opset,
        half=half,
        bare=bare,
        note=note,
        outputs=["y", "last_h"],
    )


gru("forward", output_sequence=True)
gru("defaults", bias=False, bare=True)
gru("last-only")
gru(
    "reverse",
    direction="reverse",
    output_sequence=True,
    note="the sequence of a reverse pass stays in the order it was computed in",
)
gru("activations", recurrent_activation="hard_sigmoid", activation="relu", output_sequence=True)
gru("wider", sizes=(4, 3, 19, 9), output_sequence=True)
gru("ios17", opset=17, half=True, output_sequence=True)
gru("ios18", opset=18, output_sequence=True)
gru("ios18-reset-after", opset=18, reset_after=True, input_bias=True, output_sequence=True)
gru("ios18-reset-after-reverse", opset=18, reset_after=True, input_bias=True, direction="reverse", output_sequence=True)
gru("ios18-input-bias", opset=18, input_bias=True, output_sequence=True)


def torch_gru(x, h, w, r, b, k):
    def order(m):
        reset, new, update = m.chunk(3)
        return torch.cat([reset, update, new])

    module = torch.nn.GRU(x.shape[2], r.shape[1], dtype=torch.float64)
    with torch.no_grad():
        for name, value in {"weight_ih_l0": w, "weight_hh_l0": r, "bias_ih_l0": k, "bias_hh_l0": b}.items():
            getattr(module, name).copy_(order(value))
        y, h = module(x, h[None])
    return y, h[0]


case(
    "recurrent/gru-ios18-torch",
    lambda x, h, w, r, b, k: mb.gru(
        x=x, initial_h=h, weight_ih=w, weight_hh=r, bias=b, input_bias=k, reset_after=True, output_sequence=True
    ),
    torch_reference(torch_gru),
    {"x": real(STEPS, BATCH, WIDTH), "h": real(BATCH, SIZE)},
    {"w": normal(3 * SIZE, WIDTH), "r": normal(3 * SIZE, SIZE), "b": normal(3 * SIZE), "k": normal(3 * SIZE)},
    opset=18,
    outputs=["y", "last_h"],
    note="torch's own recurrence",
)


def rnn_reference(x, h, w, r, b=None, direction="forward", output_sequence=False, activation="tanh"):
    results = []
    for t in range(len(x)) if direction == "forward" else reversed(range(len(x))):
        h = ACTIVATIONS[activation](x[t] @ w.T + h @ r.T + (0 if b is None else b))
        results.append(h)
    return np.stack(results) if output_sequence else h[None], h


def rnn(what, opset=15, half=False, bias=True, bare=False, note="", **options):
    consts = {"w": normal(SIZE, WIDTH, scale=0.6), "r": normal(SIZE, SIZE, scale=0.6)} | (
        {"b": normal(SIZE)} if bias else {}
    )
    case(
        f"recurrent/rnn-{what}",
        lambda x, h, w, r, b=None: mb.rnn(x=x, initial_h=h, weight_ih=w, weight_hh=r, bias=b, **options),
        lambda **a: rnn_reference(**a, **options),
        {"x": real(STEPS, BATCH, WIDTH), "h": real(BATCH, SIZE)},
        consts,
        opset=opset,
        half=half,
        bare=bare,
        note=note,
        outputs=["y", "last_h"],
    )


rnn("forward", output_sequence=True)
rnn("defaults", bias=False, bare=True)
rnn("last-only")
rnn(
    "reverse",
    direction="reverse",
    output_sequence=True,
    note="the sequence of a reverse pass stays in the order it was computed in",
)
rnn("relu", activation="relu", output_sequence=True)
rnn("sigmoid", activation="sigmoid", output_sequence=True)
rnn("ios17", opset=17, half=True, output_sequence=True)


# ---- a recurrent layer as converters write it: a loop around a linear layer
def looped(x, w, b):
    zero = mb.fill(shape=[BATCH, SIZE], value=np.float32(0))

    def condition(i, h):
        return mb.less(x=i, y=np.int32(STEPS))

    def body(i, h):
        row = mb.squeeze(x=mb.gather(x=x, indices=mb.expand_dims(x=i, axes=[0]), axis=0), axes=[0])
        h = mb.tanh(x=mb.linear(x=mb.concat(values=[row, h], axis=1), weight=w, bias=b))
        return mb.add(x=i, y=np.int32(1)), h

    return mb.while_loop(_cond=condition, _body=body, loop_vars=(np.int32(0), zero))[1]


def looped_reference(x, w, b):
    h = np.zeros((BATCH, SIZE))
    for t in range(STEPS):
        h = np.tanh(np.concatenate([x[t], h], 1) @ w.T + b)
    return h


case(
    "recurrent/loop",
    looped,
    looped_reference,
    {"x": real(STEPS, BATCH, WIDTH)},
    {"w": normal(SIZE, WIDTH + SIZE, scale=0.6), "b": normal(SIZE)},
    note="the body reads the sequence and the weights from outside the loop",
)

for kind, gates in (("lstm", 4), ("gru", 3)):

    def program(x, rows, w, r, b, kind=kind):
        zeros = mb.fill(shape=rows, value=np.float32(0))
        layer = {"x": x, "initial_h": zeros, "weight_ih": w, "weight_hh": r, "bias": b, "output_sequence": True}
        return mb.lstm(initial_c=zeros, **layer)[0] if kind == "lstm" else mb.gru(**layer)[0]

    def reference(x, rows, w, r, b, kind=kind):
        zeros = np.zeros((BATCH, SIZE))
        if kind == "lstm":
            return lstm_pass(x, zeros, zeros, (w, r, b, np.zeros(3 * SIZE)), range(STEPS))[0]
        return gru_reference(x, zeros, w, r, b, output_sequence=True)[0]

    case(
        f"recurrent/{kind}-zeros-of-another-batch",
        program,
        reference,
        {"x": real(STEPS, BATCH, WIDTH), "rows": given([STEPS, SIZE])},
        {
            "w": normal(gates * SIZE, WIDTH, scale=0.5),
            "r": normal(gates * SIZE, SIZE, scale=0.5),
            "b": normal(gates * SIZE, scale=0.5),
        },
        note="packed sequences begin with as many zeros as the longest has steps",
    )
