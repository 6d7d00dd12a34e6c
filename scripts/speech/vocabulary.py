"""The words, the tokens they are made of, and the special ones that Whisper's vocabulary has too."""

from __future__ import annotations

import json
from pathlib import Path

# A word's pieces; the first begins with the space before the word.
WORDS = {
    "zero": ["ze", "ro"], "one": ["one"], "two": ["two"], "three": ["th", "ree"], "four": ["four"],
    "five": ["five"], "six": ["six"], "seven": ["se", "ven"], "eight": ["eight"], "nine": ["nine"],
    "yes": ["yes"], "no": ["no"], "up": ["up"], "down": ["down"], "left": ["left"],
    "right": ["right"], "on": ["on"], "off": ["off"], "stop": ["stop"], "go": ["go"],
}  # fmt: skip

WINDOW_SECONDS = 4.0
TICK = 0.1  # seconds between the times that can be told

PIECES = sorted({(" " if i == 0 else "") + piece for pieces in WORDS.values() for i, piece in enumerate(pieces)})
END, START, SILENCE, UNTIMED = (len(PIECES) + i for i in range(4))
FIRST_TIME = UNTIMED + 1
SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", "<|nospeech|>", "<|notimestamps|>"]
TIMES = [f"<|{i * TICK:.2f}|>" for i in range(round(WINDOW_SECONDS / TICK) + 1)]
SIZE = FIRST_TIME + len(TIMES)


def encode(words: list[str]) -> list[int]:
    return [
        PIECES.index((" " if i == 0 else "") + piece) for word in words for i, piece in enumerate(WORDS[word])
    ]


def decode(tokens: list[int]) -> list[str]:
    return "".join(PIECES[token] for token in tokens if token < len(PIECES)).split()


def time(seconds: float) -> int:
    return FIRST_TIME + min(max(round(seconds / TICK), 0), len(TIMES) - 1)


def write(path: Path) -> None:
    """As a `tokenizer.json` of byte-level pieces, in which `Ġ` is a space."""
    added = [
        {"id": END + i, "content": content, "special": i < len(SPECIAL)} for i, content in enumerate(SPECIAL + TIMES)
    ]
    vocab = {piece.replace(" ", "Ġ"): i for i, piece in enumerate(PIECES)}
    tokenizer = {
        "version": "1.0",
        "added_tokens": added,
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    }
    path.write_text(json.dumps(tokenizer, ensure_ascii=False, indent=1) + "\n")
