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
    return _model(shape, rows, [(kind, {"x": _named("x")})])


def perceptron_model(width: int, layers: int, rows: tuple[int, int]) -> bytes:
    """An `.mlmodel` of dense layers with `relu` between them, on rows of this width."""
    operations = []
    for layer in range(layers):
        # No sum grows: each weight is about the reciprocal of the width.
        weights = [((i * 7 + layer) % 13 - 6) / (6 * width) for i in range(width * width)]
        constants = {"weight": _constant([width, width], weights), "bias": _constant([width], [0.01] * width)}
        operations.append(("linear", {"x": _named(f"v{len(operations)}"), **constants}))
        operations.append(("relu", {"x": _named(f"v{len(operations)}")}))
    operations[0][1]["x"] = _named("x")
    return _model([1, width], rows, operations)


def _model(shape: list[int], rows: tuple[int, int] | None, operations: list[tuple[str, dict[str, bytes]]]) -> bytes:
    """Operations on `x` and each other's results: `v1` of the first and so on, `y` of the last, all of one shape."""
    sizes = [(n, n) for n in shape]
    ranges = b""
    if rows:
        sizes[0] = rows
        ranges = _bytes(31, b"".join(_bytes(1, _number(1, low) + _number(2, high)) for low, high in sizes))
    array = _bytes(1, b"".join(_varint(n) for n in shape)) + _number(2, 65568) + ranges
    feature = lambda name: _bytes(1, name) + _bytes(3, _bytes(5, array))  # noqa: E731
    description = _bytes(1, feature(b"x")) + _bytes(10, feature(b"y"))
    tensor = _tensor([None if rows else shape[0], *shape[1:]])
    value = lambda name: _bytes(1, name) + _bytes(2, tensor)  # noqa: E731
    body = b""
    for number, (kind, inputs) in enumerate(operations, 1):
        result = b"y" if number == len(operations) else f"v{number}".encode()
        arguments = [_bytes(2, _bytes(1, name.encode()) + _bytes(2, binding)) for name, binding in inputs.items()]
        body += _bytes(3, _bytes(1, kind.encode()) + b"".join(arguments) + _bytes(3, value(result)))
    block = _bytes(1, b"CoreML5") + _bytes(2, _bytes(2, b"y") + body)
    function = _bytes(1, value(b"x")) + _bytes(2, b"CoreML5") + _bytes(3, block)
    main = _bytes(1, b"main") + _bytes(2, function)
    return _number(1, 6) + _bytes(2, description) + _bytes(502, _number(1, 1) + _bytes(2, main))


def _tensor(sizes: list[int | None]) -> bytes:
    """The type of a float32 tensor; sizes that vary are `None`."""
    dims = [_bytes(3, _bytes(2, b"") if n is None else _bytes(1, _number(1, n))) for n in sizes]
    return _bytes(1, _number(1, 11) + _number(2, len(sizes)) + b"".join(dims))


def _named(name: str) -> bytes:
    return _bytes(1, _bytes(1, name.encode()))


def _constant(sizes: list[int], values: list[float]) -> bytes:
    floats = _bytes(1, _bytes(1, _bytes(1, struct.pack(f"<{len(values)}f", *values))))
    return _bytes(1, _bytes(2, _bytes(2, _tensor(sizes)) + _bytes(3, floats)))


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
