"""``roundhouse keys hash``: a line for keys.yaml of the gateway on its own. Reads and writes no store."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from gateway.cli.errors import AskedWrongly
from gateway.cli.options import Json
from gateway.cli.output import say, show_json, show_text

New = Annotated[
    str | None,
    typer.Option("--new", metavar="NAME", help="Make a key for NAME instead of asking for one", show_default=False),
]


def show_hash(new: New = None, json: Json = False) -> None:
    """The hash of a key, for `roundhouse gateway --keys`. The key is asked for, or read from stdin."""
    if new is None:
        _of_given(json)
    else:
        _of_new(new, json)


def _of_given(json: bool) -> None:
    from models.store.api_keys import hash_key

    text = _ask()
    if not text or any(character.isspace() for character in text):
        said = "no key was given" if not text else "a key has no spaces in it"
        raise AskedWrongly(said, code="key_refused", cure="roundhouse keys hash < FILE, FILE with the key alone")
    digest = hash_key(text)
    if json:
        show_json({"hash": digest})
    else:
        show_text(digest)


def _of_new(name: str, json: bool) -> None:
    from models.store.api_keys import KeyRefused, build_key

    try:
        made = build_key(name, ("inference",), time.time())
    except KeyRefused as refused:
        raise AskedWrongly(str(refused), code="key_refused") from None
    if json:
        show_json({"name": made.record.name, "key": made.text, "hash": made.digest})
        return
    say("This is the only time the key is shown. Under keys: in keys.yaml:")
    say(f"  - name: {_quoted(made.record.name)}\n    hash: {made.digest}")
    show_text(made.text)


def _ask() -> str:
    if sys.stdin is not None and sys.stdin.isatty():
        import getpass

        return getpass.getpass("Key: ").strip()
    return (sys.stdin.readline() if sys.stdin is not None else "").strip()


def _quoted(text: str) -> str:
    """As YAML takes it, whatever is in it."""
    import json

    return json.dumps(text, ensure_ascii=False)
