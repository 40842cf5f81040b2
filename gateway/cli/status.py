"""``roundhouse status``: the service at a glance, its parts included."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import typer

from gateway.cli.client import find_service, home_of
from gateway.cli.errors import CliError, NotRunning
from gateway.cli.options import HomeFolder, Json
from gateway.cli.output import age_text, bytes_text, say, show_json, show_table, show_text

if TYPE_CHECKING:
    from gateway.service.record import ServiceRecord


def status(home: HomeFolder = None, json: Json = False) -> None:
    """What runs, where, and how it is. Exit status 1 when it does not serve."""
    from gateway.service import record

    found = home_of(home)
    running = record.running(found)
    try:
        service = find_service(home)
        answer, problem = service.get("status"), None
        url = service.url
        if running is not None and url in (running.url, running.admin_url):
            url = running.url
        else:
            running = None  # another service was named than the one that runs here
    except CliError as error:
        if running is None:
            # An old demo.env leads to a URL at which nobody is: the plain truth is that nothing runs.
            raise (NotRunning(found.root) if error.code == "unreachable" else error) from None
        answer, problem, url = None, error, running.url
    document = _document(url, running, answer, problem)
    if json:
        show_json(document)
    else:
        _show(document)
    if problem is not None:
        raise typer.Exit(1)


def _document(url: str, running: ServiceRecord | None, answer: Any, problem: CliError | None) -> dict[str, Any]:
    import msgspec

    local = msgspec.to_builtins(running) if running else {}
    return {
        "url": url,
        "state": running.state if running else "serving",
        "pid": local.get("pid"),
        "home": local.get("home"),
        "config": local.get("config"),
        "since_unix_s": local.get("since_unix_s"),
        "parts": local.get("parts", []),
        "service": answer,
        "error": problem.document()["error"] if problem else None,
    }


def _show(document: dict[str, Any]) -> None:
    since = document["since_unix_s"]
    up_for = f" for {age_text(time.time() - since)}" if since else ""
    show_text(f"{document['state']}{up_for} at {document['url']}")
    if document["parts"]:
        rows = ((part["name"], part["state"], part["pid"], part["restarts"]) for part in document["parts"])
        show_table(("PART", "STATE", "PID", "RESTARTS"), rows, "")
    service = document["service"]
    if service is None:
        error = document["error"]
        silent = error["code"] == "unreachable"
        say(f"The gateway {'does not answer' if silent else 'cannot say more'}: {error['message']}")
        if error["cure"]:
            say(f"  cure: {error['cure']}")
        return
    kind = "simulated " if service["simulated"] else ""
    reserved, memory = bytes_text(service["gpu_reserved_bytes"]), bytes_text(service["gpu_memory_bytes"])
    states = ", ".join(f"{count} {state}" for state, count in sorted(service["replicas"].items())) or "none"
    nodes = f"{service['nodes']} node{'s' * (service['nodes'] != 1)}"
    show_text(f"GPUs      {service['gpus']} {kind}on {nodes}, {reserved} of {memory} reserved")
    show_text(f"models    {service['models']}; replicas: {states}")
    show_text(f"requests  {service['in_flight']} in flight, {service['held']} held")
    for out in service.get("out_of_service", ()):
        show_text(f"closed    {out}")
    workers = service["workers"]
    if service["workers_wanted"] > 1:
        sizes = ", ".join(f"{worker['pid']} ({bytes_text(worker['resident_bytes'])})" for worker in workers)
        show_text(f"workers   {len(workers)} of {service['workers_wanted']} answer: {sizes}")
    for problem in sorted({worker["problem"] for worker in workers if worker.get("problem")}):
        say(f"The gateway is cut off from other nodes: {problem}")
    if not service["controller"] or not service["controller"]["alive"]:
        say("The controller is silent: what runs goes on, nothing is started or moved.")
    if service["config_error"]:
        say(f"The changed configuration is not in force: {service['config_error']}")
    for problem in service["problems"]:
        say(problem)
