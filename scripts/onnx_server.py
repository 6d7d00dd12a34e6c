"""The smallest server of the protocol on ONNX Runtime: FastAPI, uvicorn with uvloop, binary tensors. A peer to measure.

    python onnx_server.py MODEL.onnx PORT THREADS WORKERS
"""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, Request, Response

app = FastAPI()
if "PEER_MODEL" in os.environ:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["PEER_THREADS"])
    session = onnxruntime.InferenceSession(os.environ["PEER_MODEL"], options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]


# Runs on a thread of its own; ONNX Runtime leaves Python's lock while it computes.
def predict(body: bytes, length: int) -> Response:
    request = json.loads(body[:length])
    feeds, position = {}, length
    for tensor in request["inputs"]:
        end = position + tensor["parameters"]["binary_data_size"]
        feeds[tensor["name"]] = np.frombuffer(body[position:end], np.float32).reshape(tensor["shape"])
        position = end
    answers = session.run(None, feeds)
    outputs = [
        {"name": name, "datatype": "FP32", "shape": list(answer.shape), "parameters": {"binary_data_size": answer.nbytes}}
        for name, answer in zip(names, answers)
    ]
    text = json.dumps({"model_name": "m", "outputs": outputs}).encode()
    content = b"".join([text, *(answer.tobytes() for answer in answers)])
    return Response(content, headers={"Inference-Header-Content-Length": str(len(text))})


@app.post("/v2/models/m/infer")
async def infer(request: Request) -> Response:
    from starlette.concurrency import run_in_threadpool

    body = await request.body()
    return await run_in_threadpool(predict, body, int(request.headers["inference-header-content-length"]))


@app.get("/v2/health/ready")
def ready() -> dict:
    return {"ready": True}


if __name__ == "__main__":
    os.environ["PEER_MODEL"], os.environ["PEER_THREADS"] = sys.argv[1], sys.argv[3]
    uvicorn.run("onnx_server:app", port=int(sys.argv[2]), workers=int(sys.argv[4]), log_level="warning", access_log=False)
