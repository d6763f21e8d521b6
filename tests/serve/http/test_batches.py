"""What shares a batch changes no bit of an answer; nobody waits for company that is not on its way."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.pictures import encoded, noise
from tests.serve.http.conftest import Running
from vitrail.runtimes.runtime import Runtime, RuntimeOutput
from vitrail.runtimes.same_bits import SameBits, agreeing_shapes, best_shape
from vitrail.serve.predictor import Predictor


@pytest.mark.parametrize(("count", "shape"), [(1, 2), (2, 2), (3, 2), (4, 4), (7, 4), (15, 8), (33, 16), (100, 16)])
def test_the_shape_computes_few_grey_images(count: int, shape: int) -> None:
    assert best_shape(count, (2, 4, 8, 16)) == shape


class ByShape(Runtime):
    """Answers that depend on the shape of the batch: even shapes round in one way, others in another."""

    name = "torch"

    def __init__(self, odd: set[int], by_place: bool = False):
        super().__init__("float32")
        self.odd, self.by_place, self.called = odd, by_place, list[int]()

    def compute(self, pixels: torch.Tensor) -> RuntimeOutput:
        self.called.append(len(pixels))
        means = pixels.mean(dim=(1, 2, 3)) + (1e-7 if len(pixels) in self.odd else 0)
        if self.by_place:
            means = means + torch.arange(len(means)) * 1e-6
        return RuntimeOutput(means[:, None], means[:, None])


def test_only_shapes_that_agree_are_used(tiny: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path))
    config = Predictor(tiny, device="cpu").model.config
    assert agreeing_shapes(ByShape({1, 8}), config, 2) == (2, 4, 16, 32)
    assert agreeing_shapes(ByShape(set(), by_place=True), config, 2) == (2,)
    runtime = ByShape({1, 8})
    steady = SameBits(runtime, config, most=20)
    images = torch.rand(37, 3, *config.resolution)
    alone = torch.cat([steady(image[None]).logits for image in images])
    assert set(runtime.called) == {2}  # until the others were tried
    together = steady(images).logits
    assert steady.shapes == (2, 4, 16)  # for 32 there is no memory
    assert torch.equal(alone, together)
    again = ByShape({1, 8})
    assert SameBits(again, config).shapes == (2, 4, 16)  # the cache knows
    assert not again.called


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_a_row_does_not_depend_on_its_batch(tiny: Path, runtime: str) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino")
    predictor = Predictor(tiny, device="cpu", runtime=runtime)  # type: ignore[arg-type]
    predictor.runtime.try_shapes()
    views = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (45, 3, 12, 16), dtype=np.uint8))
    whole = predictor.judge(views)
    rng = np.random.default_rng(2)
    for count in (1, 2, 3, 7, 20, 33):
        places = rng.choice(45, count, replace=False)
        part = predictor.judge(views[places])
        assert torch.equal(part.probabilities, whole.probabilities[places])
        assert torch.equal(part.representation, whole.representation[places])


def test_requests_at_once_share_batches_and_get_their_own_answers(server: Running, tiny: Path) -> None:
    files = [encoded(noise(10 + i % 7, 12 + i % 5, seed=i)) for i in range(24)]
    alone = [[tuple(label) for label in labels] for labels in Predictor(tiny, device="cpu").predict(files, top=4)]
    passes = server.life.service.metrics.text()
    wrong: list[int] = []

    def client(seed: int) -> None:
        for i in np.random.default_rng(seed).permutation(24).tolist():
            (row,) = server.post("/predict", content=files[i]).json()["predictions"]
            if [(label["name"], label["probability"]) for label in row["labels"]] != alone[i]:
                wrong.append(i)

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert server.life.service.metrics.text() != passes


def test_a_single_client_does_not_wait_for_company(server: Running) -> None:
    batcher = next(iter(server.life.service.models.values())).batcher
    kept, batcher._wait = batcher._wait, 5.0
    try:
        start = time.monotonic()
        server.post("/predict", content=encoded(noise(9, 9))).raise_for_status()
        assert time.monotonic() - start < 2
    finally:
        batcher._wait = kept
