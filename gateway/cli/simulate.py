"""``roundhouse simulate``: a trace through the packer in virtual time, with other policies, other hardware."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.errors import AskedWrongly, CliError
from gateway.cli.output import say, show_json, show_table, show_text

if TYPE_CHECKING:
    from gateway.cli.simulation.runs import Run

STDOUT = Path("-")
Text = str | None


def simulate(
    trace: Annotated[
        Path | None,
        typer.Option("--trace", help="Requests: CSV or JSONL (.gz), also what `record` wrote", show_default=False),
    ] = None,
    generate: Annotated[
        Text, typer.Option("--generate", help="Or made up: zipf:models=100,rate=2,hours=2", show_default=False)
    ] = None,
    models: Annotated[
        Path | None, typer.Option("--models", help="A roundhouse.yaml with the models", show_default=False)
    ] = None,
    models_from_trace: Annotated[
        bool, typer.Option("--models-from-trace", help="Take the models from the trace; the default without --models.")
    ] = False,
    weights: Annotated[str, typer.Option(help="Weights of such models; several are taken in turn")] = "16GiB",
    kv_cache: Annotated[str, typer.Option(help="KV cache of such models")] = "4GiB",
    model: Annotated[Text, typer.Option(help="The model of a trace without model names", show_default=False)] = None,
    gpus: Annotated[
        Text, typer.Option("--gpus", help="GPUs of each node, such as 8x80GiB; default: as configured")
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, help="How many such nodes")] = 1,
    host_memory: Annotated[
        Text, typer.Option(help="RAM of each node for sleeping models; default: as configured, else none")
    ] = None,
    price: Annotated[float, typer.Option(min=0, help="Of an owned GPU for an hour")] = 0.0,
    disk_start: Annotated[Text, typer.Option(help="Time of a start, such as 8s+3GB/s", show_default=False)] = None,
    host_start: Annotated[Text, typer.Option(help="Time of a wake, such as 1s+20GB/s", show_default=False)] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option("--policy", help="Who gets the memory: lru, ours, ...; several are compared", show_default=False),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option("--sweep", help="Every combination: 'ttl=60,600 policy=lru,ours'", show_default=False),
    ] = None,
    slots: Annotated[int | None, typer.Option(min=1, help="Requests that a replica serves at a time")] = None,
    rate: Annotated[float | None, typer.Option(min=0, help="Scale the trace to so many requests a second")] = None,
    until: Annotated[Text, typer.Option(help="Leave out what comes later, such as 2h", show_default=False)] = None,
    seed: Annotated[int, typer.Option(min=0, help="For everything that is drawn at random")] = 0,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all results; - for stdout", show_default=False)
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a report with pictures", show_default=False)
    ] = None,
) -> None:
    """Simulate yesterday's traffic, or tomorrow's, under policies and hardware to be compared. Touches no GPU."""
    from gateway.cli.simulation.runs import progress_bar, run_all
    from gateway.cli.simulation.setup import Asked, about, prepare
    from gateway.cli.simulation.sweep import variants
    from gateway.cli.simulation.worlds import Hardware, Sizes

    if (trace is None) == (generate is None):
        raise AskedWrongly("name either --trace or --generate", code="usage", cure="see: roundhouse simulate --help")
    if models is not None and models_from_trace:
        raise AskedWrongly("name either --models or --models-from-trace", code="usage")
    chosen = variants(policy or (), sweep or ())
    asked = Asked(
        trace=trace,
        generate=generate,
        models=models,
        model=model,
        hardware=Hardware(gpus or "", nodes, host_memory or "", price, disk_start, host_start),
        sizes=Sizes(weights, kv_cache),
        seed=seed,
        rate=rate,
        slots=slots,
        until=until,
    )
    setup, source = prepare(asked)
    with progress_bar(len(chosen)) as report:
        done = run_all(setup, chosen, report)
    _show(done, about(source, setup), json, html)


def _show(done: list[Run], about: dict[str, Any], json: Path | None, html: Path | None) -> None:
    _write(done, about, json, html)
    if json != STDOUT:
        from gateway.cli.simulation.table import COLUMNS, rows

        show_text(f"Simulated: {about['requests']} requests from {about['trace']} on {about['hardware']}")
        show_table(COLUMNS, rows(done), "Nothing was simulated.")


def _write(done: list[Run], about: dict[str, Any], json: Path | None, html: Path | None) -> None:
    from gateway.cli.simulation.table import document

    if json == STDOUT:
        show_json(document(done, about))
    elif json is not None:
        import msgspec

        _to_file(json, msgspec.json.format(msgspec.json.encode(document(done, about)), indent=1).decode() + "\n")
    if html is not None:
        from gateway.cli.simulation.report import report

        _to_file(html, report(done, about))


def _to_file(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as problem:
        raise CliError(
            f"{path} cannot be written: {problem.strerror or problem}", code="file", cure="name another file"
        ) from None
    say(f"{path} is written.")
