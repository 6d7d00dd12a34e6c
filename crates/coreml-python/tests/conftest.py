"""Where the tests' models lie, and the compiled part's version."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of small models with known answers."""
    return ROOT / "tests" / "golden"


@pytest.fixture(scope="session")
def classifier() -> Path:
    """EfficientNet-Lite0."""
    return ROOT / "tests" / "fixtures" / "models" / "EfficientNetLite0.mlpackage"


@pytest.fixture(scope="session")
def coffee() -> Path:
    """A photograph of a cup of coffee."""
    return ROOT / "tests" / "fixtures" / "images" / "coffee.png"
