"""Images made numbers, and an evaluation, as on a GPU: what comes back is what was asked for, once a batch."""

import pytest
import torch

from tests.rehearsal.fake_cuda import GPU, fake_cuda, on_gpu
from tests.train.small import MODEL, PREPROCESS
from vitrail.data.loader.normalise import normalise
from vitrail.data.transforms.pipeline import Preprocess
from vitrail.evals.inference import in_passes, outputs
from vitrail.models.build import build


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("where", ["cpu", "cuda:0"])
def test_pixels_become_numbers_on_the_device(channels: int, where: str) -> None:
    with fake_cuda() as seen:
        images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8, device=where)
        half = (0.5,) * channels
        for _ in range(2):
            numbers = normalise(images, Preprocess((8, 8), mean=half, std=half), GPU)
            assert (numbers.device, numbers.dtype, numbers.shape) == (GPU, torch.float32, (4, channels, 8, 8))
        assert torch.float64 not in seen.dtypes
        assert not seen.copied_back


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_of_an_evaluation_logits_and_representation_come_back(dtype: torch.dtype) -> None:
    with fake_cuda() as seen:
        model = on_gpu(lambda: build(MODEL)).eval()
        images = torch.zeros(7, 3, 8, 8, dtype=torch.uint8)
        logits, representation, most = in_passes(
            lambda part: outputs(model, part, PREPROCESS, dtype=dtype), images, most=4
        )
        assert (logits.device.type, logits.dtype, logits.shape) == ("cpu", torch.float32, (7, 10))
        assert representation.shape == (7, 16)
        assert most == 4
        assert len(seen.copied_back) == 4  # two a pass
        assert torch.float64 not in seen.dtypes
