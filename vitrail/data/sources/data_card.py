"""The `configs:` block of a README.md, in which a data set of the Hugging Face hub says which files are which split."""

from pathlib import Path
from typing import Any

from vitrail.core.errors import BadInput

_LARGEST = 1 << 20


def configurations(folder: Path) -> dict[str, dict[str, list[str]]]:
    """The parquet files of each configuration by split; "" is the only one, or the default.

    Empty where there is no such block, or where it is of other files.

    Raises:
        BadInput: a block that cannot be read, or that names files which are not there.
    """
    card = folder / "README.md"
    if not card.is_file() or card.stat().st_size > _LARGEST:
        return {}
    text = card.read_text(encoding="utf-8", errors="replace")
    if not text.startswith("---\n") or "\nconfigs:" not in text:
        return {}
    import yaml

    try:
        block = yaml.safe_load(text[4:].split("\n---", 1)[0]).get("configs") or []
        found = {str(config["config_name"]): _splits(config) for config in block}
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as problem:
        raise BadInput(f"{card}: the block `configs` cannot be read: {str(problem).splitlines()[0]}") from None
    configs: dict[str, dict[str, list[str]]] = {}
    for name, splits in found.items():
        for split, patterns in splits.items():
            files = sorted({str(file) for pattern in patterns for file in folder.glob(pattern) if file.is_file()})
            if not files:
                raise BadInput(f"{card} names {', '.join(patterns)} for {name}/{split}, and there is no such file")
            if not all(file.endswith(".parquet") for file in files):
                return {}
            configs.setdefault(name, {})[split] = files
    return {"": configs.popitem()[1]} if len(configs) == 1 else configs


def _splits(config: dict[str, Any]) -> dict[str, list[str]]:
    files = config.get("data_files", [])
    if isinstance(files, str):
        files = [files]
    if isinstance(files, list) and all(isinstance(item, str) for item in files):
        files = {"train": files}
    if isinstance(files, list):
        files = {item["split"]: item["path"] for item in files}
    return {str(split): [path] if isinstance(path, str) else [str(p) for p in path] for split, path in files.items()}
