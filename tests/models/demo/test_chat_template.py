"""A conversation becomes text: read as transformers reads it, from a finished folder and without the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from models.demo.tokenizer import END, SPECIAL_TOKENS

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "unit": {"type": "string"}}},
    },
}
ASKED = {"type": "function", "id": "1", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}


@pytest.fixture(scope="module", params=["tiny-llama", "tiny-gemma", "tiny-qwen3"])
def reader(demo_root: Path, request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(demo_root / request.param, local_files_only=True)


def render(reader: PreTrainedTokenizerBase, *messages: dict[str, Any], **settings: Any) -> str:
    text = reader.apply_chat_template(list(messages), tokenize=False, **settings)
    assert isinstance(text, str)
    return text


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def test_a_question_ends_where_the_answer_begins(reader: PreTrainedTokenizerBase) -> None:
    text = render(reader, user("Hello"), add_generation_prompt=True)
    assert text == "<|begin|><|user|>Hello<|end|><|assistant|>"


def test_without_a_generation_prompt_nothing_is_begun(reader: PreTrainedTokenizerBase) -> None:
    assert render(reader, user("Hello")) == "<|begin|><|user|>Hello<|end|>"


@pytest.mark.parametrize("role", ["system", "developer"])
def test_system_and_developer_speak_with_one_voice(reader: PreTrainedTokenizerBase, role: str) -> None:
    text = render(reader, {"role": role, "content": "Be brief."}, user("Hello"))
    assert text == "<|begin|><|system|>Be brief.<|end|><|user|>Hello<|end|>"


def test_parts_are_joined_as_if_they_were_one_string(reader: PreTrainedTokenizerBase) -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    assert render(reader, user(parts)) == render(reader, user("Hello"))


def test_empty_and_missing_content_are_nothing(reader: PreTrainedTokenizerBase) -> None:
    contents: tuple[Any, ...] = ("", [], None)
    for content in contents:
        assert render(reader, user(content)) == "<|begin|><|user|><|end|>"


def test_a_call_without_content_and_its_result(reader: PreTrainedTokenizerBase) -> None:
    text = render(
        reader,
        user("Rain?"),
        {"role": "assistant", "content": None, "tool_calls": [ASKED]},
        {"role": "tool", "tool_call_id": "1", "content": "Yes"},
        add_generation_prompt=True,
    )
    call = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
    assert text == f"<|begin|><|user|>Rain?<|end|><|assistant|>{call}<|end|><|tool|>Yes<|end|><|assistant|>"


def test_arguments_may_be_json_text_already(reader: PreTrainedTokenizerBase) -> None:
    written = {**ASKED, "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
    texts = [render(reader, {"role": "assistant", "content": "", "tool_calls": [call]}) for call in (ASKED, written)]
    assert texts[0] == texts[1]


def test_tools_are_listed_before_everything_else(reader: PreTrainedTokenizerBase) -> None:
    bare = {"type": "function", "function": {"name": "ping"}}
    text = render(reader, user("Rain?"), tools=[WEATHER, bare])
    assert "get_weather(city, unit): Tells the weather\nping()\n" in text
    assert text.index("get_weather") < text.index("<|user|>")
    assert text.startswith("<|begin|><|system|>")


def test_an_unknown_role_is_refused_by_name(reader: PreTrainedTokenizerBase) -> None:
    with pytest.raises(jinja2.TemplateError, match="Unknown role wizard: use system, developer"):
        render(reader, {"role": "wizard", "content": "Hello"})


def test_an_image_is_refused_not_dropped(reader: PreTrainedTokenizerBase) -> None:
    with pytest.raises(jinja2.TemplateError, match="reads text only, not content parts of type image_url"):
        render(reader, user([{"type": "image_url", "image_url": {"url": "data:,"}}]))


def test_special_tokens_survive_the_way_through_transformers(reader: PreTrainedTokenizerBase) -> None:
    assert reader.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == list(range(len(SPECIAL_TOKENS)))
    assert reader.eos_token == END
    assert reader.decode(reader.encode("Bread & 2 trains 🚂"), skip_special_tokens=True) == "Bread & 2 trains 🚂"
