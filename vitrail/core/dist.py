"""How many processes share a run. Training uses one so far, and says so when it was started in more."""

import os


def launched_world() -> int:
    """How many processes the launcher (torchrun) started, whether or not they have met yet."""
    return int(os.environ.get("WORLD_SIZE", "1"))
