from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from serve import api
from serve.models import ApiError
from textremove.attempts import Attempt
from textremove.errors import AdapterError, WeightsError
from textremove.images import decode_image, decode_mask, encode_image, encode_mask
from textremove.removal import Removal, clean_prompt


class InvertingEngine:
    """Finds the whole of any photo but a cat's, and turns its colours round."""

    def __init__(self):
        self.error = None
        self.asked = []

    async def remove(self, request):
        if self.error:
            raise self.error
        self.asked.append(request)
        image, mask = request.image, request.mask
        found = mask is not None or clean_prompt(request.prompt) != "cat"
        if mask is None:
            mask = np.full(image.shape[:2], 255 * found, np.uint8)
        return Removal(
            image=255 - image,
            mask=mask,
            found=found,
            score=0.875,
            seconds={"segment": 0.5},
            kept_seed=request.seed + 1,
            attempts=(
                Attempt(growth=0, seeds=(41,), scores=(0.5,)),
                Attempt(growth=3, seeds=(42,), scores=(0.0,)),
            ),
            **({} if request.verify is False else {"verified": True, "verify_score": 0.0}),
        )

    async def ready(self):
        return self.error is None


@pytest.fixture
def engine():
    return InvertingEngine()


@pytest.fixture
def client(engine):
    return TestClient(api.create_api(lambda: engine), raise_server_exceptions=False)


IMAGE = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
PNG = encode_image(IMAGE)


def post(client, image=PNG, *, mask=None, accept="*/*", **form):
    files = {"image": image} | ({"mask": mask} if mask else {})
    return client.post("/v1/removals", files=files, data={"prompt": "dog"} | form, headers={"accept": accept})


def error_of(answer):
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert error["type"] == ("server_error" if answer.status_code >= 500 else "invalid_request_error")
    assert error["message"]
    assert "\n" not in error["message"]
    return answer.status_code, error["code"], error["param"]


def test_answers_in_the_format_that_came(client, engine):
    answer = post(client, seed="41")
    assert answer.headers["content-type"] == "image/png"
    assert np.array_equal(decode_image(answer.content), 255 - IMAGE)
    (asked,) = engine.asked
    assert (asked.prompt, asked.seed) == ("dog", 41)
    assert {asked.adapter, asked.verify, asked.attempts, asked.samples} == {None}
    prefix = "textremove-"
    headers = {name.removeprefix(prefix): answer.headers[name] for name in answer.headers if prefix in name}
    assert headers == {
        "found": "true",
        "score": "0.8750",
        "seed": "41",
        "kept-seed": "42",
        "attempts": "2",
        "verified": "true",
        "verify-score": "0.0000",
    }
    webp = io.BytesIO()
    Image.fromarray(IMAGE).save(webp, "WEBP")
    assert post(client, webp.getvalue()).headers["content-type"] == "image/webp"


def test_answers_json_with_the_mask_when_asked(client):
    answer = post(client, accept="application/json").json()
    assert np.array_equal(decode_image(base64.b64decode(answer["image"])), 255 - IMAGE)
    assert decode_mask(base64.b64decode(answer["mask"])).all()
    assert answer["media_type"] == "image/png"
    assert (answer["found"], answer["score"], answer["seconds"]) == (True, 0.875, {"segment": 0.5})
    assert (answer["verified"], answer["verify_score"], answer["kept_seed"]) == (True, 0.0, 1)
    assert answer["attempts"][1] == {"growth": 3, "seeds": [42], "scores": [0.0]}


def test_a_request_says_how_hard_to_try_and_with_what(client, engine):
    answer = post(client, verify="false", attempts="2", samples="4", adapter="people")
    assert "textremove-verified" not in answer.headers
    (asked,) = engine.asked
    assert (asked.verify, asked.attempts, asked.samples, asked.adapter) == (False, 2, 4, "people")
    engine.error = AdapterError("no adapter 'people'; there are default, base")
    assert error_of(post(client)) == (422, "unknown_adapter", "adapter")


def test_mask_replaces_the_prompt(client):
    white = encode_mask(np.full((20, 30), 255, np.uint8))
    assert post(client, mask=white, prompt="cat").status_code == 200
    assert error_of(post(client, prompt="the cat")) == (422, "not_found", "prompt")


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"image": b"no photo"}, (415, "bad_image", "image")),
        ({"image": PNG[:60]}, (415, "bad_image", "image")),
        ({"mask": b"no mask"}, (415, "bad_image", "mask")),
        ({"mask": encode_mask(np.full((20, 31), 255, np.uint8))}, (422, "bad_mask", "mask")),
        ({"mask": encode_mask(np.zeros((20, 30), np.uint8))}, (422, "bad_mask", "mask")),
        ({"prompt": " . "}, (422, "bad_prompt", "prompt")),
        ({"seed": "-1"}, (422, "bad_field", "seed")),
        ({"seed": "many"}, (422, "bad_field", "seed")),
        ({"samples": "0"}, (422, "bad_field", "samples")),
        ({"samples": "9"}, (422, "bad_field", "samples")),
        ({"attempts": "99"}, (422, "bad_field", "attempts")),
        ({"verify": "perhaps"}, (422, "bad_field", "verify")),
    ],
)
def test_mistakes_name_their_field(client, request_, expected):
    assert error_of(post(client, **request_)) == expected


def test_too_many_pixels_in_a_small_file(client, monkeypatch):
    flat = io.BytesIO()
    Image.new("1", (9000, 9000)).save(flat, "PNG")
    assert error_of(post(client, flat.getvalue())) == (413, "image_too_large", "image")


def test_upload_limit_holds_with_and_without_an_announced_length(client, monkeypatch):
    monkeypatch.setattr(api, "MAX_UPLOAD_BYTES", 1000)
    assert error_of(post(client, bytes(2000)))[:2] == (413, "upload_too_large")
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    chunks = iter([head, *[bytes(500)] * 4, b"\r\n--x--\r\n"])
    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = client.post("/v1/removals", content=chunks, headers=headers)
    assert error_of(answer)[:2] == (413, "upload_too_large")


def test_missing_photo_and_wrong_addresses(client):
    assert error_of(client.post("/v1/removals", data={"prompt": "dog"})) == (422, "bad_field", "image")
    assert error_of(client.get("/v1/removal"))[:2] == (404, "no_such_address")
    assert error_of(client.get("/v1/removals"))[:2] == (405, "wrong_method")


def test_busy_says_when_to_come_back(client, engine):
    engine.error = ApiError(503, "overloaded", "too many removals at once", retry_after=2)
    answer = post(client)
    assert error_of(answer)[:2] == (503, "overloaded")
    assert answer.headers["retry-after"] == "2"
    assert error_of(client.get("/readyz"))[:2] == (503, "not_ready")
    assert client.get("/healthz").json() == {"status": "ok"}


def test_errors_of_the_engine_keep_their_status_and_bugs_keep_their_secrets(client, engine):
    engine.error = WeightsError("the folder is damaged")
    assert error_of(post(client))[:2] == (503, "bad_weights")
    engine.error = KeyError("/home/somebody/secret")
    answer = post(client)
    assert error_of(answer)[:2] == (500, "internal_error")
    assert "secret" not in answer.text


def test_openapi_names_every_answer(client):
    answers = client.get("/openapi.json").json()["paths"]["/v1/removals"]["post"]["responses"]
    assert set(answers) == {"200", "413", "415", "422", "503"}
    assert set(answers["200"]["content"]) == {"image/jpeg", "image/png", "image/webp", "application/json"}
    for status in ("413", "415", "422", "503"):
        schema = answers[status]["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/ErrorAnswer"}
