"""The networks behind the rows of `make_peer_models.py`, with seeded weights that keep activations alive.

Every builder returns a `Built`: the module in f32 and evaluation mode, and what goes in. Classifiers are timm's; the
others are written here as the papers' plain forms, since only their shapes matter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MethodType

import numpy as np
import torch
from make_fixtures import FIXTURES, PHOTOS, crop_photo
from torch import nn
from torch.nn import functional as F

SEED = 20251123
PHOTO = "coffee"
SETTLE_STEPS = 30  # normalisation momentum is 0.1, so what it started from is down to 4 %
LOGIT_SPREAD = 2.0
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Built:
    """A module and its example inputs, in the order of its arguments."""

    module: nn.Module
    inputs: dict[str, np.ndarray]  # by the package's feature names
    twin_inputs: dict[str, np.ndarray]  # by the twins' names
    steps: list[dict[str, np.ndarray]] = field(default_factory=list)  # inputs of consecutive predictions on one cache
    stateful: nn.Module | None = None  # the form with caches in buffers, for the package
    states: tuple[str, ...] = ()  # the names of those buffers


def photos(size: int) -> dict[str, torch.Tensor]:
    """Every photograph, 1 x 3 x size x size, normalised as ImageNet's networks take it."""
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    pixels = {name: torch.tensor(crop_photo(name, size)).permute(2, 0, 1) / 255 for name in PHOTOS}
    return {name: ((picture - mean) / std)[None] for name, picture in pixels.items()}


def settle(module: nn.Module, pictures: torch.Tensor) -> None:
    """Lets the running statistics of batch normalisation take the values that these pictures cause."""
    module.train()
    with torch.no_grad():
        for _ in range(SETTLE_STEPS):
            module(pictures)
    module.eval()


def fixture(name: str) -> Built:
    """The body of a fixture: scaled pixels in, logits out. Its package takes the photograph itself."""
    row = next(row for row in FIXTURES if row.name == name)
    pixels = crop_photo(PHOTO, row.size)
    scaled = pixels.astype(np.float32) * np.float32(row.scale) + np.float32(row.bias)
    return Built(row.build(), {"image": pixels}, {"x": np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])})


def timm_classifier(name: str, size: int, fix_shapes: bool = False) -> Built:
    """A classifier of timm, untrained: normalised pixels in, 1000 logits with a standard deviation of 2 out.

    `fix_shapes` makes constants of the sizes that the network computes; coremltools 9 with numpy 2.4 cannot convert them.
    """
    import timm

    torch.manual_seed(SEED)
    model = timm.create_model(name, pretrained=False)
    for parameter_name, parameter in model.named_parameters():
        layer_scale = parameter_name.endswith("gamma")  # starts near 0
        if layer_scale or (parameter_name.endswith("weight") and not parameter.any()):  # would switch its block off
            parameter.data = 0.3 + 0.7 * torch.rand(parameter.shape)
    pictures = photos(size)
    settle(model, torch.cat(list(pictures.values())))
    head = model.get_classifier()
    head.weight.data = torch.randn(head.weight.shape)
    head.bias.data.zero_()
    with torch.no_grad():
        head.weight.data *= LOGIT_SPREAD / model(pictures[PHOTO]).std()
    if fix_shapes:
        model = torch.export.export(model, (pictures[PHOTO],)).module()
        model.train = MethodType(nn.Module.train, model)  # exporters call it, and the exported module's own refuses
    inputs = {"x": pictures[PHOTO].numpy()}
    return Built(model, inputs, inputs)


class BertLayer(nn.Module):
    def __init__(self, length: int, width: int, heads: int) -> None:
        super().__init__()
        self.whole, self.split = (1, length, width), (1, length, heads, width // heads)
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-12), nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        def split(y: torch.Tensor) -> torch.Tensor:
            return y.view(self.split).transpose(1, 2)

        mixed = F.scaled_dot_product_attention(
            split(self.query(x)), split(self.key(x)), split(self.value(x)), attn_mask=mask
        )
        x = self.norm1(x + self.output(mixed.transpose(1, 2).reshape(self.whole)))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class Bert(nn.Module):
    """BERT's encoder in the measures of MiniLM-L6: token ids and a 0/1 mask in, the last hidden state out."""

    def __init__(self, length: int) -> None:
        super().__init__()
        vocabulary, width, layers, heads = 30522, 384, 6, 12
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(512, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(BertLayer(length, width, heads) for _ in range(layers))
        self.register_buffer("places", torch.arange(length)[None], persistent=False)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.tokens(ids) + self.positions(self.places))
        bias = (1.0 - mask[:, None, None, :].to(x.dtype)) * -1e4
        for layer in self.layers:
            x = layer(x, bias)
        return x


def bert(length: int) -> Built:
    """MiniLM-L6's measures at a fixed length; the last eighth of the sequence is padding."""
    torch.manual_seed(SEED)
    model = Bert(length).eval()
    ids = np.random.default_rng(SEED).integers(1000, 30000, (1, length)).astype(np.int32)
    mask = np.ones((1, length), np.int32)
    mask[:, length - length // 8 :] = 0
    inputs = {"ids": ids, "mask": mask}
    return Built(model, inputs, inputs)


def double_convolution(inputs: int, outputs: int) -> nn.Module:
    parts = []
    for width in (inputs, outputs):
        parts += [nn.Conv2d(width, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*parts)


class UNet(nn.Module):
    """Four levels, transposed convolutions on the way up; a picture in, one channel of logits out."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128, 256)) -> None:
        super().__init__()
        self.down = nn.ModuleList(double_convolution(a, b) for a, b in zip((3, *widths), widths))
        self.rise = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in zip(widths, widths[1:]))
        self.up = nn.ModuleList(double_convolution(2 * a, a) for a in widths[:-1])
        self.head = nn.Conv2d(widths[0], 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for rise, block, skip in zip(reversed(self.rise), reversed(self.up), reversed(skips[:-1])):
            x = block(torch.cat([skip, rise(x)], dim=1))
        return self.head(x)


def unet(size: int) -> Built:
    torch.manual_seed(SEED)
    model = UNet()
    pictures = photos(size)
    settle(model, torch.cat(list(pictures.values())))
    inputs = {"x": pictures[PHOTO].numpy()}
    return Built(model, inputs, inputs)


class Lstm(nn.Module):
    def __init__(self, width: int = 256, layers: int = 2) -> None:
        super().__init__()
        self.body = nn.LSTM(width, width, num_layers=layers, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)[0]


def lstm(length: int) -> Built:
    """Two layers, 256 wide; uniform initial weights keep the gates in their sloping part."""
    torch.manual_seed(SEED)
    inputs = {"x": torch.randn(1, length, 256).numpy()}
    return Built(Lstm().eval(), inputs, inputs)


@dataclass(frozen=True)
class LlamaSize:
    """The measures of the decoder; about 21 million parameters."""

    vocabulary: int = 8000
    width: int = 512
    layers: int = 6
    heads: int = 8
    kv_heads: int = 2
    hidden: int = 1408
    context: int = 128

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def cache_shape(self) -> tuple[int, ...]:
        return (self.layers, self.kv_heads, self.context, self.head_width)


class RmsNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


class LlamaLayer(nn.Module):
    def __init__(self, size: LlamaSize) -> None:
        super().__init__()
        self.size = size
        kv_width = size.kv_heads * size.head_width
        self.norm1, self.norm2 = RmsNorm(size.width), RmsNorm(size.width)
        self.query = nn.Linear(size.width, size.width, bias=False)
        self.key, self.value = (nn.Linear(size.width, kv_width, bias=False) for _ in range(2))
        self.output = nn.Linear(size.width, size.width, bias=False)
        self.gate, self.up = (nn.Linear(size.width, size.hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(size.hidden, size.width, bias=False)

    def project(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The new token's queries, and the row that it adds to each cache: heads x 1 x head width."""
        normed, size = self.norm1(x), self.size

        def heads(y: torch.Tensor, count: int) -> torch.Tensor:
            return y.view(count, 1, size.head_width)

        def rotate(y: torch.Tensor) -> torch.Tensor:
            first, second = y.chunk(2, dim=-1)
            return y * cos + torch.cat((-second, first), dim=-1) * sin

        query = rotate(heads(self.query(normed), size.heads))
        key = rotate(heads(self.key(normed), size.kv_heads))
        return query, key, heads(self.value(normed), size.kv_heads)

    def finish(
        self, x: torch.Tensor, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Attention over whole caches (kv heads x context x head width), then the feed-forward part."""
        size = self.size

        def repeat(cache: torch.Tensor) -> torch.Tensor:
            shape = (size.kv_heads, size.heads // size.kv_heads, size.context, size.head_width)
            return cache[:, None].expand(shape).reshape(1, size.heads, size.context, size.head_width)

        mixed = F.scaled_dot_product_attention(query[None], repeat(keys), repeat(values), attn_mask=mask)
        x = x + self.output(mixed.reshape(1, 1, size.width))
        normed = self.norm2(x)
        return x + self.down(F.silu(self.gate(normed)) * self.up(normed))


class Llama(nn.Module):
    """One step of decoding: a token and its position in, logits out; caches are passed in and given back."""

    def __init__(self, size: LlamaSize) -> None:
        super().__init__()
        self.size = size
        self.tokens = nn.Embedding(size.vocabulary, size.width)
        self.layers = nn.ModuleList(LlamaLayer(size) for _ in range(size.layers))
        self.norm, self.head = RmsNorm(size.width), nn.Linear(size.width, size.vocabulary, bias=False)
        frequency = 10000.0 ** (-torch.arange(0, size.head_width, 2) / size.head_width)
        angles = (torch.arange(size.context)[:, None] * frequency[None]).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self.register_buffer("places", torch.arange(size.context, dtype=torch.int32), persistent=False)

    def start(self, token: torch.Tensor, position: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The embedded token, its rotation, and the mask that hides later positions."""
        mask = torch.where(self.places <= position, 0.0, -1e4).view(1, 1, 1, self.size.context)
        return self.tokens(token), self.cos[position], self.sin[position], mask

    def forward(
        self, token: torch.Tensor, position: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        x, cos, sin, mask = self.start(token, position)
        here = (self.places == position).view(1, self.size.context, 1)
        all_keys, all_values = [], []
        for number, layer in enumerate(self.layers):
            query, key, value = layer.project(x, cos, sin)
            all_keys.append(torch.where(here, key, keys[number]))
            all_values.append(torch.where(here, value, values[number]))
            x = layer.finish(x, query, all_keys[-1], all_values[-1], mask)
        return self.head(self.norm(x)), torch.stack(all_keys), torch.stack(all_values)


class StatefulLlama(nn.Module):
    """The same step with its caches in buffers, written in place: what coremltools turns into states."""

    def __init__(self, body: Llama) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("keys", torch.zeros(body.size.cache_shape))
        self.register_buffer("values", torch.zeros(body.size.cache_shape))

    def forward(self, token: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        x, cos, sin, mask = self.body.start(token, position)
        for number, layer in enumerate(self.body.layers):
            query, key, value = layer.project(x, cos, sin)
            self.keys[number, :, position : position + 1] = key
            self.values[number, :, position : position + 1] = value
            x = layer.finish(x, query, self.keys[number], self.values[number], mask)
        return self.body.head(self.body.norm(x))


def llama() -> Built:
    """A decoder of 6 layers; its inputs are one step in the middle of the context, its steps start from nothing."""
    from make_peer_models import CHECKED_STEPS

    torch.manual_seed(SEED)
    size = LlamaSize()
    model = Llama(size).eval()
    for parameter in model.parameters():
        if parameter.dim() == 2 and parameter.shape[0] != size.vocabulary:
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    model.head.weight.data *= LOGIT_SPREAD * 3**0.5  # from a uniform range of 1/sqrt(width) to logits of that spread
    tokens = np.random.default_rng(SEED).integers(0, size.vocabulary, CHECKED_STEPS)
    steps = [
        {"token": np.array([[token]], np.int32), "position": np.array([number], np.int32)}
        for number, token in enumerate(tokens)
    ]
    inputs = {"token": steps[0]["token"], "position": np.array([size.context // 2], np.int32)}
    cache = np.zeros(size.cache_shape, np.float32)
    twin_inputs = {**inputs, "keys": cache, "values": cache}
    return Built(model, inputs, twin_inputs, steps, StatefulLlama(model), ("keys", "values"))
