"""``python -m loadtests.policies.residency`` on traces of a few lines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from loadtests.policies.residency.__main__ import main
from loadtests.policies.residency.days import arrivals
from loadtests.policies.residency.zoo import GPU_BYTES, genai_models, gpus_for_all, servegen_models
from packers.sim.formats import servegen

CLIENTS = ["category,client,window_start_s,rate_rps,cv,dist,p1,p2"]
CLIENTS += [
    f"{kind},c{n},{start},{rate},{cv},{dist},{shape},1"
    for n, (kind, rate, cv, dist, shape) in enumerate(
        [("m-small", 2.0, 1.0, "Gamma", 1.0), ("m-mid", 1.0, 3.0, "Gamma", 0.11), ("m-large", 0.5, 1.5, "Weibull", 0.7)]
    )
    for start in range(0, 3_600, 600)
]
REQUESTS = ["time,model_id,exec_time_s,num_inference_steps,num_lora"]
REQUESTS += [f"2024-11-15 16:{n // 4:02d}:{n % 4 * 15:02d},M{n % 7:04d},12.0,30.0,0" for n in range(200)]


def data(folder: Path) -> Path:
    for name, lines in (("servegen/clients_m_days_0_0.csv", CLIENTS), ("genai2026/requests_days_0_0.csv", REQUESTS)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder


def test_a_day_has_the_wanted_rate_and_the_clients_shares() -> None:
    clients = servegen.read(CLIENTS, "clients.csv")
    trace = arrivals(clients, 0.0, 3_600.0, 2.25, np.random.default_rng(1))
    assert len(trace) / 3_600 == pytest.approx(2.25, rel=0.1)
    assert trace.duration_s < 3_600
    counts = np.bincount(trace.model)
    assert counts[0] > counts[1] > counts[2]
    assert 0 < trace.service_s.min() <= trace.service_s.max() <= 60


def test_models_fit_a_gpu_and_keep_their_size() -> None:
    ids = [f"M{n:04d}" for n in range(50)]
    models = genai_models(ids, 0)
    assert models[10:20] == genai_models(ids[10:20], 0), "whatever else is in the file"
    assert all(one.footprint.gpu_bytes <= GPU_BYTES for one in models)
    small, large = servegen_models([f"m-small/{n}" for n in range(50)] + [f"m-large/{n}" for n in range(50)], 0)[::50]
    assert small.footprint.weights_bytes < large.footprint.weights_bytes
    assert gpus_for_all(models) >= sum(one.footprint.gpu_bytes for one in models) / GPU_BYTES


def test_every_goal_gets_its_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "results"
    assert main(["--data", str(data(tmp_path)), "--results", str(results), "--jobs", "1"]) == 0
    out = capsys.readouterr().out
    for line in ("E1 requests_days_0_0: delayed on 4 GPUs", "E2 day0: delayed over Belady", "E4 day0: delayed on 15"):
        assert line in out
    for line in (
        "E1 requests_days_0_0: delayed, production decision, ours on 4 GPUs",
        "E2 day0, first 6 h: delayed, production decision, lru on 8 GPUs",
    ):
        assert line in out
    found = json.loads((results / "residency.json").read_text())["figures"]
    assert {one["goal"] for one in found} == {"E1", "E2", "E3", "E4"}
    judged = [one for one in found if one["limit"] is not None]
    assert [one["item"] for one in judged if one["goal"] == "E2"] == ["all days", "all days"]


def test_what_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = data(tmp_path)
    (folder / "servegen/clients_m_days_0_0.csv").write_text(CLIENTS[0] + "\nm-small,c,0,much,1,Gamma,1,1\n")
    assert main(["--data", str(folder), "--only", "E2", "--jobs", "1"]) == 1
    complaint = capsys.readouterr().err
    assert "clients_m_days_0_0.csv:2" in complaint
    assert "rate_rps" in complaint
