"""The command line of ``compare``: what is compared, and a suite with all of its options."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from loadtests import options as suite_options
from loadtests.compare.engine_args import EngineArgs, engine_args
from loadtests.compare.startable import STARTABLE
from loadtests.load.settings import SettingsError

PASSES = 3
ROUNDHOUSE_ONLY = ("zero", "chaos")
ALONE = ("target", "web", "metrics_port", "direct", "pairs", "reset")
DEFAULT_ARGS = "enforce_eager,max_model_len=1024"
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")


@dataclass(frozen=True, slots=True)
class Asked:
    """``targets``: URLs by name; ``start``: names of ``STARTABLE``. ``weights``: the model folder of those that are
    started, None: found by ``loadtests.compare.weights``. ``suite``: the options of a suite, as one run has them."""

    targets: Mapping[str, str]
    start: tuple[str, ...]
    passes: int
    peers: Path | None
    weights: Path | None
    engine_args: EngineArgs
    as_json: bool
    suite: argparse.Namespace


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; see compare --help")


def parse(argv: Sequence[str]) -> Asked:
    """Raises SettingsError."""
    own, rest = _parser().parse_known_args(argv)
    suite = suite_options.parse(rest)
    for name in ALONE:
        if hasattr(suite, name):
            raise SettingsError(
                f"--{name.replace('_', '-')} is of one run; compare has --targets NAME=URL,.. and --start"
            )
    if suite.suite in ROUNDHOUSE_ONLY:
        raise SettingsError(f"{suite.suite} orders a Roundhouse about; compare takes the suites that only ask")
    if not own.targets and not own.start:
        raise SettingsError("name what is to be compared: --targets NAME=URL,.. or --start " + ",".join(STARTABLE))
    if twice := sorted(set(own.targets) & set(own.start)):
        raise SettingsError(f"{', '.join(twice)}: named in --targets and in --start; give the target another name")
    return Asked(
        own.targets, own.start, own.passes, own.peers, own.weights, own.engine_args, hasattr(suite, "json"), suite
    )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="roundhouse loadtest compare",
        usage="%(prog)s SUITE [--targets NAME=URL,..] [--start NAME,..] [options of the suite]",
        description="One suite against several targets, in turns: the same requests at the same times. Each target's "
        "key is NAME_API_KEY of the environment (VLLM_API_KEY for vllm=URL).",
        epilog="Options of the suites: python -m loadtests --help",
        allow_abbrev=False,
    )
    parser.add_argument("--targets", type=named_urls, default={}, metavar="NAME=URL,..", help="services that run")
    parser.add_argument("--start", type=startable, default=(), metavar="NAME,..", help=f"of {', '.join(STARTABLE)}")
    parser.add_argument(
        "--passes", type=_passes, default=PASSES, metavar="N", help=f"of each target (default {PASSES})"
    )
    peers = os.environ.get("PEERS")
    parser.add_argument(
        "--peers", type=Path, default=Path(peers) if peers else None, metavar="DIR",
        help="where `make bench-peers PEERS=DIR` has put those that are Python packages",
    )  # fmt: skip
    parser.add_argument(
        "--weights", type=Path, metavar="DIR",
        help="model folder for --start; default: where the running service has the model, else a tiny one made here",
    )  # fmt: skip
    parser.add_argument(
        "--engine-args", type=_engine_args, default=engine_args(DEFAULT_ARGS), metavar="K=V,..",
        help=f"of every engine that is started, by vLLM's names (default {DEFAULT_ARGS})",
    )  # fmt: skip
    return parser


def named_urls(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in suite_options.words(text):
        name, equals, url = part.partition("=")
        if not equals or not url or not _NAME.fullmatch(name) or name in found:
            raise argparse.ArgumentTypeError(
                f"must be like roundhouse=http://127.0.0.1:8000,vllm=http://127.0.0.1:8001, each name once: {part!r}"
            )
        found[name] = url
    return found


def startable(text: str) -> tuple[str, ...]:
    names = suite_options.words(text)
    unknown = [name for name in names if name not in STARTABLE]
    if unknown or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"must be some of {', '.join(STARTABLE)}, each once, not {text!r}")
    return names


def _passes(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a number from 1 on, not {text!r}")
    return int(text)


def _engine_args(text: str) -> EngineArgs:
    try:
        return engine_args(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None
