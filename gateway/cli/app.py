"""Puts the commands together and turns whatever they raise into words, JSON and an exit status."""

from __future__ import annotations

from collections.abc import Sequence

import typer
from typer.main import get_command

from gateway.cli import (
    audit,
    cluster,
    config,
    decisions,
    defrag,
    doctor,
    down,
    gateway,
    gpus,
    house,
    invoice,
    join,
    key_hash,
    keys,
    loadtest,
    logs,
    models,
    node,
    pack,
    part,
    planning,
    prices,
    record,
    replay,
    replicas,
    simulate,
    status,
    tenants,
    up,
    usage,
    version,
    warm,
    weights,
    why,
)
from gateway.cli.errors import AskedWrongly, CliError
from gateway.cli.output import say, show_json

app = typer.Typer(
    name="roundhouse",
    help="Many models on few GPUs behind one OpenAI-compatible endpoint.",
    add_completion=False,
    rich_markup_mode=None,  # a quarter of the time that help takes
    pretty_exceptions_enable=False,
)
app.command("up")(up.up)
app.command("down")(down.down)
app.command("join")(join.join)
app.add_typer(cluster.app, name="cluster")
app.command("gateway")(gateway.gateway)
app.command("status")(status.status)
app.add_typer(models.app, name="models")
app.add_typer(gpus.app, name="gpus")
app.add_typer(node.app, name="node")
app.command("warm")(warm.warm)
app.add_typer(weights.app, name="weights")
app.command("replicas")(replicas.replicas)
keys.app.command("hash")(key_hash.show_hash)
app.add_typer(keys.app, name="keys")
app.add_typer(tenants.app, name="tenants")
app.add_typer(prices.app, name="prices")
app.add_typer(house.app, name="house")
app.command("audit")(audit.audit)
app.add_typer(usage.app, name="usage")
app.command("invoice")(invoice.invoice)
app.command("decisions")(decisions.decisions)
app.command("why")(why.why)
app.command("defrag")(defrag.defrag)
app.command("logs")(logs.logs)
app.command("plan")(planning.plan)
app.command("pack")(pack.pack)
app.command("record")(record.record)
app.command("replay")(replay.replay)
app.command("loadtest", context_settings=loadtest.CONTEXT)(loadtest.loadtest)
app.command("simulate")(simulate.simulate)
app.command("doctor")(doctor.doctor)
app.add_typer(config.app, name="config")
app.command("reload")(config.reload)
app.command("part")(part.part)
app.command("version")(version.version)


def run(arguments: Sequence[str]) -> int:
    """One command; its exit status."""
    as_json = "--json" in arguments
    try:
        given = list(arguments) or ["--help"]
        result = get_command(app).main(given, prog_name="roundhouse", standalone_mode=False)
    except CliError as error:
        return fail(error, as_json)
    except typer.TyperException as error:
        return fail(AskedWrongly(error.format_message(), code="usage", cure=_help_for(error)), as_json)
    except typer.Abort:
        return 1
    except BrokenPipeError:
        return 1  # whoever read the output has gone
    return result if isinstance(result, int) else 0


def fail(error: CliError, as_json: bool) -> int:
    if as_json:
        show_json(error.document())
    else:
        say(f"error: {error.message}")
        if error.cure:
            say(f"  cure: {error.cure}")
    return error.exit_code


def _help_for(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"see: {context.command_path if context else 'roundhouse'} --help"
