"""Which GPUs of a node are lost: the driver does not find them, has reported an error that only a reset ends, or
somebody has said so in a file.

The file has a line for each: the GPU's index, and why. It stands for the driver's word where GPUs are simulated; on
real ones the watch writes there what the driver says but once (Xid errors), so that it is known after a restart. After
a reset, the line's removal brings the GPU back; a line that names another boot of the machine counts no more.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from models import nvml
from models.runtimes.protocol import Device
from packers.types import GpuId

# Errors after which NVIDIA's catalog demands a reset of the GPU, a restart of the machine or a repair
# (docs.nvidia.com/deploy/xid-errors, "Analyzing Xid Errors with the Xid Catalog", A100 and newer). Others concern one
# application, whose process ends by them: 13, 31, 43, 45, 68, 94, 109. 63 reports a row remapped: fine until a reset.
FATAL_XIDS: dict[int, str] = {
    46: "it has stopped processing",
    48: "a double bit ECC error",
    54: "auxiliary power is not connected",
    62: "its internal micro-controller has halted",
    64: "a row could not be remapped",
    79: "it has fallen off the bus",
    95: "an uncontained memory error",
    110: "a security fault",
    119: "its system processor does not answer",
    120: "its system processor has failed",
    136: "a link could not be trained",
    140: "an unrecovered ECC error",
    143: "it could not be initialised",
}
_LINE = re.compile(r"\s*(\d{1,9})\s*(.*?)\s*(?:\[boot ([0-9a-f-]+)\])?\s*")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

log = logging.getLogger("roundhouse.fleet")


class Driver(Protocol):
    """What ``models.nvml.GpuHealth`` says of real GPUs."""

    def missing(self) -> dict[str, str]:
        """UUID -> why it cannot be used now."""

    def take_xids(self) -> list[tuple[str, int]]:
        """(UUID, Xid) of the errors reported since the last call."""


class GpuWatch:
    """``devices``: of this node, by GPU, whose name ends with its index."""

    def __init__(self, devices: Mapping[GpuId, Device], file: Path, driver: Driver | None) -> None:
        self._by_index = {int(gpu.rpartition("-")[2]): gpu for gpu in devices}
        self._by_uuid = {device.uuid: gpu for gpu, device in devices.items() if device.uuid is not None}
        self._file = file
        self._driver = driver
        self._wrong: set[str] = set()  # with what is in the file now
        self._unwritten: dict[GpuId, str] = {}  # what could not be noted in the file

    def look(self) -> dict[GpuId, str]:
        """The lost ones and why. Asks the driver, which may take long. Never raises."""
        lost = self._unwritten
        if self._driver is not None:
            self._note(self._driver.take_xids())
            missing = self._driver.missing()
            lost = lost | {self._by_uuid[uuid]: why for uuid, why in missing.items() if uuid in self._by_uuid}
        return lost | self._said()

    def _said(self) -> dict[GpuId, str]:
        lost, wrong = {}, set()
        try:
            text = self._file.read_text()
        except FileNotFoundError:
            text = ""
        except (OSError, UnicodeDecodeError) as problem:
            text = ""
            wrong.add(f"{self._file} cannot be read: {problem}")
        for line in filter(str.strip, text.splitlines()):
            match = _LINE.fullmatch(line)
            gpu = self._by_index.get(int(match[1])) if match else None
            if match is None or gpu is None:
                wrong.add(f"{self._file} says {line[:80]!r}, which names no GPU of this node by its index")
            elif match[3] is None or match[3] == _boot_id():
                lost[gpu] = match[2] or "somebody has said so"
        for complaint in sorted(wrong - self._wrong):
            log.warning("%s", complaint)
        self._wrong = wrong
        return lost

    def _note(self, xids: list[tuple[str, int]]) -> None:
        """Once for each GPU: some errors are reported every few seconds until the reset."""
        index_of = {gpu: index for index, gpu in self._by_index.items()}
        known = self._said() if xids else {}
        for uuid, xid in xids:
            gpu = self._by_uuid.get(uuid)
            if gpu is None or xid not in FATAL_XIDS:
                log.info("the driver reports Xid %d on %s", xid, gpu or uuid)
                continue
            if gpu in known:
                continue
            log.error("the driver reports Xid %d on %s: %s", xid, gpu, FATAL_XIDS[xid])
            known[gpu] = why = f"Xid {xid}: {FATAL_XIDS[xid]}"
            try:
                with self._file.open("a") as file:
                    file.write(f"{index_of[gpu]} {why} [boot {_boot_id()}]\n")
            except OSError as problem:
                log.error("%s cannot be written, so the loss of %s will be forgotten: %s", self._file, gpu, problem)
                self._unwritten[gpu] = why


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return "unknown"


def driver(devices: Mapping[GpuId, Device]) -> Driver | None:
    """For the real ones among ``devices``; None where all are simulated, or NVML cannot be asked."""
    uuids = tuple(device.uuid for device in devices.values() if device.uuid is not None)
    if not uuids:
        return None
    try:
        return nvml.GpuHealth(uuids)
    except nvml.NvmlUnavailable as problem:
        log.error("the health of the GPUs is not watched: %s", problem)
        return None
