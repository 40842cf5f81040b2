"""One tiny model served end to end in the launcher, so that whatever vLLM builds lazily is inherited by every child."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

from models.runtimes.asgi_call import call_app
from models.runtimes.protocol import Budget, Device, EngineError, EngineOrder

log = logging.getLogger("roundhouse.launcher")

KV_BYTES = 8 << 20

HELLO = [{"role": "user", "content": "hello"}]
SHORT: dict[str, Any] = {"model": "warm", "max_tokens": 2}
CHAT: dict[str, Any] = {**SHORT, "messages": HELLO}
SAMPLED = {"temperature": 0.5, "top_p": 0.9, "top_k": 5, "seed": 1, "frequency_penalty": 0.1, "n": 2}

# Between them they reach what is imported, compiled or built on first use.
REQUESTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/v1/chat/completions", {**CHAT, "temperature": 0, "stream": True}),
    ("/v1/chat/completions", {**CHAT, **SAMPLED, "logprobs": True, "top_logprobs": 2}),
    ("/v1/chat/completions", {**CHAT, "response_format": {"type": "json_object"}}),
    ("/v1/completions", {**SHORT, "prompt": "hello", "stream": True}),
    ("/v1/responses", {"model": "warm", "input": "hello", "max_output_tokens": 16}),
    ("/v1/messages", {**SHORT, "messages": HELLO}),
)


def warm(scratch: Path) -> None:
    """Blocks for some seconds. Call it in a thread that ends afterwards."""
    from vllm.platforms import current_platform

    from models.demo.make import make_warmup_model

    folder = make_warmup_model(scratch)
    order = _order(folder, scratch)
    if current_platform.is_cpu():
        asyncio.run(_serve_once(order))
    else:
        # A model would create a CUDA context, which no forked child could use.
        _read_only(order)


def _order(folder: Path, scratch: Path) -> EngineOrder:
    return EngineOrder(
        replica_id="warm",
        model_id="warm",
        served_names=("warm",),
        runtime="vllm",
        source=str(folder),
        engine_args={},
        device=Device(),
        budget=Budget(weights_bytes=0, kv_cache_bytes=KV_BYTES, overhead_bytes=0),
        http_path="",
        control_path="",
        log_path="",
    )


async def _serve_once(order: EngineOrder) -> None:
    from models.runtimes.vllm import kv_memory
    from models.runtimes.vllm import probe as vllm_probe
    from models.runtimes.vllm.runtime import load

    engine = await load(order)
    app: Any = engine.app
    async with app.router.lifespan_context(app):
        for path, body in REQUESTS:
            status = await call_app(app, path, body)
            if status >= 500:
                raise EngineError(f"its warm-up's {path} was answered with {status}")
            if status != 200:
                log.warning("the warm-up's %s answered %d", path, status)
        await vllm_probe.check(app, "warm", Path(order.source))
    engine.end_threads()
    kv_memory.forget()


def _read_only(order: EngineOrder) -> None:
    from vllm.tokenizers import get_tokenizer

    from models.runtimes.vllm import args as vllm_args

    vllm_args.parse(order)
    get_tokenizer(order.source)
