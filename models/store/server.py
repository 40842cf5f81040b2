"""``python -m models.store.server [--home FOLDER]``: the embedded Redis in the foreground, in place of this process."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import NoReturn

from models.home import Home
from models.store import exposed
from models.store.embedded import lock_data, redis_command, remove_stale_socket, write_pid
from models.store.errors import StoreError


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The server takes over this process, with its pid. Exits with 1, the reason on stderr, when it cannot run."""
    parser = argparse.ArgumentParser(prog="python -m models.store.server", description=__doc__)
    parser.add_argument("--home", help="state folder; ROUNDHOUSE_HOME, or .roundhouse, if not given")
    home = Home.find(parser.parse_args(arguments).home).create()
    try:
        lock = lock_data(home)
        command = redis_command(home)
        exposed.write_config(home)
    except StoreError as error:
        parser.exit(1, f"roundhouse store: {error}\n")
    remove_stale_socket(home)
    write_pid(lock, os.getpid())
    os.set_inheritable(lock, True)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
