"""Why a model could not be opened or a prediction not be made."""

from __future__ import annotations

from typing import Optional


class CoreMLError(RuntimeError):
    """Anything that goes wrong. The subclasses say whose fault it is."""

    kind = "bug"
    feature: Optional[str] = None
    """The feature it is about, if it is about one."""
    operation: Optional[str] = None
    """The operation of the program it is about, if it is about one."""
    retry_after: Optional[float] = None
    """Seconds after which it is worth asking again, of a backend that has too much to do."""

    def __init__(
        self,
        message: str = "",
        *,
        feature: Optional[str] = None,
        operation: Optional[str] = None,
        retry_after: Optional[float] = None,
    ) -> None:
        super().__init__(message)
        self.feature = feature
        self.operation = operation
        self.retry_after = retry_after


class InvalidInputError(CoreMLError, ValueError):
    """The caller's fault: a wrong feature, shape, data type, value or option."""

    kind = "invalid_input"


class InvalidModelError(CoreMLError):
    """The file's fault: missing, broken or contradictory."""

    kind = "invalid_model"


class UnsupportedError(CoreMLError):
    """The backend lacks an operation, a shape or a kind of model."""

    kind = "unsupported"


class UnavailableError(CoreMLError):
    """The backend is not there, or has gone away."""

    kind = "unavailable"


class FaultError(CoreMLError):
    """The backend failed while it computed."""

    kind = "fault"


class DeadlineError(CoreMLError, TimeoutError):
    """Nobody answered in time."""

    kind = "timeout"


class OverloadedError(CoreMLError):
    """So many predictions wait that this one would come too late; ask again later."""

    kind = "overloaded"


class CancelledError(CoreMLError):
    """The prediction was stopped."""

    kind = "cancelled"


class BugError(CoreMLError):
    """This library's fault. Please report it."""

    kind = "bug"


KINDS = {
    error.kind: error
    for error in (
        InvalidInputError,
        InvalidModelError,
        UnsupportedError,
        UnavailableError,
        FaultError,
        DeadlineError,
        OverloadedError,
        CancelledError,
        BugError,
    )
}
"""The classes by their kinds; the native part raises them by it."""
