"""``python -m tests.fuzz``: atheris on each target for a while. What it finds lies in ``corpus`` and so is a test."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.targets import TARGETS
from tests.fuzz.test_targets import CORPUS, WORDS


def main() -> int:
    """Exit codes: 0 nothing found, 1 something was, 2 atheris is not there or wrong arguments."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: %(default)s)")
    parser.add_argument("--only", choices=sorted(TARGETS), action="append", help="this target; may be repeated")
    given = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        sys.stderr.write("atheris is not installed; cure: .venv/bin/pip install --no-deps 'atheris>=3'\n")
        return 2
    broken = [name for name in given.only or TARGETS if not holds(name, given.seconds)]
    print(f"{len(broken)} of {len(given.only or TARGETS)} targets broken{': ' if broken else ''}{', '.join(broken)}")
    return 1 if broken else 0


def holds(name: str, seconds: int) -> bool:
    kept = CORPUS / name
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        seeds = Path(folder, "seeds")
        seeds.mkdir()
        for number, word in enumerate(WORDS[name]):
            (seeds / str(number)).write_bytes(b"\0" + word)
        words = Path(folder, "words")
        words.write_text("".join(quoted(word[:60]) for word in WORDS[name]))
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.atheris_run", name, f"-max_total_time={seconds}", f"-dict={words}",
             f"-artifact_prefix={kept}/", "-max_len=4096", "-verbosity=0", str(seeds), str(kept)],
        )  # fmt: skip
    if not any(kept.iterdir()):
        kept.rmdir()
    print(f"{name}: {'holds' if done.returncode == 0 else 'BROKEN, see above'}")
    return done.returncode == 0


def quoted(word: bytes) -> str:
    """A line of libFuzzer's dictionary."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n'


if __name__ == "__main__":
    sys.exit(main())
