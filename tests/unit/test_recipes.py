from __future__ import annotations

from dataclasses import replace

import pytest

from jobs import finetune_inpainter, train_segmenter
from jobs._main import run
from jobs.recipes import INPAINTER_RECIPES, SEGMENTER_RECIPES, recipe_parser
from textremove.errors import ConfigError

segmenter = recipe_parser(train_segmenter.main, SEGMENTER_RECIPES)
inpainter = recipe_parser(finetune_inpainter.main, INPAINTER_RECIPES)
REQUIRED = ["--data", "prepared", "--out", "model"]


def test_paper_recipe_is_the_papers() -> None:
    job = segmenter(["--recipe", "paper", *REQUIRED])
    assert (job.architecture, job.backbone, job.image_size) == ("paper", "imagenet", 512)
    training = job.training
    assert (training.bce_weight, training.dice_weight, training.learning_rate) == (0.3, 0.7, 1e-4)
    assert (training.epochs, training.plateau_factor, training.plateau_patience) == (40, 0.5, 3)
    assert training.early_stopping_patience == 10
    assert 0 < training.text_learning_rate < training.learning_rate
    assert job.text_encoder == "openai/clip-vit-base-patch32"
    adapter = inpainter(["--recipe=paper", *REQUIRED])
    assert (adapter.lora.rank, adapter.lora.alpha) == (4, 4)
    assert adapter.lora.target_modules == ("to_q", "to_k", "to_v", "to_out.0")
    assert (adapter.training.epochs, adapter.training.batch_size, adapter.training.learning_rate) == (
        2,
        1,
        1e-4,
    )


def test_full_recipe_is_the_papers_model_at_a_larger_batch() -> None:
    paper, full = segmenter(["--recipe", "paper", *REQUIRED]), segmenter(["--recipe", "full", *REQUIRED])
    assert replace(full, training=paper.training) == paper
    assert full.precision == "auto"  # bfloat16 on GPUs
    assert full.training.batch_size == 256
    assert full.training.micro_batch_size == paper.training.batch_size == 16


def test_flags_override_a_recipe_without_prefixes() -> None:
    job = segmenter([*REQUIRED, "--epochs", "3", "--num-workers", "4", "--tracking-uri", "none"])
    assert job.architecture == "tiny"
    assert (job.training.epochs, job.num_workers, job.tracking.tracking_uri) == (3, 4, "none")
    assert job.training.batch_size == SEGMENTER_RECIPES["tiny"].training.batch_size
    assert job.data == "prepared"


def test_unknown_recipe_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="unknown recipe 'huge'; the recipes are tiny, paper, full"):
        segmenter(["--recipe", "huge", *REQUIRED])


@pytest.mark.parametrize("arguments", [["--recipe", "huge"], ["--recipe"]])
def test_unknown_recipe_is_one_line_and_exit_two(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        run(train_segmenter.main, arguments, parse=segmenter)
    assert exit_.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
