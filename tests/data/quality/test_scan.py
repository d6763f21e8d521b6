"""One pass sees what is in every file, and why others cannot be read."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.pictures import BytesSource, encoded, noise, smooth
from vitrail.data.decode.image import decode
from vitrail.data.quality.scan import Scanned, header, promised, scan
from vitrail.data.sources.image_folder import FolderSource


def seen(*files: bytes) -> Scanned:
    return scan(BytesSource(list(files), [0] * len(files), ("a",)), workers=1)


def test_a_row_tells_what_the_file_is() -> None:
    table = seen(
        encoded(smooth(20, 30), "JPEG"),
        encoded(Image.fromarray(smooth(20, 30)).convert("CMYK"), "JPEG"),
        encoded(Image.fromarray(smooth(20, 30)).convert("P"), "GIF"),
        encoded(Image.fromarray(smooth(20, 30)).convert("RGBA"), "PNG"),
    )
    assert table.kind.tolist() == ["JPEG", "JPEG", "GIF", "PNG"]
    assert table.mode.tolist() == ["RGB", "CMYK", "P", "RGBA"]
    assert table.size.tolist() == [[20, 30]] * 4
    assert table.readable.all()
    assert table.key.tolist() == [f"image-{i}" for i in range(4)]


def test_a_turned_image_is_seen_upright() -> None:
    exif = Image.Exif()
    exif[274] = 6
    table = seen(encoded(smooth(20, 30), "JPEG", exif=exif), encoded(smooth(20, 30), "JPEG"))
    assert table.turn.tolist() == [6, 1]
    assert table.size.tolist() == [[30, 20], [20, 30]]


def test_broken_images_have_a_reason_and_nothing_else() -> None:
    whole = encoded(noise(64, 64), "JPEG")
    table = seen(b"", whole[: len(whole) // 2], b"not an image at all", whole)
    assert table.readable.tolist() == [False, False, False, True]
    assert all(table.reason[:3])
    assert table.reason[3] == ""
    assert not table.thumbnail[:3].any()


def test_digests_are_of_pixels_not_of_files() -> None:
    pixels = noise(16, 16)
    table = seen(encoded(pixels, "PNG"), encoded(pixels, "BMP"), encoded(pixels.reshape(8, 32, 3), "PNG"))
    first, second, other_shape = table.digest.tolist()
    assert first == second != other_shape


def test_processes_see_the_same(tmp_path: Path) -> None:
    for i in range(600):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        (tmp_path / "ab"[i % 2] / f"{i}.png").write_bytes(encoded(noise(8, 8, i), "PNG") if i % 50 else b"broken")
    source = FolderSource(tmp_path)
    alone, together = scan(source, workers=1), scan(source, workers=2)
    for name, column in vars(alone).items():
        assert np.array_equal(column, getattr(together, name)), name
    assert (~alone.readable).sum() == 12


def test_some_indices_alone() -> None:
    source = BytesSource([encoded(noise(4, 4, i)) for i in range(9)], [0] * 9, ("a",))
    table = scan(source, np.array([7, 2]), workers=1)
    assert table.index.tolist() == [7, 2]
    assert table.key.tolist() == ["image-7", "image-2"]


def test_a_file_that_vanished_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(encoded(noise(4, 4)))
    source = FolderSource(tmp_path)
    (tmp_path / "a" / "1.png").unlink()
    table = scan(source, workers=1)
    assert "No such file" in table.reason[0]
    assert "1.png" in table.key[0]


@pytest.mark.parametrize(
    ("key", "kind"),
    [("a/b.JPG", "JPEG"), ("x.tif", "TIFF"), ("train.parquet:3:cat.png", "PNG"), ("train.parquet:3", ""), ("a", "")],
)
def test_what_a_name_promises(key: str, kind: str) -> None:
    assert promised(key) == kind


def test_headers_of_rubbish_are_empty() -> None:
    assert header(b"\xff\xd8\xff" + bytes(100)) == ("", "", 1)
    assert decode(encoded(noise(2, 2))).shape == (2, 2, 3)
