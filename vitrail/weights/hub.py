"""`hf://owner/name[@revision]`: a model of the Hugging Face hub, downloaded once to its cache."""

from pathlib import Path

from vitrail.core.errors import BadInput

PREFIX = "hf://"
_FILES = ["*.json", "*.safetensors", "*.npz"]
_OLDER = ["*.json", "pytorch_model.bin", "model.pth"]  # beside a config.json no other name is read


def fetch(source: str) -> Path:
    """The folder of a model in the hub's cache, downloaded where it is not there yet.

    The hub's own environment variables hold: HF_HOME, HF_HUB_OFFLINE, HF_ENDPOINT, HF_TOKEN. Formats that cannot hold
    code are preferred; `.bin` and `.pth` files are fetched only where there is nothing else.

    Raises:
        BadInput: no such model or revision, or no network and nothing in the cache.
    """
    import huggingface_hub
    from huggingface_hub import errors

    name, _, revision = source.removeprefix(PREFIX).partition("@")
    if len(name.split("/")) != 2 or not all(name.split("/")):
        raise BadInput(f"{source!r} is no model of the hub: expected hf://owner/name or hf://owner/name@revision")
    try:
        folder = Path(huggingface_hub.snapshot_download(name, revision=revision or None, allow_patterns=_FILES))
        if not any(path for pattern in _FILES[1:] for path in folder.glob(pattern)):
            folder = Path(huggingface_hub.snapshot_download(name, revision=revision or None, allow_patterns=_OLDER))
    except errors.RepositoryNotFoundError:
        raise BadInput(f"{source}: the hub has no model of this name, or it is private (set HF_TOKEN)") from None
    except errors.RevisionNotFoundError:
        raise BadInput(f"{source}: the model has no revision {revision!r}") from None
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, OSError) as problem:
        cache = huggingface_hub.constants.HF_HUB_CACHE
        if huggingface_hub.constants.HF_HUB_OFFLINE:
            reason = "HF_HUB_OFFLINE is set, so nothing is downloaded"
        else:
            reason = "it could not be downloaded: " + str(problem).split("\n")[0][:200].rstrip(".")
        raise BadInput(
            f"{source} is not in the hub's cache {cache}, and {reason}; download it where there is a network and give "
            "the folder"
        ) from None
    except errors.HFValidationError as problem:
        raise BadInput(f"{source!r} is no name of the hub: {problem}") from None
    return folder
