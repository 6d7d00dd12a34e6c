#!/usr/bin/env python3
"""Makes `tests/fixtures/layers.npz` again: a small neural network for every type of layer, with inputs and answers.

    python3 scripts/make_layer_cases.py [--out tests/fixtures/layers.npz]

Needs PyPI on the first run. coremltools' builder makes the networks; NumPy computes the answers, in double precision, from
the definition of each layer. Two runs give the same bytes. The cases are in `layer_cases/FAMILY.py`.

The archive has for each case `NAME/model` (bytes), `NAME/in:FEATURE` (`img:` for pixels) and `NAME/out:FEATURE`, or `NAME/shape:FEATURE` where the
numbers are drawn.
"""

from __future__ import annotations

import argparse
import io
import sys
import warnings
import zipfile
from pathlib import Path

from own_venv import ROOT, enter


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the layers with known answers again.")
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "fixtures" / "layers.npz", help="file to write")
    args = parser.parse_args()
    enter("classic-venv", ROOT / "scripts" / "requirements-classic.txt")
    warnings.filterwarnings("ignore")
    import numpy as np

    from layer_cases import creation, elementwise, indices, linear, recurrent, shape
    from layer_cases.case import Cases

    cases = Cases()
    families = [elementwise.add, creation.add, creation.add_flow, indices.add, shape.add, shape.add_images]
    for family in (*families, linear.add, recurrent.add):
        family(cases)
    names = [case.name for case in cases.cases]
    assert len(set(names)) == len(names), "two cases have one name"
    with zipfile.ZipFile(args.out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for case in cases.cases:
            results = "shape" if case.drawn else "out"
            arrays = {"model": np.frombuffer(case.model, np.uint8)}
            arrays |= case.inputs
            arrays |= {f"{results}:{key}": value for key, value in case.outputs.items()}
            for key, array in arrays.items():
                buffer = io.BytesIO()
                np.save(buffer, array)
                archive.writestr(zipfile.ZipInfo(f"{case.name}/{key}.npy"), buffer.getvalue(), zipfile.ZIP_DEFLATED)
    print(f"{len(names)} cases in {args.out}, {args.out.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
