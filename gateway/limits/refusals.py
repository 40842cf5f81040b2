"""What callers are told whose limits are reached: whose, which, how much is used, when it frees, and what helps."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from gateway.errors import BudgetExceeded, ConcurrencyReached, LimitReached, NeverSoMuch, StoreUnavailable
from gateway.limits.counter import Counter
from gateway.limits.windows import NEVER_US, SECOND_US, Shape
from models.store.tenancy import UNITS_OF, LimitRule, What

SOON_S = 1.0
LONGEST_S = 366 * 86_400.0
_WORDS = {
    What.REQUESTS: " requests", What.TOKENS: " tokens", What.INPUT_TOKENS: " input tokens",
    What.OUTPUT_TOKENS: " output tokens", What.GPU_SECONDS: " GPU-seconds", What.MONEY: "",
}  # fmt: skip
_BY_TOKENS = frozenset({What.TOKENS, What.OUTPUT_TOKENS, What.MONEY})


def refusal(counter: Counter, units: int, now_us: int) -> LimitReached:
    """``units``: what the request would have taken of it."""
    rule, amount = counter.placed.rule, counter.placed.rule.amount
    whose, of = _whose(counter.placed.place), "" if rule.models == "*" else f" to {rule.models}"
    if rule.what is What.CONCURRENT:
        busy = counter.amount - counter.remaining
        message = (
            f"{whose} may have {amount:f} requests{of} at once, and has {busy} under way. "
            "Wait for one of them to end, or ask your operator for more."
        )
        return ConcurrencyReached(message, retry_after_s=SOON_S)
    frees_us = _frees_us(counter, units)
    per = {"ever": "in all"}.get(rule.per, f"per {rule.per}")
    used = _shown(rule, counter.amount - counter.remaining)
    use, take = ("spend", "cost") if rule.what is What.MONEY else ("use", "take")
    fact = f"{whose} may {use} {amount:f}{_WORDS[rule.what]} {per}{of}: {used} are used or reserved"
    if rule.what is not What.REQUESTS:
        fact += f", and this request can {take} {_shown(rule, units)}"
    wait_s = min(LONGEST_S, max(0, frees_us - counter.ahead_us - now_us) / SECOND_US) if frees_us else SOON_S
    if units > counter.amount:
        when = "It is never free for so much at once"
    elif frees_us >= NEVER_US:
        when = "It does not come back by itself"
    elif rule.is_budget:
        when = f"It begins anew on {datetime.fromtimestamp(frees_us / SECOND_US, UTC):%Y-%m-%d %H:%M} UTC"
    else:
        when = f"Try again in {max(1, -(-wait_s // 1)):.0f} s"
    cure = "a smaller max_tokens, or " if rule.what in _BY_TOKENS else ""
    if rule.what is What.INPUT_TOKENS:
        cure = "a shorter prompt, or "
    message = f"{fact}. {when}; {cure}a higher limit from your operator would help."
    kind = BudgetExceeded if rule.is_budget else NeverSoMuch if units > counter.amount else LimitReached
    return kind(message, retry_after_s=wait_s)


def alone_refusal(counter: Counter, units: int, now_us: int) -> LimitReached:
    """The store is away, and this worker's share of the limit is used."""
    known = refusal(counter, units, now_us)
    why = "The server counts by rough shares at the moment, because its store does not answer."
    return type(known)(f"{known.message} {why}", retry_after_s=SOON_S)


def unchecked() -> StoreUnavailable:
    return StoreUnavailable(
        "Your budget cannot be checked at the moment, because the server's store does not answer; try again.",
        retry_after_s=SOON_S,
    )


def _frees_us(counter: Counter, units: int) -> int:
    """0: at any time. By the counter's own clock."""
    if counter.shape is Shape.CALENDAR:
        return counter.window.ends_us(counter.slot)
    return max(0, counter.frees_us) if units <= counter.amount else counter.window.frees_us(counter.slot)


def _whose(place: str) -> str:
    kind, _, name = place.partition(":")
    if kind == "key":
        return "Your API key"
    if kind == "project":
        return f"Your project '{name.partition('/')[2]}'"
    return f"Your tenant '{name}'" if kind == "tenant" else "All callers together"


def _shown(rule: LimitRule, units: int) -> str:
    exact = Decimal(units) / UNITS_OF.get(rule.what, 1)
    return f"{exact:.6f}".rstrip("0").rstrip(".") if exact % 1 else f"{exact:f}".partition(".")[0]
