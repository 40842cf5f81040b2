"""The one error tree of the gateway. Status, OpenAI ``type`` and ``code`` live on the classes.

``gateway.dialects`` writes them out. Messages are read by callers: they name what was wrong and what to do, and never a
key, a path of this machine or a traceback.
"""

from __future__ import annotations

import math
from collections.abc import Iterable


class GatewayError(Exception):
    """An answer that is not a success. ``retry_after_s`` becomes the Retry-After header (whole seconds, at least 1)."""

    status: int = 500
    type: str = "server_error"
    code: str | None = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        if code is not None:
            self.code = code

    def headers(self) -> list[tuple[str, str]]:
        if self.retry_after_s is None:
            return []
        return [("retry-after", str(max(1, math.ceil(self.retry_after_s))))]


class InvalidRequest(GatewayError):
    status = 400
    type = "invalid_request_error"
    code: str | None = "invalid_request"


class UnsupportedEndpoint(InvalidRequest):
    """The model exists, but its engine does not offer this endpoint."""

    code = "unsupported_endpoint"


class Unauthorized(GatewayError):
    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"

    def headers(self) -> list[tuple[str, str]]:
        return [("www-authenticate", 'Bearer realm="roundhouse"')]


class Forbidden(GatewayError):
    status = 403
    type = "invalid_request_error"
    code = "insufficient_permissions"


class AddressBlocked(Forbidden):
    """An operator blocked the address that it comes from. ``left_s``: None for good."""

    code = "address_blocked"

    def __init__(self, left_s: float | None = None) -> None:
        super().__init__(f"Requests from your address are not taken{_for(left_s)}. Ask the operator of this server.")
        self.retry_after_s = left_s


class KeyBlocked(Forbidden):
    """An operator blocked this key. ``left_s``: None for good."""

    code = "key_blocked"

    def __init__(self, left_s: float | None = None) -> None:
        super().__init__(f"This API key is blocked{_for(left_s)}. Ask the operator of this server.")
        self.retry_after_s = left_s


class NotFound(GatewayError):
    status = 404
    type = "invalid_request_error"
    code = "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"

    def __init__(self, name: str, message: str | None = None) -> None:
        super().__init__(
            message or f"The model '{name[:200]}' does not exist. GET /v1/models lists what there is.",
            param="model",
        )


class MethodNotAllowed(GatewayError):
    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"

    def __init__(self, method: str, path: str, allowed: Iterable[str]) -> None:
        self.allowed = ", ".join(sorted(set(allowed)))
        super().__init__(f"{path[:200]} does not take {method[:20]}. Allowed: {self.allowed}.")

    def headers(self) -> list[tuple[str, str]]:
        return [("allow", self.allowed)]


class Conflict(GatewayError):
    """What was asked for cannot be done in the present state."""

    status = 409
    type = "invalid_request_error"
    code = "conflict"


class BodyTooLarge(GatewayError):
    status = 413
    type = "invalid_request_error"
    code = "request_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The request body is larger than the {limit_bytes} bytes that are taken from you here.")


class HeadNotValid(InvalidRequest):
    """What was sent is not a request in HTTP/1.1, or not one that is understood here."""

    code = "invalid_http"

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class RequestTimeout(GatewayError):
    """The request did not arrive in time."""

    status = 408
    type = "invalid_request_error"
    code = "request_timeout"

    def __init__(self, timeout_s: float) -> None:
        super().__init__(f"The request was not complete after {timeout_s:g} s.")


class UnsupportedMediaType(GatewayError):
    status = 415
    type = "invalid_request_error"
    code = "unsupported_media_type"


class HoldQueueFull(GatewayError):
    status = 429
    type = "rate_limit_error"
    code = "hold_queue_full"


class CoolingDown(GatewayError):
    """``who`` failed so often of late that it is refused for another ``left_s``."""

    status = 429
    type = "rate_limit_error"
    code = "cooling_down"

    def __init__(self, who: str, left_s: float) -> None:
        super().__init__(
            f"{who} was answered with errors (4xx) too often within a short time. It is refused{_for(left_s)}; "
            "put right what the errors named, then try again.",
            retry_after_s=left_s,
        )


class LimitReached(GatewayError):
    """A limit of the caller's, or the house's, holds the request back. More would be within it later."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class ConcurrencyReached(LimitReached):
    """As many of its requests as may be are under way."""

    code = "concurrency_limit"


class NeverSoMuch(LimitReached):
    """The request alone is more than the limit, or than is left of it for long: to try again soon is no use."""

    def headers(self) -> list[tuple[str, str]]:
        # The OpenAI and Anthropic SDKs obey the second one: it would be the same in a moment.
        return [*super().headers(), ("x-should-retry", "false")]


class BudgetExceeded(NeverSoMuch):
    """A budget does not hold what the request can cost."""

    type = "insufficient_quota"
    code = "budget_exceeded"


class ClientGone(GatewayError):
    """Never sent: nobody is there to read it. 499 is what the log and the metrics show (as nginx does)."""

    status = 499
    code = "client_gone"


class EngineError(GatewayError):
    """The engine answered with an error of its own, or with nonsense."""

    status = 502
    code = "engine_error"


class EngineFailed(EngineError):
    status = 500


class EngineLost(EngineError):
    """The engine went away and no other one could take over within the retries."""

    status = 503
    code = "engine_unavailable"


class Unavailable(GatewayError):
    status = 503
    code = "unavailable"


class HoldTimeout(Unavailable):
    code = "model_not_ready"


class ModelStartFailed(Unavailable):
    """The controller could not start the model. ``permanent``: no point in trying again."""

    code = "model_start_failed"

    def __init__(self, message: str, *, code: str, permanent: bool, retry_after_s: float | None) -> None:
        super().__init__(message, param="model", code=code, retry_after_s=None if permanent else retry_after_s)
        self.permanent = permanent

    def headers(self) -> list[tuple[str, str]]:
        # The OpenAI and Anthropic SDKs obey this header.
        return [("x-should-retry", "false")] if self.permanent else super().headers()


class StoreUnavailable(Unavailable):
    """Redis cannot be asked now."""

    code = "store_unavailable"


class ControllerUnavailable(GatewayError):
    status = 504
    code = "controller_unavailable"


class Unexpected(GatewayError):
    """A bug of ours. The caller is told nothing but where to look."""

    def __init__(self, request_id: str) -> None:
        super().__init__(f"Something went wrong in the gateway. Give the request id {request_id} to your operator.")


def _for(left_s: float | None) -> str:
    return "" if left_s is None else f" for another {max(1, math.ceil(left_s))} s"
