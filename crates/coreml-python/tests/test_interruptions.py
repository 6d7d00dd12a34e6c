"""Ctrl-C, other signals and the end of the interpreter while a prediction computes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import numpy
import pytest
from coreml_anywhere import Session
from coreml_anywhere.errors import UnavailableError

needs_timers = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the system has no timers that send signals")


def _rounds(count: int) -> Dict[str, Any]:
    """Inputs of the loop: 2**31 - 1 rounds take seconds anywhere, and end in an error at the limit of rounds."""
    return {name: numpy.array([value], numpy.int32) for name, value in (("n", count), ("p", 0), ("q", 1))}


ENDLESS = _rounds(2**31 - 1)


@pytest.fixture
def loop(golden: Path) -> Session:
    """A model that computes as long as its input says."""
    return Session(golden / "control" / "while_loop-int-variables.mlmodel", threads=1)


@needs_timers
@pytest.mark.parametrize("deadline", [None, 3600.0])
def test_ctrl_c_ends_a_prediction(golden: Path, deadline: Any) -> None:
    session = Session(golden / "control" / "while_loop-int-variables.mlmodel", threads=1, deadline=deadline)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt) as caught:
            session.predict(ENDLESS)
    finally:
        signal.signal(signal.SIGALRM, before)
    # A prediction that had gone on to its error would be the context of the interrupt.
    assert caught.value.__context__ is None
    assert session.predict(_rounds(10))["out0"] == 55


@needs_timers
def test_a_signal_that_raises_nothing_lets_it_go_on(loop: Session) -> None:
    came: List[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: came.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        while not came:
            assert loop.predict(_rounds(100_000))["out0"].dtype == numpy.int32
    finally:
        signal.signal(signal.SIGALRM, before)


@needs_timers
def test_a_handler_cannot_predict_in_the_middle_of_a_prediction(loop: Session) -> None:
    refused: List[UnavailableError] = []

    def handle(_number: int, _frame: Any) -> None:
        try:
            loop.predict(_rounds(10))
        except UnavailableError as error:
            refused.append(error)
        raise InterruptedError("as planned")

    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(InterruptedError, match="as planned"):
            loop.predict(ENDLESS)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert len(refused) == 1 and "signal handler" in str(refused[0])
    assert loop.predict(_rounds(10))["out0"] == 55


LEAVES = """
import sys, threading, time, numpy
from coreml_anywhere import Session

model, inputs = sys.argv[1], {name: numpy.array([n], numpy.int32) for name, n in (("n", 2**31 - 1), ("p", 0), ("q", 1))}
shared = Session(model, threads=1)
running = threading.Barrier(5)

def work(session, inputs):
    session.predict({**inputs, "n": inputs["p"]})
    running.wait()
    while True:
        session.predict(inputs)

for number in range(4):
    short = {**inputs, "n": numpy.array([5], numpy.int32)}
    own = shared if number % 2 else Session(model, threads=1)
    threading.Thread(target=work, args=(own, short if number > 1 else inputs), daemon=True).start()
running.wait()
time.sleep(0.02)
"""


def test_the_interpreter_ends_while_daemon_threads_predict(golden: Path) -> None:
    for _ in range(5):
        command = [sys.executable, "-c", LEAVES, golden / "control" / "while_loop-int-variables.mlmodel"]
        ended = subprocess.run(command, check=False, capture_output=True, text=True)
        assert (ended.returncode, ended.stderr) == (0, "")
