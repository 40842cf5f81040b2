from __future__ import annotations

import json

import pytest

from packers.sim import TraceError
from packers.sim.calibrate import coldstart, load_times
from packers.sim.startup import fit_tier
from packers.types import ModelId

PUBLISHED = """file,n,mean_load_s,p90
a5000_2024/facebook_opt-6.7b_phantom_30_random.json,30,1.18,1.82
h100_2025/cached/Qwen_Qwen3-32B_sllm_5_cached.json,5,1.25,1.39
h100_2025/random/Qwen_Qwen3-32B_safetensors_30_random.json,30,20.59,23.33
h100_2025/random/Qwen_Qwen3-32B_sllm_30_random.json,30,3.22,3.26
h100_2025/random/meta-llama_Llama-3.1-8B-Instruct_sllm_30_random.json,30,0.68,0.69
""".splitlines()


def test_published_load_times() -> None:
    samples = load_times(PUBLISHED, "x.csv", keep="h100_2025/random")
    assert [(one.weights_bytes / 1e9, one.seconds, one.weight) for one in samples] == [
        (64, 20.59, 30),
        (64, 3.22, 30),
        (16, 0.68, 30),
    ]
    assert len(load_times(PUBLISHED, "x.csv")) == 5
    assert load_times(PUBLISHED, "x.csv", keep="opt-6.7b", bytes_per_weight=1)[0].weights_bytes == 6_700_000_000
    found = fit_tier(
        load_times(PUBLISHED, "x.csv", keep="random/meta")
        + load_times(PUBLISHED, "x.csv", "random/Qwen_Qwen3-32B_sllm")
    )
    assert found.seconds(64 * 10**9) == pytest.approx(3.22, rel=0.01)


def report(*figures: tuple[str, str, object]) -> str:
    return json.dumps(
        {"figures": [{"name": name, "model": model, "median": median} for name, model, median in figures]}
    )


SIZES = {ModelId("small"): 10_000_000, ModelId("large"): 250_000_000}


def test_the_own_cold_start_benchmark() -> None:
    text = report(
        ("stopped model to first token", "small", 0.175),
        ("stopped model to first token", "large", 0.299),
        ("ready model to first token", "large", 0.005),
        ("asleep model to first token", "small", 0.016),
        ("asleep model to first token", "large", 0.033),
        ("asleep model to first token", "other", 99.0),
    )
    found = coldstart(text, "x.json", SIZES)
    assert found.disk.seconds(SIZES[ModelId("large")]) == pytest.approx(0.299)
    assert found.disk.seconds(SIZES[ModelId("small")]) == pytest.approx(0.175)
    assert found.host.seconds(SIZES[ModelId("large")]) == pytest.approx(0.033)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{broken", "not a report"),
        ("[]", "not a report"),
        ("{}", "not a report"),
        (report(), "no figure 'stopped model to first token' of large, small"),
        (report(("stopped model to first token", "small", "long")), r"figures\[0\].median"),
        (report(("stopped model to first token", "small", -1)), r"figures\[0\].median"),
    ],
)
def test_what_is_no_report(text: str, says: str) -> None:
    with pytest.raises(TraceError, match=says):
        coldstart(text, "x.json", SIZES)


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("random/some-model.json,3,1.0,1", "file"),
        ("random/x-8B.json,three,1.0,1", "n"),
        ("random/x-8B.json,3,-1,1", "mean_load_s"),
    ],
)
def test_wrong_rows_are_named(line: str, field: str) -> None:
    with pytest.raises(TraceError) as error:
        load_times([PUBLISHED[0], line], "x.csv")
    assert (error.value.line, error.value.field) == (2, field)


def test_nothing_of_what_is_asked_for() -> None:
    with pytest.raises(TraceError, match="no row has 'tpu'"):
        load_times(PUBLISHED, "x.csv", keep="tpu")
