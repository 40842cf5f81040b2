"""What receivers check with the libraries of standardwebhooks.com."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.billing.signing import headers
from models.store.house_edits import new_secret
from models.store.webhook_checks import SecretNotValid, secrets_of

# As in the specification's own example.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SIGNED = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_specifications_example() -> None:
    made = headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', secrets_of(SECRET))
    assert made == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": SIGNED,
    }


def test_while_a_secret_is_changed_both_sign() -> None:
    old, new = new_secret(), new_secret()
    signatures = headers("m", 1, b"body", secrets_of(f"{old} {new}"))["webhook-signature"].split(" ")
    for secret, signature in zip((old, new), signatures, strict=True):
        key = base64.b64decode(secret.removeprefix("whsec_"))
        expected = base64.b64encode(hmac.new(key, b"m.1.body", hashlib.sha256).digest()).decode()
        assert signature == f"v1,{expected}"


def test_what_the_documentation_says_receivers_do() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "tenants.md").read_text()
    (snippet,) = (
        block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "webhook-signature" in block
    )
    names: dict[str, Any] = {}
    exec(snippet, names)
    is_genuine, secret, now_s = names["is_genuine"], new_secret(), int(time.time())
    sent = headers("msg_1", now_s, b"body", secrets_of(f"{new_secret()} {secret}"))
    assert is_genuine(secret, sent, b"body")
    assert not is_genuine(secret, sent, b"another body")
    assert not is_genuine(new_secret(), sent, b"body")
    assert not is_genuine(secret, headers("msg_1", now_s - 3600, b"body", secrets_of(secret)), b"body"), "an old one"


def test_a_new_secret_is_one() -> None:
    assert [len(secret) for secret in secrets_of(new_secret())] == [32]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "needs a secret"),
        ("hunter2", "begins with whsec_"),
        ("whsec_!!!", "base64"),
        ("whsec_aGk=", "24 to 64 bytes, not 2"),
        (f"{SECRET} hunter2", "begins with whsec_"),
    ],
)
def test_what_is_none(text: str, said: str) -> None:
    with pytest.raises(SecretNotValid, match=said) as refused:
        secrets_of(text)
    assert "hunter2" not in str(refused.value)
