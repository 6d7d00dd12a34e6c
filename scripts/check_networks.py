#!/usr/bin/env python3
"""Times neural networks of old beside the same networks as ML Programs that coremltools makes.

    python3 scripts/check_networks.py COMMAND [--rounds 7] [--only SqueezeNet]

COMMAND is the built `coreml`. MobileNetV2 and SqueezeNet 1.1 are written once as a list of layers with seeded weights; coremltools'
two builders make a neural network and an ML Program of it. `coreml bench` times both in rounds that take turns, on one thread.
Prints the ratio of the medians; exits with 1 above 1.05. Needs PyPI on the first run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from own_venv import ROOT, enter

MOST = 1.05


def main() -> int:
    parser = argparse.ArgumentParser(description="Time neural networks beside the same ML Programs.")
    parser.add_argument("command", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=["MobileNetV2", "SqueezeNet"])
    args = parser.parse_args()
    enter("trees-venv", ROOT / "scripts" / "requirements-trees.txt")
    warnings.filterwarnings("ignore")
    os.environ["TQDM_DISABLE"] = "1"
    slow = False
    for name, build in {"MobileNetV2": mobilenet, "SqueezeNet": squeezenet}.items():
        if args.only not in (None, name):
            continue
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / "old.mlmodel", Path(folder) / "new.mlpackage"]
            old, new = Network(), Program()
            build(old)
            old.save(paths[0])
            new.save(paths[1], build)
            times: list[list[float]] = [[], []]
            for round_ in range(args.rounds + 1):
                for path, found in zip(paths, times):
                    found += [median(args.command, path)] if round_ else []
        ratio = statistics.median(old / new for old, new in zip(*times))
        slow |= ratio > MOST
        told = [f"{statistics.median(found) * 1e3:.2f} ms" for found in times]
        print(f"{name}: neural network {told[0]}, ML Program {told[1]}, ratio {ratio:.3f} ({args.rounds} rounds)")
    return 1 if slow else 0


def median(command: Path, model: Path) -> float:
    """Seconds of the median prediction in one run of the bench."""
    call = [str(command.resolve()), "bench", str(model), "--threads", "1", "-n", "30", "--format", "json"]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["runs"][0]["latency_ms"]["p50"] / 1e3


class Weights:
    """Seeded weights, the same for both forms."""

    def __init__(self) -> None:
        import numpy as np

        self.random = np.random.default_rng(0)

    def draw(self, *shape: int) -> Any:
        import numpy as np

        fan = max(1, int(np.prod(shape[1:])))
        return (self.random.normal(size=shape) * (2 / fan) ** 0.5).astype(np.float32)


class Network:
    """Layers as a neural network of old."""

    def __init__(self) -> None:
        import coremltools as ct
        from coremltools.models.neural_network import NeuralNetworkBuilder

        array = ct.models.datatypes.Array
        self.weights = Weights()
        self.builder = NeuralNetworkBuilder([("x", array(1, 3, 224, 224))], [("y", None)], disable_rank5_shape_mapping=True)
        self.count = 0

    def name(self) -> str:
        self.count += 1
        return f"b{self.count}"

    def conv(self, x: str, channels: tuple[int, int], size: int, stride: int, pad: int, groups: int = 1) -> str:
        y, (cin, cout) = self.name(), channels
        w, b = self.weights.draw(cout, cin // groups, size, size), self.weights.draw(cout, 1)[:, 0]
        self.builder.add_convolution(
            y, cin // groups, cout, size, size, stride, stride, "valid", groups, w.transpose(2, 3, 1, 0), b, True,
            input_name=x, output_name=y, padding_top=pad, padding_bottom=pad, padding_left=pad, padding_right=pad,
        )  # fmt: skip
        return y

    def clip(self, x: str, most: float | None) -> str:
        y = self.name()
        if most is None:
            self.builder.add_activation(y, "RELU", x, y)
        else:
            self.builder.add_clip(y, x, y, 0.0, most)
        return y

    def add(self, a: str, b: str) -> str:
        y = self.name()
        self.builder.add_add_broadcastable(y, [a, b], y)
        return y

    def concat(self, a: str, b: str) -> str:
        y = self.name()
        self.builder.add_concat_nd(y, [a, b], y, axis=1)
        return y

    def pool(self, x: str) -> str:
        y = self.name()
        self.builder.add_pooling(y, 3, 3, 2, 2, "MAX", "VALID", x, y)
        return y

    def mean(self, x: str) -> str:
        y = self.name()
        self.builder.add_reduce_mean(y, x, y, axes=[2, 3], keepdims=True)
        return y

    def result(self, x: str) -> str:
        self.builder.add_softmax_nd("y", x, "y", axis=1)
        return "y"

    def save(self, path: Path) -> None:
        path.write_bytes(self.builder.spec.SerializeToString())


class Program:
    """Layers as an ML Program."""

    def __init__(self) -> None:
        from coremltools.converters.mil import Builder

        self.mb = Builder
        self.weights = Weights()

    def conv(self, x: Any, channels: tuple[int, int], size: int, stride: int, pad: int, groups: int = 1) -> Any:
        cin, cout = channels
        w, b = self.weights.draw(cout, cin // groups, size, size), self.weights.draw(cout, 1)[:, 0]
        return self.mb.conv(x=x, weight=w, bias=b, strides=[stride] * 2, pad_type="custom", pad=[pad] * 4, groups=groups)

    def clip(self, x: Any, most: float | None) -> Any:
        return self.mb.relu(x=x) if most is None else self.mb.clip(x=x, alpha=0.0, beta=most)

    def add(self, a: Any, b: Any) -> Any:
        return self.mb.add(x=a, y=b)

    def concat(self, a: Any, b: Any) -> Any:
        return self.mb.concat(values=[a, b], axis=1)

    def pool(self, x: Any) -> Any:
        return self.mb.max_pool(x=x, kernel_sizes=[3, 3], strides=[2, 2], pad_type="valid")

    def mean(self, x: Any) -> Any:
        return self.mb.reduce_mean(x=x, axes=[2, 3], keep_dims=True)

    def result(self, x: Any) -> Any:
        return self.mb.softmax(x=x, axis=1, name="y")

    def save(self, path: Path, build: Any) -> None:
        import coremltools as ct

        spec = self.mb.TensorSpec(shape=(1, 3, 224, 224))
        program = self.mb.program(input_specs=[spec], opset_version=ct.target.iOS15)(lambda x: build(self, x))
        model = ct.convert(
            program, convert_to="mlprogram", compute_precision=ct.precision.FLOAT32, minimum_deployment_target=ct.target.iOS15
        )
        model.save(str(path))


def mobilenet(net: Any, x: Any = "x") -> Any:
    x, channels = net.clip(net.conv(x, (3, 32), 3, 2, 1), 6.0), 32
    for expand, out, count, stride in [
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)
    ]:  # fmt: skip
        for i in range(count):
            inner, y = channels * expand, x
            if expand > 1:
                y = net.clip(net.conv(y, (channels, inner), 1, 1, 0), 6.0)
            y = net.clip(net.conv(y, (inner, inner), 3, stride if i == 0 else 1, 1, inner), 6.0)
            y = net.conv(y, (inner, out), 1, 1, 0)
            x = net.add(x, y) if channels == out and (i > 0 or stride == 1) else y
            channels = out
    x = net.clip(net.conv(x, (channels, 1280), 1, 1, 0), 6.0)
    return net.result(net.conv(net.mean(x), (1280, 1000), 1, 1, 0))


def squeezenet(net: Any, x: Any = "x") -> Any:
    x, channels = net.pool(net.clip(net.conv(x, (3, 64), 3, 2, 0), None)), 64
    for i, (few, many) in enumerate([(16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)]):
        x = net.pool(x) if i in (2, 4) else x
        x = net.clip(net.conv(x, (channels, few), 1, 1, 0), None)
        sides = [net.clip(net.conv(x, (few, many), size, 1, pad), None) for size, pad in ((1, 0), (3, 1))]
        x, channels = net.concat(*sides), 2 * many
    x = net.clip(net.conv(x, (channels, 1000), 1, 1, 0), None)
    return net.result(net.mean(x))


if __name__ == "__main__":
    sys.exit(main())
