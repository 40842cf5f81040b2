"""``roundhouse replicas``: what the controller knows of each, as it stands."""

from __future__ import annotations

import time

from gateway.cli.client import find_service
from gateway.cli.options import HomeFolder, Json
from gateway.cli.output import age_text, show_json, show_table


def replicas(home: HomeFolder = None, json: Json = False) -> None:
    """Every replica: its state and why, and its GPU."""
    found = find_service(home).get("replicas")
    if json:
        show_json(found)
        return
    now = time.time()
    rows = (
        (
            replica["replica_id"],
            replica["model_id"],
            replica["state"],
            age_text(now - replica["state_since_unix_s"]),
            replica["gpu"],
            replica["pid"],
            replica["in_flight"],
            None if replica["start_s"] is None else f"{replica['start_s']:.2f} s",
            replica["reason"],
        )
        for replica in found["data"]
    )
    columns = ("REPLICA", "MODEL", "STATE", "FOR", "GPU", "PID", "IN FLIGHT", "STARTED IN", "REASON")
    show_table(columns, rows, "No replica runs; a request to a model starts one.")
