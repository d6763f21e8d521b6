"""Work on the cluster that Ray knows: results in the order of the items, a bounded number of them ahead."""

import os
import platform
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from vitrail.core.errors import BadInput

Item = TypeVar("Item")
Result = TypeVar("Result")
Shared = TypeVar("Shared")

Cluster = Literal["ray"]
AHEAD = 2  # tasks of each core that run or are next


@contextmanager
def ray_cluster() -> Iterator[Any]:
    """The module `ray`, joined to the cluster that RAY_ADDRESS names, else to one of this machine; left at the end.

    Raises:
        BadInput: Ray is not installed.
    """
    try:
        import ray
    except ImportError:
        raise BadInput("--cluster ray needs Ray: pip install 'vitrail[cluster]'") from None
    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False)
    try:
        yield ray
    finally:
        if started:
            ray.shutdown()


def submitter(ray: Any, function: Callable[[Shared, Item], Result], shared: Shared) -> Callable[[Item], Any]:
    """What begins a task of `function(shared, item)` for an item, in the working folder of this process.

    A node that does not have that folder ends the task with BadInput.
    """
    held, task = ray.put((function, shared, str(Path.cwd()))), ray.remote(_applied)
    return lambda item: task.remote(held, item)


def tasks_ahead(ray: Any) -> int:
    """How many tasks are handed to the cluster before one is waited for."""
    return AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))


def result_of(ray: Any, task: Any) -> Any:
    """What a task returned; raises what it raised."""
    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as problem:
        raise problem.cause from None


@contextmanager
def cluster_mapping(
    function: Callable[[Shared, Item], Result], shared: Shared
) -> Iterator[Callable[[Iterable[Item]], Iterator[Result]]]:
    """As `core.pool.mapping`, by the nodes of a cluster: a task of one core an item. `shared` goes to each node once.

    All nodes must have vitrail, and see the files that `shared` names under the same names.

    Raises:
        BadInput: Ray is not installed; what `function` raises is raised here.
    """
    with ray_cluster() as ray:
        begin, room = submitter(ray, function, shared), tasks_ahead(ray)

        def mapped(items: Iterable[Item]) -> Iterator[Result]:
            pending: deque[Any] = deque()
            for item in items:
                pending.append(begin(item))
                if len(pending) >= room:
                    yield result_of(ray, pending.popleft())
            while pending:
                yield result_of(ray, pending.popleft())

        yield mapped


def _applied(held: tuple[Callable[[Any, Any], Any], Any, str], item: Any) -> Any:
    function, shared, folder = held
    try:
        os.chdir(folder)  # names of data may be relative, and a node's folder is where its Ray was started
    except OSError as problem:
        raise BadInput(
            f"node {platform.node()} cannot enter {folder}, where the command was started ({problem.strerror}), and "
            "relative names would mean other files there: start it in a folder that all nodes have; with absolute "
            "names that may be /"
        ) from None
    return function(shared, item)
