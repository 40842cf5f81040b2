from __future__ import annotations

import os

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


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In several processes a file stays in one of them, and so do all tests that share the one running service, and
    those that each need three machines."""
    for item in items:
        file = item.nodeid.partition("::")[0]
        shared = {"tests/e2e": "service", "tests/cluster": "cluster"}.get(file.rpartition("/")[0], file)
        item.add_marker(pytest.mark.xdist_group(shared))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests told of this machine (``record_property("told", ...)``), once."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    told = {value for report in reports for name, value in getattr(report, "user_properties", ()) if name == "told"}
    for line in sorted(told):
        terminalreporter.write_line(line)
