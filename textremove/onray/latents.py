"""Latents once: a Ray Data stage encodes the training split through the VAE and keeps it as shards.

A cache folder belongs to what its latents depend on: the data, the VAE, the resolution and the holes. It
holds one parquet file for every 64 examples, each of which appears whole or not at all: a run that is cut
short leaves those it has, and the next run that wants the same latents writes only the others.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
import torch

from textremove.errors import ConfigError, DatasetError, UserError
from textremove.inpaint.holes import HoleConfig
from textremove.inpaint.latents import LatentBatch, LatentEncoder, load_encoder
from textremove.onray.cluster import PATIENCE_SECONDS
from textremove.onray.inpainter_squares import training_square
from textremove.onray.progress import Say
from textremove.onray.row_files import Piece, RowFiles
from textremove.storage import Store, absolute, open_store

LATENT_COLUMNS = ("truth", "masked", "mask")
_SETTINGS_FILE = "latents.json"
_FORMAT = 1
_FIRST_EPOCH = 1  # where holes are drawn, a cache keeps those of the first epoch


@dataclass(frozen=True, kw_only=True)
class EncodeJob:
    """What to encode, with what, and where to keep it.

    Attributes:
        rows: Training split of a prepared folder.
        fingerprint: The folder's.
        base: Hub id or folder of the base whose VAE encodes.
        holes: Which holes the examples get.
        seed: What holes are drawn from, where they are.
        location: Folder of caches, a path or an s3:// address; "" for one beside the prepared folder.
        num_actors: Encoding processes.
        gpu: Whether each has a GPU.
        cpus: CPU slots of each.
    """

    rows: RowFiles
    fingerprint: str
    base: str
    holes: HoleConfig
    seed: int
    location: str
    num_actors: int
    gpu: bool
    cpus: float


def cached_latents(job: EncodeJob, encoder: LatentEncoder, *, say: Say) -> RowFiles:
    """Encodes what the cache does not hold yet.

    Args:
        job: What, with what, where to.
        encoder: The base's, to know the cache by.
        say: Takes lines for a person.

    Returns:
        The cached rows, in the order of `job.rows`, with LATENT_COLUMNS.

    Raises:
        UserError: The cache cannot be written, or an example cannot be read.
    """
    store, pieces = _open_cache(job, encoder), job.rows.pieces()
    there = set(store.files(".parquet"))
    missing = [piece for piece in pieces if _name(piece) not in there]
    if missing:
        _encode(job, store, missing, num_kept=len(pieces) - len(missing), say=say)
    else:
        say(f"latents of all {job.rows.num_rows:,} examples are in {store.location} already")
    return RowFiles(
        store=store,
        files=tuple(store.path(_name(piece)) for piece in pieces),
        counts=tuple(piece.length for piece in pieces),
        columns=LATENT_COLUMNS,
    )


def read_latents(columns: dict[str, Any]) -> LatentBatch:
    """Reads LATENT_COLUMNS, sequences of bytes, back into a batch on the CPU."""
    masks = np.stack([np.frombuffer(data, np.uint8) for data in columns["mask"]])
    side = int(masks.shape[1] ** 0.5)

    def latents(name: str) -> torch.Tensor:
        values = np.stack([np.frombuffer(data, np.float32) for data in columns[name]])
        return torch.from_numpy(values.reshape(len(values), -1, side, side))

    return LatentBatch(
        truth_BCHW=latents("truth"),
        masked_BCHW=latents("masked"),
        mask_B1HW=torch.from_numpy(masks.reshape(-1, 1, side, side)).float(),
    )


def _open_cache(job: EncodeJob, encoder: LatentEncoder) -> Store:
    """The folder for exactly these latents, with a note in it of what they are."""
    settings = {
        "format": _FORMAT,
        "data": job.fingerprint,
        "vae": encoder.digest,
        "resolution": encoder.resolution,
        "holes": asdict(job.holes),
        "seed": job.seed if job.holes.is_drawn else None,
    }
    note = json.dumps(settings, indent=2, sort_keys=True) + "\n"
    root = job.location or f"{job.rows.store.location.rstrip('/')}.latents"
    store = open_store(absolute(root)).within(hashlib.sha256(note.encode()).hexdigest()[:16])
    if not store.exists(_SETTINGS_FILE):
        try:
            store.make()
            store.write(_SETTINGS_FILE, note.encode())
        except (OSError, ConfigError) as error:
            raise ConfigError(
                f"latents cannot be kept in {root} ({' '.join(str(error).split())}); give another place with "
                "--latents, or --cache-latents false"
            ) from None
    return store


def _name(piece: Piece) -> str:
    return f"part-{piece.file:05d}-{piece.start:07d}-{piece.length:02d}.parquet"


def _encode(job: EncodeJob, store: Store, pieces: list[Piece], *, num_kept: int, say: Say) -> None:
    if num_kept:
        say(f"latents of {num_kept} of {num_kept + len(pieces)} pieces are kept already; going on")
    actors = min(job.num_actors, len(pieces))
    rows = [asdict(piece) for piece in pieces]
    answers = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        _PieceEncoder,
        fn_constructor_args=(job, store),
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors),
        num_cpus=job.cpus,
        num_gpus=1 if job.gpu else None,
    )
    answers.context.execution_no_progress_timeout_s = PATIENCE_SECONDS
    examples, num_bytes = 0, 0
    for answer in answers.iter_rows():
        if answer["error"]:
            raise DatasetError(answer["error"])
        examples, num_bytes = examples + answer["examples"], num_bytes + answer["bytes"]
    say(f"encoded {examples:,} examples into {store.location} ({num_bytes / 2**20:,.1f} MiB)")


class _PieceEncoder:
    """Encodes pieces, one at a time; loads the VAE once."""

    def __init__(self, job: EncodeJob, store: Store) -> None:
        self.job, self.store = job, store
        if not job.gpu:
            torch.set_num_threads(max(1, int(len(os.sched_getaffinity(0)) / job.num_actors)))
        self.encoder = load_encoder(job.base, device="cuda" if job.gpu else "cpu")

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        piece = Piece(file=row["file"], start=row["start"], length=row["length"])
        try:
            table = self._encoded(piece)
        except UserError as error:  # told in one line by the driver, not in Ray's traceback
            return {"error": str(error), "examples": 0, "bytes": 0}
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer, compression="NONE")
        data = buffer.getvalue().to_pybytes()
        self.store.write(_name(piece), data)
        return {"error": "", "examples": table.num_rows, "bytes": len(data)}

    def _encoded(self, piece: Piece) -> pa.Table:
        job = self.job
        rows = job.rows.read(piece.file, range(piece.start, piece.start + piece.length)).to_pylist()
        first = sum(job.rows.counts[: piece.file]) + piece.start
        squares = [
            training_square(
                row | {"number": first + k, "epoch": _FIRST_EPOCH},
                resolution=self.encoder.resolution,
                holes=job.holes,
                seed=job.seed,
            )
            for k, row in enumerate(rows)
        ]
        batch = self.encoder.encode(squares)
        columns = {
            "truth": batch.truth_BCHW.cpu().numpy(),
            "masked": batch.masked_BCHW.cpu().numpy(),
            "mask": batch.mask_B1HW.cpu().numpy().astype(np.uint8),
        }
        return pa.table(
            {name: pa.array([row.tobytes() for row in values]) for name, values in columns.items()}
        )
