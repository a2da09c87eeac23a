from __future__ import annotations

import numpy as np

from textremove.pipe.transforms import flip_example


def smooth(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) % 256], -1).astype(
        np.uint8
    )


def test_a_flip_mirrors_the_words_too() -> None:
    image, truth = smooth(8, 10), smooth(8, 10)[::-1]
    mask = np.zeros((8, 10), np.uint8)
    mask[:, 0] = 255
    flipped_image, flipped_mask, flipped_truth, prompt = flip_example(
        image, mask, truth, "cup at the top left"
    )
    assert prompt == "cup at the top right"
    assert flipped_mask[:, 9].all()
    assert not flipped_mask[:, :9].any()
    assert (flipped_image == image[:, ::-1]).all()
    assert (flipped_truth == truth[:, ::-1]).all()
    again = flip_example(flipped_image, flipped_mask, flipped_truth, prompt)
    assert (again[0] == image).all()
    assert again[3] == "cup at the top left"
