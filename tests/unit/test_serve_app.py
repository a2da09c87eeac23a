from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import BaseModel, ValidationError
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError
from ray.serve.schema import ServeDeploySchema

from serve.app import AppArgs, Ingress, build
from serve.models import ApiError, RemovalRequest
from textremove.errors import ConfigError
from textremove.segment.protocol import Segmentation

CONFIG = Path(__file__).resolve().parents[2] / "serve/config.yaml"


class FakeMethod:
    """A method of a deployment handle that answers with each of its outcomes in turn."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)

    async def remote(self, *arguments):
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception) and not isinstance(outcome, ConfigError):
            raise outcome
        return outcome


class FakeHandle:
    def __init__(self, **methods):
        self.__dict__ |= methods


IMAGE = np.zeros((4, 4, 3), np.uint8)
MASK = np.full((4, 4), 255, np.uint8)
FOUND = Segmentation(mask=MASK, raw=MASK, score=0.5, found=True)


NOTHING = Segmentation(mask=MASK * 0, raw=MASK * 0, score=0.1, found=False)


def remove(segmented, filled, **request):
    ingress = Ingress(FakeHandle(segment=FakeMethod(*segmented)), FakeHandle(fill=FakeMethod(*filled)))
    return asyncio.run(ingress.remove(RemovalRequest(image=IMAGE, **({"prompt": "ball"} | request))))


def test_replica_that_dies_once_is_not_noticed():
    removal = remove([RayActorError(), FOUND, RayActorError(), NOTHING], [RayActorError(), IMAGE + 1])
    assert removal.image.all()
    assert removal.score == 0.5
    assert removal.verified
    with pytest.raises(RayActorError):
        remove([RayActorError(), RayActorError()], [])


def test_nothing_found_is_not_filled():
    removal = remove([NOTHING], [])
    assert not removal.found
    assert removal.image is IMAGE


def test_own_mask_is_not_segmented_but_a_prompt_with_it_verifies():
    assert remove([], [IMAGE + 1], mask=MASK, prompt="").image.all()
    assert remove([NOTHING], [IMAGE + 1], mask=MASK).verified


def test_a_request_s_wishes_come_before_the_application_s():
    assert remove([FOUND], [IMAGE + 1], verify=False).verified is None
    once = remove([FOUND, FOUND], [IMAGE + 1], attempts=1)
    assert (once.verified, once.verify_score, len(once.attempts)) == (False, 0.5, 1)
    several = remove([FOUND, FOUND, NOTHING], [IMAGE + 1, IMAGE + 2], samples=2, seed=7)
    assert (several.verified, several.kept_seed, several.image[0, 0, 0]) == (True, 8, 2)
    again = remove([FOUND, FOUND, NOTHING], [IMAGE + 1, IMAGE + 2])
    assert [attempt.seeds for attempt in again.attempts] == [(0,), (1,)]


def test_full_queue_says_when_to_come_back():
    with pytest.raises(ApiError) as caught:
        remove([BackPressureError(9, 8)], [])
    assert (caught.value.status, caught.value.retry_after) == (503, 2)


def test_mistake_found_by_a_model_is_raised_as_it_was():
    with pytest.raises(ConfigError, match="^the mask"):
        remove([FOUND], [ConfigError("the mask is too small")])


def unknown_keys(value, model: type[BaseModel], where=""):
    """Keys of a YAML document that the model, and so Serve, would drop without a word."""
    for key, inner in value.items():
        field = model.model_fields.get(key)
        if field is None:
            yield f"{where}{key}"
            continue
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        nested = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
        for item in inner if isinstance(inner, list) else [inner]:
            if nested and isinstance(item, dict):
                yield from unknown_keys(item, nested, f"{where}{key}.")


def test_serve_knows_every_key_of_our_config():
    document = yaml.safe_load(CONFIG.read_text())
    ServeDeploySchema.model_validate(document)
    assert list(unknown_keys(document, ServeDeploySchema)) == []
    document["applications"][0]["replicas"] = 2
    document["http_options"]["prot"] = 8001
    assert set(unknown_keys(document, ServeDeploySchema)) == {"applications.replicas", "http_options.prot"}


def test_config_serves_our_application_with_arguments_it_knows():
    (application,) = yaml.safe_load(CONFIG.read_text())["applications"]
    assert application["import_path"] == f"{build.__module__}:{build.__name__}"
    args = AppArgs.model_validate(application["args"])
    assert build(args)._bound_deployment.name == "Ingress"
    with pytest.raises(ValidationError, match="segmenters"):
        AppArgs.model_validate({"segmenters": "tiny"})
    with pytest.raises(ValidationError, match="unknown settings in removal: sample"):
        AppArgs.model_validate({"removal": {"sample": 2}})
    with pytest.raises(ConfigError, match="--samples must lie in"):
        AppArgs.model_validate({"removal": {"samples": 99}})
