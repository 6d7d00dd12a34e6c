"""The engines the referee knows, and the process that runs one of them once.

`PEERS` is the table: one row is one engine in one setting. To add an engine, write its function and its row here, and
pin its package in `requirements-peers.txt`; nothing else changes.

    python peers_engines.py KEY < job.json > result.json

runs one row in this process. The referee starts a fresh one for each measurement, so that no engine's threads, caches
or settings reach another's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Callable

import numpy as np

BENCH_SCHEMA = "coreml-anywhere.bench/1"


class EngineError(Exception):
    """An engine could not be run or answered something that cannot be used; the message is for the report."""


@dataclass(frozen=True)
class Job:
    """One measurement: a model on one input. Paths are absolute."""

    package: str  # Core ML package
    onnx: str  # its f32 twin: input `x` (1 x 3 x H x W, scaled), output `logits`
    inputs: str  # npz with `image`, uint8 H x W x 3
    labels: str  # class labels in class order, one a line
    scale: float  # x = image * scale + bias
    bias: float
    coreml: str  # the `coreml` command
    threads: int
    iterations: int
    warmup: int
    pin: bool


@dataclass(frozen=True)
class Result:
    """What one run of one engine gave."""

    p50_ms: float
    probabilities: list[float]  # in class order, for the job's input
    version: str
    note: str  # what the reader must know about this row, or ""


@dataclass(frozen=True)
class Peer:
    """One row of the comparison."""

    key: str
    title: str
    run: Callable[[Job], Result]
    ours: bool = False
    like_for_like: bool = True  # False: computes in fewer bits than f32, so it is shown and not compared with


def timed(predict: Callable[[], object], job: Job) -> float:
    """Warms up, then gives the median of `job.iterations` timed calls in milliseconds."""
    for _ in range(job.warmup):
        predict()
    samples = []
    for _ in range(job.iterations):
        start = time.perf_counter_ns()
        predict()
        samples.append((time.perf_counter_ns() - start) / 1e6)
    return float(np.median(samples))


def scaled_input(job: Job) -> np.ndarray:
    """The image as the ONNX twin takes it: f32, 1 x 3 x H x W."""
    pixels = np.load(job.inputs)["image"].astype(np.float32)
    return np.ascontiguousarray((pixels * np.float32(job.scale) + np.float32(job.bias)).transpose(2, 0, 1)[None])


def softmax(logits: np.ndarray) -> list[float]:
    powers = np.exp(logits.astype(np.float64) - logits.max())
    return [float(p) for p in (powers / powers.sum()).ravel()]


def run_onnxruntime(job: Job) -> Result:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = job.threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = ort.InferenceSession(job.onnx, options, providers=["CPUExecutionProvider"])
    feed = {"x": scaled_input(job)}
    p50 = timed(lambda: session.run(None, feed), job)
    return Result(p50, softmax(session.run(None, feed)[0]), ort.__version__, "")


def run_openvino(precision: str) -> Callable[[Job], Result]:
    """OpenVINO's CPU plugin, asked to compute in `precision`; the note tells if the processor cannot."""

    def run(job: Job) -> Result:
        import openvino as ov

        settings = {
            "INFERENCE_NUM_THREADS": job.threads,
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        core = ov.Core()
        compiled = core.compile_model(job.onnx, "CPU", settings)
        request, x = compiled.create_infer_request(), scaled_input(job)
        p50 = timed(lambda: request.infer([x], share_inputs=True, share_outputs=True), job)
        logits = np.array(request.infer([x])[0])
        native = precision == "f32" or precision.upper() in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        note = "" if native else f"this processor has no {precision} arithmetic, so this row shows an emulation"
        return Result(p50, softmax(logits), ov.__version__.split("-")[0], note)

    return run


def run_coreml(job: Job) -> Result:
    """Our command on the Core ML package: `bench` for the time, `run` for the answer."""
    common = [job.package, "--inputs", job.inputs, "--threads", str(job.threads)]
    amount = ["-n", str(job.iterations), "--warmup", str(job.warmup), "--format", "json"]
    p50 = bench_p50(command(job.coreml, "bench", *common, *amount), job.threads)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output.npz"
        command(job.coreml, "run", *common, "--output", str(output))
        probabilities = classifier_output(output, Path(job.labels))
    return Result(p50, probabilities, command(job.coreml, "--version").strip().split()[-1], "")


def command(*arguments: str) -> str:
    """Runs a command and gives its standard output; EngineError with the end of its complaint if it fails."""
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    except OSError as error:
        raise EngineError(f"{arguments[0]}: {error.strerror}") from error
    if done.returncode != 0:
        complaint = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise EngineError(
            f"`coreml {arguments[1]}` exited with {done.returncode}: {' '.join(complaint) or 'no message'}"
        )
    return done.stdout


def bench_p50(text: str, threads: int) -> float:
    """The p50 in milliseconds of the run with this thread count, from `coreml bench --format json`.

    Taken over the samples if they are listed, so that every row's p50 is computed in the same way.
    """
    try:
        report = json.loads(text)
        if report["schema"] != BENCH_SCHEMA:
            raise EngineError(f"`coreml bench` speaks {report['schema']}, not {BENCH_SCHEMA}")
        latency = next(run["latency_ms"] for run in report["runs"] if run["threads"] == threads)
        p50 = float(np.median(latency["samples"]) if latency.get("samples") else latency["p50"])
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"`coreml bench` printed something unexpected ({type(error).__name__}: {error})") from error
    except StopIteration:
        raise EngineError(f"`coreml bench` reports no run with {threads} threads") from None
    if not (np.isfinite(p50) and p50 > 0):
        raise EngineError(f"`coreml bench` reports a p50 of {p50} ms")
    return p50


def classifier_output(path: Path, labels: Path) -> list[float]:
    """The probabilities `coreml run` stored, put into class order by their labels."""
    try:
        with np.load(path) as arrays:
            by_label = dict(zip(arrays["classLabel_probs.keys"].tolist(), arrays["classLabel_probs.values"].tolist()))
    except (OSError, KeyError, ValueError) as error:
        raise EngineError(f"`coreml run` stored no usable class probabilities ({error})") from error
    order = labels.read_text(encoding="utf-8").splitlines()
    missing = [label for label in order if label not in by_label]
    if missing:
        raise EngineError(f"`coreml run` gave no probability for {len(missing)} labels, the first is {missing[0]!r}")
    return [by_label[label] for label in order]


BASELINE = "onnxruntime"
PEERS = [
    Peer("coreml", "coreml-anywhere", run_coreml, ours=True),
    Peer("onnxruntime", "ONNX Runtime", run_onnxruntime),
    Peer("openvino", "OpenVINO", run_openvino("f32")),
    Peer("openvino-bf16", "OpenVINO bf16", run_openvino("bf16"), like_for_like=False),
]


def pin(threads: int) -> None:
    """Keeps this process and what it starts on the first `threads` processors it may use."""
    if not hasattr(os, "sched_setaffinity"):
        raise EngineError("--pin needs an operating system where a process can choose its processors")
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < threads:
        raise EngineError(f"--pin: {threads} processors wanted, {len(allowed)} allowed")
    os.sched_setaffinity(0, allowed[:threads])


def main() -> int:
    peer = next(peer for peer in PEERS if peer.key == sys.argv[1])
    job = Job(**json.load(sys.stdin))
    try:
        if job.pin:
            pin(job.threads)
        result = asdict(peer.run(job))
    except Exception as error:  # one engine's failure, of whatever kind, is a row of the report and not the end of it
        result = {"error": str(error) if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"}
    json.dump(result, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
