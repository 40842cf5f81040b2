"""How fast a serving model speaks: to one caller, and to many at once."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from loadtests.chat import ChatRequest, Progress, StreamBroken, stream_chat
from loadtests.target import Target

TOKENS = 64
CALLERS = 32
TIMEOUT_S = 300.0
PROMPT = "Tell me something about the weather, the sea, and the way home."


def token_gap_s(target: Target, model: str, tokens: int = TOKENS) -> float:
    """Median seconds between two tokens of one answer. Raises CallFailed."""
    gaps = _answer(target, model, tokens).gaps_s
    if not gaps:
        raise StreamBroken(f"{model} gave no two tokens")
    return statistics.median(gaps)


def tokens_per_s(target: Target, model: str, callers: int = CALLERS, tokens: int = TOKENS) -> float:
    """Tokens of ``callers`` simultaneous answers over the time until the last of them has ended. Raises CallFailed."""
    began_s = time.perf_counter()
    with ThreadPoolExecutor(callers) as threads:
        answers = list(threads.map(lambda _: _answer(target, model, tokens), range(callers)))
    return sum(len(answer.token_times_s) for answer in answers) / (time.perf_counter() - began_s)


def _answer(target: Target, model: str, tokens: int) -> Progress:
    progress = Progress(started_s=time.perf_counter())
    stream_chat(target, ChatRequest(model, PROMPT, tokens, whole_length=True), progress, time.perf_counter, TIMEOUT_S)
    return progress
