"""What operating systems, NAS boxes and notebooks leave in folders: neither a class nor an image."""

_FOLDERS = frozenset(
    {
        b"__macosx", b"@eadir", b"#recycle", b"@recycle", b"#snapshot", b"@recently-snapshot", b"$recycle.bin",
        b"system volume information", b"lost+found", b"__pycache__",
    }
)  # fmt: skip
_FILES = frozenset({b"thumbs.db", b"ehthumbs.db", b"desktop.ini", b"icon\r", b"picasa.ini", b"zbthumbnail.info"})


def is_junk(name: bytes) -> bool:
    """Whether a file or folder of this name is hidden, or was left there by a system."""
    return name.startswith(b".") or name.lower() in _FOLDERS or name.lower() in _FILES
