"""Named generators; names of devices."""

import numpy as np
import pytest
import torch

from vitrail.core.device import choose_device, choose_precision, out_of_memory, peak_flops
from vitrail.core.errors import BadInput, nearest, unknown
from vitrail.core.pool import usable_cores
from vitrail.core.seeds import Keyed, generator, torch_seed


def test_the_same_names_give_the_same_numbers_whatever_was_drawn_before() -> None:
    first = generator(3, "augment", 1, 2).random(5)
    generator(3, "order", 1).random(1000)
    assert np.array_equal(generator(3, "augment", 1, 2).random(5), first)


def test_different_names_give_different_numbers() -> None:
    names: list[tuple[int, tuple[str | int, ...]]] = [
        (0, ("augment", 1, 2)),
        (0, ("augment", 2, 1)),
        (0, ("augment", 1, 3)),
        (1, ("augment", 1, 2)),
        (0, ("order", 1, 2)),
        (0, ("order", 1)),
        (0, ("order", 2)),
        (2, ("order", 0)),
    ]
    draws = [generator(seed, *name).integers(1 << 62) for seed, name in names]
    seeds = [torch_seed(seed, *name) for seed, name in names]
    assert len(set(draws)) == len(names)
    assert len(set(seeds)) == len(names)
    assert all(0 <= seed < 1 << 63 for seed in seeds)


def test_neighbouring_generators_are_not_correlated() -> None:
    draws = np.array([generator(0, "augment", 0, i).random(200) for i in range(100)])
    correlation = np.corrcoef(draws)
    largest = np.abs(correlation - np.eye(100)).max()
    assert largest < 0.35  # measured 0.25; the largest of 4,950 independent ones is about 4 / sqrt(200) = 0.28


def test_a_place_of_a_keyed_stream_gives_the_same_numbers_whatever_was_drawn_before() -> None:
    stream = Keyed(3, "augment")
    first = {(i, j): stream.at(i, j).random(9).tolist() for i in range(4) for j in range(5)}
    for i, j in ((3, 1), (0, 0), (2, 4), (2, 4)):
        stream.at(1, 1).integers(7, size=3, dtype=np.uint32)  # leaves half of a 64-bit number behind
        assert stream.at(i, j).random(9).tolist() == first[i, j]
        assert Keyed(3, "augment").at(i, j).random(9).tolist() == first[i, j]
    numbers = [number for row in first.values() for number in row]
    assert len(set(numbers)) == len(numbers)
    for other in (Keyed(4, "augment"), Keyed(3, "scatter")):
        assert other.at(0, 0).random(9).tolist() != first[0, 0]


def test_neighbouring_places_are_not_correlated() -> None:
    stream = Keyed(0, "augment")
    draws = np.array(
        [stream.at(0, i).random(200) for i in range(50)] + [stream.at(i, 0).random(200) for i in range(1, 50)]
    )
    assert np.abs(np.corrcoef(draws) - np.eye(99)).max() < 0.35  # as above


def test_auto_is_a_device_that_is_there() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "CPU 0", "", "meta", "mps"])
def test_a_bad_device_name_gets_a_sentence(name: str) -> None:
    with pytest.raises(BadInput, match="^device "):
        choose_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_without_cuda_says_what_to_use() -> None:
    with pytest.raises(BadInput, match="sees no CUDA device; use cpu or auto"):
        choose_device("cuda:0")


def test_precision_by_name_and_peak_by_measurement() -> None:
    cpu = torch.device("cpu")
    assert choose_precision("float32", cpu) == torch.float32
    assert choose_precision("bfloat16", cpu) == torch.bfloat16
    assert choose_precision("auto", cpu) in (torch.float32, torch.bfloat16)
    assert 1e8 < peak_flops(cpu, torch.float32, 0.02) < 1e15
    assert usable_cores() >= 1


def test_nearest_helps_or_lists() -> None:
    assert nearest("CIFAR-10", ["cifar10", "digits"]) == "; did you mean 'cifar10'?"
    assert nearest("zzz", ["cifar10", "digits"]) == "; known are: cifar10, digits"
    assert nearest("zzz", []) == ""
    assert str(unknown("recipe", "digit", ["digits"])) == "unknown recipe 'digit'; did you mean 'digits'?"


def test_the_chosen_cuda_device_is_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    assert choose_device("cpu") == torch.device("cpu")
    assert current == [torch.device("cuda", 1)]


@pytest.mark.parametrize(
    ("text", "memory"),
    [
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True),
        ("NCCL error: unhandled cuda error. Last error: Cuda failure 2 'out of memory'", True),
        ("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory", True),
        ("CUDA error: an illegal memory access was encountered", False),
        ("shapes do not match", False),
    ],
)
def test_how_libraries_say_that_memory_ran_out(text: str, memory: bool) -> None:
    assert out_of_memory(RuntimeError(text)) == memory
    assert out_of_memory(torch.OutOfMemoryError())
