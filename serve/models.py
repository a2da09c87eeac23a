"""What the HTTP API answers, and how each error becomes one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from textremove.errors import AdapterError, ImageError, PromptError, UserError

_CODE_OF_STATUS = {404: "no_such_address", 405: "wrong_method", 413: "upload_too_large"}


@dataclass(frozen=True, kw_only=True, eq=False)
class RemovalRequest:
    """A removal that is asked for, decoded. What is None is as the application was configured.

    Attributes:
        image: RGB uint8 (height, width, 3).
        prompt: As typed.
        mask: uint8 (height, width), 255 = remove, not empty; None to find it by the prompt.
        seed: Of the first filling.
        adapter: Which of the inpainter's adapters.
        verify: Whether to look again.
        attempts: How often to fill at most.
        samples: Fillings in each attempt.
    """

    image: np.ndarray
    prompt: str
    mask: np.ndarray | None = None
    seed: int = 0
    adapter: str | None = None
    verify: bool | None = None
    attempts: int | None = None
    samples: int | None = None


class AttemptAnswer(BaseModel):
    """One attempt at a removal."""

    growth: int = Field(description="Pixels that the mask was grown by.")
    seeds: list[int] = Field(description="One for each filling.")
    scores: list[float] = Field(
        description="Of each filling, the confidence with which the object was found again where it was; 0 "
        "when it was not. Empty when nobody looked."
    )


class RemovalAnswer(BaseModel):
    """A removal, when JSON was asked for."""

    image: str = Field(description="The photo without the object, base64.")
    media_type: str = Field(description="What the image is: image/jpeg, image/png or image/webp.")
    mask: str = Field(description="What was removed: PNG, white = removed, of the photo's size, base64.")
    found: bool
    score: float = Field(description="Confidence in [0, 1]; 1 when the mask was given.")
    seed: int = Field(description="As asked for: of the first filling.")
    kept_seed: int = Field(description="Of the filling that is answered.")
    verified: bool | None = Field(
        description="Whether the prompt no longer finds the object where it was; null when nobody looked."
    )
    verify_score: float | None = Field(
        description="The confidence in [0, 1] with which it still does, 0 when verified; null likewise."
    )
    attempts: list[AttemptAnswer] = Field(description="What was done, in order.")
    seconds: dict[str, float] = Field(description="Time in each step.")


class ErrorDetail(BaseModel):
    """What was wrong."""

    message: str = Field(description="One line for a person.")
    type: str = Field(description="invalid_request_error, or server_error when it is not the caller's.")
    param: str | None = Field(description="The field that was wrong.")
    code: str = Field(description="Short name, stable for programs to match on.")


class ErrorAnswer(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorDetail


class Health(BaseModel):
    """The body of a probe's answer."""

    status: str


class ApiError(Exception):
    """An error with everything that its answer says.

    Args:
        status: HTTP status.
        code: Short snake_case name.
        message: One line for a person.
        param: The field that was wrong.
        retry_after: Seconds after which to come back.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.retry_after = retry_after


def error_of(error: Exception) -> tuple[int, ErrorAnswer, dict[str, str]]:
    """Turns any error into status, body and headers. Of our own bugs, the body says nothing but that."""
    param, headers = None, {}
    if isinstance(error, ApiError):
        status, code, message, param = error.status, error.code, str(error), error.param
        if error.retry_after is not None:
            headers["Retry-After"] = str(error.retry_after)
    elif isinstance(error, UserError):
        status, code, message = error.status, error.code, str(error)
        param = {PromptError: "prompt", ImageError: "image", AdapterError: "adapter"}.get(type(error))
    elif isinstance(error, RequestValidationError):
        first = error.errors()[0]
        param = str(first["loc"][-1])
        status, code, message = 422, "bad_field", f"{param}: {first['msg']}"
    elif isinstance(error, HTTPException):
        status, message = error.status_code, str(error.detail)
        code = _CODE_OF_STATUS.get(status, "bad_request")
        headers = dict(error.headers or {})
    else:
        status, code, message = 500, "internal_error", "something went wrong on our side"
    kind = "server_error" if status >= 500 else "invalid_request_error"
    detail = ErrorDetail(message=" ".join(message.split()), type=kind, param=param, code=code)
    return status, ErrorAnswer(error=detail), headers
