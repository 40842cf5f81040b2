"""Reads unit files as systemd does: sections, settings that may be repeated, continued lines, drop-ins of a prefix."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

SECTIONS = ("Unit", "Service", "Install")
_SETTING = re.compile(r"([A-Z][A-Za-z0-9]*)=(.*)", re.DOTALL)
# Every setting that the units use; where systemd is not at hand to say so, a misspelt one is found by this list.
_NAMES = """
    After Before CapabilityBoundingSet Description Documentation Environment EnvironmentFile ExecCondition ExecStart
    ExecStartPost ExecStartPre ExecStop Group KillMode KillSignal LimitCORE LimitMEMLOCK LimitNOFILE LockPersonality
    NoNewPrivileges OOMPolicy OOMScoreAdjust PartOf PrivateNetwork PrivateTmp ProtectControlGroups ProtectHome
    ProtectHostname ProtectKernelLogs ProtectKernelModules ProtectKernelTunables ProtectSystem ReadWritePaths
    RefuseManualStop RemainAfterExit Restart RestartPreventExitStatus RestartSec RestrictAddressFamilies
    RestrictNamespaces RestrictRealtime RestrictSUIDSGID StartLimitIntervalSec SyslogIdentifier SystemCallArchitectures
    SystemCallErrorNumber SystemCallFilter TasksMax TemporaryFileSystem TimeoutStartSec TimeoutStopSec Type UMask User
    WantedBy Wants WorkingDirectory
"""
KNOWN = frozenset(_NAMES.split())


class UnitError(ValueError):
    """A line that systemd would not understand; names the file and the line."""


@dataclass
class Unit:
    """``settings``: by name, each with all its values in order. Sections are checked and then forgotten."""

    name: str
    settings: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def one(self, setting: str) -> str:
        """The last value, which is the one that counts. Raises KeyError when there is none."""
        if setting not in self.settings:
            raise KeyError(f"{self.name} has no {setting}")
        return self.settings[setting][-1]

    def words(self, setting: str) -> list[str]:
        return [word for value in self.settings.get(setting, []) for word in value.split()]

    def environment(self) -> dict[str, str]:
        return dict(word.split("=", 1) for word in self.words("Environment"))


def read_units(folder: Path) -> dict[str, Unit]:
    """All units of a folder by name, each with its drop-ins. Raises UnitError."""
    units = {file.name: Unit(file.name) for file in sorted(folder.iterdir()) if file.is_file()}
    for name, unit in units.items():
        kind = name.rpartition(".")[2]
        drop_ins = (
            folder_.glob("*.conf")
            for folder_ in folder.glob(f"*.{kind}.d")
            if name.startswith(folder_.name.removesuffix(f".{kind}.d"))
        )
        for file in (folder / name, *sorted(file for files in drop_ins for file in files)):
            _read_into(unit, file)
    return units


def _read_into(unit: Unit, file: Path) -> None:
    section = ""
    for number, line in _lines(file):
        if line.startswith("["):
            section = line.strip("[]")
            if section not in SECTIONS:
                raise UnitError(f"{file.name}:{number}: no section {line}")
            continue
        found = _SETTING.fullmatch(line)
        if not found or not section:
            raise UnitError(f"{file.name}:{number}: not a setting: {line}")
        if found[1] not in KNOWN:
            raise UnitError(f"{file.name}:{number}: no setting {found[1]}")
        unit.settings[found[1]].append(found[2].strip())


def _lines(file: Path) -> list[tuple[int, str]]:
    """Lines that say something, continued ones joined, with the number of their first."""
    joined: list[tuple[int, str]] = []
    pending: tuple[int, str] | None = None
    for number, raw in enumerate(file.read_text().splitlines(), 1):
        line = raw.strip()
        if pending is None and (not line or line[0] in "#;"):
            continue
        first, before = pending or (number, "")
        if line.endswith("\\"):
            pending = (first, before + line[:-1] + " ")
        else:
            joined.append((first, before + line))
            pending = None
    if pending is not None:
        raise UnitError(f"{file.name}:{pending[0]}: the last line is continued")
    return joined
