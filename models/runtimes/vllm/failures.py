"""What vLLM raises while a model is loaded, as one sentence that a card's author can act upon."""

from __future__ import annotations

import json
import re
import traceback

from models.runtimes.protocol import EngineError, EngineOrder, Fault
from models.runtimes.vllm.patches import KvTooSmall

LONGEST_SENTENCE = 400

_PATH = re.compile(r"(?<![\w.])/(?:[\w.@+-]+/)*[\w.@+-]+")
_QUALIFIED_CLASS = re.compile(r"<class '[\w.]*?(\w+)'>")


def explain(problem: BaseException, order: EngineOrder) -> EngineError:
    """The sentence for ``problem``; its own words, tidied, when it is none of the known ones."""
    if isinstance(problem, EngineError):
        return problem
    if isinstance(problem, KvTooSmall):
        return EngineError(_kv_too_small(problem, order), "memory")
    fields = _wrong_fields(problem, order)
    if fields:
        return EngineError(fields)
    text = _plain_text(problem)
    for pattern, sentence in _KNOWN:
        found = pattern.search(text)
        if found:
            return EngineError(_tidy(sentence.format(*found.groups()), order), _fault(sentence))
    if isinstance(problem, MemoryError) or "OutOfMemory" in type(problem).__name__:
        return EngineError(_OUT_OF_MEMORY, "memory")
    if isinstance(problem, json.JSONDecodeError):
        what = "tokenizer" if _passed_through(problem, "tokeniz") else "configuration"
        return EngineError(f"the model's {what} is damaged: it is not JSON ({_tidy(text, order)})", "weights")
    if isinstance(problem, LookupError | TypeError | AttributeError):
        # A defect met on the way: its words mean nothing to a card's author, its place may.
        what = "tokenizer" if _passed_through(problem, "tokeniz") else "configuration"
        said = f"{problem} is missing" if isinstance(problem, KeyError) else text
        return EngineError(f"vLLM cannot make sense of the model's {what}: {_tidy(said, order)}")
    return EngineError(f"vLLM cannot load the model: {_tidy(text, order)}")


_OUT_OF_MEMORY = "the model does not fit: the device ran out of memory while it was loaded; raise its declared memory"

# Searched in order; groups fill the sentence.
_SENTENCES = (
    (
        r"User-specified max_model_len \((\d+)\) is greater than the derived max_model_len \(\w+=(\d+)",
        "engine_args.max_model_len {0} is more than the {1} tokens that the model was made for",
    ),
    (
        r"Cannot auto-fit max_model_len|No available memory for the cache blocks",
        "the KV cache is too small for a single token of this model: raise declared.kv_cache",
    ),
    (
        r"Available memory on node \S+ \((\S+?)/\S+ GiB\) on kv cache allocation is less than [^(]*\((\S+) GiB",
        "the KV cache wants {1} GiB, the machine has {0} GiB of memory left",
    ),
    (
        r"Free memory on device \S+ \((\S+?)/(\S+) GiB\) on startup is less than",
        "the GPU has {0} of {1} GiB free, less than the card's declared memory",
    ),
    (
        r"Model architectures? (\[.*?\]|\S+) (?:are|is) not supported",
        "the model's architecture {0} is not supported by this vLLM",
    ),
    (
        r"model type `(\w+)` but Transformers does not recognize",
        "the model's type {0} (in config.json) is not supported by this vLLM",
    ),
    (r"Unrecognized model in", "config.json names no model_type that this vLLM knows"),
    (r"Class validation error for validator '\w+': \w+: (.*)", "config.json: {0}"),
    (r"Validation error for field '(\w+)': \w+: (.*)", "config.json or engine_args.hf_overrides: {1}"),
    (
        r"tool_parser:\s?'([^']*)' which has not been registered",
        "engine_args.tool_call_parser: vLLM has no parser called {0}",
    ),
    (r"Reasoning parser '([^']*)' not found", "engine_args.reasoning_parser: vLLM has no parser called {0}"),
    (r"Unknown quantization method: ([^.\s]+)", "engine_args.quantization: vLLM has no method called {0}"),
    (r"Cannot find the config file for (\w+)", "engine_args.quantization: the model is not quantized as {0}"),
    (r"Repo id must .*: '(.*)'", "engine_args names {0}, which is not there"),
    (
        r"Following weights were not initialized from checkpoint: \{?'?([\w.]+)",
        "the weights are incomplete: {0} is missing",
    ),
    (
        r"There is no module or parameter named '?([\w.]+?)'? in ",
        "the weights do not match config.json: the model has no {0}",
    ),
    (
        r"(?i:size of tensor|shape mismatch|Attempted to load weight)",
        "the weights do not match config.json: a tensor has another shape",
    ),
    (
        r"Error while deserializing header|SafetensorError",
        "a weights file is damaged: its safetensors header cannot be read",
    ),
    (
        r"trust_remote_code",
        "the model brings code of its own, which is not run: only what vLLM has built in",
    ),
    (r"(?i:out of memory|can't allocate memory|cannot allocate memory)", _OUT_OF_MEMORY),
    (r"[Cc]an't load (?:the )?tokenizer|Couldn't instantiate the backend", "the model's tokenizer cannot be read"),
)
_KNOWN = tuple((re.compile(pattern), sentence) for pattern, sentence in _SENTENCES)


_ABOUT: tuple[tuple[Fault, tuple[str, ...]], ...] = (
    ("memory", ("the model does not fit", "the KV cache", "the GPU has")),
    ("weights", ("the weights", "a weights file")),
)


def _fault(sentence: str) -> Fault:
    return next((fault for fault, beginnings in _ABOUT if sentence.startswith(beginnings)), "other")


def _kv_too_small(problem: KvTooSmall, order: EngineOrder) -> str:
    # vLLM holds one block back; it is part of what is declared, not of what is usable.
    given = int(order.engine_args.get("kv_cache_memory_bytes") or order.budget.kv_cache_bytes)
    held_back = max(0, given - problem.usable_bytes)
    enough = problem.needed_bytes + held_back
    return (
        f"a KV cache of {_mib(given)} holds {problem.holds_tokens} tokens, max_model_len {problem.max_model_len} needs"
        f" {_mib(enough)}: raise declared.kv_cache to at least {_mib(enough)}"
        f" or lower engine_args.max_model_len to {problem.holds_tokens}"
    )


def _mib(size_bytes: int) -> str:
    """Rounded up, so that a card that declares it is right."""
    tenths = -(-size_bytes * 10 // (1 << 20))
    return f"{tenths / 10:g} MiB"


def _wrong_fields(problem: BaseException, order: EngineOrder) -> str | None:
    """What pydantic says of each field, those first that the card has set; None for what is not its error."""
    errors = getattr(problem, "errors", None)
    if not callable(errors):
        return None
    given = {key.lstrip("-").replace("-", "_") for key in order.engine_args}
    said = {".".join(map(str, error["loc"])): str(error["msg"]) for error in errors() if error["loc"]}
    blamed = {field: message for field, message in said.items() if field in given}
    parts = [f"engine_args.{field}: {message}" for field, message in blamed.items()]
    parts = parts or [f"engine_args: {field}: {message}" for field, message in said.items()]
    return _tidy("; ".join(parts), order) or None


def _plain_text(problem: BaseException) -> str:
    errors = getattr(problem, "errors", None)
    if callable(errors):  # pydantic's, about no field in particular
        return "; ".join(str(error["msg"]).removeprefix("Value error, ") for error in errors())
    return " ".join(str(problem).split()) or type(problem).__name__


def _passed_through(problem: BaseException, part: str) -> bool:
    """Whether a file with ``part`` in its name took part in raising it."""
    frames = traceback.extract_tb(problem.__traceback__)
    return any(part in frame.filename.rpartition("/")[2] for frame in frames)


def _tidy(text: str, order: EngineOrder) -> str:
    """One line, not endless, with no paths but those that the card itself names."""
    named = " ".join([order.source, *map(str, order.engine_args.values())])

    def shorten(path: re.Match[str]) -> str:
        return path[0] if path[0] in named or path[0].startswith(order.source) else path[0].rpartition("/")[2]

    line = _QUALIFIED_CLASS.sub(r"\1", " ".join(text.split()))
    line = _PATH.sub(shorten, line)
    return line if len(line) <= LONGEST_SENTENCE else line[: LONGEST_SENTENCE - 3] + "..."
