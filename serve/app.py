"""The Ray Serve application: Ingress -> Segmenter -> Inpainter, and back to the Segmenter to verify.

The two model deployments batch the requests that arrive together and run the same predictors as everything
else here; predictions do not depend on the batch, so an answer is the same pixels as `Remover.remove`.

    serve run serve.app:build segmenter=tiny inpainter=tiny
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, model_validator
from ray import serve
from ray.exceptions import RayActorError, RayError
from ray.serve import Application
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from serve.api import create_api
from serve.models import ApiError, RemovalRequest
from textremove.attempts import (
    Call,
    FillCall,
    Filled,
    RemovalConfig,
    Steps,
    advance,
    fill_in_attempts,
)
from textremove.errors import UserError
from textremove.inpaint.crop import FillConfig
from textremove.inpaint.options import DiffusionOptions
from textremove.onray.models import absolute, each_or_error
from textremove.presets import load_inpainter, load_segmenter
from textremove.removal import Removal, answer_calls, clean_prompt, prompt_to_verify, removal_of
from textremove.segment.protocol import Segmentation

_READY_TIMEOUT_S = 5.0
_RETRY_AFTER_S = 2


class AppArgs(BaseModel):
    """What to serve, and with how much."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    segmenter: str = Field("tiny", description="Preset, folder or hub id.")
    inpainter: str = Field("tiny", description="Preset, folder or hub id.")
    adapter: str | None = Field(None, description="LoRA folder for the inpainter.")
    adapters: dict[str, str] = Field({}, description="More LoRA folders by name; a request chooses one.")
    num_steps: int | None = Field(None, description="Denoising steps; the inpainter's own number by default.")
    diffusion: DiffusionOptions = DiffusionOptions()
    fill: FillConfig = FillConfig()
    removal: RemovalConfig = RemovalConfig()
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

    @model_validator(mode="before")
    @classmethod
    def _know_every_key(cls, given: Any) -> Any:
        """Refuses unknown keys of the nested settings, which pydantic would drop without a word."""
        for name, inner in given.items() if isinstance(given, dict) else ():
            kind = cls.model_fields[name].annotation if name in cls.model_fields else None
            if isinstance(inner, dict) and isinstance(kind, type) and is_dataclass(kind):
                unknown = sorted(set(inner) - {field.name for field in fields(kind)})
                if unknown:
                    raise ValueError(f"unknown settings in {name}: {', '.join(unknown)}")
        return given


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

    def __init__(self, args: AppArgs, device: str) -> None:
        self._model = load_inpainter(
            args.inpainter,
            adapter=args.adapter,
            adapters=args.adapters,
            num_steps=args.num_steps,
            options=args.diffusion,
            device=device,
        )
        self._config = args.fill
        self._batch.set_max_batch_size(args.max_batch_size)

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.01)
    async def _batch(self, calls: list[FillCall]) -> list[np.ndarray | Exception]:
        return await asyncio.to_thread(each_or_error, self._fill, calls)

    def _fill(self, calls: Sequence[FillCall]) -> list[np.ndarray]:
        return answer_calls(calls, None, self._model, self._config)

    async def fill(self, call: FillCall) -> np.ndarray | UserError:
        return _own_or_user_error(await self._batch(call))

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

    def __init__(
        self,
        segmenter: DeploymentHandle,
        inpainter: DeploymentHandle,
        config: RemovalConfig = RemovalConfig(),
    ) -> None:
        self._segmenter = segmenter
        self._inpainter = inpainter
        self._config = config

    async def remove(self, request: RemovalRequest) -> Removal:
        """Removes from one photo. The same steps as `Remover.remove`, each call on its deployment."""
        started = time.perf_counter()
        image, mask = request.image, request.mask
        if mask is None:
            found = await _call(self._segmenter.segment, image, clean_prompt(request.prompt))
        else:
            found = Segmentation(mask=mask, raw=mask, score=1.0, found=True)
        seconds = time.perf_counter() - started
        if not found.found:
            return Removal(
                image=image, mask=found.mask, found=False, score=found.score, seconds={"segment": seconds}
            )
        asked = {name: getattr(request, name) for name in ("verify", "attempts", "samples")}
        steps = fill_in_attempts(
            image,
            found.mask,
            prompt_to_verify(request.prompt),
            seed=request.seed,
            config=replace(self._config, **{k: value for k, value in asked.items() if value is not None}),
            adapter=request.adapter,
        )
        return removal_of(found, await self._run(steps), segment_seconds=seconds)

    async def _run(self, steps: Steps) -> Filled:
        reached = await asyncio.to_thread(advance, steps, None)
        while not isinstance(reached, Filled):
            answers = await asyncio.gather(*map(self._answer, reached))
            reached = await asyncio.to_thread(advance, steps, answers)
        return reached

    async def _answer(self, call: Call) -> Any:
        if isinstance(call, FillCall):
            return await _call(self._inpainter.fill, call)
        return await _call(self._segmenter.segment, call.image, call.prompt)

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
    folders = {
        "segmenter": absolute(args.segmenter),
        "inpainter": absolute(args.inpainter),
        "adapter": args.adapter and absolute(args.adapter),
        "adapters": {name: absolute(folder) for name, folder in args.adapters.items()},
    }
    args = args.model_copy(update=folders)
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
        segmenter.bind(args.segmenter, device, args.max_batch_size),
        inpainter.bind(args, device),
        args.removal,
    )
