"""A runtime whose warm-up breaks in the way that a file in its scratch folder says."""

from __future__ import annotations

import ctypes
import os
import threading
from pathlib import Path

from tests.models.runtimes.fake_runtime import FakeRuntime

NAME = "tests.models.runtimes.moody_runtime"
MOOD = "mood"


class MoodyRuntime(FakeRuntime):
    def warm(self, scratch: str) -> None:
        mood = Path(scratch, MOOD)
        match mood.read_text() if mood.exists() else "":
            case "crash":
                ctypes.string_at(0)
            case "exit":
                os._exit(3)
            case "killed":
                os.kill(os.getpid(), 9)
            case "hang":
                threading.Event().wait()


def moody() -> MoodyRuntime:
    return MoodyRuntime("moody")


def set_mood(folder: Path, mood: str) -> None:
    """``folder``: that of the launcher."""
    (folder / "scratch").mkdir(exist_ok=True)
    (folder / "scratch" / MOOD).write_text(mood)
