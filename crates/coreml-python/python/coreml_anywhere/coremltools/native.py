"""What coremltools' native module `libcoremlpython` has, on this library's engine.

Arguments and results are those of the real one. Whatever goes wrong is a `RuntimeError`: coremltools catches no other.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

from .. import _native
from ..errors import CoreMLError
from ..interface import Interface
from . import compiled, plan, values
from .plan import (
    _MLComputePlanProxy,
    _MLCPUComputeDeviceProxy,
    _MLGPUComputeDeviceProxy,
    _MLModelStructureNeuralNetworkLayerProxy,
    _MLModelStructureProgramOperationProxy,
    _MLNeuralEngineComputeDeviceProxy,
)

__all__ = [
    "_MLCPUComputeDeviceProxy",
    "_MLComputePlanProxy",
    "_MLGPUComputeDeviceProxy",
    "_MLModelAssetProxy",
    "_MLModelProxy",
    "_MLModelStructureNeuralNetworkLayerProxy",
    "_MLModelStructureProgramOperationProxy",
    "_MLNeuralEngineComputeDeviceProxy",
    "_State",
]

#: The specification of iOS 26.
_NEWEST_SPECIFICATION = 10

#: coremltools' names of compute units by ours.
_COMPUTE_UNITS = {"CPU_AND_NE": "cpu_and_neural_engine"}


class _State:
    """The state of a model between predictions."""

    def __init__(self, state: _native.State) -> None:
        self._native = state

    def read_state(self, name: str) -> Any:
        """A copy of what the state holds."""
        return self._native.read(name)

    def write_state(self, name: str, value: Any) -> None:
        """Replaces what the state holds."""
        self._native.write(name, value)


class _MLModelAssetProxy:
    """A model that lies somewhere: a path, and what must live as long as it."""

    def __init__(self, path: str, folder: Optional[tempfile.TemporaryDirectory[str]] = None) -> None:
        self.path = path
        self._folder = folder


class _MLModelProxy:
    """A model that is ready for predictions, and the functions of the native module that need none."""

    def __init__(
        self,
        path: str,
        compute_units: str = "ALL",
        function_name: str = "",
        optimization_hints: Optional[Dict[str, str]] = None,
        asset: Optional[_MLModelAssetProxy] = None,
    ) -> None:
        # Hints are for Core ML's choice among devices; there is none here.
        start = time.perf_counter_ns()
        self._asset = asset
        self._folder = None
        self._compiled = os.path.abspath(os.fspath(asset.path if asset is not None else path))
        if not self._compiled.rstrip("/\\").endswith(".mlmodelc"):
            # The caller may delete the source afterwards.
            self._folder = tempfile.TemporaryDirectory(prefix="coreml-anywhere-")
            self._compiled = compiled.write(self._compiled, self._folder.name)
        elif not os.path.isdir(self._compiled):
            raise RuntimeError(f"{self._compiled} does not exist")
        units = _COMPUTE_UNITS.get(compute_units, compute_units)
        source = compiled.source(self._compiled)
        self._session = _native.Session(source, units, None, 0, function_name or None)
        self._interface = Interface.of(self._session.interface())
        self._loaded = time.perf_counter_ns() - start
        self._predicted: Optional[int] = None

    def predict(self, data: Dict[str, Any], state: Optional[_State] = None) -> Dict[str, Any]:
        """Makes one prediction."""
        start = time.perf_counter_ns()
        given = {name: values.given(self._interface.input(name), value) for name, value in data.items()}
        if state is None and self._interface.states:
            raise RuntimeError("the model has states: make one with make_state() and give it to predict()")
        try:
            found, *_ = self._session.predict(given, None if state is None else state._native, True)
        except CoreMLError as error:
            raise values.in_core_mls_words(self._interface, data, error) from error
        outputs = {name: values.result(self._interface.output(name), value) for name, value in found.items()}
        self._predicted = time.perf_counter_ns() - start
        return outputs

    def batchPredict(self, batch: List[Dict[str, Any]]) -> List[Dict[str, Any]]:  # noqa: N802
        """Makes one prediction after another."""
        return [self.predict(data) for data in batch]

    def newState(self) -> _State:  # noqa: N802
        """A fresh state, all zero."""
        return _State(self._session.make_state())

    def get_compiled_model_path(self) -> str:
        """The compiled folder; it lives as long as the model."""
        return self._compiled

    def get_load_duration_in_nano_seconds(self) -> int:
        """How long compiling and loading took."""
        return self._loaded

    def get_last_predict_duration_in_nano_seconds(self) -> Optional[int]:
        """How long the last prediction took."""
        return self._predicted

    @staticmethod
    def maximum_supported_specification_version() -> int:
        """The newest format there is."""
        return _NEWEST_SPECIFICATION

    @staticmethod
    def auto_set_specification_version(spec: bytes) -> bytes:
        """The model with the lowest version that has all it uses: Core ML's table of those is not public, so the same."""
        return spec

    @staticmethod
    def compileModel(path: str) -> str:  # noqa: N802
        """Writes the compiled folder, which the caller owns."""
        return compiled.write(os.path.abspath(os.fspath(path)), tempfile.mkdtemp(prefix="coreml-anywhere-"))

    @staticmethod
    def create_model_asset_from_path(path: str) -> Any:
        """The asset of a compiled folder."""
        from coremltools.models.model import MLModelAsset

        path = os.fspath(path)
        if not os.path.isdir(path):
            raise RuntimeError(f"{path} is no folder of a compiled model")
        return MLModelAsset(_MLModelAssetProxy(os.path.abspath(path)))

    @staticmethod
    def create_model_asset_from_memory(spec: bytes, blobs: Dict[str, bytes]) -> Any:
        """The asset of a model file in memory, with its weight files by path."""
        from coremltools.models.model import MLModelAsset

        folder = tempfile.TemporaryDirectory(prefix="coreml-anywhere-")
        package = compiled.write_package(spec, blobs, Path(folder.name))
        return MLModelAsset(_MLModelAssetProxy(package, folder))

    @staticmethod
    def get_model_structure(path: str) -> Any:
        """What the compiled model is made of."""
        return plan.structure(compiled.source(os.fspath(path)))

    @staticmethod
    def get_compute_plan(path: str, compute_units: str) -> Any:
        """Where the compiled model's operations run: all of them on the CPU, by this library's engine."""
        from coremltools.models.compute_plan import MLComputePlan

        return MLComputePlan(_MLComputePlanProxy(compiled.source(os.fspath(path))))

    @staticmethod
    def get_available_compute_devices() -> List[Any]:
        """The CPU."""
        return [plan.cpu()]

    @staticmethod
    def get_all_compute_devices() -> List[Any]:
        """The CPU."""
        return [plan.cpu()]
