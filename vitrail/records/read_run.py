"""A run read back: its config, environment and result; its metrics and predictions as columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vitrail.core.errors import BadInput
from vitrail.core.files import read_json
from vitrail.core.numbers import duration
from vitrail.core.run import read_metrics
from vitrail.records.evaluation import EvaluationResult
from vitrail.records.finetune import FinetuneResult
from vitrail.records.record import load_record, parse_record
from vitrail.records.run import Environment, RunConfig, RunResult
from vitrail.records.study import ThroughputResult

Result = RunResult | FinetuneResult | ThroughputResult


class Columns(dict[str, np.ndarray]):
    """A table: names of columns -> arrays of one length."""

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(next(iter(self.values()), ()))

    def to_pandas(self) -> Any:
        """A pandas.DataFrame; raises BadInput where pandas is not installed."""
        try:
            import pandas
        except ImportError:
            raise BadInput("to_pandas needs pandas: pip install pandas") from None
        return pandas.DataFrame(dict(self))

    def __repr__(self) -> str:
        return f"Columns({self.rows:,} rows of {', '.join(self)})"


@dataclass(frozen=True, repr=False)
class Run:
    """What lies in the folder of a run. `environment` and `result` are None where it has not come to them."""

    folder: Path
    job: str  # "pretrain", "finetune", ...
    recipe: str | None
    config: Mapping[str, Any]  # the resolved config, as JSON
    environment: Environment | None
    result: Result | None
    columns: Mapping[str, str] | None = None  # of tables, where --columns said them

    def metrics(self, kind: Literal["train", "validation"] = "train") -> Columns:
        """The rows of metrics.jsonl of one kind, as columns; NaN where a number was not measured.

        Raises:
            BadInput: no such rows, as in the folder of a sweep, whose runs lie in `trials` and `final`.
        """
        rows = [row for row in read_metrics(self.folder / "metrics.jsonl") if row.get("kind") == kind]
        if not rows:
            runs = [str(path.parent) for path in sorted(self.folder.glob("*/*/metrics.jsonl"))]
            where = f"; its runs have them: {', '.join(runs[:3])}" if runs else ""
            raise BadInput(f"{self.folder} has no {kind} rows in metrics.jsonl{where}")
        names = dict.fromkeys(name for row in rows for name in row if name != "kind")
        return Columns({name: _column([row.get(name) for row in rows]) for name in names})

    def evaluation(self) -> EvaluationResult:
        """The final evaluation; raises BadInput where there is none."""
        return load_record(EvaluationResult, self.folder / "evaluation/evaluation.json")

    def predictions(self) -> Columns:
        """What became of each image of the final evaluation, as columns (docs/files.md: predictions.parquet).

        Raises:
            BadInput: the run has no final evaluation.
        """
        import pyarrow.parquet as parquet

        file = self.folder / "evaluation/predictions.parquet"
        if not file.is_file():
            raise BadInput(
                f"{file} does not exist: a run has predictions once its test or validation images are judged"
            )
        try:
            table = parquet.read_table(file.absolute())  # `lr:0.1/...` would be an address
        except (OSError, ValueError) as problem:  # ValueError: pyarrow's ArrowInvalid
            raise BadInput(f"{file} cannot be read: {problem}") from None
        return Columns({name: table[name].to_numpy() for name in table.column_names})

    def __repr__(self) -> str:
        result = self.result
        lines = [f"{self.job} run in {self.folder}" + (f", recipe {self.recipe}" if self.recipe else "")]
        if result is None:
            return f"{lines[0]}, not finished"
        if not isinstance(result, ThroughputResult):
            lines.append(f"{result.steps:,} steps, {result.images:,} images, {duration(result.seconds)}")
            if result.accuracy is not None and result.interval is not None and result.count is not None:
                low, high = result.interval
                bounds = f"95 % interval {low:.1%} to {high:.1%}"
                lines.append(f"accuracy {result.accuracy:.1%} ({bounds}) of {result.count:,} images")
        where = f" on {self.environment.processor}" if self.environment else ""
        return "\n".join([*lines, f"{result.images_per_second:,.0f} images/s{where}"])


def read_run(folder: str | Path) -> Run:
    """Reads the folder of a run, finished or not.

    Raises:
        BadInput: no run lies there, or one of its files is damaged.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise BadInput(f"{folder} holds no run: it has no config.json; expected the --out of pretrain or finetune")
    asked = load_record(RunConfig, folder / "config.json")
    place, reached = folder / "environment.json", folder / "result.json"
    environment = load_record(Environment, place) if place.is_file() else None
    result = read_result(reached) if reached.is_file() else None
    return Run(folder, asked.job, asked.recipe, asked.config, environment, result, asked.columns)


def read_result(path: Path) -> Result:
    """Reads result.json, of whatever run.

    Raises:
        BadInput: a missing or damaged file.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise BadInput(f"{path} holds no JSON object")
    if content.get("job") == "speed":
        return parse_record(ThroughputResult, content, path)
    if "runs" in content:
        return parse_record(FinetuneResult, content, path)
    return parse_record(RunResult, content, path)


def _column(values: list[int | float | None]) -> np.ndarray:
    """int64 where all are whole numbers, otherwise float64."""
    whole = all(isinstance(value, int) for value in values)
    return np.array([np.nan if value is None else value for value in values], np.int64 if whole else np.float64)
