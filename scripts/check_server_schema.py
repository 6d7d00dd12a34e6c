"""Requests that schemathesis makes of the protocol's OpenAPI document, to a running `coreml serve`.

Three kinds: right ones and wrong ones by the document as it is, and right ones for the models that are there, which must be
answered with 200. For all of them: no 5xx but for a deadline that the request asked for itself, no hang, statuses,
content types and bodies as the document says, and nothing that the document forbids is taken.
"""

from __future__ import annotations

import copy
import json
import time
from collections import Counter
from pathlib import Path

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

DOCUMENT = Path(__file__).resolve().parent.parent / "crates/coreml-server/openapi.json"
# Requests for an operation and a kind: most to the one that reads most.
OF_INFER, OF_FITTING, OF_OTHERS = 200, 500, 30
# A request is a hang when it takes longer, however busy the machine is.
PATIENCE = 30
CONFORMS = [content_type_conformance, response_headers_conformance, response_schema_conformance, status_code_conformance]


def short(schema: object) -> None:
    """Bounds what is made: long lists and texts take most of the time, and find nothing more."""
    if isinstance(schema, dict):
        if schema.get("type") == "array":
            schema.setdefault("maxItems", 4)
        if schema.get("type") == "object":
            schema.setdefault("maxProperties", max(4, len(schema.get("properties", {}))))
        if schema.get("type") == "string" and "pattern" not in schema:
            schema.setdefault("maxLength", 12)
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else []:
        short(inner)


def about(document: dict, models: list[str], spare: str) -> dict:
    """The document with the names of models that are there; clients load and unload `spare` alone."""
    document = copy.deepcopy(document)
    for name in ("Parameters", "Data", "InputTensor", "RequestedOutput", "InferenceRequest"):
        short(document["components"]["schemas"][name])
    for path, item in document["paths"].items():
        names = [spare, "none"] if path.startswith("/v2/repository") else [*models, "none"]
        for position, parameter in enumerate(item.get("parameters", [])):
            if parameter["$ref"].endswith("/model"):
                item["parameters"][position] = {"name": "model", "in": "path", "required": True, "schema": {"enum": names}}
            else:
                item["parameters"][position] = {"name": "version", "in": "path", "required": True, "schema": {"enum": ["1", "2", "x"]}}
    return document


def fitting(document: dict, model: str) -> dict:
    """The document with requests that `model` must answer: `x` of [1, 4] and `y`."""
    document = about(document, [model], model)
    document["paths"] = {path: item for path, item in document["paths"].items() if path.endswith("/infer")}
    for item in document["paths"].values():
        for parameter in item["parameters"]:
            parameter["schema"] = {"const": model if parameter["name"] == "model" else "1"}
    schemas = document["components"]["schemas"]
    number = {"type": "number", "minimum": -1e6, "maximum": 1e6}
    row = {"type": "array", "items": number, "minItems": 4, "maxItems": 4}
    schemas["InputTensor"]["properties"] = {
        "name": {"const": "x"},
        "shape": {"const": [1, 4]},
        "datatype": {"enum": ["FP32", "FP64"]},
        "data": {"anyOf": [row, {"type": "array", "items": row, "minItems": 1, "maxItems": 1}]},
    }
    schemas["InputTensor"] |= {"required": ["name", "shape", "datatype", "data"], "additionalProperties": False}
    schemas["RequestedOutput"]["properties"]["name"] = {"const": "y"}
    request = schemas["InferenceRequest"]["properties"]
    request["inputs"] |= {"minItems": 1, "maxItems": 1}
    request["outputs"] |= {"maxItems": 1}
    request["parameters"]["properties"]["timeout"]["minimum"] = PATIENCE * 1_000_000
    return document


class Asked:
    """What was sent, and what came of it."""

    def __init__(self, address: str):
        self.url = f"http://{address}"
        self.session = requests.Session()
        self.statuses: Counter[int] = Counter()
        self.slowest = 0.0

    def ask(self, case, checks: list, must_be: int | None) -> None:
        start = time.monotonic()
        response = case.call(base_url=self.url, session=self.session, timeout=PATIENCE)
        self.slowest = max(self.slowest, time.monotonic() - start)
        self.statuses[response.status_code] += 1
        if response.status_code != 504 or not told_timeout(case.body):
            checks = [not_a_server_error, *checks]
        case.validate_response(response, checks=checks)
        if must_be is not None and response.status_code != must_be:
            raise AssertionError(f"{response.status_code} in place of {must_be}: {case.as_curl_command()}: {response.text}")

    def all(self, document: dict, mode: GenerationMode, checks: list, must_be: int | None = None) -> None:
        schema = schemathesis.openapi.from_dict(document)
        for result in schema.get_all_operations():
            operation = result.ok()
            # Nothing of a request without a body can be wrong but the names of its path, and those are asked for already.
            if mode is GenerationMode.NEGATIVE and not operation.body:
                continue
            of_infer = OF_INFER if must_be is None else OF_FITTING
            examples = of_infer if operation.path.endswith("/infer") else OF_OTHERS

            @seed(20_261_128)
            @settings(max_examples=examples, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy(generation_mode=mode))
            def one(case):
                self.ask(case, checks, must_be)

            one()


def told_timeout(body: object) -> bool:
    parameters = body.get("parameters") if isinstance(body, dict) else None
    return isinstance(parameters, dict) and bool(parameters.get("timeout"))


def by_schema(address: str, models: list[str], fits: str, spare: str) -> str:
    """Asks, and tells of it; an exception names the first request whose answer is not as it should be."""
    load_all_checks()
    document = json.loads(DOCUMENT.read_text())
    served = requests.get(f"http://{address}/v2/openapi.json", timeout=PATIENCE).json()
    if served != document:
        raise AssertionError("the server tells another OpenAPI document than the one that is checked in")
    asked = Asked(address)
    wide = about(document, models, spare)
    asked.all(wide, GenerationMode.POSITIVE, CONFORMS)
    asked.all(wide, GenerationMode.NEGATIVE, [*CONFORMS, negative_data_rejection])
    asked.all(fitting(document, fits), GenerationMode.POSITIVE, CONFORMS, must_be=200)
    count = asked.statuses.total()
    if count < 2_000 or asked.statuses[200] < 800 or asked.statuses[400] < 200:
        raise AssertionError(f"too few requests were made: {dict(asked.statuses)}")
    return f"{count} requests by the schema, by status {dict(sorted(asked.statuses.items()))}, the slowest took {asked.slowest:.3f} s"
