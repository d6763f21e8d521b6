"""Ray where there is none."""

import pickle
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any


class FakeRay(ModuleType):
    """What of Ray is used, at once and in this process; tasks end in another order than they begin."""

    exceptions = SimpleNamespace(RayTaskError=type("RayTaskError", (Exception,), {}))

    def __init__(self) -> None:
        super().__init__("ray")
        self.started, self.most, self.tasks = False, 0, 0

    def is_initialized(self) -> bool:
        return self.started

    def init(self, **_: Any) -> None:
        self.started = True

    def shutdown(self) -> None:
        self.started = False

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 1.0}

    def put(self, value: Any) -> Any:
        return pickle.loads(pickle.dumps(value))  # it goes to another process

    def remote(self, function: Any) -> Any:
        assert isinstance(function, FunctionType)  # Ray takes no partial

        def begin(*args: Any) -> Any:
            self.tasks += 1
            return lambda: function(*args)

        return SimpleNamespace(remote=begin)

    def wait(self, waiting: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        self.most = max(self.most, len(waiting))
        return waiting[-1:], waiting[:-1]

    def get(self, task: Any) -> Any:
        return task()
