"""``make bench-metering``: what limits and metering cost, printed as lines and written as JSON.

- ``settled``: events through the meter's settling (GPU shares, prices, sums, one script a step) on a real Redis, per
  second of the meter's own processor time; also per second as it passed. Two mixes of keys and models.
- ``reserved``: a request's reservation, headers and settlement in one worker, with two rules and with four.
- ``event``: writing a request's event into the worker's log.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from loadtests.metering.limits import event_us, reserve_us
from loadtests.metering.settling import Mix, Settling, settle
from loadtests.policies.report import Figure, Report
from models.home import Home
from models.store.embedded import EmbeddedRedis

EVENTS = 60_000
SETTLED_PER_S = 20_000
MIXES = (Mix("usual", keys=97, tenants=20, scattered=False), Mix("scattered", keys=1000, tenants=200, scattered=True))


def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    report = Report("metering")
    with tempfile.TemporaryDirectory(prefix="rh-") as folder, EmbeddedRedis(Home(Path(folder) / "h").create()) as store:
        for mix in MIXES:
            passes = [asyncio.run(settle(store.url, mix, args.events)) for _ in range(args.passes)]
            report.add(settled(mix, passes))
        for rules in (2, 4):
            found = [asyncio.run(reserve_us(store.url, rules)) for _ in range(args.passes)]
            item, what = f"{rules} rules", "a request's reservation, headers and settlement"
            report.add(Figure("-", item, what, median(found), "us", details={"passes": found}))
        found = [event_us(Path(folder)) for _ in range(args.passes)]
        report.add(Figure("-", "one request", "its event in the log", median(found), "us", details={"passes": found}))
    report.write(args.out, events=args.events, passes=args.passes)
    return 0


def settled(mix: Mix, passes: Sequence[Settling]) -> Figure:
    rates = [one.per_core_s for one in passes]
    return Figure(
        "-",
        f"{mix.name}: {mix.keys} keys",
        "events settled a second of the meter's processor time",
        median(rates),
        "/s",
        SETTLED_PER_S,
        at_most=False,
        others={
            "as time passed": median(one.per_wall_s for one in passes),
            "Redis's processor time of 10,000, s": median(one.redis_s for one in passes),
            "longest script, ms": max(one.script_ms for one in passes),
        },
        details={"passes": rates},
    )


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-metering", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("results"))
    args = parser.parse_args(argv)
    if args.events < 1 or args.passes < 1:
        parser.error("--events and --passes must be at least 1")
    return args


if __name__ == "__main__":
    sys.exit(main())
