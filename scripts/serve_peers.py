"""Measures `coreml serve` beside a minimal server of the same protocol on ONNX Runtime, on the same requests.

    python3 scripts/serve_peers.py [--seconds 5] [--rounds 3] [--onnx FOLDER]

Throughput and the 99th percentile at 1, 8 and 64 connections, by the load generator `load` of coreml-server; the servers
take turns. Needs the ONNX twin of EfficientNet-Lite0, which scripts/make_fixtures.py makes (`target/fixtures/peers`).
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import own_venv

ROOT = own_venv.ROOT
CONNECTIONS = (1, 8, 64)


@dataclass(frozen=True)
class Case:
    """One model on one input, in both forms."""

    name: str
    package: Path
    onnx: Path
    ours: tuple[str, object]  # the input's name and values
    twin: tuple[str, object]


@dataclass(frozen=True)
class Contender:
    name: str
    arguments: tuple[str, ...]
    ours: bool = False


CONTENDERS = [
    Contender("coreml serve", (), ours=True),
    Contender("coreml serve, 2 instances of 1 thread", ("--instances", "2", "--threads", "1"), ours=True),
    Contender("ONNX Runtime, 1 worker of 2 threads", ("2", "1")),
    Contender("ONNX Runtime, 2 workers of 1 thread", ("1", "2")),
]


def cases(folder: Path, onnx_folder: Path) -> list[Case]:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper

    from serving import elementwise_model

    vector = np.linspace(-1, 1, 256, dtype=np.float32).reshape(1, 256)
    small = folder / "small.mlmodel"
    small.write_bytes(elementwise_model([1, 256], "relu"))
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 256])  # noqa: E731
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "small", [value("x")], [value("y")])
    twin = folder / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), twin)
    found = [Case("1 KiB tensor", small, twin, ("x", vector), ("x", vector))]
    network = onnx_folder / "EfficientNetLite0.onnx"
    if network.is_file():
        planes = np.random.default_rng(1).uniform(0, 255, (1, 3, 224, 224)).astype(np.float32)
        name = onnx.load(network, load_external_data=False).graph.input[0].name
        package = ROOT / "tests/fixtures/models/EfficientNetLite0.mlpackage"
        found.append(Case("EfficientNet-Lite0", package, network, ("image", planes), (name, planes / 127.5 - 1)))
    else:
        print(f"SKIPPED: {network} is not here, so EfficientNet-Lite0 was not measured", file=sys.stderr)
    return found


def body(folder: Path, given: tuple[str, object]) -> tuple[Path, int]:
    """The request as a file, and the length of its JSON."""
    name, values = given
    tensor = {"name": name, "shape": list(values.shape), "datatype": "FP32", "parameters": {"binary_data_size": values.nbytes}}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    path = folder / "request.bin"
    path.write_bytes(text + values.tobytes())
    return path, len(text)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(contender: Contender, case: Case, command: Path) -> tuple[subprocess.Popen, str]:
    port = free_port()
    if contender.ours:
        words = [str(command), "serve", "--port", str(port), f"m={case.package}", *contender.arguments]
    else:
        words = [sys.executable, str(ROOT / "scripts/onnx_server.py"), str(case.onnx), str(port), *contender.arguments]
    process = subprocess.Popen(words, cwd=ROOT / "scripts", stdout=subprocess.DEVNULL, start_new_session=True)
    address = f"127.0.0.1:{port}"
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://{address}/v2/health/ready", timeout=5).close()
            return process, address
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    process.kill()
    raise SystemExit(f"{contender.name} did not start")


def measure(load: Path, address: str, request: tuple[Path, int], connections: int, seconds: float) -> dict:
    path, length = request
    words = [str(load), address, "/v2/models/m/infer", "--body", str(path), "--json", str(length)]
    words += ["--connections", str(connections), "--seconds", str(seconds), "--warmup", "2"]
    told = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    if told["errors"]:
        raise SystemExit(f"{told['errors']} answers were errors")
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--onnx", type=Path, default=ROOT / "target/fixtures/peers")
    arguments = parser.parse_args()
    cargo = ["cargo", "build", "--release", "--locked"]
    subprocess.run([*cargo, "-p", "coreml-cli", "--features", "server"], cwd=ROOT, check=True)
    subprocess.run([*cargo, "-p", "coreml-server", "--example", "load"], cwd=ROOT, check=True)
    release = ROOT / "target/release"
    results: dict[tuple, list[dict]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        measured = cases(folder, arguments.onnx)
        for turn in range(arguments.rounds):
            for case in measured:
                order = CONTENDERS[turn % len(CONTENDERS) :] + CONTENDERS[: turn % len(CONTENDERS)]
                for contender in order:
                    process, address = start(contender, case, release / "coreml")
                    request = body(folder, case.ours if contender.ours else case.twin)
                    for connections in CONNECTIONS:
                        told = measure(release / "examples/load", address, request, connections, arguments.seconds)
                        results.setdefault((case.name, connections, contender.name), []).append(told)
                        print(case.name, contender.name, told, file=sys.stderr)
                    os.killpg(process.pid, 15)
                    process.wait(60)
    report(measured, results, arguments)


def report(measured: list[Case], results: dict, arguments: argparse.Namespace) -> None:
    print(f"{arguments.rounds} rounds of {arguments.seconds:g} s each; medians over rounds.\n")
    print("| model | connections | server | requests/s | p50 ms | p99 ms |")
    print("|---|--:|---|--:|--:|--:|")
    for case in measured:
        for connections in CONNECTIONS:
            for contender in CONTENDERS:
                told = results[case.name, connections, contender.name]
                middle = lambda key: statistics.median(one[key] for one in told)  # noqa: E731
                print(
                    f"| {case.name} | {connections} | {contender.name} | {middle('per_second'):.0f}"
                    f" | {middle('p50_us') / 1e3:.2f} | {middle('p99_us') / 1e3:.2f} |"
                )


if __name__ == "__main__":
    own_venv.enter("serve-peers-environment", ROOT / "scripts/requirements-serve-peers.txt")
    main()
