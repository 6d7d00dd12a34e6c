"""The faults that need a process of its own: idle connections by the thousand, the end under load, models replaced under
load, and a soak. Prints a table. Linux; needs nothing but Python.

    python3 scripts/check_server_faults.py target/release/coreml target/release/examples/load [--minutes MINUTES]

`--minutes 30` is the long soak, and leaves out the other faults.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from serving import Server, elementwise_model

IDLE = 10_000
ROWS: list[tuple[str, str, str]] = []
SHAPE = [1, 4]
INPUT = [-1.0, 0.5, 2.0, -0.25]
# What the two models answer to it.
RELU = [0.0, 0.5, 2.0, 0.0]
ABS = [1.0, 0.5, 2.0, 0.25]
REQUEST = json.dumps({"inputs": [{"name": "x", "shape": SHAPE, "datatype": "FP32", "data": INPUT}]}).encode()


def row(fault: str, expected: str, seen: str, holds: bool) -> None:
    ROWS.append((fault, expected, seen))
    print(f"{'ok' if holds else 'FAILED'}: {fault}: {seen}", flush=True)
    if not holds:
        raise SystemExit(1)


def infer(server: Server, timeout: float = 30) -> list[float]:
    request = urllib.request.Request(f"http://{server.address}/v2/models/m/infer", REQUEST)
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return json.load(answer)["outputs"][0]["data"]


def put(repository: Path, version: int, kind: str) -> None:
    """A version, as a copy that takes a while would make it: under another name first."""
    folder = repository / "m" / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / ".partial"
    partial.write_bytes(elementwise_model(SHAPE, kind))
    partial.rename(folder / "model.mlmodel")


def idle_connections(command: str, folder: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(IDLE, hard - 200)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 3 * IDLE), hard))
    config = folder / "idle.toml"
    config.write_text(f"[limits]\nconnections = {2 * IDLE}\nheader_milliseconds = 120000\n[models.m]\npath = \"{folder}/relu.mlmodel\"\n")
    with Server(command, "--config", str(config)) as server:
        infer(server)
        before = server.memory()
        open_ones = [socket.create_connection((server.host, server.port), timeout=30) for _ in range(wanted)]
        start = time.monotonic()
        right = all(infer(server) == RELU for _ in range(100))
        took = (time.monotonic() - start) / 100
        each = (server.memory() - before) / wanted
        row(f"{wanted} idle connections", "others are answered; bounded memory", f"answers in {took * 1e3:.1f} ms, {each / 1024:.1f} KiB for each", right and each < 64 * 1024)
        for connection in open_ones:
            connection.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Load:
    """Threads that ask all the time, each on its connection, and look at every answer."""

    def __init__(self, server: Server, threads: int, right: list[list[float]]):
        self.server, self.right = server, right
        self.answered = self.wrong = self.lost = self.refused = 0
        self.ending = False
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._ask) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def _ask(self) -> None:
        import http.client

        connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=30)
        while not self.ending:
            try:
                connection.request("POST", "/v2/models/m/infer", REQUEST)
                sent = True
            except OSError:
                return
            try:
                answer = connection.getresponse()
                content = json.loads(answer.read())
            except http.client.RemoteDisconnected:
                # Closed between two requests, by the header's word or at the end: never seen by the server.
                return
            except OSError:
                with self.lock:
                    self.lost += sent
                return
            with self.lock:
                if answer.status != 200:
                    self.refused += 1
                elif content["outputs"][0]["data"] in self.right:
                    self.answered += 1
                else:
                    self.wrong += 1

    def end(self) -> None:
        self.ending = True
        for thread in self.threads:
            thread.join(60)


def end_under_load(command: str, folder: Path) -> None:
    server = Server(command, f"m={folder}/relu.mlmodel")
    load = Load(server, 16, [RELU])
    time.sleep(2)
    start = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    code = server.process.wait(60)
    took = time.monotonic() - start
    load.end()
    row("SIGTERM under load", "what was accepted is answered; exit code 0", f"{load.answered} answered, {load.lost} cut off, {load.wrong} wrong, exit code {code} after {took:.2f} s", code == 0 and load.lost == load.wrong == 0 and load.answered > 100)


def replaced_under_load(command: str, folder: Path) -> None:
    repository = folder / "replaced"
    put(repository, 1, "relu")
    config = folder / "replaced.toml"
    config.write_text(f'repository = "{repository}"\npoll_milliseconds = 100\n')
    with Server(command, "--config", str(config)) as server:
        load = Load(server, 4, [RELU, ABS])
        for turn in range(10):
            put(repository, turn // 2 + 1, "abs" if turn % 2 == 0 else "relu")
            (repository / "m" / str(turn // 2 + 1) / "notes.txt").write_text("no model")
            time.sleep(0.5)
        broken = repository / "m" / "99"
        broken.mkdir()
        (broken / "model.mlmodel").write_bytes(elementwise_model(SHAPE, "relu")[:-20])
        time.sleep(1)
        last = infer(server)
        load.end()
        row("versions replaced and a broken one put beside them, under load", "one model's answer or the other's; no error", f"{load.answered} answered, {load.wrong} wrong, {load.refused} refused, {load.lost} cut off", load.wrong == load.refused == load.lost == 0 and last == RELU and load.answered > 100)


def memory_comes_back(command: str, folder: Path) -> None:
    package = Path(__file__).resolve().parent.parent / "tests/fixtures/models/EfficientNetLite0.mlpackage"
    repository = folder / "unloaded"
    repository.mkdir()
    os.symlink(package, repository / "net.mlpackage")

    def control(server: Server, what: str) -> None:
        request = urllib.request.Request(f"http://{server.address}/v2/repository/models/net/{what}", b"{}")
        urllib.request.urlopen(request, timeout=60).close()

    # What the deployments set, see docs/serving.md: glibc keeps freed memory otherwise.
    environment = {"MALLOC_TRIM_THRESHOLD_": "131072"}
    with Server(command, "--repository", str(repository), environment=environment) as server:
        control(server, "unload")
        time.sleep(0.5)
        empty, peaks = server.memory(), []
        for _ in range(10):
            control(server, "load")
            peaks.append(server.memory())
            control(server, "unload")
            time.sleep(0.2)
        left = server.memory()
        megabytes = lambda size: f"{size / 2**20:.0f} MiB"  # noqa: E731
        row("a model loaded and unloaded ten times", "memory comes back", f"{megabytes(empty)} before, up to {megabytes(max(peaks))} loaded, {megabytes(left)} after", left < empty + 20 * 2**20)


def soak(command: str, load: str, folder: Path, seconds: float) -> None:
    """At 80 % of what it can do, with a new version every ten seconds."""
    repository = folder / "soaked"
    put(repository, 1, "relu")
    request = folder / "request.json"
    request.write_bytes(REQUEST)
    config = folder / "soaked.toml"
    config.write_text(f'repository = "{repository}"\npoll_milliseconds = 500\n')
    with Server(command, "--config", str(config)) as server:
        words = [load, server.address, "/v2/models/m/infer", "--body", str(request), "--connections", "8"]
        most = json.loads(subprocess.run([*words, "--seconds", "3"], capture_output=True, check=True).stdout)["per_second"]
        running = subprocess.Popen([*words, "--seconds", str(seconds), "--rate", str(0.8 * most)], stdout=subprocess.PIPE)
        samples, begun, version = [], time.monotonic(), 2
        while running.poll() is None:
            time.sleep(1)
            elapsed = time.monotonic() - begun
            if elapsed > seconds / 5:
                samples.append((elapsed, server.memory()))
            if elapsed > 10 * (version - 1):
                put(repository, version, "relu")
                version += 1
        told = json.loads(running.stdout.read())
        low, high = growth(samples)
        row(f"{seconds:g} s at 80 % of {most:.0f} requests a second, {version - 2} reloads", "0 errors; memory does not grow", f"{told['requests']} answered, {told['errors']} errors, p99 {told['p99_us'] / 1e3:.2f} ms, growth {low:.2f} to {high:.2f} MiB a minute", told["errors"] == 0 and low <= 0.5)


def growth(samples: list[tuple[float, int]]) -> tuple[float, float]:
    """The 95 % interval of the slopes between the quarters of a run, in MiB a minute (Theil and Sen)."""
    thinned = samples[:: max(1, len(samples) // 60)]
    slopes = sorted((b[1] - a[1]) / (b[0] - a[0]) * 60 / 2**20 for i, a in enumerate(thinned) for b in thinned[i + 1 :])
    return (slopes[int(len(slopes) * 0.025)], slopes[min(int(len(slopes) * 0.975), len(slopes) - 1)]) if slopes else (0.0, 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command")
    parser.add_argument("load")
    parser.add_argument("--minutes", type=float, help="only the soak, for so long")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "relu.mlmodel").write_bytes(elementwise_model(SHAPE, "relu"))
        if arguments.minutes is None:
            idle_connections(arguments.command, folder)
            end_under_load(arguments.command, folder)
            replaced_under_load(arguments.command, folder)
            memory_comes_back(arguments.command, folder)
        soak(arguments.command, arguments.load, folder, 60 * (arguments.minutes or 0.5))
    print("\n| fault | what must hold | what was seen |\n|---|---|---|")
    for fault, expected, seen in ROWS:
        print(f"| {fault} | {expected} | {seen} |")


if __name__ == "__main__":
    main()
