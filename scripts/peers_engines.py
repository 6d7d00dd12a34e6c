"""The engines the referee knows, and the process that runs one of them once.

`PEERS` is the table: one row is one engine in one setting. To add an engine, write its function and its row here, and
pin its package in `requirements-peers.txt` (a Rust one in `peers-rust/Cargo.toml`); nothing else changes.

    python peers_engines.py KEY < job.json > result.json

runs one row in this process. The referee starts a fresh one for each measurement, so that no engine's threads, caches
or settings reach another's. PyTorch's row runs in the environment that made the models, the others in the referee's.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import numpy as np

BENCH_SCHEMA = "coreml-anywhere.bench/1"


class EngineError(Exception):
    """An engine could not be run or answered something that cannot be used; the message is for the report."""


@dataclass(frozen=True)
class Job:
    """One measurement: a model on one input. Paths are absolute; `twin` is the ONNX or TorchScript file."""

    package: str  # Core ML package
    onnx: str  # its f32 twins
    torchscript: str
    package_inputs: str  # npz by the package's feature names
    twin_inputs: str  # npz by the twins' input names, in their order
    steps: list[str]  # npz of consecutive predictions on one cache, or none
    caches: int  # the last inputs of the twins that carry what the last outputs gave
    output: str  # the package's output that is compared
    labels: str  # a classifier's class labels in class order, one a line; "" for other models
    coreml: str  # the `coreml` command
    rivals: str  # folder with the programs of peers-rust
    threads: int
    iterations: int
    warmup: int
    pin: bool


@dataclass(frozen=True)
class Measured:
    """What an engine's function gives."""

    p50_ms: float
    answer: np.ndarray  # flat; probabilities in class order for a classifier
    version: str


@dataclass(frozen=True)
class Peer:
    """One row of the comparison."""

    key: str
    title: str
    run: Callable[[Job], Measured]
    ours: bool = False
    contender: bool = False  # runs in every round, and the best of these is what the ratio is to
    torch: bool = False  # needs the environment that made the models
    rust: bool = False  # is a program of peers-rust
    bf16: bool = False  # may round factors to bf16: runs in every round, and is compared with its like
    needs: Callable[[], str] = lambda: ""  # why this machine cannot show this row, or ""


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


class Feeds:
    """A twin's inputs: those of each prediction, the caches they start from, and the steps that give the answer."""

    def __init__(self, job: Job) -> None:
        with np.load(job.twin_inputs) as arrays:
            everything = {name: arrays[name] for name in arrays.files}
        names = list(everything)
        self.cache_names = names[len(names) - job.caches :]
        self.caches = {name: everything[name] for name in self.cache_names}
        self.main = {name: array for name, array in everything.items() if name not in self.caches}
        self.steps = [dict(np.load(path)) for path in job.steps] or [self.main]


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64) - logits.max())
    return (powers / powers.sum()).ravel()


def compared(job: Job, output: np.ndarray) -> np.ndarray:
    """A twin's first output as it is compared: a classifier fixture's package ends in a softmax, its twins do not."""
    return softmax(output) if job.labels else output.ravel()


def measure_twin(job: Job, feeds: Feeds, predict: Callable[[dict], np.ndarray], reset: Callable[[], None]) -> tuple:
    """Time of a prediction on the main inputs, then the answer of the last step, from empty caches."""
    p50 = timed(lambda: predict(feeds.main), job)
    reset()
    answer = np.empty(0)
    for step in feeds.steps:
        answer = np.array(predict(step))
    return p50, compared(job, answer)


def run_onnxruntime(job: Job) -> Measured:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = job.threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = ort.InferenceSession(job.onnx, options, providers=["CPUExecutionProvider"])
    feeds, carried = Feeds(job), {}
    outputs = [output.name for output in session.get_outputs()]

    def reset() -> None:
        carried.update({name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in feeds.caches.items()})

    def predict(inputs: dict) -> np.ndarray:
        if not feeds.caches:
            return session.run(None, inputs)[0]
        values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in inputs.items()}
        answer, *caches = session.run_with_ort_values(outputs, values | carried)
        carried.update(zip(feeds.cache_names, caches))  # handed on without a copy
        return answer.numpy()

    reset()
    return Measured(*measure_twin(job, feeds, predict, reset), ort.__version__)


def run_openvino(precision: str) -> Callable[[Job], Measured]:
    """OpenVINO's CPU plugin, asked to compute in `precision`. Caches become OpenVINO's own states."""

    def run(job: Job) -> Measured:
        import openvino as ov
        from openvino._offline_transformations import apply_make_stateful_transformation

        settings = {
            "INFERENCE_NUM_THREADS": job.threads,
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        core, feeds = ov.Core(), Feeds(job)
        model = core.read_model(job.onnx)
        if feeds.caches:
            apply_make_stateful_transformation(model, {name: f"{name}_out" for name in feeds.cache_names})
        request = core.compile_model(model, "CPU", settings).create_infer_request()

        def predict(inputs: dict) -> np.ndarray:
            return request.infer(inputs, share_inputs=True, share_outputs=True)[0]

        p50, answer = measure_twin(job, feeds, predict, request.reset_state)
        return Measured(p50, answer, ov.__version__.split("-")[0])

    return run


def bf16_missing() -> str:
    import openvino as ov

    native = "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "" if native else "this processor has no bf16 arithmetic"


def run_torch(job: Job) -> Measured:
    """PyTorch's frozen TorchScript."""
    import torch

    torch.set_num_threads(job.threads)
    torch.set_num_interop_threads(1)
    model, feeds = torch.jit.load(job.torchscript), Feeds(job)
    carried: list[Any] = []

    def reset() -> None:
        carried[:] = [torch.from_numpy(array) for array in feeds.caches.values()]

    def predict(inputs: dict) -> np.ndarray:
        answer = model(*(torch.from_numpy(array) for array in inputs.values()), *carried)
        if feeds.caches:
            answer, carried[:] = answer[0], answer[1:]
        return answer.numpy()

    reset()
    with torch.inference_mode():
        p50, answer = measure_twin(job, feeds, predict, reset)
    return Measured(p50, answer, torch.__version__)


def run_rust(program: str) -> Callable[[Job], Measured]:
    """A program of peers-rust."""

    def run(job: Job) -> Measured:
        with tempfile.TemporaryDirectory() as folder:
            answer = Path(folder) / "answer.npy"
            numbers = [str(number) for number in (job.threads, job.iterations, job.warmup, job.caches)]
            arguments = [job.onnx, job.twin_inputs, *numbers, str(answer), *job.steps]
            result = json.loads(command(str(Path(job.rivals) / program), *arguments).splitlines()[-1])
            return Measured(result["p50_ms"], compared(job, np.load(answer)), result["version"])

    return run


def run_coreml(low_precision: str) -> Callable[[Job], Measured]:
    """Our command on the Core ML package: `bench` for the time, `run` for the answer."""

    def run(job: Job) -> Measured:
        common = [job.package, "--threads", str(job.threads), "--low-precision", low_precision]
        amount = ["-n", str(job.iterations), "--warmup", str(job.warmup), "--format", "json"]
        p50 = bench_p50(command(job.coreml, "bench", *common, "--inputs", job.package_inputs, *amount), job.threads)
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "output.npz"
            inputs = [part for path in job.steps or [job.package_inputs] for part in ("--inputs", path)]
            command(job.coreml, "run", *common, *inputs, "--output", str(output))
            answer = classifier_output(output, Path(job.labels)) if job.labels else tensor_output(output, job)
        return Measured(p50, answer, command(job.coreml, "--version").strip().split()[-1])

    return run


def command(*arguments: str) -> str:
    """Runs a command and gives its standard output; EngineError with the end of its complaint if it fails."""
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    except OSError as error:
        raise EngineError(f"{arguments[0]}: {error.strerror}") from error
    if done.returncode != 0:
        complaint = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        said = " ".join(complaint)[:300] or "no message"
        raise EngineError(f"`{Path(arguments[0]).name}` exited with {done.returncode}: {said}")
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


def tensor_output(path: Path, job: Job) -> np.ndarray:
    """The tensor `coreml run` stored: of the last prediction, if there were several."""
    key = f"{len(job.steps) - 1}/{job.output}" if len(job.steps) > 1 else job.output
    with np.load(path) as arrays:
        if key not in arrays:
            raise EngineError(f"`coreml run` stored {', '.join(arrays.files)}, and no {key}")
        return arrays[key].astype(np.float32).ravel()


def classifier_output(path: Path, labels: Path) -> np.ndarray:
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
    return np.array([by_label[label] for label in order])


PEERS = [
    Peer("coreml", "coreml-anywhere", run_coreml("never"), ours=True),
    Peer("onnxruntime", "ONNX Runtime", run_onnxruntime, contender=True),
    Peer("openvino", "OpenVINO", run_openvino("f32"), contender=True),
    Peer("coreml-opt-in", "coreml-anywhere where faster", run_coreml("where-faster"), bf16=True, needs=bf16_missing),
    Peer("coreml-bf16", "coreml-anywhere bf16", run_coreml("always"), bf16=True, needs=bf16_missing),
    Peer("openvino-bf16", "OpenVINO bf16", run_openvino("bf16"), bf16=True, needs=bf16_missing),
    Peer("torch", "PyTorch", run_torch, torch=True),
    Peer("tract", "tract", run_rust("tract"), rust=True),
    Peer("rten", "rten", run_rust("rten"), rust=True),
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
    """Runs the row KEY; the answer goes into the file ANSWER, everything else to standard output."""
    peer = next(peer for peer in PEERS if peer.key == sys.argv[1])
    job = Job(**json.load(sys.stdin))
    try:
        if job.pin:
            pin(job.threads)
        measured = peer.run(job)
        answer = np.ascontiguousarray(measured.answer)
        np.save(sys.argv[2], answer)
        digest = hashlib.sha256(answer.tobytes()).hexdigest()[:16]
        result = {"p50_ms": measured.p50_ms, "version": measured.version, "digest": digest}
    except Exception as error:  # one engine's failure, of whatever kind, is a row of the report and not the end of it
        said = str(error) if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
        result = {"error": " ".join(said.split())[:400]}
    json.dump(result, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
