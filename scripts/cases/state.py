"""Models with a state: predictions made one after the other. Reference: the same steps in numpy on a dictionary.

States are f16. Inputs are quarters and small, so that everything a state holds is exact in f16 and nothing depends on
where an engine rounds.
"""

import numpy as np
from coremltools.converters.mil.mil import Builder as mb

from .case import Draw, case

QUARTER = {"half": True, "opset": 18, "source": "numpy"}


def quarters(*shape):
    return Draw(lambda rng: (rng.integers(-8, 9, shape) / 4).astype(np.float32), "fp32")


def accumulate(x, s):
    return mb.coreml_update_state(state=s, value=mb.add(x=mb.read_state(input=s), y=x))


def accumulate_reference(x, state):
    state["s"] = state["s"] + x
    return state["s"]


case(
    "state/accumulator",
    accumulate,
    accumulate_reference,
    {"x": quarters(2, 3)},
    states={"s": (2, 3)},
    steps=4,
    **QUARTER,
)
case(
    "state/read-only",
    lambda x, s: mb.add(x=mb.read_state(input=s), y=x),
    lambda x, state: state["s"] + x,
    {"x": quarters(2, 3)},
    states={"s": (2, 3)},
    steps=2,
    note="a state nobody writes stays zero",
    **QUARTER,
)


def previous(x, s):
    before = mb.read_state(input=s)
    mb.coreml_update_state(state=s, value=mb.mul(x=x, y=np.float16(2)))
    return mb.sub(x=before, y=x)


def previous_reference(x, state):
    before, state["s"] = state["s"], 2 * x
    return before - x


case(
    "state/read-before-write",
    previous,
    previous_reference,
    {"x": quarters(4)},
    states={"s": (4,)},
    steps=3,
    note="what was read is a copy: a later write does not change it; the program ends with a write nobody reads",
    **QUARTER,
)


def two_writes(x, s):
    first = mb.coreml_update_state(state=s, value=x)
    second = mb.coreml_update_state(state=s, value=mb.add(x=first, y=first))
    return first, second, mb.read_state(input=s)


def two_writes_reference(x, state):
    state["s"] = 2 * x
    return x, 2 * x, 2 * x


case(
    "state/write-twice",
    two_writes,
    two_writes_reference,
    {"x": quarters(3)},
    states={"s": (3,)},
    steps=2,
    note="reads between writes see what was written last before them",
    **QUARTER,
)


def two_states(x, a, b):
    new = mb.coreml_update_state(state=a, value=mb.add(x=mb.read_state(input=a), y=x))
    other = mb.coreml_update_state(state=b, value=mb.maximum(x=mb.read_state(input=b), y=x))
    return mb.concat(values=[new, other], axis=0)


def two_states_reference(x, state):
    state["a"], state["b"] = state["a"] + x, np.maximum(state["b"], x)
    return np.concatenate([state["a"], state["b"]])


case(
    "state/two-states",
    two_states,
    two_states_reference,
    {"x": quarters(2, 2)},
    states={"a": (2, 2), "b": (2, 2)},
    steps=3,
    **QUARTER,
)


def cache(q, k, i, s):
    """One step of attention against a cache of keys that this step writes its own key into."""
    begin = mb.concat(values=[np.array([0], np.int32), i, np.array([0], np.int32)], axis=0)
    end = mb.concat(
        values=[np.array([1], np.int32), mb.add(x=i, y=np.array([1], np.int32)), np.array([4], np.int32)], axis=0
    )
    keys = mb.slice_update(x=mb.read_state(input=s), update=k, begin=begin, end=end)
    keys = mb.coreml_update_state(state=s, value=keys)
    return mb.matmul(x=q, y=keys, transpose_y=True)


def cache_reference(q, k, i, state):
    keys = state["s"].copy()
    keys[:, i[0] : i[0] + 1] = k
    state["s"] = keys
    return q @ keys.swapaxes(1, 2)


case(
    "state/key-cache",
    cache,
    cache_reference,
    {
        "q": quarters(1, 2, 4),
        "k": quarters(1, 1, 4),
        "i": Draw(lambda rng: rng.integers(0, 6, (1,)).astype(np.int32), "int32"),
    },
    states={"s": (1, 6, 4)},
    steps=5,
    note="read, slice_update, write: an engine may do it in place",
    **QUARTER,
)


def conditional(x, s):
    large = mb.greater(x=mb.reduce_sum(x=x), y=np.float16(0))
    value = mb.cond(
        pred=large,
        _true_fn=lambda: mb.add(x=mb.read_state(input=s), y=x),
        _false_fn=lambda: mb.mul(x=mb.read_state(input=s), y=np.float16(-1)),
    )
    return mb.coreml_update_state(state=s, value=value)


def conditional_reference(x, state):
    state["s"] = state["s"] + x if x.sum() > 0 else -state["s"]
    return state["s"]


case(
    "state/read-in-cond",
    conditional,
    conditional_reference,
    {"x": quarters(3)},
    states={"s": (3,)},
    steps=5,
    note="the state is read inside the branches",
    **QUARTER,
)
