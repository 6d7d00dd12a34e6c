"""The pytest plugin of `scripts/conformance`: installs the shim, takes the sample, counts predictions, writes one line a test."""

from __future__ import annotations

import json
import os
import random
from collections import defaultdict

import coreml_anywhere.coremltools  # noqa: F401  before the tests import coremltools
import pytest
from coreml_anywhere.coremltools.native import _MLModelProxy

_predictions = 0
_predict = _MLModelProxy.predict


def _counted(self, *arguments, **named):
    global _predictions
    _predictions += 1
    return _predict(self, *arguments, **named)


_MLModelProxy.predict = _counted


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Keeps the sample of each function's parametrisations."""
    count = int(os.environ["CONFORMANCE_SAMPLE"])
    if count <= 0:
        return
    of_function = defaultdict(list)
    for item in items:
        of_function[item.nodeid.split("[", 1)[0]].append(item)
    kept = set()
    for name, all_of_it in of_function.items():
        choice = random.Random(f"{os.environ['CONFORMANCE_SEED']}:{name}")
        kept.update(item.nodeid for item in choice.sample(all_of_it, min(count, len(all_of_it))))
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in kept])
    items[:] = [item for item in items if item.nodeid in kept]
    # A run that is out of time has then seen a sample of the file, not its beginning.
    random.Random(os.environ["CONFORMANCE_SEED"]).shuffle(items)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item, nextitem):
    """Counts from 0 for each test."""
    global _predictions
    _predictions = 0
    yield


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
    _write(report.nodeid.split("::", 1)[1], outcome, _message(report))


def pytest_collectreport(report):
    """A file that cannot be imported counts as an error."""
    if report.failed:
        _write("(collection)", "error", _message(report))


def _message(report):
    if report.skipped and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        return str(crash.message)
    return str(report.longrepr or "").strip().rsplit("\n", 1)[-1]


def _write(name, outcome, message):
    line = {"name": name, "outcome": outcome, "message": message[:2000], "predictions": _predictions}
    with open(os.environ["CONFORMANCE_LOG"], "a") as log:
        log.write(json.dumps(line) + "\n")
