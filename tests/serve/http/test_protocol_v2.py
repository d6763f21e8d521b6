"""The Open Inference Protocol: in JSON and with binary tensors, driven by Triton's own client where it is installed."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.data.pictures import encoded, noise
from tests.serve.http.conftest import CLASSES, Running
from vitrail.data.loader.normalise import normalise
from vitrail.serve.predictor import Predictor


def infer(server: Running, *inputs: dict[str, Any], **more: Any) -> Any:
    return server.post("/v2/models/tiny/infer", json={"inputs": list(inputs), **more})


def probabilities(tiny: Path, images: list[Any]) -> np.ndarray:
    answers = Predictor(tiny, device="cpu").predict(images, top=4)
    return np.array([[dict(labels)[name] for name in CLASSES] for labels in answers], np.float32)


def test_probes_and_what_is_there(server: Running) -> None:
    for path in ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/tiny", "/v2/models/tiny/ready"):
        assert server.get(path).status_code == 200, path
    about = server.get("/v2/models/tiny").json()
    assert about["versions"] == [server.get("/models/tiny").json()["version"]]
    assert server.get("/v2/models/tiny/versions/1").status_code == 404
    assert server.get("/v2/models/none").status_code == 404


def test_encoded_images_pixels_and_normalised_numbers_get_the_same_bits(server: Running, tiny: Path) -> None:
    pixels = [noise(12, 16, seed) for seed in range(3)]
    files = [encoded(one) for one in pixels]
    expected = probabilities(tiny, files)
    texts = [base64.b64encode(data).decode() for data in files]
    predictor = Predictor(tiny, device="cpu")
    views = torch.from_numpy(np.stack([predictor._view(data).transpose(2, 0, 1) for data in files]))  # type: ignore[union-attr]
    numbers = normalise(views, predictor.model.preprocess, torch.device("cpu")).numpy()
    for said in (
        {"name": "image", "datatype": "BYTES", "shape": [3], "data": texts},
        {"name": "pixels", "datatype": "UINT8", "shape": [3, 12, 16, 3], "data": np.stack(pixels).ravel().tolist()},
        {"name": "pixels", "datatype": "UINT8", "shape": [3, 12, 16, 3], "data": np.stack(pixels).tolist()},
        {"name": "normalised", "datatype": "FP32", "shape": [3, 3, 12, 16], "data": numbers.ravel().tolist()},
    ):
        answer = infer(server, said, id="seven")
        assert answer.status_code == 200, answer.text
        found = {one["name"]: one for one in answer.json()["outputs"]}
        assert answer.json()["id"] == "seven"
        assert found["probabilities"]["shape"] == [3, 4]
        assert np.array_equal(np.array(found["probabilities"]["data"], np.float32).reshape(3, 4), expected)
        assert found["label"]["data"] == [CLASSES[i] for i in expected.argmax(axis=1)]
        assert found["representation"]["shape"] == [3, 16]


IMAGE = {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["AAAA"]}


@pytest.mark.parametrize(
    ("said", "status", "sentence"),
    [
        ({"inputs": []}, 400, "expected one input"),
        ([], 400, "expected one input"),
        ({"inputs": [IMAGE]}, 422, "image 0: not an image of a known format"),
        ({"inputs": [IMAGE | {"name": "imagee"}]}, 400, "unknown input 'imagee'"),
        ({"inputs": [IMAGE | {"shape": [2]}]}, 400, "image has 1 values, its shape says 2"),
        ({"inputs": [IMAGE | {"shape": [-1]}]}, 400, "image is BYTES with 1 dimensions"),
        ({"inputs": [IMAGE | {"shape": [True]}]}, 400, "image is BYTES with 1 dimensions"),
        ({"inputs": [IMAGE | {"datatype": "FP32"}]}, 400, "image is BYTES"),
        ({"inputs": [IMAGE | {"parameters": {"binary_data_size": 9}}]}, 400, "binary_data_size is 9, and 0 bytes"),
        ({"inputs": [IMAGE | {"shape": [65], "data": [""] * 65}]}, 413, "65 images"),
        (
            {"inputs": [{"name": "normalised", "datatype": "FP32", "shape": [1, 3, 1, 1], "data": [1, 2, 3]}]},
            400,
            "normalised is [1, 3, 1, 1], expected finite numbers [n, 3, 12, 16]",
        ),
        (
            {"inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [1, 2, 300]}]},
            400,
            "the values are no UINT8",
        ),
    ],
)
def test_what_is_wrong_is_said(server: Running, said: Any, status: int, sentence: str) -> None:
    answer = server.post("/v2/models/tiny/infer", json=said)
    assert answer.status_code == status
    assert sentence in answer.json()["error"]


@pytest.mark.parametrize("length", ["-1", "x", "99999", "3", "9" * 30])
def test_a_wrong_length_of_the_header_is_refused(server: Running, length: str) -> None:
    headers = {"inference-header-content-length": length}
    assert server.post("/v2/models/tiny/infer", content=json.dumps({"inputs": []}), headers=headers).status_code == 400


def test_tritons_client_talks_to_it(server: Running, tiny: Path) -> None:
    client_of = pytest.importorskip("tritonclient.http", reason="needs pip install 'tritonclient[http]'")
    client = client_of.InferenceServerClient(f"127.0.0.1:{server.life.port}")
    try:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("tiny")
        assert client.get_model_metadata("tiny")["inputs"][0]["name"] == "image"
        files = [encoded(noise(20, 30, seed), "JPEG") for seed in range(3)]
        pixels = np.stack([noise(20, 30, seed) for seed in range(3)])
        for binary in (True, False):
            encoded_input = client_of.InferInput("image", [3], "BYTES")
            encoded_input.set_data_from_numpy(np.array(files, dtype=np.object_), binary_data=True)
            raw_input = client_of.InferInput("pixels", list(pixels.shape), "UINT8")
            raw_input.set_data_from_numpy(pixels, binary_data=binary)
            for given, images in ((encoded_input, files), (raw_input, list(pixels))):
                outputs = [
                    client_of.InferRequestedOutput(name, binary_data=binary) for name in ("probabilities", "label")
                ]
                result = client.infer("tiny", [given], outputs=outputs)
                expected = probabilities(tiny, images)
                assert np.array_equal(result.as_numpy("probabilities"), expected)
                labels = [str(text, "utf-8") if isinstance(text, bytes) else text for text in result.as_numpy("label")]
                assert labels == [CLASSES[i] for i in expected.argmax(axis=1)]
            top = client_of.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)
            classified = client.infer("tiny", [encoded_input], outputs=[top]).as_numpy("probabilities")
            assert classified.shape == (3, 2)
            first = classified[0, 0]
            assert (first.decode() if isinstance(first, bytes) else first).endswith(
                ":" + CLASSES[probabilities(tiny, files)[0].argmax()]
            )
        with pytest.raises(
            client_of.InferenceServerException if hasattr(client_of, "InferenceServerException") else Exception,
            match="unknown model",
        ):
            client.get_model_metadata("tinny")
    finally:
        client.close()
