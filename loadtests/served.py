"""Which of the service's models can chat, and which make embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from loadtests.chat import CHAT_PATH, ChatRequest
from loadtests.load.settings import Settings
from loadtests.scalable import OF_ONE_MODEL, most_scalable
from loadtests.target import Target, TargetError, WrongTarget
from loadtests.wire import CallFailed, NotReachable, Refused, get_json, post_json

PROBE_TIMEOUT_S = 120.0
_CHAT_RUNTIMES = ("vllm",)
_NOT_ABOUT_CHAT = (401, 403, 408, 429)  # refusals that say nothing of what the model can do


def served_models(target: Target) -> list[dict[str, Any]]:
    """Entries of ``GET /v1/models``. Raises TargetError when no service answers there, CallFailed when it refuses."""
    try:
        answer = get_json(target, "/v1/models")
    except NotReachable as problem:
        raise TargetError(
            f"no service answers at {target.url} ({problem}); start it with `make run`, or name another: --target URL"
        ) from None
    except Refused as refused:
        if refused.status not in (401, 403):
            raise
        raise Refused(
            refused.status, f"{refused.message} (the key is read from ROUNDHOUSE_API_KEY)", refused.code
        ) from None
    entries = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(entries, list):
        raise CallFailed(
            f"{target.url}/v1/models did not answer with a list of models; is this an OpenAI-compatible service?"
        )
    return entries


def chat_models(target: Target, wanted: Sequence[str] = ()) -> list[str]:
    """The models asked for, else all that can chat. Raises TargetError when there is none, CallFailed."""
    entries = _entries(target, wanted)
    if wanted:
        return list(wanted)
    found = [model for model, entry in entries.items() if can_chat(target, model, entry)]
    if not found:
        raise TargetError(f"none of the models at {target.url} can chat ({', '.join(entries) or 'there are none'})")
    return found


def _entries(target: Target, wanted: Sequence[str]) -> dict[str, dict[str, Any]]:
    """All that it serves. Raises WrongTarget when one that is wanted is not among them."""
    entries = {str(entry["id"]): entry for entry in served_models(target)}
    if unknown := [model for model in wanted if model not in entries]:
        raise WrongTarget(f"--models: no model {', '.join(unknown)}; there are {', '.join(entries) or 'none'}")
    return entries


def can_chat(target: Target, model: str, entry: dict[str, Any]) -> bool:
    """As its entry says by ``runtime``; an entry that does not say is tried with one token, which starts the model.

    A failure that is not a refusal of chat itself counts as yes: it belongs into the load test's report.
    """
    runtime = entry.get("runtime")
    if isinstance(runtime, str):
        return runtime in _CHAT_RUNTIMES
    try:
        post_json(target, CHAT_PATH, ChatRequest(model, "Hello", 1).body(stream=False), timeout_s=PROBE_TIMEOUT_S)
    except Refused as refused:
        return refused.status >= 500 or refused.status in _NOT_ABOUT_CHAT
    except CallFailed:
        return True
    return True


def models_of(target: Target, settings: Settings) -> Settings:
    """With the models that are there: those named, else all that can be asked what the settings ask.

    Embedders come in where they are named, where ``embeddings`` is among the dialects, and in the suite ``smoke``; a
    suite of one model has the one that can scale most. Raises TargetError, CallFailed.
    """
    entries = _entries(target, settings.models)
    wanted = settings.models or tuple(entries)
    kinds = {name: kind_of(entries[name]) for name in wanted}
    embedding = bool(settings.models) or settings.suite == "smoke" or "embeddings" in settings.dialects
    chatters = tuple(name for name in wanted if kinds[name] == "generate")
    embedders = tuple(name for name in wanted if kinds[name] == "embed") if embedding else ()
    only = {name for name, weight in settings.dialects.items() if weight > 0}
    if only == {"embeddings"}:
        chatters = ()
    if not chatters and not embedders:
        raise TargetError(_nobody(target, settings, wanted))
    told = {name: entries[name].get("max_model_len") for name in chatters + embedders}
    contexts = {name: length for name, length in told.items() if isinstance(length, int) and length > 0}
    found = msgspec.structs.replace(settings, models=chatters, embedders=embedders, contexts=contexts)
    return most_scalable(target, found) if settings.suite in OF_ONE_MODEL and not settings.models else found


def _nobody(target: Target, settings: Settings, wanted: Sequence[str]) -> str:
    """Why none of these models can be asked."""
    if not wanted:
        return f"{target.url} serves no model: add one, or wait until it has begun"
    names = ", ".join(wanted)
    if "embeddings" in settings.dialects:
        return f"--dialects: {target.url} has nothing that makes embeddings ({names})"
    return f"--models: {names}: load tests ask for text and for embeddings, and these give neither"


def kind_of(entry: dict[str, Any]) -> str:
    """``generate``, ``embed`` or ``other``; a server that does not say serves language models."""
    told = entry.get("capabilities")
    if told:
        return next((kind for kind in ("generate", "embed") if kind in told), "other")
    runtime = entry.get("runtime")
    return "generate" if runtime is None or runtime in _CHAT_RUNTIMES else "other"
