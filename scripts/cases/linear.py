"""Matrix products, attention and normalisation. Reference: torch, or the definition in numpy."""

import numpy as np
import torch
import torch.nn.functional as F
from coremltools.converters.mil.mil import Builder as mb

from .case import case, given, normal, real, torch_reference

# ---- linear, matmul, einsum
for what, shape in {"rank1": (6,), "rank2": (3, 6), "rank3": (2, 5, 6), "one-row": (1, 6)}.items():
    case(
        f"linear/linear-{what}",
        lambda x, w, b: mb.linear(x=x, weight=w, bias=b),
        torch_reference(lambda x, w, b: F.linear(x, w, b)),
        {"x": real(*shape)},
        {"w": normal(4, 6, scale=0.4), "b": normal(4)},
        both=True,
    )
case(
    "linear/linear-no-bias",
    lambda x, w: mb.linear(x=x, weight=w),
    torch_reference(lambda x, w: F.linear(x, w)),
    {"x": real(3, 6)},
    {"w": normal(4, 6)},
    bare=True,
)
case(
    "linear/linear-large",
    lambda x, w, b: mb.linear(x=x, weight=w, bias=b),
    torch_reference(lambda x, w, b: F.linear(x, w, b)),
    {"x": real(7, 129)},
    {"w": normal(67, 129, scale=0.1), "b": normal(67)},
    both=True,
)
case(
    "linear/linear-ios17",
    lambda x, w, b: mb.linear(x=x, weight=w, bias=b),
    torch_reference(lambda x, w, b: F.linear(x, w, b)),
    {"x": real(3, 6)},
    {"w": normal(4, 6), "b": normal(4)},
    opset=17,
    both=True,
)
case(
    "linear/linear-ios17-f32-weights",
    lambda x, w, b: mb.linear(x=x, weight=w, bias=b),
    torch_reference(lambda x, w, b: F.linear(x, w, b)),
    {"x": real(3, 6)},
    {"w": normal(4, 6), "b": normal(4)},
    opset=17,
    half=True,
    wide=("w", "b"),
)
case(
    "linear/linear-one-output",
    lambda x, w, b: mb.linear(x=x, weight=w, bias=b),
    torch_reference(lambda x, w, b: F.linear(x, w, b)),
    {"x": real(5, 17)},
    {"w": normal(1, 17), "b": normal(1)},
)
case(
    "linear/linear-gelu-linear",
    lambda x, w, v, b: mb.add(x=mb.linear(x=mb.gelu(x=mb.linear(x=x, weight=w)), weight=v, bias=b), y=x),
    torch_reference(lambda x, w, v, b: F.linear(F.gelu(F.linear(x, w)), v, b) + x),
    {"x": real(1, 5, 12)},
    {"w": normal(30, 12, scale=0.3), "v": normal(12, 30, scale=0.2), "b": normal(12)},
    both=True,
    note="a feed-forward block",
)


def matmul(what, x, y, const=False, opset=15, both=False, bare=False, **p):
    def reference(x, y):
        x = x.swapaxes(-1, -2) if p.get("transpose_x") else x
        return np.matmul(x, y.swapaxes(-1, -2) if p.get("transpose_y") else y)

    inputs, consts = {"x": real(*x)}, {}
    (consts if const else inputs)["y"] = normal(*y)
    case(
        f"linear/matmul-{what}",
        lambda x, y: mb.matmul(x=x, y=y, **p),
        reference,
        inputs,
        consts,
        opset=opset,
        both=both,
        bare=bare,
    )


matmul("rank2", (3, 5), (5, 4), both=True)
matmul("defaults", (3, 5), (5, 4), bare=True)
matmul("transpose-x", (5, 3), (5, 4), transpose_x=True)
matmul("transpose-y", (3, 5), (4, 5), transpose_y=True, both=True)
matmul("transpose-both", (2, 5, 3), (2, 4, 5), transpose_x=True, transpose_y=True)
matmul("batch", (2, 3, 4, 5), (2, 3, 5, 6), both=True)
matmul("batch-broadcast", (2, 1, 4, 5), (3, 5, 6))
matmul("batch-broadcast-left", (4, 5), (2, 3, 5, 6))
matmul("const", (2, 7, 5), (5, 6), const=True, both=True)
matmul("const-transposed", (2, 7, 5), (6, 5), const=True, transpose_y=True, both=True)
matmul("row-times-matrix", (1, 33), (33, 18))
matmul("matrix-times-column", (18, 33), (33, 1))
matmul("vector-matrix", (5,), (5, 4))
matmul("larger", (35, 70), (70, 41), both=True)
matmul("ios17", (3, 5), (5, 4), const=True, opset=17, both=True)
matmul("rank5", (2, 1, 2, 3, 4), (1, 3, 1, 4, 2))
case(
    "linear/matmul-ios17-f32-constant",
    lambda x, y: mb.matmul(x=x, y=y),
    lambda x, y: x @ y,
    {"x": real(3, 5)},
    {"y": normal(5, 4)},
    opset=17,
    half=True,
    wide=("y",),
)
case(
    "linear/matmul-int32",
    lambda x, y: mb.matmul(x=x, y=y),
    lambda x, y: x @ y,
    {"x": given([[1, -2, 3], [4, 5, -6]]), "y": given([[1, 2], [-3, 4], [5, 6]])},
)
for equation, x, y in (
    ("nchw,nwhu->nchu", (2, 3, 4, 5), (2, 5, 4, 6)),
    ("chw,whr->chr", (3, 4, 5), (5, 4, 6)),
    ("abcd,adce->abce", (1, 2, 3, 4), (1, 4, 3, 2)),
):
    case(
        f"linear/einsum-{equation.split('->')[0].replace(',', '-')}",
        lambda x, y, equation=equation: mb.einsum(values=(x, y), equation=equation),
        lambda x, y, equation=equation: np.einsum(equation, x, y),
        {"x": real(*x), "y": real(*y)},
        both=True,
    )

# ---- attention
SDPA = torch_reference(lambda q, k, v, m=None: F.scaled_dot_product_attention(q, k, v, attn_mask=m))
ATTENTION = {"q": real(2, 3, 5, 8), "k": real(2, 3, 7, 8), "v": real(2, 3, 7, 6)}


def sdpa(q, k, v, m=None):
    return mb.scaled_dot_product_attention(query=q, key=k, value=v, attn_mask=m)


case("linear/scaled_dot_product_attention", sdpa, SDPA, ATTENTION, opset=18, both=True)
case("linear/scaled_dot_product_attention-float-mask", sdpa, SDPA, ATTENTION | {"m": real(5, 7)}, opset=18, both=True)
case(
    "linear/scaled_dot_product_attention-bool-mask",
    sdpa,
    SDPA,
    ATTENTION | {"m": given(np.tril(np.ones((5, 7), bool), 2))},
    opset=18,
    both=True,
    note="true means: attend",
)
case("linear/scaled_dot_product_attention-mask-per-head", sdpa, SDPA, ATTENTION | {"m": real(2, 3, 5, 7)}, opset=18)
case(
    "linear/scaled_dot_product_attention-infinite-mask",
    sdpa,
    SDPA,
    ATTENTION,
    {"m": given(np.triu(np.full((5, 7), -np.inf), 1), "fp32")},
    opset=18,
    both=True,
)
case(
    "linear/scaled_dot_product_attention-rank3",
    sdpa,
    SDPA,
    {"q": real(2, 1, 8), "k": real(2, 9, 8), "v": real(2, 9, 8)},
    opset=18,
    note="one query: a decoder's step",
)
case(
    "linear/attention-by-hand",
    lambda q, k, v, s: mb.matmul(x=mb.softmax(x=mb.matmul(x=mb.mul(x=q, y=s), y=k, transpose_y=True), axis=-1), y=v),
    torch_reference(lambda q, k, v, s: torch.softmax((q * s) @ k.transpose(-1, -2), -1) @ v),
    ATTENTION,
    {"s": 8**-0.5},
    both=True,
    note="what converters write before iOS 18",
)

case(
    "linear/scaled_dot_product_attention-longer",
    sdpa,
    SDPA,
    {"q": real(1, 2, 33, 16), "k": real(1, 2, 65, 16), "v": real(1, 2, 65, 16)},
    opset=18,
    both=True,
)

# ---- normalisation
for opset in (15, 17):
    tail, both = ("", True) if opset == 15 else (f"-ios{opset}", False)
    for rank, shape in ((3, (2, 4, 6)), (4, (2, 4, 3, 5)), (5, (1, 4, 2, 3, 2))):
        if opset == 15 or rank == 4:
            case(
                f"norm/batch_norm-rank{rank}{tail}",
                lambda x, m, v, g, b: mb.batch_norm(
                    x=x, mean=m, variance=v, gamma=g, beta=b, epsilon=g.dtype.type(1e-3)
                ),
                torch_reference(lambda x, m, v, g, b: F.batch_norm(x, m, v, g, b, eps=1e-3)),
                {"x": real(*shape)},
                {"m": normal(4), "v": real(4, lo=0.2, hi=3), "g": normal(4), "b": normal(4)},
                opset=opset,
                both=both,
            )
            case(
                f"norm/instance_norm-rank{rank}{tail}",
                lambda x, g, b: mb.instance_norm(x=x, gamma=g, beta=b, epsilon=g.dtype.type(1e-3)),
                torch_reference(lambda x, g, b: F.instance_norm(x, weight=g, bias=b, eps=1e-3)),
                {"x": real(*shape)},
                {"g": normal(4), "b": normal(4)},
                opset=opset,
                both=both,
            )
    case(
        f"norm/layer_norm-last{tail}",
        lambda x, g, b: mb.layer_norm(x=x, axes=[-1], gamma=g, beta=b, epsilon=g.dtype.type(1e-3)),
        torch_reference(lambda x, g, b: F.layer_norm(x, (17,), g, b, eps=1e-3)),
        {"x": real(3, 5, 17)},
        {"g": normal(17), "b": normal(17)},
        opset=opset,
        both=both,
    )
    case(
        f"norm/l2_norm{tail}",
        lambda x: mb.l2_norm(x=x, epsilon=np.float32(7.5)),
        lambda x: x / np.sqrt(np.square(x).sum((-3, -2, -1), keepdims=True) + 7.5),
        {"x": real(2, 3, 4, 5)},
        opset=opset,
        note="over the last three dimensions together",
    )
    case(
        f"norm/local_response_norm{tail}",
        lambda x, a, b, k: mb.local_response_norm(x=x, size=3, alpha=a, beta=b, k=k),
        torch_reference(lambda x, a, b, k: F.local_response_norm(x, 3, float(a), float(b), float(k))),
        {"x": real(2, 7, 3, 4)},
        {"a": 0.5, "b": 0.6, "k": 1.5},
        opset=opset,
        both=both,
    )
case(
    "norm/batch_norm-defaults",
    lambda x, m, v: mb.batch_norm(x=x, mean=m, variance=v),
    torch_reference(lambda x, m, v: F.batch_norm(x, m, v, eps=float(np.float32(1e-5)))),
    {"x": real(2, 4, 3, 5)},
    {"m": normal(4), "v": real(4, lo=0.2, hi=3)},
    bare=True,
)
case(
    "norm/batch_norm-relu",
    lambda x, m, v, g, b: mb.relu(x=mb.batch_norm(x=x, mean=m, variance=v, gamma=g, beta=b)),
    torch_reference(lambda x, m, v, g, b: F.relu(F.batch_norm(x, m, v, g, b))),
    {"x": real(2, 4, 3, 5)},
    {"m": normal(4), "v": real(4, lo=0.2, hi=3), "g": normal(4), "b": normal(4)},
    both=True,
    note="how DenseNet begins a layer",
)
case(
    "norm/instance_norm-defaults",
    lambda x: mb.instance_norm(x=x),
    torch_reference(lambda x: F.instance_norm(x)),
    {"x": real(2, 3, 6, 5)},
    bare=True,
)
case(
    "norm/layer_norm-defaults",
    lambda x: mb.layer_norm(x=x, axes=[0, 1, 2]),
    torch_reference(lambda x: F.layer_norm(x, (2, 3, 5))),
    {"x": real(2, 3, 5)},
    bare=True,
    without=("axes",),
    note="without axes all dimensions are normalised together",
)
case(
    "norm/layer_norm-two-axes",
    lambda x, g, b: mb.layer_norm(x=x, axes=[-2, -1], gamma=g, beta=b),
    torch_reference(lambda x, g, b: F.layer_norm(x, (4, 5), g, b)),
    {"x": real(2, 3, 4, 5)},
    {"g": normal(4, 5), "b": normal(4, 5)},
    both=True,
)
case(
    "norm/layer_norm-no-beta",
    lambda x, g: mb.layer_norm(x=x, axes=[2], gamma=g),
    torch_reference(lambda x, g: F.layer_norm(x, (9,), g)),
    {"x": real(2, 3, 9)},
    {"g": normal(9)},
)
case(
    "norm/layer_norm-middle-axis",
    lambda x, g, b: mb.layer_norm(x=x, axes=[1], gamma=g, beta=b),
    torch_reference(lambda x, g, b: F.layer_norm(x.movedim(1, -1), (6,), g, b).movedim(-1, 1)),
    {"x": real(2, 6, 3, 4)},
    {"g": normal(6), "b": normal(6)},
    both=True,
    note="channels first, as ConvNeXt has it",
)
case(
    "norm/layer_norm-outer-axes",
    lambda x: mb.layer_norm(x=x, axes=[0, 2]),
    lambda x: (x - x.mean((0, 2), keepdims=True)) / np.sqrt(x.var((0, 2), keepdims=True) + 1e-5),
    {"x": real(3, 4, 5)},
)
case(
    "norm/layer_norm-large-mean",
    lambda x, g: mb.layer_norm(x=x, axes=[-1], gamma=g),
    torch_reference(lambda x, g: F.layer_norm(x, (64,), g)),
    {"x": real(3, 64, lo=100, hi=104)},
    {"g": normal(64)},
    rtol=1e-3,
    note="E[x^2] - E[x]^2 loses most digits here; an f32 mean near 100 is itself off by 1e-5 of the spread",
)
case(
    "norm/l2_norm-defaults",
    lambda x: mb.l2_norm(x=x),
    lambda x: x / np.sqrt(np.square(x).sum((-3, -2, -1), keepdims=True) + 1e-6),
    {"x": real(3, 4, 5)},
    bare=True,
)
case(
    "norm/local_response_norm-defaults",
    lambda x: mb.local_response_norm(x=x, size=5),
    torch_reference(lambda x: F.local_response_norm(x, 5, 1e-4, 0.75, 1.0)),
    {"x": real(2, 8, 3, 4, lo=-40, hi=40)},
    bare=True,
)
case(
    "norm/local_response_norm-even-size",
    lambda x, a: mb.local_response_norm(x=x, size=4, alpha=a),
    torch_reference(lambda x, a: F.local_response_norm(x, 4, float(a))),
    {"x": real(2, 8, 3, 4)},
    {"a": 2.0},
    note="an even window reaches one further back than forward",
)


def group_norm(x):
    y = mb.reshape(x=x, shape=[2, 2, 3, 4, 5])
    d = mb.sub(x=y, y=mb.reduce_mean(x=y, axes=[2, 3, 4], keep_dims=True))
    v = mb.reduce_mean(x=mb.square(x=d), axes=[2, 3, 4], keep_dims=True)
    return mb.reshape(x=mb.real_div(x=d, y=mb.sqrt(x=mb.add(x=v, y=np.float32(1e-5)))), shape=[2, 6, 4, 5])


case(
    "norm/group-norm-composed",
    group_norm,
    torch_reference(lambda x: F.group_norm(x, 2)),
    {"x": real(2, 6, 4, 5)},
    note="how converters write group normalisation",
)


def rms_norm(x, g):
    return mb.mul(
        x=mb.mul(
            x=x,
            y=mb.rsqrt(
                x=mb.reduce_mean(x=mb.pow(x=x, y=g.dtype.type(2)), axes=[-1], keep_dims=True),
                epsilon=g.dtype.type(1e-5),
            ),
        ),
        y=g,
    )


case(
    "norm/rms-norm-composed",
    rms_norm,
    lambda x, g: x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-5) * g,
    {"x": real(2, 3, 16)},
    {"g": normal(16)},
    both=True,
    note="how converters write root mean square normalisation",
)
