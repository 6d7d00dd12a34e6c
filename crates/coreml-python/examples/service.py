#!/usr/bin/env python3
"""A classifier as a web service.

    pip install fastapi uvicorn coreml-anywhere pillow
    MODEL=EfficientNetLite0.mlpackage uvicorn service:app
    curl --data-binary @coffee.png localhost:8000/classify
    curl localhost:8000/metrics

One session serves all requests: predictions run on the server's threads, beside one another. A request that cannot be
answered in time gets 503 or 504, one that makes no sense 422.
"""

from __future__ import annotations

import io
import os
from typing import Any, Dict, List

from coreml_anywhere import CoreMLError, DeadlineError, InvalidInputError, OverloadedError, Session
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from PIL import Image, UnidentifiedImageError

#: Bytes of a picture, and its pixels: pictures are unpacked in memory.
MOST_BYTES, MOST_PIXELS = 16 << 20, 64 << 20

session = Session(os.environ["MODEL"], deadline=float(os.environ.get("DEADLINE_SECONDS", "1")), threads=1)
image = next(feature.name for feature in session.interface.inputs if feature.kind == "image")
app = FastAPI(title="coreml-anywhere")


@app.post("/classify")
async def classify(request: Request, count: int = 3) -> Dict[str, Any]:
    """The likeliest classes of the picture in the body, JPEG or PNG."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise HTTPException(413, f"pictures have at most {MOST_BYTES} bytes")
    return await run_in_threadpool(answer, bytes(body), count)


def answer(body: bytes, count: int) -> Dict[str, Any]:
    """Runs on a thread of the server's pool."""
    try:
        picture = Image.open(io.BytesIO(body))
        if picture.width * picture.height > MOST_PIXELS:
            raise HTTPException(413, f"pictures have at most {MOST_PIXELS} pixels")
        prediction = session.predict({image: picture})
    except CoreMLError as error:
        raise HTTPException(status(error), str(error), headers(error)) from error
    except (UnidentifiedImageError, OSError) as error:
        raise HTTPException(422, "the body is no picture") from error
    classes: List[Dict[str, Any]] = [{"label": label, "probability": p} for label, p in prediction.top(count)]
    return {"classes": classes, "served_by": prediction.served_by, "degraded": prediction.degraded}


def status(error: CoreMLError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, InvalidInputError):
        return 422
    if isinstance(error, DeadlineError):
        return 504
    return 503 if isinstance(error, OverloadedError) else 500


def headers(error: CoreMLError) -> Dict[str, str]:
    """When it makes sense to ask again, if that is known."""
    return {} if error.retry_after is None else {"Retry-After": str(max(1, round(error.retry_after)))}


@app.get("/metrics")
def metrics() -> Response:
    """For Prometheus."""
    return Response(session.open_metrics(), media_type="application/openmetrics-text; version=1.0.0; charset=utf-8")
