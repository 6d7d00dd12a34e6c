"""Holds what `coreml VERB --json` prints against docs/schemas: every verb, on models of every kind.

    python3 scripts/check_schemas.py COMMAND

A schema must also be able to fail: each document is checked again with a field left out and with one too many.
"""

import copy
import io
import json
import math
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from jsonschema import Draft202012Validator

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "tests/fixtures"
CLASSIFIER = FIXTURES / "models/EfficientNetLite0.mlpackage"
DETECTOR = FIXTURES / "drawn/detector.mlmodel"
COFFEE = f"image={FIXTURES / 'images/coffee.png'}"


class Checks:
    def __init__(self, command: str):
        self.command = command
        self.schemas = {}
        for path in sorted((ROOT / "docs/schemas").glob("*.schema.json")):
            schema = json.loads(path.read_text())
            Draft202012Validator.check_schema(schema)
            self.schemas[schema["properties"]["schema"]["const"]] = Draft202012Validator(schema)
        self.counts = dict.fromkeys(self.schemas, 0)
        self.faults: list[str] = []

    def run(self, *arguments: str | Path, stream: str = "stdout") -> str:
        """What the command says; it may fail, as comparisons do."""
        return getattr(subprocess.run([self.command, *map(str, arguments)], capture_output=True, text=True), stream)

    def check(self, kind: str, *arguments: str | Path, stream: str = "stdout") -> dict:
        return self.hold(kind, " ".join(map(str, arguments)), self.run(*arguments, stream=stream))

    def check_lines(self, kind: str, *arguments: str | Path) -> None:
        lines = self.run(*arguments).splitlines()
        told = " ".join(map(str, arguments))
        if len(lines) < 2:
            self.faults.append(f"{told}: prints {len(lines)} lines")
        for line in lines:
            self.hold(kind, told, line)

    def hold(self, kind: str, told: str, text: str) -> dict:
        try:
            document = json.loads(text)
        except ValueError:
            self.faults.append(f"{told}: prints no JSON: {text[:200]!r}")
            return {}
        schema = f"coreml-anywhere.{kind}/1"
        if document.get("schema") != schema:
            self.faults.append(f"{told}: is {document.get('schema')}, not {schema}")
            return document
        validator = self.schemas[schema]
        self.counts[schema] += 1
        for error in list(validator.iter_errors(document))[:3]:
            self.faults.append(f"{told}: {error.json_path}: {error.message[:300]}")
        for field in document:
            broken = copy.deepcopy(document)
            del broken[field]
            if field in validator.schema["required"] and validator.is_valid(broken):
                self.faults.append(f"{schema} admits a document without `{field}`")
        if validator.is_valid(document | {"surplus": 1}):
            self.faults.append(f"{schema} admits a field that it does not know")
        return document


def write_zeros(path: Path, features: list[dict]) -> bool:
    """An archive of NumPy's with zeros for each feature; whether all are arrays of single precision or of integers."""
    kinds = {"fp32": "<f4", "int32": "<i4"}
    with zipfile.ZipFile(path, "w") as archive:
        for feature in features:
            if feature["kind"] != "multi_array" or feature["dtype"] not in kinds:
                return False
            shape = "".join(f"{size}, " for size in feature["shape"])
            header = f"{{'descr': '{kinds[feature['dtype']]}', 'fortran_order': False, 'shape': ({shape}), }}"
            header += " " * (-(len(header) + 11) % 64) + "\n"
            array = io.BytesIO(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
            array.seek(0, io.SEEK_END)
            array.write(bytes(4 * math.prod(feature["shape"])))
            archive.writestr(f"{feature['name']}.npy", array.getvalue())
    return True


def golden_models() -> list[Path]:
    return sorted(path for path in (ROOT / "tests/golden").rglob("*.mlmodel") if path.parent.suffix == "")


def models() -> list[Path]:
    golden = golden_models()
    shapes = [path for path in golden if path.parent.name in ("interface", "package", "state", "image")]
    folders = [CLASSIFIER, FIXTURES / "models/FastViTT8F16.mlpackage", *FIXTURES.glob("*/*.mlmodelc")]
    return [*folders, *sorted((FIXTURES / "classic").glob("*.mlmodel")), *golden[::25], *shapes]


def main() -> int:
    checks = Checks(sys.argv[1])
    checks.check("doctor", "doctor", "--json")
    checks.check("ops", "ops", "--json")
    for model in models():
        checks.check("package", "inspect", model, "--json")
        checks.check("model-ops", "ops", model, "--json")
    for stage in ("program", "graph", "plan"):
        checks.check("stage", "inspect", CLASSIFIER, "--stage", stage, "--json")
    with tempfile.TemporaryDirectory() as scratch:
        checks.check("predictions", "run", CLASSIFIER, "--input", COFFEE, "--json")
        answers = Path(scratch) / "answers.npz"
        checks.check("predictions", "run", CLASSIFIER, "--input", COFFEE, "--json", "--output", answers)
        checks.check_lines("prediction", "run", CLASSIFIER, "--input", f"image={FIXTURES / 'images'}", "--json")
        pictures = f"image={FIXTURES / 'images/c*.png'}"
        checks.check_lines("prediction", "run", DETECTOR, "--input", pictures, "--json", "--output", answers)
        checks.check("predictions", "run", DETECTOR, "--input", COFFEE, "--json")
        checks.run("run", CLASSIFIER, "--input", COFFEE, "--output", answers)
        checks.check("comparison", "compare", CLASSIFIER, "--input", COFFEE, "--reference", answers, "--json")
        zeros = Path(scratch) / "zeros.npz"
        for model in [*golden_models()[::50], FIXTURES / "classic/boosted-two.mlmodel"]:
            interface = checks.check("package", "inspect", model, "--json")
            if model.parent.name != "classic":
                checks.check("comparison", "compare", model, "--plans", "--per-op", "--json")
            if write_zeros(zeros, interface["inputs"]):
                checks.check("predictions", "run", model, "--inputs", zeros, "--json")
        checks.check("bench", "bench", CLASSIFIER, "-n", "12", "--threads", "1,2", "--concurrency", "1,2", "--json")
        before = Path(scratch) / "before.json"
        before.write_text(checks.run("bench", CLASSIFIER, "-n", "140", "--json"))
        checks.check("bench", "bench", CLASSIFIER, "-n", "140", "--baseline", before, "--json")
        checks.check("profile", "bench", CLASSIFIER, "-n", "3", "--profile", "--json")
        checks.check("run", "validate", FIXTURES / "models/FastViTT8F16.mlpackage", "-n", "30", "--json")
        checks.check("error", "inspect", Path(scratch) / "nothing", "--json", stream="stderr")
        checks.check("error", "inspect", "--json", stream="stderr")
    unseen = [schema for schema, count in checks.counts.items() if count == 0]
    checks.faults += [f"{schema}: nothing was held against it" for schema in unseen]
    print("\n".join(f"{schema:32} {count:4}" for schema, count in checks.counts.items()))
    print("\n".join(checks.faults), file=sys.stderr)
    print(f"{sum(checks.counts.values())} documents, {len(checks.faults)} faults")
    return 1 if checks.faults else 0


if __name__ == "__main__":
    sys.exit(main())
