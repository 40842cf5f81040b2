"""Model classes that do what they may not do, each in its own way. Inputs and outputs are JSON."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time

# How far a class's outputs are off, for tests in this process: they and their classes are imported under two names.
DRIFT = {"by": 0.0}
_RELEASE = threading.Event()


def never():
    """Hang, without using the processor; a test in this process releases it with ``released``."""
    _RELEASE.wait(3600)


@contextlib.contextmanager
def released():
    try:
        yield
    finally:
        _RELEASE.set()


class Good:
    """Gives back what it was given."""

    task = "predict"

    def load(self, device, weights):
        self.weights = weights

    def predict(self, batch):
        return list(batch)

    def stream(self, item):
        yield from item


class Told(Good):
    """Does what its input says."""

    def predict(self, batch):
        return [self.do(item) for item in batch]

    def do(self, item):
        match item:
            case "raise":
                raise ValueError("/secret/path: the third layer is upside down")
            case "hang":
                never()
            case "spin":
                while True:
                    pass
            case "exit":
                sys.exit(3)
            case "_exit":
                print("I am leaving", flush=True)
                os._exit(7)
            case "abort":
                os.abort()
            case "print":
                print("a line on standard output", flush=True)
                print("a line on standard error", file=sys.stderr, flush=True)
            case "leak":
                self.held = b"x" * (900 << 20)
            case "hold":
                self.held = b"x" * (200 << 20)
            case "slow":
                time.sleep(0.5)
        return item


class Holds(Good):
    """Has one weight, and touches all of it."""

    def load(self, device, weights):
        self.table = weights["a"]
        assert int(self.table.sum()) == len(self.table)


class Miscounts(Good):
    def predict(self, batch):
        return [*batch, "one more"]


class Threads(Good):
    """Leaves threads behind that never end, one of them not even a daemon."""

    def load(self, device, weights):
        for daemon in (False, True):
            threading.Thread(target=never, daemon=daemon).start()


class BlocksSignals(Good):
    """Wants no signal to reach it."""

    def load(self, device, weights):
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


class LoadHangs(Good):
    def load(self, device, weights):
        print("loading for ever", flush=True)
        never()


class InitRaises(Good):
    def __init__(self):
        raise RuntimeError("not today")


class LoadDies(Good):
    def load(self, device, weights):
        os.kill(os.getpid(), signal.SIGSEGV)
        never()
