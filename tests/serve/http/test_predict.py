"""Labels over HTTP are those of `vitrail predict`, in every form of a request; what is wrong is said in a sentence."""

import base64
import io
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.pictures import encoded, noise
from tests.serve.http.conftest import CLASSES, SERVE, Running, save_tiny, serving
from vitrail.serve.predictor import Predictor


def expected(tiny: Path, data: bytes, top: int = 4) -> list[dict[str, Any]]:
    labels = Predictor(tiny, device="cpu").predict(data, top=top)
    return [{"name": label.name, "probability": label.probability} for label in labels]


def test_every_form_of_a_request_gets_what_predict_says(server: Running, tiny: Path) -> None:
    data = encoded(noise(30, 40), "JPEG")
    text = base64.b64encode(data).decode()
    answers = [
        server.post("/predict", files={"file": ("a.jpg", data)}),
        server.post("/predict", files={"file": ("a.jpg", data)}, data={"top": "4"}),
        server.post("/predict?top=4", content=data, headers={"content-type": "image/jpeg"}),
        server.post("/predict", json={"images": [text], "top": 4}),
        server.post("/models/tiny/predict", json={"images": [f"data:image/jpeg;base64,{text}"]}),
    ]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        said = answer.json()
        assert said["model"] == "tiny"
        (row,) = said["predictions"]
        assert row["labels"] == expected(tiny, data)  # to the last bit
    assert answers[0].json()["predictions"][0]["key"] == "a.jpg"


def test_several_images_answer_in_order_and_a_broken_one_harms_no_other(server: Running, tiny: Path) -> None:
    good = [encoded(noise(20 + i, 50 - i, seed=i)) for i in range(5)]
    files = [("f", (f"{i}.png", data)) for i, data in enumerate(good)]
    files.insert(2, ("f", ("broken.png", b"no image")))
    rows = server.post("/predict", files=files).json()["predictions"]
    assert [row["key"] for row in rows] == ["0.png", "1.png", "broken.png", "2.png", "3.png", "4.png"]
    assert rows.pop(2) == {"key": "broken.png", "error": "not an image of a known format", "status": 422}
    for row, data in zip(rows, good, strict=True):
        assert row["labels"] == expected(tiny, data)


def test_an_answer_does_not_wait_for_acknowledgements(server: Running) -> None:
    """With Nagle's algorithm its second packet would, for 40 ms: a single client got 12 labels a second, not 27."""
    assert server.get("/models").status_code == 200
    (connection, *_) = server.life.server.server_state.connections
    found = connection.transport.get_extra_info("socket")
    assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_one_broken_image_is_422_with_its_sentence(server: Running) -> None:
    answer = server.post("/predict", files={"f": ("x.jpg", b"")})
    assert answer.status_code == 422
    assert answer.json()["error"] == "x.jpg: empty file"
    assert answer.json()["request"] == answer.headers["x-request-id"]


def test_more_is_told_where_it_is_asked_for(server: Running, tiny: Path) -> None:
    data = encoded(noise(30, 40))
    asked = {"all_probabilities": "1", "representation": "yes", "attention": "true", "abstain_below": "1"}
    (row,) = server.post("/predict", files={"f": data}, data=asked).json()["predictions"]
    labels = {label.name: label.probability for label in Predictor(tiny, device="cpu").predict(data, top=4)}
    assert dict(zip(CLASSES, row["all_probabilities"], strict=True)) == labels
    assert row["sure"] is False
    assert len(row["representation"]) == 16
    grid = np.array(row["attention"]["grid"])
    assert grid.shape == (3, 4)
    assert (grid > 0).all()
    overlay = Image.open(io.BytesIO(base64.b64decode(row["attention"]["overlay"].partition(",")[2])))
    assert overlay.size == (16, 12)


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/predict?top=0", 400, "top is 0, expected 1 or more"),
        ("/predict?top=many", 400, "top is 'many', expected a number"),
        ("/predict?topp=3", 400, "unknown option 'topp'; did you mean 'top'?"),
        ("/predict?abstain_below=nan", 400, "abstain_below is 'nan', expected a number"),
        ("/predict?attention=perhaps", 400, "attention is 'perhaps', expected true or false"),
        ("/models/tinny/predict", 404, "unknown model 'tinny'; did you mean 'tiny'?"),
        ("/../../etc/passwd", 404, "there is no '/etc/passwd' here"),
    ],
)
def test_what_is_wrong_is_said(server: Running, path: str, status: int, sentence: str) -> None:
    answer = server.post(path, content=encoded(noise(9, 9)), headers={"content-type": "image/png"})
    assert (answer.status_code, answer.json()["error"]) == (status, sentence)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"images": ["http://example.com/cat.jpg"]}, "an address, and nothing is fetched: send the image itself"),
        ({"images": ["file:///etc/passwd"]}, "an address, and nothing is fetched: send the image itself"),
        ({"images": ["/etc/passwd"]}, "an image in JSON is not valid base64"),
        ({"images": [7]}, "an image in JSON is a string of base64"),
        ({"images": []}, "no image in the request"),
        ({"image": "x"}, 'expected {"images": ["base64…", …]}'),
        ([], 'expected {"images": ["base64…", …]}'),
    ],
)
def test_json_without_images_is_refused(server: Running, said: Any, sentence: str) -> None:
    answer = server.post("/predict", json=said)
    assert (answer.status_code, answer.json()["error"]) == (400, sentence)


def test_a_request_keeps_its_id_where_that_is_harmless(server: Running) -> None:
    assert server.get("/models", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert server.get("/models", headers={"x-request-id": "a b"}).headers["x-request-id"] != "a b"


def test_metrics_count_what_happened(server: Running) -> None:
    def numbers() -> dict[str, float]:
        lines = [line for line in server.get("/metrics").text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    before = numbers()
    server.post("/predict", files=[("f", encoded(noise(9, 9))), ("f", b"broken")])
    server.post("/predict", content=b"")
    after = numbers()

    def more(name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    assert more('vitrail_requests_total{what="predict",status="200"}') == 1
    assert more('vitrail_requests_total{what="predict",status="422"}') == 1
    assert more('vitrail_errors_total{kind="broken image"}') == 2
    assert more('vitrail_request_seconds_count{what="predict"}') == 2
    assert more("vitrail_batch_images_sum") == 1
    assert after['vitrail_ready{model="tiny"}'] == 1
    assert after["vitrail_queue_images"] == 0


def test_of_several_classes_an_image_all_that_reach_their_thresholds_are_labels(tmp_path: Path) -> None:
    source = save_tiny(tmp_path / "many", thresholds=(0.3, 0.5, 0.5, 0.7))
    files = [encoded(noise(20, 30, seed)) for seed in range(6)]
    expected = Predictor(source, device="cpu").predict(files)
    assert len({len(labels) for labels in expected}) > 1
    with serving(replace(SERVE, models=(str(source),))) as client:
        rows = client.post("/predict", files=[("f", data) for data in files]).json()["predictions"]
    found = [[(one["name"], one["probability"]) for one in row["labels"]] for row in rows]
    assert found == [[tuple(label) for label in labels] for labels in expected]
