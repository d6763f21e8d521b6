"""A script of benchmarks/ as a module, so that what it computes can be tested."""

import importlib.util
from pathlib import Path
from types import ModuleType


def benchmark(name: str) -> ModuleType:
    """`benchmarks/NAME.py`, imported anew."""
    spec = importlib.util.spec_from_file_location(
        f"{name}_benchmark", Path(__file__).parents[1] / f"benchmarks/{name}.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
