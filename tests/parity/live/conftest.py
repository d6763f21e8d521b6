"""timm and transformers, which `make test-all` installs; where they are absent the tests are skipped."""

from importlib import import_module
from types import ModuleType

import pytest

from tests.parity.live.foreign import require


@pytest.fixture(scope="session")
def timm() -> ModuleType:
    require("timm")
    return import_module("timm")


@pytest.fixture(scope="session")
def transformers() -> ModuleType:
    require("transformers")
    module = import_module("transformers")
    module.logging.set_verbosity_error()
    module.logging.disable_progress_bar()
    return module
