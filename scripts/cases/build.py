"""From a case to bytes: the program through coremltools' builder, weights moved into the file, names and zips fixed.

No optimisation pass runs, so the operation a case is about is in the file exactly as written. Two runs give the same
bytes: builder names start at zero for every case, maps are serialised sorted, zip entries carry a constant date.
"""

from __future__ import annotations

import io
import json
import struct
import tempfile
import uuid
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any, Iterator

import numpy as np
from coremltools.converters.mil.backend.mil.load import load
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import Function, Program, get_new_symbol, types
from coremltools.converters.mil._deployment_compatibility import AvailableTarget
from coremltools.proto import MIL_pb2, Model_pb2

from .case import NUMPY, Case, Draw

TARGETS = {15: AvailableTarget.iOS15, 16: AvailableTarget.iOS16, 17: AvailableTarget.iOS17}
TARGETS |= {18: AvailableTarget.iOS18, 26: AvailableTarget.iOS26}
FEATURE = {"fp32": types.fp32, "int32": types.int32, "fp16": types.fp16, "int8": types.int8}
EPOCH = (1980, 1, 1, 0, 0, 0)
KINDS = MIL_pb2.DataType


def feature_type(draw: Draw) -> str:
    """The type an input feature is declared in: what a prediction passes in."""
    return "fp32" if draw.inner in ("fp32", "fp16") else "int32"


def feature_array(draw: Draw, seed: str) -> np.ndarray:
    """The array a prediction passes in."""
    return draw.array(seed).astype(NUMPY[feature_type(draw)])


def stored(value: np.ndarray, half: bool) -> np.ndarray:
    """A constant as the file stores it."""
    return value.astype(np.float16) if half and value.dtype == np.float32 else value


def exact(value: np.ndarray, half: bool, inner: str | None = None) -> np.ndarray:
    """What the reference calculates with: the stored number in double precision; whole numbers as they are."""
    if inner is not None:
        value = value.astype(NUMPY[inner])
    value = stored(value, half)
    return value.astype(np.float64) if value.dtype.kind == "f" else value


def scalar(value: np.ndarray) -> Any:
    return value[()] if value.ndim == 0 else value


def build(case: Case, weights: Path) -> Model_pb2.Model:
    """The case's model; constants of ten and more elements are in `weights/weight.bin`."""
    mb.name_count = defaultdict(int)
    omitted: dict[str, list[str]] = {}
    target = TARGETS[case.opset]
    program = Program()
    functions = case.options.get("functions", ["main"])
    for name in functions:
        write = case.program[name] if isinstance(case.program, dict) else case.program
        with recorded_omissions(omitted):
            program.add_function(name, build_function(case, write))
    if functions != ["main"]:
        program.default_function_name, program.export_as_multifunction = functions[0], True
    model = load(program, str(weights), specification_version=target.value, **case.options.get("load", {}))
    if case.options.get("bare"):
        leave_out(model, omitted, case.options.get("without", ()))
    return model


def build_function(case: Case, write: Any) -> Function:
    """One function of the case's program: what `write` writes, between the features' types and the program's own."""
    features = case.options.get("features", {})
    placeholders = {}
    for name, draw in case.inputs.items():
        shape = draw.dims or draw.array(f"{case.name}/{name}").shape
        shape = tuple(get_new_symbol() if size is None else size for size in shape)
        placeholders[name] = mb.placeholder(shape=shape, dtype=FEATURE[features.get(name) or feature_type(draw)])
    for name, shape in case.options.get("states", {}).items():
        placeholders[name] = mb.state_tensor_placeholder(shape, types.fp16)

    with Function(placeholders, TARGETS[case.opset]) as function:
        arguments: dict[str, Any] = {}
        for name, draw in case.inputs.items():
            variable = function.inputs[name]
            inner = features.get(name) or ("fp16" if case.half and draw.inner == "fp32" else draw.inner)
            if inner != types.builtin_to_string(variable.dtype):
                variable = mb.cast(x=variable, dtype=inner, name=f"{name}_{inner}")
            arguments[name] = variable
        for name in case.options.get("states", {}):
            arguments[name] = function.inputs[name]
        for name, draw in case.consts.items():
            half = case.half and name not in case.options.get("wide", ())
            arguments[name] = scalar(stored(draw.array(f"{case.name}/{name}"), half))
        results = write(**arguments)
        results = list(results) if isinstance(results, (tuple, list)) else [results]
        names = output_names(case, len(results))
        function.set_outputs([output(case, variable, name) for variable, name in zip(results, names, strict=True)])
    return function


def output_names(case: Case, count: int) -> list[str]:
    return case.options.get("outputs") or (["out"] if count == 1 else [f"out{i}" for i in range(count)])


def output(case: Case, variable: Any, name: str) -> Any:
    """A result under its feature's name, cast to a type a feature can have."""
    if types.is_dict(variable.sym_type) or types.is_str(variable.sym_type):
        variable.name = name
        return variable
    dtype = types.builtin_to_string(variable.dtype)
    wanted = dtype if case.options.get("raw_outputs") else {"fp32": "fp32", "fp16": "fp32"}.get(dtype, "int32")
    if wanted != dtype:
        return mb.cast(x=variable, dtype=wanted, name=name)
    if variable.op is not None and variable.op.op_type != "const":
        variable.name = name
    return variable


class recorded_omissions:
    """Notes for each operation the parameters its program did not give and the builder filled in."""

    def __init__(self, omitted: dict[str, list[str]]):
        self.omitted = omitted

    def __enter__(self) -> None:
        self.original = mb.__dict__["_add_op"]
        add, omitted = self.original.__func__, self.omitted

        def recorded(cls: Any, op_cls: Any, **kwargs: Any) -> Any:
            given = {key for key, value in kwargs.items() if value is not None}
            result = add(cls, op_cls, **kwargs)
            first = result[0] if isinstance(result, (tuple, list)) else result
            if getattr(first, "op", None) is not None and first.op.op_type != "const":
                omitted[first.op.name] = [key for key in first.op.inputs if key not in given]
            return result

        mb._add_op = classmethod(recorded)

    def __exit__(self, *_: Any) -> None:
        mb._add_op = self.original


def check_names(model: Model_pb2.Model) -> None:
    """Refuses a program in which a name stands for two things: such a program is not valid."""
    for name, function in model.mlProgram.functions.items():
        taken = {argument.name for argument in function.inputs}

        def visit(block: MIL_pb2.Block, taken: set[str], name: str = name) -> None:
            new = [argument.name for argument in block.inputs]
            for operation in block.operations:
                new += [result.name for result in operation.outputs]
            if len(set(new)) != len(new) or taken & set(new):
                raise ValueError(
                    f"a name is taken twice in {name}: {sorted(n for n in new if n in taken or new.count(n) > 1)}"
                )
            for operation in block.operations:
                for inner in operation.blocks:
                    visit(inner, taken | set(new))

        visit(function.block_specializations[function.opset], taken)


def blocks(model: Model_pb2.Model) -> Iterator[MIL_pb2.Block]:
    """Every block of every function, inner ones after the one they are in."""

    def inside(block: MIL_pb2.Block) -> Iterator[MIL_pb2.Block]:
        yield block
        for operation in block.operations:
            for inner in operation.blocks:
                yield from inside(inner)

    for name in sorted(model.mlProgram.functions):
        function = model.mlProgram.functions[name]
        yield from inside(function.block_specializations[function.opset])


def leave_out(model: Model_pb2.Model, omitted: dict[str, list[str]], without: tuple[str, ...]) -> None:
    """Removes parameters that only restate a default, those called `without`, and then the constants nothing reads."""
    for block in blocks(model):
        for operation in block.operations:
            name = operation.attributes["name"].immediateValue.tensor.strings.values
            for parameter in [*omitted.get(name[0] if name else "", []), *without]:
                if parameter in operation.inputs:
                    del operation.inputs[parameter]
    remove_unread(model)


def bind_literally(model: Model_pb2.Model) -> None:
    """Binds every constant as a value in place of the name of a `const` operation."""
    values = {}
    for block in blocks(model):
        for operation in block.operations:
            if operation.type == "const":
                values[operation.outputs[0].name] = operation.attributes["val"]
    for block in blocks(model):
        for operation in block.operations:
            for parameter in operation.inputs.values():
                for binding in parameter.arguments:
                    if binding.WhichOneof("binding") == "name" and binding.name in values:
                        binding.value.CopyFrom(values[binding.name])
    remove_unread(model)


def remove_unread(model: Model_pb2.Model) -> None:
    read = set()
    for block in blocks(model):
        read.update(block.outputs)
        for operation in block.operations:
            for parameter in operation.inputs.values():
                read.update(b.name for b in parameter.arguments if b.WhichOneof("binding") == "name")
    for block in blocks(model):
        for index in reversed(range(len(block.operations))):
            operation = block.operations[index]
            if operation.type == "const" and operation.outputs[0].name not in read:
                del block.operations[index]


def values(model: Model_pb2.Model) -> Iterator[MIL_pb2.Value]:
    """Every value the program holds, wherever it is bound, in a fixed order."""
    for block in blocks(model):
        for operation in block.operations:
            for key in sorted(operation.attributes):
                yield operation.attributes[key]
            for key in sorted(operation.inputs):
                for binding in operation.inputs[key].arguments:
                    if binding.WhichOneof("binding") == "value":
                        yield binding.value


def read_blob(data: bytes, offset: int) -> bytes:
    """The bytes of the blob whose record is at `offset` of a weight file."""
    sentinel, _, size, start = struct.unpack_from("<IIQQ", data, offset)
    if sentinel != 0xDEADBEEF:
        raise ValueError(f"no blob at {offset}")
    return data[start : start + size]


def inline_weights(model: Model_pb2.Model, weights: Path) -> None:
    """Moves every blob of `weights/weight.bin` into the model as an immediate value."""
    path = weights / "weight.bin"
    data = path.read_bytes() if path.exists() else b""
    for value in values(model):
        if value.WhichOneof("value") != "blobFileValue":
            continue
        raw = read_blob(data, value.blobFileValue.offset)
        kind = KINDS.Name(value.type.tensorType.dataType)
        value.ClearField("blobFileValue")
        tensor = value.immediateValue.tensor
        if kind == "FLOAT32":
            tensor.floats.values.extend(np.frombuffer(raw, np.float32).tolist())
        elif kind in ("INT32", "INT16", "UINT16"):
            tensor.ints.values.extend(np.frombuffer(raw, kind.lower()).tolist())
        else:
            tensor.bytes.values = raw


def serialise(model: Model_pb2.Model) -> bytes:
    return model.SerializeToString(deterministic=True)


def write_package(path: Path, model: Model_pb2.Model, weights: Path) -> None:
    """An `.mlpackage` folder: manifest, model, weights."""
    data = path / "Data" / "com.apple.CoreML"
    (data / "weights").mkdir(parents=True, exist_ok=True)
    (data / "model.mlmodel").write_bytes(serialise(model))
    (data / "weights" / "weight.bin").write_bytes(clean_weights((weights / "weight.bin").read_bytes()))
    root, blob = (str(uuid.uuid5(uuid.NAMESPACE_URL, f"{path.name}/{part}")).upper() for part in ("model", "weights"))
    entry = {"author": "com.apple.CoreML", "description": "CoreML Model Specification"}
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": {
            root: entry | {"name": "model.mlmodel", "path": "com.apple.CoreML/model.mlmodel"},
            blob: entry
            | {"description": "CoreML Model Weights", "name": "weights", "path": "com.apple.CoreML/weights"},
        },
        "rootModelIdentifier": root,
    }
    (path / "Manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def clean_weights(data: bytes) -> bytes:
    """The weight file with the unused parts of its records set to zero: the writer leaves them as memory was."""
    out = bytearray(data)
    count, offset = struct.unpack_from("<I", data, 0)[0], 64
    for _ in range(count):
        _, kind, size, start = struct.unpack_from("<IIQQ", data, offset)
        sub_byte = 8 <= kind <= 13
        out[offset + (32 if sub_byte else 24) : offset + 64] = bytes(32 if sub_byte else 40)
        offset = (start + size + 63) // 64 * 64
    return bytes(out)


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """An `.npz` whose bytes depend on nothing but the arrays."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", EPOCH)
            info.compress_type, info.external_attr, info.create_system = zipfile.ZIP_DEFLATED, 0o644 << 16, 3
            archive.writestr(info, buffer.getvalue(), compresslevel=9)


def operations(model: Model_pb2.Model, name: str) -> list[str]:
    """The operations a case is about: all it contains, less constants and casts unless it contains nothing else."""
    found = {operation.type for block in blocks(model) for operation in block.operations}
    told = found - {"const", "cast"}
    return sorted(told or found - {"const"} or found)


def temporary() -> Any:
    return tempfile.TemporaryDirectory()
