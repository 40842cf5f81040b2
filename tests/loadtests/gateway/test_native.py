"""The benchmark's C programs are compiled where they run; where they cannot be, that is told with its cure."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from loadtests.gateway.fake_engine import Stats
from loadtests.gateway.native import SOURCES, Programs, compile_programs, find_compiler
from loadtests.gateway.problems import NoCompiler


def compiler_that(folder: Path, script: str, name: str = "cc") -> Path:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


def test_where_there_is_no_compiler_the_message_has_the_cure(tmp_path: Path) -> None:
    with pytest.raises(NoCompiler, match=r"no C compiler \(cc, gcc, clang\) found; .*install one, as with"):
        compile_programs(tmp_path, {"PATH": str(tmp_path)})


def test_a_compiler_that_is_named_and_missing_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(NoCompiler, match=r"the C compiler that CC names \(tcc\) is not there"):
        find_compiler({"PATH": str(tmp_path), "CC": "tcc"})


def test_the_one_that_is_named_goes_before_the_usual_ones(tmp_path: Path) -> None:
    compiler_that(tmp_path, "exit 0", "gcc")
    named = compiler_that(tmp_path, "exit 0", "mine")
    assert find_compiler({"PATH": str(tmp_path), "CC": "mine"}) == str(named)
    assert find_compiler({"PATH": str(tmp_path)}) == str(tmp_path / "gcc")


def test_what_a_compiler_complains_of_is_shown(tmp_path: Path) -> None:
    compiler_that(tmp_path, "echo no stdio.h here >&2; exit 1")
    with pytest.raises(NoCompiler, match=r"refused engine.c:\nno stdio.h here"):
        compile_programs(tmp_path, {"PATH": f"{tmp_path}:/bin:/usr/bin"})


def test_both_programs_are_made(programs: Programs | None) -> None:
    if programs is not None:
        assert programs.engine.stat().st_mode & programs.load.stat().st_mode & stat.S_IXUSR


def test_the_engine_prints_all_that_is_read_of_it() -> None:
    """Of the sources: this holds without a compiler as well."""
    printed = re.findall(r'\\"(\w+)\\":%lu', (SOURCES / "engine.c").read_text())
    assert set(Stats.__slots__) <= set(printed)


def test_load_prints_all_that_is_read_of_it_and_knows_all_that_is_asked() -> None:
    source = (SOURCES / "load.c").read_text()
    for name in ("seconds", "done", "failed", "stuck", "open", "events", "why", "p50", "p90", "p99", "max", "count"):
        assert f'\\"{name}\\":%' in source or f'\\"{name}\\":\\"%s' in source, name
    for name in ("latency_us", "first_byte_us", "gap_us"):
        assert f'print_histogram("{name}"' in source
    asked = Path(SOURCES.parent / "callers.py").read_text()
    for option in re.findall(r'"--(\w+)"', asked):
        assert f'{{"{option}", ' in source, option
