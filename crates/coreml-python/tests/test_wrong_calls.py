"""What callers do wrong is told by typed exceptions."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, NamedTuple, Type

import numpy
import pytest
from coreml_anywhere import CoreMLError, InvalidInputError, InvalidModelError, Session


class Models(NamedTuple):
    """The models the calls are made on."""

    add: Session
    classifier: Session
    accumulator: Session
    folder: Path

    @property
    def name(self) -> str:
        """The first input of `add`."""
        return self.add.interface.inputs[0].name

    @property
    def fitting(self) -> dict[str, Any]:
        """Inputs that `add` takes."""
        return {feature.name: numpy.zeros(feature.shape, "f4") for feature in self.add.interface.inputs}

    def with_value(self, value: Any) -> Any:
        """A prediction of `add` with one input replaced."""
        return self.add.predict({**self.fitting, self.name: value})


@pytest.fixture(scope="module")
def models(golden: Path, classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Models:
    """The models, opened once."""
    return Models(
        Session(golden / "elementwise" / "add-same.mlmodel"),
        Session(classifier),
        Session(golden / "state" / "accumulator.mlmodel"),
        tmp_path_factory.mktemp("wrong"),
    )


def _garbage(models: Models) -> Session:
    path = models.folder / "garbage.mlmodel"
    path.write_bytes(b"\xff" * 64)
    return Session(path)


class Thing:
    """No value of any feature."""


ROWS: list[tuple[str, Callable[[Models], Any], Type[BaseException], str]] = [
    ("no such file", lambda m: Session(m.folder / "absent.mlpackage"), InvalidModelError, "absent.mlpackage"),
    ("garbage", _garbage, InvalidModelError, "garbage.mlmodel"),
    ("a path of no text", lambda m: Session(7), TypeError, "PathLike"),
    ("unknown units", lambda m: Session(m.add.path, compute_units="npu"), InvalidInputError, "npu"),
    ("units of no text", lambda m: Session(m.add.path, compute_units=3), InvalidInputError, "compute_units"),
    ("negative deadline", lambda m: Session(m.add.path, deadline=-1.0), InvalidInputError, "deadline"),
    (
        "deadline that is not a number",
        lambda m: Session(m.add.path, deadline=float("nan")),
        InvalidInputError,
        "deadline",
    ),
    ("deadline of text", lambda m: Session(m.add.path, deadline="1"), InvalidInputError, "deadline"),
    ("negative threads", lambda m: Session(m.add.path, threads=-1), InvalidInputError, "threads"),
    ("threads of a fraction", lambda m: Session(m.add.path, threads=1.5), InvalidInputError, "threads"),
    ("unknown function", lambda m: Session(m.add.path, function="f"), InvalidInputError, "f"),
    ("function of no text", lambda m: Session(m.add.path, function=1), InvalidInputError, "function"),
    ("no dictionary", lambda m: m.add.predict([1, 2]), InvalidInputError, "dictionary"),
    ("nothing given", lambda m: m.add.predict({}), InvalidInputError, "is missing"),
    ("a name of no text", lambda m: m.add.predict({**m.fitting, 3: 1.0}), InvalidInputError, "not a string"),
    ("unknown name", lambda m: m.add.predict({**m.fitting, "nothing": 1.0}), InvalidInputError, "no such input"),
    ("wrong shape", lambda m: m.with_value(numpy.zeros((1, 1, 1, 9), "f4")), InvalidInputError, "shape"),
    ("too many dimensions", lambda m: m.with_value(numpy.zeros((1,) * 9, "f4")), InvalidInputError, "rank|dimensions"),
    ("no elements", lambda m: m.with_value(numpy.zeros((0,), "f4")), InvalidInputError, "feature `"),
    ("complex numbers", lambda m: m.with_value(numpy.zeros((2,), "c8")), InvalidInputError, "complex64"),
    ("dates", lambda m: m.with_value(numpy.zeros((2,), "M8[s]")), InvalidInputError, "datetime64"),
    ("texts", lambda m: m.with_value(numpy.array(["a", "b"])), InvalidInputError, "no feature takes"),
    ("objects", lambda m: m.with_value(numpy.array([Thing()])), InvalidInputError, "object"),
    ("an object", lambda m: m.with_value(Thing()), InvalidInputError, "Thing"),
    ("None", lambda m: m.with_value(None), InvalidInputError, "NoneType"),
    ("ragged lists", lambda m: m.with_value([[1.0], [1.0, 2.0]]), InvalidInputError, "feature `"),
    ("text for an array", lambda m: m.with_value("text"), InvalidInputError, "string"),
    ("a dictionary for an array", lambda m: m.with_value({"a": 1.0}), InvalidInputError, "dictionary"),
    ("a dictionary of texts", lambda m: m.with_value({"a": "b"}), InvalidInputError, "no number"),
    ("a dictionary by fractions", lambda m: m.with_value({0.5: 1.0}), InvalidInputError, "label"),
    ("too large a number", lambda m: m.with_value(1 << 70), InvalidInputError, "feature `"),
    ("no picture", lambda m: m.classifier.predict({"image": "absent.png"}), InvalidInputError, "absent.png"),
    ("a number for a picture", lambda m: m.classifier.predict({"image": 3}), InvalidInputError, "image"),
    (
        "pixels of another size",
        lambda m: m.classifier.predict({"image": numpy.zeros((2, 2, 3), "u1")}),
        InvalidInputError,
        "feature `",
    ),
    ("no state", lambda m: m.accumulator.predict({"x": numpy.zeros((2, 3))}), InvalidInputError, "state"),
    (
        "a state of another model",
        lambda m: m.accumulator.predict({"x": numpy.zeros((2, 3))}, m.add.make_state()),
        InvalidInputError,
        "another session",
    ),
    (
        "what is no state",
        lambda m: m.accumulator.predict({"x": numpy.zeros((2, 3))}, 5),
        InvalidInputError,
        "make_state",
    ),
    ("an unknown state", lambda m: m.accumulator.make_state().read("t"), InvalidInputError, "no such state"),
    (
        "a state's wrong shape",
        lambda m: m.accumulator.make_state().write("s", numpy.zeros(6)),
        InvalidInputError,
        "shape",
    ),
    ("a state of text", lambda m: m.accumulator.make_state().write("s", "text"), InvalidInputError, "feature `"),
]


@pytest.mark.parametrize("call, error, words", [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_wrong_call_is_told(
    models: Models, call: Callable[[Models], Any], error: Type[BaseException], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        call(models)
    if isinstance(caught.value, CoreMLError):
        assert isinstance(caught.value, RuntimeError)
    # Nothing is broken by it.
    models.add.predict(models.fitting)


def test_errors_say_what_they_are_about(models: Models) -> None:
    with pytest.raises(InvalidInputError) as caught:
        models.with_value("text")
    assert (caught.value.feature, caught.value.operation, caught.value.kind) == (models.name, None, "invalid_input")
