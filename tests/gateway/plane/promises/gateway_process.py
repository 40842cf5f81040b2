"""``python -m tests.gateway.plane.promises.gateway_process SETTINGS``: a worker whose memory can be looked at.

SETTINGS is JSON: redis_url, prefix, home, ready (file that gets the port), limits.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from gateway import logs
from gateway.app import Deps, create_app
from gateway.plane.server import listen, make_server
from gateway.settings import Limits
from models.home import Home
from models.store.client import connect, connect_async
from models.store.keys import Keys


def main(text: str) -> None:
    given = json.loads(text)
    logs.configure(as_json=True)
    deps = Deps(
        redis=connect_async(given["redis_url"]),
        blocking_redis=connect(given["redis_url"]),
        keys=Keys(given["prefix"]),
        limits=Limits(**given["limits"]),
        worker="worker-1",
        home=Home(Path(given["home"])),
    )
    listener = listen("127.0.0.1", 0)
    ready = Path(given["ready"])

    def on_listening() -> None:
        part = ready.with_suffix(".part")
        part.write_text(str(listener.getsockname()[1]))
        part.replace(ready)

    make_server(create_app(deps), 2.0, on_listening).run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1])
