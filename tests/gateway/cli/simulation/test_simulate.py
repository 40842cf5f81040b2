"""``roundhouse simulate`` as a command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from models.control.recording import Arrivals, Header, Step, encode_line
from packers.types import StartTimes
from tests.gateway.cli.conftest import Cli
from tests.gateway.test_http_packing import step

TRAFFIC = ("--generate", "zipf:models=6,rate=0.2,hours=0.5,service=2")
CONFIG = """
gpus: {simulated: 2x40GiB}
host_memory: 100GiB
policies: {placement: best-fit}
pools:
  - {name: rented, kind: burst, price_per_gpu_hour: 2.0, gpus: ["node-0/1"]}
models:
  - {model_id: big, model_source: ./big, aliases: [gpt], declared: {weights: 30GiB, kv_cache: 5GiB}}
  - {model_id: small, model_source: ./small, declared: {weights: 10GiB}}
"""


def test_a_sweep_is_a_table_that_says_it_is_simulated(cli: Cli) -> None:
    shown = cli("simulate", *TRAFFIC, "--gpus", "2x80GiB", "--sweep", "ttl=10,600 policy=lru,default")
    assert shown.status == 0, shown.err
    lines = shown.out.splitlines()
    assert lines[0].startswith("Simulated: ")
    assert [line.split("  ")[0] for line in lines[2:]] == [
        "ttl=10 lru", "ttl=10 default", "ttl=600 lru", "ttl=600 default",
    ]  # fmt: skip


def test_results_are_the_same_for_the_same_seed(cli: Cli) -> None:
    def results(seed: int) -> str:
        found = cli("simulate", *TRAFFIC, "--gpus", "1x80GiB", "--seed", str(seed), "--json", "-").json
        assert found["simulated"] is True
        for run in found["runs"]:
            del run["took_s"], run["result"]["decide_s"]
        return json.dumps(found)

    assert results(1) == results(1)
    assert results(1) != results(2)


def test_files_are_written_where_they_are_wanted(cli: Cli, tmp_path: Path) -> None:
    done = cli("simulate", *TRAFFIC, "--gpus", "1x80GiB", "--json", "out.json", "--html", "out.html")
    assert done.status == 0, done.err
    found = json.loads((tmp_path / "out.json").read_text())
    (run,) = found["runs"]
    assert run["result"]["requests"] == found["requests"] > 100
    assert run["policies"]["placement"]
    page = (tmp_path / "out.html").read_text()
    assert "simulated" in page
    assert page.count("<svg") == 4
    assert "out.html is written" in done.err


def test_models_hardware_and_prices_come_from_the_configuration(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "roundhouse.yaml").write_text(CONFIG)
    (tmp_path / "trace.csv").write_text(
        "time,model,service_s\n" + "".join(f"{i * 9},gpt,1\n{i * 9},small,1\n" for i in range(50))
    )
    found = cli("simulate", "--trace", "trace.csv", "--models", "roundhouse.yaml", "--json", "-").json
    assert found["hardware"] == "1 node with 2x40GiB, 107374182400 of host RAM each"
    result = found["runs"][0]["result"]
    assert {model["model"] for model in result["models"]} == {"big", "small"}
    assert {pool["pool"] for pool in result["pools"]} == {"owned", "rented"}
    assert [gpu["memory_bytes"] for gpu in result["gpus"]] == [40 * 2**30] * 2
    assert result["served"] == 100


def test_a_recording_is_simulated_with_the_models_it_was_made_with(cli: Cli, tmp_path: Path) -> None:
    lines = [encode_line(Header(roundhouse="1", at_unix_s=0.0)), encode_line(step())]
    lines += [encode_line(Arrivals(at_s=1000.0 + i, model="n", count=1, finished=1, service_s=0.5)) for i in range(20)]
    (tmp_path / "run.jsonl").write_text("\n".join(lines) + "\n")
    found = cli("simulate", "--trace", "run.jsonl", "--models-from-trace", "--gpus", "1x100B", "--json", "-").json
    assert (found["requests"], found["models"]) == (20, 2)
    assert found["runs"][0]["result"]["served"] == 20


def test_a_recording_knows_how_long_starts_took(cli: Cli, tmp_path: Path) -> None:
    seen = step()
    models = tuple(replace(model, startup=StartTimes(disk_s=0.25, host_s=1.0)) for model in seen.snapshot.models)
    later = Step(snapshot=replace(seen.snapshot, models=models), policies=seen.policies, plan=seen.plan)
    arrivals = Arrivals(at_s=1001.0, model="n", count=1, finished=1, service_s=0.5)
    lines = [encode_line(each) for each in (Header(roundhouse="1", at_unix_s=0.0), seen, later, arrivals)]
    (tmp_path / "run.jsonl").write_text("\n".join(lines) + "\n")

    def wait_s(*more: str) -> float:
        found = cli("simulate", "--trace", "run.jsonl", "--gpus", "1x100B", "--json", "-", *more).json
        longest: float = found["runs"][0]["result"]["waits"]["max_s"]
        return longest

    assert wait_s() == pytest.approx(0.25)
    assert wait_s("--disk-start", "3s") == pytest.approx(3.0), "what is told counts more"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name either --trace or --generate"),
        ((*TRAFFIC, "--trace", "x.csv"), "name either --trace or --generate"),
        (TRAFFIC, "name the GPUs"),
        ((*TRAFFIC, "--gpus", "0x80GiB"), "has no GPU or no memory"),
        ((*TRAFFIC, "--gpus", "lots"), "--gpus: "),
        ((*TRAFFIC, "--gpus", "2x8GiB"), "of GPU memory, the largest GPU has 8 GiB"),
        ((*TRAFFIC, "--gpus", "1x80GiB", "--weights", "heavy"), "--weights: "),
        ((*TRAFFIC, "--gpus", "1x80GiB", "--disk-start", "slow"), "--disk-start: "),
        ((*TRAFFIC, "--gpus", "1x80GiB", "--policy", "lruu"), "policy 'lruu' is unknown"),
        ((*TRAFFIC, "--gpus", "1x80GiB", "--models", "no.yaml"), "no.yaml"),
        (("--trace", "no.csv", "--gpus", "1x80GiB"), "no.csv cannot be read"),
        ((*TRAFFIC, "--models", "x.yaml", "--models-from-trace"), "name either --models or --models-from-trace"),
        (("--generate", "zipf:rate=0.000001", "--gpus", "1x80GiB"), "it has no requests"),
    ],
)
def test_what_is_asked_wrongly_ends_with_2(cli: Cli, arguments: tuple[str, ...], said: str) -> None:
    refused = cli("simulate", *arguments)
    assert (refused.status, refused.out) == (2, "")
    assert said in refused.err


def test_models_without_a_size_cannot_be_simulated(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "roundhouse.yaml").write_text("models: [{model_id: m, model_source: ./gone}]")
    refused = cli("simulate", *TRAFFIC, "--models", "roundhouse.yaml", "--gpus", "1x80GiB")
    assert refused.status == 2
    assert "nobody knows how large m is" in refused.err


def test_a_model_of_the_trace_that_the_configuration_lacks(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "roundhouse.yaml").write_text(CONFIG)
    (tmp_path / "trace.csv").write_text("time,model\n0,big\n1,smal\n")
    refused = cli("simulate", "--trace", "trace.csv", "--models", "roundhouse.yaml")
    assert refused.status == 2
    assert "trace.csv" in refused.err
    assert "'smal'" in refused.err


def test_how_long_starts_take_can_be_told(cli: Cli) -> None:
    def longest_s(start: str) -> float:
        one = ("--generate", "poisson:models=1,rate=0.1,hours=0.2,service=2")
        found = cli("simulate", *one, "--gpus", "1x80GiB", "--disk-start", start, "--json", "-").json
        wait: float = found["runs"][0]["result"]["waits"]["max_s"]
        return wait

    assert longest_s("2s") == pytest.approx(2.0)
    assert longest_s("2s+8GiB/s") == pytest.approx(4.0), "16 GiB of weights"
