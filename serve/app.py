"""The Ray Serve application: Ingress -> Segmenter -> Inpainter.

The two model deployments batch the requests that arrive together and run the same predictors as everything
else here; predictions do not depend on the batch, so an answer is the same pixels as `Remover.remove`.

    serve run serve.app:build segmenter=tiny inpainter=tiny
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.exceptions import RayActorError, RayError
from ray.serve import Application
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from serve.api import create_api
from serve.models import ApiError
from textremove.errors import UserError
from textremove.onray.models import absolute, each_or_error
from textremove.presets import load_inpainter, load_segmenter
from textremove.removal import Removal, clean_prompt, fill_holes
from textremove.segment.protocol import Segmentation

_READY_TIMEOUT_S = 5.0
_RETRY_AFTER_S = 2


class AppArgs(BaseModel):
    """What to serve, and with how much."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    segmenter: str = Field(
        "tiny",
        description="tiny, clipseg, sam3, grounded-sam2, zero-shot, a folder, a hub id, or DETECTOR+SAM2.",
    )
    inpainter: str = Field("tiny", description="Preset, folder or hub id.")
    adapter: str | None = Field(None, description="LoRA folder for the inpainter.")
    ingress_replicas: int = Field(1, ge=1, description="Processes that speak HTTP, decode and encode.")
    segmenter_replicas: int = Field(1, ge=1, description="Segmenter processes.")
    inpainter_replicas: int = Field(1, ge=1, description="Inpainter processes.")
    gpus_per_replica: float = Field(
        0.0, ge=0, description="GPUs, or a share, for each model process; 0: CPU."
    )
    max_batch_size: int = Field(8, ge=1, description="Requests that a model is given at a time.")
    max_queued_requests: int = Field(
        32, ge=1, description="Requests that may wait for each model; more are answered 503."
    )


class Segmenter:
    """A segmenter; requests that arrive together are one batch, run off the event loop."""

    def __init__(self, name: str, device: str, max_batch_size: int) -> None:
        self._model = load_segmenter(name, device=device)
        self._batch.set_max_batch_size(max_batch_size)

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.01)
    async def _batch(self, requests: list[tuple[np.ndarray, str]]) -> list[Segmentation | Exception]:
        # Errors travel as values: raised, one request's error would be the answer to the whole batch.
        return await asyncio.to_thread(each_or_error, self._segment, requests)

    def _segment(self, requests: Sequence[tuple[np.ndarray, str]]) -> list[Segmentation]:
        images, prompts = zip(*requests, strict=True)
        return self._model.segment(images, prompts)

    async def segment(self, image: np.ndarray, prompt: str) -> Segmentation | UserError:
        return _own_or_user_error(await self._batch((image, prompt)))

    async def ready(self) -> bool:
        return True


class Inpainter:
    """An inpainter with cropping and pasting; requests that arrive together are one batch."""

    def __init__(self, name: str, adapter: str | None, device: str, max_batch_size: int) -> None:
        self._model = load_inpainter(name, adapter=adapter, device=device)
        self._batch.set_max_batch_size(max_batch_size)

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.01)
    async def _batch(
        self, requests: list[tuple[np.ndarray, np.ndarray, int]]
    ) -> list[np.ndarray | Exception]:
        return await asyncio.to_thread(each_or_error, self._fill, requests)

    def _fill(self, requests: Sequence[tuple[np.ndarray, np.ndarray, int]]) -> list[np.ndarray]:
        images, masks, seeds = zip(*requests, strict=True)
        return fill_holes(self._model, images, masks, seeds)

    async def fill(self, image: np.ndarray, mask: np.ndarray, seed: int) -> np.ndarray | UserError:
        return _own_or_user_error(await self._batch((image, mask, seed)))

    async def ready(self) -> bool:
        return True


def _own_or_user_error(result: Any) -> Any:
    """Raises our own bugs. A user's mistake stays a value: raised, it would arrive as a traceback."""
    if isinstance(result, Exception) and not isinstance(result, UserError):
        raise result
    return result


def _ingress_api() -> FastAPI:
    return create_api(lambda: serve.get_replica_context().servable_object)


class Ingress:
    """HTTP in, HTTP out; composes the two models. It is the engine of `serve.api`."""

    def __init__(self, segmenter: DeploymentHandle, inpainter: DeploymentHandle) -> None:
        self._segmenter = segmenter
        self._inpainter = inpainter

    async def remove(self, image: np.ndarray, prompt: str, mask: np.ndarray | None, seed: int) -> Removal:
        """Removes from one photo. The same steps as `Remover.remove`, each on its deployment."""
        started = time.perf_counter()
        score = 1.0
        if mask is None:
            segmentation = await _call(self._segmenter.segment, image, clean_prompt(prompt))
            mask, score = segmentation.mask, segmentation.score
            if not segmentation.found:
                return Removal(image=image, mask=mask, found=False, score=score, seconds={})
        segmented = time.perf_counter()
        result = await _call(self._inpainter.fill, image, mask, seed)
        seconds = {"segment": segmented - started, "inpaint": time.perf_counter() - segmented}
        return Removal(image=result, mask=mask, found=True, score=score, seconds=seconds)

    async def ready(self) -> bool:
        """Whether both models answer, and soon."""
        probes = asyncio.gather(self._segmenter.ready.remote(), self._inpainter.ready.remote())
        try:
            return all(await asyncio.wait_for(probes, _READY_TIMEOUT_S))
        except (TimeoutError, RayError, RayServeException):
            return False


async def _call(method: DeploymentHandle, *arguments: object) -> Any:
    """Calls a model; once more if its replica died, as a removal is the same however often it is run."""
    try:
        try:
            result = await method.remote(*arguments)
        except RayActorError:
            result = await method.remote(*arguments)
    except BackPressureError:
        raise ApiError(503, "overloaded", "too many removals at once", retry_after=_RETRY_AFTER_S) from None
    if isinstance(result, UserError):
        raise result
    return result


def build(args: AppArgs) -> Application:
    """Builds the application, for `serve run`, `serve deploy`, `serve build` and `ray.serve.run`."""
    device = "cuda" if args.gpus_per_replica else "cpu"
    model_options = {
        # Twice a batch: while one is computed, the next is collected.
        "max_ongoing_requests": 2 * args.max_batch_size,
        "max_queued_requests": args.max_queued_requests,
        "ray_actor_options": {"num_cpus": 0.5, "num_gpus": args.gpus_per_replica},
        "max_constructor_retry_count": 1,  # weights that cannot be loaded will not be on the next try
    }
    segmenter = serve.deployment(Segmenter, num_replicas=args.segmenter_replicas, **model_options)
    inpainter = serve.deployment(Inpainter, num_replicas=args.inpainter_replicas, **model_options)
    # The models refuse what is too much, with Retry-After; the ingress itself must not do so before.
    ingress = serve.deployment(
        serve.ingress(_ingress_api)(Ingress),
        num_replicas=args.ingress_replicas,
        max_ongoing_requests=1000,
        ray_actor_options={"num_cpus": 0.25},
    )
    return ingress.bind(
        segmenter.bind(absolute(args.segmenter), device, args.max_batch_size),
        inpainter.bind(
            absolute(args.inpainter), args.adapter and absolute(args.adapter), device, args.max_batch_size
        ),
    )
