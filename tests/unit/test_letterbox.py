from __future__ import annotations

import numpy as np
import pytest

from textremove.letterbox import PAD_COLOR, Letterbox


def smooth(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) % 256], -1).astype(
        np.uint8
    )


@pytest.mark.parametrize(("height", "width"), [(60, 100), (100, 60), (64, 64), (1, 200), (333, 500)])
def test_a_box_keeps_its_place_there_and_back(height: int, width: int) -> None:
    box = Letterbox(side=64, height=height, width=width)
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 4 + max(1, height // 2), width // 4 : width // 4 + width // 2] = 255
    back = box.mask_back(box.mask(mask))
    assert back.shape == mask.shape
    assert set(np.unique(back)) <= {0, 255}
    tolerance = 4 * (height + width) * max(1, max(height, width) / 64)  # an edge of a pixel of the square
    assert (back != mask).sum() <= tolerance


def test_aspect_ratio_is_kept_and_the_border_is_padding() -> None:
    box = Letterbox(side=64, height=50, width=100)
    square = box.image(np.full((50, 100, 3), 200, np.uint8))
    assert box.inner_size == (32, 64)
    assert box.offset == (16, 0)
    assert (square[16:48] == 200).all()
    assert (square[:16] == PAD_COLOR).all()
    assert (square[48:] == PAD_COLOR).all()
    assert (box.valid() == (square[..., 0] == 200)).all()
    assert box.mask(np.full((50, 100), 255, np.uint8))[:16].max() == 0


def test_a_square_photo_at_its_own_size_is_unchanged() -> None:
    image = smooth(64, 64)
    box = Letterbox(side=64, height=64, width=64)
    assert (box.image(image) == image).all()
    assert (box.image_back(box.image(image)) == image).all()


def test_an_image_comes_back_nearly_as_it_went() -> None:
    image = smooth(60, 100)[..., :2].repeat(2, -1)[..., :3]
    box = Letterbox(side=128, height=60, width=100)
    difference = np.abs(box.image_back(box.image(image)).astype(int) - image)
    assert difference.mean() < 2


def test_a_photo_of_another_size_is_a_bug() -> None:
    with pytest.raises(ValueError, match="60x100"):
        Letterbox(side=64, height=60, width=100).mask(np.zeros((100, 60), np.uint8))
