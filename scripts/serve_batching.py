"""Measures what putting requests together brings, at saturation: the same server with and without, in turns.

    python3 scripts/serve_batching.py target/release/coreml target/release/examples/load [--seconds 5] [--rounds 5]

The model is a perceptron of so many layers on one row of float32, whose weights are read once for all rows of a batch.
Requests and answers are binary. Times of one machine at one time: the ratios, of runs side by side, are what to quote.
"""

from __future__ import annotations

import argparse
import json
import statistics
import struct
import subprocess
import tempfile
from pathlib import Path

from serving import Server, perceptron_model

WIDTH, LAYERS = 512, 6
CONNECTIONS = (1, 8, 64)
# One prediction at a time, so that the two differ in nothing but the batches.
COMMON = ("--instances", "1")
CONTENDERS = {"one by one": (), "batches of up to 16": ("--max-batch", "16")}


def measure(load: str, server: Server, body: Path, length: int, connections: int, seconds: float) -> dict:
    words = [load, server.address, "/v2/models/m/infer", "--body", str(body), "--json", str(length)]
    words += ["--connections", str(connections), "--seconds", str(seconds)]
    told = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    if told["errors"]:
        raise SystemExit(f"{told['errors']} answers were errors")
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command")
    parser.add_argument("load")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    results: dict[tuple[int, str], list[dict]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model, body = folder / "m.mlmodel", folder / "request.bin"
        model.write_bytes(perceptron_model(WIDTH, LAYERS, rows=(1, 64)))
        tensor = {"name": "x", "shape": [1, WIDTH], "datatype": "FP32", "parameters": {"binary_data_size": 4 * WIDTH}}
        text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        body.write_bytes(text + struct.pack(f"<{WIDTH}f", *(i / WIDTH for i in range(WIDTH))))
        for turn in range(arguments.rounds):
            order = list(CONTENDERS) if turn % 2 == 0 else list(CONTENDERS)[::-1]
            for connections in CONNECTIONS:
                for name in order:
                    with Server(arguments.command, f"m={model}", *COMMON, *CONTENDERS[name]) as server:
                        told = measure(arguments.load, server, body, len(text), connections, arguments.seconds)
                        results.setdefault((connections, name), []).append(told)
    report(results, arguments)


def report(results: dict, arguments: argparse.Namespace) -> None:
    print(f"{arguments.rounds} rounds of {arguments.seconds:g} s each; medians over rounds, and of the ratios of a round.\n")
    print("| connections | | requests/s | p50 ms | p99 ms | throughput, ratio | p99, ratio |")
    print("|--:|---|--:|--:|--:|--:|--:|")
    plain = next(iter(CONTENDERS))
    for connections in CONNECTIONS:
        for name in CONTENDERS:
            told, base = results[connections, name], results[connections, plain]
            middle = lambda key: statistics.median(one[key] for one in told)  # noqa: E731
            ratio = lambda key: statistics.median(one[key] / other[key] for one, other in zip(told, base))  # noqa: E731
            print(
                f"| {connections} | {name} | {middle('per_second'):.0f} | {middle('p50_us') / 1e3:.2f} | {middle('p99_us') / 1e3:.2f}"
                f" | {ratio('per_second'):.2f} | {ratio('p99_us'):.2f} |"
            )


if __name__ == "__main__":
    main()
