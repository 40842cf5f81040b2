"""A picture as a file of its own, to be shown as an <img>: it has no page to take colours from."""

from __future__ import annotations

import re

from loadtests.report.pictures.canvas import Canvas
from loadtests.report.style import ALONE, COLOURS

THEMES = ("auto", "light", "dark")
_VARIABLE = re.compile(r"var\(--([a-z0-9_-]+)\)")


def standalone(canvas: Canvas, theme: str = "auto") -> str:
    """``auto`` follows the reader's system, on whatever page it is. ``light`` and ``dark`` have colours and a ground of
    their own, and need no style sheet."""
    canvas.ground()
    if theme == "auto":
        return canvas.svg(style=ALONE) + "\n"
    column = THEMES.index(theme) - 1
    return _VARIABLE.sub(lambda found: COLOURS[found[1]][column], canvas.svg(style=" ")) + "\n"
