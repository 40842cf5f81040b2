"""What a tenant's single requests may be at most, beside what holds for all (``gateway.greed``). Pure."""

from __future__ import annotations

from gateway.endpoints import Endpoint
from gateway.errors import BodyTooLarge, InvalidRequest
from gateway.greed import CODE
from gateway.inquiry import Peek
from models.store.tenancy import Caps, TenantRecord

NO_CAPS = Caps()


def most_body_bytes(tenant: TenantRecord, most_bytes: int) -> int:
    """``most_bytes``: that the endpoint takes of anybody."""
    own = tenant.caps.max_body_bytes
    return most_bytes if own is None or own > most_bytes else own


def check_caps(tenant: TenantRecord, endpoint: Endpoint, peek: Peek, body: bytes) -> bytes:
    """The body, with the tenant's bound on its answer where it named none. Raises InvalidRequest, BodyTooLarge.

    To be asked where the tenant has caps at all. A prompt's tokens are as estimated before an engine counts them.
    """
    caps = tenant.caps
    if caps.max_body_bytes is not None and len(body) > caps.max_body_bytes:
        raise BodyTooLarge(caps.max_body_bytes)
    prompt_tokens, most = peek.tokens - peek.answer_tokens, caps.max_prompt_tokens
    if most is not None and endpoint.uses_tokens and prompt_tokens > most:
        raise InvalidRequest(
            f"The prompt is about {prompt_tokens} tokens long; your tenant may send {most}. Shorten it.",
            param=endpoint.prompt_field,
            code="prompt_above_limit",
        )
    most = caps.max_answer_tokens
    if most is None or not endpoint.bounds_answer:
        return body
    if not peek.bounded:
        return bounded(body, endpoint, most)
    return body
