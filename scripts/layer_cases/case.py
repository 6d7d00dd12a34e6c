"""A case: one layer, or a few, in a network of its own, with what NumPy says of the same inputs.

A family is a function that takes `Cases` and calls `add` for each of its cases. `build` gets coremltools' builder and adds the
layers, from the features to the outputs; `expect` gets the inputs as arrays of doubles and gives the outputs. Neither knows of
any engine.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any, Callable

import numpy as np


@dataclass
class Case:
    name: str
    model: bytes
    inputs: dict[str, Any]  # by `in:FEATURE`, or `img:FEATURE` for the bytes of a picture
    outputs: dict[str, Any]
    drawn: bool


@dataclass
class Cases:
    """All cases so far."""

    cases: list[Case] = field(default_factory=list)

    def add(
        self,
        name: str,
        build: Callable[[Any], None],
        inputs: dict[str, Any],
        expect: Callable[..., Any],
        five: bool = False,
        drawn: bool = False,
    ) -> None:
        """A network from `inputs` to what `expect` gives of them: an array, called `y`, or arrays by name.

        `five` is the mapping of old, to five axes; of `drawn` numbers only the shape counts.
        """
        import coremltools as ct
        from coremltools.models.neural_network import NeuralNetworkBuilder

        arrays = {key: np.asarray(value, np.float32) for key, value in inputs.items()}
        found = expect(**{key: value.astype(np.float64) for key, value in arrays.items()})
        outputs = found if isinstance(found, dict) else {"y": found}
        outputs = {key: np.asarray(value, np.float64).astype(np.float32) for key, value in outputs.items()}
        described = [
            [(key, ct.models.datatypes.Array(*(value.shape or (1,)))) for key, value in features.items()]
            for features in (arrays, outputs)
        ]
        builder = NeuralNetworkBuilder(*described, disable_rank5_shape_mapping=not five)
        # A shape that is not declared is whatever the network gives.
        build(builder)
        model = builder.spec.SerializeToString(deterministic=True)
        inputs = {f"in:{key}": value for key, value in arrays.items()}
        self.cases.append(Case(name, model, inputs, outputs, drawn))

    def add_image(self, name: str, build: Callable[[Any], None], pixels: Any, expect: Callable[[Any], Any], five: bool) -> None:
        """A network of a picture, height x width x 3, that its layers see as planes; `expect` gets those."""
        import coremltools as ct
        from coremltools.models.neural_network import NeuralNetworkBuilder

        planes = pixels.astype(np.float64).transpose(2, 0, 1)
        output = np.asarray(expect(planes)).astype(np.float32)
        array = ct.models.datatypes.Array
        shape = planes.shape if five else (1, *planes.shape)
        features = [("x", array(*shape))], [("y", array(*output.shape))]
        builder = NeuralNetworkBuilder(*features, disable_rank5_shape_mapping=not five)
        build(builder)
        builder.set_pre_processing_parameters(image_input_names=["x"], red_bias=-1.0, blue_bias=2.0)
        model = builder.spec.SerializeToString(deterministic=True)
        self.cases.append(Case(name, model, {"img:x": pixels}, {"y": output}, False))


def numbers(name: str, *shape: int) -> Any:
    """Numbers that are the same in every run, and drawn from a seed of their own for each name."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    return random.normal(size=shape).astype(np.float32)


def positive(name: str, *shape: int) -> Any:
    return np.abs(numbers(name, *shape)) + np.float32(0.25)
