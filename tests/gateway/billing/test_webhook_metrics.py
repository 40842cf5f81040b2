"""What operators see of webhooks in /metrics."""

from __future__ import annotations

import pytest

from gateway.billing.deliveries import Deliveries
from gateway.billing.webhook_metrics import render
from models.store.alerts import DELIVERED, Alert, tell
from models.store.tenancy import HouseRecord, Webhook
from tests.gateway.billing.receiver import SECRET
from tests.gateway.world import World

pytestmark = pytest.mark.anyio


def test_all_outcomes_are_there_from_the_beginning() -> None:
    text = render((3, {"delivered": 7})).decode()
    assert "roundhouse_webhooks_waiting 3.0" in text
    assert 'roundhouse_webhooks_total{outcome="delivered"} 7.0' in text
    assert 'roundhouse_webhooks_total{outcome="given_up"} 0.0' in text


def test_nothing_is_said_where_nobody_can_be_asked() -> None:
    assert render(None) == b""


async def test_a_gateway_shows_them(world: World) -> None:
    deliveries = Deliveries(world.redis, world.keys)
    house = HouseRecord(webhooks=(Webhook(url="https://a.example/", secret=SECRET),))
    for _ in range(2):
        await tell(world.redis, world.keys, Alert(kind="meter.behind", at=0))
    await deliveries.read(house, 0.0)
    (first, _) = await deliveries.claim(1.0, 60.0, 10)
    await deliveries.over(first, DELIVERED)
    async with world.client() as session, session.get("/metrics") as answer:
        text = await answer.text()
    assert "roundhouse_webhooks_waiting 1.0" in text
    assert 'roundhouse_webhooks_total{outcome="delivered"} 1.0' in text
