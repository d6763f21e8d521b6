"""Columns as a pandas.DataFrame, where pandas is installed."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from vitrail.core.errors import BadInput


def to_pandas(columns: Mapping[Any, Any]) -> Any:
    """A DataFrame of columns of one length, by name.

    Raises:
        BadInput: pandas is not installed.
    """
    try:
        return import_module("pandas").DataFrame(dict(columns))
    except ImportError:
        raise BadInput("to_pandas needs pandas: pip install pandas") from None
