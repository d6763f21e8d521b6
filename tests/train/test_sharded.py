"""Tensors in shards: what some processes wrote is read by any other number of them."""

from pathlib import Path

import pytest
import torch

from vitrail.core.dist import World
from vitrail.core.errors import BadInput
from vitrail.train.sharded import Rows, ShardFiles, snapshot, write_shard


def written(folder: Path, whole: torch.Tensor, cuts: list[int]) -> list[Path]:
    """The rows of `whole` in files, cut at these places."""
    files = []
    for i, (a, b) in enumerate(zip([0, *cuts], [*cuts, len(whole)], strict=True)):
        files.append(folder / f"part-{i}.safetensors")
        write_shard(files[-1], {"w": whole[a:b].contiguous()}, {"w": Rows(a, b - a, tuple(whole.shape))})
    return files


@pytest.mark.parametrize("cuts", [[], [3], [1, 2, 5]])
def test_a_whole_tensor_is_put_together(tmp_path: Path, cuts: list[int]) -> None:
    whole = torch.randn(7, 2, 3)
    target = torch.full_like(whole, float("nan"))
    ShardFiles(written(tmp_path, whole, cuts)).read_into("w", target)
    assert torch.equal(target, whole)


def test_numbers_without_dimensions(tmp_path: Path) -> None:
    copies, rows = snapshot({"step": torch.tensor(3.0)}, World())
    write_shard(tmp_path / "a.safetensors", copies, rows)
    target = torch.zeros(())
    ShardFiles([tmp_path / "a.safetensors"]).read_into("step", target)
    assert target == 3


def test_only_the_first_process_writes_what_all_have() -> None:
    tensors = {"w": torch.ones(2)}
    assert snapshot(tensors, World(rank=0, size=2))[0].keys() == {"w"}
    assert not snapshot(tensors, World(rank=1, size=2))[0]


def test_a_snapshot_does_not_follow_the_training() -> None:
    weight = torch.zeros(3)
    copies, _ = snapshot({"w": weight}, World())
    weight.fill_(1)
    assert torch.equal(copies["w"], torch.zeros(3))


def test_missing_rows_other_shapes_and_other_files_are_refused(tmp_path: Path) -> None:
    whole = torch.randn(7, 2)
    files = written(tmp_path, whole, [3, 5])
    with pytest.raises(BadInput, match="has 5 of 7 rows of 'w'"):
        ShardFiles([files[0], files[2]]).read_into("w", torch.zeros(7, 2))
    with pytest.raises(BadInput, match=r"'w' is \(7, 2\), expected \(8, 2\)"):
        ShardFiles(files).read_into("w", torch.zeros(8, 2))
    with pytest.raises(BadInput, match="has 0 of 1 rows of 'v'"):
        ShardFiles(files).read_into("v", torch.zeros(1))
    files[1].write_bytes(files[1].read_bytes()[:50])
    with pytest.raises(BadInput, match="is not a whole file of a checkpoint"):
        ShardFiles(files)
