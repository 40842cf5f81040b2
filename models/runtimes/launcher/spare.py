"""A child forked ahead: does all that needs no order, waits for one, and becomes the engine."""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Mapping
from functools import partial
from typing import NoReturn

from models.runtimes.host.engine_host import become, detach
from models.runtimes.launcher.handover import receive, say_greeted
from models.runtimes.protocol import Runtime
from models.runtimes.torch.shared_host import become_shared
from models.runtimes.torch.shared_process import shares_process


def wait_and_become(channel: socket.socket, runtimes: Mapping[str, Runtime]) -> NoReturn:
    """In a freshly forked child. Ends silently when the launcher hangs up; the channel is closed by the kernel then,
    however the launcher ends, so that no spare outlives it.
    """
    code = 1
    try:
        runner = detach()
        handed = receive(channel)
        if handed is None:
            code = 0
        else:
            order = handed.order
            runtime = runtimes[order.runtime]
            if shares_process(order):
                become_shared(handed, runtime, channel, runner)
            become(order, runtime, handed.connection, handed.received_s, runner, partial(say_greeted, channel))
    except ConnectionError:
        code = 0
    except BaseException:  # noqa: BLE001 - the last thing this process does is to say why
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)
