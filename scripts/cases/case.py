"""What a golden case is, and the small language the families are written in.

A case is a program and a reference. Both are plain functions of the same named arguments: the program gets MIL
variables (inputs) and numpy values (constants) and calls coremltools' builder; the reference gets the very same numbers
in double precision and calls numpy or torch. `half=True` makes the same pair an f16 program: inputs are cast to f16
first, float constants are stored in f16, results are cast back, and the reference sees the rounded numbers.

Every number is drawn from a generator seeded by the case's name and the argument's name, so that a case can be added or
removed without changing another.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any, Callable

import numpy as np

ATOL, RTOL = 1e-6, 1e-4
NUMPY = {"fp16": np.float16, "fp32": np.float32, "int32": np.int32, "bool": np.bool_}
NUMPY |= {"int8": np.int8, "uint8": np.uint8, "int16": np.int16, "uint16": np.uint16}


@dataclass(frozen=True)
class Draw:
    """How an array comes about: a function of a generator, and the MIL type the program sees it in."""

    make: Callable[[np.random.Generator], np.ndarray]
    inner: str  # what an input feature is cast to inside the program; features themselves are fp32 or int32
    dims: tuple | None = None  # the declared shape if parts of it are flexible; None marks a flexible dimension

    def array(self, seed: str) -> np.ndarray:
        """The numbers for this seed; always the same ones."""
        return np.asarray(self.make(np.random.default_rng(zlib.crc32(seed.encode()))))


def real(*shape: int, lo: float = -2.0, hi: float = 2.0, dims: tuple | None = None) -> Draw:
    """Uniform f32 numbers."""
    return Draw(lambda rng: rng.uniform(lo, hi, shape).astype(np.float32), "fp32", dims)


def normal(*shape: int, scale: float = 1.0) -> Draw:
    """Normally distributed f32 numbers: what weights look like."""
    return Draw(lambda rng: (rng.standard_normal(shape) * scale).astype(np.float32), "fp32")


def integers(*shape: int, lo: int = -9, hi: int = 10, inner: str = "int32", dims: tuple | None = None) -> Draw:
    """Whole numbers in `lo .. hi - 1`."""
    return Draw(lambda rng: rng.integers(lo, hi, shape).astype(NUMPY[inner]), inner, dims)


def boolean(*shape: int, chance: float = 0.5) -> Draw:
    """Truth values; an input feature carries them as int32."""
    return Draw(lambda rng: rng.uniform(size=shape) < chance, "bool")


def distinct(*shape: int) -> Draw:
    """f32 numbers no two of which are equal or nearly so, in random order: for sorting."""

    def make(rng: np.random.Generator) -> np.ndarray:
        count = int(np.prod(shape))
        return ((rng.permutation(count) - count // 2) * 0.25).astype(np.float32).reshape(shape)

    return Draw(make, "fp32")


def given(values: Any, dtype: str | None = None, dims: tuple | None = None) -> Draw:
    """These very numbers; f32, int32 or bool unless `dtype` says otherwise."""
    array = np.asarray(values)
    dtype = dtype or {"f": "fp32", "i": "int32", "u": "int32", "b": "bool"}[array.dtype.kind]
    array = array.astype(NUMPY[dtype])
    return Draw(lambda rng: array, dtype, dims)


@dataclass
class Case:
    """One golden case; see `case` for the meaning of the fields."""

    name: str
    program: Callable[..., Any]
    reference: Callable[..., Any]
    inputs: dict[str, Draw]
    consts: dict[str, Draw]
    opset: int
    half: bool
    source: str
    note: str
    atol: float
    rtol: float
    options: dict[str, Any] = field(default_factory=dict)


CASES: dict[str, Case] = {}
OPTIONS = set(
    "bare without wide literal outputs raw_outputs features result_types stored alt states steps functions absent "
    "images image_outputs load edit package check bounds uncheckable disagrees".split()
)


def case(
    name: str,
    program: Callable[..., Any],
    reference: Callable[..., Any],
    inputs: dict[str, Draw],
    consts: dict[str, Any] | None = None,
    *,
    opset: int = 15,
    half: bool = False,
    both: bool = False,
    source: str = "",
    note: str = "",
    atol: float = ATOL,
    rtol: float = RTOL,
    **options: Any,
) -> None:
    """Adds a case `family/op-what`.

    `both` adds an f16 twin `NAME-f16`. A result is right if it differs by no more than `atol + rtol * max|reference|`.
    A plain float in `consts` is a scalar constant of the program's own precision. Options:

    bare: parameters the program does not name are left out of the file (coremltools writes their defaults down);
    without: parameters that are left out of a `bare` file although the builder wants them;
    wide: names of constants that stay f32 in an f16 program;
    literal: constants are bound as values, not by the name of a `const` operation;
    outputs: names of the results, else `out` or `out0`, `out1`, ...;
    raw_outputs: results keep their type (f16 stays f16);
    features, result_types: {name: type} of features that are not fp32 or int32;
    stored: names of expected results where they differ from the features';
    alt: further inputs {name: Draw} for a flexible model;
    states: {name: shape}; steps: number of predictions made on one state;
    functions: names of functions, `program` and `reference` are then dicts, the first is the default;
    absent: optional inputs nobody passes;
    images: {input: pixels from feature}; image_outputs: {output: pixels from result};
    load: arguments for coremltools; edit: changes the finished model; package: keep a folder with weight.bin;
    check: "distribution" with `bounds` for what is random;
    uncheckable: why the interpreter cannot run it; disagrees: the interpreter is known to be wrong, as `note` tells.
    """
    if unknown := options.keys() - OPTIONS:
        raise ValueError(f"{name} has options nobody knows: {sorted(unknown)}")
    consts = {k: v if isinstance(v, Draw) else given(v) for k, v in (consts or {}).items()}
    first = next(iter(reference.values())) if isinstance(reference, dict) else reference
    source = source or getattr(first, "source", "numpy")
    for suffix, is_half in [("", half)] + ([("-f16", True)] if both else []):
        full = name + suffix
        if full in CASES:
            raise ValueError(f"two cases are called {full}")
        CASES[full] = Case(
            full, program, reference, inputs, consts, opset, is_half, source, note, atol, rtol, dict(options)
        )


def torch_reference(function: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a function of torch tensors a reference: arrays in, arrays out."""
    import torch

    def run(**arguments: Any) -> Any:
        tensors = {
            k: torch.from_numpy(np.ascontiguousarray(v).reshape(v.shape)) if isinstance(v, np.ndarray) else v
            for k, v in arguments.items()
        }
        results = function(**tensors)
        results = results if isinstance(results, (tuple, list)) else [results]
        arrays = tuple(r.detach().numpy() if isinstance(r, torch.Tensor) else np.asarray(r) for r in results)
        return arrays if len(arrays) > 1 else arrays[0]

    run.source = "torch"
    return run
