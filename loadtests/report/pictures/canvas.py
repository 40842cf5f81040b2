"""An SVG in the making. Coordinates are CSS pixels; colours are names of ``loadtests.report.style.COLOURS``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

from loadtests.report.pictures.letters import SMALL, text_width, wrapped

WIDE, NARROW = 860.0, 360.0
ALONE_WIDE = 900.0
LINE = 14.0  # from one line of a text to its next
_BEFORE = {"start": 0.0, "middle": 0.5, "end": 1.0}  # of a text, by its anchor: how much lies left of it
_UNSAFE = re.compile(r"[^\x09\x0a\x0d\x20-\U0010ffff]|[\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

Point = tuple[float, float]


def plain(text: str) -> str:
    """Nothing that XML does not allow: names come from a service."""
    return escape(_UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text))


@dataclass(slots=True)
class Canvas:
    """``title``: what the picture shows, for those who do not see it."""

    width: float
    height: float
    title: str
    about: str = ""
    _parts: list[str] = field(default_factory=list)

    @property
    def narrow(self) -> bool:
        return self.width <= NARROW

    def line(self, one: Point, other: Point, colour: str = "line", width: float = 1.0, dash: str = "") -> None:
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self._parts.append(
            f'<line x1="{_n(one[0])}" y1="{_n(one[1])}" x2="{_n(other[0])}" y2="{_n(other[1])}" '
            f'style="stroke:var(--{colour})" stroke-width="{width:g}"{dashed}/>'
        )

    def box(
        self,
        at: Point,
        width: float,
        height: float,
        colour: str,
        *,
        round: float = 0.0,
        opacity: float = 1.0,
        tip: str = "",
    ) -> None:
        shape = f' rx="{round:g}"' if round else ""
        faint = f' opacity="{opacity:g}"' if opacity < 1 else ""
        wide, high = _n(max(0.0, width)), _n(max(0.0, height))
        self._parts.append(
            f'<rect x="{_n(at[0])}" y="{_n(at[1])}" width="{wide}" height="{high}"{shape} '
            f'style="fill:var(--{colour})"{faint}>{_tip(tip)}</rect>'
        )

    def path(
        self, points: Sequence[Point], colour: str, *, width: float = 1.8, opacity: float = 1.0, dash: str = "",
        steps: bool = False,
    ) -> None:  # fmt: skip
        if len(points) < 2:
            return
        faint = f' opacity="{opacity:g}"' if opacity < 1 else ""
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self._parts.append(
            f'<path d="{_drawn(points, steps)}" fill="none" style="stroke:var(--{colour})" stroke-width="{width:g}" '
            f'stroke-linejoin="round" stroke-linecap="round"{faint}{dashed}/>'
        )

    def area(self, points: Sequence[Point], colour: str, opacity: float) -> None:
        if points:
            self._parts.append(
                f'<path d="{_drawn(points)}Z" style="fill:var(--{colour})" stroke="none" opacity="{opacity:g}"/>'
            )

    def dots(self, points: Iterable[Point], colour: str, *, radius: float = 1.7, opacity: float = 1.0) -> None:
        """As one path: thousands of elements would make a page slow."""
        drawn = "".join(f"M{_n(x)} {_n(y)}h0" for x, y in points)
        if drawn:
            self._parts.append(
                f'<path d="{drawn}" fill="none" style="stroke:var(--{colour})" stroke-width="{2 * radius:g}" '
                f'stroke-linecap="round" opacity="{opacity:g}"/>'
            )

    def crosses(self, points: Iterable[Point], colour: str, size: float = 3.0) -> None:
        far = 2 * size
        drawn = "".join(
            f"M{_n(x - size)} {_n(y - size)}l{far:g} {far:g}m-{far:g} 0l{far:g} -{far:g}" for x, y in points
        )
        if drawn:
            self._parts.append(f'<path d="{drawn}" fill="none" style="stroke:var(--{colour})" stroke-width="1.6"/>')

    def diamond(self, at: Point, colour: str, *, size: float = 5.0, tip: str = "") -> None:
        x, y = at
        self._parts.append(
            f'<path d="M{_n(x)} {_n(y - size)}l{size:g} {size:g}l-{size:g} {size:g}l-{size:g} -{size:g}Z" '
            f'style="fill:var(--{colour});stroke:var(--ink)" stroke-width="1">{_tip(tip)}</path>'
        )

    def text(
        self,
        at: Point,
        text: str,
        *,
        colour: str = "soft",
        size: float = SMALL,
        anchor: str = "start",
        bold: bool = False,
        halo: bool = False,
    ) -> None:
        """``halo``: it is read over dots and lines. Beside an edge it moves inwards, as far as it takes."""
        x = self._inside(at[0], text_width(text, size, bold), anchor)
        heavy = ' font-weight="600"' if bold else ""
        around = ";stroke:var(--page);stroke-width:3px;paint-order:stroke" if halo else ""
        turned = f' text-anchor="{anchor}"' if anchor != "start" else ""
        self._parts.append(
            f'<text x="{_n(x)}" y="{_n(at[1])}" font-size="{size:g}"{turned}{heavy} '
            f'style="fill:var(--{colour}){around}">{plain(text)}</text>'
        )

    def _inside(self, x: float, wide: float, anchor: str) -> float:
        before = wide * _BEFORE[anchor]
        return max(before, min(x, self.width - wide + before))

    def ground(self) -> None:
        """The page's colour under everything."""
        self._parts.insert(
            0,
            f'<rect width="{_n(self.width)}" height="{_n(self.height)}" rx="8" style="fill:var(--page)"/>',
        )

    def legend(self, at: Point, entries: Iterable[tuple[str, str]], until_x: float) -> float:
        """Coloured words in lines, as many as it takes; the y below them."""
        x, y = at
        for colour, text in entries:
            width = 15 + text_width(text)
            if x + width > until_x and x > at[0]:
                x, y = at[0], y + 17
            self.box((x, y - 8), 10, 10, colour, round=2.5)
            for number, line in enumerate(wrapped(text, until_x - x - 15)):
                y += LINE if number else 0.0
                self.text((x + 15, y + 1), line)
            x += width + 15
        return y + 8

    def svg(self, klass: str = "", style: str = "") -> str:
        """``style``: for a picture that stands alone."""
        named = f' class="{klass}"' if klass else ""
        alone = ' xmlns="http://www.w3.org/2000/svg"' if style else ""
        about = f"<desc>{plain(self.about)}</desc>" if self.about else ""
        return (
            f'<svg{alone}{named} viewBox="0 0 {_n(self.width)} {_n(self.height)}" role="img" '
            f'aria-label="{plain(self.title)}" font-family="system-ui, -apple-system, Segoe UI, sans-serif">'
            f"<title>{plain(self.title)}</title>{about}{style}{''.join(self._parts)}</svg>"
        )


def _n(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".") if value == value else "0"


def _drawn(points: Sequence[Point], steps: bool = False) -> str:
    found = [f"M{_n(points[0][0])} {_n(points[0][1])}"]
    for x, y in points[1:]:
        found.append(f"H{_n(x)}V{_n(y)}" if steps else f"L{_n(x)} {_n(y)}")
    return "".join(found)


def _tip(text: str) -> str:
    return f"<title>{plain(text)}</title>" if text else ""
