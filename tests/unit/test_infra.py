"""The files that bring clusters up, checked as far as that goes without a cluster."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

REPO = Path(__file__).resolve().parents[2]
MANIFESTS = sorted((REPO / "infra/kuberay").glob("ray*.yaml"))
RAY_KINDS = {"RayCluster": "raycluster", "RayJob": "rayjob", "RayService": "rayservice"}


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def version_of(name: str) -> str:
    lines = (REPO / "constraints.txt").read_text("utf-8").splitlines()
    (version,) = [line.partition("==")[2] for line in lines if line.partition("==")[0] == name]
    return version


def kuberay_schema(kind: str) -> dict[str, Any]:
    shared = Path(os.environ.get("TEXTREMOVE_SHARED", REPO.parent / "shared")) / "kuberay"
    path = shared / f"{RAY_KINDS[kind]}.v1.schema.json"
    if not path.is_file():
        pytest.skip("no KubeRay schemas here; TEXTREMOVE_SHARED names the folder that holds them")
    schema: dict[str, Any] = json.loads(path.read_text("utf-8"))
    schema["properties"]["metadata"] = {"type": "object"}  # Kubernetes' own, not in the published schema
    return forbid_unknown_keys(schema)


def forbid_unknown_keys(schema: Any) -> Any:
    """Kubernetes drops a key it does not know without a word; here such a key is an error."""
    if isinstance(schema, list):
        return [forbid_unknown_keys(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: forbid_unknown_keys(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or not schema["properties"]
        if schema.get("type") == "object" and not open_ended:
            strict["additionalProperties"] = False
    return strict


def ray_pods(node: Any) -> list[dict[str, Any]]:
    """Every pod spec inside a manifest."""
    if isinstance(node, list):
        return [pod for item in node for pod in ray_pods(item)]
    if not isinstance(node, dict):
        return []
    own = [node] if "containers" in node else []
    return own + [pod for value in node.values() for pod in ray_pods(value)]


def errors_of(manifest: dict[str, Any]) -> list[str]:
    validator = jsonschema.Draft202012Validator(kuberay_schema(manifest["kind"]))
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]


def test_there_is_a_manifest_of_every_kind() -> None:
    assert {load(path)["kind"] for path in MANIFESTS} == set(RAY_KINDS)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_kuberay_manifest_matches_the_schema(path: Path) -> None:
    manifest = load(path)
    assert manifest["apiVersion"] == "ray.io/v1"
    assert errors_of(manifest) == []


def test_a_misspelt_key_is_caught() -> None:
    manifest = load(REPO / "infra/kuberay/raycluster.yaml")
    manifest["spec"]["workerGroupSpecs"][0]["maxReplica"] = 3
    assert any("maxReplica" in error for error in errors_of(manifest))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifest_runs_the_ray_of_the_image_with_a_token(path: Path) -> None:
    spec = load(path)["spec"]
    cluster = spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec
    assert cluster["rayVersion"] == version_of("ray")
    assert cluster["authOptions"] == {"mode": "token"}
    pods = ray_pods(cluster)
    assert len(pods) == 1 + len(cluster["workerGroupSpecs"])
    for pod in pods:
        claims = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= claims
            assert container["resources"]["requests"] == container["resources"]["limits"]


@pytest.mark.slow
def test_the_service_serves_our_application_with_arguments_it_has() -> None:
    from ray.serve.schema import ServeDeploySchema

    from serve.app import AppArgs

    manifest = load(REPO / "infra/kuberay/rayservice.yaml")
    config = yaml.safe_load(manifest["spec"]["serveConfigV2"])
    ours = load(REPO / "serve/config.yaml")
    (application,), (our_application,) = config.pop("applications"), ours.pop("applications")
    assert config == ours
    AppArgs.model_validate(application.pop("args"))
    our_application.pop("args")
    assert application == our_application
    ServeDeploySchema.model_validate({**config, "applications": [application]})


def test_cluster_yaml_is_one_that_ray_up_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = load(REPO / "cluster.yaml")
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)

    workers = {name: kind for name, kind in config["available_node_types"].items() if name != "head"}
    assert any(kind["resources"].get("GPU") for kind in workers.values())
    for kind in workers.values():
        assert kind["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    head = config["available_node_types"][config["head_node_type"]]
    assert "InstanceMarketOptions" not in head["node_config"]


def test_cluster_yaml_with_an_unknown_key_is_refused() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = load(REPO / "cluster.yaml")
    config["idle_timeout"] = 5
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout"):
        validate_config(prepare_config(config))


def test_the_mlflow_server_is_the_version_the_jobs_use() -> None:
    dockerfile = (REPO / "infra/mlflow/Dockerfile").read_text("utf-8")
    assert f"mlflow=={version_of('mlflow')} " in dockerfile


@pytest.mark.slow
def test_the_mlflow_server_starts_with_options_it_has() -> None:
    services = load(REPO / "infra/mlflow/compose.yaml")["services"]
    program, command, *arguments = services["server"]["command"].split()
    assert (program, command) == ("mlflow", "server")
    told = subprocess.run(
        [sys.executable, "-m", "mlflow", "server", "--help"], capture_output=True, text=True, check=True
    ).stdout
    options = [argument for argument in arguments if argument.startswith("--")]
    assert options
    for option in [*options, "--backend-store-uri", "--artifacts-destination", "--allowed-hosts"]:
        assert f"{option} " in told
    assert services["server"]["depends_on"]["database"]["condition"] == "service_healthy"


def test_the_image_copies_what_the_build_context_lets_through() -> None:
    dockerfile = (REPO / "infra/docker/Dockerfile").read_text("utf-8")
    copied = {
        name for line in dockerfile.splitlines() if line.startswith("COPY ") for name in line.split()[1:-1]
    }
    allowed = (REPO / "infra/docker/Dockerfile.dockerignore").read_text("utf-8").splitlines()
    assert copied <= {line[1:] for line in allowed if line.startswith("!")}
    for name in copied:
        assert (REPO / name).exists()
