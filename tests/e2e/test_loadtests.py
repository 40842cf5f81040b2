"""The load tests against the real service: each suite shows what it is for, and its report opens as it should."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loadtests.replay.trace_file import read_file
from loadtests.suites import SUITES
from tests.e2e.browser import Browser
from tests.e2e.loads import headings, load, ran, ran_into
from tests.e2e.pages import complaints
from tests.e2e.service import Service, until

MODELS = "tiny-llama,tiny-gemma,minilm"
ONE = ("--models", "tiny-llama", "--output-tokens", "fixed:8")


def test_a_smoke_of_real_models_fails_nowhere(service: Service, tmp_path: Path, chromium: Browser | None) -> None:
    found = ran(service, tmp_path, "smoke", "--models", MODELS, "--duration", "3s")
    whole = found.summary
    assert whole["failed"] == 0, whole["errors"]
    assert set(whole["models"]) == set(MODELS.split(","))
    assert {name.partition(" ")[0] for name in whole["dialects"]} >= {"chat", "embeddings"}
    assert {"auth", "queue", "connect", "engine-ttfb"} <= whole["server_timing_ms"].keys()
    for row in found.rows:
        if row.stream:
            told_us = row.end_us if row.first_token_us is None else row.first_token_us  # an end may be all that it says
            assert row.timing_ms["engine-ttfb"] * 1e3 <= told_us - row.sent_us
            assert row.output_tokens is not None
            assert row.output_tokens <= 12
    series = found.document["series"]["service"]["models"]
    assert "gpu" in series["tiny-llama"]["tier"], "seen serving meanwhile"
    assert found.complaints(chromium) == []


def test_steady_beside_the_engine_itself_says_what_the_service_costs(
    service: Service, tmp_path: Path, chromium: Browser | None
) -> None:
    status, said = load(
        service, tmp_path, "steady", *ONE, "--rate", "8", "--duration", "1s", "--direct", "--pairs", "2"
    )
    pairs = json.loads((tmp_path / "pairs.json").read_text())
    assert len(pairs["direct"]) == len(pairs["through"]) == 2
    runs = {file: ran_into((tmp_path / file).parent, {}) for file in pairs["direct"] + pairs["through"]}
    assert len({run.document["plan"]["digest"] for run in runs.values()}) == 1, "all were asked the same"
    assert all(run.summary["failed"] == 0 for run in runs.values())
    for file, run in runs.items():
        told = {part for row in run.rows for part in row.timing_ms}
        assert ("engine-ttfb" in told) == (file in pairs["through"]), "an engine alone tells no parts"
        assert run.document["target"]["url"].startswith("unix:" if file in pairs["direct"] else service.url)
    numbers = [[int(file.partition("-")[0]) for file in pairs[side]] for side in ("direct", "through")]
    assert numbers[0] == numbers[1], "both sides of a pass, or neither"
    assert sorted(numbers[0] + pairs["left_out"]) == list(range(1, numbers[0][-1] + 1))
    assert [side["passes"] for side in said["sides"]] == [2, 2]
    (median,) = [line for line in said["lines"] if (line["metric"], line["name"]) == ("ttft_ms", "p50")]
    change = median["second"]["value"] - median["first"]["value"]
    assert median["change"]["value"] == pytest.approx(change, abs=1e-3)
    assert {part["part"] for part in said["parts"]} >= {"auth", "queue", "connect", "engine", "network"}
    valid = all(run.document["generator"]["valid"] for run in runs.values())
    assert said["verdict"] == {"kept": True, "valid": valid}
    assert status == (0 if valid else 1)
    wanted = ["What changed", *headings("What Roundhouse costs in latency: steady", said)]
    assert complaints(tmp_path / "report.html", wanted, chromium) == []


def test_a_ramp_goes_up_in_equal_ratios_and_names_its_knee(
    service: Service, tmp_path: Path, chromium: Browser | None
) -> None:
    steps = ("--steps", "3", "--factor", "9", "--rate", "3", "--duration", "3s")
    found = ran(service, tmp_path, "ramp", *ONE, *steps)
    assert [(name, lasts_s) for name, lasts_s, _ in found.phases] == [("3/s", 1.0), ("9/s", 1.0), ("27/s", 1.0)]
    counts = [count for _, _, count in found.phases]
    assert counts == sorted(counts)
    assert counts[0] < counts[2]
    knee = found.summary["knee"]
    if knee is not None:
        names = [name for name, _, _ in found.phases]
        assert knee["step"] in names
        assert knee["next_step"] == ([*names, None])[names.index(knee["step"]) + 1]
    assert found.report["knee"] == knee
    assert found.complaints(chromium) == []


def test_a_spike_is_twenty_times_the_calm_for_half_of_the_time(
    service: Service, tmp_path: Path, chromium: Browser | None
) -> None:
    found = ran(service, tmp_path, "spike", *ONE, "--rate", "2", "--duration", "3.2s")
    phases = found.document["phases"]
    assert [(phase["name"], phase["rate_per_s"]) for phase in phases] == [("calm", 2), ("spike", 40), ("after", 2)]
    assert [lasts_s for _, lasts_s, _ in found.phases] == [0.8, 1.6, 0.8]
    counts = {name: count for name, _, count in found.phases}
    assert 64 / 2 < counts["spike"] < 64 * 2, "Poisson: five deviations are 40"
    assert counts["calm"] + counts["after"] < counts["spike"] / 4
    due_s = [(row.scheduled_us or 0) / 1e6 for row in found.of_phase("spike")]
    assert 0.8 <= min(due_s) < 1.0, "at once, not little by little"
    assert max(due_s) <= 2.4
    assert found.complaints(chromium) == []


def test_a_trace_comes_again_in_its_order_and_with_its_lengths(
    service: Service, tmp_path: Path, chromium: Browser | None
) -> None:
    """As Azure publishes them. Four times as fast; what is after the end of the run is left out."""
    asked = [(0.0, 40, 3), (1.5, 90, 5), (1.6, 12, 2), (4.0, 200, 7), (6.5, 33, 4), (500.0, 9, 9)]
    lines = [f"2023-11-16 18:1{at_s // 60:.0f}:{at_s % 60:04.1f},{read},{written}" for at_s, read, written in asked]
    trace = tmp_path / "azure.csv"
    trace.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *lines, ""]))
    words = ("--trace", str(trace), "--speed", "4", "--duration", "2s", "--models", "tiny-llama", "--whole-length")
    found = ran(service, tmp_path / "out", "replay", *words)
    assert found.summary["failed"] == 0, found.summary["errors"]
    played = asked[:-1]
    assert [row.scheduled_us for row in found.rows] == [at_s / 4 * 1e6 for at_s, _, _ in played]
    assert [row.output_tokens for row in found.rows] == [written for _, _, written in played]
    read_tokens = [row.input_tokens or 0 for row in found.rows]
    longest_first = sorted(range(len(played)), key=lambda place: -played[place][1])
    assert sorted(range(len(played)), key=lambda place: -read_tokens[place]) == longest_first
    assert found.complaints(chromium) == []


@contextmanager
def recording(service: Service, out: Path) -> Iterator[None]:
    """What the service is asked meanwhile."""
    words = [service.roundhouse, "record", "--out", str(out), "--duration", "5m"]
    recorder = subprocess.Popen(
        words, env=service.environ(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        until(lambda: out.exists() and '"header"' in out.read_text())
        yield
    finally:
        recorder.send_signal(signal.SIGINT)
        said, _ = recorder.communicate(timeout=30)
    assert recorder.returncode == 0, said


def test_a_soak_in_ten_parts_and_its_recording_played_again(
    service: Service, tmp_path: Path, chromium: Browser | None
) -> None:
    trace = tmp_path / "recorded.jsonl"
    with recording(service, trace):
        soak = ran(service, tmp_path / "soak", "soak", *ONE, "--rate", "12", "--duration", "2s")
    assert soak.summary["failed"] == 0, soak.summary["errors"]
    assert [name for name, _, _ in soak.phases] == [f"{part}/10" for part in range(1, 11)]
    assert {lasts_s for _, lasts_s, _ in soak.phases} == {0.2}
    assert {group["name"] for group in soak.report["groups"] if group["kind"] == "phase"} <= {
        name for name, _, _ in soak.phases
    }
    assert soak.complaints(chromium) == []

    words = ("--trace", str(trace), "--speed", "3", "--duration", "2s", "--seed", "3")
    again = ran(service, tmp_path / "again", "replay", *ONE, *words)
    assert again.summary["failed"] == 0, again.summary["errors"]
    assert {row.tag for row in again.rows} == {"tiny-llama"}
    assert len(again.rows) == len(soak.rows), "as often as it was asked when it was recorded"
    planned = read_file(trace, SUITES["replay"].settings(trace=str(trace), speed=3.0, seed=3)).at_s.tolist()
    assert [row.scheduled_us for row in again.rows] == [round(at_s * 1e6) for at_s in sorted(planned)]
    assert again.complaints(chromium) == []


def test_a_comparison_with_itself_has_one_plan(service: Service, tmp_path: Path) -> None:
    words = ("--targets", f"here={service.url},again={service.url}", "--models", "tiny-llama", "--passes", "1")
    load_words = ("--rate", "4", "--duration", "1s", "--quiet", "--out", str(tmp_path), "--json")
    done = service.run("loadtest", "compare", "steady", *words, *load_words, check=False, timeout_s=180)
    made = json.loads(done.stdout)
    assert [target["name"] for target in made["targets"]] == ["here", "again"], done.stderr
    assert len(made["plan"]) == 1
    counts = {target["figures"]["requests"] for target in made["targets"]}
    assert len(counts) == 1
    assert all(target["figures"]["failed"] == 0 for target in made["targets"])
    assert done.returncode == (0 if made["ok"] else 1)
    assert "| here |" in (tmp_path / "comparison.md").read_text()
