"""A tiny sentence embedder, made and used once in the launcher, so that the first real one finds everything built."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

FOLDER = "warm-embedder"
WORDS = ("[PAD]", "[UNK]", "hello", "world")


def warm(scratch: Path) -> None:
    """Blocks for a moment. Call it in a thread that ends afterwards."""
    from models.runtimes.asgi_call import call_app
    from models.runtimes.batcher import Batcher
    from models.runtimes.embedder import SentenceEmbedder
    from models.runtimes.embeddings_api import EmbeddingsApi

    embedder = SentenceEmbedder()
    embedder.load(_write(scratch / FOLDER), "cpu")
    with ThreadPoolExecutor(max_workers=1) as thread:
        app = EmbeddingsApi(embedder, Batcher(embedder.predict, thread), ("warm",)).app()
        asyncio.run(call_app(app, "/v1/embeddings", {"model": "warm", "input": ["hello world", "hello"]}))


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
