"""The exported page in a real browser: a photograph is dropped on it, and the label is that of `vitrail predict`."""

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.export.models import bundle
from tests.export.test_preprocessing import photograph
from tests.models.small import vit
from vitrail.core.errors import BadInput
from vitrail.export import to_web
from vitrail.jobs import export as job
from vitrail.jobs.export import Export, export
from vitrail.serve.predictor import Predictor

# Minutes on two cores: run by `make test-all`.
pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DROP = """async ([name, bytes]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Says nothing."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(tmp_path / "out"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/index.html"
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_a_dropped_photograph_gets_the_label_of_predict(served: str, tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium to open the page in")
    try:
        to_web.web_runtime()
    except BadInput as problem:
        pytest.skip(str(problem))
    folder = bundle(tmp_path / "model", vit(depth=2, resolution=(32, 32)))
    export(Export(str(folder), "web"), tmp_path / "out")
    Image.fromarray(photograph(90, 120, 5)).save(tmp_path / "picture.png")
    wanted = Predictor(folder, "cpu").predict(tmp_path / "picture.png")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(served)
        page.wait_for_selector("body[data-ready=yes]", timeout=60_000)
        page.evaluate(DROP, ["picture.png", list((tmp_path / "picture.png").read_bytes())])
        page.wait_for_selector("body[data-done='picture.png']", timeout=60_000)
        names = page.locator("td.name").all_text_contents()
        shares = [float(text.removesuffix(" %")) for text in page.locator("td.share").all_text_contents()]
        drawn = page.evaluate("[...canvas.getContext('2d').getImageData(0, 0, 120, 90).data]")
        browser.close()
    assert names == [label.name for label in wanted]
    assert np.abs(np.array(shares) - [100 * label.probability for label in wanted]).max() < 1  # predict is in bfloat16
    assert all(url.startswith(("http://127.0.0.1", "data:", "blob:")) for url in asked)
    pixels = np.array(drawn).reshape(90, 120, 4)[..., :3]
    assert 0 < pixels.mean() < photograph(90, 120, 5).mean()  # a veil lies over it


def test_without_npm_there_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(job, "_cold_start", lambda *_: None)
    monkeypatch.setattr(to_web.shutil, "which", lambda _: None)
    with pytest.raises(BadInput, match="no npm here .* put ort.wasm.min.mjs"):
        export(Export(str(bundle(tmp_path / "model")), "web"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_cached_runtime_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(to_web, "_packed", None)
    folder = tmp_path / "cache" / to_web.PACKAGE.replace("@", "-")
    folder.mkdir(parents=True)
    for name in to_web.NEEDED:
        (folder / name).write_text("here")
    monkeypatch.setattr(job, "_cold_start", lambda *_: None)
    export(Export(str(bundle(tmp_path / "model", vit(depth=1))), "web"), tmp_path / "out")
    there = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"index.html", "app.js", "about.json", "model.onnx", "weights.bin", "ort"} <= there
