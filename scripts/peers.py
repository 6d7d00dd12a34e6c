#!/usr/bin/env python3
"""The referee: how fast the engine is beside ONNX Runtime and OpenVINO, and whether all of them answer the same.

    python3 scripts/peers.py [--models fastvit,effnet] [--threads 1,2] [--rounds 9] [--write docs/performance.md]

For each model and thread count it runs rounds. In a round every engine, in a fresh process, warms up and then predicts
the same photograph `--iterations` times; the round keeps the median. The order of engines rotates from round to round.
A ratio is taken within a round, so what slows the machine for a while slows both of its sides. Engines are rows of
`peers_engines.PEERS`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from own_venv import ROOT, enter

FIXTURES = ROOT / "tests" / "fixtures"
TWIN_FOLDERS = [ROOT / "target" / "fixtures" / "peers", ROOT.parent / "shared" / "fixtures" / "peers"]
PHOTO = "coffee"


@dataclass(frozen=True)
class Model:
    """A fixture, and how its package scales a pixel: `pixel * scale + bias`. Its ONNX twin takes scaled pixels."""

    name: str
    scale: float
    bias: float


MODELS = {
    "fastvit": Model("FastViTT8F16", scale=1 / 255, bias=0.0),
    "effnet": Model("EfficientNetLite0", scale=1 / 128, bias=-127 / 128),
}


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def names(text: str) -> list[str]:
    """A comma list with at least one name."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise argparse.ArgumentTypeError("names nothing")
    return parts


def counts(text: str) -> list[int]:
    return [positive(part) for part in names(text)]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the engine beside ONNX Runtime and OpenVINO.")
    parser.add_argument("--models", type=names, default=list(MODELS), help="of fastvit,effnet (default both)")
    parser.add_argument("--threads", type=counts, default=[1, 2], help="thread counts (default 1,2)")
    parser.add_argument("--rounds", type=positive, default=9, help="default 9")
    parser.add_argument(
        "--iterations", type=positive, default=40, help="timed predictions per engine and round (default 40)"
    )
    parser.add_argument("--warmup", type=positive, default=10, help="predictions before them (default 10)")
    parser.add_argument("--engines", type=names, help="only these rows (default all; a wrong name lists them)")
    parser.add_argument("--coreml", type=Path, help="the coreml command; without it, one is built by cargo")
    parser.add_argument("--twins", type=Path, help="folder with the ONNX twins")
    parser.add_argument("--pin", action="store_true", help="keep each engine on the first THREADS processors")
    parser.add_argument("--write", type=Path, metavar="FILE.md", help="put the report into this document")
    parser.add_argument("--json", type=Path, metavar="FILE.json", help="keep every round's figures")
    args = parser.parse_args()
    unknown = [name for name in args.models if name not in MODELS]
    if unknown:
        parser.error(f"--models takes {','.join(MODELS)}, not {','.join(unknown)}")
    return args


def find_twins(given: Path | None, models: list[Model]) -> Path:
    """The folder that holds every ONNX twin; ends the process with how to make them if there is none."""
    folders = [given] if given else TWIN_FOLDERS
    for folder in folders:
        if all((folder / f"{model.name}.onnx").is_file() for model in models):
            return folder.resolve()
    places = " or ".join(str(folder) for folder in folders)
    sys.exit(f"no ONNX twins in {places}\nmake them: python3 scripts/make_fixtures.py   (into target/fixtures/peers)")


def find_coreml(given: Path | None) -> Path:
    """The `coreml` command: the one given, or a release build."""
    if given is None:
        build = ["cargo", "build", "--release", "-p", "coreml-cli"]
        if subprocess.run(build, cwd=ROOT, check=False).returncode != 0:
            sys.exit("the coreml command could not be built; give one with --coreml, or leave it out with --engines")
        target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        given = ROOT / target / "release" / ("coreml.exe" if os.name == "nt" else "coreml")
    if not given.is_file():
        sys.exit(f"{given}: no such file")
    return given.resolve()


def run_once(peer: Peer, job: Job) -> dict[str, Any]:
    """One engine in one fresh process: a `Result` as a dictionary, or `{"error": why}`."""
    worker = [sys.executable, str(ROOT / "scripts" / "peers_engines.py"), peer.key]
    done = subprocess.run(worker, input=json.dumps(asdict(job)), capture_output=True, text=True, check=False)
    try:
        # The result is the last line: an engine may print before it.
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result
    except (ValueError, IndexError):
        return {"error": f"its process ended with {done.returncode}: {done.stderr.strip()[-200:]}"}


def measure(peers: list[Peer], job: Job, rounds: int, label: str) -> dict[str, list[dict[str, Any]]]:
    """All rounds of one model and thread count: each engine's results in round order. A failed engine runs no more."""
    results: dict[str, list[dict[str, Any]]] = {peer.key: [] for peer in peers}
    for number in range(rounds):
        for peer in rotated(peers, number):
            if any("error" in result for result in results[peer.key]):
                continue
            print(f"\r{label}: round {number + 1}/{rounds}, {peer.title:16}", end="", file=sys.stderr, flush=True)
            results[peer.key].append(run_once(peer, job))
    print(f"\r{label}: done {'':30}", file=sys.stderr)
    return results


def main(args: argparse.Namespace) -> int:
    peers = [peer for peer in PEERS if args.engines is None or peer.key in args.engines]
    unknown = set(args.engines or []) - {peer.key for peer in PEERS}
    if unknown:
        print(
            f"--engines takes {','.join(peer.key for peer in PEERS)}, not {','.join(sorted(unknown))}", file=sys.stderr
        )
        return 2
    models = [MODELS[name] for name in args.models]
    twins = "" if all(peer.ours for peer in peers) else find_twins(args.twins, models)
    coreml = find_coreml(args.coreml) if any(peer.ours for peer in peers) else ""

    measured_on = machine()
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            reference = np.load(FIXTURES / "references" / f"{model.name}.npz")
            inputs = Path(folder) / f"{model.name}.npz"
            np.savez(inputs, image=reference[f"{PHOTO}_rgb"])
            job = Job(
                package=str(FIXTURES / "models" / f"{model.name}.mlpackage"),
                onnx=str(Path(twins) / f"{model.name}.onnx"),
                inputs=str(inputs),
                labels=str(FIXTURES / "labels.txt"),
                scale=model.scale,
                bias=model.bias,
                coreml=str(coreml),
                threads=0,
                iterations=args.iterations,
                warmup=args.warmup,
                pin=args.pin,
            )
            for threads in args.threads:
                label = f"{model.name}, {threads} thread{'s' * (threads > 1)}"
                results = measure(peers, replace(job, threads=threads), args.rounds, label)
                expected = reference[f"{PHOTO}_prob"]
                cases.append(Case(model.name, threads, {peer.key: results[peer.key] for peer in peers}, expected))

    settings = f"{args.rounds} rounds of {args.iterations} predictions after {args.warmup} of warm-up"
    settings += f", photograph `{PHOTO}`, " + ("pinned to the first processors" if args.pin else "no pinning")
    text = report(peers, cases, measured_on, settings)
    print(text)
    if args.write:
        write_section(args.write, text)
    if args.json:
        rows = [{"model": case.model, "threads": case.threads, "results": case.results} for case in cases]
        args.json.write_text(json.dumps({"machine": measured_on, "settings": settings, "cases": rows}, indent=1))
    return 1 if any(case.failure(peer.key) for case in cases for peer in peers) else 0


if __name__ == "__main__":
    arguments = parse_arguments()
    enter("peers-venv", ROOT / "scripts" / "requirements-peers.txt")
    # What follows needs the environment.
    import numpy as np
    from peers_engines import PEERS, Job, Peer
    from peers_report import Case, machine, report, write_section
    from peers_stats import rotated

    sys.exit(main(arguments))
