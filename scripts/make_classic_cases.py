#!/usr/bin/env python3
"""Makes `tests/fixtures/classic` again: small classic models and pipelines with inputs and the answers they must give.

    python3 scripts/make_classic_cases.py [--out tests/fixtures/classic]

Needs PyPI on the first run. Models are trained by scikit-learn and xgboost on seeded numbers and converted by coremltools;
the expected answers are those of the library that trained them. Pipelines that no converter writes are put together here,
and answered by NumPy. Two runs give the same bytes. The format is told in `tests/fixtures/classic/README.md`.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path
from typing import Any

from own_venv import ROOT, enter

ROWS = 5
NAMES = ["alpha", "beta", "gamma", "delta"]


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the classic models with known answers again.")
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "fixtures" / "classic", help="folder to write to")
    args = parser.parse_args()
    enter("classic-venv", ROOT / "scripts" / "requirements-classic.txt")
    warnings.filterwarnings("ignore")
    args.out.mkdir(parents=True, exist_ok=True)
    for old in [*args.out.glob("*.mlmodel"), *args.out.glob("*.npz")]:
        old.unlink()
    cases = [*trees(), *linear(), *machines(), *neighbors(), *features(), *mixed()]
    index = []
    for case in sorted(cases, key=lambda case: case["name"]):
        write(args.out, case)
        index.append({"name": case["name"], "types": types(case["spec"]), "tol": case["tol"]})
    (args.out / "index.json").write_text(json.dumps(index, indent=1) + "\n")
    print(f"{len(index)} models in {args.out}")
    return 0


def write(out: Path, case: dict[str, Any]) -> None:
    """The model, and an archive of its predictions whose files bear no date."""
    import io
    import zipfile

    import numpy as np

    (out / f"{case['name']}.mlmodel").write_bytes(case["spec"].SerializeToString(deterministic=True))
    with zipfile.ZipFile(out / f"{case['name']}.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for step, (inputs, outputs) in enumerate(case["predictions"]):
            for role, values in (("in", inputs), ("out", outputs)):
                for name, array in arrays(values).items():
                    buffer = io.BytesIO()
                    np.save(buffer, array)
                    entry = zipfile.ZipInfo(f"step{step}:{role}:{name}.npy")
                    archive.writestr(entry, buffer.getvalue(), zipfile.ZIP_DEFLATED)


def arrays(values: dict[str, Any]) -> dict[str, Any]:
    """Values as arrays; a dictionary is two."""
    import numpy as np

    found = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found[f"{name}.keys"] = np.array(list(value))
            found[f"{name}.values"] = np.array(list(value.values()), np.float64)
        else:
            found[name] = np.asarray(value)
    return found


def types(spec: Any) -> list[str]:
    """The type of a model and of all members of a pipeline."""
    kind = spec.WhichOneof("Type")
    held = getattr(spec, kind)
    pipeline = held if kind == "pipeline" else getattr(held, "pipeline", None)
    return [kind] + [name for member in (pipeline.models if pipeline else []) for name in types(member)]


def numbers(seed: int, rows: int, columns: int) -> Any:
    """Numbers that single precision holds."""
    import numpy as np

    return np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32).astype(np.float64)


def training(seed: int, classes: int) -> tuple[Any, Any]:
    """Rows of four features, and a class for each."""
    import numpy as np

    x = numbers(seed, 120, 4)
    scores = np.stack([x[:, 0], x[:, 1] - 0.2 * x[:, 0], x[:, 2] * x[:, 3]], 1)[:, :classes]
    return x, scores.argmax(1)


def convert(model: Any, *features: Any) -> Any:
    import coremltools as ct

    return ct.converters.sklearn.convert(model, *features).get_spec()


def case(name: str, spec: Any, predictions: list[tuple[dict, dict]], tol: float = 1e-6) -> dict[str, Any]:
    return {"name": name, "spec": spec, "predictions": predictions, "tol": tol}


def classified(spec: Any, model: Any, rows: Any, probable: bool = True) -> list[tuple[dict, dict]]:
    """What a classifier of scikit-learn says of some rows."""
    predictions = []
    for row in rows:
        label = model.predict([row])[0]
        answer = {spec.description.predictedFeatureName: label.item() if hasattr(label, "item") else str(label)}
        if probable:
            keys = [key.item() if hasattr(key, "item") else str(key) for key in model.classes_]
            p = model.predict_proba([row])[0]
            answer[spec.description.predictedProbabilitiesName] = dict(zip(keys, map(float, p)))
        predictions.append((given(spec, row), answer))
    return predictions


def given(spec: Any, row: Any) -> dict[str, Any]:
    """A row as the inputs of a model: one array, or a number for each column."""
    import numpy as np

    names = [feature.name for feature in spec.description.input]
    return {names[0]: row} if len(names) == 1 else dict(zip(names, map(np.float64, row)))


def estimated(spec: Any, model: Any, rows: Any) -> list[tuple[dict, dict]]:
    name = spec.description.predictedFeatureName
    return [(given(spec, row), {name: float(model.predict([row])[0])}) for row in rows]


def trees() -> list[dict[str, Any]]:
    import coremltools as ct
    import numpy as np
    import xgboost
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
    from sklearn.tree import DecisionTreeClassifier

    rows = numbers(1, ROWS, 4)
    x, three = training(2, 3)
    words = np.array(["red", "green", "blue"])[three]
    found = []
    tree = DecisionTreeClassifier(max_depth=4, random_state=0).fit(x, words)
    spec = convert(tree)
    found.append(case("tree-three-words", spec, classified(spec, tree, rows)))
    x, two = training(3, 2)
    forest = RandomForestClassifier(n_estimators=5, max_depth=3, random_state=0).fit(x, two)
    spec = convert(forest, NAMES, "target")
    found.append(case("forest-two-named-columns", spec, classified(spec, forest, rows)))
    boosted = GradientBoostingClassifier(n_estimators=5, max_depth=2, random_state=0).fit(x, two)
    spec = convert(boosted)
    found.append(case("boosted-two", spec, classified(spec, boosted, rows)))
    y = x[:, 0] * x[:, 1] + x[:, 2]
    forest = RandomForestRegressor(n_estimators=4, max_depth=4, random_state=0).fit(x, y)
    spec = convert(forest)
    found.append(case("forest-number", spec, estimated(spec, forest, rows)))
    holes = x.copy()
    holes[::3, 1] = np.nan
    boosted = xgboost.XGBRegressor(n_estimators=4, max_depth=3, base_score=0.5).fit(holes, y)
    rows = rows.copy()
    rows[::2, 1] = np.nan
    # The converter gives the booster names, without which it answers no more.
    answers = [{"target": float(answer)} for answer in boosted.predict(rows)]
    spec = ct.converters.xgboost.convert(boosted.get_booster(), NAMES, "target").get_spec()
    inputs = [given(spec, row) for row in rows]
    found.append(case("boosted-with-holes", spec, list(zip(inputs, answers)), 1e-5))
    return found


def linear() -> list[dict[str, Any]]:
    import numpy as np
    from sklearn.linear_model import LinearRegression, LogisticRegression

    rows = numbers(4, ROWS, 4)
    x, two = training(5, 2)
    found = []
    logistic = LogisticRegression(multi_class="ovr").fit(x, np.array([1 << 60, -7])[two])
    spec = convert(logistic)
    found.append(case("logistic-large-labels", spec, classified(spec, logistic, rows)))
    x, three = training(6, 3)
    several = LogisticRegression(multi_class="ovr", solver="liblinear").fit(x, three)
    spec = convert(several)
    found.append(case("logistic-one-against-the-rest", spec, classified(spec, several, rows)))
    line = LinearRegression().fit(x, x @ [1.0, -2.0, 0.5, 0.25] + 3)
    spec = convert(line, NAMES, "price")
    found.append(case("line-named-columns", spec, estimated(spec, line, rows)))
    return found


def machines() -> list[dict[str, Any]]:
    from sklearn.svm import SVC, SVR

    rows = numbers(7, ROWS, 4)
    x, three = training(8, 3)
    found = []
    votes = SVC(kernel="poly", degree=3, gamma=0.5, coef0=1.0).fit(x, three)
    spec = convert(votes)
    found.append(case("vectors-three-by-votes", spec, classified(spec, votes, rows, probable=False)))
    likely = SVC(kernel="rbf", gamma=0.3, probability=True, random_state=0).fit(x, three)
    spec = convert(likely)
    # Where votes and probabilities disagree, either label is right.
    agreed = [row for row in rows if likely.predict([row])[0] == likely.predict_proba([row])[0].argmax()]
    found.append(case("vectors-three-probable", spec, classified(spec, likely, agreed), 6e-3))
    number = SVR(kernel="sigmoid", gamma=0.1, coef0=0.2).fit(x, x[:, 0])
    spec = convert(number)
    found.append(case("vectors-number", spec, estimated(spec, number, rows)))
    return found


def neighbors() -> list[dict[str, Any]]:
    import coremltools as ct
    import numpy as np
    from sklearn.neighbors import KNeighborsClassifier

    x, three = training(9, 3)
    x, words = x[:40], np.array(["red", "green", "blue"])[three][:40]
    model = KNeighborsClassifier(5).fit(x, words)
    builder = ct.models.nearest_neighbors.KNearestNeighborsClassifierBuilder(
        input_name="x", output_name="label", number_of_dimensions=4, default_class_label="none", k=5
    )
    builder.add_samples(x.astype(np.float32), list(words))
    # Rows without a tie among the votes, which nobody promises to break in one way.
    votes = [(row, np.sort(model.predict_proba([row])[0])) for row in numbers(10, 4 * ROWS, 4)]
    rows = [row for row, votes in votes if votes[-1] > votes[-2]][:ROWS]
    predictions = classified(builder.spec, model, rows)
    return [case("neighbors-five", builder.spec, [({"x": np.float32(i["x"])}, o) for i, o in predictions])]


def features() -> list[dict[str, Any]]:
    import numpy as np
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer, OneHotEncoder, StandardScaler
    from sklearn.tree import DecisionTreeRegressor

    rows = numbers(11, ROWS, 4)
    x, two = training(12, 2)
    found = []
    scaled = make_pipeline(StandardScaler(), LogisticRegression(multi_class="ovr")).fit(x, two)
    spec = convert(scaled, NAMES, "target")
    found.append(case("pipeline-scaled", spec, classified(spec, scaled, rows)))
    normal = make_pipeline(Normalizer("l2"), LogisticRegression(multi_class="ovr")).fit(x, two)
    spec = convert(normal, NAMES, "target")
    found.append(case("pipeline-normalized", spec, classified(spec, normal, rows)))
    holes = x.copy()
    holes[::3, 2] = np.nan
    imputed = make_pipeline(SimpleImputer(), DecisionTreeRegressor(max_depth=4, random_state=0)).fit(holes, x[:, 0])
    spec = convert(imputed, NAMES, "target")
    gaps = rows.copy()
    gaps[1::2, 2] = np.nan
    found.append(case("pipeline-imputed", spec, estimated(spec, imputed, gaps)))
    words = [{"good": 2.0, "day": 1.0}, {"bad": 1.0}, {"bad": 2.0, "day": 1.0}, {"good": 1.0}]
    vectors = DictVectorizer().fit(words)
    feeling = LogisticRegression(multi_class="ovr").fit(vectors.transform(words), ["happy", "sad", "sad", "happy"])
    spec = convert(make_pipeline(vectors, feeling), "words", "feeling")
    predictions = []
    for text in [{"good": 1.0, "day": 3.0}, {"bad": 1.0, "unknown": 4.0}, {"day": 1.0}]:
        row = vectors.transform([text])
        p = dict(zip(map(str, feeling.classes_), map(float, feeling.predict_proba(row)[0])))
        answer = {"feeling": str(feeling.predict(row)[0]), spec.description.predictedProbabilitiesName: p}
        predictions.append(({"words": text}, answer))
    found.append(case("pipeline-words", spec, predictions))
    kinds = np.array([[0, 2], [1, 0], [2, 1], [0, 0]], np.float64)
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(kinds)
    spec = convert(encoder, "kinds", "encoded")
    known = [np.array(row, np.float64) for row in ([0, 1], [2, 2], [1, 0])]
    found.append(case("pipeline-encoded", spec, [({"kinds": r}, {"encoded": encoder.transform([r])[0]}) for r in known]))
    return found


def array(feature: Any, name: str, shape: list[int], dtype: int) -> None:
    feature.name = name
    feature.type.multiArrayType.shape.extend(shape)
    feature.type.multiArrayType.dataType = dtype


def mixed() -> list[dict[str, Any]]:
    """Programs and neural networks in one pipeline with classic models, which no converter writes."""
    return [program_and_trees(), network_and_suppression()]


def program_and_trees() -> dict[str, Any]:
    """A program that mixes columns, a scaler, and trees that see what the scaler gives."""
    import coremltools as ct
    import numpy as np
    from coremltools.converters.mil import Builder as mb
    from coremltools.proto import Model_pb2
    from sklearn.tree import DecisionTreeRegressor

    mixing = numbers(13, 2, 4).astype(np.float32)

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 4))], opset_version=ct.target.iOS15)
    def program(row):  # noqa: ANN001, ANN202
        return mb.linear(x=row, weight=mixing, name="mixed")

    converted = ct.convert(
        program, convert_to="mlprogram", compute_precision=ct.precision.FLOAT32, minimum_deployment_target=ct.target.iOS15
    )
    pipeline = Model_pb2.Model(specificationVersion=6)
    pipeline.pipelineRegressor.pipeline.models.append(inlined(converted))
    scaler = pipeline.pipelineRegressor.pipeline.models.add(specificationVersion=1)
    array(scaler.description.input.add(), "mixed", [2], ct.proto.FeatureTypes_pb2.ArrayFeatureType.DOUBLE)
    array(scaler.description.output.add(), "mixed", [2], ct.proto.FeatureTypes_pb2.ArrayFeatureType.DOUBLE)
    scaler.scaler.scaleValue.extend([2.0, 0.5])
    scaler.scaler.shiftValue.append(0.25)
    x = numbers(14, 80, 4)
    seen = (x @ mixing.T.astype(np.float64) + 0.25) * [2.0, 0.5]
    tree = DecisionTreeRegressor(max_depth=3, random_state=0).fit(seen, x[:, 0])
    trees = convert(tree, "mixed", "y")
    pipeline.pipelineRegressor.pipeline.models.append(trees)
    array(pipeline.description.input.add(), "row", [1, 4], ct.proto.FeatureTypes_pb2.ArrayFeatureType.FLOAT32)
    pipeline.description.output.add().CopyFrom(trees.description.output[0])
    pipeline.description.predictedFeatureName = "y"
    predictions = []
    for row in numbers(15, ROWS, 4).astype(np.float32):
        mixed = (mixing.astype(np.float64) @ row + 0.25) * [2.0, 0.5]
        predictions.append(({"row": row[None]}, {"y": float(tree.predict([mixed])[0])}))
    return case("pipeline-program-and-tree", pipeline, predictions, 1e-5)


def inlined(model: Any) -> Any:
    """The specification of a program whose weights are small enough to be in it."""
    spec = model.get_spec()
    text = str(spec.mlProgram)
    assert "blobFileValue" not in text, "the weights are in a file of their own"
    return spec


def network_and_suppression() -> dict[str, Any]:
    """A neural network that gives scores and boxes, and the suppression that detectors end with."""
    import coremltools as ct
    import numpy as np
    from coremltools.models.neural_network import NeuralNetworkBuilder
    from coremltools.proto import Model_pb2

    double = ct.proto.FeatureTypes_pb2.ArrayFeatureType.DOUBLE
    single = ct.proto.FeatureTypes_pb2.ArrayFeatureType.FLOAT32
    builder = NeuralNetworkBuilder(
        [("raw", ct.models.datatypes.Array(6, 2)), ("places", ct.models.datatypes.Array(6, 4))],
        [("scores", ct.models.datatypes.Array(6, 2)), ("boxes", ct.models.datatypes.Array(6, 4))],
        disable_rank5_shape_mapping=True,
    )
    builder.add_activation("sigmoid", "SIGMOID", "raw", "scores")
    builder.add_activation("same", "LINEAR", "places", "boxes", [1.0, 0.5])
    pipeline = Model_pb2.Model(specificationVersion=5)
    pipeline.pipeline.models.append(builder.spec)
    suppression = pipeline.pipeline.models.add(specificationVersion=3)
    model = suppression.nonMaximumSuppression
    model.confidenceInputFeatureName, model.coordinatesInputFeatureName = "scores", "boxes"
    model.confidenceOutputFeatureName, model.coordinatesOutputFeatureName = "confidence", "coordinates"
    model.iouThresholdInputFeatureName = "overlap"
    model.iouThreshold, model.confidenceThreshold = 0.4, 0.45
    model.pickTop.perClass = True
    for place in (suppression.description, pipeline.description):
        for name, width in (("confidence", 2), ("coordinates", 4)):
            feature = place.output.add()
            array(feature, name, [], double)
            for lower, upper in ((2, 3), (width, width)):
                size = feature.type.multiArrayType.shapeRange.sizeRanges.add()
                size.lowerBound, size.upperBound = lower, upper
    array(suppression.description.input.add(), "scores", [6, 2], double)
    array(suppression.description.input.add(), "boxes", [6, 4], double)
    array(pipeline.description.input.add(), "raw", [6, 2], single)
    array(pipeline.description.input.add(), "places", [6, 4], single)
    overlap = pipeline.description.input.add(name="overlap")
    overlap.type.doubleType.SetInParent()
    overlap.type.isOptional = True
    predictions = []
    for step in range(ROWS):
        raw = numbers(16 + step, 6, 2).astype(np.float32)
        places = (np.abs(numbers(30 + step, 6, 4)) + [0, 0, 1, 1]).astype(np.float32)
        inputs = {"raw": raw, "places": places}
        threshold = 0.4
        if step % 2:
            inputs["overlap"] = np.float64(0.1)
            threshold = 0.1
        scores, boxes = 1 / (1 + np.exp(-raw.astype(np.float64))), places.astype(np.float64) + 0.5
        kept = suppress(scores, boxes, threshold, 0.45)[:3]
        answer = {"confidence": scores[kept], "coordinates": boxes[kept]}
        missing = max(0, 2 - len(kept))
        answer = {name: np.pad(value, ((0, missing), (0, 0))) for name, value in answer.items()}
        predictions.append((inputs, answer))
    return case("pipeline-network-and-suppression", pipeline, predictions)


def suppress(scores: Any, boxes: Any, overlap: float, least: float) -> list[int]:
    """The boxes that are kept, best first, looked at one by one."""
    kept: list[int] = []
    for box in sorted(range(len(scores)), key=lambda box: -scores[box].max()):
        if scores[box].max() < least:
            continue
        same = [other for other in kept if scores[other].argmax() == scores[box].argmax()]
        if all(shared(boxes[box], boxes[other]) <= overlap for other in same):
            kept.append(box)
    return kept


def shared(a: Any, b: Any) -> float:
    """How much of two boxes' area both have."""
    side = lambda axis: max(  # noqa: E731
        0.0, min(a[axis] + a[axis + 2] / 2, b[axis] + b[axis + 2] / 2) - max(a[axis] - a[axis + 2] / 2, b[axis] - b[axis + 2] / 2)
    )
    both = side(0) * side(1)
    return both / (a[2] * a[3] + b[2] * b[3] - both)


if __name__ == "__main__":
    sys.exit(main())
