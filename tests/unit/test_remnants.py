"""Objects of which a part is gone."""

from __future__ import annotations

import numpy as np

from textremove.pipe.remnants import remnant

RNG = np.random.default_rng(0)


def test_a_part_of_the_object_goes_with_its_outline_and_the_mask_is_what_is_left() -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:45] = 255
    image = np.where(mask[..., None] > 0, np.uint8(200), np.uint8(90)).repeat(3, axis=2)
    image[9, 19:46] = 100  # its outline, just outside the mask
    truth = np.full((40, 60, 3), 90, np.uint8)
    shares = set()
    for _ in range(30):
        picture, left = remnant(image, truth, mask, RNG)
        gone = (mask > 0) & (left == 0)
        assert set(np.unique(left)) == {0, 255}
        assert not (left > mask).any()
        assert (picture[gone] == 90).all()
        assert (picture[left > 0] == 200).all()
        if not left[:, 20:33].any():  # a whole side of it gone, its outline with it
            assert (picture[9, 20:32] == 90).all()
        shares.add(round(float(gone.sum() / (mask > 0).sum()), 1))
    assert min(shares) >= 0.2
    assert max(shares) <= 0.8
    assert len(shares) > 2
    assert (image[9, 19:46] == 100).all()  # what it was made of is untouched


def test_what_cannot_be_cut_stays_as_it_is() -> None:
    image, truth = np.full((8, 8, 3), 200, np.uint8), np.full((8, 8, 3), 90, np.uint8)
    for pixels in (0, 1):
        mask = np.zeros((8, 8), np.uint8)
        mask[:pixels, :pixels] = 255
        picture, left = remnant(image, truth, mask, RNG)
        assert (picture == image).all()
        assert (left == mask).all()
