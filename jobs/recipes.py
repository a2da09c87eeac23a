"""Named complete configurations of the trainings, and the command line that picks one: `--recipe NAME`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import tyro

from textremove.errors import ConfigError
from textremove.inpaint.objective import InpaintTrainConfig
from textremove.onray.finetune_inpainter import InpainterJob
from textremove.onray.train_segmenter import SegmenterJob
from textremove.segment.training import SegmenterTrainConfig

Job = TypeVar("Job")

SEGMENTER_RECIPES: Mapping[str, SegmenterJob] = {
    # The shipped architecture at 128 px; minutes on two cores.
    "tiny": SegmenterJob(
        data=tyro.MISSING,
        out=tyro.MISSING,
        architecture="tiny",
        precision="bfloat16",
        training=SegmenterTrainConfig(
            epochs=4, batch_size=24, learning_rate=2e-3, text_learning_rate=2e-3, plateau_patience=1
        ),
    ),
    # Paper sections 4.1 and 4.2: 15,000 rows (jobs.prepare_pipe --limit 15000), 512 px, ResNet-18 from
    # ImageNet, CLIP ViT-B/32, 40 epochs.
    "paper": SegmenterJob(
        data=tyro.MISSING,
        out=tyro.MISSING,
        architecture="paper",
        image_size=512,
        training=SegmenterTrainConfig(),
    ),
    # All of PIPE: sixteen times the paper's batch at four times its rates (the square root), sixteen 512 px
    # pictures at a time on a GPU, where `precision` is bfloat16 by itself.
    "full": SegmenterJob(
        data=tyro.MISSING,
        out=tyro.MISSING,
        architecture="paper",
        image_size=512,
        training=SegmenterTrainConfig(
            epochs=10,
            batch_size=256,
            micro_batch_size=16,
            learning_rate=4e-4,
            text_learning_rate=4e-5,
            plateau_patience=1,
            early_stopping_patience=3,
        ),
    ),
}

INPAINTER_RECIPES: Mapping[str, InpainterJob] = {
    # The shipped base at 128 px, which is sampled in very few steps.
    "tiny": InpainterJob(
        data=tyro.MISSING,
        out=tyro.MISSING,
        base="tiny-base",
        precision="bfloat16",
        training=InpaintTrainConfig(epochs=2, batch_size=8, learning_rate=1e-3, noisiest_share=0.5),
    ),
    # Paper section 4.3: SD2-inpainting at 512 px, two epochs, batches of one.
    "paper": InpainterJob(data=tyro.MISSING, out=tyro.MISSING, base="paper", training=InpaintTrainConfig()),
}

DEFAULT_RECIPE = "tiny"


def take_recipe(argv: Sequence[str], recipes: Mapping[str, Job]) -> tuple[Job, list[str]]:
    """Takes `--recipe NAME` out of the arguments.

    Returns:
        The recipe, and the arguments that are left.

    Raises:
        ConfigError: There is no recipe of that name.
    """
    name, rest = DEFAULT_RECIPE, []
    arguments = iter(argv)
    for argument in arguments:
        if argument == "--recipe":
            name = next(arguments, "")
        elif argument.startswith("--recipe="):
            name = argument.removeprefix("--recipe=")
        else:
            rest.append(argument)
    if name not in recipes:
        raise ConfigError(f"unknown recipe {name!r}; the recipes are {', '.join(recipes)}")
    return recipes[name], rest


def recipe_parser(
    main: Callable[[Any], object], recipes: Mapping[str, Job]
) -> Callable[[Sequence[str] | None], Job]:
    """Makes a parser in which a recipe gives the defaults and every other flag overrides one field.

    Args:
        main: Whose docstring is the help.
        recipes: By name.
    """

    def parse(argv: Sequence[str] | None) -> Job:
        recipe, rest = take_recipe(sys.argv[1:] if argv is None else argv, recipes)
        names = f"{', '.join(recipes)} ({DEFAULT_RECIPE} unless said)"
        return tyro.cli(
            type(recipe),
            args=rest,
            default=recipe,
            description=f"{main.__doc__}\n\n--recipe NAME sets the defaults: {names}.",
            config=(tyro.conf.OmitArgPrefixes,),
        )

    return parse
