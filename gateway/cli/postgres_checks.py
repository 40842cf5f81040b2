"""The PostgreSQL that settled requests are copied to, where one is named: for doctor."""

from __future__ import annotations

import os

from gateway.cli.checks import Check
from gateway.cli.errors import AskedWrongly
from gateway.cli.postgres_url import check_postgres_url


def postgres() -> Check:
    """Whether it answers."""
    import asyncio

    from gateway.billing.sink_line import URL_ENV

    given, cure = os.environ.get(URL_ENV, "").strip(), f"start it, or correct {URL_ENV}; until then Redis keeps usage"
    if not given:
        return Check(name="postgres", verdict="ok", found="no copy of usage is asked for")
    try:
        check_postgres_url()
        problem = asyncio.run(_ask(given))
    except AskedWrongly as wrong:
        return Check(name="postgres", verdict="fail", found=wrong.message, cure=wrong.cure)
    if problem:
        return Check(name="postgres", verdict="warn", found=problem, cure=cure)
    return Check(name="postgres", verdict="ok", found=f"the one in {URL_ENV} answers")


async def _ask(url: str) -> str:
    """Why it cannot be used; "" when it can."""
    import asyncio

    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    from gateway.billing.sink import words
    from gateway.billing.sink_line import CONNECT_TIMEOUT_S, Line

    line = Line.to(url)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S), line.engine.connect() as database:
            await database.execute(text("SELECT 1"))
    except (SQLAlchemyError, OSError, TimeoutError) as failed:
        return words(failed)
    finally:
        await line.engine.dispose()
    return ""
