"""``python -m loadtests.latency_cost``, also ``make latency-cost``: measure the figures of docs/latency-cost.md.

The running service is loaded (``make run``); peers are started here. A table is filled only with figures that may be
believed: a run that is not valid leaves the one before, and is told.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.latency_cost import figures
from loadtests.latency_cost.page import PageError, filled
from loadtests.outcome.document import RUN_FILE

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "latency-cost.md"
STARTED = "roundhouse,plain-vllm,litellm,vllm-router,ray-serve-llm"


@dataclass(frozen=True, slots=True)
class Part:
    """``words``: for ``python -m loadtests``; ``file``: what it leaves that ``rows`` reads."""

    words: tuple[str, ...]
    file: str
    rows: Callable[[Mapping[str, Any]], figures.Rows]


PARTS = {
    "gateway": Part(
        ("steady", "--models", "tiny-llama", "--rate", "5", "--duration", "20s", "--direct", "--pairs", "5"),
        "report.json",
        figures.gateway,
    ),
    "tiers": Part(("zero", "--models", "tiny-llama", "--passes", "10"), RUN_FILE, figures.tiers),
    "spike": Part(("spike", "--models", "tiny-llama"), RUN_FILE, figures.spike),
    "peers": Part(
        ("compare", "steady", "--start", STARTED, "--rate", "4", "--duration", "20s"), "comparison.json", figures.peers
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 when every part that was asked for is in the page; 1 when one is not; 2 for wrong options."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.latency_cost", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--only", default="", help=f"of {','.join(PARTS)}")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--peers", default="", help="folder of peers: make bench-peers PEERS=DIR")
    options = parser.parse_args(argv)
    wanted = [name.strip() for name in options.only.split(",") if name.strip()] or list(PARTS)
    if unknown := [name for name in wanted if name not in PARTS]:
        parser.error(f"--only: no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return 1 if [name for name in wanted if not _measured(name, options.page, options.peers)] else 0


def _measured(name: str, page: Path, peers: str) -> bool:
    """Whether its rows are in the page now."""
    part = PARTS[name]
    with tempfile.TemporaryDirectory(prefix="rh-cost-") as folder:
        words = [*part.words, "--out", folder, *(["--peers", peers] if peers and name == "peers" else [])]
        print(f"{name}: loadtest {' '.join(part.words)}", flush=True)
        subprocess.run([sys.executable, "-m", "loadtests", *words], check=False)
        try:
            document = json.loads((Path(folder) / part.file).read_text())
        except (OSError, ValueError) as problem:
            return _told(name, f"it left no figures ({problem})")
    if reasons := figures.validity(document):
        return _told(name, "; ".join(reasons))
    try:
        page.write_text(filled(page.read_text(), name, part.rows(document)))
    except (OSError, PageError) as problem:
        return _told(name, str(problem))
    print(f"{name}: in {page.name}", flush=True)
    return True


def _told(name: str, why: str) -> bool:
    print(f"{name}: the page stays as it is: {why}", file=sys.stderr, flush=True)
    return False


if __name__ == "__main__":
    sys.exit(main())
