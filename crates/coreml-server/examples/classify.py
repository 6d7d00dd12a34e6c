"""Has a server tell the likeliest classes of a picture, by Triton's client.

    pip install tritonclient[http]
    python classify.py localhost:8080 MODEL photo.jpg
"""

import sys

import numpy as np
import tritonclient.http as triton

address, model, path = sys.argv[1:]
client = triton.InferenceServerClient(address)
metadata = client.get_model_metadata(model)
probabilities = next(output["name"] for output in metadata["outputs"] if output["datatype"] == "FP64")
image = triton.InferInput(metadata["inputs"][0]["name"], [1], "BYTES")
with open(path, "rb") as file:
    image.set_data_from_numpy(np.array([file.read()], dtype=np.object_))
answer = client.infer(model, [image], outputs=[triton.InferRequestedOutput(probabilities, class_count=3)])
for told in answer.as_numpy(probabilities):
    probability, _, label = told.decode().split(":", 2)
    print(f"{float(probability):.3f} {label}")
