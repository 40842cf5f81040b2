"""``python -m loadtests`` end to end, with Locust in its own process, against a service on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from loadtests.gateway.ports import free_port
from loadtests.load.settings import encode
from loadtests.outcome.document import read
from loadtests.suites import SUITES
from loadtests.target import Target
from tests.loadtests.fake_service import ADMIN_KEY, API_KEY, FakeModel, FakeService
from tests.loadtests.running import ROOT, command, environment, finished, load, loaded


def chatty(state: str | None = "ready") -> FakeModel:
    return FakeModel(gap_s=0.005, state=state, timing="auth;dur=0.2, wake;dur=7")


def test_a_smoke_asks_every_model_in_every_dialect(tmp_path: Path) -> None:
    models = {"llama": chatty(), "qwen": chatty(), "minilm": FakeModel(runtime="torch", capabilities=("embed",))}
    models["pictures"] = FakeModel(runtime="torch", capabilities=("image",))
    service = FakeService(models)
    done = loaded(service, tmp_path, "smoke", "--duration", "1s")
    assert done.kept, done.err
    assert {asked["model"] for asked in service.asked} == {"llama", "qwen", "minilm"}
    assert set(service.paths) == {"/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/embeddings"}
    assert {asked["max_tokens"] for asked in service.asked if "max_tokens" in asked} == {12}
    whole = done.run["summary"]
    assert whole["requests"] == len(service.asked)
    assert {"chat", "chat (whole)", "messages", "embeddings (whole)"} <= set(whole["dialects"])
    assert whole["server_timing_ms"]["wake"]["p50"] == 7
    assert done.run["target"]["service"] == "roundhouse"
    assert done.run["series"]["service"]["models"]["llama"]["tier"][0] == "gpu"
    assert {row["method"] for row in json.loads((tmp_path / "out" / "locust.json").read_text())} >= {
        "TTFT",
        "ITL",
        "E2E",
    }
    assert "TTFT" in (tmp_path / "out" / "locust.html").read_text()


def test_workers_share_a_load_and_lose_nothing_of_it(tmp_path: Path) -> None:
    service = FakeService({"m": chatty()})
    done = loaded(service, tmp_path, "steady", "--rate", "100", "--duration", "1s", "--workers", "2")
    assert done.kept, done.err + done.out
    rows = done.rows
    assert len(rows) == len(service.asked) == done.run["plan"]["requests"] == done.run["generator"]["planned"]
    assert {row.worker for row in rows} == {0, 1}
    assert [row.scheduled_us for row in rows] == sorted(row.scheduled_us or 0 for row in rows)


def test_the_same_seed_asks_the_same_and_another_salt_says_it_otherwise(tmp_path: Path) -> None:
    asked = []
    for _ in range(2):
        service = FakeService({"a": chatty(), "b": chatty()})
        done = loaded(
            service, tmp_path, "steady", "--rate", "20", "--duration", "1s", "--prompt-tokens", "uniform:5-50"
        )
        asked.append((done.run["plan"]["digest"], [body["messages"][-1]["content"] for body in service.asked]))
    assert asked[0][0] == asked[1][0]
    lengths = [[len(text.split()) for text in texts] for _, texts in asked]
    assert sorted(lengths[0]) == sorted(lengths[1])
    assert not set(asked[0][1]) & set(asked[1][1])


def test_conversations_go_on_with_what_was_said(tmp_path: Path) -> None:
    service = FakeService({"m": chatty()})
    words = ("--rate", "10", "--duration", "1s", "--turns", "3", "--think", "50ms")
    done = loaded(service, tmp_path, "steady", *words)
    assert done.kept, done.out
    assert {row.turn for row in done.rows} == {1, 2, 3}
    longest = max((body["messages"] for body in service.asked), key=len)
    assert [message["role"] for message in longest] == ["user", "assistant"] * 2 + ["user"]
    assert longest[1]["content"] == "Steam and iron."
    second = next(row for row in done.rows if row.turn == 2)
    assert second.scheduled_us is not None
    assert second.late_us is not None


def test_zero_brings_a_model_to_each_tier_and_asks_once(tmp_path: Path) -> None:
    service = FakeService({"m": chatty(None)})
    service.models["m"].start_s = 0.2
    done = loaded(service, tmp_path, "zero", "--passes", "1")
    assert done.kept, done.out + done.err
    assert service.orders == ["stop m", "wake m", "sleep m", "wake m"]
    assert service.models["m"].starts == ["stopped", "asleep", "ready"]
    tags = done.run["summary"]["tags"]
    assert {tag: figures["requests"] for tag, figures in tags.items()} == {"disk": 1, "host": 1, "gpu": 1}
    assert tags["disk"]["ttft_ms"]["p50"] > 200 > tags["gpu"]["ttft_ms"]["p50"]
    assert [mark["detail"] for mark in done.run["marks"]] == ["m disk", "m host", "m gpu"]


def test_a_noisy_neighbour_has_a_key_that_is_gone_afterwards(tmp_path: Path) -> None:
    service = FakeService({"m": chatty()})
    done = loaded(service, tmp_path, "noisy-neighbour", "--rate", "20", "--factor", "5", "--duration", "1.5s")
    assert done.kept, done.out
    made, revoked = service.orders
    assert made.startswith("key loadtest noisy")
    assert revoked == f"revoke {made.removeprefix('key ').replace(' ', '-')}"
    assert service.keys == {API_KEY}
    keys = [key != API_KEY for key in service.told_keys]
    assert sum(keys) == done.run["summary"]["tenants"]["noisy"]["requests"]
    assert "quiet" in done.run["summary"]["tenants_by_phase"][1]


def test_chaos_kills_the_engine_at_its_moment(tmp_path: Path) -> None:
    victim = subprocess.Popen(["sleep", "100"], env={**os.environ, "ROUNDHOUSE_INSTANCE": "x"})
    service = FakeService({"m": chatty()})
    service.pids["engine"] = victim.pid
    done = loaded(service, tmp_path, "chaos", "--rate", "10", "--duration", "1s", "--kill-at", "500ms")
    assert victim.wait(10) == -signal.SIGKILL
    (mark,) = done.run["marks"]
    assert (mark["what"], mark["detail"]) == ("kill", f"engine, process {victim.pid}")
    assert mark["at_s"] >= 0.5


@pytest.mark.parametrize(
    ("suite", "words"),
    [
        ("spike", ("--rate", "6", "--factor", "5")),
        ("ramp", ("--rate", "8", "--factor", "4", "--steps", "3")),
        ("ramp", ("--users", "1", "--factor", "4", "--steps", "2")),
        ("many-models", ("--rate", "20")),
        ("soak", ("--rate", "20")),
        ("replay", ("--trace", "trace.csv", "--speed", "20")),
    ],
)
def test_the_other_suites_run(suite: str, words: tuple[str, ...], tmp_path: Path) -> None:
    lines = [f"{second},m,{second % 5 + 1}" for second in range(20)]
    (tmp_path / "trace.csv").write_text("\n".join(["time,model,output_tokens", *lines]) + "\n")
    service = FakeService({"m": chatty()})
    done = loaded(service, tmp_path, suite, "--duration", "1s", *words)
    assert done.kept, done.out + done.err
    assert done.run["suite"] == suite
    assert len(done.rows) == len(service.asked) > 0
    assert len(done.run["summary"]["phases"]) == len(done.run["phases"])
    assert f"{suite}: {len(service.asked)} requests, 0 failed" in done.out


def test_failures_are_told_by_code_and_make_it_fail(tmp_path: Path) -> None:
    models = {"llama": FakeModel(breaks="error"), "qwen": FakeModel(refusal=(503, "the weights are broken"))}
    done = loaded(FakeService(models), tmp_path, "steady", "--rate", "20", "--duration", "1s", "--json")
    assert done.status == 1
    document = json.loads(done.out)
    assert {error["code"]: error["first"] for error in document["summary"]["errors"]} == {
        "engine_died": "the engine died",
        "model_start_failed": "the weights are broken",
    }
    assert {row.status for row in done.rows} == {200, 503}
    assert "requests" not in document


@pytest.mark.parametrize(("limit", "status"), [("5000", 0), ("1", 1)])
def test_goals_decide_the_exit_status(limit: str, status: int, tmp_path: Path) -> None:
    (tmp_path / "slo.yaml").write_text(f"ttft_ms: {{p99: {limit}}}\n")
    words = ("steady", "--rate", "10", "--duration", "1s", "--slo", "slo.yaml")
    done = loaded(FakeService({"m": chatty()}), tmp_path, *words)
    assert done.kept == (status == 0), done.out
    assert ("missed: ttft_ms.p99" in done.out) == bool(status)
    assert done.status == status or not done.run["generator"]["valid"]


def page(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return str(answer.read().decode())


def test_locusts_own_page_and_live_metrics(tmp_path: Path) -> None:
    web, metrics, seen = free_port(), free_port(), ""
    with FakeService({"m": chatty()}).running() as service:
        words = ["steady", "--rate", "20", "--duration", "1s", "--web", str(web), "--metrics-port", str(metrics)]
        process = subprocess.Popen(
            command(*words, "--out", str(tmp_path / "out")), env=environment(tmp_path, service.target), cwd=tmp_path,
            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        give_up_s = time.monotonic() + 60
        while 'outcome="answered"' not in seen or not (tmp_path / "out" / "run.json").exists():
            assert time.monotonic() < give_up_s, seen
            time.sleep(0.1)
            try:
                seen = page(metrics, "/metrics")
            except OSError:
                continue
        assert "<title>Locust</title>" in page(web, "/")
        stats = json.loads(page(web, "/stats/requests"))
        assert {"TTFT", "E2E", "ITL"} <= {entry["method"] for entry in stats["stats"]}
        first = read(tmp_path / "out" / "run.json")
        start = urllib.request.Request(f"http://127.0.0.1:{web}/swarm", b"user_count=1&spawn_rate=1")
        urllib.request.urlopen(start, timeout=5).close()
        while (again := read(tmp_path / "out" / "run.json"))["started_unix_s"] == first["started_unix_s"]:
            assert time.monotonic() < give_up_s + 60
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert finished(process.returncode, out, err, tmp_path / "out").kept, err
    assert first["summary"]["requests"] == again["summary"]["requests"] == len(service.asked) / 2 > 0


def test_ctrl_c_in_the_middle_ends_a_run_with_a_page(tmp_path: Path) -> None:
    with FakeService({"m": chatty()}).running() as service:
        words = ["steady", "--rate", "20", "--duration", "60s", "--web", str(free_port())]
        process = subprocess.Popen(
            command(*words, "--out", str(tmp_path / "out")), env=environment(tmp_path, service.target), cwd=tmp_path,
            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        give_up_s = time.monotonic() + 30
        while len(service.asked) < 5:
            assert time.monotonic() < give_up_s
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
    run = finished(process.returncode, out, err, tmp_path / "out").run
    assert 5 <= run["summary"]["requests"] < 1000
    assert any("were never sent" in reason for reason in run["generator"]["reasons"])


def test_locust_alone_runs_a_suite_with_settings_from_a_file(tmp_path: Path) -> None:
    settings = SUITES["steady"].settings(rate_per_s=20.0, duration_s=1.0)
    (tmp_path / "settings.json").write_bytes(encode(settings))
    words = ["-f", str(ROOT / "loadtests" / "locustfiles" / "steady.py"), "--headless", "--suite-out", "alone"]
    with FakeService({"m": chatty()}).running() as service:
        subprocess.run(
            [sys.executable, "-m", "locust", *words, "--suite-settings", "settings.json"], cwd=tmp_path, check=True,
            env=environment(tmp_path, service.target), timeout=60, capture_output=True,
        )  # fmt: skip
    assert finished(0, "", "", tmp_path / "alone").run["summary"]["requests"] == len(service.asked) > 0


def test_without_a_service_it_says_how_to_start_one(tmp_path: Path) -> None:
    done = load(None, tmp_path, "smoke")
    assert (done.status, done.out) == (1, "")
    assert "start it with `make run`" in done.err


def test_a_service_that_is_named_by_its_address(tmp_path: Path) -> None:
    with FakeService({"m": chatty()}).running() as service:
        environ = environment(tmp_path) | {"ROUNDHOUSE_API_KEY": API_KEY, "ROUNDHOUSE_ADMIN_KEY": ADMIN_KEY}
        words = command("steady", "--duration", "1s", "--rate", "9", "--target", service.target.url, "--out", "out")
        done = subprocess.run(words, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert finished(done.returncode, done.stdout, done.stderr, tmp_path / "out").kept


def test_other_machines_are_left_alone(tmp_path: Path) -> None:
    done = load(Target("http://192.0.2.1:8000"), tmp_path, "smoke")
    assert done.status == 2
    assert "http://192.0.2.1:8000 is not this machine; --allow-remote" in done.err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("bogus",), "there is no suite 'bogus'; there are smoke"),
        ((), "name a suite: smoke"),
        (("steady", "--users", "-1"), "--users must be 0 or more"),
        (("steady", "--unstreamed", "2"), "--unstreamed must be from 0 to 1"),
        (("steady", "--what"), "unrecognized"),
        (("steady", "--duration", "soon"), "must look like 30s"),
        (("steady", "--dialects", "french"), "must be like chat=3,messages=1"),
        (("steady", "--prompt-tokens", "many"), "is none of fixed:64"),
        (("steady", "--slo", "none.yaml"), "none.yaml cannot be read"),
        (("replay",), "--trace FILE"),
        (("replay", "--trace", "none.csv"), "--trace: "),
        (("steady", "--models", "n"), "--models: no model n; there are m"),
        (("steady", "--target", "there"), "--target should look like http://127.0.0.1:8000, not 'there'"),
    ],
)
def test_wrong_options_are_refused(words: tuple[str, ...], why: str, tmp_path: Path) -> None:
    with FakeService({"m": chatty()}).running() as service:
        done = load(service.target, tmp_path, *words)
        told = load(service.target, tmp_path, *words, "--json")
    assert (done.status, done.out) == (2, "")
    assert why in done.err
    assert why in json.loads(told.out)["error"]["message"]
    assert not service.asked


def test_only_the_generator_brings_gevent_in() -> None:
    code = (
        "import sys, loadtests.__main__, loadtests.chat, loadtests.ceiling, loadtests.coldstart.__main__;"
        "assert not {'gevent', 'locust'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
