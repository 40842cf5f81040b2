from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.costs import Costs
from models.store.tenancy import NANO, PriceLine

prices = st.decimals(min_value=0, max_value=100, places=13, allow_nan=False)
counts = st.integers(0, 10**7)


def nano(amount: Decimal) -> int:
    return int((amount * NANO).to_integral_value(ROUND_HALF_EVEN))


@given(price=prices, gpu=prices, tokens=counts, gpu_us=counts)
def test_each_line_is_rounded_once_halves_to_even(price: Decimal, gpu: Decimal, tokens: int, gpu_us: int) -> None:
    costs = Costs(PriceLine("*", output_token=price, gpu_second=gpu))
    expected = nano(price * tokens) + nano(gpu * gpu_us / 10**6)
    assert costs.exact(0, 0, tokens, gpu_us, 0) == min(2**53 - 1, expected)


@given(
    line=st.builds(
        PriceLine, st.just("*"), prices, st.none() | prices, prices, gpu_second=prices, gib_second=prices,
        request=prices,
    ),
    given=st.tuples(counts, counts, counts, counts),
    part=st.tuples(*[st.floats(0, 1)] * 5),
)  # fmt: skip
def test_what_is_reserved_covers_whatever_it_turns_out_to_be(
    line: PriceLine, given: tuple[int, int, int, int], part: tuple[float, float, float, float, float]
) -> None:
    """But for what rounding can make of the two kinds of prompt tokens: one NANO."""
    costs = Costs(line)
    used = [int(most * share) for most, share in zip(given, part, strict=False)]
    cached = int(used[0] * part[4])
    assert costs.exact(used[0], cached, *used[1:]) <= costs.most(*given) + 1


def test_cached_tokens_cost_what_others_do_unless_they_have_a_price() -> None:
    assert Costs(PriceLine("*", Decimal("0.001"))).exact(10, 4, 0, 0, 0) == NANO // 100
    cheap = Costs(PriceLine("*", Decimal("0.001"), Decimal("0.0001")))
    assert cheap.exact(10, 4, 0, 0, 0) == NANO * 64 // 10_000


def test_what_is_free_costs_nothing() -> None:
    costs = Costs(PriceLine("*"))
    assert (costs.most(10**7, 10**7, 10**9, 10**9), costs.by_time) == (0, False)
