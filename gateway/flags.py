"""The flags of a worker; its limits one line each. Written by ``up``, read by the worker, the same table for both."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from gateway import lean
from gateway.greed import Caps
from gateway.settings import Limits

LONGEST_S = 86_400.0


def count(text: str) -> int:
    number = _whole(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def any_count(text: str) -> int:
    number = _whole(text)
    if number < 0:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return number


def seconds(text: str) -> float:
    value = any_seconds(text)
    if value == 0:
        raise argparse.ArgumentTypeError("must be a number of seconds above 0")
    return value


def any_seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not 0 <= value < LONGEST_S:
        raise argparse.ArgumentTypeError(f"must be a number of seconds from 0 to {LONGEST_S:g}")
    return value


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


@dataclass(frozen=True, slots=True)
class Flag:
    field: str
    name: str
    parse: Callable[[str], Any]
    metavar: str
    help: str


FLAGS = (
    Flag("max_body_bytes", "--max-body", count, "BYTES", "largest request body"),
    Flag("upload_bytes", "--max-upload", count, "BYTES", "largest file that is taken"),
    Flag("head_bytes", "--max-head", count, "BYTES", "largest request line with its headers"),
    Flag("request_timeout_s", "--request-timeout", seconds, "S", "a request must have arrived by then"),
    Flag("idle_timeout_s", "--idle-timeout", seconds, "S", "a connection without a request is let go then"),
    Flag("linger_s", "--linger", any_seconds, "S", "what comes in after a refusal is read for so long"),
    Flag("drain_timeout_s", "--drain-timeout", seconds, "S", "how long open answers may go on after SIGTERM"),
    Flag("max_connections", "--max-connections", any_count, "N", "callers at a time; 0: as many as files may be open"),
    Flag("hold_timeout_s", "--hold-timeout", seconds, "S", "how long a request waits for its model to start"),
    Flag("hold_limit", "--hold-limit", count, "N", "how many requests may wait per model"),
    Flag("hold_comments_s", "--hold-comments", any_seconds, "S", "a held stream gets a comment as often; 0: none"),
)
_CAPS = {field.name for field in fields(Caps)}


def add_worker(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """What every worker takes, whatever it serves. The group: for what only its master says."""
    parser.add_argument("--tls-cert", type=Path, metavar="PEM", help="certificate chain; read again when it changes")
    parser.add_argument("--tls-key", type=Path, metavar="PEM", help="its key, without a password")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    parser.add_argument("--log-format", choices=("auto", "json", "console"), default="auto")
    parser.add_argument("--access-log", choices=("all", "errors", "off"), default="all",
                        help="which requests are logged (default: %(default)s)")  # fmt: skip
    seat = parser.add_argument_group("as one of several workers (given by gateway.workers)")
    seat.add_argument("--fd", type=int, help=argparse.SUPPRESS)
    seat.add_argument("--line", type=int, help=argparse.SUPPRESS)
    seat.add_argument("--worker", type=int, default=0, help=argparse.SUPPRESS)
    seat.add_argument("--peers", type=Path, help=argparse.SUPPRESS)
    return seat


def check_worker(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Ends the process where flags that belong together are apart."""
    if (given.tls_cert is None) != (given.tls_key is None):
        parser.error("--tls-cert and --tls-key go together")


def unseen(given: argparse.Namespace) -> tuple[str, ...]:
    """What need not be loaded for a log that nobody reads along."""
    as_json = given.log_format == "json" or (given.log_format == "auto" and not sys.stderr.isatty())
    return (lean.COLOURS,) if as_json else ()


def add_limits(parser: argparse.ArgumentParser) -> None:
    usual = Limits()
    for flag in FLAGS:
        parser.add_argument(
            flag.name,
            dest=flag.field,
            type=flag.parse,
            default=getattr(usual, flag.field),
            metavar=flag.metavar,
            help=f"{flag.help} (default: %(default)s)",
        )
    parser.add_argument("--media-host", dest="media_hosts", action="append", default=[], metavar="HOST",
                        help="engines may fetch images from there; may be given again")  # fmt: skip
    parser.add_argument("--cap", dest="caps", type=_cap, action="append", default=[], metavar="NAME=N",
                        help=f"the most that a request may ask for, of {', '.join(sorted(_CAPS))}")  # fmt: skip


def limits_of(given: argparse.Namespace) -> Limits:
    plain = {flag.field: getattr(given, flag.field) for flag in FLAGS}
    return Limits(**plain, media_hosts=tuple(given.media_hosts))


def caps_of(given: argparse.Namespace) -> Caps:
    return Caps(**dict(given.caps))


def words_of(limits: Limits, caps: Caps) -> list[str]:
    """What a worker is to be told; nothing of what is as usual."""
    usual = Limits()
    words: list[str] = []
    for flag in FLAGS:
        value = getattr(limits, flag.field)
        if value != getattr(usual, flag.field):
            words += [flag.name, f"{value:.15g}" if isinstance(value, float) else str(value)]
    for host in limits.media_hosts:
        words += ["--media-host", host]
    for field in fields(Caps):
        value = getattr(caps, field.name)
        if field.default is MISSING or value != field.default:
            words += ["--cap", f"{field.name}={value}"]
    return words


def _cap(text: str) -> tuple[str, int]:
    name, equals, number = text.partition("=")
    if name not in _CAPS or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=N with a NAME of {', '.join(sorted(_CAPS))}")
    return name, count(number)
