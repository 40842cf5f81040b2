from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import settings

# Ray reads these when its library is first loaded, by whichever test that is (importing vLLM is enough): a head on
# loopback stays on loopback, and asks for a token.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
os.environ.setdefault("RAY_AUTH_MODE", "token")

# Timings fail no test: a machine that is busy takes longer than 200 ms for an example now and then.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def together(nodeid: str) -> str:
    """In several processes a file stays in one of them, and so do all tests that share the one running service, and
    those that each need three machines."""
    file = nodeid.partition("::")[0]
    return {"tests/e2e": "service", "tests/cluster": "cluster"}.get(file.rpartition("/")[0], file)


@pytest.hookimpl(optionalhook=True)  # where there is no xdist, there is one process
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """xdist's own ``loadgroup`` (3.8) writes a group into a test's id, where pytest 9.2 does not look any more."""
    if config.getvalue("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = together
    return scheduler


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests told of this machine (``record_property("told", ...)``), once."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    told = {value for report in reports for name, value in getattr(report, "user_properties", ()) if name == "told"}
    for line in sorted(told):
        terminalreporter.write_line(line)
