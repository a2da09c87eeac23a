"""The `textremove` command: removes what a prompt names from one photo, without a cluster."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from textremove.attempts import RemovalConfig
from textremove.errors import UserError
from textremove.inpaint.crop import FillConfig
from textremove.inpaint.options import DiffusionOptions

if TYPE_CHECKING:
    from textremove.removal import Removal


@dataclass(frozen=True, kw_only=True)
class Remove:
    """Remove from a photo what a prompt names."""

    photo: tyro.conf.Positional[Path]
    """The photo: JPEG, PNG, WebP, BMP, TIFF or GIF."""
    prompt: tyro.conf.Positional[str]
    """What to remove and where: "person at the left"."""
    out: Path
    """Where the result goes. It keeps the photo's format, EXIF and colour profile."""
    mask: Path | None = None
    """A mask image, white = remove; then the prompt is only looked for to verify, and may be empty."""
    save_mask: Path | None = None
    """Where to write the mask that was found, as PNG."""
    segmenter: str = "tiny"
    """tiny, or the folder of a trained segmenter."""
    inpainter: str = "tiny"
    """tiny, tiny-base, paper, telea, navier-stokes, a folder or a hub id."""
    adapter: str | None = None
    """Folder of a LoRA adapter for the inpainter."""
    num_steps: int | None = None
    """Denoising steps; the inpainter's own number by default."""
    seed: int = 0
    """The same seed gives the same pixels."""
    removal: RemovalConfig = RemovalConfig()
    fill: FillConfig = FillConfig()
    diffusion: DiffusionOptions = DiffusionOptions()
    device: str = "cpu"
    """Where to run: cpu, cuda, cuda:1, ..."""


def remove(command: Remove) -> int:
    """Runs one removal. Returns the exit status: 0 done, 3 when nothing was found and nothing written."""
    # Read everything that can be wrong before loading models, which takes seconds.
    from textremove.atomic import atomic_file
    from textremove.images import decode_mask, encode_like, encode_mask, read_photo
    from textremove.removal import clean_prompt

    photo = read_photo(command.photo)
    mask = None
    if command.mask is None:
        clean_prompt(command.prompt)
    else:
        read_photo(command.mask)  # for its errors, which name the file
        mask = decode_mask(command.mask.read_bytes())

    from textremove.presets import load_remover

    remover = load_remover(
        command.segmenter,
        command.inpainter,
        adapter=command.adapter,
        num_steps=command.num_steps,
        options=command.diffusion,
        fill=command.fill,
        config=command.removal,
        device=command.device,
    )
    removal = remover.remove(photo.image, command.prompt, mask=mask, seed=command.seed)
    if not removal.found:
        print(
            f"not found: {command.prompt!r} in {command.photo} (score {removal.score:.2f}); nothing written"
        )
        return 3
    with atomic_file(command.out) as partial:
        partial.write_bytes(encode_like(photo, removal.image))
    if command.save_mask is not None:
        with atomic_file(command.save_mask) as partial:
            partial.write_bytes(encode_mask(removal.mask))
    seconds = ", ".join(f"{step} {taken:.2f} s" for step, taken in removal.seconds.items())
    print(f"{command.out}: removed {command.prompt!r} (score {removal.score:.2f}, {seconds})")
    print(_what_was_done(removal))
    return 0


def _what_was_done(removal: Removal) -> str:
    count = len(removal.attempts)
    filled = (
        f"filled in {count} attempt{'s' if count > 1 else ''} of {len(removal.attempts[0].seeds)}, "
        f"kept seed {removal.kept_seed}"
    )
    if removal.verified is None:
        return f"{filled}; not verified"
    if removal.verified:
        return f"verified: looked for again and not found where it was ({filled})"
    return (
        f"NOT verified: found again where it was (score {removal.verify_score:.2f}, {filled}); "
        f"try more --attempts, --samples or another --inpainter"
    )


def main() -> None:
    """Entry point of the `textremove` command."""
    try:
        command = tyro.extras.subcommand_cli_from_dict(
            {"remove": Remove},
            prog="textremove",
            description="Remove objects from photos by naming them. Many: python -m jobs.batch_remove.",
            config=(tyro.conf.OmitArgPrefixes,),  # --samples, not --removal.samples
        )
        status = remove(command)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("interrupted; nothing written", file=sys.stderr)
        status = 130
    sys.exit(status)
