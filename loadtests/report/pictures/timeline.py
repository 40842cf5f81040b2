"""A run over time: each request's latency, who asked and who was answered, and what the service was at: replicas by
state, tiers of the models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from loadtests.report.pictures import strips
from loadtests.report.pictures.axes import Linear, Log, around, clock, ms
from loadtests.report.pictures.canvas import NARROW, WIDE, Canvas, Point
from loadtests.report.pictures.letters import cut, text_width
from loadtests.report.pictures.places import Box, Places, Spot
from loadtests.report.pictures.strips import LEFT, RIGHT, TIER_WORDS
from loadtests.report.pictures.tracks import Bin, Track, Wake, binned, edges_of, rates, thinned, tracks, wakes
from loadtests.report.sides import Subject

PLOT, STRIP = 250.0, 36.0
MOST_BANDS = 2  # shades of p50 to p95 that can be told apart
FEWEST_FOR_SHADE = 20
HEADLINE = 34.0
DIAMOND, FLAG = 5.0, 17.0
MOST_SAID, WORDS = 12, 10.5  # waits whose words are told; of what size


def draw(subject: Subject, width: float, headline: str = "") -> Canvas:
    """``headline``: of a picture that stands alone."""
    shown, document = tracks(subject), subject.shown.first
    service = document["series"]["service"]
    models, until_s = _models(document), _until_s(document, shown)
    known = wakes(subject.shown.rows, service)
    wide = width > NARROW
    canvas = Canvas(width, 0.0, headline or "Time to the first token over the run", _about(shown, known, document))
    if headline:
        canvas.text((LEFT, 22), headline, colour="ink", size=15, bold=True)
    first = HEADLINE if headline else 0.0
    what = "time to first token" if any(row.ttft_us is not None for row in subject.shown.rows) else "latency"
    canvas.text((LEFT, first + 13), what, colour="ink", bold=True)
    start = (LEFT + text_width(what) + 26, first + 12) if wide else (LEFT, first + 30)
    top = canvas.legend(start, _entries(shown, known), width - RIGHT) + 22
    x = Linear(0.0, until_s, LEFT, width - RIGHT)
    bottom = top + (PLOT if wide else PLOT - 40)
    scripted = document["kind"] == "script"  # one after the other: there is no rate
    asked = bottom if scripted else bottom + STRIP + strips.RATE
    below = asked + (_room(models) if models else 0.0)
    _phases(canvas, document, x, top, below)
    flags = _latencies(canvas, (shown, known, document), x, (top, bottom))
    if not scripted:
        strips.arrivals(canvas, rates(subject.shown.rows, until_s, len(subject.shown.passes)), x, bottom + STRIP)
    if models:
        under = strips.replicas(canvas, service["at_s"], models, x, asked + STRIP)
        below = strips.tiers(canvas, service["at_s"], models, x, under + STRIP)
    _marks(canvas, flags, top, below)
    for tick in x.ticks(9 if wide else 5):
        canvas.text((x(tick), below + 16), clock(round(tick, 6)), anchor="middle")
    canvas.height = below + 26
    return canvas


def both(subject: Subject) -> tuple[Canvas, Canvas]:
    return draw(subject, WIDE), draw(subject, NARROW)


def _room(models: dict[str, Any]) -> float:
    listed = (strips.TIER + strips.TIER_GAP) * min(len(models), strips.MODELS)
    return STRIP + strips.REPLICAS + STRIP + listed + (16 if len(models) > strips.MODELS else 0)


def _entries(shown: Sequence[Track], known: Sequence[Wake]) -> Iterator[tuple[str, str]]:
    for track in shown:
        name = track.name if len(shown) > 1 else "each request"
        banded = ", shade to p95" * (len(shown) <= MOST_BANDS)
        yield track.colour, f"{name}; line: median{banded}" if track.has_line else name
    if known:
        yield "wake", "waited for a start"
    if any(track.failed for track in shown):
        yield "bad", "failed"


def _models(document: dict[str, Any]) -> dict[str, Any]:
    """Those that the load asks, by how much they had to do; nothing where the target tells nothing."""
    found = document["series"]["service"].get("models") or {}
    return dict(sorted(found.items(), key=lambda one: -sum(count or 0 for count in one[1]["in_flight"])))


def _until_s(document: dict[str, Any], shown: Sequence[Track]) -> float:
    last = max((track.seen[-1][0] for track in shown if track.seen), default=0.0)
    return max(float(document["duration_s"]), last)


def _phases(canvas: Canvas, document: dict[str, Any], x: Linear, top: float, bottom: float) -> None:
    """With their rates, where there is room for them."""
    phases = document["phases"]
    if len(phases) < 2:
        return
    # Of several kinds of requests, a phase tells one kind's rate; one that is the same throughout is in the headline.
    told = not document["summary"].get("tags") and len({phase["rate_per_s"] for phase in phases}) > 1
    for number, phase in enumerate(phases):
        start, end = x(phase["from_s"]), x(phase["until_s"])
        if number % 2:
            canvas.box((start, top - 14), end - start, bottom - top + 14, "band", opacity=0.8)
        rate = f"{phase['rate_per_s']:g}/s" if phase["rate_per_s"] and told else ""
        longer = f"{phase['name']}, {rate}" if rate and rate != phase["name"] else phase["name"]
        for said in (longer, phase["name"]):
            if text_width(said, 10.5) < end - start - 4:
                canvas.text(((start + end) / 2, top - 3), said, size=10.5, anchor="middle", colour="ink")
                break


Drawn = tuple[Sequence[Track], Sequence[Wake], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Flag:
    """Of a kill or an order: its line's x, its words, and where they are."""

    at: float
    said: str
    box: Box


def _latencies(canvas: Canvas, drawn: Drawn, x: Linear, span: tuple[float, float]) -> list[Flag]:
    """The flags are for later, to lie over all else but the words of the waits."""
    (shown, known, document), (top, bottom) = drawn, span
    places = Places(Box(LEFT, top - 4, canvas.width - RIGHT, bottom))
    every = [latency for track in shown for _, latency in track.seen]
    if not every:
        canvas.text((LEFT + 8, (top + bottom) / 2), "nothing was answered", colour="bad")
        return _flags(document, x, places)
    y = Log(*around(min(every), max(every)), bottom, top + 12)
    for tick in y.ticks(8):
        canvas.line((LEFT, y(tick)), (canvas.width - RIGHT, y(tick)))
        canvas.text((LEFT - 8, y(tick) + 4), ms(tick), anchor="end")
    lines = [binned(track.seen, edges_of(document)) if track.has_line else [] for track in shown]
    for track, line in zip(shown, lines, strict=True):
        _requests(canvas, track, x, y, line if len(shown) <= MOST_BANDS else [])
    for track, line in zip(shown, lines, strict=True):
        for stretch in line:
            points = [(x(at), y(one.p50_ms)) for at, one in _across(stretch)]
            canvas.path(points, "page", width=4.6, opacity=0.85)
            canvas.path(points, track.colour, width=2.4)
    diamonds = [(x(wake.at_s), y(wake.ttft_ms)) for wake in known]
    places.take(Box(at - DIAMOND, high - DIAMOND, at + DIAMOND, high + DIAMOND) for at, high in diamonds)
    spots = _spots(known, diamonds, places)
    flags = _flags(document, x, places)
    _waits(canvas, known, diamonds, [spot for spot in spots if not _under(spot, flags)])
    for track in shown:
        # On a strip of their own, so that they are not taken for slow answers.
        canvas.crosses([(x(at), top + 4) for at in track.failed], "bad", 3.4)
    return flags


def _across(stretch: Sequence[Bin]) -> list[tuple[float, Bin]]:
    """A line through the bins' middles, from the first one's beginning to the last one's end."""
    first, last = stretch[0], stretch[-1]
    middles = [(one.at_s, one) for one in stretch] if len(stretch) > 1 else []
    return [(first.at_s - first.wide_s / 2, first), *middles, (last.at_s + last.wide_s / 2, last)]


def _requests(canvas: Canvas, track: Track, x: Linear, y: Log, line: Sequence[Sequence[Bin]]) -> None:
    many = len(track.seen)
    opacity, radius = (0.8, 2.4) if many < 150 else (0.45, 2.0) if many < 700 else (0.25, 1.6)
    for stretch in line:
        if len(stretch) == 1 and stretch[0].count < FEWEST_FOR_SHADE:
            continue  # one slow request would shade a whole phase
        across = _across(stretch)
        edge = [(x(at), y(one.p95_ms)) for at, one in across]
        edge += [(x(at), y(one.p50_ms)) for at, one in reversed(across)]
        canvas.area(edge, track.colour, 0.2)
    canvas.dots([(x(at), y(value)) for at, value in thinned(track.seen)], track.colour, radius=radius, opacity=opacity)


def _spots(known: Sequence[Wake], diamonds: Sequence[Point], places: Places) -> list[tuple[str, Spot]]:
    """What each wait was, where there is room for the words."""
    found = []
    for wake, (at, high) in zip(known[:MOST_SAID], diamonds, strict=False):
        said = f"from {TIER_WORDS[wake.tier]}" if wake.tier in TIER_WORDS and wake.tier != "gpu" else "a start"
        said = f"{said}, {ms(float(f'{wake.ttft_ms:.3g}'))}"
        around = [Spot(at + 9, high + 4), Spot(at - 9, high + 4, "end")]
        around += [Spot(at, high + 20, "middle"), Spot(at, high - 10, "middle")]
        if len(known) <= MOST_SAID and (spot := places.spot(said, around, WORDS)):
            found.append((said, spot))
    return found


def _under(told: tuple[str, Spot], flags: Sequence[Flag]) -> bool:
    """Where there are too many flags for each to lie beside the words."""
    said, spot = told
    return any(spot.box(said, WORDS).meets(flag.box) for flag in flags)


def _waits(canvas: Canvas, known: Sequence[Wake], diamonds: Sequence[Point], told: Sequence[tuple[str, Spot]]) -> None:
    for wake, at in zip(known, diamonds, strict=True):
        canvas.diamond(at, "wake", size=DIAMOND, tip=_said(wake))
    for said, spot in told:
        canvas.text((spot.x, spot.y), said, colour="ink", size=WORDS, anchor=spot.anchor, halo=True)


def _said(wake: Wake) -> str:
    others = f", {wake.waited} waited" if wake.waited > 1 else ""
    return f"{wake.model} started ({TIER_WORDS.get(wake.tier, 'from where is not known')}){others}"


def _flags(document: dict[str, Any], x: Linear, places: Places) -> list[Flag]:
    """Each beside its line, as high as there is room for it: over no other one and, if it can be, over no wait."""
    found: list[Flag] = []
    whole = places.whole
    for mark in document["marks"]:
        if mark["what"] == "reached":
            continue
        said = cut(f"{mark['what']} {mark['detail']}"[:40], whole.right - whole.left - 10, bold=True)
        at, wide = x(mark["at_s"]), text_width(said, bold=True) + 10
        lines = range(int((whole.bottom - whole.top - 14) / (FLAG + 2)))
        tops = [whole.top + 14 + line * (FLAG + 2) for line in lines]
        lefts = [min(max(left, whole.left), whole.right - wide) for left in (at + 4, at - wide - 4)]
        every = [Box(left, top, left + wide, top + FLAG) for top in tops for left in lefts]
        apart = [box for box in every if not any(box.meets(other.box) for other in found)]
        box = next(filter(places.free, apart), (apart or every)[0])
        places.take([box])
        found.append(Flag(at, said, box))
    return found


def _marks(canvas: Canvas, flags: Sequence[Flag], top: float, bottom: float) -> None:
    """Kills and orders. In ink on a panel: a red line alone would be lost among failures."""
    for flag in flags:
        canvas.line((flag.at, top - 4), (flag.at, bottom), "bad", 1.6, "5 3")
    for flag in flags:
        box = flag.box
        canvas.box((box.left, box.top), box.right - box.left, FLAG, "bad", round=3)
        canvas.text((box.left + 5, box.top + 12), flag.said, colour="on-bar", bold=True)


def _about(shown: Sequence[Track], known: Sequence[Wake], document: dict[str, Any]) -> str:
    said = [f"{track.name}: {len(track.seen)} answered, {len(track.failed)} failed" for track in shown]
    said += [_said(wake) for wake in known[:8]]
    return "; ".join([*said, f"{document['duration_s']:.0f} s"])
