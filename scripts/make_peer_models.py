#!/usr/bin/env python3
"""Makes the models that `peers.py` measures: a Core ML package, ONNX and TorchScript twins, inputs, answers.

    python3 scripts/make_peer_models.py [--only resnet18,unet] [--out target/peer-models]

Needs PyPI on the first run and shares the environment of `make_fixtures.py`. Nothing is downloaded but packages: the
weights are seeded, and settled on photographs so that no activation dies out or leaves f16's range. `MODELS` is the table; one
row is one model, built in `peer_model_builders.py`. For a row NAME the folder then holds

    NAME.mlpackage    ML Program in f16 that takes and gives f32 arrays (the two fixtures have theirs already)
    NAME.onnx, .pt    the f32 twins: ONNX opset 17, frozen TorchScript
    NAME.coreml.npz   inputs by the package's feature names; also NAME.coreml.STEP.npz if the model has a cache
    NAME.twin.npz     inputs by the twins' names, in the twins' order
    NAME.torch.npz    `answer`, PyTorch's f32 output (the last step's if there are several)
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from own_venv import ROOT, enter

if TYPE_CHECKING:
    import numpy
    import torch

OUT = ROOT / "target" / "peer-models"
ONNX_OPSET = 17
CHECKED_STEPS = 6  # of a decoder, from an empty cache


@dataclass(frozen=True)
class Model:
    """One row: what peers.py must know, and the builder (a function of `peer_model_builders.py`) with its arguments."""

    name: str
    builder: str
    arguments: tuple[object, ...] = ()
    target: str = "iOS17"  # the package's minimum deployment target, which decides its operations
    fixture: bool = False  # the package is the one in tests/fixtures: an image classifier, answers are probabilities
    caches: int = 0  # the twins' trailing inputs and outputs that are carried from step to step; states in the package
    iterations: int = 20  # timed predictions in a round: about half a second of them

    @property
    def decoder(self) -> bool:
        """Whether one prediction makes one token."""
        return self.caches > 0

    @property
    def output(self) -> str:
        """The name of the output that is compared."""
        return "classLabel_probs" if self.fixture else "y"


MODELS = [
    Model("FastViTT8F16", "fixture", ("FastViTT8F16",), fixture=True, iterations=40),
    Model("EfficientNetLite0", "fixture", ("EfficientNetLite0",), fixture=True, iterations=60),
    Model("MobileNetV2", "timm_classifier", ("mobilenetv2_100", 224), iterations=60),
    Model("MobileNetV3Large", "timm_classifier", ("mobilenetv3_large_100", 224), iterations=60),
    Model("ResNet18", "timm_classifier", ("resnet18", 224), iterations=25),
    Model("ResNet50", "timm_classifier", ("resnet50", 224), iterations=12),
    Model("ConvNeXtTiny", "timm_classifier", ("convnext_tiny", 224), iterations=10),
    Model("MobileViTS", "timm_classifier", ("mobilevit_s", 256, True), iterations=15),
    Model("ViTTiny", "timm_classifier", ("vit_tiny_patch16_224", 224, True), iterations=20),
    Model("MiniLM32", "bert", (32,), iterations=40),
    Model("MiniLM128", "bert", (128,), iterations=15),
    Model("UNet256", "unet", (256,), iterations=8),
    Model("LSTM64", "lstm", (64,), iterations=60),
    Model("LlamaSmall", "llama", (), target="iOS18", caches=2, iterations=64),
]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Make the models that peers.py measures.")
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write to (default target/peer-models)")
    parser.add_argument("--only", help="a comma list of model names")
    args = parser.parse_args()
    known = [model.name for model in MODELS]
    args.only = args.only.split(",") if args.only else known
    unknown = [name for name in args.only if name not in known]
    if unknown:
        parser.error(f"--only takes {','.join(known)}, not {','.join(unknown)}")
    return args


def write_package(model: Model, built: Built, path: Path) -> None:
    """Converts the traced module to an f16 ML Program; caches become states."""
    import coremltools as ct
    import numpy as np
    import torch

    example = tuple(torch.tensor(array) for array in built.inputs.values())
    traced = torch.jit.trace(built.stateful or built.module, example, check_trace=False)
    options = {}
    if built.stateful:
        options["states"] = [
            ct.StateType(wrapped_type=ct.TensorType(shape=tuple(buffer.shape), dtype=np.float16), name=name)
            for name, buffer in built.stateful.named_buffers()
            if name in built.states
        ]
    package = ct.convert(
        traced,
        inputs=[ct.TensorType(name=name, shape=a.shape, dtype=a.dtype) for name, a in built.inputs.items()],
        outputs=[ct.TensorType(name=model.output, dtype=np.float32)],
        minimum_deployment_target=ct.target[model.target],
        compute_precision=ct.precision.FLOAT16,
        skip_model_load=True,
        **options,
    )
    package.short_description, package.license = "seeded, untrained weights", "MIT OR Apache-2.0"
    if path.exists():
        shutil.rmtree(path)
    package.save(str(path))


def write_twins(model: Model, built: Built, folder: Path) -> None:
    """Exports the module to ONNX and to frozen TorchScript."""
    import torch

    example = tuple(torch.tensor(array) for array in built.twin_inputs.values())
    torch.onnx.export(
        built.module,
        example,
        str(folder / f"{model.name}.onnx"),
        input_names=list(built.twin_inputs),
        output_names=["y", *(f"{name}_out" for name in list(built.twin_inputs)[-model.caches :] if model.caches)],
        opset_version=ONNX_OPSET,
        dynamo=False,
    )
    traced = torch.jit.trace(built.module, example, check_trace=False)
    torch.jit.freeze(traced.eval()).save(str(folder / f"{model.name}.pt"))


def torch_answer(model: Model, built: Built) -> numpy.ndarray:
    """PyTorch's answer; of a model with caches, after CHECKED_STEPS steps."""
    import torch

    tensors = [torch.tensor(array) for array in built.twin_inputs.values()]
    with torch.no_grad():
        if not model.caches:
            answer = built.module(*tensors)
        else:
            for step in built.steps:
                inputs = [torch.tensor(array) for array in step.values()]
                answer, *tensors[-model.caches :] = built.module(*inputs, *tensors[-model.caches :])
    return (torch.softmax(answer, dim=1) if model.fixture else answer).numpy()


def write(model: Model, folder: Path) -> None:
    """Everything of one row. Raises ValueError if the weights make answers that prove nothing."""
    import numpy as np
    import peer_model_builders

    built = getattr(peer_model_builders, model.builder)(*model.arguments)
    write_twins(model, built, folder)
    np.savez(folder / f"{model.name}.coreml.npz", **built.inputs)
    for number, step in enumerate(built.steps):
        np.savez(folder / f"{model.name}.coreml.{number}.npz", **step)
    np.savez(folder / f"{model.name}.twin.npz", **built.twin_inputs)
    answer = torch_answer(model, built)
    if not np.isfinite(answer).all() or answer.std() < 1e-3 * np.abs(answer).max():
        raise ValueError(f"{model.name}: the answer is constant or not finite")
    np.savez(folder / f"{model.name}.torch.npz", answer=answer)
    if not model.fixture:
        write_package(model, built, folder / f"{model.name}.mlpackage")
    parameters = sum(parameter.numel() for parameter in built.module.parameters())
    print(f"  {model.name:18} {parameters / 1e6:6.2f} M parameters, answer {answer.shape} spread {answer.std():.3f}")


def main(args: argparse.Namespace) -> int:
    folder: Path = args.out.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for model in MODELS:
        if model.name in args.only:
            write(model, folder)
    print(f"wrote {folder}")
    return 0


if __name__ == "__main__":
    arguments = parse_arguments()
    enter("fixtures-venv", ROOT / "scripts" / "requirements-fixtures.txt")
    from peer_model_builders import Built

    sys.exit(main(arguments))
