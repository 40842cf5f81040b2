"""R14: malformed anything gets a 4xx with the error object, never a 5xx, never a hang; and reaches no engine."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gateway.plane.protocol import malformed
from tests.gateway.plane.protocol.house import House, wait_until
from tests.gateway.plane.protocol.raw_engine import PLAIN
from tests.gateway.plane.protocol.wire import Broken, Caller, in_pieces

BAIT = b"GET /admin/v1/status HTTP/1.1\r\nhost: x\r\n\r\n"


def refused(caller: Caller) -> None:
    answer = caller.answer()
    assert 400 <= answer.status < 500, answer
    answer.error()
    assert answer.closing
    assert caller.is_closed(), "what comes after it must not be read as a request"


def check(house: House, request: bytes) -> None:
    """Alone, after a good one, and in pieces; each time something lies in wait behind it."""
    with house.caller() as caller:
        caller.send(request + BAIT)
        refused(caller)
    with house.caller() as caller:
        caller.send(house.request() + request + BAIT)
        assert caller.answer().body == PLAIN
        refused(caller)
    with house.caller() as caller:
        for piece in in_pieces(request + BAIT, range(0, 400, 5)):
            if caller.try_send(piece) < len(piece):
                break  # it has seen enough
        refused(caller)
    assert len(house.engine.asked) == 1, "only the good one got there"


@pytest.mark.parametrize("name", malformed.HEADS)
def test_a_malformed_head(house: House, name: str) -> None:
    check(house, malformed.heads(house.world.key)[name])


@pytest.mark.parametrize("name", malformed.BODIES)
def test_a_malformed_chunked_body(house: House, name: str) -> None:
    check(house, malformed.bodies(house.world.key)[name])


class TestSizes:
    def test_an_endless_request_line(self, house: House) -> None:
        with house.caller() as caller:
            caller.try_send(b"POST /" + b"a" * (1 << 20))
            refused(caller)

    def test_an_endless_header(self, house: House) -> None:
        with house.caller() as caller:
            caller.try_send(house.head()[:-2] + b"x: " + b"a" * (1 << 20))
            refused(caller)

    def test_endless_headers(self, house: House) -> None:
        with house.caller() as caller:
            caller.try_send(house.head()[:-2] + b"x: a\r\n" * (1 << 18))
            refused(caller)

    def test_a_head_of_a_usual_size_is_taken(self, house: House) -> None:
        with house.caller() as caller:
            assert caller.ask(house.request("m", *((f"x-{number}", "a" * 200) for number in range(60)))).body == PLAIN


class TestPaths:
    @pytest.mark.parametrize(
        "path", ["/v1/chat/completions/", "//v1/chat/completions", "/v1/../v1/chat/completions", "/V1/chat/completions"]
    )
    def test_only_the_path_itself_is_the_endpoint(self, house: House, path: str) -> None:
        request = house.request().replace(b"/v1/chat/completions", path.encode(), 1)
        with house.caller() as caller:
            answer = caller.ask(request)
        assert answer.status == 404
        answer.error()
        assert house.engine.asked == []

    @pytest.mark.parametrize("suffix", ["?api-version=1", "?", "#fragment", "?a=b#c", '?"|{}'])
    def test_a_query_changes_nothing(self, house: House, suffix: str) -> None:
        request = house.request().replace(b"completions ", b"completions" + suffix.encode() + b" ", 1)
        with house.caller() as caller:
            assert caller.ask(request).body == PLAIN

    @pytest.mark.parametrize("origin", ["http://gateway", "http://elsewhere:99", "HTTP://user:pass@elsewhere"])
    def test_an_absolute_target_is_ours_whatever_host_it_names(self, house: House, origin: str) -> None:
        """RFC 9112 section 3.2.2: to be accepted; it must not make a forward proxy of us."""
        request = house.request().replace(b"POST ", b"POST " + origin.encode(), 1)
        with house.caller() as caller:
            answer = caller.ask(request)
        if answer.status == 200:
            assert [asked.path for asked in house.engine.asked] == ["/v1/chat/completions"]
        else:
            assert 400 <= answer.status < 500
            answer.error()

    @pytest.mark.parametrize(
        "escaped", ["/v1%2fchat/completions", "/v1/chat/completions%00", "/v1/chat/completions%0d%0ax:%20y"]
    )
    def test_escapes_open_no_side_door(self, house: House, escaped: str) -> None:
        with house.caller() as caller:
            answer = caller.ask(house.request().replace(b"/v1/chat/completions", escaped.encode(), 1))
        if answer.status != 200:
            assert 400 <= answer.status < 500
            answer.error()
        assert {asked.path for asked in house.engine.asked} <= {"/v1/chat/completions"}


NOT_JSON = [
    b"",
    b" ",
    b"{",
    b"nul",
    b"[1]",
    b'"m"',
    b"7",
    b"\xff\xfe",
    b'{"model":"m"',
    b'{"model":"m"}}',
    b"{'model':'m'}",
    b"[" * 99_999,
]


@pytest.mark.parametrize("body", NOT_JSON, ids=range(len(NOT_JSON)))
def test_a_body_that_is_no_object(house: House, body: bytes) -> None:
    with house.caller() as caller:
        answer = caller.ask(house.head(("content-length", str(len(body)))) + body)
        assert answer.status == 400
        answer.error()
        assert caller.ask(house.request()).body == PLAIN, "the body was whole: the connection goes on"


def settle(caller: Caller, house: House) -> None:
    """Whatever was sent: each request has a whole answer and none is a 5xx; then nothing is left to say."""
    house.settled()
    wait_until(lambda: house.engine.answering == 0)
    house.settled()
    caller.half_close()
    problem = ""
    try:
        while not problem:
            answer = caller.answer("GET")  # bodies are read by their framing
            problem = "" if answer.status < 500 else str(answer)
    except Broken as end:
        problem = "" if "after b''" in str(end) else str(end)  # it may close between answers, not inside one
    except ConnectionResetError:
        pass
    assert not problem
    assert house.engine.nonsense == []


VALID = b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n"
KEYED = b"authorization: Bearer KEY\r\n"
TOKENS = [
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b";", b",", b"%", b"chunked", b"content-length: 5\r\n",
    b"0\r\n\r\n", b"transfer-encoding: chunked\r\n", b"5\r\nhello\r\n", b"HTTP/1.1", b"POST / ", b"\xff",
    b'{"model":"m"}', b"expect: 100-continue\r\n", b"connection: close\r\n", b"upgrade: websocket\r\n", b"host: x\r\n",
    b"http://",
]  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.sampled_from(TOKENS), st.binary(max_size=12)), max_size=12), st.booleans())
def test_any_bytes(house: House, parts: list[bytes], good_start: bool) -> None:
    start = VALID + KEYED.replace(b"KEY", house.world.key.encode()) if good_start else b""
    with house.caller() as caller:
        caller.try_send(start + b"".join(parts))
        settle(caller, house)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_good_request_with_a_few_bytes_changed(house: House, data: st.DataObject) -> None:
    request = bytearray(house.request(stream=data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(request) - 1))
        cut = data.draw(st.integers(0, 4))
        request[at : at + cut] = data.draw(st.one_of(st.sampled_from(TOKENS), st.binary(max_size=3)))
    with house.caller() as caller:
        caller.try_send(bytes(request))
        settle(caller, house)
