"""Which service to load, and with which keys: from the environment or a private file, never from a command line."""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit


class TargetError(ValueError):
    """There is nothing to load, or it may not be loaded; the message names the cure."""


class WrongTarget(TargetError):
    """What was named is no service's address, one that must not be loaded, or a model that is not there: asked wrongly,
    whatever runs."""


@dataclass(frozen=True, slots=True)
class Target:
    """Base URL without a path, and the bearer keys. ``repr`` does not show the keys.

    ``unix:/path`` reaches a server on a unix socket of this machine.
    """

    url: str
    api_key: str = ""
    admin_key: str = ""

    def __repr__(self) -> str:
        return f"Target({self.url!r})"

    @property
    def secure(self) -> bool:
        return urlsplit(self.url).scheme == "https"

    @property
    def socket_path(self) -> str | None:
        scheme, _, path = self.url.partition(":")
        return path if scheme == "unix" else None

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or (443 if self.secure else 80)

    @property
    def loopback(self) -> bool:
        """Only what names this machine by itself: a name other than localhost could lead anywhere."""
        if self.socket_path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def environment(self) -> dict[str, str]:
        """For a child process that finds the same target."""
        return {
            "ROUNDHOUSE_URL": self.url,
            "ROUNDHOUSE_API_KEY": self.api_key,
            "ROUNDHOUSE_ADMIN_KEY": self.admin_key,
        }


def home_of(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("ROUNDHOUSE_HOME") or ".roundhouse").expanduser().resolve()


def named_target(url: str, environ: Mapping[str, str], allow_remote: bool = False) -> Target:
    """The service at ``url``, with the keys in the environment; with those that the running service has left behind
    where it is that one. Another one is never told those, although they are in the environment, too: its administrator
    is not ours. Raises TargetError."""
    wanted = base_url(url, "--target")
    left = read_env_file(home_of(environ) / "demo.env")
    ours = bool(left.get("ROUNDHOUSE_URL")) and base_url(left["ROUNDHOUSE_URL"]) == wanted
    given = {name: value for name, value in environ.items() if value and (ours or value != left.get(name))}
    return find_target({**(left if ours else {}), **given, "ROUNDHOUSE_URL": wanted}, allow_remote)


def find_target(environ: Mapping[str, str], allow_remote: bool = False) -> Target:
    """ROUNDHOUSE_URL with its keys; without it, what the running service wrote to ``$ROUNDHOUSE_HOME/demo.env``.

    Raises TargetError when neither names a service, the URL is none, or it leads off this machine unasked.
    """
    values: Mapping[str, str] = environ
    if not environ.get("ROUNDHOUSE_URL"):
        file = home_of(environ) / "demo.env"
        values = read_env_file(file) | {name: value for name, value in environ.items() if value}
        if not values.get("ROUNDHOUSE_URL"):
            raise TargetError(
                f"no service is running (nothing in {file}): start it with `make run`, or name one: --target URL"
            )
    target = Target(
        base_url(values["ROUNDHOUSE_URL"]), values.get("ROUNDHOUSE_API_KEY", ""), values.get("ROUNDHOUSE_ADMIN_KEY", "")
    )
    if not target.loopback and not allow_remote:
        raise WrongTarget(f"{target.url} is not this machine; --allow-remote loads it all the same")
    return target


def base_url(text: str, named: str = "ROUNDHOUSE_URL") -> str:
    """Scheme, host and port of a URL; what SDKs append (``/v1``) is taken off. ``named``: where it was given.

    Raises WrongTarget."""
    if text.startswith("unix:/"):
        return text
    parts = urlsplit(text.strip())
    try:
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is no number
        usable = False
    if not usable or parts.path.rstrip("/") not in ("", "/v1"):
        raise WrongTarget(f"{named} should look like http://127.0.0.1:8000, not {text!r}")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def read_env_file(file: Path) -> dict[str, str]:
    """NAME=value lines as a shell would read them, ``export`` or not; nothing when the file is not there."""
    try:
        text = file.read_text()
    except FileNotFoundError:
        return {}
    words = shlex.split(text, comments=True)
    return dict(word.split("=", 1) for word in words if "=" in word)
