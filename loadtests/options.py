"""The command line of ``python -m loadtests``: what was given, on top of the suite's preset."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from loadtests.client.dialects import DIALECTS
from loadtests.generator.strike import VICTIMS
from loadtests.load.settings import SettingsError
from loadtests.manual import EPILOG, USAGE, WIDTH, description
from loadtests.suites import SUITES
from loadtests.suites.zero import TIERS

_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
# Options that are settings, by the settings' own names.
SETTINGS = (
    "seed", "salt", "duration_s", "rate_per_s", "users", "factor", "steps", "models", "zipf", "dialects",
    "unstreamed", "prompt_tokens", "output_tokens", "whole_length", "prefix_share", "prefix_tokens", "prefix_groups",
    "turns", "think_s", "spread_s", "trace", "speed", "kill", "kill_at_s", "tiers", "passes", "timeout_s", "drain_s",
    "keep_alive", "workers", "poll_s", "allow_remote",
)  # fmt: skip
# Settings that only some suites heed: elsewhere they are refused, not passed over.
OF_SUITES: Mapping[str, tuple[str, ...]] = {
    "rate_per_s": tuple(name for name in SUITES if name != "zero"),
    "users": ("smoke", "steady", "ramp", "soak", "chaos"),
    "spread_s": ("smoke", "steady", "ramp", "soak", "chaos"),
    "factor": ("spike", "ramp", "noisy-neighbour"),
    "steps": ("ramp",),
    "zipf": ("many-models",),
    "trace": ("replay",),
    "speed": ("replay",),
    "kill": ("chaos",),
    "kill_at_s": ("chaos",),
    "tiers": ("zero",),
    "passes": ("zero",),
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; see --help")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """What was not given is not in the namespace. Raises SettingsError."""
    parser = _parser()
    options, unknown = parser.parse_known_args(argv)
    if not hasattr(options, "suite"):
        raise SettingsError(f"name a suite: {', '.join(SUITES)}; or report, compare; see --help")
    if options.suite not in SUITES:
        names = (*SUITES, "report", "compare")
        raise SettingsError(
            f"there is no suite {options.suite!r}{_near(options.suite, names)}; there are {', '.join(names)}"
        )
    if unknown:
        near = _near(unknown[0].partition("=")[0], tuple(parser._option_string_actions))
        raise SettingsError(f"unrecognized arguments: {' '.join(unknown)}{near}; see --help")
    for name in given(options):
        suites = OF_SUITES.get(name, tuple(SUITES))
        if options.suite not in suites:
            raise SettingsError(f"{_names(parser)[name]} is of {', '.join(suites)}, not of {options.suite}")
    return options


def given(options: argparse.Namespace) -> dict[str, Any]:
    """The settings among the options."""
    return {name: value for name, value in vars(options).items() if name in SETTINGS}


def option_names() -> dict[str, str]:
    """By the name that a setting has: ``--rate`` of ``rate_per_s``."""
    return _names(_parser())


def in_options(message: str) -> str:
    """What is wrong with a setting, in the words of whoever gave an option."""
    name = re.match(r"[a-z_]+(?=[ :])", message)
    known = option_names().get(name[0]) if name else None
    return known + message[len(name[0]) :] if name and known else message


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="roundhouse loadtest",
        usage=USAGE,
        epilog=EPILOG,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=26, width=WIDTH),
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("suite", nargs="?", metavar="SUITE", help=argparse.SUPPRESS)
    _where(parser.add_argument_group("where and how"))
    _load(parser.add_argument_group("the load (instead of the suite's preset)"))
    _asked(parser.add_argument_group("what is asked"))
    parser.description = description(_names(parser))
    return parser


def _names(parser: argparse.ArgumentParser) -> dict[str, str]:
    return {action.dest: action.option_strings[0] for action in parser._actions if action.option_strings}


def _near(word: str, known: Sequence[str]) -> str:
    found = difflib.get_close_matches(word, known, 1)
    return f" (did you mean {found[0]}?)" if found else ""


def _where(group: Any) -> None:
    group.add_argument("-h", "--help", action="help", help="all of this")
    group.add_argument("--target", metavar="URL", help="the service; default ROUNDHOUSE_URL, or the one that runs here")
    group.add_argument("--slo", type=Path, metavar="FILE", help="goals (YAML); exit 1 when one is missed")
    group.add_argument(
        "--direct", nargs="?", const="auto", metavar="URL",
        help="the same load to the engine itself, too, in turns: what the gateway costs; no URL: it is found",
    )  # fmt: skip
    group.add_argument("--pairs", type=int, metavar="N", help="with --direct: passes on each side (default 5)")
    group.add_argument("--reset", action="store_true", help="with --direct: one new replica before each pass")
    group.add_argument("--out", type=Path, metavar="DIR", help="for the report, run.json, and Locust's own reports")
    group.add_argument("--workers", type=int, metavar="N", help="generator processes, a core each (default 1)")
    group.add_argument("--web", type=port, nargs="?", const=8089, metavar="PORT", help="Locust's page, on loopback")
    group.add_argument("--metrics-port", type=port, metavar="PORT", help="live metrics for Prometheus, on loopback")
    group.add_argument("--quiet", action="store_true", help="no progress on the terminal")
    group.add_argument("--json", action="store_true", help="run.json's figures on stdout")
    group.add_argument("--home", type=Path, metavar="DIR", help="state folder; default ROUNDHOUSE_HOME, or .roundhouse")
    group.add_argument("--allow-remote", action="store_true", help="load a service that is not on this machine")


def _load(group: Any) -> None:
    group.add_argument("--duration", dest="duration_s", type=seconds, metavar="TIME", help="such as 30s, 5m, 1h30m")
    group.add_argument("--rate", dest="rate_per_s", type=float, metavar="R", help="arrivals a second: an open load")
    group.add_argument("--users", type=int, metavar="N", help="so many at once instead: a closed load")
    group.add_argument("--spread", dest="spread_s", type=seconds, metavar="TIME", help="in which users begin (500ms)")
    group.add_argument("--factor", type=float, metavar="F", help="spike, noisy-neighbour, ramp: times the first rate")
    group.add_argument("--steps", type=int, metavar="N", help="of a ramp")
    group.add_argument("--seed", type=int, metavar="N", help="when what is asked; the same repeats a load (0)")
    group.add_argument("--salt", metavar="TEXT", help="in every prompt; new each run, for prefix caches' sake")
    group.add_argument("--zipf", type=float, metavar="S", help="many-models: the k-th model's share is like k^-S")
    group.add_argument("--trace", metavar="FILE", help="replay: CSV or JSONL, .gz too")
    group.add_argument("--speed", type=float, metavar="F", help="replay: so many times as fast")
    group.add_argument("--tiers", type=tiers, metavar="A,B", help=f"zero: of {', '.join(TIERS)}")
    group.add_argument("--passes", type=int, metavar="N", help="zero: of each model and tier")
    group.add_argument("--kill", choices=tuple(VICTIMS), help="chaos: what", metavar="WHAT")
    group.add_argument("--kill-at", dest="kill_at_s", type=seconds, metavar="TIME", help="chaos: when")
    group.add_argument("--timeout", dest="timeout_s", type=seconds, metavar="TIME", help="without a byte (120s)")
    group.add_argument("--drain", dest="drain_s", type=seconds, metavar="TIME", help="for open requests (30s)")
    group.add_argument("--poll", dest="poll_s", type=seconds, metavar="TIME", help="of the admin API (250ms)")
    group.add_argument("--no-keep-alive", dest="keep_alive", action="store_false", help="a connection per request")


def _asked(group: Any) -> None:
    group.add_argument("--models", type=words, metavar="A,B", help="default: all that fit")
    group.add_argument("--dialects", type=weights, metavar="D=W,..", help=f"of {', '.join(DIALECTS)} (chat)")
    group.add_argument("--unstreamed", type=float, metavar="SHARE", help="requests that do not stream, 0 to 1 (0)")
    group.add_argument(
        "--prompt-tokens", metavar="DIST",
        help="fixed:64, uniform:16-256, lognormal:mean=200,cv=1,most=2000 or choice:16*3,256*1 (value*weight)",
    )  # fmt: skip
    group.add_argument("--output-tokens", metavar="DIST", help="max_tokens of each request; as above (fixed:32)")
    group.add_argument("--whole-length", action="store_true", help="answers go on to max_tokens (vLLM's ignore_eos)")
    group.add_argument("--prefix-share", type=float, metavar="SHARE", help="prompts that begin with a shared text (0)")
    group.add_argument("--prefix-tokens", type=int, metavar="N", help="its length (128)")
    group.add_argument("--prefix-groups", type=int, metavar="N", help="how many such texts there are (4)")
    group.add_argument("--turns", type=int, metavar="N", help="of a conversation (1)")
    group.add_argument("--think", dest="think_s", type=seconds, metavar="TIME", help="between answer and turn (500ms)")


def seconds(text: str) -> float:
    """``90``, ``90s``, ``1m30s``, ``250ms``."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise argparse.ArgumentTypeError(f"must look like 30s, 5m or 1h30m, not {text!r}")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"must be a port from 1 to 65535, not {text!r}")
    return int(text)


def words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def tiers(text: str) -> tuple[str, ...]:
    found = words(text)
    if not found or any(tier not in TIERS for tier in found):
        raise argparse.ArgumentTypeError(f"must be some of {', '.join(TIERS)}, not {text!r}")
    return found


def weights(text: str) -> dict[str, float]:
    """``chat`` or ``chat=3,messages=1``."""
    found = {}
    for part in words(text):
        name, _, weight = part.partition("=")
        try:
            found[name] = float(weight or 1)
        except ValueError:
            found[name] = -1.0
        if name not in DIALECTS or not 0 <= found[name] < float("inf"):
            raise argparse.ArgumentTypeError(f"must be like chat=3,messages=1 with names of {', '.join(DIALECTS)}")
    if not any(found.values()):
        raise argparse.ArgumentTypeError(f"must be like chat=3,messages=1 with a weight above 0, not {text!r}")
    return found
