"""Sessions: values in, values out, states, threads, pickles."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
import threading
from pathlib import Path

import numpy
import pytest
from coreml_anywhere import CoreMLError, InvalidInputError, Session, UnavailableError


def test_the_photograph_is_classified(classifier: Path, coffee: Path) -> None:
    answer = Session(classifier).predict({"image": coffee})
    (label, probability), *_ = answer.top(3)
    assert label == "espresso" and 0.9 < probability < 1
    assert (answer.served_by, answer.degraded) == ("cpu", False)
    assert [(attempt.backend, attempt.error) for attempt in answer.attempts] == [("cpu", None)]
    assert answer.attempts[0].seconds > 0


def test_pil_images_are_the_picture_they_were_read_from(classifier: Path, coffee: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    session = Session(classifier)
    expected = session.predict({"image": str(coffee)})
    for mode in ("RGB", "RGBA"):
        assert session.predict({"image": image.open(coffee).convert(mode)}) == expected
    palette = session.predict({"image": image.open(coffee).convert("P")})
    assert palette.top(1)[0][0] == expected.top(1)[0][0]


def test_known_answers(golden: Path) -> None:
    compared = 0
    for path in sorted((golden / "elementwise").glob("add-*.npz")):
        arrays = numpy.load(path)
        session = Session(path.with_suffix(".mlmodel"))
        inputs = {key[3:]: arrays[key] for key in arrays.files if key.startswith("in:")}
        outputs = session.predict(inputs)
        for name in (key[4:] for key in arrays.files if key.startswith("out:")):
            expected = arrays[f"out:{name}"]
            scale = numpy.abs(expected).max()
            assert numpy.abs(outputs[name].astype(float) - expected).max() <= 1e-5 + 2e-3 * scale, path.name
            compared += 1
    assert compared > 0


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint8", "int32", "int64", ">f4"])
def test_any_type_and_layout_gives_the_same(golden: Path, dtype: str) -> None:
    session = Session(golden / "elementwise" / "add-same.mlmodel")
    shapes = {feature.name: feature.shape for feature in session.interface.inputs}
    plain = {name: numpy.arange(numpy.prod(shape)).reshape(shape) % 7 for name, shape in shapes.items()}
    expected = session.predict({name: value.astype("float32") for name, value in plain.items()})
    given = {name: value.astype(dtype) for name, value in plain.items()}
    strided = {name: numpy.asfortranarray(value)[::1] for name, value in given.items()}
    nested = {name: value.tolist() for name, value in plain.items()}
    for inputs in (given, strided, nested):
        outputs = session.predict(inputs)
        assert all(numpy.array_equal(outputs[name], expected[name]) for name in expected)


def test_states_are_read_and_written(golden: Path) -> None:
    session = Session(golden / "state" / "accumulator.mlmodel")
    x = numpy.ones((2, 3), numpy.float32)
    first = session.make_state()
    assert not first.read("s").any()
    session.predict({"x": x}, first)
    held = first.read("s")
    assert held.dtype == numpy.float32 and held.any()
    second = session.make_state()
    second.write("s", held.astype(numpy.float64))
    a, b = (session.predict({"x": x}, state) for state in (first, second))
    assert all(numpy.array_equal(a[name], b[name]) for name in a)


def test_a_batch_is_one_prediction_after_another(golden: Path) -> None:
    session = Session(golden / "elementwise" / "add-same.mlmodel")
    shapes = {feature.name: feature.shape for feature in session.interface.inputs}
    batch = [{name: numpy.full(shape, i, numpy.float32) for name, shape in shapes.items()} for i in range(3)]
    for inputs, outputs in zip(batch, session.predict_batch(batch)):
        assert all(numpy.array_equal(outputs[name], value) for name, value in session.predict(inputs).items())


def test_the_interface_and_the_telemetry(classifier: Path, coffee: Path) -> None:
    session = Session(classifier)
    feature = session.interface.input("image")
    assert feature is not None and (feature.kind, feature.shape, feature.color) == ("image", (224, 224), "rgb")
    assert session.interface.predicted_feature is not None
    session.predict({"image": coffee})
    attempts = session.telemetry()["coreml_attempts_total"]
    assert {"labels": {"backend": "cpu", "outcome": "ok"}, "value": 1} in attempts
    assert session.open_metrics().endswith("# EOF\n")


def test_threads_share_a_session(classifier: Path, coffee: Path) -> None:
    session = Session(classifier, threads=1)
    expected = session.predict({"image": coffee})
    wrong = []

    def work() -> None:
        for _ in range(4):
            if session.predict({"image": coffee}) != expected:
                wrong.append(threading.get_ident())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_sessions_answers_and_errors_are_pickled(classifier: Path, coffee: Path) -> None:
    session = Session(classifier, threads=1, deadline=30.0)
    answer = session.predict({"image": coffee})
    again = pickle.loads(pickle.dumps(session))
    assert again.path == session.path and again.predict({"image": coffee}) == answer
    copied = pickle.loads(pickle.dumps(answer))
    assert (copied, copied.served_by, copied.attempts) == (answer, answer.served_by, answer.attempts)
    with pytest.raises(InvalidInputError) as caught:
        session.predict({"picture": coffee})
    error = pickle.loads(pickle.dumps(caught.value))
    assert (str(error), error.feature) == (str(caught.value), "picture")


def _classify(session: Session, path: Path) -> str:
    return str(session.predict({"image": path}).top(1)[0][0])


def test_spawned_processes_open_it_anew(classifier: Path, coffee: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_classify, (Session(classifier), coffee)) == "espresso"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_is_told_that_it_has_no_session(classifier: Path, coffee: Path) -> None:
    session = Session(classifier)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            session.predict({"image": coffee})
            told = b"answered"
        except UnavailableError as error:
            told = str(error).encode()
        except BaseException as error:  # the test process must not go on twice
            told = repr(error).encode()
        os.write(writer, told)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        assert b"another process" in told.read()
    os.waitpid(child, 0)


def test_load_predict_drop_from_threads(golden: Path) -> None:
    model = golden / "elementwise" / "add-same.mlmodel"
    failures = []

    def work() -> None:
        try:
            for _ in range(125):
                session = Session(model, threads=1)
                shapes = {feature.name: feature.shape for feature in session.interface.inputs}
                session.predict({name: numpy.zeros(shape, numpy.float32) for name, shape in shapes.items()})
        except CoreMLError as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_the_package_is_typed() -> None:
    import coreml_anywhere

    folder = Path(coreml_anywhere.__file__).parent
    assert (folder / "py.typed").exists() and (folder / "_native.pyi").exists()
    assert sys.modules["coreml_anywhere._native"].__version__ == coreml_anywhere.__version__
