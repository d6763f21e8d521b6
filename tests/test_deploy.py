"""The files of deploy/ can be read, and the commands in them are commands of ours and of torchrun."""

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from vitrail.commands.pretrain import COMMAND
from vitrail.commands.training import CommonTraining, read_options
from vitrail.jobs.pretrain import Pretrain
from vitrail.recipes import PRETRAINING

DEPLOY = Path(__file__).parent.parent / "deploy"


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8")))


def shell_command(script: str) -> list[str]:
    """The words from torchrun on."""
    lines = script.replace("\\\n", " ").splitlines()
    (line,) = [line for line in lines if "torchrun --" in line]
    return shlex.split(line[line.index("torchrun") :])


def containers(name: str) -> list[list[str]]:
    """The command of each container that has one."""
    found: list[list[str]] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "command" in node and "args" in node:
                found.append([*node["command"], *node["args"]])
            for inner in node.values():
                walk(inner)
        elif isinstance(node, list):
            for inner in node:
                walk(inner)

    walk(documents(name))
    return found


COMMANDS = {
    "slurm.sh": [shell_command((DEPLOY / "slurm.sh").read_text(encoding="utf-8"))],
    "kubernetes.yaml": containers("kubernetes.yaml"),
    "kubeflow.yaml": containers("kubeflow.yaml"),
    "skypilot.yaml": [shell_command(documents("skypilot.yaml")[0]["run"])],
}


def test_every_file_is_looked_at() -> None:
    assert {file.name for file in DEPLOY.iterdir()} - {"README.md"} == COMMANDS.keys()
    readme = (DEPLOY / "README.md").read_text(encoding="utf-8")
    assert all(name in readme for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_is_one_that_both_understand(name: str) -> None:
    from torch.distributed.run import get_args_parser

    ((torchrun, *rest),) = COMMANDS[name]
    assert torchrun == "torchrun"
    variables = {"$SLURM_NNODES": "4", "$SKYPILOT_NUM_NODES": "4", "$SKYPILOT_NUM_GPUS_PER_NODE": "8"}
    told = get_args_parser().parse_args([variables.get(word, word) for word in rest])
    assert told.module
    assert told.training_script == "vitrail"
    assert told.max_restarts == 20
    assert told.nproc_per_node in ("8", "1")  # Kubeflow tells it by a variable
    job, *options = told.training_script_args
    assert job == "pretrain"
    recipe, read = read_options(COMMAND, options, PRETRAINING, Pretrain, CommonTraining)
    assert recipe == "imagenet-b16"
    assert read.common.sharding == "hybrid"
    assert read.out == Path("/runs/b16")
    assert read.config.train == "/data/imagenet@train"


@pytest.mark.parametrize("script", [DEPLOY / "slurm.sh", DEPLOY.parent / "benchmarks/gpu.sh"], ids=lambda p: p.name)
def test_scripts_are_bash(script: Path) -> None:
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


def test_what_has_one_name_in_several_places_has_the_same() -> None:
    service, job = documents("kubernetes.yaml")
    spec = job["spec"]
    pod = spec["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"]["job-name"] == job["metadata"]["name"]
    (container,) = pod["containers"]
    endpoint = f"{job['metadata']['name']}-0.{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    assert f"--rdzv-endpoint={endpoint}" in container["args"]
    assert f"--nnodes={spec['completions']}" in container["args"]
    assert spec["completions"] == spec["parallelism"]
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    assert spec["podFailurePolicy"]["rules"][1]["onExitCodes"]["containerName"] == container["name"]
    runtime, train = documents("kubeflow.yaml")
    assert train["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]
    assert train["spec"]["trainer"]["numNodes"] == runtime["spec"]["mlPolicy"]["numNodes"]


def test_the_objects_are_those_of_the_api() -> None:
    validate = pytest.importorskip("kubernetes_validate")
    for version in ("1.31", "1.34"):
        for one in documents("kubernetes.yaml"):
            validate.validate(one, version, strict=True)
    with pytest.raises(Exception, match="completionmode"):
        validate.validate({**documents("kubernetes.yaml")[1], "completionmode": "Indexed"}, "1.31", strict=True)
    # the pod of Kubeflow's runtime is a pod of the API, too
    runtime = documents("kubeflow.yaml")[0]["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "node"}, "spec": dict(runtime["spec"])}
    job["spec"]["template"] = {**runtime["spec"]["template"]}
    validate.validate(job, "1.31", strict=True)
