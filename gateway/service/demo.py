"""The demo: which configuration is used when none is named, and whether its models have to be made first."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from models.demo.catalog import demo_config_text
from models.home import Home

FILE_NAME = "roundhouse.yaml"


@dataclass(frozen=True, slots=True)
class ConfigChoice:
    """``demo``: the configuration in the state folder, which was made from the demo's."""

    path: Path
    demo: bool


def choose_config(given: Path | None, home: Home, folder: Path) -> ConfigChoice:
    """The named file; else ``roundhouse.yaml`` in ``folder``; else the demo's, which is written when it is not there.

    Raises OSError when the state folder cannot be written.
    """
    if given is not None:
        path = given.expanduser().absolute()
        return ConfigChoice(path, demo=path == home.config)
    here = (folder / FILE_NAME).absolute()
    if here.is_file():
        return ConfigChoice(here, demo=here == home.config)
    if not home.config.exists():
        # Never half a file, and never over one that somebody else has just written.
        partial = home.config.with_suffix(f".{os.getpid()}.part")
        partial.write_text(demo_config_text(home.models))
        with contextlib.suppress(FileExistsError):
            os.link(partial, home.config)
        partial.unlink()
    return ConfigChoice(home.config, demo=True)
