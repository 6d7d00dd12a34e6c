"""Sessions: models that are ready for predictions."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy

from . import _native
from .errors import CoreMLError, InvalidInputError
from .interface import Interface


class Attempt(NamedTuple):
    """One backend's try at a prediction."""

    backend: str
    error: Optional[CoreMLError]
    """What went wrong; `None` for the backend that answered."""
    seconds: float


class Prediction(Dict[str, Any]):
    """The outputs of a prediction by name, and who answered."""

    served_by: str
    """The name of the backend that answered."""
    degraded: bool
    """Whether another than the first backend of this host answered."""

    def __init__(
        self, outputs: Dict[str, Any], served_by: str, degraded: bool, attempts: Sequence[Tuple[str, Any, float]]
    ) -> None:
        super().__init__(outputs)
        self.served_by = served_by
        self.degraded = degraded
        self._attempts = attempts

    @property
    def attempts(self) -> Tuple[Attempt, ...]:
        """Every backend that was tried."""
        return tuple(Attempt(*attempt) for attempt in self._attempts)

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(self), (dict(self), self.served_by, self.degraded, self.attempts)

    def top(self, count: int = 5) -> List[Tuple[Union[str, int], float]]:
        """The likeliest classes of a classifier, with their probabilities: the largest entries of the first dictionary."""
        for value in self.values():
            if isinstance(value, dict):
                return sorted(value.items(), key=lambda entry: -entry[1])[:count]
        return []


class State:
    """What survives between the predictions of a model with states. Made by `Session.make_state`."""

    def __init__(self, native: _native.State) -> None:
        self._native = native

    def read(self, name: str) -> numpy.ndarray:
        """A copy of what the state `name` holds: zeros at first. Half precision comes as float32."""
        return self._native.read(name)

    def write(self, name: str, value: Any) -> None:
        """Replaces what the state `name` holds by an array of the same shape."""
        self._native.write(name, value)


class Session:
    """A model that is ready for predictions: an `.mlpackage` or `.mlmodelc` folder, or an `.mlmodel` file.

    `compute_units` says where Core ML may run it, on Apple's systems: `all`, `cpu_only`, `cpu_and_gpu` or
    `cpu_and_neural_engine`. With a `deadline`, in seconds, every prediction is answered or fails within it. `threads` take part
    in one prediction; 0 for as many as there are processors. `function` is the one to run, of a model that has several.

    Any number of threads may predict at once; Python goes on while a session computes. Pickled, a session is its path and
    options, and opens the model anew. A forked process cannot use the sessions of its parent and is told so.
    """

    def __init__(
        self,
        path: Union[str, "os.PathLike[str]"],
        *,
        compute_units: str = "all",
        deadline: Optional[float] = None,
        threads: int = 0,
        function: Optional[str] = None,
    ) -> None:
        self._path = os.fspath(path)
        self._options = {
            "compute_units": compute_units,
            "deadline": deadline,
            "threads": threads,
            "function": function,
        }
        if isinstance(threads, bool) or not isinstance(threads, int) or not 0 <= threads < 1 << 16:
            raise InvalidInputError(f"threads: {threads!r} is no number of threads")
        if not isinstance(compute_units, str):
            raise InvalidInputError(f"compute_units: {compute_units!r} is not one of their names")
        if deadline is not None and (isinstance(deadline, bool) or not isinstance(deadline, (int, float))):
            raise InvalidInputError(f"deadline: {deadline!r} is no number of seconds")
        if function is not None and not isinstance(function, str):
            raise InvalidInputError(f"function: {function!r} is not a name")
        self._native = _native.Session(self._path, compute_units, deadline, threads, function)

    def predict(self, inputs: Mapping[str, Any], state: Optional[State] = None) -> Prediction:
        """Makes one prediction.

        Multi-arrays are NumPy arrays, or what NumPy makes one of; elements of another type are converted where that keeps
        their values. Images are PIL images or paths of pictures, cropped and resized to what the model takes, or arrays that
        fit. Numbers, strings, dictionaries and sequences are Python's.

        Image outputs are arrays of bytes, height by width by red, green, blue, or height by width.
        """
        if not isinstance(inputs, Mapping):
            raise InvalidInputError(f"inputs are a dictionary by feature name, not a {type(inputs).__name__}")
        if state is not None and not isinstance(state, State):
            raise InvalidInputError(f"state is one that make_state gave, not a {type(state).__name__}")
        found = self._native.predict(dict(inputs), None if state is None else state._native, False)
        outputs, served_by, degraded, attempts = found
        return Prediction(outputs, served_by, degraded, attempts)

    def predict_batch(self, batch: Iterable[Mapping[str, Any]]) -> List[Prediction]:
        """Makes one prediction after another."""
        return [self.predict(inputs) for inputs in batch]

    def make_state(self) -> State:
        """A fresh state, all zero."""
        return State(self._native.make_state())

    @cached_property
    def interface(self) -> Interface:
        """What predictions take and give."""
        return Interface.of(self._native.interface())

    @property
    def path(self) -> str:
        """The path the model was opened by."""
        return self._path

    @property
    def function(self) -> str:
        """The function that runs."""
        return self._native.function

    @property
    def functions(self) -> List[str]:
        """The functions the model has."""
        return self._native.functions

    @property
    def backends(self) -> List[str]:
        """The backends in the order in which they are tried."""
        return self._native.backends

    def telemetry(self) -> Dict[str, List[Dict[str, Any]]]:
        """What the session has counted and timed: by metric a list of series, each with `labels` and a `value`."""
        metrics: Dict[str, List[Dict[str, Any]]] = {}
        for name, labels, value in self._native.telemetry():
            metrics.setdefault(name, []).append({"labels": labels, "value": value})
        return metrics

    def open_metrics(self) -> str:
        """What the session has counted and timed, as OpenMetrics text for Prometheus and its kin."""
        return self._native.open_metrics()

    def __reduce__(self) -> Tuple[Any, ...]:
        return _reopen, (type(self), self._path, self._options)

    def __repr__(self) -> str:
        return f"Session({self._path!r}, function={self.function!r}, backends={self.backends!r})"


def _reopen(session: Any, path: str, options: Dict[str, Any]) -> Session:
    return session(path, **options)
