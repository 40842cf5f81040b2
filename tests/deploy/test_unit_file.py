"""The reader that stands in for systemd where there is none reads as systemd does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.unit_file import UnitError, read_units


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)


def test_settings_repeat_and_lines_continue(tmp_path: Path) -> None:
    write(tmp_path, "a.service", "# note\n[Unit]\nAfter=x y\nAfter=z\n[Service]\nExecStart=/bin/a \\\n  b\n; note\n")
    unit = read_units(tmp_path)["a.service"]
    assert unit.words("After") == ["x", "y", "z"]
    assert unit.one("ExecStart") == "/bin/a  b"
    with pytest.raises(KeyError, match=r"a\.service has no User"):
        unit.one("User")


def test_a_prefix_drop_in_belongs_to_all_with_the_prefix(tmp_path: Path) -> None:
    write(tmp_path, "a-b.service", "[Service]\nUser=x\n")
    write(tmp_path, "a.target", "[Unit]\nDescription=a\n")
    write(tmp_path, "a-.service.d/1.conf", "[Service]\nUser=y\nEnvironment=A=1 B=2\nEnvironment=C=3\n")
    units = read_units(tmp_path)
    assert units["a-b.service"].one("User") == "y"
    assert units["a-b.service"].environment() == {"A": "1", "B": "2", "C": "3"}
    assert "User" not in units["a.target"].settings


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[Servce]\n", r"a\.service:1: no section \[Servce\]"),
        ("User=x\n", "not a setting: User=x"),
        ("[Unit]\nhello\n", r"a\.service:2: not a setting: hello"),
        ("[Unit]\nDescribtion=x\n", "no setting Describtion"),
        ("[Unit]\nAfter=x\\\n", "the last line is continued"),
    ],
)
def test_what_systemd_would_not_understand_is_refused(tmp_path: Path, text: str, why: str) -> None:
    write(tmp_path, "a.service", text)
    with pytest.raises(UnitError, match=why):
        read_units(tmp_path)
