"""A running `coreml serve`, and models of a few bytes for it: what the scripts share that ask a server."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures"


class Server:
    """`coreml serve` on a free port; `log` is where its standard error goes."""

    def __init__(self, command: str, *arguments: str, log: Path | None = None, environment: dict | None = None):
        self.log = log.open("wb") if log else subprocess.DEVNULL
        self.process = subprocess.Popen(
            [command, "serve", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        line = self.process.stdout.readline()
        if not line.startswith("serving on http://"):
            raise SystemExit(f"the server did not start: {line}")
        self.address = line.removeprefix("serving on http://").strip()
        self.host, port = self.address.split(":")
        self.port = int(port)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_) -> None:
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def memory(self) -> int:
        """Resident bytes, where the system tells."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def elementwise_model(shape: list[int], kind: str, rows: tuple[int, int] | None = None) -> bytes:
    """An `.mlmodel` with `y = kind(x)` on float32, as `coreml_testing::tiny` makes it."""
    sizes = [(n, n) for n in shape]
    ranges = b""
    if rows:
        sizes[0] = rows
        ranges = _bytes(31, b"".join(_bytes(1, _number(1, low) + _number(2, high)) for low, high in sizes))
    array = _bytes(1, b"".join(_varint(n) for n in shape)) + _number(2, 65568) + ranges
    feature = lambda name: _bytes(1, name) + _bytes(3, _bytes(5, array))  # noqa: E731
    description = _bytes(1, feature(b"x")) + _bytes(10, feature(b"y"))
    unknown = _bytes(3, _bytes(2, b""))
    dims = [_bytes(3, _bytes(1, _number(1, n))) for n in shape]
    dims[0] = unknown if rows else dims[0]
    tensor = _bytes(1, _number(1, 11) + _number(2, len(shape)) + b"".join(dims))
    value = lambda name: _bytes(1, name) + _bytes(2, tensor)  # noqa: E731
    argument = _bytes(1, b"x") + _bytes(2, _bytes(1, _bytes(1, b"x")))
    operation = _bytes(3, _bytes(1, kind.encode()) + _bytes(2, argument) + _bytes(3, value(b"y")))
    block = _bytes(1, b"CoreML5") + _bytes(2, _bytes(2, b"y") + operation)
    function = _bytes(1, value(b"x")) + _bytes(2, b"CoreML5") + _bytes(3, block)
    main = _bytes(1, b"main") + _bytes(2, function)
    return _number(1, 6) + _bytes(2, description) + _bytes(502, _number(1, 1) + _bytes(2, main))


def _varint(n: int) -> bytes:
    parts = []
    while n > 0x7F:
        parts.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes([*parts, n])


def _number(field: int, n: int) -> bytes:
    return _varint(field << 3) + _varint(n)


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def byte_string(content: bytes) -> bytes:
    """One element of a BYTES tensor in binary form."""
    return struct.pack("<I", len(content)) + content
