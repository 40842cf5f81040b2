"""``roundhouse pack``: how many GPUs a set of models needs, or whether and where they fit on given ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.errors import AskedWrongly
from gateway.cli.options import Json
from gateway.cli.output import bytes_text, show_json, show_table, show_text

if TYPE_CHECKING:
    from models.catalog.errors import Problem
    from packers.static.answer import Answer, Fit, Spot
    from packers.static.problem import GpuSize, Item

MOST_GPUS = 100_000
_PART = re.compile(r"\s*(?:([0-9]{1,9})\s*[xX]\s*)?([^xX]+?)\s*", re.ASCII)
_HOW_GPUS = "write a size to learn how many are needed: 80GiB; or what there is: 8x80GiB, or 8x80GiB,4x40GiB"

ModelsFile = Annotated[Path, typer.Argument(metavar="FILE", help="A configuration, or a list of models and sizes")]
GpusOption = Annotated[str, typer.Option("--gpus", help="80GiB: how many of these? 8x80GiB,4x40GiB: does it fit?")]
PerNode = Annotated[int, typer.Option("--gpus-per-node", min=1, max=1024, help="A replica's GPUs are on one node")]
LeastKv = Annotated[bool, typer.Option("--least-kv", help="Count each KV cache at its declared minimum, kv_min")]


@dataclass(frozen=True, slots=True)
class Offer:
    """``counted``: the GPUs there are; else as many as it takes of the one size."""

    sizes: tuple[int, ...]
    counted: bool


def pack(
    file: ModelsFile, gpus: GpusOption, gpus_per_node: PerNode = 8, least_kv: LeastKv = False, json: Json = False
) -> int:
    """How many GPUs the models of a file need, all serving at once, and which model goes where.

    Of a configuration every model counts with its max_replicas. A list has entries like
    {model_id: qwen, replicas: 2, memory: 15GiB, tensor_parallel: 1, compute: 30%, anti_affinity: [qwen]}.
    Always says how few GPUs it could be at best, and whether that is reached.
    """
    offer = parse_offer(gpus)
    from gateway.cli.pack_input import read_wanted
    from models.catalog.errors import ConfigError
    from packers.static.fit import fit
    from packers.static.problem import GpuSize, ProblemError
    from packers.static.solve import pack as solve

    try:
        wanted = read_wanted(file, least_kv)
    except ConfigError as error:
        raise _refusal(file, error.problems) from None
    sizes = [GpuSize(size) for size in offer.sizes]
    try:
        if not offer.counted:
            answer = solve(wanted.items, sizes[0], gpus_per_node)
            _show_answer(answer, wanted.items, sizes[0], json)
            return 0
        nodes = [tuple(sizes[at : at + gpus_per_node]) for at in range(0, len(sizes), gpus_per_node)]
        found = fit(wanted.items, nodes)
        _show_fit(found, wanted.items, nodes, json)
        return 0 if not found.left_out else 1
    except ProblemError as error:
        raise _refusal(file, (wanted.problem(error),)) from None


def parse_offer(spec: str) -> Offer:
    """Raises AskedWrongly."""
    from models.catalog.errors import UnitError
    from models.catalog.units import parse_bytes
    from packers.static.problem import MOST_BYTES

    sizes: list[int] = []
    counted = False
    for part in spec.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise _bad_gpus(f"{part.strip()[:60]!r} does not name GPUs", _HOW_GPUS)
        try:
            size_bytes = parse_bytes(match[2])
        except UnitError as error:
            raise _bad_gpus(error.message, error.cure) from None
        count = int(match[1] or 1)
        counted = counted or match[1] is not None
        if count < 1 or not 1 <= size_bytes <= MOST_BYTES:
            raise _bad_gpus(f"{part.strip()!r} has no GPU, no memory or more than a GPU can have", _HOW_GPUS)
        if len(sizes) + count > MOST_GPUS:
            raise _bad_gpus(f"{spec[:60]!r} names more than {MOST_GPUS} GPUs", "name a size without a count")
        sizes += [size_bytes] * count
    return Offer(tuple(sizes), counted or len(sizes) > 1)


def _bad_gpus(message: str, cure: str) -> AskedWrongly:
    return AskedWrongly(f"--gpus: {message}", code="invalid_gpus", cure=cure)


def _refusal(file: Path, problems: Sequence[Problem]) -> AskedWrongly:
    lines = "\n".join(f"  {problem}" for problem in problems)
    return AskedWrongly(
        f"{file} cannot be packed\n{lines}",
        code="invalid_models",
        cure="`roundhouse pack --help` shows what an entry looks like",
        details={
            "problems": [
                {"file": each.file, "line": each.line, "field": each.field, "message": each.message, "cure": each.cure}
                for each in problems
            ]
        },
    )


def _show_answer(answer: Answer, items: Sequence[Item], gpu: GpuSize, as_json: bool) -> None:
    if as_json:
        show_json(
            {
                "gpus": answer.gpus,
                "gpus_at_least": answer.gpus_at_least,
                "nodes": answer.nodes,
                "nodes_at_least": answer.nodes_at_least,
                "gpus_per_node": answer.gpus_per_node,
                "gpu_bytes": gpu.memory_bytes,
                "proved_optimal": answer.proved,
                "over_bound": round(answer.over_bound, 6),
                "placements": _placements(answer.spots, items),
            }
        )
        return
    nodes = f" on {_count(answer.nodes, 'node')} of {answer.gpus_per_node}" if answer.gpus_per_node > 1 else ""
    show_text(f"{_count(answer.gpus, 'GPU')} of {bytes_text(gpu.memory_bytes)}{nodes}: {_proof(answer)}")
    _show_gpus(answer.spots, items, {})


def _proof(answer: Answer) -> str:
    noun = "node" if answer.by_node else "GPU"
    if answer.proved:
        return f"proved, no fewer {noun}s can be enough"
    return f"at least {_count(answer.at_least, noun)} {'is' if answer.at_least == 1 else 'are'} needed"


def _show_fit(found: Fit, items: Sequence[Item], nodes: Sequence[Sequence[GpuSize]], as_json: bool) -> None:
    given = sum(map(len, nodes))
    if as_json:
        show_json(
            {
                "verdict": found.verdict.value,
                "why": found.why or None,
                "gpus_given": given,
                "gpus_used": found.gpus,
                "gpus_at_least": found.gpus_at_least,
                "left_out": [{"model_id": model, "replicas": count} for model, count in found.left_out],
                "placements": _placements(found.spots, items),
            }
        )
        return
    if not found.left_out:
        show_text(f"It fits: {found.gpus} of {_count(given, 'GPU')} used, at least {found.gpus_at_least} are needed")
    else:
        left = ", ".join(f"{model} x {count}" for model, count in found.left_out)
        known = f"It cannot fit: {found.why}" if found.why else "No way to fit it was found, and none was ruled out"
        show_text(f"{known}; left out here: {left}")
    free = {(at, index): gpu.memory_bytes for at, node in enumerate(nodes) for index, gpu in enumerate(node)}
    _show_gpus(found.spots, items, free)


def _show_gpus(spots: Sequence[Spot], items: Sequence[Item], given: dict[tuple[int, int], int]) -> None:
    memory = {item.model: item.memory_bytes for item in items}
    held: dict[tuple[int, int], list[Spot]] = {place: [] for place in given}
    for spot in spots:
        for gpu in spot.gpus:
            held.setdefault((spot.node, gpu), []).append(spot)
    rows = []
    for (node, gpu), here in sorted(held.items()):
        names = " ".join(f"{spot.model}#{spot.replica}" for spot in here)
        rows.append((node, gpu, bytes_text(sum(memory[spot.model] for spot in here)), names))
    show_table(("NODE", "GPU", "USED", "REPLICAS"), rows, "Nothing is to be placed.")


def _placements(spots: Sequence[Spot], items: Sequence[Item]) -> list[dict[str, Any]]:
    memory = {item.model: item.memory_bytes for item in items}
    return [
        {
            "model_id": spot.model,
            "replica": spot.replica,
            "node": spot.node,
            "gpus": list(spot.gpus),
            "bytes_per_gpu": memory[spot.model],
        }
        for spot in spots
    ]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
