"""Models in the hub's layout, from the hub or a local folder, and one line for what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import logging as hub_logging
from transformers.utils import logging as transformers_logging

from textremove.errors import WeightsError

CONFIG_FILE = "config.json"
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def model_type(source: str) -> str:
    """Reads what kind of model a folder or hub id holds, without its weights.

    Args:
        source: Local folder in the hub's layout, or hub id ("owner/name").

    Returns:
        The `model_type` of its config.json.

    Raises:
        WeightsError: It does not say so, the folder holds no weights, or the hub does not give it.
    """
    path = Path(source) / CONFIG_FILE if Path(source).is_dir() else _config_from_hub(source)
    try:
        config = json.loads(path.read_text())
        kind = str(config["model_type"])
    except (ValueError, KeyError, TypeError):
        raise WeightsError(f"{path} does not say what model it is of (model_type)") from None
    if Path(source).is_dir() and not any(next(Path(source).glob(name), None) for name in _WEIGHTS):
        raise WeightsError(f"{source} has a {CONFIG_FILE} but no weights (*.safetensors); copy it again")
    return kind


def load_model(model_class: Any, processor_class: Any, source: str, *, device: str) -> tuple[Any, Any]:
    """Loads a model in evaluation mode, float32, and its processor.

    Weights that transformers would start at random, with a warning, are an error: such a model would answer
    nonsense with confidence.

    Args:
        model_class: A model class of transformers.
        processor_class: Its processor's class.
        source: Local folder in the hub's layout, or hub id.
        device: Where the weights go.

    Returns:
        Model and processor.

    Raises:
        WeightsError: It cannot be had, or is damaged or incomplete.
    """
    local = Path(source).is_dir()
    trouble = "" if local else _hub_trouble(source)
    where = {"local_files_only": local or bool(trouble)}
    try:
        with _quiet():
            processor = processor_class.from_pretrained(source, **where)
            model, loading = model_class.from_pretrained(
                source, dtype=torch.float32, output_loading_info=True, **where
            )
    # A damaged file raises nearly anything: SafetensorError, UnpicklingError, RuntimeError, KeyError, ...
    except Exception as error:
        raise WeightsError(trouble or f"{source} cannot be loaded: {_one_line(error)}") from None
    if missing := sorted(loading["missing_keys"]):
        raise WeightsError(
            f"{source} lacks {len(missing)} of its weights, {missing[0]} among them; get it again"
        )
    return model.eval().to(device), processor


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences what transformers and the hub's client report: what goes wrong is one line of our own."""
    transformers_logging.disable_progress_bar()  # for reading a few files; downloads still show theirs
    loggers = (transformers_logging, hub_logging)
    verbosities = [logger.get_verbosity() for logger in loggers]
    for logger in loggers:
        logger.set_verbosity_error()
    try:
        yield
    finally:
        for logger, verbosity in zip(loggers, verbosities, strict=True):
            logger.set_verbosity(verbosity)


def _config_from_hub(source: str) -> Path:
    trouble = _hub_trouble(source)
    try:
        with _quiet():
            return Path(hf_hub_download(source, CONFIG_FILE, local_files_only=bool(trouble)))
    except (LocalEntryNotFoundError, HfHubHTTPError, httpx.HTTPError, OSError) as error:
        raise WeightsError(trouble or _no_network(source, error)) from None


def _hub_trouble(source: str) -> str:
    """Why a model cannot be had from the hub now, in a line for a person; "" when it can.

    One request and no retries: left to itself the hub's client tries every file for half a minute. What is
    in its cache can be used all the same.
    """
    try:
        get_hf_file_metadata(hf_hub_url(source, CONFIG_FILE))
    except GatedRepoError:
        return (
            f"{source} is gated on the hub: accept its licence at https://huggingface.co/{source} and log in "
            "with `hf auth login`, or give the local folder of a copy"
        )
    except RepositoryNotFoundError:
        return f"{source} is neither a folder here nor a public model on the hub; check its name"
    except EntryNotFoundError:
        return f"{source} has no {CONFIG_FILE} on the hub; it is no model that transformers can load"
    except (HfHubHTTPError, httpx.HTTPError, OSError) as error:
        return _no_network(source, error)
    return ""


def _no_network(source: str, why: object) -> str:
    return (
        f"{source} is no folder here and cannot be got from the hub ({_one_line(why)}); "
        "download it where there is a network and give its local folder instead of the hub id"
    )


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
