"""Values as Core ML's binding takes and gives them, and its words for what goes wrong."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence

import numpy

from ..errors import CoreMLError, FaultError, InvalidInputError
from ..interface import Feature, Interface


def given(feature: Optional[Feature], value: Any) -> Any:
    """An input as the session takes it."""
    if feature is not None and feature.kind == "image" and hasattr(value, "mode") and hasattr(value, "size"):
        width, height = value.size
        if not _admits(feature, (height, width)):
            # Core ML does not resize for coremltools.
            raise RuntimeError(
                f"Image size {width} x {height} not in allowed set of image sizes; feature `{feature.name}` "
                f"takes {feature.takes}"
            )
    return value


def result(feature: Optional[Feature], value: Any) -> Any:
    """An output as coremltools gives it: images as PIL images, colours as RGBA."""
    if feature is None or feature.kind != "image" or not isinstance(value, numpy.ndarray):
        return value
    from PIL import Image

    image = Image.fromarray(value)
    return image.convert("RGBA") if image.mode == "RGB" else image


def in_core_mls_words(interface: Interface, data: Dict[str, Any], error: CoreMLError) -> RuntimeError:
    """The error; one about a shape, or of the engine, with Core ML's words for it before ours, as callers match them."""
    if isinstance(error, FaultError):
        return FaultError(f"Unable to compute the prediction using ML Program. {error}", operation=error.operation)
    feature = interface.input(error.feature) if isinstance(error, InvalidInputError) and error.feature else None
    value = data.get(feature.name) if feature is not None else None
    if feature is None or feature.kind != "multi_array" or not isinstance(value, numpy.ndarray):
        return error
    words = _wrong_shape(feature, value.shape)
    if words is None:
        return error
    return InvalidInputError(f"{words}. {error}", feature=error.feature)


def _wrong_shape(feature: Feature, shape: Sequence[int]) -> Optional[str]:
    if feature.ranges is not None and len(feature.ranges) == len(shape):
        for axis, (size, (least, most)) in enumerate(zip(shape, feature.ranges)):
            if not _within(size, (least, most)):
                return f"Size ({size}) of dimension ({axis}) is not in allowed range ({least}..{-1 if most is None else most})"
    if _admits(feature, shape):
        return None
    sizes = " x ".join(map(str, shape))
    if feature.enumerated is not None:
        return f"MultiArray Shape ({sizes}) was not in enumerated set of allowed shapes"
    wanted = " x ".join(map(str, feature.shape or ()))
    return f"MultiArray shape ({sizes}) does not match the shape ({wanted}) specified in the model description"


def _within(size: int, bounds: Sequence[Optional[int]]) -> bool:
    least, most = bounds
    return size >= (least or 0) and (most is None or size <= most)


def _admits(feature: Feature, shape: Sequence[int]) -> bool:
    if feature.ranges is not None:
        return len(shape) == len(feature.ranges) and all(map(_within, shape, feature.ranges))
    return not feature.shape or tuple(shape) == feature.shape or list(shape) in (feature.enumerated or [])
