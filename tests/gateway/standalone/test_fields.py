"""URLs, headers and prices as people write them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.standalone.fields import check_header_name, check_header_value, check_name, endpoint_of, exact_decimal
from models.catalog.errors import WrongValue


@pytest.mark.parametrize(("written", "endpoint"), [
    ("unix:/run/a.sock", "unix:/run/a.sock"),
    ("unix:///run/a.sock", "unix:/run/a.sock"),
    ("http://10.0.0.5:8000", "http://10.0.0.5:8000"),
    ("http://localhost", "http://localhost"),
    ("https://Api.Example.com", "https://api.example.com"),
    ("https://host:443/a", "https://host/a"),
    ("http://host:443", "http://host:443"),
    ("http://host:8000/", "http://host:8000"),
    ("http://host:8000/v1", "http://host:8000"),
    ("http://host:8000/v1/", "http://host:8000"),
    ("https://host/api/v1", "https://host/api"),
    ("https://host/openai", "https://host/openai"),
    ("http://[::1]:8000/v1", "http://[::1]:8000"),
])  # fmt: skip
def test_an_upstream_is_named_as_routes_do(written: str, endpoint: str) -> None:
    assert endpoint_of(written) == endpoint
    assert endpoint_of(endpoint) == endpoint, "written once more it is the same"


@pytest.mark.parametrize(("written", "about"), [
    ("unix:run/a.sock", "whole path"),
    ("unix:/" + "a" * 107, "too long"),
    ("unix:/a\nb", "whole path"),
    ("tcp://host:1", "not a URL"),
    ("host:8000", "not a URL"),
    ("http://", "not a URL"),
    ("http://host:port", "not a URL"),
    ("http://host:99999", "not a URL"),
    ("http://host:0", "not a URL"),
    ("http://ho st", "characters"),
    ("http://host/a b", "characters"),
    ("http://host/a\r\nx: y", "URL"),
    ("http://host/a?key=hunter2", "query"),
    ("http://host#hunter2", "fragment"),
    ("http://me:hunter2@host", "password"),
    ("http://me:hunter2@host:nonsense", "not a URL"),
    ("", "not a URL"),
])  # fmt: skip
def test_what_is_no_upstream_is_refused_without_its_secrets(written: str, about: str) -> None:
    with pytest.raises(WrongValue) as refused:
        endpoint_of(written)
    assert about in refused.value.message
    assert refused.value.cure
    assert "hunter2" not in str(refused.value)


@given(st.text(max_size=40))
def test_whatever_is_written_as_url_never_brings_line_ends_into_a_request(rest: str) -> None:
    for scheme in ("http://h", "https://", "unix:/", ""):
        try:
            endpoint = endpoint_of(scheme + rest)
        except WrongValue:
            continue
        assert endpoint.isprintable()
        assert endpoint.startswith("unix:") or endpoint.isascii()
        assert endpoint.startswith("unix:") or " " not in endpoint


@pytest.mark.parametrize("name", ["llama3:8b", "org/model-1.5@rev+x", "a", "m" * 128])
def test_names_that_upstreams_use(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a/../b", "a//b", "a b", "ä", "m" * 129, "a/"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(WrongValue, match="not a model's name"):
        check_name(name)


def test_headers_of_an_upstream() -> None:
    assert check_header_name("X-Team") == "x-team"
    assert check_header_value("a, b") == "a, b"
    for name in ("Host", "content-length", "Transfer-Encoding", "Connection", "x-request-id"):
        with pytest.raises(WrongValue, match="set by the gateway itself"):
            check_header_name(name)
    for name in ("", "a b", "a:", "a\n", "ü"):
        with pytest.raises(WrongValue, match="not the name of a header"):
            check_header_name(name)


@pytest.mark.parametrize(
    "value", ["hunter2\r\nx: y", "hunter2\n", "hunter2\x00", "hunter2é", " hunter2", "hunter2" * 2000, 4, ["hunter2"]]
)
def test_a_value_that_is_no_header_is_refused_and_not_shown(value: object) -> None:
    with pytest.raises(WrongValue, match="this header") as refused:
        check_header_value(value)
    assert "hunter2" not in str(refused.value)


@given(st.text() | st.binary() | st.integers())
def test_no_value_can_end_a_header_line(value: object) -> None:
    try:
        taken = check_header_value(value)
    except WrongValue:
        return
    assert taken.isascii()
    assert taken.isprintable()


@pytest.mark.parametrize(("written", "price"), [
    ("0.0000025", "0.0000025"), (2e-07, "0.0000002"), (3, "3"), ("1e-3", "0.001"), (0, "0"),
])  # fmt: skip
def test_prices_are_exact(written: object, price: str) -> None:
    assert exact_decimal(written) == price


@pytest.mark.parametrize("written", ["abc", "-1", "nan", "inf", True, None, [], "1e-40", 10**12, "1e999999"])
def test_what_is_no_price(written: object) -> None:
    with pytest.raises(WrongValue, match="not a price"):
        exact_decimal(written)


@given(st.decimals(min_value=0, max_value=10**8, allow_nan=False, places=12))
def test_a_price_is_kept_to_its_last_digit(amount: Decimal) -> None:
    assert Decimal(exact_decimal(str(amount))) == amount
