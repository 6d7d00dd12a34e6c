"""Asks a running `coreml serve` by the clients of Triton and KServe, and by requests made at random; run by scripts/check-server.

Each check is one line of output that says what holds; the first that does not ends the script.
"""

from __future__ import annotations

import gzip
import http.client
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.utils import InferenceServerException

from check_server_grpc import by_descriptors
from check_server_schema import by_schema
from serving import FIXTURES, Server, elementwise_model

RANDOM_REQUESTS = 2_000
checks = 0


def check(what: str, holds: bool, told: object = "") -> None:
    global checks
    if not holds:
        raise SystemExit(f"FAILED: {what} {told}")
    checks += 1
    print(f"ok {checks}: {what}")


def refused(what: str, ask, word: str = "") -> None:
    """Checks that the client raises its own exception, with this word in it."""
    try:
        ask()
    except InferenceServerException as error:
        check(what, word in str(error), error)
    else:
        check(what, False, "it was answered")


def same(answer: np.ndarray | None, expected: np.ndarray) -> bool:
    return answer is not None and answer.shape == expected.shape and np.allclose(answer, expected, atol=1e-5)


def both(name: str, module, client) -> None:
    """What holds over HTTP and over gRPC alike; `name` is the protocol's."""
    is_http = module is triton_http
    check(f"{name}: live", client.is_server_live())
    check(f"{name}: ready", client.is_server_ready())
    check(f"{name}: a model is ready", client.is_model_ready("relu"))
    check(f"{name}: a version is ready", client.is_model_ready("relu", "1"))
    if is_http:
        check(f"{name}: a missing model is not ready", not client.is_model_ready("none"))
    else:
        refused(f"{name}: a missing model is told so", lambda: client.is_model_ready("none"), "none")
    plain = (lambda message: message) if is_http else (lambda message: json_of(message))
    server = plain(client.get_server_metadata())
    check(f"{name}: the server has a name", server["name"] == "coreml-anywhere")
    check(f"{name}: the server tells its extensions", {"statistics", "model_repository"} <= set(server["extensions"]))
    config = plain(client.get_model_config("relu"))
    config = config if is_http else config["config"]
    tensor_config = config["input"][0]
    told = (config["name"], config["platform"], config["max_batch_size"], tensor_config["data_type"], [int(size) for size in tensor_config["dims"]])
    check(f"{name}: a configuration", told == ("relu", "coreml", 0, "TYPE_FP32", [1, 4]), config)
    config = plain(client.get_model_config("rows", "1"))
    config = config if is_http else config["config"]
    told = (config["max_batch_size"], [int(size) for size in config["output"][0]["dims"]])
    check(f"{name}: a configuration of a model that is batched", told == (8, [4]), config)
    refused(f"{name}: a configuration of a missing model", lambda: client.get_model_config("none"), "no model")
    model = plain(client.get_model_metadata("relu"))
    check(f"{name}: metadata name the model", model["name"] == "relu" and model["platform"] == "coreml")
    sizes = [int(size) for size in model["inputs"][0]["shape"]]
    check(f"{name}: metadata have the input", (model["inputs"][0]["datatype"], sizes) == ("FP32", [1, 4]))
    rows = plain(client.get_model_metadata("rows"))
    check(f"{name}: sizes that vary are -1", [int(size) for size in rows["outputs"][0]["shape"]] == [-1, 4])
    refused(f"{name}: metadata of a missing model", lambda: client.get_model_metadata("none"), "no model")
    refused(f"{name}: metadata of a missing version", lambda: client.get_model_metadata("relu", "9"), "version")

    x = np.array([[-1, 0.5, 2, -0.25]], np.float32)

    def tensor(values: np.ndarray, datatype: str, binary: bool = True, label: str = "x"):
        given = module.InferInput(label, list(values.shape), datatype)
        given.set_data_from_numpy(values, binary_data=binary) if is_http else given.set_data_from_numpy(values)
        return given

    answer = client.infer("relu", [tensor(x, "FP32")])
    check(f"{name}: infer", same(answer.as_numpy("y"), np.maximum(x, 0)))
    answer = client.infer("relu", [tensor(x, "FP32")], request_id="a7")
    told = answer.get_response() if is_http else json_of(answer.get_response())
    check(f"{name}: the id comes back", told["id"] == "a7")
    answer = client.infer("relu", [tensor(x.astype(np.float16), "FP16")])
    check(f"{name}: FP16 is taken", same(answer.as_numpy("y"), np.maximum(x, 0)))
    answer = client.infer("relu", [tensor(x.astype(np.float64), "FP64")])
    check(f"{name}: FP64 is taken", same(answer.as_numpy("y"), np.maximum(x, 0)))
    many = np.linspace(-3, 3, 5 * 4, dtype=np.float32).reshape(5, 4)
    check(f"{name}: five rows", same(client.infer("rows", [tensor(many, "FP32")]).as_numpy("y"), np.tanh(many)))
    wanted = [module.InferRequestedOutput("y")]
    check(f"{name}: an output is asked for", same(client.infer("relu", [tensor(x, "FP32")], outputs=wanted).as_numpy("y"), np.maximum(x, 0)))
    classes = client.infer("relu", [tensor(x, "FP32")], outputs=[module.InferRequestedOutput("y", class_count=2)])
    check(f"{name}: classes of a tensor", classes.as_numpy("y").tolist() == [[b"2:2", b"0.5:1"]], classes.as_numpy("y"))
    photo = np.array([(FIXTURES / "images" / "coffee.png").read_bytes()], dtype=np.object_)
    label = client.infer("net", [tensor(photo, "BYTES", label="image")], outputs=[module.InferRequestedOutput("classLabel_probs", class_count=3)])
    best = label.as_numpy("classLabel_probs")
    check(f"{name}: classes of a picture", len(best) == 3 and any(word in best[0].decode() for word in ("espresso", "cup")), best)
    sizes = [int(size) for size in plain(client.get_model_metadata("net"))["inputs"][0]["shape"]]
    pixels = np.zeros([1, *sizes], np.uint8)
    check(f"{name}: pixels", client.infer("net", [tensor(pixels, "UINT8", label="image")]).as_numpy("classLabel_probs").dtype == np.float64)
    check(f"{name}: timeouts and priorities are taken", client.infer("relu", [tensor(x, "FP32")], priority=1, timeout=60_000_000).as_numpy("y") is not None)

    refused(f"{name}: another shape", lambda: client.infer("relu", [tensor(many, "FP32")]), "feature `x`")
    refused(f"{name}: another name", lambda: client.infer("relu", [tensor(x, "FP32", label="z")]), "`z`")
    refused(f"{name}: no input", lambda: client.infer("relu", []), "missing")
    refused(f"{name}: strings for numbers", lambda: client.infer("relu", [tensor(np.array([b"a"], np.object_), "BYTES")]), "tensor `x`")
    refused(f"{name}: a missing model", lambda: client.infer("none", [tensor(x, "FP32")]), "no model")
    refused(f"{name}: a missing output", lambda: client.infer("relu", [tensor(x, "FP32")], outputs=[module.InferRequestedOutput("z")]), "`z`")
    refused(f"{name}: a broken picture", lambda: client.infer("net", [tensor(np.array([b"no picture"], np.object_), "BYTES", label="image")]), "`image`")

    numpy_types = {"INT32": np.int32, "FP32": np.float32}
    start = []
    for given in plain(client.get_model_metadata("text"))["inputs"]:
        sizes = [max(int(size), 1) for size in given["shape"]]
        start.append(tensor(np.ones(sizes, numpy_types[given["datatype"]]), given["datatype"], label=given["name"]))
    first = client.infer("text", start, sequence_id=5, sequence_start=True)
    output = plain(client.get_model_metadata("text"))["outputs"][0]["name"]
    again = client.infer("text", start, sequence_id=5, sequence_end=True)
    check(f"{name}: a sequence goes on", again.as_numpy(output) is not None and first.as_numpy(output) is not None)
    refused(f"{name}: a sequence ends", lambda: client.infer("text", start, sequence_id=5), "sequence")

    stats = plain(client.get_inference_statistics("relu"))["model_stats"][0]
    check(f"{name}: statistics count", int(stats["inference_count"]) == int(stats["execution_count"]) >= 7, stats)
    check(f"{name}: statistics have times", int(stats["inference_stats"]["success"]["ns"]) > 0)
    check(f"{name}: statistics count failures", int(stats["inference_stats"]["fail"]["count"]) >= 3)
    index = plain(client.get_model_repository_index())
    index = index if is_http else index["models"]
    check(f"{name}: the index has all models", {line["name"] for line in index} >= {"relu", "rows", "net", "text"})
    client.unload_model("relu")
    check(f"{name}: an unloaded model is not ready", not client.is_model_ready("relu"))
    refused(f"{name}: an unloaded model does not answer", lambda: client.infer("relu", [tensor(x, "FP32")]), "not ready")
    client.load_model("relu")
    check(f"{name}: a loaded model answers", same(client.infer("relu", [tensor(x, "FP32")]).as_numpy("y"), np.maximum(x, 0)))
    refused(f"{name}: a missing model is not loaded", lambda: client.load_model("none"), "no model")


def json_of(message) -> dict:
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def http_only(client, address: str) -> None:
    x = np.array([[-1, 0.5, 2, -0.25]], np.float32)

    def infer(binary_in: bool, binary_out: bool, **more):
        given = triton_http.InferInput("x", [1, 4], "FP32")
        given.set_data_from_numpy(x, binary_data=binary_in)
        wanted = [triton_http.InferRequestedOutput("y", binary_data=binary_out)]
        return client.infer("relu", [given], outputs=wanted, **more).as_numpy("y")

    for binary_in in (True, False):
        for binary_out in (True, False):
            what = f"HTTP: in {'binary' if binary_in else 'JSON'}, out {'binary' if binary_out else 'JSON'}"
            check(what, same(infer(binary_in, binary_out), np.maximum(x, 0)))
    for algorithm in ("gzip", "deflate"):
        check(f"HTTP: {algorithm}", same(infer(True, True, request_compression_algorithm=algorithm), np.maximum(x, 0)))
    check("HTTP: answers may be asked for compressed", same(infer(True, True, response_compression_algorithm="gzip"), np.maximum(x, 0)))
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    for name in ("nv_inference_request_success", "nv_inference_queue_duration_us", "request_predict_seconds_count", "coreml_predictions_total"):
        check(f"metrics: {name}", f"\n{name}{{" in text)
    check("metrics end as they must", text.endswith("# EOF\n"))


class Schema:
    """Requests by the protocol's schema, some of them wrong in one place."""

    DATATYPES = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES", "BF16", "FP99", ""]

    def __init__(self, seed: int):
        self.random = random.Random(seed)

    def any(self, depth: int = 0):
        choice = self.random.choice
        scalars = [None, True, False, 0, -1, 1, 1.5, 2**63, -(2**63), 2**64, 1e308, -1e39, "", "x", "é\u0000", "a" * 300]
        if depth > 2 or self.random.random() < 0.6:
            return choice(scalars)
        if self.random.random() < 0.5:
            return [self.any(depth + 1) for _ in range(self.random.randint(0, 4))]
        return {choice(["name", "data", "shape", "x", ""]): self.any(depth + 1) for _ in range(self.random.randint(0, 3))}

    def maybe(self, right, wrong_share: float = 0.05):
        return self.any() if self.random.random() < wrong_share else right

    def tensor(self) -> dict:
        r = self.random
        shape = r.choice([[1, 4]] * 8 + [[4], [2, 4], [], [0, 4], [-1, 4], [1] * 9, [2**62, 4], [3, 4]])
        count = min(abs(int(np.prod([min(n, 100) for n in shape]))) if shape else 1, 64)
        values = [r.choice([0, 1, -1, 0.5, 200, 70000, True, "s"]) if r.random() < 0.04 else r.uniform(-2, 2) for _ in range(count)]
        data = [values] if len(shape) == 2 and r.random() < 0.4 else values
        tensor = {"name": self.maybe(r.choice(["image"] + ["x"] * 9)), "shape": self.maybe(shape), "datatype": self.maybe(r.choice(self.DATATYPES + ["FP32"] * 40)), "data": self.maybe(data)}
        if r.random() < 0.15:
            tensor["parameters"] = self.maybe({"binary_data_size": self.maybe(r.choice([0, 16, 1000]))})
            if r.random() < 0.7:
                del tensor["data"]
        if r.random() < 0.05:
            tensor.pop(r.choice(list(tensor)))
        return tensor

    def parameters(self) -> dict:
        r = self.random
        names = ["timeout", "priority", "sequence_id", "sequence_start", "sequence_end", "binary_data_output", "other"]
        right = {"timeout": 5_000_000, "priority": 3, "sequence_id": 4, "sequence_start": True, "sequence_end": True, "binary_data_output": True, "other": "x"}
        return {name: self.maybe(right[name], 0.3) for name in r.sample(names, r.randint(0, 3))}

    def request(self) -> dict:
        r = self.random
        request = {"inputs": self.maybe([self.tensor() for _ in range(r.choice([0] + [1] * 9 + [2]))], 0.05)}
        if r.random() < 0.3:
            request["id"] = self.maybe("7")
        if r.random() < 0.4:
            request["parameters"] = self.maybe(self.parameters(), 0.1)
        if r.random() < 0.3:
            request["outputs"] = self.maybe([{"name": self.maybe(r.choice(["y", "z"])), "parameters": self.maybe({r.choice(["binary_data", "classification", "labels"]): self.any()}, 0.2)}])
        return self.maybe(request, 0.02)

    def call(self) -> tuple[str, str, dict, bytes]:
        """Method, path, headers and body."""
        r = self.random
        model = r.choice(["relu"] * 6 + ["rows"] * 5 + ["text", "net", "none", "%2e%2e", "%ff"])
        version = r.choice([""] * 8 + ["/versions/1"] * 3 + ["/versions/2", "/versions/x", "/versions/"])
        kind = r.random()
        if kind < 0.75:
            body = json.dumps(self.request()).encode()
            headers = {}
            if r.random() < 0.2:
                body += bytes(r.choice([0, 16, 1000]))
                headers["Inference-Header-Content-Length"] = str(self.maybe(r.choice([len(body), len(body) - 16, 0, -1, 10**30])))
            if r.random() < 0.1:
                headers["Content-Encoding"], body = r.choice([("gzip", gzip.compress(body)), ("gzip", body), ("deflate", body), ("zstd", body)])
            if r.random() < 0.05:
                body = body[: r.randint(0, len(body))]
            headers = {name: value.encode("ascii", "ignore").decode().replace("\0", "") for name, value in headers.items()}
            return "POST", f"/v2/models/{model}{version}/infer", headers, body
        path = r.choice(["/v2", "/v2/health/live", "/v2/health/ready", f"/v2/models/{model}", f"/v2/models/{model}{version}/ready", f"/v2/models/{model}/stats", "/v2/models/stats", "/metrics", "/v2/repository/index", "/v3", "/", f"/v2/models/{model}/infer", f"/v2/repository/models/{r.choice(['none', '%2fetc', 'relu'])}/load"])
        body = b"" if r.random() < 0.5 else json.dumps(self.any()).encode()
        return r.choice(["GET", "POST", "PUT", "DELETE", "HEAD"]), path, {}, body


def at_random(server: Server) -> None:
    schema = Schema(20_261_127)
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    statuses: dict[int, int] = {}
    slowest = 0.0
    for number in range(RANDOM_REQUESTS):
        method, path, headers, body = schema.call()
        start = time.monotonic()
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        slowest = max(slowest, time.monotonic() - start)
        statuses[answer.status] = statuses.get(answer.status, 0) + 1
        told = f"request {number}: {method} {path} {headers} {body[:300]!r} -> {answer.status} {content[:300]!r}"
        if answer.status >= 500:
            raise SystemExit(f"FAILED: {told}")
        if answer.status >= 400 and method != "HEAD" and "error" not in json.loads(content):
            raise SystemExit(f"FAILED: an error without a word: {told}")
    check(f"{RANDOM_REQUESTS} requests at random: no 5xx, no hang", statuses.get(200, 0) > 100 and statuses.get(400, 0) > 100, statuses)
    print(f"   by status: {dict(sorted(statuses.items()))}, the slowest took {slowest:.3f} s")


def health(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "inference.GRPCInferenceService", "relu", "relu/1"):
            told = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
            check(f"health of {service!r}", told.status == health_pb2.HealthCheckResponse.SERVING, told)
        try:
            stub.Check(health_pb2.HealthCheckRequest(service="none"), timeout=30)
        except grpc.RpcError as error:
            check("health of what there is not", error.code() == grpc.StatusCode.NOT_FOUND, error)
        else:
            check("health of what there is not", False)


LOGGED = {"time": float, "remote": str, "method": str, "path": str, "status": int, "milliseconds": float, "request_bytes": int, "response_bytes": int}


def access_log(command: str, folder: Path) -> None:
    """Each request is one line with the fields that docs/serving.md names."""
    model, log, trace = folder / "logged.mlmodel", folder / "access.log", "4bf92f3577b34da6a3ce929d0e0e4736"
    model.write_bytes(elementwise_model([1, 4], "relu"))
    body = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}).encode()
    asked = [("GET", "/v2", b"", 200), ("POST", "/v2/models/logged/infer", body, 200), ("POST", "/v2/models/none/infer", body, 404), ("POST", "/v2/models/logged/infer", b"{", 400)]
    with Server(command, f"logged={model}", "--access-log", log=log) as server:
        connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
        for method, path, content, status in asked:
            connection.request(method, path, content, {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
            answer = connection.getresponse()
            answer.read()
            check(f"access log: {method} {path} is answered", answer.status == status, answer.status)
        connection.request("GET", "/v2/health/live")
        connection.getresponse().read()
        connection.close()
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    told = [(line["method"], line["path"], line["request_bytes"], line["status"], line.get("trace_id")) for line in lines]
    expected = [(method, path, len(content), status, trace) for method, path, content, status in asked]
    check("access log: a line for each request, in order", told == [*expected, ("GET", "/v2/health/live", 0, 200, None)], told)
    check("access log: the fields that the docs name", all(isinstance(line.pop(name), kind) for line in lines for name, kind in LOGGED.items()), lines)
    check("access log: and no others", all(set(line) <= {"trace_id"} for line in lines), lines)


def kserve(address: str) -> int:
    """How many checks KServe's clients passed."""
    script = Path(__file__).with_name("check_server_kserve.py")
    asked = subprocess.run([sys.executable, str(script), address], stdout=subprocess.PIPE, text=True, timeout=120)
    print(asked.stdout, end="")
    if asked.returncode != 0:
        raise SystemExit("FAILED: KServe's clients were not answered as they must be")
    return sum(line.startswith("ok") for line in asked.stdout.splitlines())


def main() -> None:
    global checks
    command = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "models"
        for name, content in (("relu", elementwise_model([1, 4], "relu")), ("spare", elementwise_model([1, 4], "relu")), ("rows", elementwise_model([1, 4], "tanh", (1, 64)))):
            path = repository / name / "1" / "model.mlmodel"
            path.parent.mkdir(parents=True)
            path.write_bytes(content)
        shutil.copytree(FIXTURES / "models" / "EfficientNetLite0.mlpackage", repository / "net.mlpackage")
        shutil.copytree(FIXTURES / "text" / "text.mlmodelc", repository / "text.mlmodelc")
        with Server(command, "--repository", str(repository), "--max-batch", "8", log=Path(folder) / "log") as server:
            with triton_http.InferenceServerClient(server.address) as client:
                both("HTTP", triton_http, client)
                http_only(client, server.address)
            with triton_grpc.InferenceServerClient(server.address) as client:
                both("gRPC", triton_grpc, client)
            health(server.address)
            at_random(server)
            check("OpenAPI: " + by_schema(server.address, ["relu", "rows"], "relu", "spare"), True)
            check("gRPC at random: " + by_descriptors(server.address, "spare"), True)
            checks += kserve(server.address)
        access_log(command, Path(folder))
        check("told to end, it ends", server.process.returncode == 0, server.process.returncode)
    if checks < 60:
        raise SystemExit(f"FAILED: only {checks} checks")
    print(f"{checks} checks of the server passed")


if __name__ == "__main__":
    main()
