"""A script's own virtual environment: made on the first run, reused until its requirements change.

`enter` is called before anything outside the standard library is imported. It makes the environment below `target/`,
installs one pinned requirements file into it, and starts the calling script again with the environment's interpreter.
`prepare` only makes it and tells its interpreter, for a script that runs something in another environment.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MIN_PYTHON = (3, 11)  # what the pinned wheels need; the scripts themselves would run on 3.9


def enter(name: str, requirements: Path) -> None:
    """Returns inside the environment `target/NAME`; outside it, sets it up and replaces this process.

    Ends the process with a message if Python is too old or the packages cannot be installed.
    """
    if Path(sys.prefix).resolve() == (ROOT / "target" / name).resolve():
        return
    # A child instead of os.execv: on Windows exec returns to the shell before the script is done.
    sys.exit(subprocess.run([str(prepare(name, requirements)), *sys.argv], check=False).returncode)


def prepare(name: str, requirements: Path) -> Path:
    """The interpreter of the environment `target/NAME`, which is set up first if needed.

    Ends the process with a message if Python is too old or the packages cannot be installed.
    """
    folder = ROOT / "target" / name
    if sys.version_info < MIN_PYTHON:
        have = ".".join(map(str, sys.version_info[:3]))
        want = ".".join(map(str, MIN_PYTHON))
        sys.exit(
            f"the pinned packages need Python {want} or newer, this is {have}; run it as: python{want} {sys.argv[0]}"
        )
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    _install(folder, python, requirements)
    return python


def _install(folder: Path, python: Path, requirements: Path) -> None:
    """Makes the environment unless it already holds exactly these requirements."""
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    stamp = folder / "requirements.sha256"
    if stamp.is_file() and stamp.read_text() == wanted and python.exists():
        return
    print(
        f"setting up {folder.relative_to(ROOT)} from {requirements.relative_to(ROOT)} (first run only)", file=sys.stderr
    )
    venv.create(folder, with_pip=True, clear=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)]
    if subprocess.run(pip, check=False).returncode != 0:
        sys.exit(f"could not install {requirements.relative_to(ROOT)}; is a Python package index reachable?")
    stamp.write_text(wanted)
