"""Conditions, loops, lists and random numbers. Reference: the same thing said in Python."""

import numpy as np
from coremltools.converters.mil.mil import Builder as mb

from .case import case, given, integers, real

ONE = np.int32(1)


def first(x):
    """A tensor of one element as a scalar."""
    return mb.squeeze(x=x)


# ---- cond
for what, flag in {"true": [1], "false": [0]}.items():
    pick = {"p": given(np.array(flag, bool))}
    case(
        f"control/cond-{what}",
        lambda x, p: mb.cond(pred=first(p), _true_fn=lambda: mb.exp(x=x), _false_fn=lambda: mb.mul(x=x, y=x)),
        lambda x, p: np.exp(x) if p[0] else x * x,
        {"x": real(2, 3)} | pick,
        both=flag == [1],
    )
    case(
        f"control/cond-two-results-{what}",
        lambda x, y, p: mb.cond(
            pred=first(p),
            _true_fn=lambda: (mb.add(x=x, y=y), mb.relu(x=x)),
            _false_fn=lambda: (mb.sub(x=x, y=y), mb.abs(x=y)),
        ),
        lambda x, y, p: (x + y, np.maximum(x, 0)) if p[0] else (x - y, np.abs(y)),
        {"x": real(2, 3), "y": real(2, 3)} | pick,
    )

    def nested(x, p, q):
        def inner():
            return mb.cond(
                pred=first(q),
                _true_fn=lambda: mb.add(x=x, y=np.float32(1)),
                _false_fn=lambda: mb.add(x=x, y=np.float32(2)),
            )

        return mb.cond(pred=first(p), _true_fn=inner, _false_fn=lambda: mb.add(x=x, y=np.float32(3)))

    for other in (0, 1):
        case(
            f"control/cond-nested-{what}-{other}",
            nested,
            lambda x, p, q: x + (3 if not p[0] else 1 if q[0] else 2),
            {"x": real(2, 3), "q": given(np.array([other], bool))} | pick,
        )
case(
    "control/cond-passes-outer-value",
    lambda x, p: mb.cond(pred=first(p), _true_fn=lambda: mb.identity(x=x), _false_fn=lambda: mb.sin(x=x)),
    lambda x, p: x,
    {"x": real(3), "p": given(np.array([True]))},
)
case(
    "control/cond-computed-predicate",
    lambda x: mb.cond(
        pred=mb.greater(x=mb.reduce_sum(x=x), y=np.float32(0)),
        _true_fn=lambda: mb.sqrt(x=mb.abs(x=x)),
        _false_fn=lambda: mb.square(x=x),
    ),
    lambda x: np.sqrt(np.abs(x)) if x.sum() > 0 else x * x,
    {"x": real(2, 3)},
)


def positive(x):
    return mb.gather_nd(x=x, indices=mb.non_zero(x=mb.greater(x=x, y=np.float32(0))))


for what, flag in {"true": [True], "false": [False]}.items():
    case(
        f"control/cond-different-shapes-{what}",
        lambda x, p: mb.exp(
            x=mb.cond(pred=first(p), _true_fn=lambda: positive(x), _false_fn=lambda: mb.reshape(x=x, shape=[6]))
        ),
        lambda x, p: np.exp(x[x > 0] if p[0] else x.reshape(6)),
        {"x": real(2, 3), "p": given(np.array(flag))},
        note="the branches' shapes differ: what comes behind the condition is known only at run time",
    )


# ---- while_loop
def counted(limit):
    return lambda i, *_: mb.less(x=i, y=np.int32(limit))


def power(limit):
    def program(x):
        return mb.while_loop(
            _cond=counted(limit),
            _body=lambda i, y: (mb.add(x=i, y=ONE), mb.mul(x=y, y=x)),
            loop_vars=(np.int32(0), mb.identity(x=x)),
        )[1]

    return program


case("control/while_loop-counted", power(3), lambda x: x**4, {"x": real(2, 3)}, both=True)
case(
    "control/while_loop-never",
    power(0),
    lambda x: x,
    {"x": real(2, 3)},
    note="the body does not run; the variables come back as they were",
)


def growing(x):
    def body(i, y):
        return mb.add(x=i, y=ONE), mb.concat(values=[y, mb.mul(x=x, y=mb.cast(x=i, dtype="fp32"))], axis=0)

    return mb.while_loop(_cond=counted(3), _body=body, loop_vars=(np.int32(0), x))[1]


case(
    "control/while_loop-grows",
    growing,
    lambda x: np.concatenate([x, x * 0, x, x * 2]),
    {"x": real(1, 3)},
    note="the variable changes its shape in every pass",
)


def data_dependent(x):
    def condition(y):
        return mb.less(x=mb.reduce_sum(x=y), y=np.float32(100))

    return mb.while_loop(_cond=condition, _body=lambda y: mb.mul(x=y, y=np.float32(1.5)), loop_vars=(x,))


def data_dependent_reference(x):
    while x.sum() < 100:
        x = x * 1.5
    return x


case("control/while_loop-until-large", data_dependent, data_dependent_reference, {"x": real(2, 3, lo=0.1, hi=2)})


def nested_loops(x):
    def outer(i, y):
        def inner(j, z):
            return mb.add(x=j, y=ONE), mb.add(x=z, y=mb.mul(x=x, y=mb.cast(x=mb.mul(x=i, y=j), dtype="fp32")))

        _, z = mb.while_loop(_cond=counted(3), _body=inner, loop_vars=(np.int32(0), y))
        return mb.add(x=i, y=ONE), z

    return mb.while_loop(_cond=counted(4), _body=outer, loop_vars=(np.int32(0), mb.identity(x=x)))[1]


case(
    "control/while_loop-nested",
    nested_loops,
    lambda x: x + sum(i * j for i in range(4) for j in range(3)) * x,
    {"x": real(2, 3)},
    note="the inner loop reads variables of the outer one and of the function",
)


def loop_with_cond(x):
    def body(i, y):
        even = mb.equal(x=mb.mod(x=i, y=np.int32(2)), y=np.int32(0))
        return mb.add(x=i, y=ONE), mb.cond(
            pred=even, _true_fn=lambda: mb.add(x=y, y=x), _false_fn=lambda: mb.mul(x=y, y=np.float32(0.5))
        )

    return mb.while_loop(_cond=counted(5), _body=body, loop_vars=(np.int32(0), mb.identity(x=x)))[1]


def loop_with_cond_reference(x):
    y = x
    for i in range(5):
        y = y + x if i % 2 == 0 else y * 0.5
    return y


case("control/while_loop-with-cond", loop_with_cond, loop_with_cond_reference, {"x": real(2, 3)})


def fibonacci(n, p, q):
    def body(i, a, b):
        return mb.add(x=i, y=ONE), mb.identity(x=b), mb.add(x=a, y=b)

    limit = first(n)
    return mb.while_loop(
        _cond=lambda i, a, b: mb.less(x=i, y=limit), _body=body, loop_vars=(np.int32(0), first(p), first(q))
    )[1:]


case(
    "control/while_loop-int-variables",
    fibonacci,
    lambda n, p, q: (np.asarray(55, np.int32), np.asarray(89, np.int32)),
    {"n": given([10]), "p": given([0]), "q": given([1])},
    source="hand",
    note="the results have rank 0; variables are swapped in every pass",
)


def swapping(x, y):
    def body(i, a, b):
        return mb.add(x=i, y=ONE), b, a

    return mb.while_loop(_cond=counted(3), _body=body, loop_vars=(np.int32(0), x, y))[1:]


case(
    "control/while_loop-swap",
    swapping,
    lambda x, y: (y, x),
    {"x": real(2, 3), "y": real(2, 3)},
    note="the body returns its own variables, exchanged",
)


# ---- lists
def written(x):
    ls = mb.make_list(init_length=3, dynamic_length=False, elem_shape=(4,), dtype="fp32")
    ls = mb.list_write(ls=ls, index=2, value=x)
    ls = mb.list_write(ls=ls, index=0, value=mb.mul(x=x, y=np.float32(2)))
    return mb.list_read(ls=ls, index=2), mb.list_read(ls=ls, index=0), mb.list_gather(ls=ls, indices=[0, 2, 0])


case("control/list_write-read-gather", written, lambda x: (x, 2 * x, np.stack([2 * x, x, 2 * x])), {"x": real(4)})


def scattered(x):
    ls = mb.make_list(init_length=4, dynamic_length=False, elem_shape=(3,), dtype="fp32")
    ls = mb.list_scatter(ls=ls, indices=[3, 1], value=x)
    return mb.list_gather(ls=ls, indices=[1, 3]), mb.list_read(ls=ls, index=3), mb.list_length(ls=ls)


case("control/list_scatter-length", scattered, lambda x: (x[[1, 0]], x[0], np.asarray(4, np.int32)), {"x": real(2, 3)})


def untouched(x):
    ls = mb.make_list(init_length=3, dynamic_length=False, elem_shape=(2,), dtype="fp32")
    return mb.add(x=mb.list_read(ls=mb.list_write(ls=ls, index=1, value=x), index=0), y=x)


case(
    "control/list_read-unwritten", untouched, lambda x: x, {"x": real(2)}, note="an element nobody has written is zero"
)


def collected(x):
    def body(i, ls):
        row = mb.squeeze(x=mb.gather(x=x, indices=mb.expand_dims(x=i, axes=[0]), axis=0), axes=[0])
        return mb.add(x=i, y=ONE), mb.list_write(ls=ls, index=i, value=mb.exp(x=row))

    ls = mb.make_list(init_length=1, dynamic_length=True, elem_shape=(3,), dtype="fp32")
    _, ls = mb.while_loop(_cond=counted(4), _body=body, loop_vars=(np.int32(0), ls))
    return mb.list_gather(ls=ls, indices=[0, 1, 2, 3]), mb.list_length(ls=ls)


case(
    "control/list-in-loop",
    collected,
    lambda x: (np.exp(x), np.asarray(4, np.int32)),
    {"x": real(4, 3)},
    note="the list grows as it is written",
)


def integers_in_list(x):
    ls = mb.make_list(init_length=2, dynamic_length=True, elem_shape=(2,), dtype="int32")
    ls = mb.list_write(ls=ls, index=1, value=x)
    ls = mb.list_write(ls=ls, index=0, value=mb.add(x=x, y=ONE))
    return mb.list_gather(ls=ls, indices=[1, 0])


case("control/list-int32", integers_in_list, lambda x: np.stack([x, x + 1]), {"x": integers(2)})

case(
    "control/list_length-as-made",
    lambda x: mb.add(x=mb.list_length(ls=mb.make_list(init_length=5, dynamic_length=False, elem_shape=(2,))), y=x),
    lambda x: x + 5,
    {"x": integers(2)},
    source="hand",
)
case(
    "control/list-int32-unwritten",
    lambda x: mb.add(x=mb.list_read(ls=mb.make_list(init_length=2, elem_shape=(2,), dtype="int32"), index=1), y=x),
    lambda x: x,
    {"x": integers(2)},
    note="an element nobody has written is a zero of the list's type",
)

# ---- random numbers: only their distribution can be known
MANY = (4, 1000)


def random(what, program, shape, mean, deviation, low, high, source="hand", inputs=None):
    """The bounds allow six standard errors of the mean of so many numbers, and as much for their spread."""
    count = int(np.prod(shape))
    error = 6 * deviation / np.sqrt(count)
    bounds = {
        "mean": [mean - error, mean + error],
        "std": [deviation - 2 * error, deviation + 2 * error],
        "range": [low, high],
    }
    case(
        f"random/{what}",
        program,
        lambda **_: np.zeros(shape, np.float32),
        inputs or {"s": given(list(shape))},
        check="distribution",
        bounds={k: [round(v, 6) for v in pair] for k, pair in bounds.items()},
        source=source,
        note="only shape and distribution are right or wrong; the stored numbers are zeros",
    )


random(
    "random_uniform",
    lambda s: mb.random_uniform(shape=s, low=np.float32(-1), high=np.float32(3), seed=7),
    MANY,
    1.0,
    4 / 12**0.5,
    -1.0,
    3.0,
)
random(
    "random_uniform-const-shape",
    lambda x: mb.add(x=mb.random_uniform(shape=[3000], low=np.float32(0), high=np.float32(1), seed=-1), y=x),
    (3000,),
    0.5,
    1 / 12**0.5,
    0.0,
    1.0,
    inputs={"x": given([0.0], "fp32")},
)
random(
    "random_normal",
    lambda s: mb.random_normal(shape=s, mean=np.float32(2), stddev=np.float32(0.5), seed=3),
    MANY,
    2.0,
    0.5,
    -3.0,
    7.0,
)
random(
    "random_bernoulli",
    lambda s: mb.random_bernoulli(shape=s, prob=np.float32(0.3), seed=11),
    MANY,
    0.3,
    0.21**0.5,
    0.0,
    1.0,
)
PROBABILITIES = [0.1, 0.2, 0.7]
random(
    "random_categorical-probs",
    lambda x: mb.random_categorical(x=x, mode="probs", size=2000, seed=5),
    (1, 2000),
    1.6,
    0.44**0.5,
    0.0,
    2.0,
    inputs={"x": given([PROBABILITIES], "fp32")},
)
random(
    "random_categorical-logits",
    lambda x: mb.random_categorical(x=x, mode="logits", size=2000, seed=5),
    (1, 2000),
    1.6,
    0.44**0.5,
    0.0,
    2.0,
    inputs={"x": given([[float(np.log(p)) for p in PROBABILITIES]], "fp32")},
)
