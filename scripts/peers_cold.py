"""Cold starts: from the start of a native process to its first result, and the most memory it held.

Ours is `coreml run`; ONNX Runtime and OpenVINO are the programs `cold-onnxruntime` and `cold-openvino` of `peers-rust`,
which load the very libraries that the Python packages carry. All read the model and its inputs from files, predict
once and print. `peers-rust/src/bin/cold.rs` starts them and takes the time and the memory.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from peers_engines import EngineError, Job, command
from peers_stats import rotated

OURS = "coreml-anywhere"


@dataclass(frozen=True)
class Start:
    """All rounds of one engine's cold start of one model, in round order; or why there are none."""

    model: str
    threads: int
    engine: str
    first_ms: list[float]
    peak_kib: list[int]
    error: str = ""


def library(package: str, pattern: str) -> str:
    """A shared library inside an installed Python package."""
    spec = find_spec(package)
    folders = spec.submodule_search_locations if spec else []
    found = [path for folder in folders or [] for path in sorted(Path(folder).glob(pattern))]
    if not found:
        raise EngineError(f"the package {package} carries no {pattern}")
    return str(found[0])


def commands(job: Job) -> dict[str, list[str]]:
    """What is started for each engine."""
    rivals, twin = Path(job.rivals), [job.onnx, job.twin_inputs, str(job.threads)]
    return {
        OURS: [job.coreml, "run", job.package, "--inputs", job.package_inputs, "--threads", str(job.threads)],
        "ONNX Runtime": [str(rivals / "cold-onnxruntime"), library("onnxruntime", "capi/libonnxruntime.so.*"), *twin],
        "OpenVINO": [str(rivals / "cold-openvino"), library("openvino", "libs/libopenvino_c.so.*"), *twin],
    }


def cold_starts(job: Job, model: str, thread_counts: list[int], rounds: int) -> list[Start]:
    """Every engine's cold starts of one model, in interleaved rounds after one that fills the file cache."""
    starts = []
    for threads in thread_counts:
        started = commands(replace(job, threads=threads))
        figures: dict[str, list[dict]] = {engine: [] for engine in started}
        errors: dict[str, str] = {}
        for number in range(rounds + 1):
            for engine in rotated(list(started), number):
                if engine in errors:
                    continue
                try:
                    figures[engine].append(json.loads(command(str(Path(job.rivals) / "cold"), *started[engine])))
                except EngineError as error:
                    errors[engine] = str(error)
        for engine, rows in figures.items():
            first, peak = [row["first_ms"] for row in rows[1:]], [row["peak_kib"] for row in rows[1:]]
            starts.append(Start(model, threads, engine, first, peak, errors.get(engine, "")))
    return starts
