"""The examples run; those whose packages are not there are skipped, and at least compiled."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def _run(example: str, *arguments: Any) -> str:
    command = [sys.executable, EXAMPLES / example, *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_it_compiles(example: str) -> None:
    compile((EXAMPLES / example).read_text(), example, "exec")


def test_batch_scoring(classifier: Path, coffee: Path) -> None:
    pytest.importorskip("PIL")
    told = _run("batch_scoring.py", classifier, coffee.parent, "--processes", 2)
    assert "coffee.png\tespresso\t0.9" in told


def test_ray_scoring(classifier: Path, coffee: Path) -> None:
    pytest.importorskip("ray.data")
    assert "coffee.png\tespresso\t" in _run("ray_scoring.py", classifier, coffee.parent, "--actors", 1)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_convert_and_check(precision: str) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("coremltools")
    assert precision in _run("convert_and_check.py", "--precision", precision)


def test_service(classifier: Path, coffee: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx")
    from fastapi.testclient import TestClient

    monkeypatch.setenv("MODEL", str(classifier))
    # However busy the machine is.
    monkeypatch.setenv("DEADLINE_SECONDS", "3600")
    spec = importlib.util.spec_from_file_location("service", EXAMPLES / "service.py")
    assert spec is not None and spec.loader is not None
    service = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(service)
    client = TestClient(service.app)
    answered = client.post("/classify?count=2", content=coffee.read_bytes())
    assert answered.status_code == 200
    assert [found["label"] for found in answered.json()["classes"]][0] == "espresso"
    assert client.post("/classify", content=b"no picture").status_code == 422
    assert client.post("/classify", content=bytes(service.MOST_BYTES + 1)).status_code == 413
    assert 'coreml_predictions_total{outcome="ok"} 1' in client.get("/metrics").text
    monkeypatch.setattr(service, "session", service.Session(classifier, deadline=0.0))
    assert client.post("/classify", content=coffee.read_bytes()).status_code == 504
