"""``python -m models.demo ROOT``: make the demo models, with a line of progress for each."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from models.demo.errors import DemoError
from models.demo.make import BENCHMARK_MAKERS, MAKERS, make_demo_models


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m models.demo", description="Make the demo models.")
    parser.add_argument("root", type=Path, metavar="ROOT", help="the folder to make them in")
    parser.add_argument(
        "--only", action="append", choices=(*MAKERS, *BENCHMARK_MAKERS), help="make this one; may be repeated"
    )
    given = parser.parse_args(arguments)
    began_s = time.monotonic()
    try:
        models = make_demo_models(given.root, only=given.only, progress=_say)
    except (DemoError, OSError) as problem:
        sys.stderr.write(f"error: {problem}\n")
        return 1
    size_mb = sum(model.size_bytes for model in models) / 1e6
    _say(f"{len(models)} models, {size_mb:.1f} MB, {time.monotonic() - began_s:.1f} s")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
