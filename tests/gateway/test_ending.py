"""A task that loses a cancellation is still ended. On virtual time."""

from __future__ import annotations

import asyncio

import pytest

from gateway.ending import end
from tests.gateway.virtual_time import play


async def deaf(losses: int) -> None:
    """Loses that many cancellations, as a Redis call on Python 3.11 may, and goes on for ever otherwise."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            losses -= 1
            if losses < 0:
                raise


@pytest.mark.parametrize("losses", [0, 1, 5])
def test_it_is_cancelled_until_it_has_ended(losses: int) -> None:
    async def run() -> None:
        tasks = [asyncio.ensure_future(deaf(losses)), asyncio.ensure_future(deaf(0))]
        await asyncio.sleep(0)
        await end(tasks)
        assert all(task.done() for task in tasks)

    play(run())


def test_what_has_ended_already_or_failed_does_not_matter() -> None:
    async def fails() -> None:
        raise OSError("gone")

    async def run() -> None:
        task = asyncio.ensure_future(fails())
        await asyncio.wait([task])
        await end([task])
        await end([])
        assert isinstance(task.exception(), OSError)

    play(run())
