"""The benchmark's C programs, and an engine of them.

No part of the service needs a C compiler, so a machine may have none. Tests that get None then have nothing to run;
``test_native`` has what holds there: the benchmark says so clearly, and the sources fit what is read of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from loadtests.gateway.callers import Callers
from loadtests.gateway.fake_engine import fake_engine
from loadtests.gateway.native import Programs, compile_programs, find_compiler
from loadtests.gateway.ports import free_ports
from loadtests.gateway.problems import NoCompiler

EVERYWHERE = tuple(sorted(os.sched_getaffinity(0)))


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs | None:
    try:
        find_compiler(os.environ)
    except NoCompiler:
        return None
    return compile_programs(tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="module")
def engine(programs: Programs | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int | None]:
    """The port of a running one."""
    if programs is None:
        yield None
        return
    (port,) = free_ports(1)
    with fake_engine(programs.engine, [port], EVERYWHERE, tmp_path_factory.mktemp("engine") / "log"):
        yield port


@pytest.fixture
def callers(programs: Programs | None) -> Callers | None:
    return Callers(programs.load, EVERYWHERE, warmup_s=0.0) if programs else None
