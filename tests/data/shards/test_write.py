"""Prepared images and shards: what happens to an image, and that a shard is a pure function of its arguments."""

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from tests.data.pictures import BytesSource, encoded, noise, smooth
from vitrail.data.decode import image
from vitrail.data.decode.image import BrokenImage
from vitrail.data.shards import write
from vitrail.data.shards.encode import (
    Container,
    Dropped,
    Encoding,
    Entry,
    Form,
    Jpeg,
    Png,
    Webp,
    prepare_image,
    prepare_row,
)
from vitrail.data.shards.write import (
    ROWS,
    ShardBytes,
    ShardCount,
    mean_bytes,
    prepare_shard,
    sample_rows,
    shard_rows,
    tar_key,
)
from vitrail.data.sources.base import ArraySource, Example, Source

CLASSES = ("cat", "dog", "eel")


def source_of(images: list[bytes]) -> BytesSource:
    return BytesSource(images, [i % 3 for i in range(len(images))], CLASSES)


def rows_of(path: Path) -> list[tuple[bytes, int, str]]:
    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
        return [(row["image"], row["label"], row["key"]) for row in table.to_pylist()]


# ---- One image


@pytest.mark.parametrize("encoding", [Png(), Webp()])
@pytest.mark.parametrize(("size", "expected"), [((90, 60), (48, 32)), ((60, 91), (32, 49)), ((40, 40), (32, 32))])
def test_the_shorter_side_is_resized_as_pillow_does_and_lossless_means_it(
    encoding: Encoding, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    data, copied = prepare_image(encoded(noise(*size)), Form(32, encoding))
    reference = Image.fromarray(noise(*size)).resize(expected[::-1], Image.Resampling.BILINEAR)
    assert not copied
    assert np.array_equal(image.decode(data), np.asarray(reference))


def test_nothing_is_made_larger() -> None:
    data, copied = prepare_image(encoded(noise(20, 300)), Form(32, Webp()))
    assert not copied  # a PNG is to become a WebP
    assert np.array_equal(image.decode(data), noise(20, 300))


def test_jpeg_of_90_is_close() -> None:
    data, _ = prepare_image(encoded(smooth(64, 64)), Form(64, Jpeg(90)))
    error = np.abs(image.decode(data).astype(int) - smooth(64, 64)).mean()
    print(f"mean error of a soft picture in JPEG 90: {error:.2f}")
    assert error < 1.0  # measured 0.57
    rough = prepare_image(encoded(smooth(64, 64)), Form(64, Jpeg(10)))[0]
    assert len(rough) < len(data)


@pytest.mark.parametrize(("kind", "encoding"), [("JPEG", Jpeg()), ("PNG", Png()), ("WEBP", Webp())])
def test_what_is_small_and_has_the_encoding_keeps_its_bytes(kind: str, encoding: Encoding) -> None:
    for pixels in (noise(32, 60), Image.fromarray(noise(32, 60)).convert("L")):
        if kind == "WEBP" and isinstance(pixels, Image.Image):
            continue  # knows no grey
        stored = encoded(pixels, kind)
        assert prepare_image(stored, Form(32, encoding)) == (stored, True)
    data, copied = prepare_image(encoded(noise(33, 60), kind), Form(32, encoding))
    assert not copied
    assert image.decode(data).shape == (32, 58, 3)


def turned(pixels: np.ndarray) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(pixels, "JPEG", exif=exif, quality=95)


def test_what_would_need_a_reader_to_know_more_is_encoded_anew() -> None:
    cmyk = encoded(Image.fromarray(smooth(16, 24)).convert("CMYK"), "JPEG")
    alpha = encoded(Image.fromarray(smooth(16, 24)).convert("RGBA"))
    deep = encoded(Image.fromarray(np.full((16, 24), 40_000, dtype=np.uint16)))
    frames = [Image.fromarray(noise(16, 24, seed)) for seed in range(2)]
    moving = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    for stored, encoding in (
        (cmyk, Jpeg()),
        (turned(smooth(24, 16)), Jpeg()),
        (alpha, Png()),
        (deep, Png()),
        (moving, Png()),
    ):
        data, copied = prepare_image(stored, Form(64, encoding))
        assert not copied
        with Image.open(io.BytesIO(data)) as opened:
            assert (opened.mode, opened.size) == ("RGB", (24, 16))
            assert not opened.getexif()
        error = np.abs(image.decode(data).astype(int) - image.decode(stored)).max()
        assert error <= (12 if encoding == Jpeg() else 0)  # measured 6


def test_pixels_are_encoded() -> None:
    source = ArraySource(np.stack([noise(8, 8)]), np.array([0]), ("only",), ["first"])
    entry = prepare_row(source, 0, Form(32, Png()))
    assert isinstance(entry, Entry)
    assert (entry.label, entry.key, entry.row, entry.copied) == (0, "first", 0, False)
    assert np.array_equal(image.decode(entry.image), noise(8, 8))


@pytest.mark.parametrize(("encoding", "name"), [(Jpeg(), "JPEG"), (Webp(), "WEBP")])
def test_a_side_that_an_encoding_cannot_express_is_dropped_with_its_size(encoding: Encoding, name: str) -> None:
    long = encoded(Image.new("L", (70_000, 2)))
    found = prepare_row(source_of([long]), 0, Form(32, encoding))
    assert isinstance(found, Dropped)
    assert f"70000 x 2 pixels cannot be written as {name}" in found.reason


def test_broken_images_are_named_with_their_reason() -> None:
    whole = encoded(noise(40, 40), "JPEG")
    source = source_of([whole, whole[: len(whole) // 2], b"", b"GIF89a, it says"])
    found = [prepare_row(source, i, Form(32)) for i in range(4)]
    assert isinstance(found[0], Entry)
    dropped = [row for row in found if isinstance(row, Dropped)]
    assert [(row.key, row.row) for row in dropped] == [("image-1", 1), ("image-2", 2), ("image-3", 3)]
    assert "truncated" in dropped[0].reason
    assert dropped[1].reason == "empty file"


def test_a_file_that_cannot_be_read_is_named_too() -> None:
    class Vanished(Source):
        classes = ("a",)
        labels = np.zeros(2, dtype=np.int64)

        def __getitem__(self, index: int) -> Example:
            raise BrokenImage("No such file or directory", "photos/a/1.png" if index else None)

    assert prepare_row(Vanished(), 0, Form()) == Dropped("example 0", "No such file or directory", 0)
    assert prepare_row(Vanished(), 1, Form(root="photos")) == Dropped("a/1.png", "No such file or directory", 1)


def test_keys_are_relative_and_always_text(monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_of([encoded(noise(4, 4))])
    for key, expected in (("photos/a/1.png", "a/1.png"), ("photos-2/1.png", "photos-2/1.png"), ("b\udcff", "b\\udcff")):
        monkeypatch.setattr(BytesSource, "__getitem__", lambda s, i, key=key: Example(s.images[i], 0, key))
        entry = prepare_row(source, 0, Form(root="photos"))
        assert entry.key == expected


# ---- Shards


def test_an_arrow_shard_holds_the_readable_rows_in_order(tmp_path: Path) -> None:
    images = [encoded(noise(12, 12, seed), "JPEG") for seed in range(9)]
    images[4] = images[4][:100]
    form = Form(32)
    shard = prepare_shard(source_of(images), range(2, 8), tmp_path / "x.arrow", form)
    assert rows_of(tmp_path / "x.arrow") == [(images[i], i % 3, f"image-{i}") for i in (2, 3, 5, 6, 7)]
    assert (shard.file, shard.count, shard.copied) == ("x.arrow", 5, 5)
    assert [row.row for row in shard.dropped] == [4]
    assert shard.bytes == (tmp_path / "x.arrow").stat().st_size
    with pa.memory_map(str(tmp_path / "x.arrow")) as file:
        schema = pa.ipc.open_file(file).schema
    assert schema.types == [pa.large_binary(), pa.int32(), pa.string()]
    assert json.loads(schema.metadata[b"vitrail"]) == {"format": 1, "classes": list(CLASSES)}


def test_batches_are_small_whatever_the_shard(tmp_path: Path) -> None:
    images = [encoded(noise(2, 2, seed)) for seed in range(2)] * ROWS
    prepare_shard(source_of(images), range(2 * ROWS - 5), tmp_path / "x.arrow", Form(32, Png()))
    with pa.memory_map(str(tmp_path / "x.arrow")) as file:
        opened = pa.ipc.open_file(file)
        assert [opened.get_batch(i).num_rows for i in range(opened.num_record_batches)] == [ROWS, ROWS - 5]


def test_a_tar_shard_is_of_webdatasets_layout(tmp_path: Path) -> None:
    images = [encoded(noise(40, 40, seed)) for seed in range(3)]
    images[1] = b""
    prepare_shard(source_of(images), range(3), tmp_path / "x.tar", Form(32, Png(), "tar"))
    with tarfile.open(tmp_path / "x.tar") as tar:
        members = {name: tar.extractfile(name).read() for name in tar.getnames()}
        assert {(m.mtime, m.uid, m.uname) for m in tar.getmembers()} == {(0, 0, "")}
    names = ["000000000-image-0", "000000002-image-2"]
    assert list(members) == [f"{name}.{suffix}" for name in names for suffix in ("png", "cls")]
    assert [members[f"{name}.cls"] for name in names] == [b"0", b"2"]
    assert image.decode(members[f"{names[1]}.png"]).shape == (32, 32, 3)


def test_names_in_a_tar_have_no_dots_and_no_folders() -> None:
    assert tar_key(7, "train/cat/../my.cat 1.jpg") == "000000007-my-cat-1"
    assert tar_key(7, "...") == "000000007"
    assert len(tar_key(7, "x" * 500)) == 70


@pytest.mark.parametrize("container", ["arrow", "tar"])
def test_equal_arguments_give_equal_bytes(container: Container, tmp_path: Path) -> None:
    source = source_of([encoded(noise(40, 40 + seed, seed), "JPEG") for seed in range(20)])
    form = Form(32, Jpeg(), container)
    first, second = (prepare_shard(source, range(20), tmp_path / name, form) for name in ("a", "b"))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert first.sha256 == second.sha256
    other = prepare_shard(source, range(20), tmp_path / "c", replace(form, encoding=Jpeg(89)))
    assert other.sha256 != first.sha256


@pytest.mark.parametrize("container", ["arrow", "tar"])
def test_a_shard_that_fails_leaves_what_was_there(container: Container, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"older")

    def entries():
        yield Entry(b"image", 0, "key", 0, False)
        raise OSError("the disk")

    with pytest.raises(OSError, match="the disk"):
        write.write_shard(entries(), path, CLASSES, Form(container=container))
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


# ---- The plan


@pytest.mark.parametrize("size", [ShardCount(1), ShardCount(7), ShardCount(1000), ShardBytes(1), ShardBytes(3)])
@pytest.mark.parametrize("total", [1, 6, 7, 8, 100])
def test_shards_share_out_all_rows_in_order(size: ShardBytes | ShardCount, total: int) -> None:
    parts = shard_rows(total, size, 100_000.0)
    assert [row for part in parts for row in part] == list(range(total))
    assert all(parts)


def test_shards_have_about_the_size_that_was_asked_for() -> None:
    parts = shard_rows(10_000, ShardBytes(16), 30_000.0)
    sizes = [len(part) * 30_000 / 2**20 for part in parts]
    assert max(sizes) < 16.5
    assert min(sizes) > 15.5
    assert [len(part) for part in shard_rows(10, ShardCount(4), 0.0)] == [4, 4, 2]


def test_the_sample_covers_the_source_and_counts_what_is_readable() -> None:
    assert sample_rows(1) == [0]
    assert sample_rows(48) == [0, 23, 47]
    rows = sample_rows(1_000_000)
    assert len(rows) == write.SAMPLE
    assert (rows[0], rows[-1]) == (0, 999_999)
    assert mean_bytes([Entry(b"four", 0, "", 0, True), Dropped("", "", 1), Entry(b"sixsix", 0, "", 2, True)]) == 5.0
    assert mean_bytes([Dropped("", "", 1)]) == 0.0
