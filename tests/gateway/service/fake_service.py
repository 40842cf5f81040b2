"""``python -m tests.gateway.service.fake_service HOME PORT [KIND]``: the real run of a service whose parts are tiny.

Redis is the real one. The gateway says yes to everything. ``brood`` has a child and an orphan, each in a session of its
own, the orphan without a tag; neither heeds SIGTERM. KIND adds a part: ``broken`` ends while it starts, ``slow`` never
gets ready, ``stubborn`` does not heed SIGTERM, ``mortal`` lives for a second.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gateway.service import parts, probes
from gateway.service import run as service_run
from gateway.service.ports import PortInUse
from gateway.service.record import AlreadyRunning
from gateway.service.report import Event, to_screen
from gateway.service.run import LeftBehind, Run, run
from gateway.service.spec import PartSpec
from gateway.service.supervisor import StartFailed
from models.home import Home

GATEWAY = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Yes(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
HTTPServer(("127.0.0.1", int(sys.argv[1])), Yes).serve_forever()
"""
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
BROOD = f"""
import subprocess, sys, time
deaf = [sys.executable, "-c", {DEAF!r}, sys.argv[1]]
subprocess.Popen(deaf, start_new_session=True)
middle = "import subprocess, sys; subprocess.Popen(sys.argv[1:], start_new_session=True, env={{}})"
subprocess.run([sys.executable, "-c", middle, *deaf])
print("hatched", flush=True)
time.sleep(600)
"""
KINDS = {
    "broken": "import time; time.sleep(0.3); print('it is broken', flush=True); raise SystemExit(1)",
    "slow": "import time; time.sleep(600)",
    "stubborn": DEAF.replace("time.sleep", "print('hatched', flush=True); time.sleep"),
    "mortal": "import time; print('hatched', flush=True); time.sleep(1)",
}


def tiny_parts(of: parts.Installation, kind: str | None) -> tuple[PartSpec, ...]:
    env = parts.environment(of.home)

    def tiny(name: str, code: str, *arguments: str, ready: object = None, **changes: object) -> PartSpec:
        log = probes.LogLine(of.home.logs / f"{name}.log", "hatched")
        given = {
            "what": name,
            "env": env,
            "ready": ready or log,
            "prepare": log.prepare,
            "stop_grace_s": 60.0,
            **changes,
        }
        return PartSpec(name=name, command=(sys.executable, "-c", code, *arguments), **given)  # type: ignore[arg-type]

    port = of.gateway.port
    answers = probes.http_ok("127.0.0.1", port, "/health")
    return (
        parts.part(of, "redis"),
        tiny("gateway", GATEWAY, str(port), ready=answers, needs=("redis",)),
        tiny("brood", BROOD, str(of.home.root)),
        *([tiny(kind, KINDS[kind])] if kind else []),
    )


def main() -> int:
    root, port = sys.argv[1], int(sys.argv[2])
    kind = sys.argv[3] if len(sys.argv) > 3 else None
    home = Home.find(Path(root))
    service_run.SWEEP_GRACE_S = 0.3  # the brood will not heed anyway
    installation = parts.Installation(home=home, config=home.config, gateway=parts.GatewayOptions(port=port))
    this = Run(installation, f"http://127.0.0.1:{port}", Event(kind="serving", text="it serves"))
    try:
        run(this, to_screen(sys.stdout), lambda of: tiny_parts(of, kind))
    except (AlreadyRunning, PortInUse, StartFailed, LeftBehind) as problem:
        print(f"{type(problem).__name__}: {problem}", *getattr(problem, "lines", ()), flush=True)
        return 1
    print("it has ended", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
