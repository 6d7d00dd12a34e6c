#!/usr/bin/env python3
"""Converts a torch network to Core ML and compares the answers of the two, on any machine.

    pip install torch 'coreml-anywhere[coremltools]'
    python convert_and_check.py [--precision float16]

In a notebook, each function below is a cell.
"""

from __future__ import annotations

import argparse
import sys

import coreml_anywhere.coremltools  # noqa: F401  gives coremltools its predictions
import coremltools
import numpy
import torch

SHAPE = (1, 3, 64, 64)
# Half precision keeps eleven bits; a few layers lose some of them.
LIMITS = {"float32": 1e-4, "float16": 2e-2}


def network() -> torch.nn.Module:
    """A small network of the usual layers; put your own here."""
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, stride=2, padding=1),
        torch.nn.BatchNorm2d(16),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 32, 3, stride=2, padding=1),
        torch.nn.GELU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(32, 10),
        torch.nn.Softmax(dim=1),
    )
    return layers.eval()


def convert(layers: torch.nn.Module, precision: str) -> coremltools.models.MLModel:
    """The network as an ML Program."""
    traced = torch.jit.trace(layers, torch.zeros(SHAPE))
    return coremltools.convert(
        traced,
        inputs=[coremltools.TensorType("x", shape=SHAPE)],
        outputs=[coremltools.TensorType("y")],
        convert_to="mlprogram",
        compute_precision=getattr(coremltools.precision, precision.upper()),
        minimum_deployment_target=coremltools.target.iOS16,
    )


def distance(layers: torch.nn.Module, model: coremltools.models.MLModel, count: int = 8) -> float:
    """The largest difference of the answers, in parts of the largest value."""
    random = numpy.random.default_rng(0)
    worst = 0.0
    for _ in range(count):
        x = random.standard_normal(SHAPE, dtype=numpy.float32)
        with torch.no_grad():
            wanted = layers(torch.from_numpy(x)).numpy()
        found = model.predict({"x": x})["y"]
        worst = max(worst, float(numpy.abs(found - wanted).max() / numpy.abs(wanted).max()))
    return worst


def main() -> None:
    """Prints the distance, and fails if it is too large."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", choices=LIMITS, default="float16")
    parser.add_argument("--save", help="where to write the model, an .mlpackage")
    arguments = parser.parse_args()
    layers = network()
    model = convert(layers, arguments.precision)
    if arguments.save:
        model.save(arguments.save)
    worst = distance(layers, model)
    limit = LIMITS[arguments.precision]
    print(f"{arguments.precision}: largest difference {worst:.2e}, limit {limit:.0e}")
    sys.exit(worst > limit)


if __name__ == "__main__":
    main()
