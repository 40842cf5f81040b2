"""The command line of ``python -m loadtests``: what was given, on top of the suite's preset."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from loadtests.client.dialects import DIALECTS
from loadtests.load.settings import SettingsError
from loadtests.suites import SUITES

_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
# Options that are settings, by the settings' own names.
SETTINGS = (
    "seed", "salt", "duration_s", "rate_per_s", "users", "factor", "steps", "models", "zipf", "dialects",
    "unstreamed", "prompt_tokens", "output_tokens", "whole_length", "prefix_share", "prefix_tokens", "prefix_groups",
    "turns", "think_s", "spread_s", "trace", "speed", "kill", "kill_at_s", "tiers", "passes", "timeout_s", "drain_s",
    "keep_alive", "workers", "poll_s", "allow_remote",
)  # fmt: skip


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; see --help")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """What was not given is not in the namespace. Raises SettingsError."""
    suites = "\n".join(f"  {name:16} {suite.about}" for name, suite in SUITES.items())
    parser = _Parser(
        prog="roundhouse loadtest",
        usage="%(prog)s SUITE [options]",
        description=f"Load a service and say what its callers feel. Suites:\n{suites}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("suite", choices=sorted(SUITES), metavar="SUITE")
    _where(parser.add_argument_group("where and how"))
    _load(parser.add_argument_group("load (each suite has a preset)"))
    _asked(parser.add_argument_group("what is asked"))
    return parser.parse_args(argv)


def given(options: argparse.Namespace) -> dict[str, Any]:
    """The settings among the options."""
    return {name: value for name, value in vars(options).items() if name in SETTINGS}


def _where(group: Any) -> None:
    group.add_argument("--target", metavar="URL", help="the service; default ROUNDHOUSE_URL, or the one that runs here")
    group.add_argument("--slo", type=Path, metavar="FILE", help="goals (YAML); exit 1 when one is missed")
    group.add_argument(
        "--direct", nargs="?", const="auto", metavar="URL",
        help="the same load to the engine itself, too, in turns: what the gateway costs; no URL: it is found",
    )  # fmt: skip
    group.add_argument("--pairs", type=int, metavar="N", help="with --direct: passes on each side (default 5)")
    group.add_argument("--reset", action="store_true", help="with --direct: one new replica before each pass")
    group.add_argument("--out", type=Path, metavar="DIR", help="for run.json and Locust's reports")
    group.add_argument("--workers", type=int, metavar="N", help="generator processes, a core each (default 1)")
    group.add_argument("--web", type=int, nargs="?", const=8089, metavar="PORT", help="Locust's own page, on loopback")
    group.add_argument("--metrics-port", type=int, metavar="PORT", help="live metrics for Prometheus, on loopback")
    group.add_argument("--quiet", action="store_true", help="no progress on the terminal")
    group.add_argument("--json", action="store_true", help="run.json's figures on stdout")
    group.add_argument("--allow-remote", action="store_true", help="load a service that is not on this machine")


def _load(group: Any) -> None:
    group.add_argument("--duration", dest="duration_s", type=seconds, metavar="TIME", help="such as 30s, 5m, 1h30m")
    group.add_argument("--rate", dest="rate_per_s", type=float, metavar="R", help="arrivals a second: an open load")
    group.add_argument("--users", type=int, metavar="N", help="so many at once instead: a closed load")
    group.add_argument("--spread", dest="spread_s", type=seconds, metavar="TIME", help="in which users begin (500ms)")
    group.add_argument("--factor", type=float, help="spike, noisy-neighbour, ramp: times the first rate")
    group.add_argument("--steps", type=int, help="of a ramp")
    group.add_argument("--seed", type=int, help="repeats a load: when what is asked")
    group.add_argument("--salt", help="in every prompt; another one each run, for prefix caches' sake")
    group.add_argument("--zipf", type=float, help="many-models: the k-th model's share is like k^-ZIPF (1)")
    group.add_argument("--trace", metavar="FILE", help="replay: CSV or JSONL, .gz too")
    group.add_argument("--speed", type=float, help="replay: so many times as fast")
    group.add_argument("--tiers", type=words, metavar="A,B", help="zero: of disk, host, gpu")
    group.add_argument("--passes", type=int, help="zero: of each model and tier")
    group.add_argument("--kill", help="chaos: engine, worker or controller")
    group.add_argument("--kill-at", dest="kill_at_s", type=seconds, metavar="TIME", help="chaos: when")
    group.add_argument("--timeout", dest="timeout_s", type=seconds, metavar="TIME", help="without a byte (120s)")
    group.add_argument("--drain", dest="drain_s", type=seconds, metavar="TIME", help="for open requests (30s)")
    group.add_argument("--poll", dest="poll_s", type=seconds, metavar="TIME", help="of the admin API (250ms)")
    group.add_argument("--no-keep-alive", dest="keep_alive", action="store_false", help="a connection per request")


def _asked(group: Any) -> None:
    group.add_argument("--models", type=words, metavar="A,B", help="default: all that fit")
    group.add_argument("--dialects", type=weights, metavar="D=W,..", help=f"of {', '.join(DIALECTS)}")
    group.add_argument("--unstreamed", type=float, metavar="SHARE", help="requests that do not stream, 0 to 1")
    group.add_argument("--prompt-tokens", metavar="DIST", help="fixed:64, uniform:16-256, lognormal:mean=200,cv=1")
    group.add_argument("--output-tokens", metavar="DIST", help="max_tokens of each request; as above")
    group.add_argument("--whole-length", action="store_true", help="answers go on to max_tokens (vLLM's ignore_eos)")
    group.add_argument("--prefix-share", type=float, metavar="SHARE", help="prompts that begin with a shared text")
    group.add_argument("--prefix-tokens", type=int, help="its length")
    group.add_argument("--prefix-groups", type=int, help="how many such texts there are")
    group.add_argument("--turns", type=int, help="of a conversation")
    group.add_argument("--think", dest="think_s", type=seconds, metavar="TIME", help="between an answer and a turn")


def seconds(text: str) -> float:
    """``90``, ``90s``, ``1m30s``, ``250ms``."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise argparse.ArgumentTypeError(f"must look like 30s, 5m or 1h30m, not {text!r}")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def weights(text: str) -> dict[str, float]:
    """``chat`` or ``chat=3,messages=1``."""
    found = {}
    for part in words(text):
        name, _, weight = part.partition("=")
        try:
            found[name] = float(weight or 1)
        except ValueError:
            found[name] = -1.0
        if name not in DIALECTS or found[name] < 0:
            raise argparse.ArgumentTypeError(f"must be like chat=3,messages=1 with names of {', '.join(DIALECTS)}")
    return found
