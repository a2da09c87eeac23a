"""What a saved model is: a folder with safetensors, and a manifest.json that says what they are.

No pickle anywhere: a checkpoint from a stranger can be read without running their code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from textremove.errors import WeightsError
from textremove.schema import SCHEMA_VERSION

MANIFEST_FILE = "manifest.json"
TENSORS_FILE = "model.safetensors"


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Hex SHA-256 over names and values of tensors, whatever the order they come in."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_manifest(folder: Path, *, kind: str, config: dict[str, Any], metadata: dict[str, Any]) -> None:
    """Writes manifest.json over all files that lie in a folder, with their digests. Call it last.

    Args:
        folder: Where the model's files are already.
        kind: What the model is ("conditioned-unet", "lora-adapter", ...).
        config: What is needed to build it again; JSON values only.
        metadata: What to know of it: metrics, data digest, how it was made; JSON values only.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST_FILE)
    manifest = {
        "kind": kind,
        "schema_version": SCHEMA_VERSION,
        "config": config,
        "metadata": metadata,
        "sha256": {str(path.relative_to(folder)): sha256_of(path) for path in files},
    }
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")


def read_manifest(path: str | Path, *, kind: str | None = None) -> dict[str, Any]:
    """Reads a model folder's manifest and checks its files against it.

    Args:
        path: The folder.
        kind: What it must be; anything when None.

    Raises:
        WeightsError: No such folder, no manifest, another kind or version, or a file that was changed.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise WeightsError(f"no model folder at {folder}")
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST_FILE).read_text())
    except FileNotFoundError:
        raise WeightsError(
            f"{folder} has no {MANIFEST_FILE}; it is not a model saved by textremove"
        ) from None
    except ValueError as error:
        raise WeightsError(f"{folder / MANIFEST_FILE} is not JSON ({error})") from None
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise WeightsError(
            f"{folder} has schema version {manifest.get('schema_version')}; "
            f"this software reads {SCHEMA_VERSION}"
        )
    if kind is not None and manifest.get("kind") != kind:
        raise WeightsError(f"{folder} holds a {manifest.get('kind')}, not a {kind}")
    for name, digest in manifest["sha256"].items():
        if not (folder / name).is_file() or sha256_of(folder / name) != digest:
            raise WeightsError(f"{folder / name} is missing or was changed since it was saved; copy it again")
    return manifest


def save_tensors(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Writes named tensors to the folder's safetensors file."""
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, folder / TENSORS_FILE
    )


def load_tensors(folder: str | Path) -> dict[str, Tensor]:
    """Reads the tensors of a model folder.

    Raises:
        WeightsError: The file is missing or is no safetensors file.
    """
    path = Path(folder) / TENSORS_FILE
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read: {error}") from None
