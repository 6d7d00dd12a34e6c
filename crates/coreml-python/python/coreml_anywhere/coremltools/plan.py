"""The structure of models, compute plans and devices, as coremltools' classes.

The plan is this library's: every operation runs on the CPU. There are no estimates of cost: `None` where Core ML would have one.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from .. import _native


class _MLCPUComputeDeviceProxy:
    """The CPU."""


class _MLGPUComputeDeviceProxy:
    """A GPU; there is none."""


class _MLNeuralEngineComputeDeviceProxy:
    """A Neural Engine; there is none."""

    def get_total_core_count(self) -> int:
        """Its cores."""
        return 0


class _MLModelStructureProgramOperationProxy:
    """Tells operations apart."""

    def __init__(self, operator: str) -> None:
        self.operator = operator


class _MLModelStructureNeuralNetworkLayerProxy:
    """Tells layers apart."""


class _MLComputePlanProxy:
    """Where the operations of one model run."""

    def __init__(self, path: Optional[str] = None) -> None:
        self._structure = None if path is None else structure(path)

    @property
    def model_structure(self) -> Any:
        """What the model is made of."""
        return self._structure

    def get_compute_device_usage_for_mlprogram_operation(self, operation: Any) -> Any:
        """The CPU; nothing for constants, which are no work."""
        return None if operation.operator_name.endswith("const") else _usage()

    def get_compute_device_usage_for_neuralnetwork_layer(self, layer: Any) -> Any:
        """The CPU."""
        return _usage()

    def get_estimated_cost_for_mlprogram_operation(self, operation: Any) -> None:
        """There are no estimates."""
        return None


def cpu() -> Any:
    """The CPU as coremltools' class."""
    from coremltools.models.compute_device import MLCPUComputeDevice

    return MLCPUComputeDevice(_MLCPUComputeDeviceProxy())


def _usage() -> Any:
    from coremltools.models.compute_plan import MLComputePlanDeviceUsage

    device = cpu()
    return MLComputePlanDeviceUsage(preferred_compute_device=device, supported_compute_devices=[device])


def structure(path: str) -> Any:
    """What the model at `path` is made of."""
    return _model(_native.structure(path))


def _model(found: Dict[str, Any]) -> Any:
    from coremltools.models import compute_plan as ct

    network = program = pipeline = None
    if found["kind"] == "program":
        functions = {name: _function(function) for name, function in found["functions"].items()}
        program = ct.MLModelStructureProgram(functions=functions)
    elif found["kind"] == "neural_network":
        network = ct.MLModelStructureNeuralNetwork(layers=[_layer(*layer) for layer in found["layers"]])
    elif found["kind"] == "pipeline":
        models = [(str(i), _model(model)) for i, model in enumerate(found["models"])]
        pipeline = ct.MLModelStructurePipeline(sub_models=models)
    return ct.MLModelStructure(neuralnetwork=network, program=program, pipeline=pipeline)


def _function(found: Dict[str, Any]) -> Any:
    from coremltools.models import compute_plan as ct

    return ct.MLModelStructureProgramFunction(inputs=_named(found["inputs"]), block=_block(found["block"]))


def _block(found: Dict[str, Any]) -> Any:
    from coremltools.models import compute_plan as ct

    return ct.MLModelStructureProgramBlock(
        inputs=_named(found["inputs"]),
        operations=[_operation(*operation) for operation in found["operations"]],
        output_names=found["outputs"],
    )


def _operation(operator: str, inputs: Dict[str, List[Optional[str]]], outputs: List[str], blocks: List[Any]) -> Any:
    from coremltools.models import compute_plan as ct

    def binding(name: Optional[str]) -> Any:
        value = ct.MLModelStructureProgramValue() if name is None else None
        return ct.MLModelStructureProgramBinding(name=name, value=value)

    arguments = {
        name: ct.MLModelStructureProgramArgument(bindings=[binding(bound) for bound in names])
        for name, names in inputs.items()
    }
    return ct.MLModelStructureProgramOperation(
        inputs=arguments,
        operator_name=operator,
        outputs=_named(outputs),
        blocks=[_block(block) for block in blocks],
        __proxy__=_MLModelStructureProgramOperationProxy(operator),
    )


def _named(names: List[str]) -> List[Any]:
    from coremltools.models import compute_plan as ct

    return [
        ct.MLModelStructureProgramNamedValueType(name=name, type=ct.MLModelStructureProgramValueType())
        for name in names
    ]


def _layer(name: str, tag: Optional[int], inputs: List[str], outputs: List[str]) -> Any:
    from coremltools.models import compute_plan as ct
    from coremltools.proto import NeuralNetwork_pb2

    kinds = NeuralNetwork_pb2.NeuralNetworkLayer.DESCRIPTOR.fields_by_number
    kind = kinds[tag].name if tag in kinds else "unknown"
    return ct.MLModelStructureNeuralNetworkLayer(
        name=name,
        type=kind,
        input_names=inputs,
        output_names=outputs,
        __proxy__=_MLModelStructureNeuralNetworkLayerProxy(),
    )
