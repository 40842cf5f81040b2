"""A gateway counts as started when it answers, and is gone afterwards with all it started."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest

from loadtests.gateway import scene as scenes
from loadtests.gateway.problems import DidNotStart
from loadtests.gateway.scene import Subject, ask, get, started
from tests.loadtests.gateway.subjects import scene, stand_in


def alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def test_it_is_timed_until_it_answers_and_then_gone(engine: int | None, tmp_path: Path) -> None:
    if engine is None:
        return
    with started(stand_in(), scene(tmp_path, engine)) as running:
        assert running.ready_s > 0
        assert ask(running.port, "rh-test") == 200
        assert get(running.port, "/health") == "{}"
        assert running.usage().processes == 1
        assert alive(running.root)
    assert not alive(running.root)


def test_what_it_leaves_behind_is_ended(engine: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if engine is None:
        return
    monkeypatch.setattr(scenes, "ORPHANS_S", 0.2)
    with started(stand_in(how="orphan"), scene(tmp_path, engine)) as running:
        orphan = int((tmp_path / "orphan").read_text())
        assert running.usage().processes == 2
        assert alive(orphan)
    assert not alive(orphan)


def test_a_gateway_that_ends_is_told_with_its_output(tmp_path: Path) -> None:
    ends = Subject("ends", lambda _: None, lambda *_: [sys.executable, "-c", "import sys; sys.exit('no routes')"])
    with pytest.raises(DidNotStart, match=r"it ended with 1:\nno routes"), started(ends, scene(tmp_path, 1)):
        pytest.fail("it cannot have started")


def test_a_gateway_that_refuses_is_told_with_the_last_status(tmp_path: Path) -> None:
    refuses = stand_in(how="refuse", start_timeout_s=1.0)
    with pytest.raises(DidNotStart, match="no answer in time"), started(refuses, scene(tmp_path, 1)):
        pytest.fail("it cannot have answered")


def test_the_surrounding_service_and_cluster_do_not_leak_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDHOUSE_HOME", "/elsewhere")
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:1")
    script = (
        "import os, sys; sys.exit(' '.join(n for n in os.environ if n.startswith(('ROUNDHOUSE_', 'RAY_'))) or 'none')"
    )
    shows = Subject("shows", lambda _: None, lambda *_: [sys.executable, "-c", script])
    with pytest.raises(DidNotStart, match=r"ended with 1:\nnone"), started(shows, scene(tmp_path, 1)):
        pytest.fail("it cannot have started")


def test_the_key_is_not_shown(tmp_path: Path) -> None:
    assert "rh-test" not in repr(scene(tmp_path, 1))
