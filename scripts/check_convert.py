#!/usr/bin/env python3
"""Converts old models with `coreml convert` and has coremltools read what came of it.

    python3 scripts/check_convert.py COMMAND MODEL_OR_FOLDER... [--f16]

COMMAND is the built `coreml`. For every `.mlmodel` file: it is converted, which compares the answers of both models; the
package is loaded by coremltools, and its program is built anew by coremltools' own operations, which infer every type
again. Needs PyPI on the first run.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

from own_venv import ROOT, enter


def main() -> int:
    parser = argparse.ArgumentParser(description="Check `coreml convert` against coremltools.")
    parser.add_argument("command", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--f16", action="store_true", help="store weights in half precision")
    args = parser.parse_args()
    enter("cases-venv", ROOT / "scripts" / "requirements-cases.txt")
    warnings.filterwarnings("ignore")
    import logging

    logging.disable(logging.WARNING)
    bound = 1e-2 if args.f16 else 1e-4
    paths = [p for given in args.models for p in (sorted(given.rglob("*.mlmodel")) if given.is_dir() else [given])]
    counts = {"same": 0, "refused": 0}
    failures = []
    for path in paths:
        with tempfile.TemporaryDirectory() as folder:
            try:
                outcome = check(args.command, path, Path(folder) / "new.mlpackage", args.f16, bound)
                counts[outcome] += 1
            except Exception as error:  # one bad model must not hide the others
                failures.append(f"{path.name}: {type(error).__name__}: {str(error)[:300]}")
    print(f"{len(paths)} models: {counts['same']} the same and read by coremltools, {counts['refused']} refused by name")
    print("\n".join(failures))
    return 1 if failures or not paths else 0


def check(command: Path, old: Path, new: Path, f16: bool, bound: float) -> str:
    """Converts one model; what became of it."""
    import coremltools as ct
    from coremltools.converters.mil.frontend.milproto.load import load

    call = [str(command.resolve()), "convert", str(old), str(new), *(["--f16"] if f16 else [])]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode == 3:
        return "refused"
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    for line in done.stdout.splitlines():
        share = re.search(r"(\d\.\de[+-]?\d+|inf)\s*$", line)
        if share and float(share[1]) > bound:
            raise RuntimeError(f"answers differ: {line}")
        if "differ" in line and "largest" not in line and not f16:
            raise RuntimeError(f"answers differ: {line}")
    model = ct.models.MLModel(str(new), skip_model_load=True)
    spec = model.get_spec()
    if spec.WhichOneof("Type") == "mlProgram":
        without_classify(spec)
        load(spec, specification_version=spec.specificationVersion, file_weights_dir=model.weights_dir)
    return "same"


def without_classify(spec) -> None:
    """Takes `classify` out, whose list of labels coremltools writes but does not read."""
    for function in spec.mlProgram.functions.values():
        for block in function.block_specializations.values():
            for i, operation in enumerate(block.operations):
                if operation.type != "classify":
                    continue
                given = [output.name for output in operation.outputs]
                scores = operation.inputs["probabilities"].arguments[0].name
                labels = operation.inputs["classes"].arguments[0].name
                kept = [name for name in block.outputs if name not in given] or [scores]
                del block.operations[i]
                del block.outputs[:]
                block.outputs.extend(kept)
                named = [operation for operation in block.operations if operation.outputs[0].name != labels]
                del block.operations[:]
                block.operations.extend(named)
                break


if __name__ == "__main__":
    sys.exit(main())
