"""A vLLM whose insides are all elsewhere, with a server that answers: what a future version may look like to us."""

from __future__ import annotations

from pathlib import Path

SERVER = """
import json, os, socket, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

arguments = sys.argv[1:]
if "--fail-to-start" in arguments:
    prefix = "(EngineCore pid=7) ERROR 11-22 02:00:00 [core.py:9] "
    sys.stderr.write(prefix + "ValueError: Model architectures ['Odd'] are not supported\\n")
    sys.stderr.write("RuntimeError: Engine core initialization failed. See root cause above.\\n")
    sys.exit(1)

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self):
        return "client"

    def answer(self, found):
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer({"arguments": arguments, "pid": os.getpid(), "path": self.path})

    def do_POST(self):
        self.answer({"said": self.rfile.read(int(self.headers["content-length"])).decode()})

class Server(HTTPServer):
    address_family = socket.AF_UNIX

    def server_bind(self):
        self.socket.bind(self.server_address)

Server(arguments[arguments.index("--uds") + 1], Handler).serve_forever()
"""

# What importing vLLM's platforms does, which is the first thing that the fast path needs.
MOVED = "raise ImportError('vllm.platforms has moved')"
CRASHES = "import ctypes; ctypes.string_at(0)"


def write_stub(folder: Path, platforms: str = MOVED) -> Path:
    """A folder for PYTHONPATH."""
    server = folder / "vllm" / "entrypoints" / "openai" / "api_server.py"
    server.parent.mkdir(parents=True, exist_ok=True)
    for package in (server.parent, server.parent.parent, folder / "vllm"):
        (package / "__init__.py").write_text("")
    (folder / "vllm" / "platforms.py").write_text(platforms + "\n")
    server.write_text(SERVER)
    return folder
