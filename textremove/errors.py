"""Errors that are the user's to mend: each is one line saying what was wrong and what to do."""

from __future__ import annotations


class UserError(Exception):
    """A mistake a user can mend. The message is one line, shown without a traceback.

    Attributes:
        code: Short snake_case name of the mistake, stable for programs to match on.
        status: The HTTP status that an online answer carries for it.
    """

    code = "bad_request"
    status = 422


class PromptError(UserError):
    """A prompt that names nothing, such as an empty string."""

    code = "bad_prompt"


class ImageError(UserError):
    """Bytes that are not an image this software accepts.

    Args:
        message: The line for the user.
        reason: Why, as counted in datasets and manifests (``not_an_image``, ``truncated``, ...).
    """

    code = "bad_image"
    status = 415

    def __init__(self, message: str, reason: str = "not_an_image") -> None:
        super().__init__(message)
        self.reason = reason


class ImageTooLargeError(ImageError):
    """An image beyond the pixel limit."""

    code = "image_too_large"
    status = 413


class DatasetError(UserError):
    """A dataset that is missing, empty or of another shape than asked for."""

    code = "bad_dataset"


class WeightsError(UserError):
    """A model that cannot be found or loaded, or an adapter that would change nothing."""

    code = "bad_weights"
    status = 503


class ConfigError(UserError):
    """A setting with no meaning here: an unknown preset, recipe, segmenter or inpainter."""

    code = "bad_config"


class AdapterError(ConfigError):
    """The name of an adapter that the inpainter does not have."""

    code = "unknown_adapter"
