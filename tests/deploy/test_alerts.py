"""The alarms name what the gateway really shows, and the operator finds each in the book."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from gateway import metrics, worker_metrics

ROOT = Path(__file__).resolve().parents[2]
RULES = yaml.safe_load((ROOT / "helm-free-deploy/prometheus/alerts.yaml").read_text())["groups"][0]["rules"]
SUFFIXES = ("_bucket", "_count", "_sum")


def shown_names() -> set[str]:
    """Every name that the metrics modules have, in whichever form Prometheus stores it."""
    named = {
        value
        for module in (metrics, worker_metrics)
        for value in vars(module).values()
        if isinstance(value, str) and value.startswith("roundhouse_")
    }
    return named | {name + suffix for name in named for suffix in SUFFIXES}


def names_in(rule: dict[str, Any]) -> set[str]:
    return set(re.findall(r"roundhouse_[a-z_]+", rule["expr"]))


def test_every_metric_that_an_alarm_looks_at_is_shown() -> None:
    asked = {name for rule in RULES for name in names_in(rule)}
    assert asked
    assert asked <= shown_names(), asked - shown_names()


def test_every_alarm_has_a_summary_a_severity_and_a_chapter_in_the_book() -> None:
    book = (ROOT / "docs/operations.md").read_text()
    for rule in RULES:
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert f"### {rule['alert']}\n" in book, rule["alert"]


def test_no_alarm_has_two_rules_of_one_name() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(names) == len(set(names))
