"""Checks deploy/ without a cluster: everything parses, Kubernetes' own kinds fit its published schemas, the command reads
every flag and file that is used there, and every metric that is asked for exists. Run by scripts/check-deploy.
"""

from __future__ import annotations

import configparser
import json
import plistlib
import re
import shlex
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import kubernetes_validate
import yaml

from serving import Server, elementwise_model

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
KUBERNETES = "1.34"
# What KServe's runtimes have, by the reference of its CRD: field, and what it must be.
RUNTIME_FIELDS = {"annotations", "supportedModelFormats", "protocolVersions", "containers"}
PREDICTOR_MODEL_FIELDS = {"modelFormat", "protocolVersion", "runtime", "storageUri"}


def need(what: str, holds: bool, told: object = "") -> None:
    if not holds:
        raise SystemExit(f"FAILED: {what} {told}")
    print(f"ok: {what}")


def read(command: str, what: str, arguments: list[str]) -> None:
    """Has the command read arguments as it would to serve."""
    words = [word.replace("{{.Name}}", "name") for word in arguments]
    ran = subprocess.run([command, *words, "--print-config"], capture_output=True, text=True, check=False)
    need(f"{what}: the command reads its arguments", ran.returncode == 0, ran.stderr)


def entrypoint() -> tuple[list[str], list[str]]:
    text = (DEPLOY / "Containerfile").read_text()
    lists = {name: json.loads(value) for name, value in re.findall(r"^(ENTRYPOINT|CMD) (\[.*\])$", text, re.M)}
    need("Containerfile: not as root", "\nUSER nonroot\n" in text)
    return lists["ENTRYPOINT"][1:], lists["CMD"]


def container(what: str, container: dict) -> None:
    security = container["securityContext"]
    need(f"{what}: no privileges", security["allowPrivilegeEscalation"] is False and security["capabilities"] == {"drop": ["ALL"]} and security["readOnlyRootFilesystem"])
    need(f"{what}: ready and live are asked for", container["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready" and container["livenessProbe"]["httpGet"]["path"] == "/v2/health/live")


def kubernetes(command: str, entry: list[str]) -> None:
    resources = list(yaml.safe_load_all((DEPLOY / "kubernetes/deployment.yaml").read_text()))
    need("Kubernetes: three resources", [resource["kind"] for resource in resources] == ["Deployment", "Service", "PodDisruptionBudget"])
    for resource in resources:
        kubernetes_validate.validate(resource, KUBERNETES, strict=True)
        need(f"Kubernetes: {resource['kind']} fits the schema of {KUBERNETES}", True)
    broken = json.loads(json.dumps(resources[0]))
    broken["spec"]["replicas"] = "two"
    try:
        kubernetes_validate.validate(broken, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError:
        need("Kubernetes: a wrong one does not", True)
    else:
        need("Kubernetes: a wrong one does not", False)
    pod = resources[0]["spec"]["template"]
    labels = resources[0]["spec"]["selector"]["matchLabels"]
    need("Kubernetes: everything selects the pods", all(selector.items() <= pod["metadata"]["labels"].items() for selector in (labels, resources[1]["spec"]["selector"], resources[2]["spec"]["selector"]["matchLabels"])))
    container("Kubernetes", pod["spec"]["containers"][0])
    need("Kubernetes: time to drain", pod["spec"]["terminationGracePeriodSeconds"] > 25)
    read(command, "Kubernetes", entry + pod["spec"]["containers"][0]["args"])


def kserve(command: str, entry: list[str]) -> None:
    runtime = yaml.safe_load((DEPLOY / "kserve/serving-runtime.yaml").read_text())
    need("KServe: a ClusterServingRuntime", (runtime["apiVersion"], runtime["kind"]) == ("serving.kserve.io/v1alpha1", "ClusterServingRuntime"))
    spec = runtime["spec"]
    need("KServe: the runtime has the fields that are known", set(spec) == RUNTIME_FIELDS, set(spec))
    need("KServe: one container, of the name that is looked for", [one["name"] for one in spec["containers"]] == ["kserve-container"])
    container("KServe", spec["containers"][0])
    # A pod of this container fits Kubernetes' schema.
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": spec["containers"]}}
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    read(command, "KServe", entry + spec["containers"][0]["args"])
    service = yaml.safe_load((DEPLOY / "kserve/inference-service.yaml").read_text())
    need("KServe: an InferenceService", (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService"))
    model = service["spec"]["predictor"]["model"]
    need("KServe: the model has the fields that are known", set(model) == PREDICTOR_MODEL_FIELDS, set(model))
    need("KServe: the runtime serves the model's format and protocol", model["modelFormat"]["name"] in [one["name"] for one in spec["supportedModelFormats"]] and model["protocolVersion"] in spec["protocolVersions"] and model["runtime"] == runtime["metadata"]["name"])


def services(command: str) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read_string((DEPLOY / "systemd/coreml-serve.service").read_text())
    words = shlex.split(unit["Service"]["ExecStart"])
    need("systemd: serves by a configuration", words[1:3] == ["serve", "--config"] and unit["Service"]["DynamicUser"] == "yes")
    with (DEPLOY / "launchd/com.coreml-anywhere.serve.plist").open("rb") as file:
        plist = plistlib.load(file)
    need("launchd: serves by a configuration", plist["ProgramArguments"][1:3] == ["serve", "--config"] and plist["Label"] == "com.coreml-anywhere.serve")
    read(command, "serve.toml", ["serve", "--config", str(DEPLOY / "serve.toml")])


def metrics(command: str) -> None:
    scrape = yaml.safe_load((DEPLOY / "prometheus/scrape.yaml").read_text())["scrape_configs"][0]
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "relu.mlmodel"
        model.write_bytes(elementwise_model([1, 4], "relu"))
        with Server(command, str(model)) as server:
            with urllib.request.urlopen(f"http://{server.address}{scrape['metrics_path']}", timeout=10) as answer:
                text = answer.read().decode()
    known = set(re.findall(r"^([a-z_]+)[{ ]", text, re.M))
    board = json.loads((DEPLOY / "grafana/coreml-serve.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    used = {name for expr in asked for name in re.findall(r"\b(?:nv|coreml|request)_[a-z_]+", expr)}
    need("Grafana: every metric that is asked for is there", used <= known and len(used) > 10, used - known)
    need("Grafana: panels have numbers of their own", len({panel["id"] for panel in board["panels"]}) == len(board["panels"]))


def main() -> None:
    command = sys.argv[1]
    entry, arguments = entrypoint()
    read(command, "Containerfile", entry + arguments)
    kubernetes(command, entry)
    kserve(command, entry)
    services(command)
    metrics(command)
    print("deploy/ is in order, as far as can be told without a cluster")


if __name__ == "__main__":
    main()
