#!/usr/bin/env python3
"""Makes tests/fixtures/speech: a small model of Whisper's structure that was trained on synthetic speech.

    python3 scripts/make_speech_model.py                 # about ten minutes on two cores
    python3 scripts/make_speech_model.py --steps 300     # a try: it hears badly

Writes AudioEncoder.mlmodelc, TextDecoder.mlmodelc and tokenizer.json as WhisperKit publishes them, speech.wav (speakers
that the training did not hear), speech.json with its words and times; and into target/speech five minutes of the same
kind, long.wav and long.txt, to measure with. Needs cargo: the packages are compiled by `coreml convert`.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
from pathlib import Path

import own_venv

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SEED = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "tests/fixtures/speech")
    parser.add_argument("--steps", type=int, default=2000, help="of the training")
    parser.add_argument("--weights", type=Path, help="keep the weights in this file, and train only if it is not there")
    arguments = parser.parse_args()

    import torch
    from speech import training, vocabulary
    from speech.model import Recognizer

    if arguments.weights and arguments.weights.is_file():
        model = Recognizer()
        model.load_state_dict(torch.load(arguments.weights))
        model.eval()
    else:
        model = training.train(arguments.steps, spoken=4000, seed=SEED)
        if arguments.weights:
            torch.save(model.state_dict(), arguments.weights)
    wrong, words = training.word_errors(model, seed=SEED + 2, batches=8)
    print(f"{wrong} of {words} words of speakers not heard before are wrong: {100 * wrong / words:.1f} %")

    shutil.rmtree(arguments.out, ignore_errors=True)
    arguments.out.mkdir(parents=True)
    vocabulary.write(arguments.out / "tokenizer.json")
    write_models(model, arguments.out)
    write_speech(arguments.out)


def write_models(model, out: Path) -> None:
    import coremltools as ct
    import numpy as np
    import torch
    from speech.model import CONTEXT, DECODER_LAYERS, FRAMES, MELS, WIDTH, AudioEncoder, TextDecoder

    def half(name: str, *shape: int):
        return ct.TensorType(name, shape, dtype=np.float16)

    def number(name: str):
        return ct.TensorType(name, (1,), dtype=np.int32)

    cache = (1, WIDTH * DECODER_LAYERS, 1, CONTEXT)
    parts = {
        "AudioEncoder": (
            AudioEncoder(model.encoder),
            [half("melspectrogram_features", 1, MELS, 1, FRAMES)],
            ["encoder_output_embeds"],
        ),
        "TextDecoder": (
            TextDecoder(model.decoder),
            [
                number("input_ids"),
                number("cache_length"),
                half("key_cache", *cache),
                half("value_cache", *cache),
                half("kv_cache_update_mask", 1, CONTEXT),
                half("encoder_output_embeds", 1, WIDTH, 1, FRAMES // 4),
                half("decoder_key_padding_mask", 1, CONTEXT),
            ],
            ["logits", "key_cache_updates", "value_cache_updates", "alignment_heads_weights"],
        ),
    }
    scratch = ROOT / "target/speech"
    scratch.mkdir(parents=True, exist_ok=True)
    for name, (module, inputs, outputs) in parts.items():
        numbers = ("input_ids", "cache_length")
        example = [torch.zeros(i.shape.shape, dtype=torch.int32 if i.name in numbers else torch.float32) for i in inputs]
        traced = torch.jit.trace(module.eval(), example)
        package = scratch / f"{name}.mlpackage"
        converted = ct.convert(
            traced,
            inputs=inputs,
            outputs=[ct.TensorType(output, dtype=np.float16) for output in outputs],
            minimum_deployment_target=ct.target.iOS16,
            compute_precision=ct.precision.FLOAT16,
        )
        converted.short_description = "Recognises twenty words of synthetic speech; made by scripts/make_speech_model.py"
        shutil.rmtree(package, ignore_errors=True)
        converted.save(str(package))
        subprocess.run(
            ["cargo", "run", "--quiet", "-p", "coreml-cli", "--", "convert", str(package), str(out / f"{name}.mlmodelc")],
            cwd=ROOT,
            check=True,
        )


def write_speech(out: Path) -> None:
    import torch
    from speech import sound
    from speech.model import LogMel
    from speech.windows import HELD_OUT, WINDOW, phrases

    samples, spoken = sound.speech(phrases(60, SEED + 3, HELD_OUT), random.Random(SEED + 3), 9.2)
    (out / "speech.wav").write_bytes(sound.mu_law_file(samples))
    # What a reader of the file has.
    samples = sound.expanded(sound.mu_law(samples))
    mel = LogMel()(torch.from_numpy(samples[:WINDOW]))
    dice = random.Random(SEED)
    places = [(dice.randrange(len(mel)), dice.randrange(mel.shape[1])) for _ in range(200)]
    features = ",\n  ".join(json.dumps([b, f, round(mel[b, f].item(), 5)]) for b, f in places)
    told = ",\n  ".join(json.dumps(phrase) for phrase in spoken)
    (out / "speech.json").write_text(f'{{"phrases": [\n  {told}],\n "features": [\n  {features}]}}\n')

    scratch = ROOT / "target/speech"
    samples, spoken = sound.speech(phrases(300, SEED + 4, HELD_OUT), random.Random(SEED + 4), 300)
    (scratch / "long.wav").write_bytes(sound.linear_file(samples))
    (scratch / "long.txt").write_text("\n".join(phrase["text"] for phrase in spoken) + "\n")


if __name__ == "__main__":
    own_venv.enter("examples-venv", HERE / "requirements-examples.txt")
    main()
