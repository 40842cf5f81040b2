"""A page that is wrong is found out, by the browser and by who only reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.browser import Browser
from tests.e2e.pages import complaints, contrast

STYLE = (
    "body{margin:0;color:#111;background:#fff}svg{width:100%;display:block}"
    "@media(prefers-color-scheme:dark){body{color:#eee;background:#111}}"
)
DRAWN = '<rect x="5" y="5" width="20" height="20"/><circle cx="50" cy="30" r="9"/><path d="M5 90L90 95"/>'
PICTURE = f'<svg viewBox="0 0 100 100">{DRAWN}<text x="5" y="60" font-size="5">0 ms</text></svg>'
WRONG = {
    "another name on its tab": ("<title>A run</title>", "<title>Untitled</title>", "on its tab"),
    "a heading is missing": ("<h2>Figures</h2>", "", "no 'Figures'"),
    "a picture from elsewhere": ("<h2>", '<img src="http://127.0.0.1:9/x.png"><h2>', "img|asks for"),
    "no picture": (PICTURE, "", "pictures in 1 places"),
}
WRONG_TO_THE_EYE = {
    "something is thrown": ("</body>", "<script>setTimeout(() => { throw Error('late') }, 5)</script></body>", "late"),
    "something is said": ("</body>", "<script>console.warn('slow')</script></body>", "console: slow"),
    "it is too wide": ("<h2>", "<div style='width:1200px'>wide</div><h2>", "px wide"),
    "no night": ("@media(prefers-color-scheme:dark)", "@media(max-width:1px)", "dark: its paper"),
    "too pale": ("color:#111", "color:#ccc", "hard to read"),
    "a picture without a size": ("svg{width:100%", "svg{width:0", "is 0 x"),
    "a picture that is not shown": ("svg{width:100%;display:block", "svg{display:none", "0 pictures in 1"),
    "an empty picture": (DRAWN, "", "0 shapes"),
    "a text that is cut off": ('x="5" y="60"', 'x="95" y="60"', "'0 ms' is cut off"),
    "two texts in one place": ("</svg>", '<text x="6" y="60" font-size="5">1 s</text></svg>', "written over"),
}


def page(folder: Path, old: str = "", new: str = "") -> Path:
    text = "\n".join(
        [
            "<!doctype html><html><head><title>A run</title><link rel='icon' href='data:,'>",
            f"<meta name='viewport' content='width=device-width'><style>{STYLE}</style></head>",
            f"<body><h1>A run</h1><h2>Figures</h2><figure style='margin:0'>{PICTURE}</figure></body></html>",
        ]
    )
    assert old in text
    (folder / "page.html").write_text(text.replace(old, new, 1) if old else text)
    return folder / "page.html"


def test_a_page_that_is_right(tmp_path: Path, chromium: Browser | None) -> None:
    made = page(tmp_path)
    assert complaints(made, ["A run", "Figures"], chromium) == []
    assert complaints(made, ["A run", "Figures"], None) == []


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_told_with_a_browser_and_without(what: str, tmp_path: Path, chromium: Browser | None) -> None:
    old, new, said = WRONG[what]
    made = page(tmp_path, old, new)
    for way in (chromium, None):
        found = complaints(made, ["A run", "Figures"], way)
        assert any(part in one for one in found for part in said.split("|")), found


@pytest.mark.parametrize("what", WRONG_TO_THE_EYE)
def test_what_only_shows_on_a_screen(what: str, tmp_path: Path, chromium: Browser | None) -> None:
    old, new, said = WRONG_TO_THE_EYE[what]
    found = complaints(page(tmp_path, old, new), ["A run", "Figures"], chromium)
    if chromium is not None:  # conftest.chromium tells the reader of the tests when there is none
        assert any(said in one for one in found), found


def test_a_tag_that_never_ends_is_read(tmp_path: Path) -> None:
    found = complaints(page(tmp_path, "</h1>", ""), [], None)
    assert "ends a body that is not open" in found


def test_contrast_is_as_the_web_guidelines_have_it() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((119, 119, 119), (255, 255, 255)) == pytest.approx(4.48, abs=0.01)
