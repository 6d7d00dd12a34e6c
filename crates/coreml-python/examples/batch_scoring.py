#!/usr/bin/env python3
"""Classifies a folder of pictures in several processes.

    pip install coreml-anywhere pillow
    python batch_scoring.py MODEL FOLDER [--processes 4]

Each process opens the model once, with one thread: for many pictures that is faster than one prediction on all processors.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Optional, Tuple

from coreml_anywhere import CoreMLError, Session

SUFFIXES = {".jpg", ".jpeg", ".png"}
session: Optional[Session] = None


def start(opened: Session) -> None:
    """Begins a process. The session comes pickled: as its path and options, and opens the model here."""
    global session
    session = opened


def score(picture: Path) -> Tuple[Path, str, float]:
    """The likeliest class of a picture; a picture that cannot be read is told, not fatal."""
    assert session is not None
    (name, *_) = (feature.name for feature in session.interface.inputs)
    try:
        ((label, probability),) = session.predict({name: picture}).top(1)
    except CoreMLError as error:
        return picture, f"error: {error}", 0.0
    return picture, str(label), probability


def main() -> None:
    """Prints a line for each picture; fails if there is none, or none could be read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    pictures = sorted(path for path in arguments.folder.iterdir() if path.suffix.lower() in SUFFIXES)
    shared = Session(arguments.model, threads=1)
    scored = 0
    # Spawned processes, as forks would not have the threads of this one's session.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.processes, context, initializer=start, initargs=(shared,)) as pool:
        for picture, label, probability in pool.map(score, pictures, chunksize=8):
            print(f"{picture.name}\t{label}\t{probability:.4f}")
            scored += not label.startswith("error: ")
    sys.exit(0 if scored else 1)


if __name__ == "__main__":
    main()
