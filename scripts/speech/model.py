"""A small model of Whisper's structure, and its two parts with the interface of the packages for Apple devices."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from . import vocabulary

MELS, WIDTH, HEADS = 80, 80, 4
ENCODER_LAYERS, DECODER_LAYERS = 3, 2
FRAMES = int(vocabulary.WINDOW_SECONDS * 100)
CONTEXT = 48  # tokens of one window


class LogMel(nn.Module):
    """Whisper's front end: 25 ms every 10 ms, bands equally wide to the ear, logarithms down to 8 decades below the loudest."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bands", torch.from_numpy(bands(MELS)))
        self.register_buffer("hann", torch.hann_window(400))

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        spectrum = torch.stft(samples, 400, 160, window=self.hann, return_complex=True)[..., :-1].abs() ** 2
        logarithm = (self.bands @ spectrum).clamp(min=1e-10).log10()
        loudest = logarithm.amax(dim=(-2, -1), keepdim=True)
        return (torch.maximum(logarithm, loudest - 8) + 4) / 4


def bands(count: int) -> np.ndarray:
    """Triangles over the 201 frequencies, on Slaney's scale: linear below 1 kHz, logarithmic above; each of area one."""
    step = math.log(6.4) / 27

    def to_hertz(mel: np.ndarray) -> np.ndarray:
        return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(step * (mel - 15)))

    top = 15 + math.log(8000 / 1000) / step
    edges = to_hertz(np.linspace(0, top, count + 2))
    hertz = np.arange(201) * 40.0
    rise = (hertz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - hertz) / (edges[2:] - edges[1:-1])[:, None]
    return (np.maximum(0, np.minimum(rise, fall)) * (2 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.key = nn.Linear(WIDTH, WIDTH, bias=False)

    def attend(self, x, keys, values, mask=None):
        """What is found, and the weights. `keys` and `values` are (batch, positions, width)."""
        split = lambda t: torch.stack(t.split(WIDTH // HEADS, dim=-1), dim=1)  # noqa: E731
        scores = split(self.query(x)) @ split(keys).transpose(2, 3) * (WIDTH // HEADS) ** -0.5
        weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
        found = torch.cat((weights @ split(values)).unbind(1), dim=-1)
        return self.out(found), weights


class Block(nn.Module):
    """Attention to itself, to the sound if it is the decoder's, and two dense layers."""

    def __init__(self, crossed: bool) -> None:
        super().__init__()
        self.own, self.own_norm = Attention(), nn.LayerNorm(WIDTH)
        self.cross, self.cross_norm = (Attention(), nn.LayerNorm(WIDTH)) if crossed else (None, None)
        self.dense = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def rest(self, x, sound=None):
        """Everything behind the attention to itself."""
        weights = None
        if self.cross is not None:
            found, weights = self.cross.attend(self.cross_norm(x), self.cross.key(sound), self.cross.value(sound))
            x = x + found
        return x + self.dense(x), weights

    def forward(self, x, sound=None, mask=None):
        y = self.own_norm(x)
        x = x + self.own.attend(y, self.own.key(y), self.own.value(y), mask)[0]
        return self.rest(x, sound)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(MELS, WIDTH, 3, stride=2, padding=1)
        self.second = nn.Conv1d(WIDTH, WIDTH, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(Block(crossed=False) for _ in range(ENCODER_LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        positions = torch.arange(FRAMES // 4)[:, None] * torch.exp(-math.log(10000) * torch.arange(WIDTH // 2) / (WIDTH // 2))
        self.register_buffer("positions", torch.cat([positions.sin(), positions.cos()], dim=1))

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """(batch, bands, frames) to (batch, positions, width)"""
        x = F.gelu(self.second(F.gelu(self.first(mel)))).transpose(1, 2) + self.positions
        for block in self.blocks:
            x = block(x)[0]
        return self.norm(x)


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary.SIZE, WIDTH)
        self.positions = nn.Embedding(CONTEXT, WIDTH)
        nn.init.normal_(self.tokens.weight, std=0.05)
        nn.init.normal_(self.positions.weight, std=0.05)
        self.blocks = nn.ModuleList(Block(crossed=True) for _ in range(DECODER_LAYERS))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, tokens: torch.Tensor, sound: torch.Tensor) -> torch.Tensor:
        """Logits of all positions at once, for the training."""
        length = tokens.shape[1]
        mask = torch.full((length, length), float("-inf")).triu(1)
        x = self.tokens(tokens) + self.positions.weight[:length]
        for block in self.blocks:
            x = block(x, sound, mask)[0]
        return self.norm(x) @ self.tokens.weight.T


class Recognizer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(), Decoder()
        # Tells the encoder what it should hear while the decoder does not yet listen; left out of what is published.
        self.hint = nn.Linear(WIDTH, len(vocabulary.PIECES) + 1)


class AudioEncoder(nn.Module):
    """`melspectrogram_features` [1, bands, 1, frames] to `encoder_output_embeds` [1, width, 1, positions]."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, melspectrogram_features):
        return self.encoder(melspectrogram_features.squeeze(2)).transpose(1, 2).unsqueeze(2)


class TextDecoder(nn.Module):
    """One token; the caches are handed in, and what is to be added to them is handed out."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(
        self, input_ids, cache_length, key_cache, value_cache, kv_cache_update_mask, encoder_output_embeds, decoder_key_padding_mask
    ):  # fmt: skip
        decoder = self.decoder
        sound = encoder_output_embeds.squeeze(2).transpose(1, 2)
        x = (decoder.tokens(input_ids) + decoder.positions(cache_length)).unsqueeze(1)
        mask = decoder_key_padding_mask.reshape(1, 1, 1, CONTEXT)
        here = kv_cache_update_mask.reshape(1, CONTEXT, 1)
        caches = [t.squeeze(2).split(WIDTH, dim=1) for t in (key_cache, value_cache)]
        keys, values, weights = [], [], None
        for block, old_keys, old_values in zip(decoder.blocks, *caches, strict=True):
            y = block.own_norm(x)
            key, value = block.own.key(y), block.own.value(y)
            all_keys = old_keys.transpose(1, 2) * (1 - here) + key * here
            all_values = old_values.transpose(1, 2) * (1 - here) + value * here
            x = x + block.own.attend(y, all_keys, all_values, mask)[0]
            x, weights = block.rest(x, sound)
            keys.append(key.transpose(1, 2))
            values.append(value.transpose(1, 2))
        logits = decoder.norm(x) @ decoder.tokens.weight.T
        updates = [torch.cat(t, dim=1).unsqueeze(2) for t in (keys, values)]
        return logits, *updates, weights.mean(dim=1).squeeze(1)
