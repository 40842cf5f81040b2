"""The benchmark's engine and its callers: two C programs, compiled where they run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loadtests.gateway.problems import NoCompiler

SOURCES = Path(__file__).with_name("native")
COMPILE_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Programs:
    engine: Path
    load: Path


def find_compiler(environ: Mapping[str, str]) -> str:
    """The one that ``CC`` names, else cc, gcc or clang. Raises NoCompiler."""
    named = environ.get("CC")
    for name in [named] if named else ["cc", "gcc", "clang"]:
        if found := shutil.which(name, path=environ.get("PATH")):
            return found
    what = f"the C compiler that CC names ({named}) is not there" if named else "no C compiler (cc, gcc, clang) found"
    raise NoCompiler(f"{what}; the benchmark's engine and callers are C: install one, as with `apt install gcc`")


def compile_programs(folder: Path, environ: Mapping[str, str] = os.environ) -> Programs:
    """Into ``folder``. Raises NoCompiler."""
    compiler = find_compiler(environ)
    programs = Programs(folder / "engine", folder / "load")
    for program in (programs.engine, programs.load):
        command = [compiler, "-O2", "-o", str(program), str(SOURCES / f"{program.name}.c")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S, check=False)
        if done.returncode != 0:
            raise NoCompiler(f"{compiler} refused {program.name}.c:\n{done.stderr.strip()[-2000:]}")
    return programs
