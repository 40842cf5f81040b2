"""How wide words are, before a browser has drawn them: estimates for the wider ones of the fonts that are used."""

from __future__ import annotations

SMALL, MEDIUM = 11.0, 12.5
BOLDER = 1.12
# Of a letter's height: about those of DejaVu Sans, which is wider than what most screens have.
_WIDTHS = {
    letter: wide
    for letters, wide in (
        ("ijl|'", 0.29),
        (" .,:;", 0.34),
        ('ftrI()[]-/!"*', 0.41),
        ("0123456789", 0.64),
        ("ABCDEFGHJKLNOPQRSTUVXYZ", 0.70),
        ("+=<>~_w\N{MINUS SIGN}", 0.84),
        ("mMW%@\N{HORIZONTAL ELLIPSIS}", 1.0),
    )
    for letter in letters
}
_OTHER, _BROAD = 0.61, 1.0
_FIRST_BROAD = "\u2e80"  # Chinese, Japanese, Korean; pictographs


def text_width(text: str, size: float = SMALL, bold: bool = False) -> float:
    """Pixels, rather more than less."""
    wide = sum(_WIDTHS.get(letter, _OTHER if letter < _FIRST_BROAD else _BROAD) for letter in text)
    return wide * size * (BOLDER if bold else 1.0)


def wrapped(text: str, width: float, size: float = SMALL) -> list[str]:
    """Lines of whole words; a word that is wider than a line is one."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and text_width(f"{lines[-1]} {word}", size) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def cut(text: str, width: float, size: float = SMALL, bold: bool = False) -> str:
    """As much of it as there is room for."""
    if text_width(text, size, bold) <= width:
        return text
    while text and text_width(f"{text}…", size, bold) > width:
        text = text[:-1]
    return f"{text.rstrip()}…"
