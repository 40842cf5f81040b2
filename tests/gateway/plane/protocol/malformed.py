"""Requests that are no HTTP/1.1: what parsers are known to disagree on, by the rule of RFC 9112 that each breaks.

The kinds are those that llhttp's own tests list (test/request: invalid, method, uri, content-length,
transfer-encoding). ``\\n`` stands for CR LF here; a bare LF is written as ``<LF>``, and so are other bytes.
"""

from __future__ import annotations

import re

# Name -> the request; {key} is a good key, {path} an inference path. Each must be refused with a 4xx, and the
# connection closed: what follows it cannot be told from its body any more.
_TEMPLATES: dict[str, str] = {
    # The request line
    "another protocol": "POST {path} ICE/1.0\n",
    "a protocol that begins alike": "POST {path} HTTPX/1.1\n",
    "RTSP": "POST {path} RTSP/1.0\n",
    "lower-case protocol": "POST {path} http/1.1\n",
    "no minor version": "POST {path} HTTP/1\n",
    "no dot in the version": "POST {path} HTTP/11\n",
    "two digits of major version": "POST {path} HTTP/01.1\n",
    "two digits of minor version": "POST {path} HTTP/1.01\n",
    "a version nobody has": "POST {path} HTTP/5.6\n",
    "letters for a version": "POST {path} HTTP/a.b\n",
    "no version": "POST {path}\n",
    "words after the version": "POST {path} HTTP/1.1 please\n",
    "two spaces before the version": "POST {path}  HTTP/1.1x\n",
    "a space in the path": "POST {path} or so HTTP/1.1\n",
    "a tab for the first space": "POST<HT>{path} HTTP/1.1\n",
    "no path": "POST HTTP/1.1\n",
    "an empty path": "POST  HTTP/1.1\n",
    "a path without a slash": "POST v1/chat/completions HTTP/1.1\n",
    "a backslash for a slash": "POST \\v1\\chat\\completions HTTP/1.1\n",
    "bytes above 127 in the path": "POST {path}<C3><A9> HTTP/1.1\n",
    "a NUL in the path": "POST {path}<NUL> HTTP/1.1\n",
    "a control character in the path": "POST {path}<01> HTTP/1.1\n",
    "DEL in the path": "POST {path}<7F> HTTP/1.1\n",
    "a bare CR in the path": "POST {path}<CR>x HTTP/1.1\n",
    "a percent escape that is no UTF-8": "POST {path}%ff HTTP/1.1\n",
    "a space before the method": " POST {path} HTTP/1.1\n",
    "an unknown method": "BREW {path} HTTP/1.1\n",
    "a method that begins like one": "POSTA {path} HTTP/1.1\n",
    "half a method": "POS {path} HTTP/1.1\n",
    "a lower-case method": "post {path} HTTP/1.1\n",
    "a method with a control character": "PO<01>ST {path} HTTP/1.1\n",
    "a method of another protocol": "ANNOUNCE {path} HTTP/1.1\n",
    "CONNECT with an authority": "CONNECT gateway:443 HTTP/1.1\n",
    "an authority for a target": "POST gateway:80 HTTP/1.1\n",
    "a star for a target": "POST * HTTP/1.1\n",
    "an absolute target without a host": "POST http:///v1/chat/completions HTTP/1.1\n",
    "an absolute target of another scheme": "POST ftp://gateway{path} HTTP/1.1\n",
    "a bare LF after the request line": "POST {path} HTTP/1.1<LF>host: x\n",
    "a bare CR after the request line": "POST {path} HTTP/1.1<CR>host: x\n",
    "a space before the first header": "POST {path} HTTP/1.1\n host: x\n",
    "TLS on a plain port": "<16><03><01><02><00><01><00><01><FC><03><03>\n",
    "binary noise": "<00><FF><FE><80>\n",
    "only a colon": ":\n",
    # Header names
    "an at sign in a name": "{start}fo@: bar\n",
    "a control character in a name": "{start}foo<01>test: bar\n",
    "a NUL in a name": "{start}f<NUL>oo: bar\n",
    "no name": "{start}: bar\n",
    "a header without a colon": "{start}just words\n",
    "a space in a name": "{start}foo bar: 1\n",
    "a space before the colon": "{start}foo : 1\n",
    "a tab before the colon": "{start}foo<HT>: 1\n",
    "a name broken by a CR": "{start}connection<CR><1B>5<D5>eep-alive\nx: 1\n",
    "bytes above 127 in a name": "{start}f<C3><A9>: 1\n",
    "a name on two lines": "{start}name\n : value\n",
    # Header values
    "a value folded": "{start}foo: bar\n baz\n",
    "a value folded with a tab": "{start}foo: bar\n<HT>baz\n",
    "a length hidden in a fold": "{start}foo: bar\n content-length: 38\n",
    "headers separated by LF": "{start}foo: 1<LF>bar: 2\n",
    "headers separated by CR": "{start}foo: 1<CR>bar: 2\n",
    "an empty value ended by LF": "{start}foo:<LF>bar: 2\n",
    "an empty value ended by CR": "{start}foo:<CR>bar: 2\n",
    "a CR and a letter for the blank line": "{start}<CR>ZGET /evil HTTP/1.1\nhost: a\n",
    "a NUL in a value": "{start}foo: a<NUL>b\n",
    "a control character in a value": "{start}foo: a<01>b\n",
    "DEL in a value": "{start}foo: a<7F>b\n",
    "only LFs": "POST {path} HTTP/1.1<LF>host: x<LF><LF>",
    # Host
    "no host": "POST {path} HTTP/1.1\n",
    "two hosts": "{start}host: other\n",
    # Content-Length
    "an empty length": "{start}content-length:\n",
    "a length of spaces": "{start}content-length:   \n",
    "a negative length": "{start}content-length: -1\n",
    "a signed length": "{start}content-length: +5\n",
    "a length with a space in it": "{start}content-length: 4 2\n",
    "a length with a comma": "{start}content-length: 5, 5\n",
    "a length in hexadecimal": "{start}content-length: 0x5\n",
    "a length with a point": "{start}content-length: 5.0\n",
    "a length with an underscore": "{start}content-length: 1_0\n",
    "a length in another script": "{start}content-length: <D9><A1>\n",
    "a length beyond 64 bits": "{start}content-length: 1000000000000000000000\n",
    "a length that wraps around": "{start}content-length: 18446744073709551621\n",
    "two equal lengths": "{start}content-length: 5\ncontent-length: 5\n",
    "two different lengths": "{start}content-length: 1\nContent-Length: 2\n",
    # Transfer-Encoding
    "a length and chunks": "{start}content-length: 5\ntransfer-encoding: chunked\n",
    "chunks and a length": "{start}transfer-encoding: chunked\ncontent-length: 5\n",
    "an empty coding and a length": "{start}transfer-encoding:\ncontent-length: 5\n",
    "an empty coding": "{start}transfer-encoding:\n",
    "identity and a length": "{start}transfer-encoding: identity\ncontent-length: 5\n",
    "pigeons": "{start}transfer-encoding: pigeons\n",
    "chunked twice in a word": "{start}transfer-encoding: chunkedchunked\n",
    "chunked twice": "{start}transfer-encoding: chunked, chunked\n",
    "chunked twice, in two headers": "{start}transfer-encoding: chunked\ntransfer-encoding: chunked\n",
    "chunked not last": "{start}transfer-encoding: chunked, deflate\n",
    "chunked not last, in two headers": "{start}transfer-encoding: chunked\ntransfer-encoding: identity\n",
    "a coding before chunked": "{start}transfer-encoding: gzip, chunked\n",
    "chunked in quotes": '{start}transfer-encoding: "chunked"\n',
    "chunked with a parameter": "{start}transfer-encoding: chunked;q=1\n",
    "chunked after a vertical tab": "{start}transfer-encoding: <0B>chunked\n",
    "chunked behind a NUL": "{start}transfer-encoding: chunked<NUL>\n",
    "chunked in a fold": "{start}transfer-encoding:\n chunked\n",
    "chunked with a space before the colon": "{start}transfer-encoding : chunked\n",
    "chunks for HTTP/1.0": "POST {path} HTTP/1.0\nhost: x\ntransfer-encoding: chunked\n",
    "an underscore in one of three lengths": "{start}content_length: 3\ncontent-length: 5\ncontent-length: 6\n",
}
# A good head, and a chunked body that is none.
_BODIES: dict[str, str] = {
    "no hexadecimal size": "g\nhello\n0\n\n",
    "no size": "\nhello\n0\n\n",
    "a negative size": "-5\nhello\n0\n\n",
    "a signed size": "+5\nhello\n0\n\n",
    "0x before the size": "0x5\nhello\n0\n\n",
    "a space before the size": " 5\nhello\n0\n\n",
    "an underscore in the size": "1_0\n0123456789abcdef\n0\n\n",
    "a size that wraps around": "10000000000000005\nhello\n0\n\n",
    "a size of seventeen digits": "ffffffffffffffff1\nhello\n0\n\n",
    "words after the size": "5 words\nhello\n0\n\n",
    "a bare LF after the size": "5<LF>hello\n0\n\n",
    "a bare CR after the size": "5<CR>hello\n0\n\n",
    "a chunk longer than its size": "4\nhello\n0\n\n",
    "a chunk followed by LF": "5\nhello<LF>0\n\n",
    "a chunk followed by nothing": "5\nhello0\n\n",
    "a NUL in an extension": "5;a=<NUL>\nhello\n0\n\n",
    "a bare CR in an extension": "5;a<CR>b\nhello\n0\n\n",
    "a bare LF in an extension": "5;a<LF>b\nhello\n0\n\n",
    "an endless extension": f"5;{'a' * 70_000}\nhello\n0\n\n",
    "an endless size": f"{'0' * 70_000}5\nhello\n0\n\n",
    "endless trailers": "5\nhello\n0\n" + "x-trailer: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n" * 2000 + "\n",
    "a bare LF for the last line": "5\nhello\n0\n<LF>",
}
_NAMED = {"NUL": 0, "HT": 9, "LF": 10, "CR": 13}


def _bytes(text: str, key: str) -> bytes:
    path = "/v1/chat/completions"
    start = f"POST {path} HTTP/1.1\nhost: gateway\nauthorization: Bearer {key}\ncontent-type: application/json\n"
    filled = text.replace("{start}", start).replace("{path}", path).replace("\n", "\r\n")
    raw = filled.encode()
    return re.sub(rb"<([A-Z]{2,3}|[0-9A-F]{2})>", lambda found: bytes((_code(found[1].decode()),)), raw)


def _code(name: str) -> int:
    return _NAMED[name] if name in _NAMED else int(name, 16)


def _whole(name: str, text: str, key: str) -> bytes:
    raw = _bytes(text, key)
    with_host = b"" if name == "no host" or b"host:" in raw else b"host: gateway\r\n"
    return raw if raw.endswith((b"\n\n", b"\r\n\r\n")) else raw + with_host + b"\r\n"


def heads(key: str) -> dict[str, bytes]:
    return {name: _whole(name, text, key) for name, text in _TEMPLATES.items()}


def bodies(key: str) -> dict[str, bytes]:
    start = _bytes("{start}transfer-encoding: chunked\n\n", key)
    return {name: start + _bytes(text, key) for name, text in _BODIES.items()}


HEADS, BODIES = tuple(_TEMPLATES), tuple(_BODIES)
