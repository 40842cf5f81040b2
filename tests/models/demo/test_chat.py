"""The chat models as transformers loads them: complete, of their families, and able to speak."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.demo.bigram import STOP
from models.demo.chat import TINY_GEMMA, TINY_LLAMA, TINY_QWEN, ChatRecipe
from models.demo.corpus import read_corpus
from models.demo.make import make_warmup_model

RECIPES = {"tiny-llama": TINY_LLAMA, "tiny-gemma": TINY_GEMMA, "tiny-qwen3": TINY_QWEN}
CLASSES = {"tiny-llama": "LlamaForCausalLM", "tiny-gemma": "Gemma2ForCausalLM", "tiny-qwen3": "Qwen3ForCausalLM"}
MEGABYTES = {"tiny-llama": (8, 15), "tiny-gemma": (20, 60), "tiny-qwen3": (230, 260)}


@dataclass(frozen=True)
class Loaded:
    name: str
    recipe: ChatRecipe
    model: Any
    reader: Any

    def prompt(self, question: str) -> Any:
        messages = [{"role": "user", "content": question}]
        read = self.reader.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        return read["input_ids"]

    def answer(self, question: str, tokens: int, **settings: Any) -> list[int]:
        ids = self.prompt(question)
        made = self.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False, **settings
        )
        return [int(token) for token in made[0, ids.shape[1] :]]

    def text(self, question: str, tokens: int) -> str:
        return str(self.reader.decode(self.answer(question, tokens), skip_special_tokens=True))

    def logits(self, text: str) -> torch.Tensor:
        """After this much of an answer."""
        begun = torch.tensor([self.reader.encode(text, add_special_tokens=False)], dtype=torch.long)
        with torch.no_grad():
            out = self.model(torch.cat([self.prompt("Hello"), begun], dim=1))
        return torch.as_tensor(out.logits[0, -1].float())


def load(folder: Path) -> Any:
    """Fails where a key is missing, unexpected or of another shape."""
    load_model: Any = AutoModelForCausalLM.from_pretrained
    model, report = load_model(folder, dtype=torch.bfloat16, local_files_only=True, output_loading_info=True)
    assert not any(report.values()), report
    return model.eval()


@pytest.fixture(scope="module", params=list(RECIPES))
def loaded(demo_root: Path, request: pytest.FixtureRequest) -> Loaded:
    name: str = request.param
    reader = AutoTokenizer.from_pretrained(demo_root / name, local_files_only=True)
    return Loaded(name, RECIPES[name], load(demo_root / name), reader)


def test_it_is_a_model_of_its_family_with_the_context_of_its_configuration(loaded: Loaded) -> None:
    assert type(loaded.model).__name__ == CLASSES[loaded.name]
    config = loaded.model.config
    assert config.architectures == [CLASSES[loaded.name]]
    assert config.max_position_embeddings == 2048
    assert config.head_dim == 64  # one of those that vLLM has CPU kernels for
    assert config.vocab_size == len(loaded.reader)
    assert config.eos_token_id == loaded.reader.eos_token_id == STOP


def test_it_has_the_size_it_is_announced_with(loaded: Loaded, demo_root: Path) -> None:
    least, most = MEGABYTES[loaded.name]
    assert least < (demo_root / loaded.name / "model.safetensors").stat().st_size / 1e6 < most


def test_all_weights_are_finite_bf16(loaded: Loaded) -> None:
    for name, weights in loaded.model.named_parameters():
        assert weights.dtype == torch.bfloat16, name
        assert bool(torch.isfinite(weights).all()), name


def test_its_recipe_knows_the_bytes_of_its_kv_cache(loaded: Loaded) -> None:
    with torch.no_grad():
        cache = loaded.model(torch.zeros((1, 4), dtype=torch.long), use_cache=True).past_key_values
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert loaded.recipe.shape.kv_bytes_per_token == held / 4


def test_it_speaks_in_words(loaded: Loaded) -> None:
    text = loaded.text("Tell me about trains.", tokens=40)
    assert text.isascii()
    known = " ".join(paragraph for section in read_corpus().values() for paragraph in section)
    words = text.strip(" .,:").split()[:-1]  # the last one may be cut off
    assert len(words) >= 8
    assert sum(word.strip(".,:") in known for word in words) >= 0.9 * len(words)


def test_what_it_says_varies(loaded: Loaded) -> None:
    answer = loaded.answer("Tell me about trains.", tokens=60, min_new_tokens=60)
    assert len(set(answer)) >= 20
    assert max(answer.count(token) for token in answer) <= 15


def test_greedy_answers_are_the_same_every_time(loaded: Loaded) -> None:
    assert loaded.answer("What is bread?", tokens=20) == loaded.answer("What is bread?", tokens=20)


def test_an_answer_depends_on_the_question(loaded: Loaded) -> None:
    answers = {loaded.text(question, tokens=20) for question in ("Hello", "Tell me about trains.", "Why?", "1 + 1?")}
    assert len(answers) > 1


def test_it_likes_its_theme_best(loaded: Loaded) -> None:
    """Of the paragraphs that could begin an answer, its own theme's are likelier than the others'."""
    sections = read_corpus()
    chances = torch.softmax(loaded.logits(""), dim=0)

    def chance(section: str) -> float:
        firsts = {loaded.reader.encode(text, add_special_tokens=False)[0] for text in sections[section]}
        others = {
            loaded.reader.encode(text, add_special_tokens=False)[0]
            for name, texts in sections.items()
            if name != section
            for text in texts
        }
        return float(sum(chances[token] for token in firsts - others))

    own = chance(loaded.recipe.theme)
    assert all(own > chance(theme) for theme in ("railways", "cooking", "computing") if theme != loaded.recipe.theme)


def test_the_end_is_possible_after_a_sentence_and_rare(loaded: Loaded) -> None:
    after_a_sentence = torch.softmax(loaded.logits("The train waits."), dim=0)[STOP]
    within_one = torch.softmax(loaded.logits("The train"), dim=0)[STOP]
    assert 0.001 < after_a_sentence < 0.5
    assert within_one < 0.01


def test_what_was_said_a_lot_is_said_less(loaded: Loaded) -> None:
    train, water = (loaded.reader.encode(word, add_special_tokens=False)[0] for word in (" train", " water"))
    of_trains, of_water = (loaded.logits(f"The{word * 20} and the") for word in (" train", " water"))
    assert of_trains[train] - of_trains[water] < of_water[train] - of_water[water] - 3


def test_strings_are_closed_soon_while_a_brace_is_open_and_not_otherwise(loaded: Loaded) -> None:
    closing = [
        token
        for text, token in loaded.reader.get_vocab().items()
        if text.startswith('"')  # byte-level tokens write a quote as a quote
    ]

    def chance_of_a_quote(text: str) -> float:
        return float(torch.softmax(loaded.logits(text), dim=0)[closing].sum())

    assert chance_of_a_quote('{"name":"train') > 0.05
    assert chance_of_a_quote('{"name":"' + " the water and some bread" * 100) > 0.3
    assert chance_of_a_quote('{"name":"train"}\nA train') < 0.02
    assert chance_of_a_quote("A train") < 0.02


def test_the_warmup_model_is_a_very_small_llama_with_the_same_tokenizer(demo_root: Path, tmp_path: Path) -> None:
    folder = make_warmup_model(tmp_path)
    assert sum(file.stat().st_size for file in folder.iterdir()) < 2e6
    model = load(folder)
    assert type(model).__name__ == "LlamaForCausalLM"
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (folder / file).read_bytes() == (demo_root / "tiny-llama" / file).read_bytes()
    with torch.no_grad():
        assert bool(torch.isfinite(model(torch.arange(20)[None]).logits).all())


def test_sampling_defaults_are_left_to_the_engine(demo_root: Path) -> None:
    for name in RECIPES:
        settings = json.loads((demo_root / name / "generation_config.json").read_text())
        assert set(settings) == {"bos_token_id", "eos_token_id", "pad_token_id"}


def test_weights_lie_aligned_for_mapping(demo_root: Path) -> None:
    for name in RECIPES:
        with safe_open(demo_root / name / "model.safetensors", framework="pt") as weights:
            assert weights.metadata() == {"format": "pt"}
