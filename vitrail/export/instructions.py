"""Which instructions a processor has that make a difference here."""

from pathlib import Path

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8", "amx_fp16", "asimd")


def instructions() -> tuple[str, ...]:
    """Those of FLAGS that the system names; none where it does not say."""
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return ()
    return tuple(flag for flag in FLAGS if flag in words)
