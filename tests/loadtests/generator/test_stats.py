"""What Locust's own screens and reports are told. In another process: Locust replaces parts of the standard library."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.loadtests.running import ROOT

TOLD = """
import json, sys
from types import SimpleNamespace
from locust.env import Environment
from loadtests.generator.stats import tell
from tests.loadtests.outcome.made import row

environment = Environment()
fired = []
environment.events.request.add_listener(lambda **request: fired.append(request))
tell(environment, [
    row(0.0, ttft_ms=30, gaps_ms=(5, 7.5, 100), e2e_ms=200),
    row(0.0, ttft_ms=None, e2e_ms=80, stream=False),
    row(0.0, ttft_ms=None, e2e_ms=10, error="timeout", message="no byte"),
])
entry = environment.stats.get("m", "ITL")
print(json.dumps({
    "fired": [[one["request_type"], one["name"], one["response_time"], str(one["exception"] or "")] for one in fired],
    "itl": [entry.num_requests, entry.min_response_time, entry.max_response_time, entry.total_response_time,
            sum(entry.response_times.values()), sum(entry.num_reqs_per_sec.values())],
}))
"""
SAME = """
import json, random
from locust.stats import RequestStats
from loadtests.generator.stats import add_gaps

rng = random.Random(1)
answers = [[rng.randrange(0, 400_000) for _ in range(rng.randrange(1, 40))] for _ in range(60)]
stats = RequestStats()
together, alone = stats.get("together", "ITL"), stats.get("alone", "ITL")
for gaps in answers:
    add_gaps(together, gaps)
    for gap in gaps:
        alone.log(gap / 1e3, 0)
shown = lambda entry: [
    entry.num_requests, round(entry.total_response_time, 6), entry.min_response_time, entry.max_response_time,
    sorted(entry.response_times.items()), sum(entry.num_reqs_per_sec.values()),
    [entry.get_response_time_percentile(share) for share in (0.5, 0.9, 0.99)],
]
print(json.dumps([shown(together), shown(alone)]))
"""


def played(code: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_ttft_and_e2e_are_requests_of_their_own_and_a_failure_is_told_once() -> None:
    assert played(TOLD)["fired"] == [
        ["TTFT", "m", 30.0, ""],
        ["E2E", "m", 200.0, ""],
        ["E2E (whole)", "m", 80.0, ""],
        ["E2E", "m", 10.0, "timeout: no byte"],
    ]


def test_gaps_are_counted_each() -> None:
    count, least, most, total, bucketed, per_second = played(TOLD)["itl"]
    assert (count, least, most, total) == (3, 5.0, 100.0, 112.5)
    assert bucketed == per_second == 3


def test_all_gaps_at_once_are_what_they_are_one_by_one() -> None:
    together, alone = played(SAME)
    assert together == alone
