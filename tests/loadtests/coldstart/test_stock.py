"""The baseline is timed from its spawn, ended without a trace, and its failure told with the end of its log."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from loadtests.coldstart import stock
from loadtests.coldstart.child import end_session, free_port, running, tail
from loadtests.coldstart.stock import StockFailed, command, environment, stock_first_token_s

STAND_IN = Path(__file__).with_name("stand_in.py")
ROOT = Path(__file__).resolve().parents[3]


def stand_in_server(folder: str, model: str, port: int) -> list[str]:
    return ["/usr/bin/env", f"PYTHONPATH={ROOT}", sys.executable, str(STAND_IN), "server", str(port), model]


def test_the_time_includes_the_start_of_the_process(tmp_path: Path) -> None:
    seconds = stock_first_token_s("/nowhere", "llama", tmp_path / "log", stand_in_server)
    assert seconds > 0.02  # no Python starts faster


def test_a_server_that_cannot_start_is_told_with_its_log(tmp_path: Path) -> None:
    def broken(folder: str, model: str, port: int) -> list[str]:
        return [sys.executable, "-c", "import sys; sys.exit('no such weights')"]

    with pytest.raises(StockFailed, match=r"exited with 1:\nno such weights"):
        stock_first_token_s("/nowhere", "llama", tmp_path / "log", broken)


def test_a_server_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stock, "START_TIMEOUT_S", 0.3)
    code = "import time; print('still loading', flush=True); time.sleep(600)"
    with pytest.raises(StockFailed, match=r"no answer within 0\.3 s"):
        stock_first_token_s("/nowhere", "llama", tmp_path / "log", lambda *_: [sys.executable, "-c", code])


def test_the_whole_session_ends_with_its_leader(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
    code = (
        f"import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', {deaf!r}]);"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid)); print('up', flush=True); time.sleep(600)"
    )
    with running([sys.executable, "-c", code], os.environ, tmp_path / "log"):
        while not tail(tmp_path / "log"):
            os.sched_yield()
    child = int((tmp_path / "pid").read_text())
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_ending_what_has_ended_is_no_error(tmp_path: Path) -> None:
    with running([sys.executable, "-c", ""], os.environ, tmp_path / "log") as process:
        process.wait()
        end_session(process)


def test_a_log_that_is_not_there_has_no_end(tmp_path: Path) -> None:
    assert tail(tmp_path / "none") == ""


def test_free_ports_are_ports() -> None:
    assert 1024 <= free_port() <= 65535


def test_the_command_is_vllms_own_server_on_loopback() -> None:
    words = command("/models/llama", "llama", 81)
    assert words[1:3] == ["-m", "vllm.entrypoints.openai.api_server"]
    assert words[words.index("--host") + 1] == "127.0.0.1"
    vllm = importlib.util.find_spec("vllm")
    assert vllm is not None
    (folder,) = list(vllm.submodule_search_locations or [])
    assert Path(folder, "entrypoints", "openai", "api_server.py").exists()


def test_stock_gets_our_engines_settings_but_none_of_our_names() -> None:
    found = environment({"PATH": "/bin", "ROUNDHOUSE_API_KEY": "k", "VLLM_SERVER_DEV_MODE": "1"})
    assert found["OMP_WAIT_POLICY"] == "PASSIVE"
    assert found["PATH"] == "/bin"
    assert not {"ROUNDHOUSE_API_KEY", "VLLM_SERVER_DEV_MODE"} & found.keys()
