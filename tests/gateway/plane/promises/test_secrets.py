"""S2, S5: whatever goes wrong, keys, prompts and an engine's secrets get into no log, metric or answer."""

from __future__ import annotations

import json
from typing import Any

from tests.gateway.plane.promises.town import Town
from tests.gateway.plane.protocol.house import House
from tests.gateway.plane.protocol.malformed import bodies, heads
from tests.gateway.plane.protocol.raw_engine import Asked, Link, whole
from tests.gateway.plane.protocol.wire import Broken, head

PROMPT = "the-secret-of-the-prompt"


def test_s2_nothing_of_it_is_written_down(town: Town) -> None:
    town.open(engines=1, request_timeout_s=0.3, hold_timeout_s=0.3)
    town.route(town.model("m"))
    said = []
    prompt: dict[str, Any] = {"messages": [{"role": "user", "content": PROMPT}]}
    requests = [
        town.request(**prompt),
        town.request(stream=True, **prompt),
        town.request("nobody", **prompt),
        town.request(how={"die": True}, **prompt),
        town.request(n=10_000, **prompt),
        town.request(logit_bias={PROMPT: PROMPT}, stop=[PROMPT] * 500, **prompt),
        town.head(("content-length", "9000")) + PROMPT.encode(),
        town.head(("x-secret", PROMPT), path=f"/v1/models/{town.world.keys.prefix}", method="GET"),
        head(("authorization", f"Basic {town.key}"), path="/admin/v1/status", method="GET"),
        *heads(town.key).values(),
        *bodies(town.key).values(),
    ]
    for request in requests:
        with town.caller() as caller:
            caller.try_send(request)
            try:
                said.append(caller.answer("GET").body)
            except (Broken, ConnectionResetError):
                continue
    with town.caller() as caller:
        metrics = caller.ask(head(method="GET", path="/metrics"), "GET").body
    assert town.gateway is not None
    town.gateway.terminate()
    town.gateway.wait(20)
    written = town.log.read_bytes()
    assert b'"status"' in written, "there is a log"
    for place in (written, metrics, *said):
        assert town.key.encode() not in place
        assert PROMPT.encode() not in place


def test_s5_an_engines_words_are_replaced(house: House) -> None:
    leaks = [
        {"error": {"message": "Traceback: /srv/models/secret.py line 3", "type": "x", "param": None, "code": 500}},
        {"detail": "postgres://user:secret@10.0.0.1/db"},
        {"message": "secret"},
        "secret",
        ["secret"],
        None,
    ]
    for status in ("500 X", "502 X", "504 X", "501 X"):
        for leak in leaks:

            async def fails(link: Link, asked: Asked, status: str = status, leak: object = leak) -> None:
                await link.say(whole(json.dumps(leak).encode(), "x-secret: secret", status=status))

            with house.playing(fails), house.caller() as caller:
                answer = caller.ask(house.request(house.fresh(), ("x-request-timeout", "0.05")))
            assert answer.status >= 400
            assert "secret" not in json.dumps(answer.error())
            assert "secret" not in str(answer.headers)
