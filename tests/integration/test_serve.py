"""The application on real Ray Serve, asked over HTTP."""

from __future__ import annotations

import base64
import io
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from PIL import Image

from serve.app import AppArgs
from serve.running import serving
from textremove.attempts import RemovalConfig
from textremove.errors import UserError
from textremove.images import decode_image, decode_photo, encode_image, encode_like
from textremove.presets import load_inpainter, load_segmenter
from textremove.removal import Remover

from .conftest import free_port

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


def jpeg(height: int, width: int) -> bytes:
    coarse = np.random.default_rng(height).integers(0, 255, (5, 5, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def test_http_equals_remover(ray_session, plain_models):
    adapters = {"other": plain_models.adapter}
    remover = Remover(
        load_segmenter(plain_models.segmenter), load_inpainter(plain_models.inpainter, adapters=adapters)
    )
    args = AppArgs(segmenter=plain_models.segmenter, inpainter=plain_models.inpainter, adapters=adapters)
    with serving(args, port=free_port()) as url, httpx.Client(base_url=url, timeout=120) as client:
        assert client.get("/readyz").status_code == 200

        def post(data: bytes, prompt: str, seed: int, accept: str = "*/*", **form: str) -> httpx.Response:
            form |= {"prompt": prompt, "seed": str(seed)}
            return client.post("/v1/removals", files={"image": data}, data=form, headers={"accept": accept})

        # Several at once, of several sizes, so that they are batched together.
        asked = [(jpeg(90 + 10 * n, 120), "Ball at the left", n) for n in range(4)]
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda request: post(*request), asked))
        for (data, prompt, seed), answer in zip(asked, answers, strict=True):
            photo = decode_photo(data)
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"] == "image/jpeg"
            assert answer.headers["textremove-seed"] == str(seed)
            # This segmenter finds its box in every photo: the attempts are made, and told.
            assert (answer.headers["textremove-verified"], answer.headers["textremove-attempts"]) == (
                "false",
                "3",
            )
            assert answer.content == encode_like(photo, remover.remove(photo.image, prompt, seed=seed).image)

        image = np.random.default_rng(1).integers(0, 255, (64, 80, 3), dtype=np.uint8)
        as_json = post(encode_image(image), "ball", 9, accept="application/json").json()
        expected = remover.remove(image, "ball", seed=9)
        assert np.array_equal(decode_image(base64.b64decode(as_json["image"])), expected.image)
        assert [attempt["seeds"] for attempt in as_json["attempts"]] == [[9], [10], [11]]

        adapted = post(encode_image(image), "ball", 9, adapter="other", verify="false", samples="3")
        remover.config = RemovalConfig(verify=False, samples=3)
        expected = remover.remove(image, "ball", seed=9, adapter="other")
        assert np.array_equal(decode_image(adapted.content), expected.image)
        assert not np.array_equal(expected.image, remover.remove(image, "ball", seed=9).image)
        assert adapted.headers["textremove-kept-seed"] == str(expected.kept_seed)
        assert (
            post(encode_image(image), "ball", 9, adapter="third").json()["error"]["code"] == "unknown_adapter"
        )

        nowhere = post(asked[0][0], "ball at the nowhere", 0)
        assert (nowhere.status_code, nowhere.json()["error"]["code"]) == (422, "not_found")
        assert post(asked[0][0], " ", 0).json()["error"]["param"] == "prompt"
        assert "/v1/removals" in client.get("/openapi.json").json()["paths"]


def test_a_model_that_is_not_there_is_one_line(ray_session):
    with (
        pytest.raises(UserError, match="^unknown segmenter 'tinny'[^\n]*$"),
        serving(AppArgs(segmenter="tinny", inpainter="telea"), port=free_port()),
    ):
        pass
