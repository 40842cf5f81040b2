"""The text that ships with the project: the tokenizer and the chat models learn from it."""

from __future__ import annotations

from pathlib import Path

CORPUS_FILE = Path(__file__).with_name("corpus.txt")
HEADING = "## "


def read_corpus(path: Path = CORPUS_FILE) -> dict[str, tuple[str, ...]]:
    """Paragraphs by section. Raises ValueError when text stands before the first heading."""
    sections: dict[str, list[str]] = {}
    section: str | None = None
    for block in path.read_text(encoding="utf-8").split("\n\n"):
        paragraph = block.strip("\n")
        if paragraph.startswith(HEADING):
            section = paragraph.removeprefix(HEADING)
            sections[section] = []
        elif section is None:
            raise ValueError(f"{path}: a paragraph stands before the first '{HEADING}' heading; put a heading above it")
        elif paragraph:
            sections[section].append(paragraph)
    return {name: tuple(paragraphs) for name, paragraphs in sections.items()}
