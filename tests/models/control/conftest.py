"""The store's servers, for the tests of the controller's side of it."""

from __future__ import annotations

from tests.models.store.conftest import embedded_url, tcp_url, url

__all__ = ["embedded_url", "tcp_url", "url"]
