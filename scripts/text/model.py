"""A small network of Llama's structure, with its keys and values in states of the model."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

WIDTH, HEADS, KEY_HEADS, LAYERS, HIDDEN = 96, 4, 2, 3, 256
CONTEXT = 256
HEAD = WIDTH // HEADS


class Norm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5) * self.weight


def turned(x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """Pairs of elements, turned by an angle that grows with the position."""
    a, b = x[..., : HEAD // 2], x[..., HEAD // 2 :]
    return x * cosines + torch.cat([-b, a], dim=-1) * sines


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Norm(), Norm()
        self.query, self.out = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2))
        self.key, self.value = (nn.Linear(WIDTH, KEY_HEADS * HEAD, bias=False) for _ in range(2))
        self.gate, self.up = (nn.Linear(WIDTH, HIDDEN, bias=False) for _ in range(2))
        self.down = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x, cosines, sines, mask, remember):
        """`remember` keeps keys and values, and gives all of them."""
        y = self.first(x)
        split = lambda t, heads: t.reshape(1 if t.shape[0] == 1 else -1, y.shape[1], heads, HEAD).transpose(1, 2)  # noqa: E731
        queries = turned(split(self.query(y), HEADS), cosines, sines)
        keys, values = remember(turned(split(self.key(y), KEY_HEADS), cosines, sines), split(self.value(y), KEY_HEADS))
        keys, values = (t.repeat_interleave(HEADS // KEY_HEADS, dim=1) for t in (keys, values))
        weights = torch.softmax(queries @ keys.transpose(2, 3) * HEAD**-0.5 + mask, dim=-1)
        x = x + self.out((weights @ values).transpose(1, 2).reshape(x.shape))
        y = self.second(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Network(nn.Module):
    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, WIDTH)
        nn.init.normal_(self.tokens.weight, std=0.05)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = Norm()
        angles = torch.arange(CONTEXT)[:, None] * 10000.0 ** (-torch.arange(HEAD // 2) / (HEAD // 2))
        angles = torch.cat([angles, angles], dim=1)
        self.register_buffer("cosines", angles.cos())
        self.register_buffer("sines", angles.sin())

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits of all positions, for the training."""
        length = tokens.shape[1]
        mask = torch.full((length, length), float("-inf")).triu(1)
        x = self.tokens(tokens)
        for block in self.blocks:
            x = block(x, self.cosines[:length], self.sines[:length], mask, lambda keys, values: (keys, values))
        return self.norm(x) @ self.tokens.weight.T


class Stateful(nn.Module):
    """`inputIds` [1, new] and `causalMask` [1, 1, new, all] to `logits` [1, new, vocabulary]; what was read before is in states."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        for name in ("keyCache", "valueCache"):
            self.register_buffer(name, torch.zeros(LAYERS, 1, KEY_HEADS, CONTEXT, HEAD))

    def forward(self, inputIds, causalMask):  # noqa: N803
        end = causalMask.shape[-1]
        begin = end - inputIds.shape[-1]
        network = self.network
        cosines, sines = network.cosines[begin:end], network.sines[begin:end]
        x = network.tokens(inputIds)
        for i, block in enumerate(network.blocks):

            def remember(keys, values, i=i):
                self.keyCache[i, :, :, begin:end] = keys
                self.valueCache[i, :, :, begin:end] = values
                return self.keyCache[i, :, :, :end], self.valueCache[i, :, :, :end]

            x = block(x, cosines, sines, causalMask, remember)
        return network.norm(x) @ network.tokens.weight.T
