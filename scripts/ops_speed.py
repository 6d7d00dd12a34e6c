#!/usr/bin/env python3
"""Every operation of the engine's table beside torch's expression for the same thing, on one thread: no cliffs.

    python3 scripts/ops_speed.py [--only argmax,'conv 3-D'] [--rounds 3] [--coreml COREML] [--write docs/performance.md]

The rows are in `ops_cases.py`. Each becomes a program of one operation in f32, made by coremltools' builder without any
pass, and is measured in rounds: `coreml bench --profile` in a fresh process, then torch in this one. What is kept of either is its
fastest prediction, the figure that other work on the machine moves least. Answers are compared; a row whose answers differ
fails, and so does the script. It fails too if an operation of `coreml ops` has neither a row nor a reason in `WITHOUT`.

Ours is the time of the plan's steps. A whole prediction also copies its inputs and outputs, which an operation inside a
model does not; it is shown beside, and not judged. torch's is a call from Python, and nothing is subtracted for that: the
report tells what a call costs that computes next to nothing, and rows within a few times of it judge the call and not the
operation. They are printed last, and the aims do not count them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from own_venv import ROOT, enter
from peers import find_coreml, names, positive

BEGIN, END = "<!-- ops_speed.py: begin -->", "<!-- ops_speed.py: end -->"
MOST_RATIO, MOST_SUM = 3.0, 1.2  # the aims: no row above the first, all rows together below the second
CALLS = 3  # a row is judged if either side takes this many times as long as torch does to be called
ROUND_MS, MOST_PREDICTIONS, FEWEST = 12.0, 400, 5
TOLERANCE = 2e-4  # largest difference, relative to the largest value


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure every operation beside torch.")
    parser.add_argument("--only", type=names, help="rows whose title or operation holds one of these, separated by commas")
    parser.add_argument("--rounds", type=positive, default=3, help="default 3")
    parser.add_argument("--coreml", type=Path, help="the coreml command; without it, one is built by cargo")
    parser.add_argument("--write", type=Path, metavar="FILE.md", help="put the report into this document")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the packages there")
    return parser.parse_args()


@dataclass
class Result:
    row: Row
    ours: float = float("inf")  # milliseconds: the steps
    whole: float = float("inf")  # the steps, and inputs and outputs copied
    torch: float = float("inf")
    failure: str = ""
    shapes: str = field(init=False)

    def __post_init__(self) -> None:
        self.shapes = " ".join("x".join(map(str, each.shape)) for each in self.row.inputs)

    @property
    def ratio(self) -> float:
        return self.ours / self.torch

    def judged(self, call: float) -> bool:
        return max(self.ours, self.torch) > CALLS * call


def make_package(row: Row, path: Path) -> None:
    """The row's program as a package that takes and gives f32 and int32; every pass of coremltools' is left out."""
    specs = [
        mb.TensorSpec(each.shape, dtype=types.int32 if each.whole else types.fp32) for each in row.inputs
    ]
    target = ct.target[f"iOS{row.target}"]

    # The builder names inputs by the function's parameters, which must therefore be as many as there are.
    functions = {
        1: lambda x: row.program(x),
        2: lambda x, y: row.program(x, y),
        3: lambda x, y, z: row.program(x, y, z),
    }
    program = mb.program(input_specs=specs, opset_version=target)(functions[len(specs)])
    model = ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=target,
        compute_precision=ct.precision.FLOAT32,
        pass_pipeline=ct.PassPipeline.EMPTY,
        skip_model_load=True,
    )
    model.save(str(path))


def ours_ms(coreml: Path, package: Path, inputs: Path, predictions: int) -> tuple[float, float]:
    """The fastest of so many predictions on one thread: its steps, and the whole of it with inputs and outputs copied."""
    amount = ["-n", str(predictions), "--warmup", str(max(2, predictions // 4)), "--format", "json"]
    told = json.loads(command(str(coreml), "bench", str(package), "--profile", "--threads", "1", "--inputs", str(inputs), *amount))
    if not told["environment"]["optimised"]:
        sys.exit(f"{coreml} is a debug build: its times say nothing about speed")
    profile = told["profiles"][0]
    return sum(step["fastest_us"] for step in profile["steps"]) / 1e3, min(profile["whole_us"]["samples"]) / 1e3


def torch_ms(row: Row, tensors: list[torch.Tensor], predictions: int) -> float:
    best = float("inf")
    for number in range(predictions + max(2, predictions // 4)):
        start = time.perf_counter_ns()
        row.torch(*tensors)
        took = time.perf_counter_ns() - start
        if number >= 2:
            best = min(best, took)
    return best / 1e6


def difference(ours: np.ndarray, theirs: np.ndarray) -> str:
    """Why the two are not the same answer, or ""."""
    if ours.size != theirs.size or ours.squeeze().shape != theirs.squeeze().shape:
        return f"shapes differ: {ours.shape}, torch {theirs.shape}"
    if ours.size == 0:
        return "empty"
    a, b = ours.astype(np.float64).ravel(), theirs.astype(np.float64).ravel()
    allowed = 0.0 if ours.dtype.kind == "i" else TOLERANCE * max(1.0, float(np.abs(b).max()))
    apart = float(np.abs(a - b).max())
    return "" if apart <= allowed else f"answers differ by up to {apart:.3g}"


def measure(row: Row, coreml: Path, rounds: int, folder: Path) -> Result:
    """One row: its package, its answer, its rounds. What goes wrong on either side is the row's failure."""
    result = Result(row)
    package = folder / "row.mlpackage"
    inputs, answer = folder / "inputs.npz", folder / "answer.npz"
    try:
        make_package(row, package)
        random = np.random.default_rng(sum(map(ord, row.title)))
        arrays = [each.draw(random) for each in row.inputs]
        np.savez(inputs, **dict(zip("xyz", arrays)))
        tensors = [torch.from_numpy(array) for array in arrays]
        theirs = row.torch(*tensors).numpy()
        command(str(coreml), "run", str(package), "--threads", "1", "--inputs", str(inputs), "--output", str(answer))
        with np.load(answer) as given:
            result.failure = difference(given[given.files[0]], theirs)
        slow = max(ours_ms(coreml, package, inputs, FEWEST)[0], torch_ms(row, tensors, FEWEST))
        predictions = int(min(MOST_PREDICTIONS, max(FEWEST, ROUND_MS / slow)))
        for _ in range(rounds):
            steps, whole = ours_ms(coreml, package, inputs, predictions)
            result.ours, result.whole = min(result.ours, steps), min(result.whole, whole)
            result.torch = min(result.torch, torch_ms(row, tensors, predictions))
    except Exception as error:  # one row's failure, of whatever kind, is a row of the report and not the end of it
        result.failure = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return result


def unlisted(coreml: Path) -> list[str]:
    """What is wrong with the table of rows: operations in neither list, in both, or unknown to the engine."""
    known = {each["name"] for each in json.loads(command(str(coreml), "ops", "--json"))["operations"]}
    measured, excused = {row.op for row in ROWS}, set(WITHOUT)
    groups = {
        "neither a row nor a reason": known - measured - excused,
        "a row and a reason for none": measured & excused,
        "no such operation": (measured | excused) - known,
    }
    return [f"{what}: {', '.join(sorted(which))}" for what, which in groups.items() if which]


def lines_of(results: list[Result]) -> str:
    rows = [
        [r.row.title, r.shapes, f"{r.ours * 1e3:.1f}", f"{r.whole * 1e3:.1f}", f"{r.torch * 1e3:.1f}", f"{r.ratio:.2f}"]
        for r in sorted(results, key=lambda r: -r.ratio)
    ]
    return table(["operation", "inputs", "ours µs", "with copies µs", "torch µs", "ours / torch"], rows, [2, 3, 4, 5])


def report(results: list[Result], call: Result, measured_on: str, rounds: int) -> str:
    good = [result for result in results if not result.failure]
    judged = [result for result in good if result.judged(call.torch)]
    rest = [result for result in good if not result.judged(call.torch)]
    total = sum(r.ours for r in judged) / sum(r.torch for r in judged) if judged else float("nan")
    mean = float(np.exp(np.mean([np.log(r.ratio) for r in judged]))) if judged else float("nan")
    above = sum(r.ratio > MOST_RATIO for r in judged)
    lines = [
        f"Machine: {measured_on}.",
        f"One thread, torch {torch.__version__}; the fastest prediction of {rounds} interleaved rounds on each side. To copy one "
        f"number takes a step of ours {call.ours * 1e3:.1f} µs, a whole prediction {call.whole * 1e3:.1f} µs, a call of torch's "
        f"{call.torch * 1e3:.1f} µs.",
        f"{len(judged)} rows that take either side more than {CALLS} such calls of torch's: ours takes {total:.2f} of torch's time over all of "
        f"them (aim: below {MOST_SUM}), {mean:.2f} in the geometric mean; {above} rows are above {MOST_RATIO:.0f}.",
    ]
    parts = ["\n".join(f"- {line}" for line in lines), lines_of(judged)]
    if rest:
        parts += [f"{len(rest)} rows where a call is a good part of the time:", lines_of(rest)]
    if failed := [result for result in results if result.failure]:
        parts.append("\n".join(f"- FAILED: {r.row.title} {r.shapes}: {r.failure}" for r in failed))
    reasons: dict[str, list[str]] = {}
    for name, why in WITHOUT.items():
        reasons.setdefault(why, []).append(f"`{name}`")
    parts.append("Without a row:\n\n" + "\n".join(f"- {', '.join(which)}: {why}." for why, which in reasons.items()))
    return "\n\n".join(parts)


def main(args: argparse.Namespace) -> int:
    coreml = find_coreml(args.coreml)
    if wrong := unlisted(coreml):
        print("\n".join(wrong), file=sys.stderr)
        return 2
    rows = [r for r in ROWS if not args.only or any(part in r.title for part in args.only)]
    if not rows:
        print(f"--only: no row has {', '.join(args.only)} in its title", file=sys.stderr)
        return 2
    measured_on = machine()
    torch.set_num_threads(1)
    results = []
    with tempfile.TemporaryDirectory() as temporary, torch.inference_mode():
        nothing = Row("identity", "of one number", lambda x: mb.identity(x=x), torch.clone, (Input((1,)),), 17)
        call = measure(nothing, coreml, args.rounds, Path(temporary))
        for number, row in enumerate(rows, 1):
            folder = (args.keep or Path(temporary)) / f"{number:03} {row.title}".replace(" ", "-").replace(",", "")
            folder.mkdir(parents=True, exist_ok=True)
            results.append(measure(row, coreml, args.rounds, folder))
            print(f"{number}/{len(rows)} {row.title}: {results[-1].failure or f'{results[-1].ratio:.2f}'}", file=sys.stderr)
            if not args.keep:
                shutil.rmtree(folder)
    text = report(results, call, measured_on, args.rounds)
    print(text)
    if args.write:
        write_section(args.write, text, (BEGIN, END))
    return 1 if any(result.failure for result in results) else 0


if __name__ == "__main__":
    arguments = parse_arguments()
    if not all(importlib.util.find_spec(name) for name in ("torch", "coremltools")):
        enter("fixtures-venv", ROOT / "scripts" / "requirements-fixtures.txt")
    # What follows needs the environment.
    logging.disable(logging.WARNING)
    os.environ["TQDM_DISABLE"] = "1"
    import coremltools as ct
    import numpy as np
    import torch
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import types
    from ops_cases import ROWS, WITHOUT, Input, Row
    from peers_engines import command
    from peers_report import machine, table, write_section

    sys.exit(main(arguments))
