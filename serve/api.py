"""The HTTP API: one photo and a few words in, the photo without the object out.

Knows nothing of Ray. What does the work is an engine behind a protocol, so that the whole API can be tested,
and its OpenAPI document read, without a model or a cluster.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Annotated, Any, Protocol, TypeVar

import numpy as np
from fastapi import FastAPI, File, Form, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.models import (
    ApiError,
    AttemptAnswer,
    ErrorAnswer,
    Health,
    RemovalAnswer,
    RemovalRequest,
    error_of,
)
from textremove.attempts import MAX_ATTEMPTS, MAX_SAMPLES
from textremove.errors import ImageError, UserError
from textremove.images import Photo, decode_mask, decode_photo, encode_like, encode_mask
from textremove.removal import Removal

MAX_UPLOAD_BYTES = 64 * 2**20
"""Largest request body; the pixel limit of `textremove.images` comes on top."""

MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}

Decoded = TypeVar("Decoded")


class Engine(Protocol):
    """What answers removals."""

    async def remove(self, request: RemovalRequest) -> Removal:
        """Removes from one photo, as `textremove.removal.Remover.remove`. Raises UserError or ApiError."""
        ...

    async def ready(self) -> bool:
        """Whether a removal would be answered now."""
        ...


def create_api(engine: Callable[[], Engine]) -> FastAPI:
    """Builds the HTTP application.

    Args:
        engine: Gives the engine; called for each request.
    """
    api = FastAPI(
        title="textremove",
        summary="Remove objects from photos by naming them.",
        middleware=[Middleware(_UploadLimit)],
    )

    @api.post(
        "/v1/removals",
        summary="Remove what a prompt names",
        response_class=Response,
        responses={
            200: {
                "description": "The photo without the object, in the format it came in; with `Accept: "
                "application/json`, the same in base64, with the mask.",
                "content": {
                    name: {"schema": {"type": "string", "format": "binary"}} for name in MEDIA_TYPES.values()
                },
                "model": RemovalAnswer,
            },
            413: {"description": "Too many bytes or pixels.", "model": ErrorAnswer},
            415: {"description": "Not an image this software reads.", "model": ErrorAnswer},
            422: {"description": "A wrong field; or code `not_found`: no such object.", "model": ErrorAnswer},
            503: {"description": "Too busy; come back after `Retry-After` seconds.", "model": ErrorAnswer},
        },
    )
    async def create_removal(
        request: Request,
        image: Annotated[UploadFile, File(description="The photo: JPEG, PNG, WebP, BMP, TIFF or GIF.")],
        prompt: Annotated[str, Form(description='What to remove: "person at the left".')] = "",
        mask: Annotated[
            UploadFile | None,
            File(
                description="White where to remove, of the photo's size. Replaces the prompt, which then "
                "only verifies and may be empty."
            ),
        ] = None,
        seed: Annotated[int, Form(ge=0, lt=2**63, description="The same seed gives the same pixels.")] = 0,
        adapter: Annotated[
            str | None, Form(description='Which of the configured adapters; "base" for none of them.')
        ] = None,
        verify: Annotated[
            bool | None,
            Form(description="Whether to look for the object again, and fill again while it is found."),
        ] = None,
        attempts: Annotated[
            int | None, Form(ge=1, le=MAX_ATTEMPTS, description="How often to fill at most, when verifying.")
        ] = None,
        samples: Annotated[
            int | None,
            Form(ge=1, le=MAX_SAMPLES, description="Fillings in each attempt, of which the best is kept."),
        ] = None,
    ) -> Response:
        photo = await _decode("image", image, decode_photo)
        own_mask = await _decode("mask", mask, decode_mask) if mask else None
        _check_mask(photo, own_mask)
        removal = await engine().remove(
            RemovalRequest(
                image=photo.image,
                prompt=prompt,
                mask=own_mask,
                seed=seed,
                adapter=adapter,
                verify=verify,
                attempts=attempts,
                samples=samples,
            )
        )
        if not removal.found:
            raise ApiError(422, "not_found", f"nothing found for {prompt!r}; try other words", param="prompt")
        data = await asyncio.to_thread(encode_like, photo, removal.image)
        if _wants_json(request.headers.get("accept", "")):
            return JSONResponse(_answer(photo, removal, data, seed).model_dump())
        return Response(data, media_type=MEDIA_TYPES[photo.format], headers=_headers(removal, seed))

    @api.get("/healthz", summary="Whether the process answers")
    async def healthz() -> Health:
        return Health(status="ok")

    @api.get(
        "/readyz", summary="Whether a removal would be answered", responses={503: {"model": ErrorAnswer}}
    )
    async def readyz() -> Health:
        if not await engine().ready():
            raise ApiError(503, "not_ready", "the models are not answering", retry_after=5)
        return Health(status="ok")

    api.add_exception_handler(ApiError, _answer_error)
    api.add_exception_handler(UserError, _answer_error)
    api.add_exception_handler(RequestValidationError, _answer_error)
    api.add_exception_handler(HTTPException, _answer_error)
    api.add_exception_handler(Exception, _answer_error)
    return api


def _check_mask(photo: Photo, mask: np.ndarray | None) -> None:
    if mask is not None and mask.shape != photo.image.shape[:2]:
        (height, width), (own_height, own_width) = photo.image.shape[:2], mask.shape
        raise ApiError(
            422,
            "bad_mask",
            f"the mask is {own_width}x{own_height} and the photo {width}x{height}; make them the same",
            param="mask",
        )
    if mask is not None and not mask.any():
        raise ApiError(422, "bad_mask", "the mask is black all over; white is what is removed", param="mask")


async def _decode(field: str, upload: UploadFile, decode: Callable[[bytes], Decoded]) -> Decoded:
    data = await upload.read()
    try:
        return await asyncio.to_thread(decode, data)
    except ImageError as error:
        raise ApiError(error.status, error.code, str(error), param=field) from None


def _wants_json(accept: str) -> bool:
    return "application/json" in accept and "image/" not in accept


def _answer(photo: Photo, removal: Removal, data: bytes, seed: int) -> RemovalAnswer:
    return RemovalAnswer(
        image=base64.b64encode(data).decode(),
        media_type=MEDIA_TYPES[photo.format],
        mask=base64.b64encode(encode_mask(removal.mask)).decode(),
        found=removal.found,
        score=removal.score,
        seed=seed,
        kept_seed=removal.kept_seed,
        verified=removal.verified,
        verify_score=removal.verify_score,
        attempts=[
            AttemptAnswer(growth=one.growth, seeds=list(one.seeds), scores=list(one.scores))
            for one in removal.attempts
        ],
        seconds=removal.seconds,
    )


def _headers(removal: Removal, seed: int) -> dict[str, str]:
    headers = {
        "Textremove-Found": "true",
        "Textremove-Score": f"{removal.score:.4f}",
        "Textremove-Seed": str(seed),
        "Textremove-Kept-Seed": str(removal.kept_seed),
        "Textremove-Attempts": str(len(removal.attempts)),
    }
    if removal.verified is not None:
        headers["Textremove-Verified"] = str(removal.verified).lower()
        headers["Textremove-Verify-Score"] = f"{removal.verify_score:.4f}"
    return headers


async def _answer_error(request: Request, error: Exception) -> JSONResponse:
    status, answer, headers = error_of(error)
    return JSONResponse(answer.model_dump(), status_code=status, headers=headers)


class _UploadLimit:
    """Refuses a body over the limit, by its announced length or, without one, as it comes in."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = ApiError(413, "upload_too_large", f"the request is over {MAX_UPLOAD_BYTES:,} bytes")
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > MAX_UPLOAD_BYTES:
            await (await _answer_error(Request(scope), refusal))(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message: Any = await receive()
            received += len(message.get("body", b""))
            if received > MAX_UPLOAD_BYTES:
                # Not ApiError: the form parser lets nothing else pass unchanged.
                raise HTTPException(413, str(refusal))
            return message

        await self._app(scope, counted, send)
