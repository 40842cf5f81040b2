"""The demo models, made once for all tests that only look at them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from models.demo.corpus import read_corpus
from models.demo.make import make_demo_models
from models.demo.tokenizer import train_tokenizer


@pytest.fixture(scope="session")
def demo_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo")
    make_demo_models(root, progress=print)
    return root


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer(paragraph for section in read_corpus().values() for paragraph in section)
