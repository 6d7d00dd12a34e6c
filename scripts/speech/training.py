"""Training, and reading a window with what was trained."""

from __future__ import annotations

import random
import time

import torch
from torch.nn import functional as F

from . import vocabulary
from .model import CONTEXT, LogMel, Recognizer
from .windows import HELD_OUT, TRAINED, Phrase, phrases, window

BATCH = 32
SPEED = 3e-3  # of the training at its fastest


def train(steps: int, spoken: int, seed: int) -> Recognizer:
    started = time.monotonic()
    bank = phrases(spoken, seed, TRAINED)
    print(f"{spoken} phrases spoken in {time.monotonic() - started:.0f} s", flush=True)
    torch.manual_seed(seed)
    dice = random.Random(seed + 1)
    model, mel = Recognizer(), LogMel()
    print(f"{sum(p.numel() for p in model.parameters())} weights", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=SPEED, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, SPEED, total_steps=steps, pct_start=0.15)
    for step in range(steps):
        samples, tokens = batch(dice, bank)
        heard, read = losses(model, smeared(mel(samples)), tokens)
        optimizer.zero_grad()
        (read + 0.3 * heard).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            seconds = time.monotonic() - started
            print(f"step {step + 1}: {read.item():.3f}, hint {heard.item():.3f}, {seconds:.0f} s", flush=True)
    return model.eval()


def batch(dice: random.Random, bank: list[Phrase]) -> tuple[torch.Tensor, list[list[int]]]:
    made = [window(dice, bank) for _ in range(BATCH)]
    return torch.stack([torch.from_numpy(samples) for samples, _ in made]), [tokens for _, tokens in made]


def smeared(mel: torch.Tensor) -> torch.Tensor:
    """Some bands and some moments left out, so that nothing is learnt by one of them alone."""
    mel = mel.clone()
    for row in mel:
        band, moment = random.randrange(70), random.randrange(380)
        row[band : band + random.randrange(10)] = 0
        row[:, moment : moment + random.randrange(15)] = 0
    return mel


def losses(model: Recognizer, mel: torch.Tensor, tokens: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """How badly the encoder alone tells the pieces, and the decoder the next token."""
    sound = model.encoder(mel)
    pieces = [[1 + token for token in row if token < len(vocabulary.PIECES)] for row in tokens]
    told = model.hint(sound).log_softmax(-1).transpose(0, 1)
    heard = F.ctc_loss(
        told,
        torch.tensor([piece for row in pieces for piece in row]),
        torch.full((len(tokens),), sound.shape[1]),
        torch.tensor([len(row) for row in pieces]),
        zero_infinity=True,
    )
    length = max(map(len, tokens)) + 1
    assert length < CONTEXT
    given = torch.full((len(tokens), length), vocabulary.END)
    wanted = torch.full((len(tokens), length), -100)
    for i, row in enumerate(tokens):
        given[i, : len(row) + 1] = torch.tensor([vocabulary.START, *row])
        wanted[i, : len(row) + 1] = torch.tensor([*row, vocabulary.END])
    logits = model.decoder(given, sound)
    return heard, F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=-100)


@torch.no_grad()
def read(model: Recognizer, samples: torch.Tensor) -> list[list[int]]:
    """The likeliest tokens of each window, one after another."""
    sound = model.encoder(LogMel()(samples))
    tokens = torch.full((len(samples), 1), vocabulary.START)
    for _ in range(CONTEXT - 1):
        following = model.decoder(tokens, sound)[:, -1].argmax(-1)
        tokens = torch.cat([tokens, following[:, None]], dim=1)
        if (tokens == vocabulary.END).any(1).all():
            break
    rows = [row[1:] for row in tokens.tolist()]
    return [row[: row.index(vocabulary.END)] if vocabulary.END in row else row for row in rows]


def distance(found: list[str], wanted: list[str]) -> int:
    """Words to put in, take out or replace."""
    row = list(range(len(wanted) + 1))
    for i, word in enumerate(found, 1):
        previous, row[0] = row[0], i
        for j, other in enumerate(wanted, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (word != other))
    return row[-1]


def word_errors(model: Recognizer, seed: int, batches: int) -> tuple[int, int]:
    """Of speakers that the training did not hear: wrong words, and all words."""
    bank, dice = phrases(300, seed, HELD_OUT), random.Random(seed)
    wrong = words = 0
    for _ in range(batches):
        samples, wanted = batch(dice, bank)
        for found, tokens in zip(read(model, samples), wanted, strict=True):
            wrong += distance(vocabulary.decode(found), vocabulary.decode(tokens))
            words += len(vocabulary.decode(tokens))
    return wrong, words
