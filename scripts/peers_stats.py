"""The arithmetic of the referee: medians, paired ratios and their bootstrap intervals. Standard library only."""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import geometric_mean, median
from typing import NamedTuple, TypeVar

T = TypeVar("T")

RESAMPLES = 4_000
BOOTSTRAP_SEED = 1


class Ratio(NamedTuple):
    """How many times as long something takes as the baseline: a point and the interval that holds it."""

    value: float
    low: float
    high: float


def paired_ratio(samples: Sequence[float], baseline: Sequence[float], confidence: float = 0.95) -> Ratio:
    """The median over rounds of `samples[i] / baseline[i]`, with a percentile bootstrap interval over the rounds.

    Both come from the same rounds in the same order. Pairing by round takes out what slows a whole round down
    (another process, a lower clock). Raises ValueError if the lengths differ or are 0.
    """
    return geometric_mean_ratio([quotients(samples, baseline)], confidence)


def quotients(samples: Sequence[float], baseline: Sequence[float]) -> list[float]:
    """`samples[i] / baseline[i]`. Raises ValueError if the lengths differ or are 0."""
    if len(samples) != len(baseline) or not samples:
        raise ValueError(f"paired samples needed, got {len(samples)} and {len(baseline)}")
    return [sample / base for sample, base in zip(samples, baseline)]


def geometric_mean_ratio(models: Sequence[Sequence[float]], confidence: float = 0.95) -> Ratio:
    """The geometric mean over models of the median over rounds of their ratios; rounds are resampled within a model."""
    generator = random.Random(BOOTSTRAP_SEED)
    resampled = [
        geometric_mean([median(generator.choices(ratios, k=len(ratios))) for ratios in models])
        for _ in range(RESAMPLES)
    ]
    resampled.sort()
    tail = (1.0 - confidence) / 2.0
    last = len(resampled) - 1
    low, high = resampled[round(tail * last)], resampled[round((1.0 - tail) * last)]
    return Ratio(geometric_mean([median(ratios) for ratios in models]), low, high)


def rotated(items: Sequence[T], by: int) -> list[T]:
    """The items in the same cyclic order, starting `by` places later, so that nobody always goes first."""
    shift = by % len(items) if items else 0
    return [*items[shift:], *items[:shift]]
