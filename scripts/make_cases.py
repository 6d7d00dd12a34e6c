#!/usr/bin/env python3
"""Makes `tests/golden` again: one small model for every operation and mode, with inputs and expected results.

    python3 scripts/make_cases.py [--out tests/golden] [--only PREFIX] [--interpreter PATH]

Needs PyPI on the first run. Everything is pinned and seeded; two runs give the same bytes. The format is told in
`tests/golden/README.md`. With `--interpreter` every case is also run by an independent interpreter of ML Programs (a
Python file with a class `Interp`); any disagreement is reported and fails the run, but for the cases that are known to
be right where that interpreter is wrong.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import shutil
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from own_venv import ROOT, enter

if TYPE_CHECKING:
    import numpy

FAMILIES = [path.stem for path in sorted((ROOT / "scripts" / "cases").glob("*.py"))]
NOT_FAMILIES = {"__init__", "build", "case"}


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the golden cases again.")
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "golden", help="folder to write to")
    parser.add_argument("--only", default="", help="make only cases whose name starts so (index.json is left alone)")
    parser.add_argument("--interpreter", type=Path, help="Python file of an independent interpreter to check against")
    args = parser.parse_args()
    enter("cases-venv", ROOT / "scripts" / "requirements-cases.txt")
    warnings.filterwarnings("ignore")

    import logging

    logging.disable(logging.WARNING)
    from cases.case import CASES

    for family in FAMILIES:
        if family not in NOT_FAMILIES:
            importlib.import_module(f"cases.{family}")
    interpreter = load_interpreter(args.interpreter) if args.interpreter else None
    chosen = [case for name, case in sorted(CASES.items()) if name.startswith(args.only)]
    if not args.only:
        clear(args.out)

    index, failures, disagreements = [], [], []
    for case in chosen:
        try:
            entry, difference = make(case, args.out, interpreter)
        except Exception as error:  # one bad case must not hide the others
            failures.append(f"{case.name}: {type(error).__name__}: {str(error)[:600]}")
            continue
        index.append(entry)
        if difference:
            disagreements.append(f"{case.name}: {difference}" + (f"  [{case.note}]" if case.note else ""))
    if not args.only:
        write_index(args.out, index)
    for title, lines in (("FAILED", failures), ("DISAGREES", disagreements)):
        for line in lines:
            print(f"{title} {line}")
    size = sum(path.stat().st_size for path in args.out.rglob("*") if path.is_file())
    print(
        f"{len(index)} cases, {len(failures)} failed, {len(disagreements)} disagree; {size / 1e6:.2f} MB in {args.out}"
    )
    return 1 if failures or disagreements else 0


def clear(out: Path) -> None:
    """Removes what an earlier run wrote, and nothing else."""
    if out.exists():
        for folder in sorted(path for path in out.iterdir() if path.is_dir()):
            shutil.rmtree(folder)


def make(case: Any, out: Path, interpreter: Any) -> tuple[dict[str, Any], str]:
    """Writes one case. Returns its row of the index and what an interpreter said against it, if anything."""
    from cases import build

    path = out / case.name
    path.parent.mkdir(parents=True, exist_ok=True)
    with build.temporary() as folder:
        weights = Path(folder)
        model = build.build(case, weights)
        if "edit" in case.options:
            case.options["edit"](model)
        build.check_names(model)
        suffix = ".mlpackage" if case.options.get("package") else ".mlmodel"
        if case.options.get("package"):
            build.write_package(path.parent / (path.name + suffix), model, weights)
        else:
            build.inline_weights(model, weights)
            if case.options.get("literal"):
                build.bind_literally(model)
            (path.parent / (path.name + suffix)).write_bytes(build.serialise(model))
    arrays = evaluate(case)
    build.write_npz(path.parent / (path.name + ".npz"), arrays)

    entry: dict[str, Any] = {
        "name": case.name,
        "model": case.name + suffix,
        "family": case.name.split("/")[0],
        "operations": build.operations(model, case.name),
        "opset": f"iOS{case.opset}",
        "atol": case.atol,
        "rtol": case.rtol,
        "source": case.source,
    }
    for key in ("check", "bounds", "functions"):
        if key in case.options:
            entry[key] = case.options[key]
    if case.note:
        entry["note"] = case.note
    difference = ""
    if interpreter is not None and "uncheckable" not in case.options:
        reopened = path.parent / (path.name + suffix)
        difference = interpreter(case, reopened, arrays)
        if case.options.get("disagrees"):
            difference = "" if difference else "expected to disagree, and does not"
    return entry, difference


def evaluate(case: Any) -> dict[str, numpy.ndarray]:
    """All arrays of a case: features in, expected features out."""
    import numpy as np
    from cases import build

    consts = {}
    for name, draw in case.consts.items():
        half = case.half and name not in case.options.get("wide", ())
        consts[name] = build.scalar(build.exact(draw.array(f"{case.name}/{name}"), half))
    arrays: dict[str, numpy.ndarray] = {}

    def predict(prefix: str, draws: dict[str, Any], seed: str, state: dict[str, Any] | None) -> None:
        arguments = dict(consts)
        images = case.options.get("images", {})
        for name, draw in draws.items():
            if name in case.options.get("absent", []):
                arguments[name] = build.exact(draw.array(f"{seed}/{name}"), case.half, draw.inner)
                continue
            feature = build.feature_array(draw, f"{seed}/{name}")
            kind = case.options.get("features", {}).get(name)
            if kind:
                feature = feature.astype(
                    {"fp16": np.float16, "int8": np.int8, "fp32": np.float32, "int32": np.int32}[kind]
                )
            if name in images:
                arrays[f"{prefix}img:{name}"] = images[name](feature)
            arrays[f"{prefix}in:{name}"] = feature
            arguments[name] = build.exact(feature, case.half, draw.inner)
        if state is not None:
            arguments |= {"state": state}
        for function in case.options.get("functions", [""]):
            reference = case.reference[function] if function else case.reference
            results = reference(**arguments)
            results = list(results) if isinstance(results, (tuple, list)) else [results]
            names = case.options.get("stored") or build.output_names(case, len(results))
            start = f"{prefix}{function}:out:" if function else f"{prefix}out:"
            for name, value in zip(names, results, strict=True):
                arrays[start + name] = result_array(case, name, np.asarray(value))
                if name in case.options.get("image_outputs", {}):
                    arrays[f"{prefix}imgout:{name}"] = case.options["image_outputs"][name](value)

    steps = case.options.get("steps")
    with np.errstate(all="ignore"):
        if steps:
            state: dict[str, Any] = {n: np.zeros(s) for n, s in case.options.get("states", {}).items()}
            for step in range(steps):
                predict(f"step{step}:", case.inputs, f"{case.name}/{step}", state)
            for name, value in state.items():
                arrays[f"state_final:{name}"] = np.asarray(value).astype(np.float16)
        else:
            predict("", case.inputs, case.name, None)
            if "alt" in case.options:
                predict("alt:", case.options["alt"], f"{case.name}/alt", None)
    return arrays


def result_array(case: Any, name: str, value: numpy.ndarray) -> numpy.ndarray:
    """An expected result in the type of its feature."""
    import numpy as np

    if name in ("classLabel", "probabilities"):
        return value
    if "result_types" in case.options:
        return value.astype(case.options["result_types"][name])
    if value.dtype.kind == "f":
        return value.astype(np.float16 if case.options.get("raw_outputs") and case.half else np.float32)
    return value.astype(np.int32)


def load_interpreter(path: Path) -> Any:
    """A function that runs a written case with the interpreter in `path` and says how its results differ, if at all."""
    import numpy as np
    from coremltools.proto import Model_pb2

    spec = importlib.util.spec_from_file_location("interpreter", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    class SingleFile:
        """A model without a package around it."""

        def __init__(self, file: Path):
            self.model = Model_pb2.Model()
            self.model.ParseFromString(file.read_bytes())

    def differ(name: str, got: Any, want: numpy.ndarray, case: Any) -> str:
        if isinstance(got, dict):
            got = np.array(list(got.values()))
        if want.dtype.kind in "US" or not isinstance(got, (np.ndarray, np.generic)):
            return "" if str(got) == str(want) else f"{name}: {got} instead of {want}"
        got = np.asarray(got)
        if got.shape != want.shape:
            return f"{name}: shape {got.shape} instead of {want.shape}"
        got, wide = got.astype(np.float64), want.astype(np.float64)
        finite = np.isfinite(wide)
        if not np.array_equal(got[~finite], wide[~finite], equal_nan=True):
            return f"{name}: other infinities"
        if not finite.any():
            return ""
        worst, largest = np.abs(got - wide)[finite].max(), np.abs(wide[finite]).max()
        bound = case.atol + case.rtol * largest if want.dtype.kind == "f" else 0
        return "" if worst <= bound else f"{name}: off by {worst:.3g}, largest value {largest:.3g}"

    def misfit(got: Any, shape: tuple[int, ...], bounds: dict[str, list[float]]) -> str:
        found = {"mean": [got.mean()], "std": [got.std()], "range": [got.min(), got.max()]}
        outside = [key for key, (low, high) in bounds.items() if not all(low <= value <= high for value in found[key])]
        return f"shape {got.shape}, outside its bounds: {outside}" if got.shape != shape or outside else ""

    def check(case: Any, file: Path, arrays: dict[str, numpy.ndarray]) -> str:
        if file.is_dir():
            interp = module.Interp(str(file), "wide")
        else:
            interp = module.Interp(SingleFile(file), "wide")
        state = interp.new_state() if case.options.get("steps") else None
        prefixes = dict.fromkeys(key.rpartition("out:")[0] for key in arrays if "out:" in key and "imgout:" not in key)
        for prefix in prefixes:
            feeds = {k[len(prefix) + 3 :]: v for k, v in arrays.items() if k.startswith(prefix + "in:")}
            function = prefix[:-1] if prefix and prefix[:-1] in case.options.get("functions", []) else None
            if function:
                feeds = {k[3:]: v for k, v in arrays.items() if k.startswith("in:")}
            try:
                got = interp.run(feeds, fn=function, state=state)
            except Exception as error:  # the interpreter's failure is a finding, not this script's
                return f"{type(error).__name__}: {error}"
            for key, want in arrays.items():
                if not key.startswith(prefix + "out:"):
                    continue
                name = key[len(prefix) + 4 :]
                value = got.get(name)
                if name in ("probabilities", "classLabel"):
                    plain = [v for v in got.values() if not isinstance(v, np.ndarray)]
                    value = next(v for v in plain if isinstance(v, dict) == (name == "probabilities"))
                if case.options.get("check") == "distribution":
                    message = misfit(value, want.shape, case.options["bounds"])
                    if message:
                        return message
                    continue
                if message := differ(prefix + name, value, want, case):
                    return message
        return ""

    return check


def write_index(out: Path, index: list[dict[str, Any]]) -> None:
    lines = ",\n".join(json.dumps(entry, ensure_ascii=True) for entry in index)
    (out / "index.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
