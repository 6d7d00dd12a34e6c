"""Core ML predictions on any machine.

>>> from coreml_anywhere import Session
>>> session = Session("EfficientNetLite0.mlpackage")
>>> answer = session.predict({"image": "coffee.png"})
>>> answer.top(3)

`coreml_anywhere.coremltools` makes coremltools predict off Apple's systems.
"""

from ._native import __version__
from .errors import (
    BugError,
    CancelledError,
    CoreMLError,
    DeadlineError,
    FaultError,
    InvalidInputError,
    InvalidModelError,
    OverloadedError,
    UnavailableError,
    UnsupportedError,
)
from .interface import Feature, Interface
from .session import Attempt, Prediction, Session, State

__all__ = [
    "Attempt",
    "BugError",
    "CancelledError",
    "CoreMLError",
    "DeadlineError",
    "FaultError",
    "Feature",
    "Interface",
    "InvalidInputError",
    "InvalidModelError",
    "OverloadedError",
    "Prediction",
    "Session",
    "State",
    "UnavailableError",
    "UnsupportedError",
    "__version__",
]
