"""Every command that the documentation names is one."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from gateway.cli.app import app

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))
NAMED = re.compile(r"`roundhouse ((?:[a-z][a-z-]*)(?: [a-z][a-z-]*)?)((?: [^`]*)?)`", re.DOTALL)


def problem(words: list[str], rest: str) -> str | None:
    """Why this is no command; None when it is one with the options that are named."""
    command: Any = get_command(app)
    for word in words:
        if not hasattr(command, "commands"):
            break
        found = command.commands.get(word)
        if found is None:
            return f"roundhouse {' '.join(words)}: there is no {word!r}"
        command = found
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    if words[0] == "loadtest":
        known |= load_test_options(words[1:])
    wrong = [option for option in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", rest) if option not in known]
    return f"roundhouse {' '.join(words)} has no {wrong[0]}" if wrong else None


@functools.cache
def _help(*words: str) -> str:
    command = [sys.executable, "-m", "loadtests", *words, "--help"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout


def load_test_options(words: list[str]) -> set[str]:
    """That command hands all words on to a program of its own, whose help names them."""
    kind = [word for word in words if word in ("report", "compare")]
    shown = _help(*kind) + (_help() if kind == ["compare"] else "")
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", shown))


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_exist(page: str) -> None:
    text = " ".join((ROOT / page).read_text().split())
    found = [problem(name.split(), rest) for name, rest in NAMED.findall(text)]
    assert not [one for one in found if one], [one for one in found if one]
