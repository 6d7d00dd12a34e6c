"""Files of sound: phrases with pauses between them, as the script's fixtures and measurements need them."""

from __future__ import annotations

import random
import struct

import numpy as np

from .espeak import SAMPLE_RATE
from .windows import Phrase


def speech(bank: list[Phrase], dice: random.Random, seconds: float) -> tuple[np.ndarray, list[dict]]:
    """Phrases for at most so long, and of each when it begins and ends and its words."""
    end = int(seconds * SAMPLE_RATE)
    samples = np.random.default_rng(dice.getrandbits(32)).standard_normal(end, np.float32) * 1e-3
    told, at = [], int(dice.uniform(0.1, 0.5) * SAMPLE_RATE)
    for phrase in bank:
        until = at + len(phrase.samples)
        if until > end:
            break
        samples[at:until] += phrase.samples * 10 ** dice.uniform(-0.7, -0.1)
        told.append(
            {"begin": round(at / SAMPLE_RATE, 2), "end": round(until / SAMPLE_RATE, 2), "text": " ".join(phrase.words)}
        )
        at = until + int(dice.uniform(0.4, 1.2) * SAMPLE_RATE)
    return samples.clip(-1, 1), told


def mu_law(samples: np.ndarray) -> np.ndarray:
    """Eight bits a sample, by the rules of G.711."""
    magnitude = np.minimum(np.abs(samples * 32768).round().astype(np.int32), 32635) + 132
    exponent = np.log2(magnitude).astype(np.int32) - 7
    code = exponent << 4 | magnitude >> exponent + 3 & 15
    return (~(code | np.where(samples < 0, 128, 0)) & 255).astype(np.uint8)


def expanded(codes: np.ndarray) -> np.ndarray:
    code = ~codes.astype(np.int32) & 255
    magnitude = (((code & 15) << 3) + 132 << (code >> 4 & 7)) - 132
    return (np.where(code & 128, -magnitude, magnitude) / 32768).astype(np.float32)


def mu_law_file(samples: np.ndarray) -> bytes:
    return _file(7, 8, mu_law(samples).tobytes())


def linear_file(samples: np.ndarray) -> bytes:
    return _file(1, 16, (samples * 32767).astype("<i2").tobytes())


def _file(tag: int, bits: int, data: bytes) -> bytes:
    size = bits // 8
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, tag, 1, SAMPLE_RATE, SAMPLE_RATE * size, size, bits)
    return b"RIFF" + struct.pack("<I", 4 + len(form) + 8 + len(data)) + b"WAVE" + form + b"data" + struct.pack("<I", len(data)) + data
