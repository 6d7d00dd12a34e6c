"""What a model takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple


@dataclass(frozen=True)
class Feature:
    """One input, output or state."""

    name: str
    kind: str
    """`multi_array`, `image`, `int64`, `double`, `string`, `dictionary`, `sequence` or `state`."""
    takes: str
    """The type in words."""
    optional: bool = False
    description: str = ""
    dtype: Optional[str] = None
    """Of a multi-array or state: `fp16`, `fp32`, `fp64`, `int32`, ...."""
    shape: Optional[Tuple[int, ...]] = None
    """The default shape of a multi-array; height and width of an image."""
    enumerated: Optional[List[List[int]]] = None
    """The shapes that are admitted, of a feature that lists them."""
    ranges: Optional[List[Tuple[int, Optional[int]]]] = None
    """The least and the largest size of each dimension (`None`: unbounded), of a feature that has ranges."""
    color: Optional[str] = None
    """Of an image: `rgb`, `bgr`, `gray` or `gray_f16`."""
    labels: Optional[str] = None
    """Of a dictionary or sequence: `string` or `int64`."""

    @classmethod
    def of(cls, fields: Dict[str, Any]) -> Feature:
        """The feature of the native part's description."""
        shape = fields.get("shape")
        return cls(**{**fields, "shape": None if shape is None else tuple(shape)})


@dataclass(frozen=True)
class Interface:
    """The features of one function of a model."""

    inputs: Tuple[Feature, ...]
    outputs: Tuple[Feature, ...]
    states: Tuple[Feature, ...]
    predicted_feature: Optional[str]
    """The output with a classifier's label."""
    predicted_probabilities: Optional[str]
    """The output with a classifier's probabilities."""

    @classmethod
    def of(cls, fields: Dict[str, Any]) -> Interface:
        """The interface of the native part's description."""
        features = {name: tuple(map(Feature.of, fields[name])) for name in ("inputs", "outputs", "states")}
        return cls(
            **features,
            predicted_feature=fields["predicted_feature"],
            predicted_probabilities=fields["predicted_probabilities"],
        )

    def input(self, name: str) -> Optional[Feature]:
        """The input of this name."""
        return next((feature for feature in self.inputs if feature.name == name), None)

    def output(self, name: str) -> Optional[Feature]:
        """The output of this name."""
        return next((feature for feature in self.outputs if feature.name == name), None)
