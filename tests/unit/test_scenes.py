"""Procedural scenes: seeded, in PIPE's schema, exact outside the mask, unambiguous in their words."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from textremove.pipe.scene_rows import figure_one_scene, scene_rows, scene_targets, write_scene_shards
from textremove.pipe.scenes import SceneConfig, random_scene
from textremove.pipe.shapes import SHAPES, Palette, draw_shape
from textremove.places import PLACES, flip_place, place_of_box
from textremove.schema import PIPE_MASKS_SCHEMA, PIPE_SCHEMA


def _decode(cell: object) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(cell["bytes"])))  # type: ignore[index]


@pytest.fixture(scope="module")
def rows() -> list[dict[str, object]]:
    return list(scene_rows(5, 40))


def test_the_same_seed_gives_the_same_rows_and_another_gives_others(rows: list[dict[str, object]]) -> None:
    assert list(scene_rows(5, 40)) == rows
    assert list(scene_rows(5, 3)) == rows[: len(list(scene_rows(5, 3)))]
    assert list(scene_rows(5, 10, start=30)) == [r for r in rows if int(str(r["img_id"])[2:]) >= 30]
    assert next(scene_rows(6, 1))["target_img"] != rows[0]["target_img"]


def test_outside_the_mask_nothing_differs_and_inside_something_does(rows: list[dict[str, object]]) -> None:
    for row in rows:
        picture, truth, mask = _decode(row["target_img"]), _decode(row["source_img"]), _decode(row["mask"])
        assert picture.shape == truth.shape == (128, 128, 3)
        assert set(np.unique(mask)) == {0, 255}
        assert np.array_equal(picture[mask == 0], truth[mask == 0])
        assert np.abs(picture[mask > 0].astype(int) - truth[mask > 0]).mean() > 5


def test_the_words_fit_the_mask(rows: list[dict[str, object]]) -> None:
    words = {shape.plural for shape in SHAPES.values()} | set(SHAPES)
    for row in rows:
        thing = (
            str(row["Instruction_Class"]).lower().removeprefix("add ").removeprefix("an ").removeprefix("a ")
        )
        assert thing in words
        place = str(row["object_location"])
        assert place.startswith(" at the ")
        assert place.removeprefix(" at the ") in PLACES


def test_scenes_hold_what_they_promise() -> None:
    rng = np.random.default_rng(0)
    scenes = [random_scene(rng, SceneConfig()) for _ in range(150)]
    counts = {len(scene.things) for scene in scenes}
    assert {1, 2, 3, 4, 5} <= counts
    assert any(thing.shadow for scene in scenes for thing in scene.things)
    assert {thing.name for scene in scenes for thing in scene.things} == set(SHAPES)
    twins = sum(len({t.name for t in s.things}) < len(s.things) for s in scenes)
    plurals = sum(len(numbers) > 1 for s in scenes for numbers, _, _ in scene_targets(s))
    assert twins > 40
    assert plurals > 15


def test_a_singular_names_one_thing_only() -> None:
    rng = np.random.default_rng(1)
    for _ in range(80):
        scene = random_scene(rng, SceneConfig())
        asked = [(word, place) for _, word, place in scene_targets(scene)]
        assert len(asked) == len(set(asked))


def test_any_size_on_request() -> None:
    row = next(scene_rows(0, 1, SceneConfig(size=200)))
    assert _decode(row["target_img"]).shape == (200, 200, 3)


def test_shards_are_in_the_hub_s_layout_and_schema(tmp_path: Path) -> None:
    total = write_scene_shards(tmp_path, seed=2, num_scenes=12, rows_per_shard=10)
    images = sorted((tmp_path / "PIPE" / "data").glob("*.parquet"))
    masks = sorted((tmp_path / "PIPE_Masks" / "data").glob("*.parquet"))
    assert len(images) == len(masks) == -(-total // 10) > 1
    assert pq.read_schema(images[0]).equals(PIPE_SCHEMA)
    assert pq.read_schema(masks[0]).equals(PIPE_MASKS_SCHEMA)
    assert sum(pq.read_metadata(path).num_rows for path in images) == total


def test_figure_one_names_one_ball_and_both() -> None:
    picture, masks = figure_one_scene()
    one, both = masks["ball at the center left"], masks["balls at the center"]
    assert picture.shape == (128, 128, 3)
    assert 0 < np.count_nonzero(one) < np.count_nonzero(both)
    assert np.all(both[one > 0] == 255)
    ys, xs = np.nonzero(one)
    assert (
        place_of_box((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1), height=128, width=128) == "center left"
    )
    ys, xs = np.nonzero(both)
    assert place_of_box((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1), height=128, width=128) == "center"


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_every_shape_fills_its_square_and_differs_from_all_others(name: str) -> None:
    palette = Palette(main=(200, 40, 40), second=(40, 200, 40), third=(40, 40, 200))
    drawing = draw_shape(name, palette, width=48, height=48)
    assert drawing.shape == (48, 48, 4)
    assert drawing[..., 3].min() == 0.0
    assert drawing[..., 3].max() == pytest.approx(1.0)
    assert 0.2 < drawing[..., 3].mean() < 0.95
    others = [draw_shape(other, palette, width=48, height=48)[..., 3] for other in SHAPES if other != name]
    assert min(np.abs(drawing[..., 3] - other).mean() for other in others) > 0.02


@pytest.mark.parametrize(
    ("center", "place"),
    [
        ((0.5, 0.5), "center"),
        ((0.1, 0.5), "left"),
        ((0.3, 0.5), "center left"),
        ((0.9, 0.52), "right"),
        ((0.5, 0.1), "top"),
        ((0.5, 0.3), "center top"),
        ((0.5, 0.95), "bottom"),
        ((0.1, 0.1), "top left"),
        ((0.8, 0.8), "bottom right"),
    ],
)
def test_places(center: tuple[float, float], place: str) -> None:
    x, y = center[0] * 200, center[1] * 100
    assert place_of_box((x - 4, y - 4, x + 4, y + 4), height=100, width=200) == place


def test_a_mirrored_place_is_the_place_of_the_mirrored_box() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        x, y = rng.random(2)
        word = place_of_box((x - 0.1, y - 0.1, x + 0.1, y + 0.1), height=1, width=1)
        mirrored = place_of_box((0.9 - x, y - 0.1, 1.1 - x, y + 0.1), height=1, width=1)
        assert flip_place(f"ball at the {word}") == f"ball at the {mirrored}"
