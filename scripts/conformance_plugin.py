"""The pytest plugin of `scripts/conformance`.

Installs the shim, writes the plan (which tests of a file make the sample), leaves out those that have a result, ends the process at
a test that takes too long, counts predictions, and writes a line when a test starts and one when it has ended.
"""

from __future__ import annotations

import faulthandler
import hashlib
import json
import os
import signal
from collections import defaultdict
from pathlib import Path

import coreml_anywhere.coremltools  # noqa: F401  before the tests import coremltools
import pytest
from coreml_anywhere.coremltools.native import _MLModelProxy

_SAMPLE = int(os.environ["CONFORMANCE_SAMPLE"])
_SEED = os.environ["CONFORMANCE_SEED"]
_LIMIT = float(os.environ["CONFORMANCE_LIMIT"])
_LOG = Path(os.environ["CONFORMANCE_LOG"])
_PLAN = Path(os.environ["CONFORMANCE_PLAN"])
_DONE = frozenset(json.loads(Path(os.environ["CONFORMANCE_DONE"]).read_text()))

_predictions = 0
_predict = _MLModelProxy.predict


def _counted(self, *arguments, **named):
    global _predictions
    _predictions += 1
    return _predict(self, *arguments, **named)


_MLModelProxy.predict = _counted


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Keeps the sample of each function's parametrisations, as far as it has no results.

    The order is that of hashes: a larger sample holds the smaller one, and a run that is stopped has seen a sample of its file, not
    the beginning.
    """
    of_function = defaultdict(list)
    for item in items:
        of_function[item.nodeid.split("[", 1)[0]].append(item)
    chosen = []
    for every in of_function.values():
        every.sort(key=_rank)
        chosen += every[: _SAMPLE or None]
    chosen.sort(key=_rank)
    plan = {"sample": _SAMPLE, "seed": _SEED, "of": len(items), "names": [_name(item.nodeid) for item in chosen]}
    _PLAN.write_text(json.dumps(plan))
    kept = [item for item in chosen if _name(item.nodeid) not in _DONE]
    left_out = set(items).difference(kept)
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = kept


def _rank(item):
    return hashlib.sha256(f"{_SEED}:{item.nodeid}".encode()).digest()


def _name(nodeid):
    return nodeid.split("::", 1)[1]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item, nextitem):
    """Counts from 0 for each test, and ends the process if it takes too long, in native code too."""
    global _predictions
    _predictions = 0
    _write({"name": _name(item.nodeid), "started": True})
    _end_after(_LIMIT)
    yield
    _end_after(0)


def _end_after(seconds):
    """Ends the process when it has computed for so long, however busy the machine is, or waited for much longer; 0 for never."""
    if hasattr(signal, "ITIMER_PROF"):
        signal.setitimer(signal.ITIMER_PROF, seconds)
    if seconds:
        faulthandler.dump_traceback_later(20 * seconds, exit=True)
    else:
        faulthandler.cancel_dump_traceback_later()


def pytest_runtest_logreport(report):
    """Writes how a test went: its call, or the part before or after it that did not pass."""
    if report.when != "call" and report.passed:
        return
    if hasattr(report, "wasxfail"):
        outcome = "xpassed" if report.passed else "xfailed"
    elif report.failed and report.when != "call":
        outcome = "error"
    else:
        outcome = report.outcome
    _result(_name(report.nodeid), outcome, _message(report), report.duration)


def pytest_collectreport(report):
    """A file that cannot be imported counts as an error, one that refuses its imports as skipped."""
    if report.passed or not report.nodeid.endswith(".py"):
        return
    if not _PLAN.exists():
        _PLAN.write_text(json.dumps({"sample": _SAMPLE, "seed": _SEED, "of": 0, "names": ["(the file)"]}))
    _result("(the file)", "error" if report.failed else "skipped", _message(report), 0.0)


def _message(report):
    if report.skipped and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        return str(crash.message)
    return str(report.longrepr or "").strip().rsplit("\n", 1)[-1]


def _result(name, outcome, message, seconds):
    _write(
        {
            "name": name,
            "outcome": outcome,
            "message": message[:2000],
            "predictions": _predictions,
            "seconds": round(seconds, 2),
            "wheel": os.environ["CONFORMANCE_WHEEL"],
        }
    )


def _write(line):
    with _LOG.open("a") as log:
        log.write(json.dumps(line) + "\n")
