"""Folders like the openb trace's, made up: 40 nodes, a few kinds of tasks."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterable
from pathlib import Path

NODE_HEAD = "sn,cpu_milli,memory_mib,gpu,model"
TASK_HEAD = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos"
KINDS = (
    (4000, 8192, 1, 300),
    (3000, 8192, 1, 700),
    (8000, 16384, 1, 1000),
    (16000, 65536, 4, 1000),
    (6000, 4096, 0, 0),
)


def node_lines(nodes: int = 40) -> list[str]:
    small = [f"small-{number:02},32000,131072,2,T4" for number in range(nodes // 2)]
    large = [f"large-{number:02},64000,262144,4,A10" for number in range(nodes - nodes // 2)]
    return [NODE_HEAD, *small, *large]


def task_lines(tasks: int = 150, seed: int = 1) -> list[str]:
    rng = random.Random(seed)
    lines = [TASK_HEAD]
    for number in range(tasks):
        cpu_milli, mib, gpus, milli = rng.choices(KINDS, (5, 5, 6, 1, 1))[0]
        spec = rng.choice(["", "", "T4|A10", "A10"]) if gpus == 1 else ""
        lines.append(f"task-{number:03},{cpu_milli},{mib},{gpus},{milli},{spec},LS")
    return lines


def write(path: Path, lines: Iterable[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(lines) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def folder(root: Path, lists: Iterable[str] = ("default",)) -> Path:
    write(root / "openb" / "openb_node_list_gpu_node.csv.gz", node_lines())
    for seed, name in enumerate(lists):
        write(root / "openb" / f"openb_pod_list_{name}.csv", task_lines(seed=seed))
    return root


def published_lines(lists: Iterable[str], percent: float = 90.0) -> list[str]:
    head = "workload,sc_policy,tune,seed,total_gpus,0,129,130"
    rows = [
        f"openb_pod_list_{name},{policy},1.3,{seed},120,0.2,50.0,{percent + seed - 42}"
        for name in lists
        for policy in ("05-BestFit", "06-FGD")
        for seed in (42, 44)
    ]
    return [head, *rows]
