"""MODEL at an address: fetched whole, noticed when it changes, refused with the address when it is none."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.fake_store import FakeStore
from tests.serve.http.conftest import SERVE, save_tiny, serving
from tests.serve.http.test_life import until
from vitrail.core.errors import BadInput, Interrupted, Unreachable
from vitrail.core.mirror import mirrored
from vitrail.serve.http.served import name_of, signature_of
from vitrail.weights.bundle import bundle_of, read_bundle
from vitrail.weights.load import load, read_pretrained
from vitrail.weights.stored_model import fetch_model

AT = "memory://bucket/models/pets"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeStore:
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache"))
    return FakeStore(monkeypatch)


def copy(folder: Path, store: FakeStore, at: str = AT) -> None:
    """As a person does it with the store's own program."""
    for file in folder.rglob("*"):
        if file.is_file():
            store.system.pipe(f"{at.removeprefix('memory:/')}/{file.relative_to(folder)}", file.read_bytes())


def same(found: object, folder: Path) -> bool:
    state, want = found.state, read_bundle(folder).state  # type: ignore[attr-defined]
    return state.keys() == want.keys() and all(torch.equal(state[name], want[name]) for name in want)


@pytest.mark.parametrize("inside", ["", "bundle/"], ids=["a bundle", "a run"])
def test_a_folder_that_was_copied_there(store: FakeStore, tmp_path: Path, inside: str) -> None:
    bundle = save_tiny(tmp_path / "here" / inside, seed=1)
    (tmp_path / "here" / "more").mkdir()
    (tmp_path / "here" / "more" / "large.bin").write_bytes(b"not of the model")
    copy(tmp_path / "here", store)
    found = read_pretrained(AT + "/")
    assert same(found, bundle)
    assert found.provenance["source"] == AT + "/"
    assert load(f"{AT}/{inside}").classes == found.classes
    assert not [name for name in store.fetched if "large" in name]
    fetched = len(store.fetched)
    read_pretrained(AT)
    assert len(store.fetched) == fetched, "nothing is fetched twice"
    bundle = save_tiny(tmp_path / "other" / inside, seed=2)
    copy(tmp_path / "other", store)
    assert same(read_pretrained(AT), bundle), "another one under the name is noticed"


def test_a_single_file(store: FakeStore, tmp_path: Path) -> None:
    bundle = save_tiny(tmp_path / "here")
    store.system.pipe("/bucket/models/weights.safetensors", (bundle / "model.safetensors").read_bytes())
    path = fetch_model("memory://bucket/models/weights.safetensors")
    assert path.name == "weights.safetensors"
    assert path.read_bytes() == (bundle / "model.safetensors").read_bytes()


def test_what_is_written_while_it_is_read_is_never_mixed(store: FakeStore, tmp_path: Path) -> None:
    old, new = save_tiny(tmp_path / "old", seed=1), save_tiny(tmp_path / "new", seed=2)
    copy(old, store)

    def replaced(_: str) -> None:
        store.after_fetch = lambda name: None
        copy(new, store)

    store.after_fetch = replaced
    assert same(read_pretrained(AT), new)
    store.after_fetch = lambda name: copy(new, store)
    with pytest.raises(BadInput, match=f"{AT} changes while it is read"):
        copy(old, store)
        read_pretrained(AT)


def test_of_a_mirrored_run_what_was_whole_last(store: FakeStore, tmp_path: Path) -> None:
    """While it is written again; the cache of who reads is another than that of who writes."""
    at = "memory://bucket/runs/a"
    with mirrored(at) as folder:
        (folder / "checkpoints/step-00000001").mkdir(parents=True)
        (folder / "checkpoints/step-00000001/part-0-of-1.safetensors").write_bytes(b"large")
        (folder / "metrics.jsonl").write_text("")
        (folder / "config.json").write_text('{"job": "pretrain"}')
    with pytest.raises(BadInput, match=rf"^{at} is a run that has not written its bundle yet: finish it first"):
        read_pretrained(at)
    with mirrored(at) as folder:
        first = save_tiny(folder / "bundle", seed=1)
    for name in (at, f"{at}/bundle", f"{at}/bundle/"):
        assert same(read_pretrained(name), first)
    assert not [name for name in store.fetched if "part-0" in name]
    kept = tmp_path / "kept"
    first.rename(kept)
    with pytest.raises(Interrupted), mirrored(at) as folder:
        second = save_tiny(folder / "bundle", seed=2)
        store.allowed = 2
        raise Interrupted(15)
    store.allowed = None
    assert same(read_pretrained(at), kept), "half of the new one is there"
    with mirrored(at):
        pass
    assert same(read_pretrained(at), second)
    name = next(name for name in store.names() if name.endswith("bundle/model.safetensors"))
    store.system.pipe(name, b"other")
    (tmp_path / "cache" / "models").rename(tmp_path / "gone")
    with pytest.raises(BadInput, match=f"{at} is not whole: bundle/model.safetensors has another digest"):
        read_pretrained(at)


def test_what_is_removed_while_it_is_read_is_read_as_it_is_now(store: FakeStore) -> None:
    at = "memory://bucket/runs/a"
    with mirrored(at) as folder:
        save_tiny(folder / "bundle", seed=1)

    def replaced(_: str) -> None:
        store.after_fetch = lambda name: None
        with mirrored(at) as folder:
            save_tiny(folder / "bundle", seed=2)

    store.after_fetch = replaced
    found = read_pretrained(at)
    with mirrored(at) as folder:
        assert same(found, folder / "bundle")


def test_nothing_there_and_no_store(store: FakeStore) -> None:
    with pytest.raises(BadInput, match=f"there is no model at {AT}: no file lies there"):
        load(AT)
    store.system.pipe("/bucket/models/pets/readme.txt", b"x")
    with pytest.raises(BadInput, match=f"{AT} is no model: it has no config.json"):
        load(AT)
    with store.away(), pytest.raises(Unreachable, match=f"{AT}/mirror.json: ConnectionError: no route"):
        load(AT)
    with pytest.raises(BadInput, match="nothing://x.* cannot be opened: Protocol not known"):
        load("nothing://x")
    with pytest.raises(BadInput, match="is no bundle of this machine"):
        bundle_of(AT)


def test_of_one_model_few_states_stay_in_the_cache(store: FakeStore, tmp_path: Path) -> None:
    for seed in range(5):
        copy(save_tiny(tmp_path / "here", seed=seed), store)
        path = fetch_model(AT)
    states = [place for place in path.parent.parent.iterdir() if place.is_dir()]
    assert len(states) == 2
    assert path.parent in states
    assert path.name == "pets"


def test_a_server_takes_a_new_version_when_it_is_asked_to(
    store: FakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert name_of(AT) == name_of(f"{AT}/bundle") == "pets"
    assert signature_of(AT) == ()
    copy(save_tiny(tmp_path / "here", seed=1), store)
    before = signature_of(AT)
    with serving(replace(SERVE, models=(AT,))) as client:
        first = client.get("/models/pets").json()["version"]
        copy(save_tiny(tmp_path / "here", seed=2), store)
        assert signature_of(AT) != before
        assert client.life.loop is not None
        client.life.loop.call_soon_threadsafe(client.life.reload)
        until(lambda: client.get("/models/pets").json()["version"] != first, 60)
