"""Headless Chromium, told by DevTools what to open; it says what a reader of the page would meet."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx
from websockets.sync.client import ClientConnection, connect

PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
# It is root in many a container, and a browser of its own calls home.
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
    "--no-default-browser-check", "--no-proxy-server", "--hide-scrollbars", "--remote-debugging-port=0",
)  # fmt: skip
WITHIN_S = 60
Theme = Literal["light", "dark"]
SIZES = ((1000, 900), (400, 800))  # a screen, a phone

# What is seen of the page: texts of what is shown, and rectangles in CSS pixels.
SEEN = """(() => {
  const shown = e => e.checkVisibility() && e.getClientRects().length > 0;
  const box = e => { const r = e.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
  const texts = s => [...document.querySelectorAll(s)].filter(shown).map(e => e.textContent.trim());
  const sized = e => { const r = e.getBoundingClientRect(); return r.width + r.height > 0; };
  const figures = [...document.querySelectorAll('figure')];
  const colours = getComputedStyle(document.body);
  const pictures = [...document.querySelectorAll('svg')].filter(shown).map(e => ({
    box: box(e), figure: figures.indexOf(e.closest('figure')),
    drawn: [...e.querySelectorAll('path,rect,circle,line,polyline,polygon')].filter(sized).length,
    texts: [...e.querySelectorAll('text')].map(t => ({text: t.textContent, box: box(t)})),
  }));
  return {title: document.title, h1: texts('h1'), h2: texts('h2'), figures: figures.length,
    wide: document.documentElement.scrollWidth, ink: colours.color, paper: colours.backgroundColor, pictures};
})()"""


@dataclass(frozen=True)
class Picture:
    """``box``: left, top, right, bottom. ``figure``: the how manieth it is in. ``drawn``: shapes that have a size.
    ``texts``: with their boxes."""

    box: tuple[float, ...]
    figure: int
    drawn: int
    texts: tuple[tuple[str, tuple[float, ...]], ...]


@dataclass(frozen=True)
class Look:
    """One look at a page. ``problems``: what was said on the console, thrown, or could not be loaded.
    ``requests``: URLs of all that was asked for, but for the page. ``wide``: how wide it is, in CSS pixels."""

    width: int
    theme: Theme
    title: str
    h1: tuple[str, ...]
    h2: tuple[str, ...]
    figures: int
    pictures: tuple[Picture, ...]
    wide: int
    ink: tuple[int, ...]
    paper: tuple[int, ...]
    requests: tuple[str, ...]
    problems: tuple[str, ...]


def program() -> str | None:
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


@dataclass
class Browser:
    """A tab. Events that came in between answers are kept until somebody asks for them."""

    tab: ClientConnection
    said: list[dict[str, Any]] = field(default_factory=list)
    calls: int = 0

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self.calls += 1
        self.tab.send(json.dumps({"id": self.calls, "method": method, "params": params}))
        while (answer := self._read()).get("id") != self.calls:
            self.said.append(answer)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def look(self, page: Path, width: int = 1000, height: int = 900, theme: Theme = "light") -> Look:
        """A fresh load of the file, of which even what comes after it (timers, late requests) has had its turn."""
        url = page.absolute().as_uri()
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        self.said.clear()
        self.call("Page.navigate", url=url)
        self._until("Page.loadEventFired")
        # Two frames later it has been laid out and painted.
        waiting = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50))))"
        self.call("Runtime.evaluate", expression=waiting, awaitPromise=True)
        seen = self.call("Runtime.evaluate", expression=SEEN, returnByValue=True)["result"]["value"]
        return _look(seen, width, theme, url, self.said)

    def picture(self, to: Path) -> None:
        """The whole page as it was last looked at, as PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        to.write_bytes(base64.b64decode(shot["data"]))

    def _until(self, event: str) -> None:
        while not any(said.get("method") == event for said in self.said):
            self.said.append(self._read())

    def _read(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.tab.recv(timeout=WITHIN_S))
        return answer


@contextmanager
def browser(path: str) -> Iterator[Browser]:
    """A process of its own with a profile of its own, both gone afterwards."""
    profile = Path(tempfile.mkdtemp(prefix="rh-chromium-"))
    with (profile / "log").open("wb") as log:
        words = [path, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environ(profile))
    try:
        with connect(_tab(process, profile), max_size=None, proxy=None, open_timeout=WITHIN_S) as tab:
            found = Browser(tab)
            for domain in ("Page", "Runtime", "Log", "Network"):
                found.call(f"{domain}.enable")
            yield found
    finally:
        process.terminate()
        process.wait(WITHIN_S)
        shutil.rmtree(profile, ignore_errors=True)


def _environ(profile: Path) -> dict[str, str]:
    return {**os.environ, "HOME": str(profile), "DBUS_SESSION_BUS_ADDRESS": "disabled:"}


def _tab(process: subprocess.Popen[bytes], profile: Path) -> str:
    """The address of its first tab, on the port of its own choice that it writes into its profile."""
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        assert process.poll() is None, (profile / "log").read_text()
        try:
            port = int((profile / "DevToolsActivePort").read_text().split()[0])
            tabs = httpx.get(f"http://127.0.0.1:{port}/json/list", trust_env=False).json()
            return next(str(tab["webSocketDebuggerUrl"]) for tab in tabs if tab["type"] == "page")
        except (OSError, IndexError, ValueError, StopIteration, httpx.HTTPError):
            time.sleep(0.05)
    raise AssertionError(f"Chromium gave no tab within {WITHIN_S} s: {(profile / 'log').read_text()}")


def _look(seen: dict[str, Any], width: int, theme: Theme, url: str, said: list[dict[str, Any]]) -> Look:
    pictures = tuple(
        Picture(
            tuple(one["box"]), one["figure"], one["drawn"],
            tuple((text["text"], tuple(text["box"])) for text in one["texts"]),
        )
        for one in seen["pictures"]
    )  # fmt: skip
    asked = [one["params"]["request"]["url"] for one in said if one.get("method") == "Network.requestWillBeSent"]
    return Look(
        width, theme, seen["title"], tuple(seen["h1"]), tuple(seen["h2"]), seen["figures"], pictures, seen["wide"],
        _colour(seen["ink"]), _colour(seen["paper"]),
        tuple(one for one in asked if one != url), tuple(_problems(said)),
    )  # fmt: skip


def _problems(said: list[dict[str, Any]]) -> Iterator[str]:
    for one in said:
        params = one.get("params", {})
        match one.get("method"):
            case "Runtime.consoleAPICalled":
                yield f"console: {' '.join(str(arg.get('value', arg)) for arg in params['args'])}"
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                yield f"thrown: {details.get('exception', {}).get('description', details['text'])}"
            case "Log.entryAdded":
                yield f"{params['entry']['level']}: {params['entry']['text']}"
            case "Network.loadingFailed":
                yield f"not loaded: {params['errorText']}"


def _colour(text: str) -> tuple[int, ...]:
    """``rgb(1, 2, 3)`` and ``rgba(1, 2, 3, 0)``."""
    return tuple(round(float(part)) for part in text.partition("(")[2].rstrip(")").split(",")[:3])
