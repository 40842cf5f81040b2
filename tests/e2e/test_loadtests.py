"""The load tests against the real service: everything answers, and what is measured is what the service tells too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from loadtests.outcome.document import read
from loadtests.outcome.rows import rows
from tests.e2e.service import Service

MODELS = "tiny-llama,tiny-gemma,minilm"


def _ran(service: Service, out: Path, *words: str) -> dict[str, Any]:
    """On a busy machine a run may not be valid; what it found is here all the same."""
    done = service.run("loadtest", *words, "--out", str(out), "--json", check=False, timeout_s=180)
    assert done.returncode in (0, 1), done.stderr
    shown: dict[str, Any] = json.loads(done.stdout)
    assert "error" not in shown, shown
    assert done.returncode == (0 if shown["generator"]["valid"] and shown["verdict"]["kept"] else 1)
    return shown


def test_a_smoke_of_real_models_fails_nowhere(service: Service, tmp_path: Path) -> None:
    words = ("--models", MODELS, "--duration", "4s", "--quiet")
    shown = _ran(service, tmp_path, "smoke", *words)
    whole = shown["summary"]
    assert whole["failed"] == 0, whole["errors"]
    assert set(whole["models"]) == set(MODELS.split(","))
    assert {name.partition(" ")[0] for name in whole["dialects"]} >= {"chat", "embeddings"}
    assert {"auth", "queue", "connect", "engine-ttfb"} <= whole["server_timing_ms"].keys()
    assert (shown["target"]["service"], shown["target"]["simulated"]) == ("roundhouse", True)
    run = read(tmp_path / "run.json")
    for row in rows(run["requests"]):
        assert 0 <= row.sent_us <= row.end_us
        if row.stream:
            assert row.first_token_us is not None
            assert row.timing_ms["engine-ttfb"] * 1e3 <= row.first_token_us - row.sent_us
            assert row.output_tokens is not None
            assert row.output_tokens <= 12
    series = run["series"]["service"]["models"]
    assert "gpu" in series["tiny-llama"]["tier"], "seen serving meanwhile"


def test_a_comparison_with_itself_has_one_plan(service: Service, tmp_path: Path) -> None:
    words = ("--targets", f"here={service.url},again={service.url}", "--models", "tiny-llama", "--passes", "1")
    load = ("--rate", "3", "--duration", "2s", "--quiet", "--out", str(tmp_path), "--json")
    done = service.run("loadtest", "compare", "steady", *words, *load, check=False, timeout_s=180)
    made = json.loads(done.stdout)
    assert [target["name"] for target in made["targets"]] == ["here", "again"], done.stderr
    assert len(made["plan"]) == 1
    counts = {target["figures"]["requests"] for target in made["targets"]}
    assert len(counts) == 1
    assert all(target["figures"]["failed"] == 0 for target in made["targets"])
    assert done.returncode == (0 if made["ok"] else 1)
    assert "| here |" in (tmp_path / "comparison.md").read_text()
