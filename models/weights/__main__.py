"""``python -m models.weights --root FOLDER --source URL``: fetch a source; JSON lines of progress, then the outcome.

It ends when nobody reads them any more.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from models.weights.child import Outcome
from models.weights.errors import SourceRefused, WeightsError
from models.weights.records import Progress
from models.weights.store import WeightStore
from models.weights.urls import parse_source


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m models.weights")
    parser.add_argument("--root", required=True, help="folder of the store")
    parser.add_argument("--source", required=True, help="hf://org/repo@revision, s3://bucket/prefix or a folder")
    args = parser.parse_args()
    try:
        record = WeightStore(Path(args.root)).fetch(parse_source(args.source, Path.cwd()), tell=_tell)
    except WeightsError as error:
        refused = isinstance(error, SourceRefused)
        _write(Outcome(error=error.message, cure=error.cure, refused=refused))
        return 1
    except BrokenPipeError:
        return 1
    except OSError as error:
        _write(Outcome(error=f"the store cannot be written ({error.strerror})", cure="look at the disk"))
        return 1
    _write(Outcome(folder=record.folder))
    return 0


def _tell(progress: Progress) -> None:
    _write(progress)


def _write(line: msgspec.Struct) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
