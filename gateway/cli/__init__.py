"""The ``roundhouse`` command. Data to stdout, words to stderr; exit status 0 done, 1 failed, 2 asked wrongly."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    from gateway.cli.app import run

    sys.exit(run(sys.argv[1:]))
