#!/usr/bin/env python3
"""Times tree ensembles beside scikit-learn and ONNX Runtime on the same forest, and compares all answers.

    python3 scripts/check_trees.py [--trees 100] [--depth 8] [--rows 10000] [--rounds 15] [--load]

Trains a random forest on seeded numbers, converts it with coremltools and skl2onnx, builds the example `rows` and lets all
three answer one row and many rows, in rounds that take turns, on one thread. Prints the medians. With `--load` it times the
opening of a forest of 500 trees of 1,000 nodes instead. Needs cargo, and PyPI on the first run. Exits with 1 if answers
differ or somebody else is faster.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any, Callable

from own_venv import ROOT, enter

COLUMNS = 20
FOLDER = ROOT / "target" / "trees"


def main() -> int:
    parser = argparse.ArgumentParser(description="Time tree ensembles beside scikit-learn and ONNX Runtime.")
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--load", action="store_true", help="time the opening of a large forest instead")
    args = parser.parse_args()
    enter("trees-venv", ROOT / "scripts" / "requirements-trees.txt")
    warnings.filterwarnings("ignore")
    FOLDER.mkdir(parents=True, exist_ok=True)
    build = ["cargo", "build", "--release", "--quiet", "-p", "coreml-anywhere", "--example", "rows"]
    subprocess.run(build, check=True, cwd=ROOT)
    return load(args.rounds) if args.load else compare(args)


class Ours:
    """The example `rows`, which answers line by line."""

    def __init__(self, model: Path, rows: Any) -> None:
        path = FOLDER / "rows.f64"
        path.write_bytes(rows.astype("<f8").tobytes())
        program = ROOT / "target" / "release" / "examples" / "rows"
        pipe = subprocess.PIPE
        call = [str(program), str(model), str(path), str(rows.shape[1])]
        self.process = subprocess.Popen(call, stdin=pipe, stdout=pipe, text=True)

    def ask(self, what: str) -> float:
        """Seconds that it took."""
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit("the example `rows` has failed")
        return int(answer) / 1e9

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def timed(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compare(args: argparse.Namespace) -> int:
    import coremltools as ct
    import numpy as np
    import onnxruntime
    from skl2onnx import to_onnx
    from sklearn.ensemble import RandomForestClassifier

    random = np.random.default_rng(0)
    # Single precision holds all numbers, so that every engine sees the same.
    x = random.normal(size=(5000, COLUMNS)).astype(np.float32)
    y = (np.abs(x[:, :3]).sum(1) + 0.5 * random.normal(size=5000) > 2.3).astype(int)
    forest = RandomForestClassifier(args.trees, max_depth=args.depth, random_state=0, n_jobs=1).fit(x, y)
    rows = random.normal(size=(args.rows, COLUMNS)).astype(np.float32)
    model = FOLDER / "forest.mlmodel"
    ct.converters.sklearn.convert(forest).save(str(model))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    converted = to_onnx(forest, rows[:1], options={id(forest): {"zipmap": False}}).SerializeToString()
    onnx = onnxruntime.InferenceSession(converted, options, providers=["CPUExecutionProvider"])
    onnx_answers = lambda rows: onnx.run(None, {"X": rows})[1]  # noqa: E731
    ours = Ours(model, rows)

    expected = forest.predict_proba(rows)
    ours.ask(f"answers {FOLDER / 'answers.f64'}")
    found = np.fromfile(FOLDER / "answers.f64", "<f8").reshape(expected.shape)
    distances = {"coreml-anywhere": found, "onnxruntime": onnx_answers(rows)}
    distances = {name: float(np.abs(answers - expected).max()) for name, answers in distances.items()}

    def singly(answer: Callable[[Any], Any], count: int) -> float:
        """The mean of some calls: one is too short to be timed."""
        return timed(lambda: [answer(rows[i : i + 1]) for i in range(count)]) / count

    many, one = f"{args.rows:,} rows", "one row"
    engines: dict[str, dict[str, Callable[[], float]]] = {
        "coreml-anywhere": {one: lambda: ours.ask("one"), many: lambda: ours.ask("many")},
        "scikit-learn": {
            one: lambda: singly(forest.predict_proba, 20),
            many: lambda: timed(lambda: forest.predict_proba(rows)),
        },
        "onnxruntime": {one: lambda: singly(onnx_answers, 1000), many: lambda: timed(lambda: onnx_answers(rows))},
    }
    taken: dict[tuple[str, str], list[float]] = {}
    for round_ in range(args.rounds + 1):
        for name, runs in engines.items():
            for what, run in runs.items():
                seconds = run()
                # The first round warms up.
                if round_:
                    taken.setdefault((name, what), []).append(seconds)
    ours.close()
    print(f"{args.trees} trees of depth {args.depth}, {COLUMNS} features, one thread, medians of {args.rounds} rounds\n")
    print(f"| {'engine':16} | {one:>12} | {many:>12} | largest distance from scikit-learn |")
    print(f"|{'-' * 18}|{'-' * 13}:|{'-' * 13}:|{'-' * 35}:|")
    median = {key: statistics.median(seconds) for key, seconds in taken.items()}
    for name in engines:
        distance = f"{distances[name]:.1e}" if name in distances else ""
        print(f"| {name:16} | {median[name, one] * 1e6:9.2f} us | {median[name, many] * 1e3:9.2f} ms | {distance:>34} |")
    slower = [what for what in (one, many) if median["coreml-anywhere", what] > min(median[n, what] for n in engines)]
    if slower:
        print(f"\nslower than the fastest: {', '.join(slower)}")
    return 1 if slower or distances["coreml-anywhere"] > 1e-9 else 0


def load(rounds: int) -> int:
    import coremltools as ct
    import numpy as np
    from coremltools.models.tree_ensemble import TreeEnsembleRegressor

    random = np.random.default_rng(1)
    names = [(f"x{i}", ct.models.datatypes.Double()) for i in range(COLUMNS)]
    builder = TreeEnsembleRegressor(names, "y")
    builder.set_default_prediction_value(0.0)
    model = FOLDER / "large.mlmodel"
    branches = 500  # of 1,000 nodes; the others are leaves, and one is missing for the tree to be whole
    for tree in range(500):
        for node in range(2 * branches + 1):
            if node < branches:
                feature, threshold = int(random.integers(COLUMNS)), float(random.normal())
                mode = "BranchOnValueLessThanEqual"
                builder.add_branch_node(tree, node, feature, threshold, mode, 2 * node + 1, 2 * node + 2, 0.0, False)
            else:
                builder.add_leaf_node(tree, node, float(random.normal()))
    model.write_bytes(builder.spec.SerializeToString())
    ours = Ours(model, np.zeros((1, COLUMNS)))
    seconds = [ours.ask("open") for _ in range(rounds)]
    ours.close()
    median = statistics.median(seconds)
    size = model.stat().st_size / 1e6
    print(f"500 trees of {2 * branches + 1} nodes, {size:.0f} MB: opened in {median * 1e3:.1f} ms ({rounds} rounds, the fastest {min(seconds) * 1e3:.1f} ms)")
    return 1 if median > 0.05 else 0


if __name__ == "__main__":
    sys.exit(main())
