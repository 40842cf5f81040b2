"""Reading the openb trace's files: what may be missing, and how a wrong one is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.policies.options import BadData, Options
from loadtests.policies.packing.openb import (
    MIB,
    PUBLISHED,
    list_name,
    read_machines,
    read_published,
    read_tasks,
    task_lists,
)
from packers.placement import Ask
from tests.loadtests.policies.openb_files import NODE_HEAD, TASK_HEAD, folder, node_lines, published_lines, write


def options(data: Path) -> Options:
    return Options(data, None, (), data / "results", 1)


def test_nodes_are_read_packed_or_not(tmp_path: Path) -> None:
    plain = read_machines(write(tmp_path / "nodes.csv", node_lines(4)))
    packed = read_machines(write(tmp_path / "nodes.csv.gz", node_lines(4)))
    assert plain == packed
    assert (plain[0].name, plain[0].cpu_milli, plain[0].host_bytes, plain[0].gpus, plain[0].model) == (
        "small-00",
        32000,
        131072 * MIB,
        2,
        "T4",
    )


def test_a_task_is_what_it_asks_for(tmp_path: Path) -> None:
    lines = [TASK_HEAD, "a,4000,8192,1,300,T4|A10,LS", "b,12000,0,8,1000,,", "c,2000,16,0,0,A10,BE"]
    assert read_tasks(write(tmp_path / "tasks.csv", lines)) == [
        Ask(1, 0, 300, 4000, 8192 * MIB, ("A10", "T4")),
        Ask(8, 0, 1000, 12000),
        Ask(0, 0, 0, 2000, 16 * MIB),
    ]


def test_columns_nobody_needs_may_be_missing_and_in_any_order(tmp_path: Path) -> None:
    lines = ["gpu_milli,num_gpu,cpu_milli", "300,1,4000"]
    assert read_tasks(write(tmp_path / "tasks.csv", lines)) == [Ask(1, 0, 300, 4000)]


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["name,num_gpu,gpu_milli", "a,1,300"], "line 1: the columns cpu_milli are missing"),
        ([TASK_HEAD, "a,4000,8192,1,300,,LS", "b,x,8192,1,300,,LS"], "line 3: cpu_milli is no number: 'x'"),
        ([TASK_HEAD, "a,nan,8192,1,300,,LS"], "line 2: cpu_milli is no number: 'nan'"),
        ([TASK_HEAD, "a,4000,-1,1,300,,LS"], "line 2: memory_mib has to be at least 0, not -1"),
        ([TASK_HEAD, "a,4000,8192,1.5,300,,LS"], "line 2: num_gpu is no whole number: 1.5"),
        ([TASK_HEAD, "a,4000,8192,1,1001,,LS"], "line 2: gpu_milli has to be from 1 to 1000, not 1001"),
        ([TASK_HEAD, "a,4000,8192,1,0,,LS"], "line 2: gpu_milli has to be from 1 to 1000, not 0"),
        ([TASK_HEAD, "a,4000,8192,1,,,LS"], "line 2: gpu_milli is empty"),
        ([TASK_HEAD, "a,4000,8192"], "line 2: num_gpu is empty"),
        ([TASK_HEAD, "a,4000,8192,1,300,,LS,more"], "line 2: more fields than the first line names"),
        ([TASK_HEAD, "a,4000,8192,0,0,,LS"], "no task in it that asks for a GPU"),
        ([TASK_HEAD], "no task in it that asks for a GPU"),
        ([], "line 1: the columns cpu_milli, num_gpu, gpu_milli are missing"),
    ],
)
def test_a_wrong_task_list_is_named_with_its_line_and_field(tmp_path: Path, lines: list[str], problem: str) -> None:
    path = write(tmp_path / "tasks.csv", lines)
    with pytest.raises(BadData) as caught:
        read_tasks(path)
    assert str(path) in str(caught.value)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([NODE_HEAD, "a,32000,1024,0,T4"], "line 2: gpu has to be at least 1, not 0"),
        ([NODE_HEAD, "a,32000,1024,2,"], "line 2: model is empty"),
        ([NODE_HEAD, "a,32000,1024,2,T4", "a,32000,1024,2,T4"], "two nodes have the same sn"),
        ([NODE_HEAD], "no node in it"),
    ],
)
def test_a_wrong_node_list_is_named(tmp_path: Path, lines: list[str], problem: str) -> None:
    with pytest.raises(BadData, match=problem):
        read_machines(write(tmp_path / "nodes.csv", lines))


def test_every_list_of_the_folder_is_found_once(tmp_path: Path) -> None:
    folder(tmp_path, ["default", "multigpu99"])
    write(tmp_path / "openb" / "openb_pod_list_default.csv.gz", [TASK_HEAD])
    found = task_lists(options(tmp_path))
    assert {name: path.name for name, path in found.items()} == {
        "default": "openb_pod_list_default.csv",
        "multigpu99": "openb_pod_list_multigpu99.csv",
    }
    assert list_name(Path("x/openb_pod_list_a.b.csv.gz")) == "a.b"


def test_the_published_figures_are_those_at_the_end(tmp_path: Path) -> None:
    write(tmp_path / f"{PUBLISHED}.gz", published_lines(["default"]))
    assert read_published(options(tmp_path)) == {
        "default": {"BestFit": {42: 90.0, 44: 92.0}, "FGD": {42: 90.0, 44: 92.0}}
    }


def test_without_published_figures_there_are_none(tmp_path: Path) -> None:
    assert read_published(options(tmp_path)) == {}


def test_published_figures_without_their_end_are_refused(tmp_path: Path) -> None:
    write(tmp_path / PUBLISHED, ["workload,sc_policy,seed,0,100"])
    with pytest.raises(BadData, match="the columns 130 are missing"):
        read_published(options(tmp_path))
