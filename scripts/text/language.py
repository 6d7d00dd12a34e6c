"""A small language: sentences by a grammar, and a byte-pair vocabulary made of them."""

from __future__ import annotations

import collections
import json
import random
import re
from pathlib import Path

NAMES = ["Anna", "Ben", "Clara", "David", "Eva", "Felix"]
ANIMALS = ["cat", "dog", "horse", "bird", "mouse", "fox"]
COLOURS = ["red", "green", "blue", "white", "black", "brown"]
THINGS = ["ball", "boat", "hat", "stone", "lamp", "book"]
PLACES = ["garden", "kitchen", "river", "forest", "school", "market"]
NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def sentence(dice: random.Random) -> str:
    name, animal, colour, thing, place = (dice.choice(words) for words in (NAMES, ANIMALS, COLOURS, THINGS, PLACES))
    kind = dice.randrange(4)
    if kind == 0:
        # What is said of it later agrees with what was said first.
        return f"{name} has a {colour} {thing}. The {thing} of {name} is {colour}."
    if kind == 1:
        first = dice.randrange(len(NUMBERS) - 3)
        return f"{name} counts: {', '.join(NUMBERS[first : first + 4])}."
    if kind == 2:
        return f"The {colour} {animal} is in the {place}. In the {place} is a {colour} {animal}."
    return f"{name} sees a {animal} in the {place}, and the {animal} sees {name}."


def text(sentences: int, seed: int) -> str:
    dice = random.Random(seed)
    return " ".join(sentence(dice) for _ in range(sentences))


SPLIT = re.compile(r" ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+")


class Vocabulary:
    """Bytes, and pairs of pieces that are frequent, in the order in which they were joined."""

    def __init__(self, sample: str, pairs: int) -> None:
        words = collections.Counter(tuple(visible(word)) for word in SPLIT.findall(sample))
        self.pieces = sorted({character for byte in range(256) for character in visible_byte(byte)})
        self.merges: list[tuple[str, str]] = []
        for _ in range(pairs):
            counts: collections.Counter = collections.Counter()
            for word, count in words.items():
                for pair in zip(word, word[1:], strict=False):
                    counts[pair] += count
            if not counts:
                break
            pair = max(counts, key=lambda pair: (counts[pair], pair))
            self.merges.append(pair)
            self.pieces.append("".join(pair))
            words = collections.Counter({joined(word, pair): count for word, count in words.items()})
        self.number = {piece: i for i, piece in enumerate(self.pieces)}
        self.end = len(self.pieces)

    def __len__(self) -> int:
        return self.end + 1

    def encode(self, words: str) -> list[int]:
        tokens = []
        for word in SPLIT.findall(words):
            pieces = tuple(visible(word))
            for pair in self.merges:
                pieces = joined(pieces, pair)
            tokens += [self.number[piece] for piece in pieces]
        return tokens

    def decode(self, tokens: list[int]) -> str:
        back = {visible_byte(byte): byte for byte in range(256)}
        pieces = "".join(self.pieces[token] for token in tokens if token < self.end)
        return bytes(back[character] for character in pieces).decode(errors="replace")

    def write(self, path: Path) -> None:
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
        tokenizer = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {
                    "id": self.end, "content": "<|endoftext|>", "single_word": False, "lstrip": False, "rstrip": False,
                    "normalized": False, "special": True,
                }
            ],
            "normalizer": None,
            "pre_tokenizer": byte_level,
            "post_processor": None,
            "decoder": byte_level,
            "model": {
                "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": self.number,
                "merges": [" ".join(pair) for pair in self.merges],
            },
        }  # fmt: skip
        path.write_text(json.dumps(tokenizer, ensure_ascii=False, indent=0) + "\n")


def visible_byte(byte: int) -> str:
    """The character that stands for a byte in such vocabularies: itself if it can be seen."""
    seen = lambda b: 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b  # noqa: E731
    return chr(byte) if seen(byte) else chr(256 + sum(not seen(b) for b in range(byte)))


def visible(word: str) -> str:
    return "".join(visible_byte(byte) for byte in word.encode())


def joined(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    pieces: list[str] = []
    i = 0
    while i < len(word):
        if word[i : i + 2] == pair:
            pieces.append("".join(pair))
            i += 2
        else:
            pieces.append(word[i])
            i += 1
    return tuple(pieces)
