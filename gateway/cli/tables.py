"""``roundhouse gpus`` and ``roundhouse replicas``: what the controller knows, as it stands."""

from __future__ import annotations

import time

from gateway.cli.client import find_service
from gateway.cli.options import HomeFolder, Json
from gateway.cli.output import age_text, bytes_text, say, show_json, show_table


def gpus(home: HomeFolder = None, json: Json = False) -> None:
    """The GPUs and what is reserved on each."""
    found = find_service(home).get("gpus")
    if json:
        show_json(found)
        return
    rows = (
        (
            gpu["id"],
            "simulated" if gpu["simulated"] else gpu["name"],
            bytes_text(gpu["memory_bytes"]),
            bytes_text(gpu["reserved_bytes"]),
            bytes_text(gpu["free_bytes"]),
            " ".join(gpu["replicas"]),
        )
        for gpu in found["data"]
    )
    show_table(("GPU", "KIND", "MEMORY", "RESERVED", "FREE", "REPLICAS"), rows, "No GPU is known yet.")
    if found["simulated"]:
        say("These GPUs are simulated: the models are real and run on the CPU.")


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
