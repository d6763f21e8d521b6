"""torch.export: `model.pt2` and `model-float.pt2`, programs that PyTorch reads without any code of ours.

Where there is a C++ compiler, `model-compiled.pt2` too: the same compiled ahead of time for this kind of processor.
"""

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitrail.export.graph import Graph
from vitrail.export.session import Session
from vitrail.runtimes.traced import quiet_export


def write_pt2(graphs: Mapping[str, Graph], folder: Path, about: Mapping[str, Any]) -> None:
    """Writes each graph under its name, with `about` and the names of its outputs in extra files of it."""
    for name, graph in graphs.items():
        extra = {"vitrail.json": _json({**about, "outputs": list(graph.outputs)})}
        with quiet_export():
            torch.export.save(graph.program, folder / name, extra_files=extra)


def compile_pt2(graph: Graph, path: Path) -> str | None:
    """Compiles a graph with AOTInductor; returns a sentence where that is not possible here."""
    if not (shutil.which("g++") or shutil.which("clang++")):
        return "there is no C++ compiler here: model.pt2 runs in PyTorch, and is not compiled ahead"
    from torch._inductor import aoti_compile_and_package

    try:
        with quiet_export():
            aoti_compile_and_package(graph.program, package_path=str(path))
    except Exception as problem:  # of many kinds, and the program without it is whole
        path.unlink(missing_ok=True)
        return f"AOTInductor could not compile it ({str(problem).splitlines()[0][:200]}): model.pt2 runs in PyTorch"
    return None


def open_pt2(path: Path, outputs: tuple[str, ...]) -> Session:
    """A program as PyTorch computes it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.export.load(path).module()

    def run(array: np.ndarray) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            found = module(torch.from_numpy(np.ascontiguousarray(array)))
        return {name: values.numpy() for name, values in zip(outputs, found, strict=True)}

    return run


def _json(value: Any) -> str:
    import json

    return json.dumps(value)
