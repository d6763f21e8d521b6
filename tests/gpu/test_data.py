"""Batches on the device: copied by a stream of their own, augmented there, mixed there; the same as on the CPU."""

import pytest
import torch

from tests.train.small import PREPROCESS
from vitrail.core.seeds import generator
from vitrail.data.loader.loader import train_loader
from vitrail.data.loader.on_device import OnDeviceDataset
from vitrail.data.open.names import open_data
from vitrail.data.transforms.mixup import Mixing, mix
from vitrail.data.transforms.pipeline import Augment, InceptionCrop, PadCrop

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.filterwarnings("default"),
    pytest.mark.usefixtures("without_shape_checks"),
]

CPU = torch.device("cpu")


def test_copies_by_a_stream_of_their_own_are_whole_when_they_are_used(device: torch.device) -> None:
    data, augment = open_data("digits@train"), Augment(crop=InceptionCrop())
    asked = {"batch": 32, "seed": 1, "start": 0, "stop": 40, "predecessor": True}
    plain = train_loader(data, augment, PREPROCESS, workers=0, **asked)  # type: ignore[arg-type]
    moved = train_loader(data, augment, PREPROCESS, workers=2, device=device, **asked)  # type: ignore[arg-type]
    for one, other in zip(plain, moved, strict=True):
        doubled = other.images.float() * 2  # queued at once
        assert torch.equal((doubled / 2).to(torch.uint8).cpu(), one.images)
        assert torch.equal(other.labels.cpu(), one.labels)


@pytest.mark.parametrize("crop", [PadCrop(2), InceptionCrop((0.3, 1.0))])
def test_views_made_on_the_device_are_those_of_the_cpu(device: torch.device, crop: PadCrop | InceptionCrop) -> None:
    data = open_data("digits@train")
    here, there = (
        list(OnDeviceDataset(data, Augment(crop=crop), PREPROCESS, where).batches(batch=64, seed=0, start=0, stop=3))
        for where in (CPU, device)
    )
    for one, other in zip(here, there, strict=True):
        assert int((one.images.int() - other.images.cpu().int()).abs().max()) <= 1


@pytest.mark.parametrize("config", [Mixing(mixup=0.8), Mixing(cutmix=1.0)])
def test_mixing_is_that_of_the_cpu_bit_for_bit(device: torch.device, config: Mixing) -> None:
    images = torch.randint(0, 256, (9, 3, 8, 8), dtype=torch.uint8)
    labels = torch.arange(9)
    one = mix(images, labels, 10, config, generator(0, "m", 0))
    other = mix(images.to(device), labels.to(device), 10, config, generator(0, "m", 0))
    for ours, theirs in zip(one, other, strict=True):
        assert torch.equal(ours, theirs.cpu())
