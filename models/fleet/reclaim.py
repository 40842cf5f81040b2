"""Word that this machine will be taken away: left in a file by somebody, or found at a cloud's metadata service.

Sources: AWS, "Spot Instance interruption notices" (``spot/instance-action``, two minutes ahead, behind a session token
of IMDSv2); Google Cloud, "Preemptible VM instances" (``instance/preempted``, 30 seconds ahead).
"""

from __future__ import annotations

import http.client
import json
import logging
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from pathlib import Path

AWS = "http://169.254.169.254"
GCP = "http://metadata.google.internal"
TIMEOUT_S = 2.0
TOKEN_S = 300
SHORTEST_NOTICE_S = 30.0  # where it is certain and nobody says when
LONGEST_BODY_BYTES = 4096

log = logging.getLogger("roundhouse.fleet")


@dataclass(frozen=True, slots=True)
class Reclaim:
    at_unix_s: float
    reason: str


class BadNotice(ValueError):
    """The notice does not say what it should; the message quotes it."""


Look = Callable[[float], Reclaim | None]  # the present in Unix seconds; blocks for up to some TIMEOUT_S


class ReclaimWatch:
    """The earliest of what ``file`` and the cloud say. What a cloud has said once stays said."""

    def __init__(self, file: Path, notice: str | None) -> None:
        self._file = file
        self._ask = source(notice)
        self._told: Reclaim | None = None
        self._problem = ""

    def look(self, now: float) -> Reclaim | None:
        """Never raises: a metadata service that does not answer says nothing, and is logged once."""
        if self._told is None and self._ask is not None:
            try:
                self._told, self._problem = self._ask(now), ""
            except (OSError, BadNotice) as problem:
                if str(problem) != self._problem:
                    self._problem = str(problem)
                    log.warning("whether this machine is reclaimed cannot be asked: %s", problem)
        found = [each for each in (read_file(self._file, now), self._told) if each is not None]
        return min(found, key=lambda each: each.at_unix_s, default=None)


def read_file(path: Path, now: float) -> Reclaim | None:
    """Unix seconds; a file that says anything else is heeded all the same, SHORTEST_NOTICE_S after it was written."""
    try:
        written, said = path.stat().st_mtime, path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    try:
        return Reclaim(_unix_s(said), f"its owner takes it away ({path.name})")
    except ValueError:
        return Reclaim(min(written, now) + SHORTEST_NOTICE_S, f"{path.name} says {said[:60]!r}, which is no Unix time")


def source(notice: str | None) -> Look | None:
    """``aws``, ``gcp``, an URL that answers 200 once it is certain, or None. Raises BadNotice."""
    if notice is None:
        return None
    if notice == "aws":
        return aws()
    if notice == "gcp":
        return gcp()
    if notice.startswith(("http://", "https://")):
        return url(notice)
    raise BadNotice(f"{notice[:60]!r} is no source of reclaim notices: aws, gcp, or an http(s) URL")


def aws(base: str = AWS) -> Look:
    def look(now: float) -> Reclaim | None:
        lasts = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_S)}
        token = _fetch(f"{base}/latest/api/token", lasts, method="PUT")
        if token is None:
            raise BadNotice(f"{base} gives no session token")
        body = _fetch(f"{base}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token})
        return None if body is None else _aws_action(body, now)

    return look


def _aws_action(body: str, now: float) -> Reclaim:
    try:
        said = json.loads(body)
        return Reclaim(_iso_unix_s(said["time"]), f"AWS: spot {said['action']}")
    except (ValueError, TypeError, KeyError):
        log.warning("the spot notice is not understood: %r", body[:200])
        return Reclaim(now + SHORTEST_NOTICE_S, "AWS: a spot notice")


def gcp(base: str = GCP) -> Look:
    def look(now: float) -> Reclaim | None:
        said = _fetch(f"{base}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
        return Reclaim(now + SHORTEST_NOTICE_S, "Google Cloud: preempted") if said == "TRUE" else None

    return look


def url(address: str) -> Look:
    """Its body may say when, in Unix seconds or as ISO 8601."""

    def look(now: float) -> Reclaim | None:
        said = _fetch(address, {})
        return None if said is None else Reclaim(_when(said, now), "its owner takes it away")

    return look


def _when(said: str, now: float) -> float:
    for read in (_unix_s, _iso_unix_s):
        try:
            return read(said)
        except ValueError:
            continue
    return now + SHORTEST_NOTICE_S


def _unix_s(said: str) -> float:
    """Raises ValueError."""
    at_unix_s = float(said)
    if not isfinite(at_unix_s):
        raise ValueError(f"{said!r} is no time")
    return at_unix_s


def _iso_unix_s(said: str) -> float:
    """Raises ValueError; a time without a zone is no moment."""
    moment = datetime.fromisoformat(said)
    if moment.tzinfo is None:
        raise ValueError(f"{said!r} names no time zone")
    return moment.timestamp()


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


# A metadata service is on this machine's own link: no proxy is to hear of it.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects())


def _fetch(address: str, headers: Mapping[str, str], method: str = "GET") -> str | None:
    """The body of a 200; None for any other status. Raises OSError when there is no answer."""
    request = urllib.request.Request(address, headers=dict(headers), method=method)
    try:
        with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
            if answer.status != 200:
                return None
            return str(answer.read(LONGEST_BODY_BYTES).decode(errors="replace")).strip()
    except urllib.error.HTTPError:
        return None
    except (http.client.HTTPException, ValueError) as strange:  # which urllib lets through as they are
        raise OSError(f"{address} is not understood: {strange!r}") from strange
