"""``roundhouse weights``: what is on this node; how it gets here, is checked and leaves. Needs no running service, but
for ``list --node``, which asks one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.errors import CliError
from gateway.cli.options import ConfigFile, DryRun, HomeFolder, Json
from gateway.cli.output import age_text, bytes_text, say, show_json, show_json_line, show_table, show_text

app = typer.Typer(
    help="Weights on this node: import, check, evict.", invoke_without_command=True, rich_markup_mode=None
)

WHAT = "A model of the catalog, a folder, hf://org/repo@revision or s3://bucket/prefix"
Source = Annotated[str, typer.Argument(metavar="SOURCE", help=WHAT, show_default=False)]
Sources = Annotated[list[str] | None, typer.Argument(metavar="[SOURCE]...", help=WHAT, show_default=False)]
JsonLines = Annotated[
    bool, typer.Option("--json", help="JSON lines on stdout: progress, then the result or the error.")
]
Node = Annotated[
    str | None,
    typer.Option("--node", metavar="NODE", help="Of this node of the running cluster", show_default="this machine"),
]
Copy = Annotated[
    bool,
    typer.Option("--copy", help="Copy a local folder into the store; else it is read once and stays in its place."),
]
To = Annotated[
    str | None, typer.Option("--to", metavar="SIZE", help="Down to this size; default: the quota", show_default=False)
]


@app.callback()
def default(context: typer.Context, home: HomeFolder = None, json: Json = False) -> None:
    if context.invoked_subcommand is None:
        list_weights(home, json)


@app.command("list")
def list_weights(home: HomeFolder = None, json: Json = False, node: Node = None) -> None:
    """Everything that takes room, what is on its way, and what was found damaged."""
    found = _listing(home, node)
    if json:
        show_json(found)
        return
    now = time.time()
    rows = (
        (
            each["source"],
            each["kind"],
            bytes_text(each["bytes"]),
            f"{each['cached_fraction']:.0%}" if each["cached_fraction"] is not None else None,
            age_text(now - each["used_unix_s"]) if each["used_unix_s"] else None,
            age_text(now - each["checked_unix_s"]) if each["checked_unix_s"] else None,
            each["state"],
        )
        for each in found["data"]
    )
    show_table(("SOURCE", "KIND", "SIZE", "IN RAM", "USED", "CHECKED", "STATE"), rows, "The store is empty.")
    quota = bytes_text(found["quota_bytes"]) if found["quota_bytes"] is not None else "none"
    say(f"used {bytes_text(found['used_bytes'])}, quota {quota}, free on the disk {bytes_text(found['free_bytes'])}")


def _listing(home: Path | None, node: str | None) -> dict[str, Any]:
    """Of this machine's store, which needs no service; of a node, by its name, as the service has asked it."""
    if node is None:
        from models.weights.listing import listing

        return listing(_store(home))
    from urllib.parse import quote

    from gateway.cli.client import find_service

    found: dict[str, Any] = find_service(home).get(f"nodes/{quote(node, safe='')}/weights")
    return found


@app.command("import")
def import_weights(
    source: Source,
    copy: Copy = False,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    home: HomeFolder = None,
    json: JsonLines = False,
) -> None:
    """Bring a model's weights here, verified. Interrupted, it goes on where it stopped when it is called again."""
    try:
        _import(source, copy, config, dry_run, home, json)
    except CliError as error:
        if not json:
            raise
        show_json_line(error.document())
        raise typer.Exit(error.exit_code) from None


def _import(source: str, copy: bool, config: Path | None, dry_run: bool, home: Path | None, json: bool) -> None:
    from gateway.cli.weights_progress import watching
    from gateway.cli.weights_target import find_target, refusals

    store = _store(home)
    with refusals(source):
        target = find_target(source, config, home)
        if dry_run:
            _show_plan(store.plan(target.url), json)
            return
        if target.settings is not None:
            store.configure(target.settings)
        began_s = time.monotonic()
        with watching(json) as tell:
            record = store.fetch(target.url, copy=copy, tell=tell)
    unchecked = record.against.get("", 0)
    if json:
        show_json_line(
            {
                "object": "weights",
                "source": record.url,
                "folder": record.folder,
                "version": record.version,
                "bytes": record.bytes,
                "checked_against": {said: count for said, count in record.against.items() if said},
                "unchecked_files": unchecked,
                "took_s": round(time.monotonic() - began_s, 3),
            }
        )
        return
    show_text(f"{record.url} is here: {bytes_text(record.bytes)} in {record.folder}")
    for said, count in sorted(record.against.items()):
        show_text(f"  {count} files agree with {said}" if said else f"  {count} files had no checksum to agree with")


def _show_plan(plan: Any, json: bool) -> None:
    rest = plan.bytes - plan.present_bytes
    if json:
        document = {"source": plan.url, "files": plan.files, "bytes": plan.bytes, "present_bytes": plan.present_bytes}
        show_json_line({"dry_run": True, **document})
        return
    show_text(f"would fetch {bytes_text(rest)} of {bytes_text(plan.bytes)} from {plan.url}:")
    for name in plan.files:
        show_text(f"  {name}")


@app.command()
def verify(sources: Sources = None, config: ConfigFile = None, home: HomeFolder = None, json: Json = False) -> None:
    """Read weights again and compare them with every checksum that is known; without a name, all that are known.

    Ends with 1 when something is damaged; layouts made from it are dropped, and it is refused until it is replaced.
    """
    from gateway.cli.weights_target import find_target, refusals
    from gateway.cli.weights_views import known_folders, verified

    store = _store(home)
    folders = {}
    for source in sources or ():
        with refusals(source):
            folders[source] = find_target(source, config, home).folder(store)
    results = [verified(store, source, folder, json) for source, folder in (folders or known_folders(store)).items()]
    if json:
        show_json({"object": "list", "ok": all(each["ok"] for each in results), "data": results})
    else:
        rows = ((each["source"], each["files"], bytes_text(each["bytes"]), each["state"]) for each in results)
        show_table(("SOURCE", "FILES", "SIZE", "STATE"), rows, "Nothing is known yet: roundhouse weights import")
    if not all(each["ok"] for each in results):
        raise typer.Exit(1)


@app.command()
def remove(
    source: Source, config: ConfigFile = None, dry_run: DryRun = False, home: HomeFolder = None, json: Json = False
) -> None:
    """Delete a download and the layouts made from it; a local folder itself stays."""
    from gateway.cli.weights_target import find_target, refusals
    from gateway.cli.weights_views import removed

    store = _store(home)
    with refusals(source):
        items = store.remove(str(find_target(source, config, home).url), dry_run=dry_run)
    _show_removed(removed(items, dry_run), json)


@app.command()
def prune(to: To = None, dry_run: DryRun = False, home: HomeFolder = None, json: Json = False) -> None:
    """Evict what was not used for the longest time until the quota is kept; never what runs, or is being written."""
    from gateway.cli.weights_target import read_size
    from gateway.cli.weights_views import removed

    choice = _store(home).prune(read_size(to), dry_run=dry_run)
    _show_removed({**removed(choice.victims, dry_run), "short_bytes": choice.short_bytes}, json)
    if choice.short_bytes:
        say(f"{bytes_text(choice.short_bytes)} more should go, but what is left is in use")


def _show_removed(document: dict[str, Any], json: bool) -> None:
    if json:
        show_json(document)
        return
    word = "would remove" if document["dry_run"] else "removed"
    for each in document["removed"]:
        show_text(f"{word} {each['kind']} of {each['source'] or each['path']}, {bytes_text(each['bytes'])}")
    show_text(f"{word} {bytes_text(document['freed_bytes'])} in all")


def _store(home: Path | None) -> Any:
    from gateway.cli.client import home_of
    from models.weights.store import WeightStore

    return WeightStore(home_of(home).weights)
