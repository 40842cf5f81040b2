"""Field types of routes.yaml and keys.yaml: what is written, and what is read from it."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from gateway.headers import HOP_BY_HOP
from models.catalog.errors import WrongValue
from models.home import LONGEST_SOCKET_PATH

UNIX = "unix:"
LONGEST_HEADER = 8192
PORTS = {"http": 80, "https": 443}
_HOW_URL = "write unix:/path/to.sock, http://host:port or https://host/base"
# Wider than the catalog's: upstreams have names such as llama3:8b.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+/-]{0,127}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*", re.ASCII)
_BASE = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
# What the gateway says itself of each request.
_TAKEN_HEADERS = frozenset(name.decode() for name in HOP_BY_HOP) | {
    "content-length", "content-type", "content-encoding", "accept-encoding", "expect",
    "host", "traceparent", "tracestate", "x-request-id",
}  # fmt: skip


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


def check_name(value: str) -> str:
    """Raises WrongValue. Segments of dots alone are refused: clients would fold them away in ``/v1/models/{id}``."""
    if not _NAME.fullmatch(value) or any(part.strip(".") == "" for part in value.split("/")):
        cure = "start with a letter or digit, use only letters, digits and . _ : @ + - and single /, at most 128 in all"
        raise WrongValue(f"{value[:60]!r} is not a model's name", cure)
    return value


def endpoint_of(url: str) -> str:
    """The endpoint as routes name it, one form for one place. A trailing ``/v1`` goes: every path begins with it.

    Raises WrongValue.
    """
    if url.startswith(UNIX):
        return _unix_endpoint(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as wrong:
        raise WrongValue(f"{_without_secret(url)} is not a URL ({wrong})", _HOW_URL) from None
    if parts.scheme not in PORTS or not parts.hostname or port == 0:
        raise WrongValue(f"{_without_secret(url)} is not a URL of an upstream", _HOW_URL)
    _refuse_extras(url, parts)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    base = parts.path.rstrip("/").removesuffix("/v1")
    if not _HOST.fullmatch(parts.hostname) or not _BASE.fullmatch(base):
        raise WrongValue(f"{_without_secret(url)} has characters that no URL has", _HOW_URL)
    shown_port = "" if port in (None, PORTS[parts.scheme]) else f":{port}"
    return f"{parts.scheme}://{host}{shown_port}{base}"


def some(value: object) -> object:
    """A list with something in it. Raises WrongValue. Asked first, so that what is in it is not shown."""
    if isinstance(value, list | tuple) and not value:
        raise WrongValue("is an empty list", "add one")
    return value


def check_header_name(name: str) -> str:
    """Raises WrongValue."""
    lower = name.lower()
    if not _TOKEN.fullmatch(name):
        raise WrongValue(f"{name[:60]!r} is not the name of a header", "write a name such as x-team")
    if lower in _TAKEN_HEADERS:
        raise WrongValue(f"the header {name} is set by the gateway itself", "leave it out")
    return lower


def check_header_value(value: object) -> str:
    """Raises WrongValue, which never tells the value: it may be a secret."""
    if not isinstance(value, str):
        raise WrongValue("the value of this header is not text", "put it in quotes")
    if not value.isascii() or not value.isprintable() or value != value.strip() or len(value) > LONGEST_HEADER:
        cure = f"remove line ends, tabs and outer spaces; at most {LONGEST_HEADER} characters"
        raise WrongValue("the value of this header is not printable ASCII", cure)
    return value


def names_and_values(value: object) -> object:
    """Raises WrongValue. Asked first: what stands there instead may be a secret, and is not shown."""
    if not isinstance(value, dict):
        raise WrongValue("does not hold names and values", "write headers: {x-team: research}")
    return value


def exact_decimal(value: object) -> str:
    """A price as exact decimal text, however it was written. Raises WrongValue."""
    try:
        amount = Decimal(str(value)) if isinstance(value, int | float | str) and not isinstance(value, bool) else None
    except InvalidOperation:
        amount = None
    if amount is None or not amount.is_finite() or not 0 <= amount < 10**9 or _digits_after_point(amount) > 30:
        raise WrongValue(f"{str(value)[:60]!r} is not a price", "write a decimal number such as 0.0000025")
    return f"{amount:f}"


def _unix_endpoint(url: str) -> str:
    path = "/" + url.removeprefix(UNIX).lstrip("/")
    if not url.startswith((f"{UNIX}/", f"{UNIX}///")) or not path.isprintable():
        raise WrongValue(f"{url[:60]!r} does not name a socket by its whole path", "write unix:/path/to.sock")
    if len(path.encode()) > LONGEST_SOCKET_PATH:
        cure = f"a socket's path has at most {LONGEST_SOCKET_PATH} bytes: use a shorter one"
        raise WrongValue(f"{url[:60]!r} is too long", cure)
    return UNIX + path


def _refuse_extras(url: str, parts: SplitResult) -> None:
    if parts.username is not None or parts.password is not None:
        raise WrongValue(f"{_without_secret(url)} has a user or a password in it", "use api_key_env or headers")
    if parts.query or parts.fragment or url.endswith(("?", "#")):
        raise WrongValue(f"{_without_secret(url)} has a query or a fragment", "end it after the base path")


def _without_secret(url: str) -> str:
    """For messages: nothing of what stands where a password or a query would."""
    scheme, mark, rest = url.partition("://")
    shown = scheme + mark + rest.rpartition("@")[2] if mark else url
    return repr(re.split(r"[?#]", shown)[0][:60])


def _digits_after_point(amount: Decimal) -> int:
    exponent = amount.as_tuple().exponent
    return -exponent if isinstance(exponent, int) and exponent < 0 else 0


def _check_env_name(value: str) -> str:
    if not _ENV_NAME.fullmatch(value):
        # Not shown: whoever mistakes the field writes the key itself.
        raise WrongValue("is not the name of an environment variable", "write its name, such as UPSTREAM_API_KEY")
    return value


def _check_hash(value: str) -> str:
    if not _HASH.fullmatch(value):
        raise WrongValue("is not a SHA-256 in lower-case hex", "`roundhouse keys hash` prints it")
    return value


def _check_printable(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise WrongValue(f"{value[:60]!r} is not a name", "write 1 to 256 printable characters")
    return value.strip()


Name = Annotated[str, AfterValidator(check_name)]
Label = Annotated[str, Field(max_length=256), AfterValidator(_check_printable)]
Endpoint = Annotated[str, AfterValidator(endpoint_of)]
EnvName = Annotated[str, AfterValidator(_check_env_name)]
HeaderName = Annotated[str, AfterValidator(check_header_name)]
HeaderValue = Annotated[str, BeforeValidator(check_header_value)]
Headers = Annotated[dict[HeaderName, HeaderValue], BeforeValidator(names_and_values)]
KeyHash = Annotated[str, AfterValidator(_check_hash)]
Price = Annotated[str, BeforeValidator(exact_decimal)]
Some = BeforeValidator(some)
Weight = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
