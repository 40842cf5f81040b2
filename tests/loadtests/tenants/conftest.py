from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A unix socket's path has at most 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="rh-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
