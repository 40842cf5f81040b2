"""``make bench-tenants``: what a quiet tenant feels of a noisy one, on the real gateway, with an engine of SLOTS slots.

Both are as heavy, so that either's share is half of what the engine can do. The quiet one always asks for half of its
share; the noisy one for its share, and then for ten times as much. Promise S6: that moves the quiet one's p99 by at
most 1.5 times.

- ``shared out fairly``: turns among tenants alone; all that the noisy one asks for comes to wait.
- ``and limited``: the noisy one may also have no more requests a second than its share.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from loadtests.figures import percentile
from loadtests.gateway.problems import CannotMeasure
from loadtests.policies.report import Figure, Report
from loadtests.tenants.caller import Heard
from loadtests.tenants.scene import Rule, Scene, opened

SLOTS, WORK_S = 16, 0.05
SHARE_PER_S = SLOTS / WORK_S / 2
PROMISED = 1.5
LOADS = (1, 10)  # times its share
Heards = Mapping[str, Heard]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 when everything was measured, whatever the figures; 1 when not."""
    args = _arguments(argv)
    report = Report("tenants")
    limit: Rule = {"what": "requests", "amount": f"{SHARE_PER_S:g}", "per": "1s"}
    ways: dict[str, list[Rule]] = {"shared out fairly": [], "and limited": [limit]}
    for name, limits in ways.items():
        tenants: dict[str, list[Rule]] = {"quiet": [], "noisy": limits}
        try:
            with tempfile.TemporaryDirectory(prefix="rh-") as folder:
                with opened(Path(folder) / "s", SLOTS, tenants) as scene:
                    passes = [_pass(scene, args.seconds, number) for number in range(args.passes)]
                report.add(figure(name, passes))
        except CannotMeasure as problem:
            print(f"tenants: {problem}", file=sys.stderr)
            return 1
    report.write(args.out, slots=SLOTS, work_s=WORK_S, share_per_s=SHARE_PER_S, seconds=args.seconds)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-tenants", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each load in each pass")
    parser.add_argument("--out", type=Path, default=Path("results"))
    args = parser.parse_args(argv)
    if args.passes < 1 or args.seconds <= 0:
        parser.error("--passes must be at least 1, --seconds more than 0")
    return args


def _pass(scene: Scene, seconds: float, number: int) -> dict[int, Heards]:
    """Times its share -> what each saw. The quiet one asks for the same in all of them."""
    found: dict[int, Heards] = {}
    for times in LOADS:
        found[times] = scene.hear(
            {
                "quiet": scene.ask("quiet", SHARE_PER_S / 2, seconds, WORK_S, seed=number),
                "noisy": scene.ask("noisy", SHARE_PER_S * times, seconds, WORK_S, seed=1000 + number),
            }
        )
    return found


def figure(item: str, passes: Sequence[Mapping[int, Heards]]) -> Figure:
    """The median of the passes' ratios. Raises CannotMeasure where the quiet one was not served all it asked."""
    once, often = LOADS
    for heards in (each[times] for each in passes for times in LOADS):
        if set(heards["quiet"].statuses) != {200}:
            raise CannotMeasure(f"{item}: the quiet tenant was answered {heards['quiet'].statuses}")
    p99s = {times: [p99_ms(each[times]["quiet"]) for each in passes] for times in LOADS}
    ratios = [beside / before for before, beside in zip(p99s[once], p99s[often], strict=True)]
    statuses = [{times: each[times]["noisy"].statuses for times in LOADS} for each in passes]
    late_ms = max(heard.late_ms for each in passes for heards in each.values() for heard in heards.values())
    others = {f"ms at {times}x": median(found) for times, found in p99s.items()}
    return Figure(
        "S6",
        item,
        f"quiet p99 beside a noisy tenant at {often}x its share, over that at {once}x",
        median(ratios),
        "x",
        PROMISED,
        others=others,
        details={"passes": ratios, "p99_ms": p99s, "noisy": statuses, "callers_late_ms": late_ms},
    )


def p99_ms(heard: Heard) -> float:
    return percentile(sorted(heard.took_ms), 99)


if __name__ == "__main__":
    sys.exit(main())
