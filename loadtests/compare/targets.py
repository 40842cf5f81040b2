"""Services that run already: their keys, whether they can be reached, and the models that all of them have."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from loadtests.compare.problems import CannotCompare
from loadtests.load.settings import Settings
from loadtests.scalable import OF_ONE_MODEL, most_scalable
from loadtests.served import models_of
from loadtests.target import Target, TargetError, find_target, named_target
from loadtests.wire import CallFailed, NotReachable, Refused, get_json

_KEYS = ("ROUNDHOUSE_API_KEY", "ROUNDHOUSE_ADMIN_KEY")


def key_name(name: str) -> str:
    """The variable that has a target's key: ``VLLM_API_KEY`` of ``vllm``."""
    return f"{name.upper().replace('-', '_').replace('.', '_')}_API_KEY"


def targets_of(urls: Mapping[str, str], environ: Mapping[str, str], allow_remote: bool = False) -> dict[str, Target]:
    """Each with a key of its own, so that no service is told another one's. Raises CannotCompare."""
    found, causes = {}, []
    for name, url in urls.items():
        own = {known: value for known, value in environ.items() if known not in _KEYS}
        if key := environ.get(key_name(name)):
            own["ROUNDHOUSE_API_KEY"] = key
        if admin_key := environ.get(key_name(name).replace("_API_KEY", "_ADMIN_KEY")):
            own["ROUNDHOUSE_ADMIN_KEY"] = admin_key
        try:
            found[name] = named_target(url, own, allow_remote)
        except TargetError as problem:
            causes.append(f"{name}: {str(problem).replace('--target', 'its URL')}")
    if causes:
        raise CannotCompare(causes)
    return found


def models_at(targets: Mapping[str, Target]) -> dict[str, list[str]]:
    """By target, in its own order. Raises CannotCompare with every target that gave no answer."""
    found, causes = {}, []
    for name, target in targets.items():
        try:
            found[name] = _names(get_json(target, "/v1/models"))
        except NotReachable as problem:
            causes.append(f"{name}: nothing answers at {target.url} ({problem}); start it, or leave it out")
        except Refused as refused:
            hint = f"; its key is read from {key_name(name)}" if refused.status in (401, 403) else ""
            causes.append(f"{name}: {target.url}/v1/models answered {refused}{hint}")
        except CallFailed as problem:
            causes.append(f"{name}: {target.url}/v1/models: {problem}")
    if causes:
        raise CannotCompare(causes)
    return found


def _names(answer: Any) -> list[str]:
    entries = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(entries, list):
        raise CallFailed("the answer is no list of models; is this an OpenAI-compatible service?")
    return [str(entry["id"]) for entry in entries if isinstance(entry, dict) and "id" in entry]


def common_models(targets: Mapping[str, Target], settings: Settings) -> Settings:
    """With what all targets can be asked: those named, else those that all of them have; the shortest contexts.

    Raises CannotCompare, TargetError, CallFailed.
    """
    there = models_at(targets)
    named = bool(settings.models)
    first, *others = there.values()
    wanted = settings.models or tuple(model for model in first if all(model in names for names in others))
    causes = [
        f"{name}: no model {model}; there are {', '.join(names) or 'none'}"
        for name, names in there.items()
        for model in wanted
        if model not in names
    ]
    if not wanted:
        causes = [f"{name}: has {', '.join(names) or 'no model'}" for name, names in there.items()]
        causes.append("they have no model in common: serve one under the same name everywhere")
    if causes:
        raise CannotCompare(causes)
    # What a model is does not hang on what this suite wants of it: chat and embeddings are told apart below.
    asked = msgspec.structs.replace(settings, models=wanted, dialects={})
    told = [models_of(target, asked) for target in targets.values()]
    found = _merged(
        settings, wanted, told, embedding=named or settings.suite == "smoke" or "embeddings" in settings.dialects
    )
    if settings.suite in OF_ONE_MODEL and not named:
        for target in targets.values():  # the first that tells decides for all
            found = most_scalable(target, found)
    return found


def _merged(settings: Settings, wanted: Sequence[str], told: Sequence[Settings], embedding: bool) -> Settings:
    """What one calls an embedder is one, although others do not say what their models can do."""
    only_embeddings = {name for name, weight in settings.dialects.items() if weight > 0} == {"embeddings"}
    embedders = tuple(model for model in wanted if any(model in each.embedders for each in told))
    able = tuple(model for model in wanted if model not in embedders and all(model in each.models for each in told))
    chatters = () if only_embeddings else able
    if not chatters and not (embedders and embedding):
        raise CannotCompare([f"none of {', '.join(wanted)} can be asked everywhere"])
    contexts: dict[str, int] = {}
    for each in told:
        for model, length in each.contexts.items():
            contexts[model] = min(length, contexts.get(model, length))
    return msgspec.structs.replace(
        settings, models=chatters, embedders=embedders if embedding else (), contexts=contexts
    )


def running_service(targets: Mapping[str, Target], environ: Mapping[str, str] = os.environ) -> Target | None:
    """A Roundhouse whose admin API may be asked: one of the targets, else the one that runs here. What a service that
    is down has left behind (``demo.env``) is none."""
    known = [target for target in targets.values() if target.admin_key]
    if known:
        return known[0]
    try:
        here = find_target(environ)
        get_json(here, "/health")
    except (TargetError, NotReachable):
        return None
    except CallFailed:
        pass  # it answers: what it refuses is told when its models are asked for
    return here if here.admin_key else None
