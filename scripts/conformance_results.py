"""The kept results of `scripts/conformance`, one file of JSON lines for each test file, and the page written from them.

A line tells that a test started, or how it ended and with which wheel; the last line about a test is what counts.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from own_venv import ROOT

STORE = ROOT / "target" / "conformance"
KNOWN = ROOT / "scripts" / "conformance-known.json"
FAILED = ("failed", "error", "hung", "crashed")
# What a file is called whose tests cannot be collected.
WHOLE_FILE = "(the file)"

HEAD = """\
# coremltools' own tests

Written by `scripts/conformance`. coremltools 9 ships its tests in its wheel; on a Mac they ask Core ML for the predictions,
here the package `coreml_anywhere.coremltools`. Only the ML Program backend is tested (`PYMIL_TEST_TARGETS=mlprogram`).
"""
COLUMNS = """
*Run* are the tests of the sample that have a result, of all parametrisations in the file; *predicted* those of them that asked for at
least one prediction: the others say nothing of the engine.

| file | run | of | passed | failed | skipped | expected to fail | predicted | |
|---|--:|--:|--:|--:|--:|--:|--:|---|
"""


@dataclass
class Results:
    """What is known of one test file."""

    file: str
    plan: dict = field(default_factory=dict)
    tests: dict[str, dict] = field(default_factory=dict)
    unfinished: str | None = None

    @classmethod
    def of(cls, file: str) -> Results:
        """The kept results of a file."""
        found = cls(file)
        if plan_of(file).exists():
            found.plan = json.loads(plan_of(file).read_text())
        for line in log_of(file).read_text().splitlines() if log_of(file).exists() else []:
            test = json.loads(line)
            if "started" in test:
                found.unfinished = test["name"]
            else:
                found.unfinished = None
                found.tests[test["name"]] = test
        return found

    @classmethod
    def every(cls) -> list[Results]:
        """Those of all files."""
        return [cls.of(path.name.removesuffix(".plan.json").replace("+", "/")) for path in sorted(STORE.glob("*.plan.json"))]

    def usable(self, wheel: str, older: bool) -> dict[str, dict]:
        """The results that need no other run: of this wheel, or with `older` those of another too that passed or were skipped."""
        return {
            name: test
            for name, test in self.tests.items()
            if test["wheel"] == wheel or (older and test["outcome"] not in FAILED)
        }

    def shown(self, wheel: str, older: bool) -> dict[str, dict]:
        """The results the page tells: of this wheel, or with `older` of all."""
        return {name: test for name, test in self.tests.items() if older or test["wheel"] == wheel}

    def add(self, name: str, outcome: str, message: str, wheel: str) -> None:
        """Marks a test that did not come to its end."""
        test = {"name": name, "outcome": outcome, "message": message, "predictions": 0, "seconds": 0.0, "wheel": wheel}
        with log_of(self.file).open("a") as log:
            log.write(json.dumps(test) + "\n")
        self.tests[name] = test


def log_of(file: str) -> Path:
    """Where the results of a test file are kept."""
    return STORE / (file.replace("/", "+") + ".jsonl")


def plan_of(file: str) -> Path:
    """Where the sample of a test file is kept."""
    return STORE / (file.replace("/", "+") + ".plan.json")


def counts(tests: list[dict]) -> Counter:
    """Tests by outcome."""
    return Counter(test["outcome"] for test in tests)


class Causes:
    """Failures whose cause is known, by the beginning of a test's name; those that are defects of ours begin with `ours`."""

    def __init__(self) -> None:
        self._by_start: dict[str, str] = json.loads(KNOWN.read_text())

    def of(self, file: str, test: dict) -> str | None:
        """The cause of a failure; the longest name that fits wins."""
        name = f"{file}::{test['name']}"
        fitting = [start for start in self._by_start if name.startswith(start)]
        return self._by_start[max(fitting, key=len)] if fitting else None


def page(wheel: str, older: bool, versions: str) -> str:
    """docs/conformance.md, from all kept results."""
    causes = Causes()
    table, failed, skipped = [], [], Counter()
    total, wheels, sum_of = Counter(), Counter(), 0
    for results in Results.every():
        tests = list(in_plan(results, results.shown(wheel, older)).values())
        if not tests:
            continue
        found = counts(tests)
        found["run"] = len(tests)
        found["predicted"] = sum(test["predictions"] > 0 for test in tests)
        missing = len(results.plan["names"]) - len(tests)
        note = f"{missing} of the sample not yet run" if missing else ""
        table.append(row(f"`{results.file}`", found, results.plan["of"], note))
        total += found
        sum_of += results.plan["of"]
        wheels.update(test["wheel"] for test in tests)
        skipped.update(clean(test["message"]) for test in tests if test["outcome"] == "skipped")
        failed += [(results.file, test) for test in tests if test["outcome"] in FAILED]
    table.append(row("**all**", total, sum_of, ""))
    lines = [HEAD, f"The wheel is that of commit {wheel}; {versions}.", *said_of(wheel, wheels)]
    lines += [COLUMNS + "\n".join(table), "", "## What failed", ""]
    lines += [told(causes, file, test) for file, test in failed] or ["Nothing."]
    lines += ["", "## Why tests were skipped", ""]
    lines += [f"* {number} x {reason}" for reason, number in skipped.most_common()] or ["None was."]
    return "\n".join(lines) + "\n"


def in_plan(results: Results, tests: dict[str, dict]) -> dict[str, dict]:
    """The results of tests that are in the sample, or tell of the whole file."""
    names = {*results.plan.get("names", []), WHOLE_FILE}
    return {name: test for name, test in tests.items() if name in names}


def said_of(wheel: str, wheels: Counter) -> list[str]:
    """How many results come from the wheels of earlier commits."""
    old = {name: number for name, number in sorted(wheels.items()) if name != wheel}
    if not old:
        return []
    told_of = ", ".join(f"{number} with that of {name}" for name, number in old.items())
    return ["", f"Not all ran with it: {told_of}."]


def told(causes: Causes, file: str, test: dict) -> str:
    """One failure with its cause."""
    why = causes.of(file, test) or f"**not explained**: {test['outcome']}: {test['message']}"
    return f"* `{file}::{test['name']}`: {clean(why)}"


def row(name: str, found: Counter, of: int, note: str) -> str:
    """One row of the table."""
    failed = sum(found[outcome] for outcome in FAILED)
    passed = found["passed"] + found["xpassed"]
    columns = [name, found["run"], of, passed, failed, found["skipped"], found["xfailed"], found["predicted"], note]
    return "| " + " | ".join(map(str, columns)) + " |"


def clean(text: str) -> str:
    """One line, without this machine's folders."""
    text = " ".join(text.split()).replace(str(ROOT), ".").replace("|", "\\|")
    return text if len(text) <= 300 else text[:300] + " …"
