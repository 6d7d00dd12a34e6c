#!/usr/bin/env python3
"""Classifies pictures on a Ray cluster, or on this machine if there is none.

    pip install 'ray[data]' coreml-anywhere pillow
    python ray_scoring.py MODEL FOLDER [--actors 4]

The model and the pictures must be where all machines find them.
"""

from __future__ import annotations

import argparse
from typing import Any, Dict

import numpy
import ray
from coreml_anywhere import Session


class Score:
    """What an actor holds: a session of its own, with one thread."""

    def __init__(self, model: str) -> None:
        self.session = Session(model, threads=1)
        self.name = self.session.interface.inputs[0].name

    def __call__(self, row: Dict[str, Any]) -> Dict[str, Any]:
        picture = numpy.ascontiguousarray(row.pop("image"))
        ((label, probability),) = self.session.predict({self.name: picture}).top(1)
        return {"path": row["path"], "label": str(label), "probability": probability}


def main() -> None:
    """Prints a line for each picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("folder")
    parser.add_argument("--actors", type=int, default=2)
    arguments = parser.parse_args()
    height, width = Session(arguments.model).interface.inputs[0].shape
    pictures = ray.data.read_images(arguments.folder, size=(height, width), mode="RGB", include_paths=True)
    scored = pictures.map(Score, fn_constructor_args=(arguments.model,), concurrency=arguments.actors, num_cpus=1)
    for row in scored.iter_rows():
        print(f"{row['path']}\t{row['label']}\t{row['probability']:.4f}")


if __name__ == "__main__":
    main()
