"""What a tenant's single requests may be at most, beside what holds for all (``gateway.greed``). Pure."""

from __future__ import annotations

import msgspec

from gateway.endpoints import Endpoint
from gateway.errors import BodyTooLarge, InvalidRequest
from gateway.greed import CODE
from gateway.inquiry import Peek
from models.store.tenancy import Caps, TenantRecord

# By the endpoint's name: in which field a caller bounds the answer. What is not here has no answer of that kind.
ANSWER_FIELDS = {
    "chat.completions": "max_tokens",
    "completions": "max_tokens",
    "responses": "max_output_tokens",
    "messages": "max_tokens",
}
UNSAID = {"completions": 16}  # what OpenAI's API gives where the field is missing


def most_body_bytes(tenant: TenantRecord, most_bytes: int) -> int:
    """``most_bytes``: that are taken of anybody there."""
    own = tenant.caps.max_body_bytes
    return most_bytes if own is None or own > most_bytes else own


def check_caps(caps: Caps, endpoint: Endpoint, peek: Peek, body: bytes) -> bytes:
    """The body, with the cap as its bound where it names none. Raises InvalidRequest, BodyTooLarge.

    To be asked only of a tenant that has caps. A prompt's tokens are as estimated before an engine counts them.
    """
    most = caps.max_body_bytes
    if most is not None and len(body) > most:
        raise BodyTooLarge(most)
    check_prompt(caps, endpoint, peek)
    field, most = ANSWER_FIELDS.get(endpoint.name), caps.max_answer_tokens
    if field is None or most is None:
        return body
    if not peek.bounded:
        return _bounded(body, field, min(most, UNSAID.get(endpoint.name, most)))
    if peek.answer_tokens > most * peek.choices * peek.prompts:
        raise InvalidRequest(
            f"The parameter '{field}' is above the {most} tokens that your tenant may ask for.", param=field, code=CODE
        )
    return body


def check_prompt(caps: Caps, endpoint: Endpoint, peek: Peek) -> None:
    """Raises InvalidRequest."""
    prompt_tokens, most = peek.tokens - peek.answer_tokens, caps.max_prompt_tokens
    if most is not None and endpoint.uses_tokens and prompt_tokens > most:
        raise InvalidRequest(
            f"The prompt has about {prompt_tokens} tokens; your tenant may send {most}. Shorten it.",
            param=endpoint.prompt_field,
            code="prompt_above_limit",
        )


def _bounded(body: bytes, field: str, most: int) -> bytes:
    """Of two fields with one name engines read the last; here there is one, and no other word for it."""
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    fields.pop("max_completion_tokens", None)
    fields[field] = msgspec.Raw(b"%d" % most)
    return msgspec.json.encode(fields)
