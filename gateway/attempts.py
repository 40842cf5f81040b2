"""Asking once, or as often as it takes: what is busy or starting is asked again, what is wrong is not."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from gateway.asking import Answer, Ask, Failure, header
from gateway.errors import GatewayError
from gateway.inquiry import Caller
from gateway.plane.inprocess import CutOff

MOST_ATTEMPTS = 3  # where the engine failed
LATER = (429, 503)
_RETRY_AFTER, _SHOULD_RETRY = b"retry-after", b"x-should-retry"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Attempts:
    ask_once: Ask
    retry_s: float
    longest_retry_s: float
    priority: int

    async def ask(self, path: str, body: bytes, caller: Caller) -> Answer | Failure:
        """1. An answer, or an error of the request's own: that is it. 2. Not now: later, as long as it takes.
        3. It failed: again, but not for ever."""
        failures = 0
        wait_s = self.retry_s
        while True:
            answer = await self._once(path, body, caller)
            if not isinstance(answer, Failure) and (answer.status < 500 and answer.status != 429):  # 1
                return answer
            if not isinstance(answer, Failure) and answer.status in LATER:  # 2
                if header(answer, _SHOULD_RETRY) == b"false":
                    return answer
                asked_s = _seconds(header(answer, _RETRY_AFTER))
                await asyncio.sleep(min(max(wait_s, asked_s), self.longest_retry_s))
            else:  # 3
                failures += 1
                if failures >= MOST_ATTEMPTS:
                    return answer
                await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, self.longest_retry_s)

    async def _once(self, path: str, body: bytes, caller: Caller) -> Answer | Failure:
        try:
            return await self.ask_once(path, body, caller, priority=self.priority)
        except GatewayError as error:
            return Failure(error.code or "server_error", error.message)
        except CutOff:
            return Failure("engine_unavailable", "The engine went away while it answered.")
        except Exception:
            log.exception("asking a model failed unexpectedly")
            return Failure("server_error", "Something went wrong in the gateway.")


def _seconds(header: bytes | None) -> float:
    return float(header) if header is not None and header.isdigit() else 0.0
