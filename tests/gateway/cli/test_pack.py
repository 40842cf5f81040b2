"""``roundhouse pack``: the question it answers, how it says so, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gateway.cli.conftest import Cli

LIST = """\
- {model_id: qwen, replicas: 3, memory: 15GiB, compute: 30%}
- {model_id: llama-70b, memory: 38GiB, tensor_parallel: 4}
- model_id: bert
  replicas: 5
  declared: {weights: 1GiB, kv_cache: 0, overhead: 512MiB}
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    path = tmp_path / "models.yaml"
    path.write_text(LIST)
    return path


def test_how_many_gpus_are_needed(cli: Cli, models: Path) -> None:
    said = cli("pack", str(models), "--gpus", "80GiB", "--json")
    assert said.status == 0
    answer = said.json
    assert (answer["nodes"], answer["nodes_at_least"], answer["gpus_per_node"]) == (1, 1, 8)
    assert answer["proved_optimal"] is True
    assert answer["over_bound"] == 0
    assert len(answer["placements"]) == 9
    [large] = [place for place in answer["placements"] if place["model_id"] == "llama-70b"]
    assert len(large["gpus"]) == 4
    assert large["bytes_per_gpu"] == 38 * 2**30


def test_the_answer_for_people(cli: Cli, models: Path) -> None:
    said = cli("pack", str(models), "--gpus", "80GiB")
    assert said.out.splitlines()[0].endswith("of 80 GiB on 1 node of 8: proved, no fewer nodes can be enough")
    assert "qwen#0" in said.out
    assert said.err == ""


def test_single_gpus_are_counted_one_by_one(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("- {model_id: a, replicas: 5, memory: 50GiB}\n")
    answer = cli("pack", "m.yaml", "--gpus", "80GiB", "--json").json
    assert (answer["gpus"], answer["gpus_at_least"], answer["nodes"]) == (5, 5, 1)
    assert "5 GPUs of 80 GiB on 1 node of 8: proved, no fewer GPUs" in cli("pack", "m.yaml", "--gpus", "80GiB").out
    assert "5 GPUs of 80 GiB: " in cli("pack", "m.yaml", "--gpus", "80GiB", "--gpus-per-node", "1").out


def test_whether_it_fits(cli: Cli, models: Path) -> None:
    said = cli("pack", str(models), "--gpus", "4x80GiB,4x24GiB", "--json")
    assert said.status == 0
    assert (said.json["verdict"], said.json["left_out"], said.json["gpus_given"]) == ("fits", [], 8)
    assert "It fits: " in cli("pack", str(models), "--gpus", "4x80GiB,4x24GiB").out


def test_what_does_not_fit_is_named_and_the_status_is_1(cli: Cli, models: Path) -> None:
    said = cli("pack", str(models), "--gpus", "4x40GiB", "--json")
    assert said.status == 1
    assert said.json["verdict"] == "cannot"
    assert said.json["why"] == "at least 6 GPUs are needed, and there are 4"
    assert said.json["left_out"]
    words = cli("pack", str(models), "--gpus", "4x40GiB").out
    assert "It cannot fit: at least 6 GPUs are needed, and there are 4; left out here: " in words


def test_nodes_of_another_size(cli: Cli, models: Path) -> None:
    answer = cli("pack", str(models), "--gpus", "80GiB", "--gpus-per-node", "4", "--json").json
    assert answer["nodes"] == 1
    refused = cli("pack", str(models), "--gpus", "80GiB", "--gpus-per-node", "2", "--json")
    assert refused.status == 2
    [problem] = refused.error["problems"]
    assert (problem["line"], problem["field"]) == (2, "[1].tensor_parallel")
    assert problem["message"] == "4 is more than any node has GPUs that it fits on (2)"


def test_models_that_must_not_share_a_node(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("- {model_id: a, replicas: 3, memory: 1GiB, anti_affinity: [a]}\n")
    assert cli("pack", "m.yaml", "--gpus", "80GiB", "--json").json["nodes"] == 3
    assert cli("pack", "m.yaml", "--gpus", "16x80GiB", "--json").json["why"] == (
        "at least 3 nodes are needed, and there are 2"
    )


def test_the_services_own_configuration(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / "b.yaml").write_text(
        "model_id: b\nmodel_source: ./b\ndeclared: {weights: 30GiB, kv_cache: 8GiB, kv_min: 2GiB, overhead: 2GiB}\n"
    )
    (tmp_path / "roundhouse.yaml").write_text(
        "models_dir: cards\nmodels:\n"
        "  - {model_id: a, model_source: ./a, max_replicas: 2,\n"
        "     declared: {weights: 30GiB, overhead: 0, kv_cache: 9GiB}}\n"
    )
    answer = cli("pack", "roundhouse.yaml", "--gpus", "80GiB", "--json").json
    assert (answer["gpus"], answer["proved_optimal"]) == (2, True)
    assert {(place["model_id"], place["bytes_per_gpu"] >> 30) for place in answer["placements"]} == {
        ("a", 39),
        ("b", 40),
    }
    least = cli("pack", "roundhouse.yaml", "--gpus", "80GiB", "--least-kv", "--json").json
    assert {(place["model_id"], place["bytes_per_gpu"] >> 30) for place in least["placements"]} == {
        ("a", 39),
        ("b", 34),
    }
    small = cli("pack", "roundhouse.yaml", "--gpus", "39GiB", "--json")
    [problem] = small.error["problems"]
    assert (problem["file"], problem["line"], problem["field"]) == ("cards/b.yaml", 3, "declared")
    assert problem["message"] == "40 GiB is more than the largest GPU has (39 GiB)"


def test_a_card_whose_weights_are_nowhere_to_be_seen(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "roundhouse.yaml").write_text("models:\n  - {model_id: a, model_source: ./a}\n")
    refused = cli("pack", "roundhouse.yaml", "--gpus", "80GiB", "--json")
    assert (refused.status, refused.error["code"]) == (2, "invalid_models")
    [problem] = refused.error["problems"]
    assert (problem["line"], problem["field"]) == (2, "models[0].declared.weights")
    assert "the folder does not exist" in problem["message"]


@pytest.mark.parametrize(
    ("text", "line", "field", "message"),
    [
        ("- {model_id: a, memory: -5GiB}", 1, "[0].memory", "'-5GiB' is not a size"),
        ("- {model_id: a, memory: .nan}", 1, "[0].memory", "nan is not a size"),
        ("- {model_id: a, memory: 1e30}", 1, "[0].memory", "'1e30' is not a size"),
        ("- {model_id: a, memory: 90GiB}", 1, "[0].memory", "90 GiB is more than the largest GPU has (80 GiB)"),
        ("- {model_id: a, memory: 1GiB, compute: .nan}", 1, "[0].compute", "'nan' is not a share of a GPU"),
        ("- {model_id: a, memory: 1GiB, compute: much}", 1, "[0].compute", "'much' is not a share of a GPU"),
        ("- {model_id: a, memory: 1GiB, compute: 250%}", 1, "[0].compute", "250% is more than a GPU has"),
        ("- {model_id: a, memory: 1GiB, replicas: -1}", 1, "[0].replicas", "-1 is not possible"),
        ("- model_id: a\n  memory: 1GiB\n  tensor_parallel: 0", 3, "[0].tensor_parallel", "0 is not possible"),
        ("- {model_id: a}", 1, "[0].memory", "is missing"),
        ("- {model_id: a, memory: 1, declared: {weights: 1}}", 1, "[0].memory", "is given beside declared"),
        ("- {model_id: a, declared: {kv_cache: 1GiB}}", 1, "[0].declared.weights", "is missing"),
        ("- {model_id: a, memroy: 1GiB}", 1, "[0].memroy", "is not a known key"),
        (
            "- {model_id: a, memory: 1}\n- {model_id: a, memory: 2}",
            2,
            "[1].model_id",
            "'a' is there already, on line 1",
        ),
        ("models: [{model_id: a, memory: x}]", 1, "models[0].memory", "'x' is not a size"),
        ("[]", 1, "", "names no models"),
        ("just words", 1, "", "does not hold keys and values"),
        ("- {model_id: a, memory: 1GiB", 1, "", "is not valid YAML"),
    ],
)
def test_what_is_wrong_is_named_by_file_line_and_field(
    cli: Cli, tmp_path: Path, text: str, line: int, field: str, message: str
) -> None:
    (tmp_path / "m.yaml").write_text(text)
    refused = cli("pack", "m.yaml", "--gpus", "80GiB", "--json")
    assert (refused.status, refused.error["code"]) == (2, "invalid_models")
    problems = refused.error["problems"]
    found = next(problem for problem in problems if message in problem["message"])
    assert (found["file"], found["line"], found["field"]) == ("m.yaml", line, field)
    assert found["cure"]


def test_a_file_that_is_not_there(cli: Cli) -> None:
    refused = cli("pack", "nowhere.yaml", "--gpus", "80GiB")
    assert refused.status == 2
    assert "nowhere.yaml: there is no such file" in refused.err


@pytest.mark.parametrize(
    "spec", ["0x80GiB", "80GiBx", "", "8x", "-1x80GiB", "nanGiB", "8x0GiB", "999999x80GiB", "9999TiB"]
)
def test_gpus_that_cannot_be_read(cli: Cli, models: Path, spec: str) -> None:
    refused = cli("pack", str(models), "--gpus", spec, "--json")
    assert (refused.status, refused.error["code"]) == (2, "invalid_gpus")
    assert refused.error["message"].startswith("--gpus: ")
    assert refused.error["cure"]


def test_without_gpus_the_usage_is_shown(cli: Cli, models: Path) -> None:
    refused = cli("pack", str(models))
    assert refused.status == 2
    assert "--gpus" in refused.err
