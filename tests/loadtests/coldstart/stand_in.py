"""Stands in for programs that the benchmark starts: a server like vLLM's, and a ``roundhouse`` with up and down.

Run as a program: ``stand_in.py server PORT MODEL`` or ``stand_in.py up --detach --home HOME --port PORT`` and ``down``.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.loadtests.fake_service import ADMIN_KEY, API_KEY, FakeModel, FakeService


def main() -> int:
    verb, *rest = sys.argv[1:]
    if verb == "server":
        return serve(int(rest[0]), {rest[1]: FakeModel()}, check_keys=False)
    if verb == "serve-models":
        return serve(int(rest[0]), {name: FakeModel(start_s=0.02) for name in ("llama", "qwen")}, check_keys=True)
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path)
    parser.add_argument("--port", default="0")
    parser.add_argument("--detach", action="store_true")
    given = parser.parse_args(rest)
    return up(given.home, given.port) if verb == "up" else down(given.home)


def serve(port: int, models: dict[str, FakeModel], check_keys: bool) -> int:
    with FakeService(models, port, check_keys).running():
        signal.pause()
    return 0


def up(home: Path, port: str) -> int:
    server = subprocess.Popen([sys.executable, __file__, "serve-models", port], start_new_session=True)
    (home / "pid").write_text(str(server.pid))
    text = f"ROUNDHOUSE_URL=http://127.0.0.1:{port}\nROUNDHOUSE_API_KEY={API_KEY}\nROUNDHOUSE_ADMIN_KEY={ADMIN_KEY}\n"
    (home / "demo.env").write_text(text)
    time.sleep(0.1)
    return 0


def down(home: Path) -> int:
    os.kill(int((home / "pid").read_text()), signal.SIGTERM)
    return 0


if __name__ == "__main__":
    sys.exit(main())
