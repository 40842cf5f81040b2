"""Servers get ports that no outgoing connection can take before they listen."""

from __future__ import annotations

import random
import socket
from pathlib import Path

import pytest

from loadtests.gateway.ports import LOWEST, RANGE_FILE, TRIES, free_port, free_ports


def test_ports_are_below_those_of_outgoing_connections() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(LOWEST <= port < max(int(RANGE_FILE.read_text().split()[0]), LOWEST + TRIES) for port in ports)


def test_a_port_that_is_taken_is_passed_over() -> None:
    taken = free_port(random.Random(1))
    with socket.create_server(("127.0.0.1", taken)):
        assert free_port(random.Random(1)) != taken


def test_where_all_are_taken_that_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtests.gateway.ports.TRIES", 1)
    file = tmp_path / "range"
    file.write_text(f"{LOWEST}\t60999\n")
    port = free_port(range_file=file)
    assert port == LOWEST
    with socket.create_server(("127.0.0.1", port)), pytest.raises(OSError, match="no port from"):
        free_port(range_file=file)
