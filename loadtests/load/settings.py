"""Everything that a run was told, in one frozen record: what the run document has under ``settings``."""

from __future__ import annotations

from typing import Any

import msgspec

from loadtests.load.lengths import LengthsError, read_lengths


class SettingsError(ValueError):
    """A setting that cannot be; the message names it and what it may be."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``rate_per_s`` of an open load, ``users`` of a closed one (0: the suite's own kind). ``factor``: of a spike's or
    a noisy neighbour's rate over the calm one.

    ``seed`` alone decides when what is asked; ``salt`` goes into every prompt, so that no prefix cache answers for a
    run from the one before. ``unstreamed``: share of the requests.
    ``prompt_tokens``, ``output_tokens``: see ``loadtests.load.lengths``. ``prefix_share`` of the prompts begin with one
    of ``prefix_groups`` texts of ``prefix_tokens``. ``turns`` of a conversation, ``think_s`` between an answer and the
    next turn. Users of a closed load begin within ``spread_s``. ``dialects``: name to weight; empty: chat.
    ``contexts``: of models that say so, in tokens: prompts and answers are shortened to fit (``loadtests.load.wish``).
    ``speed``: how many times as fast a trace is played. ``kill`` at ``kill_at_s``: of the suite ``chaos``; ``tiers``,
    ``passes``: of ``zero``. ``drain_s``: that open requests get at the end. ``poll_s``: of the admin API.
    """

    suite: str = "smoke"
    seed: int = 0
    salt: str = ""
    duration_s: float = 10.0
    rate_per_s: float = 0.0
    users: int = 0
    factor: float = 20.0
    steps: int = 6
    models: tuple[str, ...] = ()
    embedders: tuple[str, ...] = ()
    contexts: dict[str, int] = {}
    zipf: float = 1.0
    dialects: dict[str, float] = {}
    unstreamed: float = 0.0
    prompt_tokens: str = "lognormal:mean=48,cv=0.8,most=256"
    output_tokens: str = "fixed:32"
    whole_length: bool = False
    prefix_share: float = 0.0
    prefix_tokens: int = 128
    prefix_groups: int = 4
    turns: int = 1
    think_s: float = 0.5
    spread_s: float = 0.5
    trace: str = ""
    speed: float = 1.0
    kill: str = ""
    kill_at_s: float = 0.0
    tiers: tuple[str, ...] = ()
    passes: int = 3
    timeout_s: float = 120.0
    drain_s: float = 30.0
    keep_alive: bool = True
    workers: int = 1
    poll_s: float = 0.25
    allow_remote: bool = False


_ABOVE_0 = ("duration_s", "factor", "timeout_s", "speed", "poll_s")
_FROM_0 = ("rate_per_s", "users", "zipf", "think_s", "spread_s", "drain_s", "kill_at_s", "prefix_tokens")
_FROM_1 = ("steps", "turns", "passes", "workers", "prefix_groups")
_SHARES = ("unstreamed", "prefix_share")


def checked(settings: Settings) -> Settings:
    """The same. Raises SettingsError."""
    bounds: tuple[tuple[tuple[str, ...], str, Any], ...] = (
        (_ABOVE_0, "above 0", lambda value: 0 < value < float("inf")),
        (_FROM_0, "0 or more", lambda value: 0 <= value < float("inf")),
        (_FROM_1, "at least 1", lambda value: value >= 1),
        (_SHARES, "from 0 to 1", lambda value: 0 <= value <= 1),
    )
    for names, must, allows in bounds:
        for name in names:
            if not allows(getattr(settings, name)):
                raise SettingsError(f"{name} must be {must}, not {getattr(settings, name)}")
    if settings.rate_per_s and settings.users:
        raise SettingsError("name a rate (open load) or users (closed load), not both")
    for name in ("prompt_tokens", "output_tokens"):
        try:
            read_lengths(getattr(settings, name))
        except LengthsError as problem:
            raise SettingsError(f"{name}: {problem}") from None
    return settings


def decode(document: bytes) -> Settings:
    """Raises SettingsError."""
    try:
        return checked(msgspec.json.decode(document, type=Settings))
    except msgspec.MsgspecError as problem:
        raise SettingsError(f"the settings cannot be read: {problem}") from None


def encode(settings: Settings) -> bytes:
    return msgspec.json.format(msgspec.json.encode(settings), indent=1)
