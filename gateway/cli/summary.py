"""What is said once the service answers: where, what it serves, on what, and how to try it."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.cli.output import bytes_text
from gateway.cli.plan import Planned
from gateway.service.report import Event

if TYPE_CHECKING:
    from models.catalog.gpus import SimulatedGpu


def serving_event(planned: Planned, detached: bool) -> Event:
    return Event(kind="serving", text=text(planned, detached), data=document(planned))


def document(planned: Planned) -> dict[str, Any]:
    this = planned.installation
    return {
        "url": planned.url,
        "state": "serving",
        "home": str(this.home.root),
        "config": str(this.config),
        "env_file": str(this.home.demo_env),
        "simulated_gpus": planned.simulated,
        "gpus": gpu_text(planned),
        "models": [card.model_id for card in planned.config.models],
    }


def text(planned: Planned, detached: bool) -> str:
    this = planned.installation
    names = [card.model_id for card in planned.config.models]
    command, option = _command(), _home_option(planned)
    lines = [
        "",
        f"Roundhouse serves at {planned.url}",
        f"  GPUs    {gpu_text(planned)}",
        f"  models  {', '.join(names)}",
        f"  keys    {_shown(this.home.demo_env)}",
        f"  config  {_shown(this.config)} (read again when it changes)",
        "",
        "Try it:",
        *(f"  {line}" for line in _example(planned)),
        "",
        f"See what happens: {command} status, models, gpus, decisions{option}",
        f"Stop it: {'' if detached else 'Ctrl-C, or '}{command} down{option}",
    ]
    return "\n".join(lines)


def gpu_text(planned: Planned) -> str:
    from models.catalog.gpus import parse_simulated

    named = planned.installation.gpus
    gpus = parse_simulated(named) if named else planned.config.simulated
    if gpus is None:
        return "the real ones of this machine"
    sizes = ", ".join(_gpu_size(gpu) for gpu in gpus)
    return f"{len(gpus)} simulated ({sizes}): real models, computed on the CPU"


def _gpu_size(gpu: SimulatedGpu) -> str:
    link = f" behind a simulated bus of {bytes_text(round(gpu.link_bytes_per_s))}/s" if gpu.link_bytes_per_s else ""
    return f"{bytes_text(gpu.memory_bytes)}{link}"


def _example(planned: Planned) -> list[str]:
    chat = [card.model_id for card in planned.config.models if card.runtime == "vllm"]
    source = f"set -a; . {shlex.quote(_shown(planned.installation.home.demo_env))}; set +a"
    path, body = (
        "chat/completions",
        '{"model": "%s", "max_tokens": 32, "messages": [{"role": "user", "content": "Hello"}]}',
    )
    if not chat:
        path, body = "embeddings", '{"model": "%s", "input": "Hello"}'
    names = chat or [card.model_id for card in planned.config.models] or ["MODEL"]
    return [
        source,
        f'curl $ROUNDHOUSE_URL/v1/{path} -H "Authorization: Bearer $ROUNDHOUSE_API_KEY" \\',
        f"  -H 'Content-Type: application/json' -d '{body % names[0]}'",
    ]


def _shown(path: Path) -> str:
    """Relative to where the user is, when it lies below; a shell looks for ``. name`` elsewhere, so never bare."""
    try:
        inside = path.relative_to(os.getcwd())
    except ValueError:
        return str(path)
    return str(inside) if len(inside.parts) > 1 else f"./{inside}"


def _command() -> str:
    """How this command is called from here: by its name, when a shell would find it."""
    beside = Path(sys.executable).with_name("roundhouse")
    if shutil.which("roundhouse") or not beside.exists():
        return "roundhouse"
    return shlex.quote(_shown(beside))


def _home_option(planned: Planned) -> str:
    from models.home import Home

    root = planned.installation.home.root
    return "" if Home.find().root == root else f" --home {shlex.quote(str(root))}"
