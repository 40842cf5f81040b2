"""What is wrong with a page that a run left: opened in Chromium, by a screen and a phone, by day and by night.

On a machine that has no Chromium it is read instead: what its tags say is known then, what they look like is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

from tests.e2e.browser import SIZES, Browser, Look, Picture, Theme

THEMES: tuple[Theme, ...] = ("light", "dark")
SLACK_PX = 1.0  # boxes are of the font, a little larger than what is written
TOUCH_PX = 3.0  # lines of text share their leading
LEAST_CONTRAST = 4.5  # WCAG 2.2, 1.4.3
EMPTY = {"meta", "link", "br"}
LOADING = {"script", "img", "iframe", "object", "embed", "video", "audio", "base"}


def complaints(page: Path, headings: Sequence[str], browser: Browser | None) -> list[str]:
    """``headings``: that it has to have. Without a browser, what reading it finds."""
    if browser is None:
        return list(_by_reading(page.read_text(), headings))
    found = []
    for width, height in SIZES:
        for theme in THEMES:
            look = browser.look(page, width, height, theme)
            found += [f"{width} px, {theme}: {problem}" for problem in _seen(look, headings)]
    return found


def _seen(look: Look, headings: Sequence[str]) -> Iterator[str]:
    yield from look.problems
    yield from (f"asks for {url}" for url in look.requests if not url.startswith("data:"))
    if look.wide > look.width:
        yield f"is {look.wide} px wide"
    if len(look.h1) != 1 or look.title != look.h1[0]:
        yield f"is called {look.h1}, and {look.title!r} on its tab"
    yield from (f"has no {wanted!r}: {look.h2}" for wanted in headings if wanted not in (*look.h1, *look.h2))
    light = _luminance(look.paper)
    if (light < 0.2) != (look.theme == "dark"):
        yield f"its paper is {look.paper}"
    if contrast(look.ink, look.paper) < LEAST_CONTRAST:
        yield f"{look.ink} on {look.paper} is hard to read"
    if not look.pictures or sorted(one.figure for one in look.pictures) != list(range(look.figures)):
        yield f"shows {len(look.pictures)} pictures in {look.figures} places"
    for number, picture in enumerate(look.pictures, 1):
        yield from (f"picture {number}: {problem}" for problem in _drawn(picture, look.width))


def _drawn(picture: Picture, width: int) -> Iterator[str]:
    left, top, right, bottom = picture.box
    if right - left < width / 2 or bottom - top < 50:
        yield f"is {right - left:.0f} x {bottom - top:.0f} px"
    if left < 0 or right > width:
        yield f"reaches from {left:.0f} to {right:.0f} px"
    if picture.drawn < 3 or not picture.texts:
        yield f"{picture.drawn} shapes and {len(picture.texts)} texts are in it"
    for text, box in picture.texts:
        inside = left - SLACK_PX <= box[0] and box[2] <= right + SLACK_PX
        if not (inside and top - SLACK_PX <= box[1] and box[3] <= bottom + SLACK_PX):
            yield f"{text!r} is cut off"
    for (one, here), (other, there) in combinations(picture.texts, 2):
        over = min(here[2], there[2]) - max(here[0], there[0]), min(here[3], there[3]) - max(here[1], there[1])
        if over[0] > SLACK_PX and over[1] > TOUCH_PX:
            yield f"{one!r} is written over {other!r}"


def contrast(one: Sequence[int], other: Sequence[int]) -> float:
    """1 to 21 (WCAG 2.2, contrast ratio)."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: Sequence[int]) -> float:
    """0 to 1 (WCAG 2.2, relative luminance)."""
    parts = [value / 255 for value in colour]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


class _Reading(HTMLParser):
    """Texts of headings, boxes of pictures, and what is not as it should be."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {"title": [], "h1": [], "h2": []}
        self.boxes: list[str] = []
        self.wrong: list[str] = []
        self.figures = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in EMPTY:
            self.open.append(tag)
        if tag in self.texts:
            self.texts[tag].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in LOADING:
            self.wrong.append(f"has a {tag}")
        named = dict(attrs)
        for name, value in named.items():
            if name.startswith("on") or (
                name in ("src", "href", "xlink:href") and not (value or "").startswith(("data:", "#"))
            ):
                self.wrong.append(f"has {name}={value!r}")
        self.figures += tag == "figure"
        if tag == "svg":
            self.boxes.append(named.get("viewbox") or "")

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"ends a {tag} that is not open")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.texts:
            self.texts[self.open[-1]][-1] += data


def _by_reading(text: str, headings: Sequence[str]) -> Iterator[str]:
    found = _Reading()
    found.feed(text)
    found.close()
    yield from found.wrong
    yield from (f"never ends a {tag}" for tag in found.open)
    if len(found.texts["h1"]) != 1 or found.texts["title"] != found.texts["h1"]:
        yield f"is called {found.texts['h1']}, and {found.texts['title']} on its tab"
    known = [*found.texts["h1"], *found.texts["h2"]]
    yield from (f"has no {wanted!r}: {known}" for wanted in headings if wanted not in known)
    if re.search(r"url\((?!['\"]?[#d])|@import", text):
        yield "its style asks for something"
    if not found.boxes or len(found.boxes) < found.figures:
        yield f"has {len(found.boxes)} pictures in {found.figures} places"
    for box in found.boxes:
        if not re.fullmatch(r"0 0 [1-9][\d.]* [1-9][\d.]*", box):
            yield f"a picture's box is {box!r}"
