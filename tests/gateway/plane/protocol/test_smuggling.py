"""Requests and answers that two parsers could cut apart differently: nobody's bytes become somebody else's message."""

from __future__ import annotations

import pytest

from tests.gateway.plane.protocol.house import House
from tests.gateway.plane.protocol.raw_engine import PLAIN, Asked, Link, in_chunks, whole
from tests.gateway.plane.protocol.wire import Broken, Caller

SMUGGLED = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-smuggled: 1\r\ncontent-length: 2\r\n\r\n{}"


def with_headers(house: House, lines: bytes, body: bytes) -> bytes:
    return house.head()[:-2] + lines + b"\r\n" + body


@pytest.mark.parametrize(
    "lines",
    [
        b"content-length: 4\r\ntransfer-encoding: chunked\r\n",
        b"transfer-encoding: chunked\r\ncontent-length: 4\r\n",
        b"content-length: 4\r\ntransfer-encoding : chunked\r\n",
        b"content-length: 4\r\ntransfer-encoding: xchunked\r\n",
        b"content-length: 4\r\ntransfer-encoding:\tchunked\r\n",
        b"content-length: 4\r\ntransfer-encoding:\x0bchunked\r\n",
        b"content-length: 4\r\ntransfer-encoding: chunked\r\ntransfer-encoding: x\r\n",
        b"content-length: 4\r\ntransfer-encoding: x\r\ntransfer-encoding: chunked\r\n",
        b"content-length: 4\r\nx: y\ntransfer-encoding: chunked\r\n",
        b"content-length: 4\r\nx: y\r\n transfer-encoding: chunked\r\n",
        b"content-length: 4\r\ncontent-length: 0\r\n",
        b"content-length: 4\r\ncontent-length: 4\r\n",
        b"content-length: 4, 4\r\n",
        b"content-length: 4\r\ncontent-length\t: 0\r\n",
        b"content-length: 4\r\nconnection: content-length\r\ntransfer-encoding: chunked\r\n",
        b"x: \r\r\ncontent-length: 4\r\n",
    ],
    ids=range(16),
)
def test_a_request_of_two_lengths_is_refused_and_the_next_one_is_not_read(house: House, lines: bytes) -> None:
    with house.caller() as caller:
        answer = caller.ask(with_headers(house, lines, b"0\r\n\r\n" + SMUGGLED))
        assert 400 <= answer.status < 500
        answer.error()
        assert caller.is_closed()
    assert house.engine.asked == []


def test_names_with_an_underscore_frame_nothing(house: House) -> None:
    """``Content_Length`` is a header like any other here; it must not become a second length for the engine."""
    request = house.request("m", ("Content_Length", "0"), ("Transfer_Encoding", "chunked"))
    with house.caller() as caller:
        answer = caller.ask(request)
    if answer.status == 200:
        (asked,) = house.engine.asked
        assert not {"content_length", "transfer_encoding"} & {name for name, _ in asked.headers}
    else:
        assert 400 <= answer.status < 500


def test_what_a_body_holds_is_no_request(house: House) -> None:
    body = b'{"model":"m","messages":[],"x":"' + SMUGGLED.replace(b"\r\n", b"  ") + b'"}'
    with house.caller() as caller:
        assert caller.ask(house.head(("content-length", str(len(body)))) + body).body == PLAIN
    (asked,) = house.engine.asked
    assert asked.body == body


def test_a_request_id_cannot_bring_headers_along(house: House) -> None:
    with house.caller() as caller:
        answer = caller.ask(house.request("m", ("x-request-id", "a\x85b\xa0c"), ("x-other", "\xe9")))
        if answer.status == 200:
            assert (answer.header("x-request-id") or "").startswith("req_")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/predict/a%0d%0ax-injected:%201",
        "/v1/predict/a%20HTTP/1.1%0d%0a",
        "/v1/predict/m%00",
        "/v1/predict/../../x",
        "/v1/predict/m%3fa=b",
    ],
)
def test_a_model_in_a_path_cannot_bring_a_request_along(house: House, path: str) -> None:
    body = b'{"inputs":[1]}'
    with house.caller() as caller:
        answer = caller.ask(house.head(("content-length", str(len(body))), path=path) + body)
    assert 400 <= answer.status < 500
    answer.error()
    assert house.engine.asked == []


class TestAnswers:
    """An engine is not trusted either. ``connections``: those that the requests of the last ``ask`` came on."""

    connections: list[int]

    def ask(self, house: House, answer: bytes, *, end: bool = False, stream: bool = False) -> list[int]:
        """Statuses of two requests on one connection: the first is answered so, the second as it should be."""
        first = True

        async def play(link: Link, asked: Asked) -> None:
            nonlocal first
            if not first:
                await link.say(whole())
                return
            first = False
            await link.say(answer)
            if end:
                await link.end()

        with house.playing(play), house.caller() as caller:
            caller.send(house.request(house.fresh(), ("x-request-timeout", "0.1"), stream=stream))
            statuses = [caller.answer().status]
            statuses.append(self.next(house, caller))
            self.connections = [asked.connection for asked in house.engine.asked]
        return statuses

    def next(self, house: House, caller: Caller) -> int:
        answer = caller.ask(house.request("trio"))
        assert answer.body == PLAIN, "it got what was left of the one before"
        return answer.status

    @pytest.mark.parametrize(
        "answer",
        [
            whole().replace(b"content-type", b"transfer-encoding: chunked\r\ncontent-type"),
            whole(PLAIN, f"content-length: {len(PLAIN)}"),
            whole(PLAIN, "content-length: 3"),
            whole().replace(b"content-length: ", b"content-length: +"),
            whole().replace(b"content-length: ", b"content-length: -"),
            whole(PLAIN, "transfer-encoding: gzip").replace(b"content-length", b"x-length"),
            whole().replace(b"HTTP/1.1 200", b"HTTP/1.1 2000"),
            whole().replace(b"HTTP/1.1 200", b"HTTP/3.1 200"),
            whole().replace(b"HTTP/1.1 200", b"HTTP/1.1 099"),
            whole().replace(b"HTTP/1.1 200 OK", b"hello"),
            whole().replace(b"\r\n", b"\n"),
            whole(PLAIN, "x: a\0b"),
            whole(PLAIN, "x y: a"),
            whole(PLAIN, " folded"),
            in_chunks(end=b"g\r\n\r\n"),
            in_chunks(end=b"-1\r\n\r\n0\r\n\r\n"),
            in_chunks(end=b"ffffffffffffffffff\r\n\r\n"),
            b"HTTP/1.1 200 OK\r\nx: " + b"a" * (1 << 20),
            b"\0" * 5000,
        ],
        ids=range(19),
    )
    def test_what_is_no_http_is_an_engine_lost(self, house: House, answer: bytes) -> None:
        assert self.ask(house, answer, end=True) == [503, 200]

    @pytest.mark.parametrize(
        "extra", [b"X", b"\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", whole(b'{"evil":1}')]
    )
    def test_what_comes_after_an_answer_is_nobodys(self, house: House, extra: bytes) -> None:
        assert self.ask(house, whole() + extra) == [200, 200]
        assert len(set(self.connections)) == 2, "where that came from there may be more of it"

    def test_an_answer_that_comes_before_its_request_is_nobodys(self, house: House) -> None:
        async def eager(link: Link, asked: Asked) -> None:
            await link.say(whole() + whole(b'{"evil":1}'))

        with house.playing(eager), house.caller() as caller:
            for _ in range(20):
                assert caller.ask(house.request(house.fresh())).body == PLAIN

    @pytest.mark.parametrize("status", [100, 102, 103])
    def test_interim_answers_are_read_over(self, house: House, status: int) -> None:
        assert self.ask(house, b"HTTP/1.1 %d X\r\nx: y\r\n\r\n" % status * 2 + whole()) == [200, 200]

    def test_an_engine_cannot_switch_protocols(self, house: House) -> None:
        answer = b"HTTP/1.1 101 X\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nbytes"
        assert self.ask(house, answer, end=True) == [503, 200]

    @pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified", "301 Moved", "302 Found", "205 Reset"])
    def test_statuses_that_make_no_sense_here(self, house: House, status: str) -> None:
        """They neither hang nor leave bytes behind for the next one; what a caller sees is a status, framed right."""
        bodiless = f"HTTP/1.1 {status}\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n".encode()
        first, second = self.ask(house, bodiless)
        assert second == 200
        assert 200 <= first <= 599

    def test_headers_of_an_engine_stay_inside(self, house: House) -> None:
        given = ("set-cookie: a=b", "server: vllm", "x-engine: 1", "location: /x", "www-authenticate: x", "alt-svc: h3",
                 "access-control-allow-origin: *", "x-request-id: theirs", "strict-transport-security: x")  # fmt: skip

        async def talkative(link: Link, asked: Asked) -> None:
            await link.say(whole(PLAIN, *given))

        with house.playing(talkative), house.caller() as caller:
            answer = caller.ask(house.request())
        assert not {line.partition(":")[0] for line in given} - {"x-request-id"} & {name for name, _ in answer.headers}
        assert answer.header("x-request-id") != "theirs"


def test_broken_is_what_the_reader_of_answers_calls_a_cut_one(house: House) -> None:
    """The reader these tests trust does tell whole from cut."""

    async def cut(link: Link, asked: Asked) -> None:
        await link.say(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2000000\r\n\r\n" + b" " * 1_500_000
        )
        link.die()

    with house.playing(cut), house.caller() as caller, pytest.raises((Broken, ConnectionResetError)):
        caller.ask(house.request(house.fresh()))
