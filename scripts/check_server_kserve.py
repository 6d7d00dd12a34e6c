"""What KServe's own clients see of a running `coreml serve` with the models of scripts/check_server.py.

    python3 scripts/check_server_kserve.py ADDRESS

A process of its own: its messages and those of Triton's client have the same names, which protobuf takes once.
"""

from __future__ import annotations

import asyncio
import logging
import sys

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

X = np.array([[-1, 0.5, 2, -0.25]], np.float32)


def check(what: str, holds: bool, told: object = "") -> None:
    if not holds:
        raise SystemExit(f"FAILED: KServe: {what} {told}")
    print(f"ok: KServe: {what}")


async def refused(what: str, ask, kind: type[Exception], *words: str) -> None:
    try:
        answer = await ask
    except kind as error:
        check(what, all(word in str(error) for word in words), error)
    else:
        check(what, False, answer)


def request(model: str = "relu", binary: bool = True, values: np.ndarray = X, name: str = "x", **more) -> InferRequest:
    tensor = InferInput(name, list(values.shape), "FP32")
    tensor.set_data_from_numpy(values, binary_data=binary)
    return InferRequest(model, [tensor], **more)


def right(answer, name: str = "y") -> bool:
    return [output.name for output in answer.outputs] == [name] and np.array_equal(answer.outputs[0].as_numpy(), np.maximum(X, 0))


async def over_http(address: str) -> None:
    url = f"http://{address}"
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    check("HTTP: live", await client.is_server_live(url))
    check("HTTP: ready", await client.is_server_ready(url))
    check("HTTP: a model is ready", await client.is_model_ready(url, "relu"))
    check("HTTP: a missing model is not", not await client.is_model_ready(url, "none"))
    for binary in (True, False):
        for output in (True, False):
            wanted = [RequestedOutput("y", {"binary_data": output})]
            answer = await client.infer(url, request(binary=binary, request_outputs=wanted, request_id="a7"), "relu")
            what = f"HTTP: in {'binary' if binary else 'JSON'}, out {'binary' if output else 'JSON'}"
            check(what, right(answer) and answer.id == "a7" and answer.model_name == "relu", answer)
    answer = await client.infer(url, request(parameters={"binary_data_output": True}), "relu")
    check("HTTP: all outputs in binary form", right(answer))
    answer = await client.infer(url, {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": X.tolist()}]}, "relu")
    check("HTTP: a dictionary", right(answer))
    for what, of, model, words in [
        ("another shape", request(values=np.zeros((2, 4), np.float32)), "relu", ("400", "feature `x`")),
        ("another name", request(name="z"), "relu", ("400", "`z`")),
        ("a missing model", request("none"), "none", ("404", "no model")),
        ("a missing output", request(request_outputs=[RequestedOutput("z")]), "relu", ("400", "`z`")),
    ]:
        await refused(f"HTTP: {what}", client.infer(url, of, model), httpx.HTTPStatusError, *words)
    await client.close()


async def over_grpc(address: str) -> None:
    client = InferenceGRPCClient(address)
    check("gRPC: live", await client.is_server_live())
    check("gRPC: ready", await client.is_server_ready())
    check("gRPC: a model is ready", await client.is_model_ready("relu"))
    for binary in (True, False):
        answer = await client.infer(request(binary=binary, request_id="a7"))
        what = f"gRPC: {'raw' if binary else 'typed'} contents"
        check(what, right(answer) and answer.id == "a7" and answer.model_version == "1", answer)
    for what, of, code in [
        ("another shape", request(values=np.zeros((2, 4), np.float32)), "INVALID_ARGUMENT"),
        ("another name", request(name="z"), "INVALID_ARGUMENT"),
        ("a missing model", request("none"), "NOT_FOUND"),
        ("a missing output", request(request_outputs=[RequestedOutput("z")]), "INVALID_ARGUMENT"),
    ]:
        await refused(f"gRPC: {what}", client.infer(of), grpc.RpcError, code)
    await client.close()


if __name__ == "__main__":
    # It logs each refusal that is asked for here.
    logging.disable(logging.CRITICAL)
    asyncio.run(over_http(sys.argv[1]))
    asyncio.run(over_grpc(sys.argv[1]))
