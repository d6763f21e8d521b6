"""The tracks of `vitrail speedrun`: data, device, bar, limit, recipe. The only list of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from vitrail.core.errors import BadInput, unknown
from vitrail.core.numbers import duration, percent
from vitrail.core.text import ordinary_spaces
from vitrail.jobs.pretrain import Pretrain
from vitrail.recipes import pretraining
from vitrail.records.speedrun import Track

MINUTE = 60.0


def _track(name: str, test: str, device: Literal["cpu", "cuda"], bar: float, seconds: float, recipe: str) -> Track:
    data = test.partition("@")[0]
    return Track(name=name, data=data, test=test, device=device, bar=bar, seconds=seconds, recipe=recipe)


# fmt: off
#      name                    test images                 device  above  within       by the recipe
TRACKS = (
    _track("cifar10-80",       "cifar10@test",             "cpu",  0.80,  25 * MINUTE, "cifar10-speedrun"),
    _track("cifar10-90",       "cifar10@test",             "cuda", 0.90,   1 * MINUTE, "cifar10-gpu-minute"),
    _track("cifar10-94",       "cifar10@test",             "cuda", 0.94,   5 * MINUTE, "cifar10-gpu"),
    _track("cifar100-73.8",    "cifar100@test",            "cuda", 0.738,  6 * MINUTE, "cifar100-gpu"),
    _track("tiny-imagenet-58", "tiny-imagenet@validation", "cuda", 0.58,  10 * MINUTE, "tiny-imagenet-gpu"),
)
# fmt: on


def recipe_of(track: Track) -> Pretrain:
    """The track's recipe; nothing is judged while it trains, and the test images are for the end."""
    return replace(pretraining(track.recipe), validation=None, test=None)


def find(name: str, device: str | None, tracks: Sequence[Track] | None = None) -> Track:
    """The track of a name, or the one of a data set on a device.

    Args:
        name: "cifar10-94", or "cifar10".
        device: "cpu" or "cuda"; None: any.

    Raises:
        BadInput: no such track, or several.
    """
    every = TRACKS if tracks is None else tracks
    exact = [track for track in every if track.name == name]
    if exact:
        return exact[0]
    of_data = [track for track in every if track.data == name]
    if not of_data:
        raise unknown("track", name, [*dict.fromkeys(track.data for track in every), *(track.name for track in every)])
    here = [track for track in of_data if device in (None, track.device)]
    if len(here) == 1:
        return here[0]
    there = f"{name} has {len(here) or 'no'} tracks" + ("" if device is None else f" with --device {device}")
    raise BadInput(f"{there}; name one: {'; '.join(about(track) for track in here or of_data)}")


def about(track: Track) -> str:
    """A track in a phrase."""
    where = "two cores" if track.device == "cpu" else "one GPU"
    return ordinary_spaces(f"{track.name} (above {percent(track.bar)} within {duration(track.seconds)} on {where})")
