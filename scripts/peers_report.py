"""The referee's report in Markdown: the machine, times and ratios, cold starts, and how far the answers lie apart."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from make_peer_models import MODELS
from peers_cold import OURS, Start
from peers_engines import PEERS, Peer
from peers_stats import geometric_mean_ratio, paired_ratio, quotients

BEGIN, END = "<!-- peers.py: begin -->", "<!-- peers.py: end -->"
TELLING_FLAGS = ["avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile"]
QUIET_SPREAD = 1.5  # rounds of one engine on a quiet machine stay well within this factor


@dataclass(frozen=True)
class Case:
    """All rounds of one model and thread count, and how far each engine's answer is from PyTorch's stored one."""

    model: str
    threads: int
    results: dict[str, list[dict[str, Any]]]
    apart: dict[str, list]  # by engine: [largest difference / largest value, whether the top is at the same place]

    @property
    def title(self) -> str:
        return f"{self.model}, {self.threads} thread{'s' * (self.threads > 1)}"

    def failure(self, key: str) -> str | None:
        """Why an engine has no figures, or None."""
        return next((result["error"] for result in self.results[key] if "error" in result), None)

    def measured(self, key: str) -> bool:
        return bool(self.results.get(key)) and not self.failure(key)

    def p50s(self, key: str) -> list[float]:
        """The median of each round in milliseconds, in round order."""
        return [result["p50_ms"] for result in self.results[key]]

    def best_contender(self) -> list[float]:
        """The p50 of the fastest contender of each round; empty if none was measured."""
        rows = [self.p50s(peer.key) for peer in PEERS if peer.contender and self.measured(peer.key)]
        return [min(round_) for round_ in zip(*rows)]

    def ratios(self) -> list[float]:
        """Ours over the best contender, round by round; empty if either is missing."""
        ours = next((peer.key for peer in PEERS if peer.ours), "")
        best = self.best_contender()
        return quotients(self.p50s(ours), best) if best and self.measured(ours) else []

    def spread(self) -> float:
        """The slowest round over the fastest one, for the engine of the ratio where that is larger."""
        keys = [peer.key for peer in PEERS if (peer.ours or peer.contender) and self.measured(peer.key)]
        return max((max(self.p50s(key)) / min(self.p50s(key)) for key in keys), default=1.0)

    def steady(self, key: str) -> bool:
        """Whether every round gave the very same answer."""
        return len({result["digest"] for result in self.results[key]}) == 1


def distances(given: dict[str, np.ndarray], reference: np.ndarray) -> dict[str, list]:
    """Each engine's distance to the reference, as `Case` keeps it. An answer of another length is infinitely far."""
    apart = {}
    for key, answer in given.items():
        if answer.shape != reference.shape:
            apart[key] = [float("inf"), False]
            continue
        relative = float(np.abs(answer - reference).max() / np.abs(reference).max())
        apart[key] = [relative, bool(answer.argmax() == reference.argmax())]
    return apart


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


def figure(value: float) -> str:
    """Milliseconds with three significant digits where that makes sense."""
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def times(peers: list[Peer], cases: list[Case]) -> str:
    """The latencies: a row for each model and thread count, then the geometric means."""
    rows = []
    for case in cases:
        cells = []
        for peer in peers:
            failed = "failed" if case.results.get(peer.key) else ""
            cells.append(figure(median(case.p50s(peer.key))) if case.measured(peer.key) else failed)
        rows.append([case.model, str(case.threads), *cells, *ratio_cells([case.ratios()]), f"{case.spread():.2f}"])
    for threads in sorted({case.threads for case in cases}):
        models = [ratios for case in cases if case.threads == threads and (ratios := case.ratios())]
        if len(models) > 1:
            blank = [""] * len(peers)
            rows.append([f"geometric mean of {len(models)}", str(threads), *blank, *ratio_cells(models), ""])
    head = ["model", "threads", *(peer.title for peer in peers), "ratio", "95 % interval", "spread"]
    return table(head, rows, right=range(1, len(head)))


def ratio_cells(models: list[list[float]]) -> list[str]:
    if not all(models):
        return ["", ""]
    ratio = geometric_mean_ratio(models)
    return [f"{ratio.value:.2f}", f"{ratio.low:.2f}..{ratio.high:.2f}"]


def low_precision(peers: list[Peer], cases: list[Case]) -> str:
    """The rows that may round factors to bf16: their latencies, and each of ours over OpenVINO's in the same rounds."""
    peers = [peer for peer in peers if peer.bf16]
    rival = next((peer for peer in peers if peer.key.startswith("openvino")), None)
    ours = [peer for peer in peers if peer is not rival]
    rows = []
    for case in cases:
        if not any(case.measured(peer.key) for peer in peers):
            continue
        row = [case.model, str(case.threads)]
        row += [figure(median(case.p50s(peer.key))) if case.measured(peer.key) else "failed" for peer in peers]
        for peer in ours:
            both = rival and case.measured(peer.key) and case.measured(rival.key)
            row += ratio_cells([quotients(case.p50s(peer.key), case.p50s(rival.key))]) if both else ["", ""]
        rows.append(row)
    ratios = [title for peer in ours for title in (f"{peer.title} / OpenVINO's", "95 % interval")]
    head = ["model", "threads", *(peer.title for peer in peers), *ratios]
    return table(head, rows, right=range(1, len(head))) if rows else ""


def tokens(peers: list[Peer], cases: list[Case]) -> str:
    """Tokens per second of the decoders."""
    decoders = {model.name for model in MODELS if model.decoder}
    parts = []
    for case in cases:
        if case.model in decoders:
            speeds = [f"{p.title} {1e3 / median(case.p50s(p.key)):.0f}" for p in peers if case.measured(p.key)]
            parts.append(f"{case.title}, tokens/s: {', '.join(speeds)}.")
    return "\n".join(f"- {part}" for part in parts)


def answers(peers: list[Peer], cases: list[Case]) -> str:
    """How far every answer is from PyTorch's, at each model's first thread count."""
    rows = []
    for case in {case.model: case for case in reversed(cases)}.values():
        cells = []
        for peer in peers:
            relative, same_top = case.apart.get(peer.key, (None, True))
            known = "" if relative is None else f"{relative:.1e}"
            cells.append(known if same_top else f"{known} TOP DIFFERS")
        rows.append([case.model, *cells])
    return table(["model", *(peer.title for peer in peers)], rows[::-1], right=range(1, len(peers) + 1))


def cold_table(cold: list[Start]) -> str:
    """Cold starts, with our time over each rival's."""
    rows = []
    for start in cold:
        row = [start.model, str(start.threads), start.engine]
        if start.error:
            rows.append([*row, "failed", "", "", ""])
            continue
        ours = next(o for o in cold if (o.model, o.threads, o.engine) == (start.model, start.threads, OURS))
        ratio = ["", ""]
        if start is not ours and not ours.error:
            found = paired_ratio(ours.first_ms, start.first_ms)
            ratio = [f"{found.value:.2f} ({found.low:.2f}..{found.high:.2f})"]
            ratio += [f"{median(ours.peak_kib) / median(start.peak_kib):.2f}"]
        rows.append([*row, figure(median(start.first_ms)), ratio[0], f"{median(start.peak_kib) / 1024:.0f}", ratio[1]])
    head = ["model", "threads", "engine", "first result ms", "ours / this", "peak MiB", "ours / this"]
    return table(head, rows, right=[1, 3, 4, 5, 6])


def remarks(peers: list[Peer], cases: list[Case], cold: list[Start], absent: dict[str, str]) -> list[str]:
    """What the reader must know about single rows: absences, failures, answers that changed between rounds, noise."""
    lines = [f"{title}: not on this CPU ({why})." for title, why in absent.items()]
    for peer in peers:
        for case in cases:
            if case.results.get(peer.key) and case.failure(peer.key):
                lines.append(f"{peer.title} on {case.title} FAILED: {case.failure(peer.key)}")
            elif case.measured(peer.key) and not case.steady(peer.key):
                lines.append(f"{peer.title} on {case.title}: not every round gave the same bytes.")
    lines += [f"Cold start of {s.engine} on {s.model} FAILED: {s.error}" for s in cold if s.error]
    noisy = [case.title for case in cases if case.spread() > QUIET_SPREAD]
    if noisy:
        worst = max(case.spread() for case in cases)
        lines.append(
            f"NOISY: the rounds of one engine differ by up to {worst:.1f}x ({'; '.join(noisy)}). Something else used "
            "the processors, which hurts engines with spinning threads most: do not quote these rows."
        )
    return lines


def versions(peers: list[Peer], cases: list[Case]) -> str:
    found = {p.title: r["version"] for p in peers for c in cases for r in c.results.get(p.key, []) if "version" in r}
    return ", ".join(f"{title} {version}" for title, version in found.items())


READING = (
    "Times are milliseconds for one prediction, p50: the median over rounds of each round's median. The ratio is ours / "
    "the faster of ONNX Runtime and OpenVINO in the same round, median over rounds: below 1 is faster than both. "
    "Intervals are percentile bootstraps over rounds; the spread is the slowest round over the fastest of an engine in "
    "the ratio. What is timed is one prediction as each engine's caller makes it: with FastViTT8F16 and "
    "EfficientNetLite0 ours starts from the uint8 image and ends in labelled probabilities while the others start from a "
    "scaled f32 tensor and end in logits; elsewhere everybody takes and gives f32 arrays. The decoder's prediction is one "
    "token at position 64 of 128, with its caches as states (ours, OpenVINO) or handed on (the others). Ours reads f16 "
    "weights from a Core ML package, the others f32 weights from ONNX (PyTorch: frozen TorchScript)."
)
LOW_PRECISION_READING = (
    "With factors rounded to bf16, everything else as above. \"Where faster\" (`--low-precision where-faster`) rounds only if "
    "this processor multiplies rounded factors faster than f32, \"bf16\" (`--low-precision always`) in any case."
)
COLD_READING = (
    "Cold start, native processes, files cached: milliseconds from starting the process to its first output, with a "
    "model and its inputs read and one prediction made, and the process's peak resident memory."
)
ANSWERS_READING = (
    "Largest difference of an answer to PyTorch's in f32, over its largest absolute value. Ours computes from weights that "
    "the package holds in f16. The decoder's is its answer after six tokens."
)


def report(
    peers: list[Peer], cases: list[Case], cold: list[Start], absent: dict[str, str], measured_on: str, settings: str
) -> str:
    """The whole report as Markdown, without a heading."""
    peers = [peer for peer in peers if any(case.results.get(peer.key) for case in cases)]
    lines = [
        f"Machine: {measured_on}.",
        f"Engines: {versions(peers, cases)}.",
        f"Measured: {settings}; each engine in a fresh process every round, order rotating.",
    ]
    parts = ["\n".join(f"- {line}" for line in lines)]
    if cases:
        full = [peer for peer in peers if not peer.bf16]
        parts += [times(full, cases), tokens(full, cases)]
    parts.append("\n".join(f"- {note}" for note in remarks(peers, cases, cold, absent)))
    parts.append(READING)
    if rounded := low_precision(peers, cases):
        parts += [LOW_PRECISION_READING, rounded]
    if cold:
        parts += [COLD_READING, cold_table(cold)]
    if cases:
        parts += [ANSWERS_READING, answers(peers, cases)]
    return "\n\n".join(part for part in parts if part)


def write_section(path: Path, text: str, markers: tuple[str, str] = (BEGIN, END)) -> None:
    """Puts a report between its markers in a document, at the end if it has none; makes a missing document."""
    begin, end = markers
    section = f"{begin}\n{text}\n{end}\n"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# Performance\n\n{section}", encoding="utf-8")
        return
    document = path.read_text(encoding="utf-8")
    if begin in document and end in document:
        before, rest = document.split(begin, 1)
        after = rest.split(end, 1)[1].lstrip("\n")
        document = before + section + (f"\n{after}" if after else "")
    else:
        document = document.rstrip("\n") + f"\n\n{section}"
    path.write_text(document, encoding="utf-8")
