"""Commands that show what the service knows: for people in columns, for machines as it was answered."""

from __future__ import annotations

import msgspec
import pytest

from tests.gateway.cli.conftest import Cli
from tests.gateway.cli.fake_admin import FLEET, MIB, FakeAdmin, decision


def test_gpus_say_that_they_are_simulated(cli: Cli, admin: FakeAdmin) -> None:
    shown = cli("gpus")
    assert shown.status == 0
    lines = [line.split() for line in shown.out.splitlines()]
    assert lines[0] == ["GPU", "KIND", "MEMORY", "RESERVED", "FREE", "IN", "USE", "STATE", "REPLICAS"]
    sizes = ["512", "MiB", "176", "MiB", "336", "MiB", "0", "B"]
    assert lines[1] == ["vm/gpu-0", "simulated", *sizes, "-", "tiny-llama-1"]
    assert "simulated" in shown.err


def test_memory_of_a_real_gpu_that_nobody_has_reserved_is_pointed_out(cli: Cli, admin: FakeAdmin) -> None:
    first, second = FLEET.gpus
    real = msgspec.structs.replace(first, simulated=False, name="H100", used_bytes=400 * MIB)
    admin.fleet = msgspec.structs.replace(FLEET, gpus=(real, second))
    lines = cli("gpus").out.splitlines()
    assert "400 MiB" in lines[1]
    assert "224 MiB in use that nobody has reserved" in lines[1]
    assert "nobody" not in lines[2]


def test_models_are_listed_by_default(cli: Cli, admin: FakeAdmin) -> None:
    assert cli("models").out == cli("models", "list").out
    lines = cli("models").out.splitlines()
    assert lines[1].split()[:8] == ["tiny-llama", "llama", "vllm", "gpu", "1", "3", "1", "176"]
    assert "model.safetensors is cut off" in lines[2]


def test_models_show_what_they_hold_how_they_run_and_what_it_costs(cli: Cli, admin: FakeAdmin) -> None:
    shown = cli("models")
    line = shown.out.splitlines()[1]
    for expected in (
        "200 MiB",
        "fast, mapped",
        "0.02 s",
        "0.21 s",
        "24 MiB more than its card says",
        "quarantined 2 times",
    ):
        assert expected in line
    assert "simulated" in shown.err
    (found, broken) = cli("models", "--json").json["data"]
    assert (found["path"], found["weights"], found["memory"]["overhead"]) == ("fast", "mapped", 88 * MIB)
    assert broken["tier"] == "disk"
    assert cli("models", "--json").json["simulated"] is True


def test_one_model_by_kind_of_memory_with_its_costs_and_replicas(cli: Cli, admin: FakeAdmin) -> None:
    shown = cli("models", "show", "tiny-llama")
    assert admin.asked == ["GET /admin/v1/models/tiny-llama"]
    assert "(simulated GPUs)" in shown.out
    assert "its weights are in the page cache" in shown.out
    assert "wake 0.02 s; start, weights in page cache 0.21 s; start, weights on disk 1.50 s" in shown.out
    (overhead,) = [line.split() for line in shown.out.splitlines() if line.startswith("overhead")]
    assert overhead == ["overhead", "64", "MiB", "measured", "88", "MiB", "88", "MiB"]
    assert "tiny-llama-1" in shown.out
    assert cli("models", "show", "tiny-llama", "--json").json["simulated"] is True


def test_a_model_that_failed_says_what_kind_of_fault_it_was_and_when_it_is_tried_again(
    cli: Cli, admin: FakeAdmin
) -> None:
    out = cli("models", "show", "org/broken").out
    assert "note      model.safetensors is cut off" in out
    assert "fault     weights, 3 in a row; next attempt not until its card or its files change" in out


def test_replicas_say_why(cli: Cli, admin: FakeAdmin) -> None:
    line = cli("replicas").out.splitlines()[1]
    assert line.startswith("tiny-llama-1  tiny-llama  ready")
    assert "4711" in line
    assert "ready after 0.15 s" in line
    assert "fast, mapped" in line
    assert "200 MiB" in line


@pytest.mark.parametrize("command", [("gpus",), ("models",), ("models", "list"), ("replicas",)])
def test_as_json_the_answer_is_passed_on_whole(cli: Cli, admin: FakeAdmin, command: tuple[str, ...]) -> None:
    shown = cli(*command, "--json")
    assert shown.status == 0
    assert shown.json["object"] == "list"
    assert len(shown.json["data"]) >= 1
    assert shown.err == ""
    assert admin.asked == [f"GET /admin/v1/{command[0]}"]


def test_status_of_a_service_elsewhere(cli: Cli, admin: FakeAdmin) -> None:
    shown = cli("status", "--json")
    assert shown.status == 0
    assert (shown.json["url"], shown.json["state"], shown.json["parts"]) == (admin.url, "serving", [])
    assert shown.json["service"]["replicas"] == {"ready": 1}
    said = cli("status")
    assert "2 simulated on 1 node, 176 MiB of 1 GiB reserved" in said.out
    assert "3 in flight, 1 held" in said.out


def test_status_names_the_workers_where_there_are_several(cli: Cli, admin: FakeAdmin) -> None:
    assert "workers" not in cli("status").out, "one is nothing to speak of"
    admin.workers_wanted = 3
    assert "workers   1 of 3 answer: 1 (50 MiB)" in cli("status").out


def test_decisions_newest_last_for_people_and_as_answered_for_machines(cli: Cli, admin: FakeAdmin) -> None:
    admin.decisions = [
        decision(1),
        decision(2, "stop", model_id="tiny-gemma", evicted_for="tiny-llama", reason="least recently used"),
    ]
    lines = cli("decisions").out.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines] == [
        "start   tiny-llama on vm/gpu-0: reason 1",
        "stop    tiny-gemma on vm/gpu-0 for tiny-llama: least recently used",
    ]
    found = cli("decisions", "--json").json
    assert [each["id"] for each in found["data"]] == ["2-0", "1-0"]
    assert [each["id"] for each in cli("decisions", "--model", "tiny-gemma", "--json").json["data"]] == ["2-0"]
    for_its_sake = cli("decisions", "--model", "tiny-llama", "--json").json["data"]
    assert [each["id"] for each in for_its_sake] == ["2-0", "1-0"]
    assert [each["id"] for each in cli("decisions", "--limit", "1", "--json").json["data"]] == ["2-0"]


def test_nothing_to_show_is_said_beside_the_data(cli: Cli, admin: FakeAdmin) -> None:
    shown = cli("decisions")
    assert (shown.status, shown.out) == (0, "")
    assert "Nothing has been decided yet" in shown.err


def test_long_cells_are_not_cut_where_nobody_sees_the_edge(cli: Cli, admin: FakeAdmin) -> None:
    text = "a long reason " * 10
    admin.decisions = [decision(1, reason=text)]
    assert text.strip() in cli("decisions").out


def test_status_reminds_of_what_operators_have_closed(cli: Cli, admin: FakeAdmin) -> None:
    assert "closed" not in cli("status").out
    (node, *others), (first, second) = FLEET.nodes, FLEET.gpus
    cordoned = msgspec.structs.replace(node, cordoned=True)
    drained = msgspec.structs.replace(first, cordoned=True)
    admin.fleet = msgspec.structs.replace(FLEET, nodes=(cordoned, *others), gpus=(drained, second))
    shown = cli("status").out
    assert f"closed    {node.id} is cordoned: nothing new goes there; roundhouse node uncordon {node.id}" in shown
    assert f"closed    {first.id} is drained: nothing new goes there; roundhouse gpus undrain {first.id}" in shown
    assert len(cli("status", "--json").json["service"]["out_of_service"]) == 2
