#!/usr/bin/env python3
"""Makes tests/fixtures/text: a small model of Llama's structure with states, trained on sentences of a grammar.

    python3 scripts/make_text_model.py                   # two minutes on two cores

Writes text.mlmodelc, tokenizer.json, and text.json with prompts and what torch continues them with. Needs cargo: the package
is compiled by `coreml convert`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import time
from pathlib import Path

import own_venv

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SEED = 1
SURE = 0.001  # logits by another processor differ by a hundredth of it
PROMPTS = ["Anna has a green boat. The boat of Anna", "Ben counts: two, three", "The white fox is in the forest. In"]

# How published vocabularies cut text into words; `None` is GPT-2's way, which ByteLevel has built in.
PATTERNS = {
    "GPT-2": None,
    "Llama 3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    "Qwen": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
TEXTS = [
    "Anna has a green boat.", "  two  blanks   three ", "it's we'll I'VE don't 'tis o'clock'", "12345 and 1,234.5", " 007",
    "lines\n\n  more\r\nand \t tabs\n", "Grüße, 東京 и Ελλάδα!", "a_b-c (d) [e] -- ...\n!?", "?!\n\n", "\u00a0no\u3000break",
    "<|endoftext|>the end<|endoftext|>", "", " ", "\n", "x²½ Ⅷ", "emoji 👩‍🚀🎉 ok", "'S 'Ll 're", "tab\tword .word\t.",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "tests/fixtures/text")
    parser.add_argument("--steps", type=int, default=600, help="of the training")
    arguments = parser.parse_args()

    import torch
    from text import language
    from text.model import Network

    torch.manual_seed(SEED)
    sample = language.text(20_000, SEED)
    vocabulary = language.Vocabulary(sample[:100_000], 120)
    tokens = torch.tensor(vocabulary.encode(sample))
    network = Network(len(vocabulary))
    print(f"{len(tokens)} tokens of {len(vocabulary)}, {sum(p.numel() for p in network.parameters())} weights", flush=True)
    train(network, tokens, arguments.steps)

    shutil.rmtree(arguments.out, ignore_errors=True)
    arguments.out.mkdir(parents=True)
    vocabulary.write(arguments.out / "tokenizer.json")
    write_model(network, arguments.out)
    told = [continued(network, vocabulary, prompt, 40) for prompt in PROMPTS]
    for prompt, answer in zip(PROMPTS, told, strict=True):
        print(prompt, "|", answer["text"])
    patterns = [cut(arguments.out / "tokenizer.json", name, pattern) for name, pattern in PATTERNS.items()]
    lines = [f'{{"continued": {json.dumps(told)},', f' "patterns": {json.dumps(patterns)}}}']
    (arguments.out / "text.json").write_text("\n".join(lines) + "\n")


def train(network, tokens, steps: int) -> None:
    import torch
    from torch.nn import functional as F

    started = time.monotonic()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    dice = torch.Generator().manual_seed(SEED)
    for step in range(steps):
        begins = torch.randint(len(tokens) - 129, (16,), generator=dice)
        rows = torch.stack([tokens[begin : begin + 129] for begin in begins])
        loss = F.cross_entropy(network(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1}: {loss.item():.3f}, {time.monotonic() - started:.0f} s", flush=True)
    network.eval()


def continued(network, vocabulary, prompt: str, count: int) -> dict:
    """The likeliest tokens behind the prompt, up to one that rounding could replace."""
    import torch

    tokens = vocabulary.encode(prompt)
    found: list[int] = []
    with torch.no_grad():
        for _ in range(count):
            logits = network(torch.tensor([tokens + found]))[0, -1]
            best, second = logits.topk(2).values.tolist()
            if best - second < SURE:
                break
            found.append(int(logits.argmax()))
    return {"prompt": prompt, "prompt_tokens": tokens, "tokens": found, "text": vocabulary.decode(found)}


def cut(path: Path, name: str, pattern: str | None) -> dict:
    """What the package `tokenizers` makes of the texts with this pattern."""
    from tokenizers import Tokenizer

    vocabulary = json.loads(path.read_text())
    if pattern is not None:
        split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        level = {**vocabulary["pre_tokenizer"], "use_regex": False}
        vocabulary["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, level]}
    tokenizer = Tokenizer.from_str(json.dumps(vocabulary))
    cases = [{"text": text, "tokens": tokenizer.encode(text).ids} for text in TEXTS]
    return {"name": name, "pre_tokenizer": vocabulary["pre_tokenizer"], "cases": cases}


def write_model(network, out: Path) -> None:
    import coremltools as ct
    import numpy as np
    import torch
    from text.model import CONTEXT, HEAD, KEY_HEADS, LAYERS, Stateful

    module = Stateful(network).eval()
    traced = torch.jit.trace(module, (torch.zeros(1, 3, dtype=torch.int32), torch.zeros(1, 1, 3, 7)), check_trace=False)
    new, every = (ct.RangeDim(lower_bound=1, upper_bound=CONTEXT, default=1) for _ in range(2))
    state = (LAYERS, 1, KEY_HEADS, CONTEXT, HEAD)
    converted = ct.convert(
        traced,
        inputs=[
            ct.TensorType("inputIds", (1, new), dtype=np.int32),
            ct.TensorType("causalMask", (1, 1, new, every), dtype=np.float16),
        ],
        outputs=[ct.TensorType("logits", dtype=np.float16)],
        states=[ct.StateType(ct.TensorType(shape=state, dtype=np.float16), name) for name in ("keyCache", "valueCache")],
        minimum_deployment_target=ct.target.iOS18,
        compute_precision=ct.precision.FLOAT16,
        skip_model_load=True,
    )
    converted.short_description = "Continues sentences of a small grammar; made by scripts/make_text_model.py"
    scratch = ROOT / "target/text"
    scratch.mkdir(parents=True, exist_ok=True)
    package = scratch / "text.mlpackage"
    shutil.rmtree(package, ignore_errors=True)
    converted.save(str(package))
    subprocess.run(
        ["cargo", "run", "--quiet", "-p", "coreml-cli", "--", "convert", str(package), str(out / "text.mlmodelc")],
        cwd=ROOT,
        check=True,
    )


if __name__ == "__main__":
    own_venv.enter("examples-venv", HERE / "requirements-examples.txt")
    main()
