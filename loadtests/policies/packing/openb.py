"""The openb trace (Alibaba, cluster-trace-gpu-v2023): its nodes, its task lists, and the FGD authors' own results.

Columns are found by the names in the first line; those that no benchmark needs may be missing.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Never

from loadtests.policies.options import BadData, Options, read_lines
from packers.placement import Ask
from packers.types import Gpu, GpuId, Node, NodeId

MIB = 1 << 20
GPU_MILLI = 1000
NODES = "openb/openb_node_list_gpu_node.csv"
LISTS = "openb/openb_pod_list_*.csv"
PUBLISHED = "openb/fgd_published_allocation.csv"
PREFIX = "openb_pod_list_"
END_PERCENT = "130"  # of the cluster's GPUs have been asked for: the end of a published run


@dataclass(frozen=True, slots=True)
class Machine:
    """A node of the trace. ``model``: the name of its GPUs, which are all alike."""

    name: str
    cpu_milli: int
    host_bytes: int
    gpus: int
    model: str

    def node(self, name: str) -> Node:
        return Node(NodeId(name), self.host_bytes, self.cpu_milli)

    def gpu(self, name: str, index: int) -> Gpu:
        return Gpu(GpuId(f"{name}/{index}"), NodeId(name), index, 0, self.model, compute_milli=GPU_MILLI)


def read_machines(path: Path) -> list[Machine]:
    """Raises BadData naming the file, the line and the field."""
    found = []
    for row in Rows(path, ("sn", "cpu_milli", "memory_mib", "gpu", "model")):
        gpus = row.number("gpu", least=1)
        name = row.text("sn")
        found.append(Machine(name, row.number("cpu_milli", 1), row.number("memory_mib") * MIB, gpus, row.text("model")))
    if len({one.name for one in found}) < len(found):
        raise BadData(f"{path}: two nodes have the same sn")
    if not found:
        raise BadData(f"{path} has no node in it")
    return found


def read_tasks(path: Path) -> list[Ask]:
    """What each task asks for, in the list's order. Raises BadData naming the file, the line and the field."""
    found = []
    for row in Rows(path, ("cpu_milli", "num_gpu", "gpu_milli")):
        gpus = row.number("num_gpu")
        milli = row.number("gpu_milli", least=1, most=GPU_MILLI) if gpus else 0
        types = tuple(part.strip() for part in row.optional("gpu_spec").split("|") if part.strip()) if gpus else ()
        host_bytes = row.number("memory_mib") * MIB if row.optional("memory_mib") else 0
        found.append(Ask(gpus, 0, milli, row.number("cpu_milli"), host_bytes, types))
    if not any(ask.gpus for ask in found):
        raise BadData(f"{path} has no task in it that asks for a GPU (field num_gpu)")
    return found


def read_published(options: Options) -> dict[str, dict[str, dict[int, float]]]:
    """[list][policy][seed]: GPU % allocated at the end of the authors' runs; empty when the file is not there."""
    paths = [path for path in (options.data / PUBLISHED, options.data / f"{PUBLISHED}.gz") if path.exists()]
    found: dict[str, dict[str, dict[int, float]]] = {}
    for row in Rows(paths[0], ("workload", "sc_policy", "seed", END_PERCENT)) if paths else ():
        name = row.text("workload").removeprefix(PREFIX)
        policy = row.text("sc_policy").partition("-")[2]
        found.setdefault(name, {}).setdefault(policy, {})[row.number("seed")] = row.real(END_PERCENT)
    return found


def list_name(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".csv").removeprefix(PREFIX)


def task_lists(options: Options) -> dict[str, Path]:
    """Every task list of the folder by its name; of one that is there packed and unpacked, the unpacked."""
    return {list_name(path): path for path in sorted(options.files(LISTS), key=lambda path: path.suffix, reverse=True)}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a CSV file. Every reader raises BadData naming the file, the line and the field."""

    path: Path
    line: int
    fields: Mapping[str, str | None]

    def text(self, field: str) -> str:
        value = self.optional(field)
        return value if value else self._wrong(field, "is empty")

    def optional(self, field: str) -> str:
        return (self.fields.get(field) or "").strip()

    def number(self, field: str, least: int = 0, most: int | None = None) -> int:
        value = self.real(field)
        if value != int(value):
            return self._wrong(field, f"is no whole number: {value}")
        if value < least or (most is not None and value > most):
            limits = f"at least {least}" if most is None else f"from {least} to {most}"
            return self._wrong(field, f"has to be {limits}, not {int(value)}")
        return int(value)

    def real(self, field: str) -> float:
        text = self.text(field)
        try:
            value = float(text)
        except ValueError:
            return self._wrong(field, f"is no number: {text!r}")
        return value if abs(value) < float("inf") else self._wrong(field, f"is no number: {text!r}")

    def _wrong(self, field: str, what: str) -> Never:
        raise BadData(f"{self.path}, line {self.line}: {field} {what}")


class Rows:
    """The lines of a CSV file after its first. Raises BadData when a wanted column is missing."""

    def __init__(self, path: Path, wanted: Iterable[str]) -> None:
        self._path = path
        self._reader = csv.DictReader(read_lines(path))
        missing = [field for field in wanted if field not in (self._reader.fieldnames or ())]
        if missing:
            raise BadData(f"{path}, line 1: the columns {', '.join(missing)} are missing")

    def __iter__(self) -> Iterator[Row]:
        for fields in self._reader:
            if None in fields:
                raise BadData(f"{self._path}, line {self._reader.line_num}: more fields than the first line names")
            yield Row(self._path, self._reader.line_num, fields)
