"""coremltools predicts through this library."""

from __future__ import annotations

import asyncio  # noqa: F401  coremltools' experimental parts expect it
import os
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

ct = pytest.importorskip("coremltools")

import coreml_anywhere.coremltools  # noqa: E402, F401  after coremltools on purpose
from coremltools.converters.mil import Builder as mb  # noqa: E402, N813
from coremltools.converters.mil.mil import types  # noqa: E402

VERSION = int(ct.__version__.split(".")[0])
needs_8 = pytest.mark.skipif(VERSION < 8, reason="coremltools 7 has no states, assets, plans and durations")


@pytest.fixture(scope="module")
def model() -> ct.models.MLModel:
    """Twice a number, and the same as whole numbers."""

    @mb.program(input_specs=[mb.TensorSpec((1, 4)), mb.TensorSpec((2,), dtype=types.int32)])
    def program(x, n):
        return mb.mul(x=x, y=2.0, name="twice"), mb.add(x=n, y=1, name="next")

    return ct.convert(program, compute_precision=ct.precision.FLOAT32, minimum_deployment_target=ct.target.iOS17)


def test_predictions_and_their_types(model: ct.models.MLModel) -> None:
    x = numpy.array([[1.0, -2.0, 3.0, 0.5]], numpy.float64)
    # What is given for whole numbers is cut off, as Core ML does.
    outputs = model.predict({"x": x, "n": numpy.array([1.9, -1.9], numpy.float32)})
    assert outputs["twice"].dtype == numpy.float32 and numpy.array_equal(outputs["twice"], 2 * x)
    assert outputs["next"].dtype == numpy.int32 and outputs["next"].tolist() == [2, 0]
    batch = model.predict([{"x": x, "n": numpy.zeros(2)}] * 3)
    assert len(batch) == 3 and all(numpy.array_equal(outputs["twice"], 2 * x) for outputs in batch)


@needs_8
def test_the_compiled_folder_is_read_again(model: ct.models.MLModel, tmp_path: Path) -> None:
    compiled = model.get_compiled_model_path()
    assert "func main" in (Path(compiled) / "model.mil").read_text()
    x, n = numpy.ones((1, 4)), numpy.zeros(2)
    expected = model.predict({"x": x, "n": n})
    again = ct.models.CompiledMLModel(compiled).predict({"x": x, "n": n})
    assert all(numpy.array_equal(expected[name], again[name]) for name in expected)
    target = str(tmp_path / "moved.mlmodelc")
    package = str(tmp_path / "model.mlpackage")
    model.save(package)
    assert ct.models.utils.compile_model(package, target) == target
    assert numpy.array_equal(ct.models.CompiledMLModel(target).predict({"x": x, "n": n})["twice"], expected["twice"])
    assert model.load_duration_in_nano_seconds > 0 and model.last_predict_duration_in_nano_seconds > 0


def test_shapes_out_of_range_are_told_in_core_mls_words() -> None:
    shape = ct.Shape(shape=(ct.RangeDim(3, 5, default=3), 2))

    @mb.program(input_specs=[mb.TensorSpec((types_symbol(), 2))])
    def program(x):
        return mb.relu(x=x)

    flexible = ct.convert(
        program, inputs=[ct.TensorType(name="x", shape=shape)], minimum_deployment_target=ct.target.iOS15
    )
    with pytest.raises(
        RuntimeError, match=r"Size \(99\) of dimension \(0\) is not in allowed range \(3\.\.5\)"
    ) as caught:
        flexible.predict({"x": numpy.zeros((99, 2))})
    assert "feature `x`" in str(caught.value), "our words are beside Core ML's"


def types_symbol():
    """A dimension that is not known."""
    from coremltools.converters.mil.mil import get_new_symbol

    return get_new_symbol()


@needs_8
def test_states(golden: Path) -> None:
    stateful = ct.models.MLModel(str(golden / "state" / "accumulator.mlmodel"))
    state = stateful.make_state()
    x = numpy.ones((2, 3), numpy.float32)
    first = stateful.predict({"x": x}, state)
    other = stateful.make_state()
    if VERSION < 9:
        stateful.predict({"x": x}, other)
    else:
        other.write_state("s", state.read_state("s"))
    a, b = stateful.predict({"x": x}, state), stateful.predict({"x": x}, other)
    assert all(numpy.array_equal(a[name], b[name]) for name in a)
    assert any(not numpy.array_equal(a[name], first[name]) for name in a)


@needs_8
def test_assets_structures_plans_and_devices(model: ct.models.MLModel) -> None:
    from coremltools.models.compute_device import MLComputeDevice, MLCPUComputeDevice
    from coremltools.models.compute_plan import MLComputePlan
    from coremltools.models.model import MLModelAsset

    x, n = numpy.ones((1, 4)), numpy.zeros(2)
    expected = model.predict({"x": x, "n": n})["twice"]
    spec = model.get_spec().SerializeToString()
    for asset in (MLModelAsset.from_path(model.get_compiled_model_path()), MLModelAsset.from_memory(spec)):
        found = ct.models.CompiledMLModel.from_asset(asset).predict({"x": x, "n": n})
        assert numpy.array_equal(found["twice"], expected)
    plan = MLComputePlan.load_from_path(model.get_compiled_model_path())
    operations = plan.model_structure.program.functions["main"].block.operations
    assert {"mul", "add"} <= {operation.operator_name.split(".")[-1] for operation in operations}
    usage = [plan.get_compute_device_usage_for_mlprogram_operation(operation) for operation in operations]
    assert any(usage) and all(isinstance(of.preferred_compute_device, MLCPUComputeDevice) for of in usage if of)
    assert all(isinstance(device, MLCPUComputeDevice) for device in MLComputeDevice.get_all_compute_devices())


def test_pictures_come_as_pil_images(golden: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    seen = set()
    for path in sorted((golden / "interface").glob("image*.mlmodel")):
        picture = ct.models.MLModel(str(path))
        kinds = {output.name: output.type.WhichOneof("Type") for output in picture.get_spec().description.output}
        inputs = picture.get_spec().description.input
        if "imageType" not in kinds.values() or any(i.type.WhichOneof("Type") != "imageType" for i in inputs):
            continue
        modes = {i.name: "L" if i.type.imageType.colorSpace == 10 else "RGB" for i in inputs}
        if any(i.type.imageType.colorSpace == 40 for i in inputs):
            continue
        given = {i.name: image.new(modes[i.name], (i.type.imageType.width, i.type.imageType.height)) for i in inputs}
        for name, value in picture.predict(given).items():
            if kinds[name] == "imageType":
                seen.add(value.mode)
                assert value.mode in ("RGBA", "L", "F")
        with pytest.raises(RuntimeError, match="allowed set of image sizes"):
            picture.predict({name: image.new(modes[name], (1999, 3)) for name in given})
    assert "RGBA" in seen


def test_a_broken_model_is_a_runtime_error_for_coremltools(tmp_path: Path) -> None:
    from coreml_anywhere.coremltools.native import _MLModelProxy

    broken = tmp_path / "broken.mlmodel"
    broken.write_bytes(b"\xff" * 32)
    for path in (broken, tmp_path / "absent.mlmodelc", tmp_path / "absent.mlpackage"):
        with pytest.raises(RuntimeError):
            _MLModelProxy(str(path), "ALL", "", {})


@pytest.mark.parametrize("first", ["coremltools", "coreml_anywhere.coremltools"])
def test_either_may_be_imported_first(first: str, golden: Path) -> None:
    program = (
        f"import {first}, coreml_anywhere.coremltools, coremltools, numpy, os\n"
        "model = coremltools.models.MLModel(os.environ['MODEL'])\n"
        "x = numpy.ones((2, 3, 5), numpy.float32)\n"
        "print((model.predict({'x': x, 'y': x})['out'] == 2).all(), coremltools.models.utils._macos_version() >= (15, 0))\n"
    )
    environment = {**os.environ, "MODEL": str(golden / "elementwise" / "add-same.mlmodel")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "True"], done.stderr
