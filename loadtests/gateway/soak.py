"""Hours in minutes: a steady load on one worker, and whether its memory and descriptors stay where they are."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median

from loadtests.gateway import ours
from loadtests.gateway.bench import Bench
from loadtests.gateway.callers import finish
from loadtests.gateway.comparison import Say
from loadtests.gateway.family import Usage
from loadtests.gateway.passes import STREAM_EVENTS, STREAMS
from loadtests.gateway.problems import CannotMeasure
from loadtests.gateway.scene import Running, started
from loadtests.policies.report import Figure

SHARE = 0.7  # of the processor time of the worker's core
# What the streams take of the core is not known before, so the plain requests get less than the whole share.
PLAIN_SHARE = 0.55
LEAVERS, EVENTS_BEFORE_LEAVING = 4, 3
SAMPLE_S = 5.0
SETTLING = 0.1  # of the time: caches and pools fill
FLAT_SHARE, FLAT_BYTES, FLAT_DESCRIPTORS = 0.02, 2e6, 16.0


@dataclass(frozen=True, slots=True)
class Sample:
    at_s: float
    rss_bytes: int
    descriptors: int
    cpu_s: float

    @classmethod
    def of(cls, at_s: float, usage: Usage) -> Sample:
        return cls(at_s, usage.rss_bytes, usage.descriptors, usage.cpu_s)


@dataclass(frozen=True, slots=True)
class Drift:
    """From the first third to the last one, after settling: medians, so that no single sample decides."""

    rss_bytes: float
    rss_before_bytes: float
    descriptors: float
    cpu_share: float

    @property
    def rss_limit_bytes(self) -> float:
        return max(FLAT_BYTES, FLAT_SHARE * self.rss_before_bytes)


def drift(samples: Sequence[Sample]) -> Drift:
    """Raises CannotMeasure for fewer than 6 samples after settling."""
    if samples:
        begins_s = samples[0].at_s + SETTLING * (samples[-1].at_s - samples[0].at_s)
        samples = [sample for sample in samples if sample.at_s >= begins_s]
    third = len(samples) // 3
    if third < 2:
        raise CannotMeasure(f"{len(samples)} samples tell nothing of a trend: let it run longer (--soak MINUTES)")
    first, last = samples[:third], samples[-third:]
    before = median(sample.rss_bytes for sample in first)
    return Drift(
        rss_bytes=median(sample.rss_bytes for sample in last) - before,
        rss_before_bytes=before,
        descriptors=median(sample.descriptors for sample in last) - median(sample.descriptors for sample in first),
        cpu_share=(samples[-1].cpu_s - samples[0].cpu_s) / (samples[-1].at_s - samples[0].at_s),
    )


def figures(bench: Bench, minutes: float, say: Say, sample_s: float = SAMPLE_S) -> list[Figure]:
    """Raises CannotMeasure."""
    with started(ours.subject(ours.ALONE), bench.scene()) as running:
        most = bench.callers.run(running.port, bench.files.plain, 64, bench.seconds).per_second
        say(f"soak: {minutes:g} minutes at {PLAIN_SHARE * most:.0f} requests a second and {STREAMS} streams")
        samples, failed, done = soaked(bench, running, minutes * 60, PLAIN_SHARE * most, sample_s)
    found = drift(samples)
    item = f"{minutes:g} minutes, {found.cpu_share:.0%} of a core"
    shown = {"samples": [asdict(sample) for sample in samples], "requests": done, "wanted_share": SHARE}
    others = {"at first MB": found.rss_before_bytes / 1e6}
    return [
        Figure("soak", item, "memory grew by", found.rss_bytes / 1e6, "MB", found.rss_limit_bytes / 1e6,
               others=others, details=shown),
        Figure("soak", item, "descriptors grew by", found.descriptors, "", FLAT_DESCRIPTORS),
        Figure("soak", item, "requests that failed", failed, f"of {done}", 0.0),
    ]  # fmt: skip


def soaked(
    bench: Bench, running: Running, seconds: float, rate: float, sample_s: float
) -> tuple[list[Sample], int, int]:
    """Samples; requests that failed; requests and streams that were answered. Raises CannotMeasure."""
    files, callers, port = bench.files, bench.callers, running.port
    samples: list[Sample] = []
    with contextlib.ExitStack() as stack:
        under_way = [
            stack.enter_context(each)
            for each in (
                callers.running(port, files.varied, 64, seconds, rate=rate),
                callers.running(port, files.paced, STREAMS, seconds, events=STREAM_EVENTS),
                callers.running(port, files.paced, LEAVERS, seconds, leave=EVENTS_BEFORE_LEAVING),
            )
        ]
        began_s = time.perf_counter()
        while (at_s := time.perf_counter() - began_s) < seconds:
            samples.append(Sample.of(at_s, running.usage()))
            time.sleep(min(sample_s, max(0.0, seconds - at_s)))
        seen = [finish(process, seconds) for process in under_way]
    return samples, sum(each.failed + each.stuck for each in seen), sum(each.done for each in seen)
