"""Talks to the admin API of a running service."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from gateway.cli.errors import AskedWrongly, CliError, NotRunning, Refused, Unreachable
from gateway.service import credentials, record
from models.home import Home

if TYPE_CHECKING:
    import ssl
    import urllib.error
    import urllib.request

ADMIN = "/admin/v1"
TIMEOUT_S = 30.0
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
WRONG_CODES = ("invalid_configuration", "invalid_request", "unknown_command")


@dataclass(frozen=True, slots=True)
class AdminClient:
    """``cert``: a PEM file with a certificate to be trusted, besides those that this machine trusts anyway."""

    url: str
    key: str = field(repr=False)
    cert: Path | None = None

    def get(self, path: str, **query: object) -> Any:
        """The document at ``/admin/v1/<path>``; None in ``query`` is left out. Raises CliError."""
        given = {name: value for name, value in query.items() if value is not None}
        return self._ask("GET", f"{path}?{urlencode(given)}" if given else path, TIMEOUT_S)

    def post(self, path: str, timeout_s: float = TIMEOUT_S, /, **query: object) -> Any:
        return self._ask("POST", f"{path}?{urlencode(query)}" if query else path, timeout_s)

    def text(self, path: str, **query: object) -> str:
        """What is no JSON: a page, or CSV with its line ends as they are. Raises CliError."""
        with self._open("GET", f"{path}?{urlencode(query)}" if query else path, TIMEOUT_S) as response:
            found: bytes = response.read()
        return found.decode()

    def lines(self, path: str, **query: object) -> Iterator[Any]:
        """Documents, one a line, as they come. Raises CliError, also when the service says nothing for too long."""
        given = {name: value for name, value in query.items() if value is not None}
        with self._open("GET", f"{path}?{urlencode(given)}", TIMEOUT_S) as response:
            for line in response:
                if line.strip():
                    yield json.loads(line)

    def _ask(self, method: str, path: str, timeout_s: float) -> Any:
        with self._open(method, path, timeout_s) as response:
            return json.load(response)

    @contextmanager
    def _open(self, method: str, path: str, timeout_s: float) -> Iterator[Any]:
        """The answer, while it is being read."""
        import http.client
        import urllib.error
        import urllib.request

        request = urllib.request.Request(
            f"{self.url}{ADMIN}/{path}",
            method=method,
            headers={"authorization": f"Bearer {self.key}", "accept": "application/json"},
        )
        try:
            with _opener(self.url, self.cert).open(request, timeout=timeout_s) as response:
                yield response
        except urllib.error.HTTPError as refusal:
            raise _refused(refusal) from None
        except urllib.error.URLError as problem:
            raise Unreachable(self.url, _reason(problem.reason)) from None
        except OSError as problem:  # cut off, or silent for too long
            raise Unreachable(self.url, _reason(problem)) from None
        except (ValueError, http.client.HTTPException):
            raise Unreachable(self.url, "what does is no Roundhouse") from None


def find_service(given: Path | None = None, env: Mapping[str, str] = os.environ) -> AdminClient:
    """The service meant: that of a named state folder; else ROUNDHOUSE_URL with ROUNDHOUSE_ADMIN_KEY; else that of the
    usual folder, as ``up`` wrote it there.

    Raises NotRunning, and CliError when no key is known.
    """
    home = home_of(given)
    named = env if given is None else {}
    written = credentials.read(home.demo_env)
    running = record.running(home)
    url = named.get(credentials.URL) or (running.url if running else written.get(credentials.URL))
    ours = running is not None and url == running.url
    if running is not None and ours:
        url = running.admin_url or url
    key = named.get(credentials.ADMIN_KEY) or written.get(credentials.ADMIN_KEY)
    if running is not None and not url:
        raise CliError(
            "this machine is a node of a cluster, without a gateway of its own",
            code="no_gateway",
            cure="ask on the head; or set ROUNDHOUSE_URL and ROUNDHOUSE_ADMIN_KEY to a gateway of the cluster",
        )
    if not url:
        raise NotRunning(home.root)
    if urlsplit(url).scheme not in ("http", "https"):
        raise AskedWrongly(
            f"{credentials.URL} is not a URL: {url[:200]!r}", code="invalid_url", cure="write http://127.0.0.1:8000"
        )
    if not key:
        raise CliError(
            f"no admin key is known for {url}",
            code="no_admin_key",
            cure="set ROUNDHOUSE_ADMIN_KEY; make a key with: roundhouse keys create NAME --scope admin",
        )
    cert = Path(running.tls_cert) if running is not None and ours and running.tls_cert else None
    return AdminClient(url.rstrip("/"), key, cert)


def model_path(model_id: str, verb: str) -> str:
    return f"models/{quote(model_id)}/{verb}"


def _opener(url: str, cert: Path | None) -> urllib.request.OpenerDirector:
    import urllib.request

    # A proxy from the environment has no way back to this machine's loopback.
    local = urlsplit(url).hostname in LOOPBACK_HOSTS
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})] if local else []
    if cert is not None:
        handlers.append(urllib.request.HTTPSHandler(context=_trusting(cert, by_name=not local)))
    return urllib.request.build_opener(*handlers)


def _trusting(cert: Path, *, by_name: bool) -> ssl.SSLContext:
    """The service's own certificate will do, whoever has signed it; it need not be made out to a loopback address."""
    import ssl

    context = ssl.create_default_context()
    context.load_verify_locations(cert)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = by_name
    return context


def _refused(refusal: urllib.error.HTTPError) -> CliError:
    try:
        error = json.load(refusal)["error"]
        message, code = str(error["message"]), str(error.get("code") or error["type"])
    except (ValueError, LookupError, TypeError, AttributeError, OSError):
        message, code = f"the service answered {refusal.code} {refusal.reason}", "unexpected_answer"
    cure = "what serves goes on; see what is wrong: roundhouse doctor" if code == "store_unavailable" else ""
    if code == "address_blocked":
        cure = "on a machine of the service: roundhouse house unblock ADDRESS (roundhouse house show lists blocks)"
    elif refusal.code in (401, 403):
        cure = "give a key with the scope admin in ROUNDHOUSE_ADMIN_KEY (admin:read is enough to look, not to change)"
    kind = AskedWrongly if code in WRONG_CODES else Refused
    return kind(message, code=code, cure=cure, details={"status": refusal.code})


def _reason(problem: object) -> str:
    if isinstance(problem, TimeoutError):
        return "no answer in time"
    return str(problem.strerror or problem) if isinstance(problem, OSError) else str(problem)


def home_of(given: Path | None) -> Home:
    return Home.find(given)
