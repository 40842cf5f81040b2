"""Suites that give orders to the real service, or meet what it decides: starts, evictions, another's load, a death."""

from __future__ import annotations

import statistics
from pathlib import Path

from loadtests.outcome.rows import Row
from tests.e2e.browser import Browser
from tests.e2e.loads import ran
from tests.e2e.service import Service, rows

ONE = ("--models", "tiny-llama", "--output-tokens", "fixed:8")


def _wake_ms(row: Row) -> float:
    return row.timing_ms.get("wake", 0.0)


def test_first_hits_wait_for_the_tier_that_the_model_was_in(
    service: Service, tmp_path: Path, chromium: Browser | None
) -> None:
    models = ("tiny-llama", "tiny-gemma")
    found = ran(service, tmp_path, "zero", "--models", ",".join(models), "--passes", "1")
    tiers = [(model, tier) for model in models for tier in ("disk", "host", "gpu")]
    assert found.marks == [("reached", f"{model} {tier}") for model, tier in tiers]
    assert found.summary["failed"] == 0, found.summary["errors"]
    assert [(row.model, row.tag) for row in found.rows] == tiers
    for row in found.rows:
        told_us = row.end_us if row.first_token_us is None else row.first_token_us  # an end may be all that it says
        assert (told_us - row.begun_us) / 1e3 >= _wake_ms(row), "whoever waits for a start has no token before it"
        if row.tag == "gpu":
            assert _wake_ms(row) < 1, "it served already"
        else:
            assert _wake_ms(row) > 1
    by_tier = {tier: [_wake_ms(row) for row in found.rows if row.tag == tier] for tier in ("disk", "host")}
    assert statistics.mean(by_tier["disk"]) > 0
    assert found.document["plan"]["requests"] == len(tiers)
    told = {group["name"] for group in found.report["groups"] if group["kind"] == "tag"}
    assert told == {"disk", "host", "gpu"}
    seen = found.document["series"]["service"]["models"]
    assert {"gpu", "host"} <= {tier for model in models for tier in seen[model]["tier"]}
    assert found.complaints(chromium) == []


def test_many_models_are_asked_by_zipf_and_take_turns_on_the_gpus(
    service: Service, tmp_path: Path, chromium: Browser | None
) -> None:
    wanted = ("tiny-llama", "tiny-gemma", "tiny-qwen3", "minilm")
    words = ("--models", ",".join(wanted), "--rate", "10", "--duration", "3s", "--output-tokens", "fixed:8")
    found = ran(service, tmp_path, "many-models", *words, "--zipf", "1.2")
    assert found.summary["failed"] == 0, found.summary["errors"]
    assert {row.model for row in found.rows} == set(wanted), "all of them, though they do not fit together"
    chats = [found.summary["models"][model]["requests"] for model in wanted[:3]]
    assert chats[0] == max(chats), "the first one is wanted most"
    assert any(_wake_ms(row) > 1 for row in found.rows), "somebody waited for a start"
    assert found.complaints(chromium) == []


def test_a_noisy_neighbour_comes_in_the_middle_third_with_a_key_of_its_own(
    service: Service, tmp_path: Path, chromium: Browser | None
) -> None:
    found = ran(service, tmp_path, "noisy-neighbour", *ONE, "--rate", "4", "--factor", "5", "--duration", "3s")
    assert found.summary["failed"] == 0, found.summary["errors"]
    assert [(name, lasts_s) for name, lasts_s, _ in found.phases] == [("alone", 1), ("noise", 1), ("alone again", 1)]
    tenants = [set(part) for part in found.summary["tenants_by_phase"]]
    assert tenants[1] == {"quiet", "noisy"}
    assert "noisy" not in tenants[0] | tenants[2]
    figures = found.summary["tenants"]
    assert figures["noisy"]["requests"] == sum(row.tenant == "noisy" for row in found.rows) > 0
    assert figures["quiet"]["ttft_ms"]["count"] == figures["quiet"]["requests"] > 0
    told = {group["name"] for group in found.report["groups"] if group["kind"] == "tenant"}
    assert told == {"quiet", "noisy"}
    name = f"loadtest noisy {found.document['settings']['salt']}"
    made = [key for key in rows(service.admin("keys")) if key["name"] == name]
    assert not [key for key in made if not key.get("revoked_unix_s")], "its key is gone with it"
    assert found.complaints(chromium) == []


def test_a_killed_engine_is_marked_and_served_after(service: Service, tmp_path: Path, chromium: Browser | None) -> None:
    before = service.only_replica("tiny-llama")["pid"]
    found = ran(service, tmp_path, "chaos", *ONE, "--rate", "6", "--duration", "4s", "--kill-at", "1s")
    assert found.marks == [("kill", f"engine, process {before}")]
    (mark,) = found.document["marks"]
    assert 1.0 <= mark["at_s"] < 2.5
    assert [name for name, _, _ in found.phases] == ["before", "after the kill"]
    assert all(not row.error for row in found.of_phase("before") if row.end_us < mark["at_s"] * 1e6)
    last = found.of_phase("after the kill")[-5:]
    assert [row.error for row in last] == [""] * 5, "who comes later is served"
    assert any(_wake_ms(row) > 1 for row in found.of_phase("after the kill")), "by another engine"
    after = {replica["pid"] for replica in service.replicas("tiny-llama") if replica["state"] == "ready"}
    assert after
    assert before not in after
    assert found.complaints(chromium) == []
