"""Phrases, windows of sound made of them, and what is to be written for a window."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from . import vocabulary
from .espeak import SAMPLE_RATE, Synthesizer

WINDOW = int(vocabulary.WINDOW_SECONDS * SAMPLE_RATE)

ACCENTS = ["en-us", "en", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan"]
# Speakers of the training and others, of the tests.
TRAINED = ["", "+m1", "+m2", "+m3", "+m5", "+m6", "+m8", "+f1", "+f2", "+f4", "+f5"]
HELD_OUT = ["+m4", "+m7", "+f3"]


@dataclass
class Phrase:
    words: list[str]
    samples: np.ndarray  # in [-1, 1]


def phrase(synthesizer: Synthesizer, dice: random.Random, speakers: list[str]) -> Phrase:
    words = dice.choices(list(vocabulary.WORDS), k=dice.choice([1, 2, 2, 3, 3, 4]))
    voice = dice.choice(ACCENTS) + dice.choice(speakers)
    # Some say the words one by one, with commas' pauses between them.
    text = dice.choice([" ", " ", ", "]).join(words)
    samples = synthesizer.speak(text, voice, dice.randint(120, 190), dice.randint(20, 80), dice.randint(20, 80))
    return Phrase(words, samples)


def phrases(count: int, seed: int, speakers: list[str]) -> list[Phrase]:
    synthesizer, dice = Synthesizer(), random.Random(seed)
    return [phrase(synthesizer, dice, speakers) for _ in range(count)]


def window(dice: random.Random, bank: list[Phrase]) -> tuple[np.ndarray, list[int]]:
    """A window's sound, and its tokens from the first time on. A phrase that the window's end cuts has its begin only."""
    samples = np.zeros(WINDOW, np.float32)
    tokens: list[int] = []
    if dice.random() < 0.06:
        tokens.append(vocabulary.SILENCE)
        at = WINDOW
    else:
        at = int(dice.choice([0.0, dice.random() * 0.3, dice.random() * 2]) * SAMPLE_RATE)
    loudness = 10 ** dice.uniform(-1.2, 0)
    while at < WINDOW - SAMPLE_RATE // 5:
        spoken = dice.choice(bank)
        whole = at + len(spoken.samples) <= WINDOW
        cut = spoken.samples[: WINDOW - at]
        samples[at : at + len(cut)] += cut * loudness * 10 ** dice.uniform(-0.15, 0.15)
        begin = vocabulary.time(at / SAMPLE_RATE)
        if not whole:
            tokens.append(begin)
            break
        at += len(cut)
        tokens += [begin, *vocabulary.encode(spoken.words), vocabulary.time(at / SAMPLE_RATE)]
        at += int(dice.choice([dice.uniform(0.35, 0.7), dice.uniform(0.35, 2.5)]) * SAMPLE_RATE)
    noise = np.random.default_rng(dice.getrandbits(32)).standard_normal(WINDOW, np.float32)
    return samples + noise * 10 ** dice.uniform(-4.5, -2.2) * max(loudness, 0.1), tokens
