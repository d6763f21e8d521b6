"""The page, driven in a real browser: upload, result, overlay, a broken file, a phone, dark mode, the keyboard."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.data.pictures import encoded, photograph
from tests.serve.http.conftest import CLASSES, SERVE, Running, save_tiny, serving
from vitrail.core.errors import BadInput
from vitrail.data.open.names import open_data
from vitrail.report.page import style
from vitrail.serve.http.life import Life

# Minutes on two cores: run by `make test-all`.
pytestmark = pytest.mark.slow

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs pip install playwright")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("needs Chromium")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training images of the model's classes."""
    root = tmp_path_factory.mktemp("data") / "photos"
    for i, name in enumerate(CLASSES):
        folder = root / "train" / name
        folder.mkdir(parents=True)
        for j in range(3):
            (folder / f"{j}.jpg").write_bytes(encoded(photograph(40, 60, seed=10 * i + j), "JPEG"))
    return root


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("page")
    source = save_tiny(folder / "pets", temperature=1.5)
    config = replace(SERVE, models=(str(source),), neighbours=str(photos), collect=folder / "kept")
    with serving(config, style=style()) as client:
        yield client


PICTURE = {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": encoded(photograph(60, 80), "JPEG")}


def opened(browser: Any, site: Running, **more: Any) -> Any:
    page = browser.new_page(**more)
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: page.problems.append(request.url) if _elsewhere(request.url, site) else None)
    page.goto(str(site.base_url) + "/")
    page.wait_for_selector("#accuracy:not(:empty)")  # nothing that needs `eval`, which the page forbids
    return page


def _elsewhere(url: str, site: Running) -> bool:
    return not url.startswith((str(site.base_url), "data:", "blob:"))


def test_a_picture_is_labelled_with_overlay_and_neighbours(browser: Any, site: Running) -> None:
    page = opened(browser, site)
    page.set_input_files("#file", PICTURE)
    page.wait_for_selector("#result:not([hidden])")
    (row,) = site.post("/predict?top=4", content=PICTURE["buffer"]).json()["predictions"]
    assert [one.split("\n")[0] for one in page.locator(".row").all_inner_texts()] == [
        one["name"] for one in row["labels"]
    ]
    assert page.inner_text("#calibrated") == "Calibrated probabilities."
    page.fill("#least", "100")
    assert page.inner_text("#answer") == "Not sure"
    page.fill("#least", "0")
    assert page.inner_text("#answer") == row["labels"][0]["name"]
    assert page.get_attribute("#picture", "src").startswith("blob:")
    page.click("#looked")
    assert page.get_attribute("#picture", "src").startswith("data:image/png")
    assert page.evaluate("document.getElementById('picture').naturalWidth") == 16
    assert page.locator("#neighbours figure").count() == 6
    assert page.locator("#neighbours img").first.evaluate("image => image.naturalWidth") > 1
    assert page.problems == []


def test_a_broken_file_is_said_and_the_next_picture_works(browser: Any, site: Running) -> None:
    page = opened(browser, site)
    page.set_input_files("#file", {"name": "x.jpg", "mimeType": "image/jpeg", "buffer": b"no image"})
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem") == "x.jpg: not an image of a known format"
    assert page.is_hidden("#result")
    page.set_input_files("#file", PICTURE)
    page.wait_for_selector("#result:not([hidden])")
    assert page.is_hidden("#problem")


def test_it_fits_a_phone_and_follows_dark_mode(browser: Any, site: Running) -> None:
    light = opened(browser, site).evaluate("getComputedStyle(document.body).backgroundColor")
    page = opened(browser, site, viewport={"width": 360, "height": 740}, color_scheme="dark")
    page.set_input_files("#file", PICTURE)
    page.wait_for_selector("#result:not([hidden])")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light


def test_it_is_used_by_keyboard_and_by_dropping_and_pasting(browser: Any, site: Running) -> None:
    page = opened(browser, site)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "drop"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(PICTURE)
    page.wait_for_selector("#result:not([hidden])")
    for kind, field in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        page.evaluate("document.getElementById('result').hidden = true")
        page.evaluate(
            """([kind, field, bytes]) => {
                const held = new DataTransfer();
                held.items.add(new File([new Uint8Array(bytes)], 'a.jpg', {type: 'image/jpeg'}));
                const event = new Event(kind, {bubbles: true, cancelable: true});
                Object.defineProperty(event, field, {value: held});
                document.body.dispatchEvent(event);
            }""",
            [kind, field, list(PICTURE["buffer"])],
        )
        page.wait_for_selector("#result:not([hidden])")


def test_what_is_marked_as_wrong_is_data_for_training(browser: Any, site: Running) -> None:
    page = opened(browser, site)
    assert "kept there for training" in page.inner_text("#drop")
    page.set_input_files("#file", PICTURE)
    page.wait_for_selector("#result:not([hidden])")
    page.fill("#right", "unicorn")
    page.click("text=Keep for training")
    page.get_by_text("'unicorn' is no class of pets").wait_for()
    for label in ("eel", "fox"):  # the second is meant
        page.fill("#right", label)
        page.click("text=Keep for training")
        page.get_by_text("Kept.", exact=True).wait_for()
        page.evaluate("document.getElementById('thanks').textContent = ''")
    collected = site.life.config.collect
    assert collected is not None
    source = open_data(str(collected / "manifest.jsonl"), "train")
    assert source.classes == ("fox",)
    assert source[0].image == PICTURE["buffer"]


def test_nothing_is_kept_unless_it_was_asked_for(server: Running) -> None:
    answer = server.post("/models/tiny/feedback", files={"file": PICTURE["buffer"]}, data={"label": "cat"})
    assert answer.status_code == 404


def test_corrections_are_bounded_and_broken_ones_refused(tiny: Path, tmp_path: Path) -> None:
    with serving(replace(SERVE, models=(str(tiny),), collect=tmp_path / "kept", collect_mb=0.01)) as client:
        for data, status in ((b"no image", 422), (PICTURE["buffer"], 200), (encoded(photograph(90, 90)), 507)):
            sent = client.post("/models/tiny/feedback", files={"file": data}, data={"label": "cat"})
            assert sent.status_code == status, sent.text
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(BadInput, match="holds other files"):
        Life(replace(SERVE, models=(str(tiny),), collect=tmp_path / "other"))


def test_pages_ask_for_nothing_from_elsewhere(server: Running) -> None:
    for path in ("/", "/docs"):
        answer = server.get(path)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "http" not in answer.text.replace("http://127.0.0.1:8000", "")
    said = server.get("/openapi.json").json()
    assert said["openapi"].startswith("3.")
    assert "/models/{model}/predict" in said["paths"]
