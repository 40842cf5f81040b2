"""A load test as an operator runs it, and what it left."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.outcome import health
from loadtests.outcome.document import read
from loadtests.outcome.rows import Row, rows
from tests.e2e.browser import Browser
from tests.e2e.pages import complaints
from tests.e2e.service import Service

WITHIN_S = 180
MANY = 40  # requests, of which at least their distribution is drawn
PARTS = (
    "Where the time to the first token goes",
    "Time to the first token over the run",
    "Figures",
    "Goals",
    "Details",
)


def headings(title: str, report: dict[str, Any]) -> list[str]:
    """Of the page of a run: a curve of a few requests would say nothing that the dots do not."""
    fewest = min(side["requests"] - side["failed"] for side in report["sides"])
    return [title, *PARTS, *(["Distribution"] if fewest >= MANY else [])]


@dataclass(frozen=True)
class Ran:
    """``document``: ``run.json``; ``said``: what ``--json`` printed; ``report``: ``report.json``."""

    out: Path
    said: dict[str, Any]
    document: dict[str, Any]
    report: dict[str, Any]
    rows: list[Row]

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = self.document["summary"]
        return found

    def complaints(self, browser: Browser | None) -> list[str]:
        """About its page."""
        wanted = headings(f"Load test: {self.document['suite']}", self.report)
        return complaints(self.out / "report.html", wanted, browser)

    @property
    def marks(self) -> list[tuple[str, str]]:
        return [(mark["what"], mark["detail"]) for mark in self.document["marks"]]

    @property
    def phases(self) -> list[tuple[str, float, int]]:
        """Name, seconds, requests of each."""
        counts = [part["requests"] for part in self.summary["phases"]]
        return [
            (phase["name"], round(phase["until_s"] - phase["from_s"], 3), count)
            for phase, count in zip(self.document["phases"], counts, strict=True)
        ]

    def of_phase(self, name: str) -> list[Row]:
        place = [phase["name"] for phase in self.document["phases"]].index(name)
        return [row for row in self.rows if row.phase == place]


def load(service: Service, out: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """Exit status, and what was printed. On a busy machine a run may not be valid: 1 is no failure of the test."""
    done = service.run("loadtest", *words, "--quiet", "--out", str(out), "--json", check=False, timeout_s=WITHIN_S)
    assert done.returncode in (0, 1), done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    assert "error" not in said, said
    return done.returncode, said


def ran(service: Service, out: Path, *words: str) -> Ran:
    """A run of one suite. What it found is here even where it is not valid, and it says so everywhere alike."""
    status, said = load(service, out, *words)
    found = ran_into(out, said)
    assert said == {name: value for name, value in found.document.items() if name not in ("requests", "series")}
    whole = found.summary
    assert status == (0 if said["generator"]["valid"] and said["verdict"]["kept"] and whole["requests"] else 1)
    assert found.report["suite"] == words[0]
    assert found.report["verdict"] == {"kept": said["verdict"]["kept"], "valid": said["generator"]["valid"]}
    assert (said["target"]["service"], said["target"]["simulated"]) == ("roundhouse", True)
    assert said["verdict"]["kept"] == (whole["failed"] == 0), "without goals the only one is that nothing fails"
    return found


def ran_into(folder: Path, said: dict[str, Any]) -> Ran:
    document = read(folder / "run.json")
    report = json.loads((folder / "report.json").read_text()) if (folder / "report.json").exists() else {}
    found = Ran(folder, said, document, report, rows(document["requests"]))
    _in_order(found)
    _judged_by_its_own_figures(document["generator"], document["summary"])
    return found


def _in_order(found: Ran) -> None:
    """No time before the one that it follows; and nothing that the service told is longer than what was seen of it."""
    whole = found.summary
    assert whole["requests"] == whole["answered"] + whole["failed"] == len(found.rows)
    assert sum(part["requests"] for part in whole["phases"]) == len(found.rows)
    for row in found.rows:
        assert row.begun_us <= row.sent_us <= row.end_us
        assert 0 <= row.begun_us <= (found.document["duration_s"] + 1) * 1e6
        if row.stream and not row.error and row.output_tokens:
            if row.first_token_us is None:
                assert row.output_tokens == 1, "its end, and no word"
            else:
                assert row.sent_us < row.first_token_us <= row.end_us


def _judged_by_its_own_figures(generator: dict[str, Any], summary: dict[str, Any]) -> None:
    """A run is valid when no limit of ``loadtests.outcome.health`` is broken, and says of each that is."""
    reads_ms = health.READ_P99_MS * (health.KERNEL_SLACK if generator["clock"] == "kernel" else 1)
    late_ms = max(health.LATE_P99_MS, health.LATE_OF_TTFT * summary["ttft_ms"].get("p50", 0.0))
    broken = {
        "never sent": generator["sent"] < generator["planned"],
        "left late": generator["send_late_ms"].get("p99", 0.0) > late_ms,
        "read late": generator["read_late_ms"]["p99"] > reads_ms,
        "of its core": generator["busiest_share"] > health.BUSY_SHARE,
    }
    assert generator["valid"] == (not generator["reasons"])
    for part, is_so in broken.items():
        assert is_so == any(part in reason for reason in generator["reasons"]), (part, generator)
    assert len(generator["reasons"]) == sum(broken.values()), generator
