"""How requests may be framed, and what of them reaches an engine."""

from __future__ import annotations

import gzip
import json

import pytest

from tests.gateway.plane.protocol.house import House
from tests.gateway.plane.protocol.raw_engine import EVENTS, PLAIN
from tests.gateway.plane.protocol.wire import chunked, head
from tests.gateway.world import chat_body

BODY = json.dumps(chat_body("m")).encode()
HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "proxy-connection",
    "proxy-authorization",
    "expect",
}


@pytest.mark.parametrize(
    "body",
    [
        chunked(BODY),
        chunked(BODY, 1),
        chunked(BODY, 10, 3, 40, 1),
        b"%X\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
        b"0000%x\r\n%b\r\n000\r\n\r\n" % (len(BODY), BODY),
        b"%x;a\r\n%b\r\n0;b=c\r\n\r\n" % (len(BODY), BODY),
        b'%x;quoted="semi; colon \\" quote"\r\n%b\r\n0\r\n\r\n' % (len(BODY), BODY),
        chunked(BODY, end=b"0\r\nx-checksum: abc\r\nx-more: 1\r\n\r\n"),
    ],
    ids=["one", "bytes", "many", "upper case", "leading zeros", "extensions", "quoted extension", "trailers"],
)
def test_a_body_in_chunks_goes_on_with_its_length(house: House, body: bytes) -> None:
    with house.caller() as caller:
        for _ in range(2):  # the connection is where it should be afterwards
            answer = caller.ask(house.head(("Transfer-Encoding", "Chunked")) + body)
            assert (answer.status, answer.body) == (200, PLAIN)
    for asked in house.engine.asked:
        assert asked.body == BODY
        assert asked.header("content-length") == str(len(BODY))
        assert asked.header("x-checksum") is None


def test_the_engine_gets_the_path_one_host_and_no_secret(house: House) -> None:
    headers = [
        (name.title(), "x-own, close" if name == "connection" else "trailers")
        for name in HOP_BY_HOP - {"expect", "upgrade"}
    ]
    with house.caller() as caller:
        assert (
            caller.ask(house.request("m", *headers, ("X-Own", "hop"), ("X-Kept", "a  b"), ("Cookie", "c=d"))).status
            == 200
        )
    (asked,) = house.engine.asked
    assert (asked.method, asked.path) == ("POST", "/v1/chat/completions")
    names = [name for name, _ in asked.headers]
    assert names.count("host") == names.count("content-length") == names.count("x-request-id") == 1
    assert asked.header("x-kept") == "a  b"
    assert asked.header("host") != "gateway"
    assert not HOP_BY_HOP & {*names}
    assert not {"authorization", "cookie", "x-own"} & {*names}
    assert house.world.key not in str(asked.headers)


def test_what_a_caller_may_not_tell_an_engine_about_itself(house: House) -> None:
    told = [
        ("X-Forwarded-For", "1.2.3.4"),
        ("Forwarded", "for=1.2.3.4"),
        ("X-Data-Parallel-Rank", "3"),
        ("X-Api-Key", "k"),
    ]
    with house.caller() as caller:
        assert caller.ask(house.request("m", *told)).status == 200
    assert not {name.lower() for name, _ in told} & {name for name, _ in house.engine.asked[0].headers}


class TestExpectContinue:
    def test_a_body_is_asked_for_and_then_sent(self, house: House) -> None:
        request_head = house.head(("content-length", str(len(BODY))), ("Expect", "100-continue"))
        with house.caller() as caller:
            caller.send(request_head)
            house.settled()
            assert caller.reader.socket.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert caller.ask(BODY).body == PLAIN
        assert house.engine.asked[0].header("expect") is None

    def test_also_for_chunks(self, house: House) -> None:
        with house.caller() as caller:
            caller.send(house.head(("transfer-encoding", "chunked"), ("Expect", "100-Continue")))
            house.settled()
            answer = caller.ask(chunked(BODY, 9))
        assert (answer.interim, answer.body) == ((100,), PLAIN)

    def test_a_caller_who_does_not_wait_is_served_as_well(self, house: House) -> None:
        request_head = house.head(("content-length", str(len(BODY))), ("Expect", "100-continue"))
        with house.caller() as caller:
            for _ in range(2):
                assert caller.ask(request_head + BODY).body == PLAIN

    def test_an_unknown_key_is_refused_before_the_body(self, house: House) -> None:
        kind = ("content-type", "application/json")
        with house.caller() as caller:
            answer = caller.ask(
                head(kind, ("content-length", "5"), ("expect", "100-continue"), ("authorization", "Bearer x"))
            )
            assert (answer.status, answer.interim) == (401, ())
            answer.error()
            # What the caller sends now may be the body or its next request: nobody can tell.
            assert answer.closing
            assert caller.is_closed()

    def test_an_unknown_path_is_not_found_whether_the_body_comes_or_not(self, house: House) -> None:
        with house.caller() as caller:
            answer = caller.ask(head(("content-length", "5"), ("expect", "100-continue"), path="/v1/nothing"))
            assert answer.status == 404
            if not answer.closing:
                assert answer.interim == (100,), "it was asked for the body: then it is read over"
                assert caller.ask(b"12345" + house.request()).body == PLAIN

    def test_a_body_that_is_too_large_is_not_asked_for(self, house: House) -> None:
        with house.caller() as caller:
            answer = caller.ask(house.head(("content-length", str(1 << 30)), ("expect", "100-continue")))
        assert (answer.status, answer.interim) == (413, ())

    def test_other_expectations_are_refused(self, house: House) -> None:
        with house.caller() as caller:
            answer = caller.ask(house.request("m", ("Expect", "miracles")))
        assert 400 <= answer.status < 500
        answer.error()


class TestOldAndOtherVersions:
    def old(self, house: House, *headers: str) -> bytes:
        lines = [f"authorization: Bearer {house.world.key}", "content-type: application/json", *headers]
        return (
            f"POST /v1/chat/completions HTTP/1.0\r\n{chr(10).join(lines)}".replace("\n", "\r\n")
            .replace("\r\r", "\r")
            .encode()
            + b"\r\n\r\n"
        )

    def test_http_1_0_gets_one_answer_and_the_end_of_the_connection(self, house: House) -> None:
        with house.caller() as caller:
            answer = caller.ask(self.old(house, f"content-length: {len(BODY)}") + BODY)
            assert (answer.status, answer.body) == (200, PLAIN)
            assert caller.is_closed()

    def test_a_stream_for_http_1_0_is_not_chunked(self, house: House) -> None:
        body = json.dumps(chat_body("m", stream=True)).encode()
        with house.caller() as caller:
            answer = caller.ask(self.old(house, f"content-length: {len(body)}") + body)
            assert (answer.status, answer.body, answer.chunks) == (200, b"".join(EVENTS), None)

    @pytest.mark.parametrize("version", ["HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/9.9"])
    def test_versions_that_nobody_speaks_here(self, house: House, version: str) -> None:
        with house.caller() as caller:
            answer = caller.ask(house.request().replace(b"HTTP/1.1", version.encode(), 1))
            assert 400 <= answer.status < 500
            answer.error()
            assert caller.is_closed()

    def test_the_preface_of_http_2_is_no_request(self, house: House) -> None:
        with house.caller() as caller:
            answer = caller.ask(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
            assert 400 <= answer.status < 500
            assert caller.is_closed()


class TestMethods:
    def test_head_of_a_document_has_its_length_and_no_body(self, house: House) -> None:
        with house.caller() as caller:
            full = caller.ask(head(method="GET", path="/health"), "GET")
            answer = caller.ask(head(method="HEAD", path="/health"), "HEAD")
            assert (answer.status, answer.header("content-length")) == (200, str(len(full.body)))
            assert caller.ask(house.request()).body == PLAIN, "the connection goes on"

    def test_head_of_an_inference_path(self, house: House) -> None:
        with house.caller() as caller:
            assert caller.ask(house.head(method="HEAD"), "HEAD").status == 405
            assert caller.ask(house.request()).body == PLAIN

    def test_options_says_what_is_allowed(self, house: House) -> None:
        with house.caller() as caller:
            answer = caller.ask(head(method="OPTIONS"), "OPTIONS")
            assert answer.status in (200, 204)
            assert {"POST", "OPTIONS"} <= {word.strip() for word in (answer.header("allow") or "").split(",")}
            assert caller.ask(house.request()).body == PLAIN

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
    def test_other_methods(self, house: House, method: str) -> None:
        with house.caller() as caller:
            answer = caller.ask(house.head(method=method), method)
            assert (answer.status, answer.error()["code"]) == (405, "method_not_allowed")
            assert "POST" in (answer.header("allow") or "")

    def test_nobody_is_connected_through(self, house: House) -> None:
        with house.caller() as caller:
            answer = caller.ask(house.head(method="CONNECT"), "GET")
            assert 400 <= answer.status < 500
            answer.error()
        assert house.engine.asked == []

    def test_a_get_with_a_body_leaves_the_connection_usable_or_closes_it(self, house: House) -> None:
        with house.caller() as caller:
            answer = caller.ask(head(("content-length", "4"), method="GET", path="/health") + b"body", "GET")
            assert answer.status == 200
            if not answer.closing:
                assert caller.ask(house.request()).body == PLAIN


class TestCompressedBodies:
    def send(self, house: House, body: bytes, coding: str = "gzip") -> int:
        with house.caller() as caller:
            answer = caller.ask(house.head(("content-length", str(len(body))), ("content-encoding", coding)) + body)
        if answer.status != 200:
            answer.error()
        return answer.status

    def test_the_engine_gets_it_unpacked(self, house: House) -> None:
        assert self.send(house, gzip.compress(BODY)) == 200
        (asked,) = house.engine.asked
        assert asked.body == BODY
        assert asked.header("content-encoding") is None

    def test_in_chunks(self, house: House) -> None:
        with house.caller() as caller:
            request = house.head(("transfer-encoding", "chunked"), ("content-encoding", "gzip"))
            assert caller.ask(request + chunked(gzip.compress(BODY), 5)).status == 200
        assert house.engine.asked[0].body == BODY

    def test_broken_cut_and_nonsense(self, house: House) -> None:
        packed = gzip.compress(BODY)
        flipped = packed[:-8] + bytes(byte ^ 0xFF for byte in packed[-8:])
        for body in (packed[:-1], packed[:20], flipped, b"no gzip", packed + b"after it"):
            assert self.send(house, body) == 400, body
        assert house.engine.asked == []

    def test_a_bomb_is_too_large(self, house: House) -> None:
        assert self.send(house, gzip.compress(b'{"model":"m"' + b" " * (64 << 20) + b"}")) == 413
        assert house.engine.asked == []

    @pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "compress", "x-unknown"])
    def test_codings_that_are_not_understood(self, house: House, coding: str) -> None:
        assert self.send(house, b"xxxx", coding) == 415
