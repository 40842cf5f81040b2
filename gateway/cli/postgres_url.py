"""Whether ROUNDHOUSE_POSTGRES_URL, where it is set, can be used: said before the service starts."""

from __future__ import annotations

import os
from collections.abc import Mapping

from gateway.cli.errors import AskedWrongly


def check_postgres_url(env: Mapping[str, str] = os.environ) -> None:
    """Raises AskedWrongly."""
    from gateway.billing.sink_line import URL_ENV, Line
    from models.store.errors import StoreSettingError

    given = env.get(URL_ENV, "").strip()
    try:
        if given:
            Line.to(given)
    except StoreSettingError as wrong:
        raise AskedWrongly(str(wrong), code="invalid_setting", cure=f"correct {URL_ENV}, or unset it") from None
