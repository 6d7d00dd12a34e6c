"""The arithmetic of the referee: medians, paired ratios and their bootstrap intervals. Standard library only."""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple, TypeVar

T = TypeVar("T")

RESAMPLES = 10_000
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
    if len(samples) != len(baseline) or not samples:
        raise ValueError(f"paired samples needed, got {len(samples)} and {len(baseline)}")
    ratios = [sample / base for sample, base in zip(samples, baseline)]
    generator = random.Random(BOOTSTRAP_SEED)
    medians = sorted(median(generator.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    tail = (1.0 - confidence) / 2.0
    last = len(medians) - 1
    return Ratio(median(ratios), medians[round(tail * last)], medians[round((1.0 - tail) * last)])


def rotated(items: Sequence[T], by: int) -> list[T]:
    """The items in the same cyclic order, starting `by` places later, so that nobody always goes first."""
    shift = by % len(items) if items else 0
    return [*items[shift:], *items[:shift]]
