"""A tiny sentence embedder, made and used once in the launcher, so that the first real one finds everything built."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

from models.runtimes.protocol import Budget, Device, EngineOrder
from models.runtimes.torch.model_thread import THREAD_NAME

FOLDER = "warm-embedder"
WORDS = ("[PAD]", "[UNK]", "hello", "world")


def warm(scratch: Path) -> None:
    """Blocks for a moment. Call it in a thread that ends afterwards."""
    asyncio.run(_serve_once(_order(_write(scratch / FOLDER))))
    for thread in threading.enumerate():
        if thread.name.startswith(THREAD_NAME):
            thread.join()  # a forked child would miss it


async def _serve_once(order: EngineOrder) -> None:
    from models.runtimes.asgi_call import call_app
    from models.runtimes.torch.runtime import TorchRuntime

    engine = await TorchRuntime().load(order)
    await call_app(engine.app, "/v1/embeddings", {"model": "warm", "input": ["hello world", "hello"]})
    engine.measured()
    await engine.close()


def _order(folder: Path) -> EngineOrder:
    return EngineOrder(
        replica_id="warm",
        model_id="warm",
        served_names=("warm",),
        runtime="torch",
        source=str(folder),
        engine_args={},
        device=Device(),
        budget=Budget(weights_bytes=0, kv_cache_bytes=0, overhead_bytes=0),
        http_path="",
        control_path="",
        log_path="",
    )


def _write(folder: Path) -> Path:
    from safetensors.torch import save_file
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import BertConfig, BertModel

    bert: Any = BertModel  # its constructor is untyped
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        architectures=["BertModel"],
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    save_file(bert(config).state_dict(), folder / "model.safetensors")
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    Tokenizer(WordLevel(vocabulary, unk_token="[UNK]")).save(str(folder / "tokenizer.json"))
    return folder
