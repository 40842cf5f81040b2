"""Each suite: its preset makes a plan, and the plan is the load that its name says."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from loadtests.load.settings import SettingsError
from loadtests.suites import SUITES, plan_of

ROOT = Path(__file__).resolve().parents[3]
MODELS = {"models": ("a", "b"), "embedders": ("e",)}
PLAIN = "".join(f"{second},{'x' if second % 3 else 'y'},,{second + 1},{second + 2}\n" for second in range(30))


@pytest.fixture
def trace(tmp_path: Path) -> str:
    file = tmp_path / "trace.csv"
    file.write_text(f"time,model,service_s,input_tokens,output_tokens\n{PLAIN}")
    return str(file)


@pytest.mark.parametrize("name", sorted(SUITES))
def test_every_suite_has_a_preset_a_plan_and_a_locustfile(name: str, trace: str) -> None:
    suite = SUITES[name]
    settings = suite.settings(**MODELS, **({"trace": trace, "speed": 1.0} if name == "replay" else {}))
    plan = plan_of(settings)
    assert suite.about
    assert plan.phases[0].from_s == 0
    lasts_s = 30.0 if name == "replay" else settings.duration_s  # a trace that is over is not waited for
    assert plan.end_s == plan.phases[-1].until_s == pytest.approx(lasts_s)
    assert plan.digest() == plan_of(settings).digest()
    assert all(0 <= arrival.at_s < plan.end_s for arrival in plan.arrivals)
    assert sorted(plan.arrivals, key=lambda arrival: arrival.at_s) == list(plan.arrivals)
    file = ROOT / "loadtests" / "locustfiles" / f"{name.replace('-', '_')}.py"
    assert f'attach("{name}")' in file.read_text()


def test_another_seed_is_another_load() -> None:
    one, other = (plan_of(SUITES["steady"].settings(seed=seed, **MODELS)) for seed in (0, 1))
    assert one.digest() != other.digest()


def test_a_spike_is_twenty_times_the_calm() -> None:
    plan = plan_of(SUITES["spike"].settings(rate_per_s=5.0, duration_s=80.0, **MODELS))
    assert [(phase.name, phase.rate_per_s) for phase in plan.phases] == [("calm", 5), ("spike", 100), ("after", 5)]
    counts = Counter(sum(arrival.at_s >= phase.until_s for phase in plan.phases) for arrival in plan.arrivals)
    assert counts[1] / counts[0] == pytest.approx(40, rel=0.3)


def test_a_ramp_goes_up_in_equal_ratios() -> None:
    plan = plan_of(SUITES["ramp"].settings(rate_per_s=1.0, factor=16.0, steps=5, **MODELS))
    assert [phase.rate_per_s for phase in plan.phases] == [1, 2, 4, 8, 16]
    closed = plan_of(SUITES["ramp"].settings(users=2, factor=8.0, steps=4, **MODELS))
    assert (closed.kind, [phase.users for phase in closed.phases]) == ("closed", [2, 4, 8, 16])


def test_users_or_a_rate_decide_what_kind_of_load_it_is() -> None:
    assert plan_of(SUITES["steady"].settings(users=3, **MODELS)).kind == "closed"
    assert plan_of(SUITES["smoke"].settings(rate_per_s=3.0, **MODELS)).kind == "open"


def test_zero_brings_every_model_to_every_tier_as_often_as_told() -> None:
    plan = plan_of(SUITES["zero"].settings(passes=2, tiers=("disk", "host"), **MODELS))
    assert [(step.model, step.what) for step in plan.script] == [
        ("a", "disk"), ("a", "host"), ("b", "disk"), ("b", "host"), ("e", "disk"), ("e", "host")
    ] * 2  # fmt: skip
    assert all(step.arrival and step.arrival.tag == step.what for step in plan.script)


def test_many_models_are_wanted_by_zipfs_law_and_at_most_fifty() -> None:
    names = tuple(f"m{number:02d}" for number in range(60))
    plan = plan_of(SUITES["many-models"].settings(rate_per_s=200.0, duration_s=50.0, models=names))
    counts = Counter(arrival.wish.model for arrival in plan.arrivals)
    assert counts["m00"] / counts["m09"] == pytest.approx(10, rel=0.25)
    assert set(counts) == set(names[:50])


def test_a_noisy_neighbour_calls_in_the_middle_third_with_its_own_key() -> None:
    plan = plan_of(SUITES["noisy-neighbour"].settings(rate_per_s=10.0, duration_s=30.0, **MODELS))
    noisy = [arrival.at_s for arrival in plan.arrivals if arrival.wish.tenant == "noisy"]
    quiet = [arrival.at_s for arrival in plan.arrivals if arrival.wish.tenant == "quiet"]
    assert (min(noisy) >= 10, max(noisy) < 20) == (True, True)
    assert len(noisy) / len(quiet) == pytest.approx(10 / 3, rel=0.2)
    assert max(quiet) > 25


def test_chaos_kills_in_its_middle() -> None:
    plan = plan_of(SUITES["chaos"].settings(kill_at_s=4.0, kill="worker", duration_s=9.0, **MODELS))
    assert [(step.at_s, step.what) for step in plan.events] == [(4, "worker")]
    assert [phase.until_s for phase in plan.phases] == [4, 9]


def test_a_replay_is_the_trace_faster(trace: str) -> None:
    plan = plan_of(SUITES["replay"].settings(trace=trace, speed=10.0, duration_s=2.0, **MODELS))
    assert [round(arrival.at_s, 3) for arrival in plan.arrivals] == [second / 10 for second in range(20)]
    assert [arrival.wish.prompt_tokens for arrival in plan.arrivals] == [second + 1 for second in range(20)]
    assert [arrival.wish.output_tokens for arrival in plan.arrivals][:2] == [2, 3]
    assert {arrival.wish.model for arrival in plan.arrivals if arrival.wish.tag == "x"} == {"a"}
    assert {arrival.wish.model for arrival in plan.arrivals if arrival.wish.tag == "y"} == {"b"}


@pytest.mark.parametrize(
    ("name", "given", "why"),
    [
        ("steady", {"rate_per_s": 1e-6}, "nobody arrives"),
        ("noisy-neighbour", {"rate_per_s": 1e-6}, "nobody arrives"),
        ("zero", {"tiers": ("gpu", "moon")}, "must be some of disk, host, gpu, not moon"),
        ("zero", {"tiers": ()}, "not none"),
        ("chaos", {"kill_at_s": 40.0}, "must be within the run's 30 s"),
        ("replay", {}, "--trace FILE"),
        ("replay", {"trace": __file__}, "trace: "),
    ],
)
def test_what_makes_no_load_is_refused(name: str, given: dict[str, object], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        plan_of(SUITES[name].settings(**MODELS, **given))


def test_a_smoke_is_a_few_users_in_all_dialects_streamed_and_whole() -> None:
    settings = SUITES["smoke"].settings(**MODELS)
    assert plan_of(settings).kind == "closed"
    assert plan_of(settings).most_users == 3
    assert set(settings.dialects) == {"chat", "completions", "messages"}
    assert 0 < settings.unstreamed < 1


def test_a_steady_load_is_one_phase_at_one_rate() -> None:
    plan = plan_of(SUITES["steady"].settings(rate_per_s=20.0, duration_s=50.0, **MODELS))
    (phase,) = plan.phases
    assert (phase.name, phase.rate_per_s) == ("steady", 20)
    assert len(plan.arrivals) == pytest.approx(1000, rel=0.15)
    assert {arrival.wish.model for arrival in plan.arrivals} == {"a", "b", "e"}


def test_a_soak_is_the_same_load_in_ten_parts() -> None:
    plan = plan_of(SUITES["soak"].settings(duration_s=100.0, **MODELS))
    assert [phase.name for phase in plan.phases] == [f"{part}/10" for part in range(1, 11)]
    assert {phase.rate_per_s for phase in plan.phases} == {4.0}
    assert {round(phase.until_s - phase.from_s, 6) for phase in plan.phases} == {10.0}
    closed = plan_of(SUITES["soak"].settings(users=7, duration_s=100.0, **MODELS))
    assert (closed.kind, {phase.users for phase in closed.phases}) == ("closed", {7})


def test_a_killed_service_may_have_users_instead_of_a_rate() -> None:
    plan = plan_of(SUITES["chaos"].settings(users=4, **MODELS))
    assert (plan.kind, plan.most_users) == ("closed", 4)
    assert [(step.do, step.what, step.at_s) for step in plan.events] == [("kill", "engine", 10.0)]


def test_a_ramp_of_one_step_is_its_first_rate() -> None:
    plan = plan_of(SUITES["ramp"].settings(rate_per_s=3.0, steps=1, **MODELS))
    assert [phase.rate_per_s for phase in plan.phases] == [3.0]


def test_a_neighbour_is_quiet_at_the_same_moments_however_noisy_the_other_one_is() -> None:
    def quiet(factor: float) -> list[float]:
        plan = plan_of(SUITES["noisy-neighbour"].settings(factor=factor, **MODELS))
        return [arrival.at_s for arrival in plan.arrivals if arrival.wish.tenant == "quiet"]

    assert quiet(2.0) == quiet(50.0)


def test_zero_asks_the_same_of_each_tier_but_never_the_same_words() -> None:
    plan = plan_of(SUITES["zero"].settings(**MODELS))
    wishes = [step.arrival for step in plan.script if step.arrival]
    assert plan.kind == "script"
    assert len(wishes) == 3 * 3 * 3  # passes, models, tiers
    assert {wish.dialect for wish in wishes if wish.model == "e"} == {"embeddings"}
    assert {wish.output_tokens for wish in wishes} == {8}
    assert len({wish.place for wish in wishes}) == len(wishes)


@pytest.mark.parametrize("name", sorted(set(SUITES) - {"zero", "replay"}))
@given(seed=st.integers(0, 2**31), rate=st.floats(0.5, 40), duration_s=st.floats(12, 60))
@hypothesis_settings(max_examples=20, deadline=None)
def test_any_load_is_inside_its_time_in_order_and_repeated_by_its_seed(
    name: str, seed: int, rate: float, duration_s: float
) -> None:
    made = SUITES[name].settings(seed=seed, rate_per_s=rate, duration_s=duration_s, **MODELS)
    try:
        plan = plan_of(made)
    except SettingsError:  # nobody arrives by chance, of so few
        assume(False)
    times = [arrival.at_s for arrival in plan.arrivals]
    assert times == sorted(times)
    assert all(0 <= at_s < duration_s + 1e-6 for at_s in times)
    assert plan_of(made).digest() == plan.digest()
    for earlier, later in pairwise(plan.phases):
        assert earlier.until_s == pytest.approx(later.from_s)


@pytest.mark.parametrize("name", sorted(SUITES))
def test_a_salt_changes_no_plan(name: str, trace: str) -> None:
    asked = {**MODELS, **({"trace": trace, "speed": 1.0} if name == "replay" else {})}
    one, other = (plan_of(SUITES[name].settings(salt=salt, **asked)) for salt in ("s1", "s2"))
    assert one.digest() == other.digest()


PRESETS = {
    "smoke": ("closed", 10.0, [0.0]),
    "steady": ("open", 30.0, [5.0]),
    "ramp": ("open", 48.0, [2.0, 4.0, 8.0, 16.0, 32.0, 64.0]),
    "spike": ("open", 40.0, [2.0, 40.0, 2.0]),
    "zero": ("script", 600.0, [0.0]),
    "many-models": ("open", 60.0, [5.0]),
    "noisy-neighbour": ("open", 45.0, [2.0, 2.0, 2.0]),
    "soak": ("open", 1800.0, [4.0] * 10),
    "chaos": ("open", 30.0, [5.0, 5.0]),
}


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_is_what_the_manual_says(name: str) -> None:
    plan = plan_of(SUITES[name].settings(**MODELS))
    kind, lasts_s, rates = PRESETS[name]
    assert plan.kind == kind
    assert plan.end_s == pytest.approx(lasts_s)
    assert [phase.rate_per_s for phase in plan.phases] == rates


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"smoke", "zero", "noisy-neighbour"}))
def test_as_many_arrive_as_the_preset_says(name: str) -> None:
    """Within four standard deviations of Poisson's."""
    plan = plan_of(SUITES[name].settings(**MODELS))
    expected = sum(phase.rate_per_s * (phase.until_s - phase.from_s) for phase in plan.phases)
    assert abs(len(plan.arrivals) - expected) < 4 * expected**0.5


def test_models_beyond_the_fiftieth_are_left_alone_and_shares_follow_zipf() -> None:
    models = tuple(f"m{place:02}" for place in range(60))
    plan = plan_of(SUITES["many-models"].settings(models=models, rate_per_s=200.0))
    counts = Counter(arrival.wish.model for arrival in plan.arrivals)
    assert not set(models[50:]) & counts.keys()
    harmonic = sum(1 / place for place in range(1, 51))
    for place in (1, 2, 4, 8):
        share = counts[models[place - 1]] / len(plan.arrivals)
        assert share == pytest.approx(1 / place / harmonic, rel=0.15)
