"""The ledger's view of GPUs against the driver's: by how much they differ, and why. Pure; both views are given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from models.nvml import GpuProcess, RealGpu

TOLERANCE = 0.02  # of what an engine has reserved


@dataclass(frozen=True, slots=True)
class Reservation:
    """What the ledger holds for the process of one replica on the GPU ``uuid``."""

    replica_id: str
    uuid: str
    pid: int
    reserved_bytes: int


@dataclass(frozen=True, slots=True)
class Overrun:
    """A replica that holds more than it has reserved, by more than the tolerance."""

    replica_id: str
    reserved_bytes: int
    held_bytes: int

    @property
    def over_bytes(self) -> int:
        return self.held_bytes - self.reserved_bytes

    def __str__(self) -> str:
        share = self.over_bytes / self.reserved_bytes if self.reserved_bytes else float("inf")
        return (
            f"{self.replica_id} holds {self.held_bytes >> 20} MiB and has reserved {self.reserved_bytes >> 20} MiB"
            f" ({share:+.1%})"
        )


@dataclass(frozen=True, slots=True)
class GpuDrift:
    """Bytes of one GPU by whom they are held.

    ``ours_bytes``: processes that the ledger knows. ``foreign_bytes``: others that the driver lists. ``driver_bytes``:
    its own. ``unexplained_bytes``: used, and listed for nobody (other containers, what a dead process left); negative
    when processes share memory. ``ledger_bytes``: reserved by the ledger.
    """

    uuid: str
    total_bytes: int
    used_bytes: int
    ledger_bytes: int
    ours_bytes: int
    foreign_bytes: int
    driver_bytes: int
    unexplained_bytes: int
    overruns: tuple[Overrun, ...]
    silent: tuple[str, ...]  # replicas with a reservation of whose process the driver tells nothing

    @property
    def drift_bytes(self) -> int:
        """What is held beyond the ledger's view; the ledger must not promise these to anybody."""
        return self.ours_bytes + self.foreign_bytes + self.driver_bytes + self.unexplained_bytes - self.ledger_bytes


def reconcile(
    gpus: Iterable[RealGpu],
    processes: Iterable[GpuProcess],
    reservations: Iterable[Reservation],
    tolerance: float = TOLERANCE,
) -> dict[str, GpuDrift]:
    """By the GPU's uuid. A reservation on a GPU that is not there is left out: that GPU is lost."""
    held = {(process.uuid, process.pid): process.used_bytes for process in processes}
    by_gpu: dict[str, list[Reservation]] = {}
    for reservation in reservations:
        by_gpu.setdefault(reservation.uuid, []).append(reservation)
    return {gpu.uuid: _drift(gpu, held, by_gpu.get(gpu.uuid, []), tolerance) for gpu in gpus}


def _drift(
    gpu: RealGpu, held: Mapping[tuple[str, int], int | None], reserved: list[Reservation], tolerance: float
) -> GpuDrift:
    here = {pid: used_bytes for (uuid, pid), used_bytes in held.items() if uuid == gpu.uuid}
    by_pid: dict[int, list[Reservation]] = {}
    for reservation in reserved:
        by_pid.setdefault(reservation.pid, []).append(reservation)
    ours_bytes = sum(here.get(pid) or 0 for pid in by_pid)
    foreign_bytes = sum(used_bytes or 0 for pid, used_bytes in here.items() if pid not in by_pid)
    return GpuDrift(
        uuid=gpu.uuid,
        total_bytes=gpu.total_bytes,
        used_bytes=gpu.used_bytes,
        ledger_bytes=sum(reservation.reserved_bytes for reservation in reserved),
        ours_bytes=ours_bytes,
        foreign_bytes=foreign_bytes,
        driver_bytes=gpu.reserved_bytes,
        unexplained_bytes=gpu.used_bytes - gpu.reserved_bytes - ours_bytes - foreign_bytes,
        overruns=tuple(
            overrun for pid, sharing in by_pid.items() if (overrun := _overrun(sharing, here.get(pid), tolerance))
        ),
        silent=tuple(r.replica_id for pid, sharing in by_pid.items() if here.get(pid) is None for r in sharing),
    )


def _overrun(sharing: list[Reservation], held_bytes: int | None, tolerance: float) -> Overrun | None:
    """Replicas of one process are judged together: the driver cannot tell them apart."""
    reserved_bytes = sum(reservation.reserved_bytes for reservation in sharing)
    if held_bytes is None or held_bytes <= reserved_bytes * (1 + tolerance):
        return None
    return Overrun(" + ".join(r.replica_id for r in sharing), reserved_bytes, held_bytes)
