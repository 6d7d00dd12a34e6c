"""Compiled folders.

That of an ML Program has `model.mil`, the program as text, and its weights, as Core ML writes them. Any other model lies in its
folder as it is, under a name that `source` looks for.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Dict

from .. import _native
from ..errors import CoreMLError

_SOURCES = ("coreml-anywhere.mlpackage", "coreml-anywhere.mlmodel")


def write(source: str, folder: str) -> str:
    """Writes the compiled form of the model at `source` into `folder`, under the model's name."""
    if not os.path.exists(source):
        raise RuntimeError(f"{source} does not exist")
    target = Path(folder) / (Path(source).stem + ".mlmodelc")
    if _native.write_compiled(source, target):
        return str(target)
    target.mkdir()
    if os.path.isdir(source):
        shutil.copytree(source, target / _SOURCES[0])
    else:
        shutil.copyfile(source, target / _SOURCES[1])
    return str(target)


def source(compiled: str) -> str:
    """What to open for a compiled folder."""
    kept = (os.path.join(compiled, name) for name in _SOURCES)
    return next(filter(os.path.exists, kept), compiled)


def write_package(spec: bytes, blobs: Dict[str, bytes], folder: Path) -> str:
    """Writes a model file from memory, and the weight files it refers to, as a package."""
    package = folder / "asset.mlpackage"
    data = package / "Data" / "com.apple.CoreML"
    data.mkdir(parents=True)
    (data / "model.mlmodel").write_bytes(spec)
    for name, blob in blobs.items():
        # Paths are as the model file has them, `@model_path/weights/weight.bin`, or relative to the model file.
        relative = Path(name.replace("@model_path/", "", 1))
        if relative.is_absolute() or ".." in relative.parts:
            raise CoreMLError(f"the weight file {name!r} is not below the model")
        (data / relative).parent.mkdir(parents=True, exist_ok=True)
        (data / relative).write_bytes(blob)
    item = {"author": "com.apple.CoreML", "description": "CoreML Model Specification"}
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": {"model": {**item, "name": "model.mlmodel", "path": "com.apple.CoreML/model.mlmodel"}},
        "rootModelIdentifier": "model",
    }
    (package / "Manifest.json").write_text(json.dumps(manifest))
    return str(package)
