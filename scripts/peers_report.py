"""The referee's report in Markdown: the machine, the times and their ratios, and how far the answers lie apart."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from peers_engines import BASELINE, Peer
from peers_stats import paired_ratio

BEGIN, END = "<!-- peers.py: begin -->", "<!-- peers.py: end -->"
TELLING_FLAGS = ["avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile"]
QUIET_SPREAD = 1.5  # rounds of one engine on a quiet machine stay well within this factor
REFERENCE = "PyTorch (stored)"


@dataclass(frozen=True)
class Case:
    """All rounds of one model and thread count; `expected` are PyTorch's probabilities."""

    model: str
    threads: int
    results: dict[str, list[dict[str, Any]]]
    expected: np.ndarray

    @property
    def title(self) -> str:
        return f"{self.model}, {self.threads} thread{'s' * (self.threads > 1)}"

    def failure(self, key: str) -> str | None:
        """Why an engine has no figures, or None."""
        return next((result["error"] for result in self.results[key] if "error" in result), None)

    def p50s(self, key: str) -> list[float]:
        """The median of each round in milliseconds, in round order."""
        return [result["p50_ms"] for result in self.results[key]]

    def answer(self, key: str) -> np.ndarray:
        """The probabilities of the first round."""
        return np.array(self.results[key][0]["probabilities"])

    def spread(self) -> float:
        """The slowest round over the fastest one, for the engine where that is largest."""
        spreads = [max(self.p50s(key)) / min(self.p50s(key)) for key in self.results if not self.failure(key)]
        return max(spreads, default=1.0)

    def steady(self, key: str) -> bool:
        """Whether every round gave the very same probabilities."""
        return all(result["probabilities"] == self.results[key][0]["probabilities"] for result in self.results[key])


def machine() -> str:
    """One line that tells what the figures are measured on, and how busy it is at this moment."""
    name, flags = platform.processor() or platform.machine(), []
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        facts = dict(line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
        facts = {key.strip(): value.strip() for key, value in facts.items()}
        name = facts.get("model name", name)
        present = facts.get("flags", "").split()
        flags = [flag for flag in TELLING_FLAGS if flag in present]
    features = f" ({' '.join(flags)})" if flags else ""
    line = f"{name}{features}, {os.cpu_count()} processors, {platform.platform()}, Python {platform.python_version()}"
    return f"{line}, load average {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else line


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int]) -> str:
    """A Markdown table with aligned columns; `right` are the columns flushed right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = (c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(cells, widths)))
        return "| " + " | ".join(padded) + " |"

    rule = "|".join("-" * (width + 1) + (":" if i in right else "-") for i, width in enumerate(widths))
    return "\n".join([line(head), f"|{rule}|", *map(line, rows)])


def times(peers: list[Peer], cases: list[Case]) -> str:
    """The table of latencies, one row per model, thread count and engine."""
    rows = []
    for case in cases:
        usable_baseline = BASELINE in case.results and not case.failure(BASELINE)
        for peer in peers:
            title = peer.title if peer.like_for_like else f"{peer.title} \\*"
            row = [case.model, str(case.threads), title]
            if case.failure(peer.key):
                rows.append([*row, "failed", "", "", ""])
                continue
            p50s = case.p50s(peer.key)
            row += [f"{median(p50s):.2f}", f"{min(p50s):.2f}..{max(p50s):.2f}"]
            if usable_baseline and peer.key != BASELINE:
                ratio = paired_ratio(p50s, case.p50s(BASELINE))
                row += [f"{ratio.value:.2f}", f"{ratio.low:.2f}..{ratio.high:.2f}"]
            else:
                row += ["1" if usable_baseline else "", ""]
            rows.append(row)
    head = ["model", "threads", "engine", "p50 ms", "min..max of rounds", "ratio to ORT", "95 % interval"]
    return table(head, rows, right=[1, 3, 4, 5, 6])


def answers(peers: list[Peer], cases: list[Case]) -> str:
    """The largest difference of any class probability between every two answers, at each model's first thread count."""
    blocks = []
    for case in {case.model: case for case in reversed(cases)}.values():
        given = {peer.title: case.answer(peer.key) for peer in peers if not case.failure(peer.key)}
        given[REFERENCE] = case.expected
        top = int(case.expected.argmax())
        rows = []
        for title, answer in given.items():
            apart = ["" if title == other else f"{np.abs(answer - given[other]).max():.1e}" for other in given]
            rows.append([title, *apart, "same" if int(answer.argmax()) == top else "DIFFERS"])
        head = [case.title, *given, "top-1"]
        blocks.append(table(head, rows, right=range(1, len(given) + 1)))
    return "\n\n".join(reversed(blocks))


def remarks(peers: list[Peer], cases: list[Case]) -> list[str]:
    """What the reader must know about single rows: failures, lower precision, answers that changed between rounds."""
    lines = []
    if any(not peer.like_for_like for peer in peers):
        lines.append("\\* asked to compute in fewer bits than f32: shown for scale, not like for like.")
    for peer in peers:
        notes = {r["note"] for case in cases for r in case.results[peer.key] if r.get("note")}
        lines += [f"{peer.title}: {note}." for note in sorted(notes)]
        for case in cases:
            where = f"{peer.title} on {case.title}"
            if case.failure(peer.key):
                lines.append(f"{where} FAILED: {case.failure(peer.key)}")
            elif not case.steady(peer.key):
                lines.append(f"{where}: not every round gave the same bytes.")
    noisy = [case.title for case in cases if case.spread() > QUIET_SPREAD]
    if noisy:
        worst = max(case.spread() for case in cases)
        lines.append(
            f"NOISY: the rounds of one engine differ by up to {worst:.1f}x ({'; '.join(noisy)}). Something else used "
            "the processors, which hurts engines with spinning threads most: do not quote these rows."
        )
    return lines


def versions(peers: list[Peer], cases: list[Case]) -> str:
    found = {p.title: r["version"] for p in peers for case in cases for r in case.results[p.key] if "version" in r}
    return ", ".join(f"{title} {version}" for title, version in found.items())


def report(peers: list[Peer], cases: list[Case], measured_on: str, settings: str) -> str:
    """The whole report as Markdown, without a heading."""
    reading = (
        "p50 is the median over rounds of each round's median. The ratio is the median over rounds of time / ONNX "
        "Runtime's time in the same round: below 1 is faster than ONNX Runtime. The interval is a percentile bootstrap "
        "over rounds. What is timed is one prediction as each engine's caller makes it: the coreml-anywhere row starts "
        "from the uint8 image and ends in labelled probabilities; the others start from an f32 tensor already scaled "
        "and end in logits."
    )
    lines = [
        f"Machine: {measured_on}.",
        f"Engines: {versions(peers, cases)}.",
        f"Measured: {settings}; each engine in a fresh process every round, order rotating.",
    ]
    parts = ["\n".join(f"- {line}" for line in lines), times(peers, cases)]
    notes = remarks(peers, cases)
    if notes:
        parts.append("\n".join(f"- {note}" for note in notes))
    apart = "Largest difference of any class probability between two answers to that photograph:"
    return "\n\n".join([*parts, reading, apart, answers(peers, cases)])


def write_section(path: Path, text: str) -> None:
    """Puts the report between its markers in a document, at the end if it has none; makes a missing document."""
    section = f"{BEGIN}\n{text}\n{END}\n"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# Performance\n\n{section}", encoding="utf-8")
        return
    document = path.read_text(encoding="utf-8")
    if BEGIN in document and END in document:
        before, rest = document.split(BEGIN, 1)
        after = rest.split(END, 1)[1].lstrip("\n")
        document = before + section + (f"\n{after}" if after else "")
    else:
        document = document.rstrip("\n") + f"\n\n{section}"
    path.write_text(document, encoding="utf-8")
