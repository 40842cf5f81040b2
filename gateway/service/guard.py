"""``python -m gateway.service.guard``: clears up when the supervisor is killed before it could do so itself.

The supervisor holds the other end of this process's stdin. A goodbye on it means that all is well; its mere end means
that the supervisor is gone, and whatever it left is ended: SIGTERM first, SIGKILL after a grace.
"""

from __future__ import annotations

import os
import signal
import sys

from gateway.service.record import processes
from gateway.service.sweep import sweep
from models.home import Home

GOODBYE = b"goodbye\n"
GRACE_S = 2.0


def main() -> int:
    """Exit status 1: some processes could not be ended."""
    home = Home.find(sys.argv[1])
    for signum in (signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    if os.read(0, len(GOODBYE)) == GOODBYE:
        return 0
    return 1 if sweep(lambda: processes(home), grace_s=GRACE_S).left else 0


if __name__ == "__main__":
    sys.exit(main())
