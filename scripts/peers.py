#!/usr/bin/env python3
"""The referee: how fast the engine is beside its rivals, how fast it starts, and whether all of them answer the same.

    python3 scripts/peers.py [--models ResNet18,UNet256] [--threads 1,2] [--quick] [--write docs/performance.md]

For each model and thread count it runs rounds. In a round every engine, in a fresh process, warms up and then predicts
the same input again and again; the round keeps the median. The order of engines rotates from round to round. The
contenders (ONNX Runtime, OpenVINO) run in every round: the ratio is taken to the faster of them within the round, so
what slows the machine for a while slows both sides. The others run in the first rounds only. Models are rows of
`make_peer_models.MODELS`, engines rows of `peers_engines.PEERS`. Cold starts are measured by `peers_cold.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from make_peer_models import CHECKED_STEPS, MODELS, OUT, Model
from own_venv import ROOT, enter, prepare

FIXTURES = ROOT / "tests" / "fixtures"
RUST_PEERS = ROOT / "scripts" / "peers-rust"
QUICK_ROUNDS, OTHERS_ROUNDS = 3, 2
COLD_ROUNDS = 15
SLOW_SHARE = 4  # engines that are no contenders make this many times fewer predictions in a round


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
    parser = argparse.ArgumentParser(description="Measure the engine beside its rivals.")
    known = [model.name for model in MODELS]
    parser.add_argument("--models", type=names, default=known, help="default all; a wrong name lists them")
    parser.add_argument("--threads", type=counts, default=[1, 2], help="thread counts (default 1,2)")
    parser.add_argument("--rounds", type=positive, default=7, help="default 7")
    parser.add_argument("--iterations", type=positive, help="timed predictions per round (default: the model's row)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds, contenders only, no cold starts")
    parser.add_argument("--engines", type=names, help="only these rows (default all; a wrong name lists them)")
    parser.add_argument("--cold", choices=["too", "only", "no"], default="too", help="cold starts (default too)")
    parser.add_argument("--coreml", type=Path, help="the coreml command; without it, one is built by cargo")
    parser.add_argument("--folder", type=Path, default=OUT, help="what make_peer_models.py wrote")
    parser.add_argument("--pin", action="store_true", help="keep each engine on the first THREADS processors")
    parser.add_argument("--write", type=Path, metavar="FILE.md", help="put the report into this document")
    parser.add_argument("--json", type=Path, metavar="FILE.json", help="keep every round's figures")
    parser.add_argument("--add", type=Path, metavar="FILE.json", help="report these earlier figures too")
    args = parser.parse_args()
    unknown = [name for name in args.models if name not in known]
    if unknown:
        parser.error(f"--models takes {','.join(known)}, not {','.join(unknown)}")
    if args.quick:
        args.rounds, args.cold = min(args.rounds, QUICK_ROUNDS), "no"
    return args


def cargo_build(folder: Path, *arguments: str) -> Path:
    """Builds for release in a folder and gives the folder of the programs; ends the process if that fails."""
    if subprocess.run(["cargo", "build", "--release", *arguments], cwd=folder, check=False).returncode != 0:
        sys.exit(f"cargo could not build {folder}; leave out what needs it with --engines and --cold no")
    own_target = os.environ.get("CARGO_TARGET_DIR") if folder == ROOT else None
    return folder / (own_target or "target") / "release"


def find_coreml(given: Path | None) -> Path:
    """The `coreml` command: the one given, or a release build."""
    found = given or cargo_build(ROOT, "-p", "coreml-cli") / ("coreml.exe" if os.name == "nt" else "coreml")
    if not found.is_file():
        sys.exit(f"{found}: no such file")
    return found.resolve()


def job_of(model: Model, folder: Path, args: argparse.Namespace, coreml: Path | str, rivals: Path | str) -> Job:
    """What an engine must know to measure a model; threads are filled in later."""
    twin = folder / f"{model.name}.onnx"
    if not twin.is_file():
        sys.exit(f"{twin}: no such file\nmake the models: python3 scripts/make_peer_models.py")
    packages = FIXTURES / "models" if model.fixture else folder
    iterations = args.iterations or model.iterations
    steps = [str(folder / f"{model.name}.coreml.{step}.npz") for step in range(CHECKED_STEPS if model.caches else 0)]
    return Job(
        package=str(packages / f"{model.name}.mlpackage"),
        onnx=str(twin),
        torchscript=str(folder / f"{model.name}.pt"),
        package_inputs=str(folder / f"{model.name}.coreml.npz"),
        twin_inputs=str(folder / f"{model.name}.twin.npz"),
        steps=steps,
        caches=model.caches,
        output=model.output,
        labels=str(FIXTURES / "labels.txt") if model.fixture else "",
        coreml=str(coreml),
        rivals=str(rivals),
        threads=0,
        iterations=iterations,
        warmup=max(3, iterations // 4),
        pin=args.pin,
    )


def run_once(peer: Peer, job: Job, answer: Path) -> dict[str, Any]:
    """One engine in one fresh process: its figures, or `{"error": why}`; its answer goes into the file."""
    python = prepare("fixtures-venv", FIXTURES_REQUIREMENTS) if peer.torch else sys.executable
    worker = [str(python), str(ROOT / "scripts" / "peers_engines.py"), peer.key, str(answer)]
    done = subprocess.run(worker, input=json.dumps(asdict(job)), capture_output=True, text=True, check=False)
    try:
        # The result is the last line: an engine may print before it.
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result
    except (ValueError, IndexError):
        return {"error": f"its process ended with {done.returncode}: {done.stderr.strip()[-200:]}"}


def measure(peers: list[Peer], job: Job, rounds: int, label: str, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """All rounds of one model and thread count: each engine's results in round order. A failed engine runs no more."""
    results: dict[str, list[dict[str, Any]]] = {peer.key: [] for peer in peers}
    fewer = replace(job, iterations=max(3, job.iterations // SLOW_SHARE), warmup=max(2, job.warmup // SLOW_SHARE))
    for number in range(rounds):
        for peer in rotated(peers, number):
            competes = peer.ours or peer.contender or peer.bf16
            if any("error" in result for result in results[peer.key]) or (not competes and number >= OTHERS_ROUNDS):
                continue
            print(f"\r{label}: round {number + 1}/{rounds}, {peer.title:16}", end="", file=sys.stderr, flush=True)
            results[peer.key].append(run_once(peer, job if competes else fewer, folder / f"{peer.key}.npy"))
    print(f"\r{label}: done {'':30}", file=sys.stderr)
    return results


def measure_model(model: Model, peers: list[Peer], job: Job, args: argparse.Namespace) -> list[Case]:
    """The cases of one model: one for each thread count, with every answer's distance to PyTorch's stored one."""
    reference = np.load(args.folder / f"{model.name}.torch.npz")["answer"].ravel()
    cases = []
    for threads in args.threads:
        with tempfile.TemporaryDirectory() as folder:
            label = f"{model.name}, {threads} thread{'s' * (threads > 1)}"
            results = measure(peers, replace(job, threads=threads), args.rounds, label, Path(folder))
            given = {peer.key: np.load(path) for peer in peers if (path := Path(folder) / f"{peer.key}.npy").is_file()}
            cases.append(Case(model.name, threads, results, distances(given, reference)))
    return cases


def keep(path: Path | None, measured_on: str, settings: str, cases: list[Case], cold: list[Start]) -> None:
    """Stores what is measured so far, so that a run that is stopped loses one model."""
    if path:
        kept = {"machine": measured_on, "settings": settings}
        kept |= {"cases": [asdict(case) for case in cases], "cold": [asdict(start) for start in cold]}
        path.write_text(json.dumps(kept, indent=1))


def main(args: argparse.Namespace) -> int:
    unknown = set(args.engines or []) - {peer.key for peer in PEERS}
    if unknown:
        print(f"--engines takes {','.join(peer.key for peer in PEERS)}, not {','.join(unknown)}", file=sys.stderr)
        return 2
    args.folder = args.folder.resolve()
    wanted = [peer for peer in PEERS if args.engines is None or peer.key in args.engines]
    if args.quick and args.engines is None:
        wanted = [peer for peer in wanted if peer.ours or peer.contender]
    absent = {peer.title: why for peer in wanted if (why := peer.needs())}
    peers = [peer for peer in wanted if peer.title not in absent]
    coreml = find_coreml(args.coreml) if args.cold != "no" or any(peer.ours for peer in peers) else ""
    rivals: Path | str = ""
    if any(peer.rust for peer in peers):
        rivals = cargo_build(RUST_PEERS)
    elif args.cold != "no":
        rivals = cargo_build(RUST_PEERS, "--no-default-features")

    measured_on = machine()
    earlier = json.loads(args.add.read_text()) if args.add else {"cases": [], "cold": []}
    cases = [Case(**case) for case in earlier["cases"]]
    cold = [Start(**start) for start in earlier["cold"]]
    settings = f"{args.rounds} rounds, " + ("pinned to the first processors" if args.pin else "no pinning")
    for model in MODELS if args.cold != "only" else []:
        if model.name in args.models:
            cases += measure_model(model, peers, job_of(model, args.folder, args, coreml, rivals), args)
            keep(args.json, measured_on, settings, cases, cold)
    if args.cold != "no":
        for model in MODELS:
            if model.fixture and model.name in args.models:
                job = job_of(model, args.folder, args, coreml, rivals)
                cold += cold_starts(job, model.name, args.threads, COLD_ROUNDS)
                keep(args.json, measured_on, settings, cases, cold)

    # Figures from earlier may have what this run could not.
    missing = {peer.title for peer in PEERS if not any(case.results.get(peer.key) for case in cases)}
    absent = {title: why for title, why in absent.items() if title in missing}
    text = report(PEERS, cases, cold, absent, measured_on, settings)
    print(text)
    if args.write:
        write_section(args.write, text)
    return 1 if any(case.failure(key) for case in cases for key in case.results) else 0


if __name__ == "__main__":
    arguments = parse_arguments()
    enter("peers-venv", ROOT / "scripts" / "requirements-peers.txt")
    # What follows needs the environment.
    import numpy as np
    from peers_cold import Start, cold_starts
    from peers_engines import PEERS, Job, Peer
    from peers_report import Case, distances, machine, report, write_section
    from peers_stats import rotated

    FIXTURES_REQUIREMENTS = ROOT / "scripts" / "requirements-fixtures.txt"
    sys.exit(main(arguments))
