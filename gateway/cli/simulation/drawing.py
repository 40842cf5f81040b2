"""SVG pictures that live inside a page: its text colour is theirs, so they look right on light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#010203"  # becomes the page's text colour
# Told apart on white and on black, also by those who see fewer colours (after Okabe and Ito).
PALETTE = (
    "#3b82c4", "#e0823d", "#4aa564", "#c95a8b", "#8d6cc9", "#b8a13a",
    "#4fb3bf", "#d05f4f", "#9ac44a", "#5f7fe0", "#c08a5e", "#a9779c",
)  # fmt: skip
OTHERS = "#8a939c"
WIDTH_IN = 9.0
_COORDINATE = re.compile(r"(?<=[ \"(])-?\d+\.\d{3,}")  # a tenth of a point is finer than anybody sees
_PROLOGUE = re.compile(r"^.*?(?=<svg)", re.DOTALL)


@contextmanager
def figure(
    height_in: float, title: str, panels: tuple[int, int] = (1, 1), *, share: Literal["x", "y", ""] = ""
) -> Iterator[Canvas]:
    """A canvas whose ``svg`` is there when the block has ended. ``panels``: rows and columns that ``share`` an axis."""
    import matplotlib
    from matplotlib.figure import Figure

    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": title,
        "font.family": "sans-serif",
        "font.size": 10.0,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.alpha": 0.15,
        "legend.frameon": False,
        **dict.fromkeys(
            ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"), INK
        ),
    }
    with matplotlib.rc_context(style):  # type: ignore[arg-type]
        drawn = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        rows, columns = panels
        axes = drawn.subplots(rows, columns, squeeze=False, sharex=share == "x", sharey=share == "y")
        canvas = Canvas(drawn, [one for row in axes for one in row], title)
        yield canvas
        canvas.svg = _svg(drawn, title)


class Canvas:
    def __init__(self, drawn: Figure, axes: list[Axes], title: str) -> None:
        self.figure, self.axes, self.title = drawn, axes, title
        self.svg = ""

    @property
    def ax(self) -> Axes:
        return self.axes[0]


def _svg(drawn: Figure, title: str) -> str:
    out = io.StringIO()
    drawn.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Title": title})
    text = _PROLOGUE.sub("", out.getvalue())
    # Only the picture's shape is fixed; its size is the page's affair.
    text = re.sub(r'(<svg [^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg [^>]*?) width="[^"]*"', r'\1 width="100%" role="img"', text, count=1)
    text = _COORDINATE.sub(lambda number: f"{float(number[0]):.1f}", text)
    return text.replace(INK, "currentColor")
