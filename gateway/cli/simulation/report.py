"""The report: one HTML file that needs nothing else, for light and dark screens and for paper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from gateway.cli.simulation import charts
from gateway.cli.simulation.runs import Run
from gateway.cli.simulation.shelves import picture
from gateway.cli.simulation.table import COLUMNS, duration, rows
from models.catalog.policies import described

SHELVES_MAX = 8  # runs whose memory is drawn
MODELS_SHOWN = 20
DECISIONS_SHOWN = 30
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2126; --soft: #626b74; --page: #ffffff; --line: #d9dee3; --panel: #f6f8fa }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ec; --soft: #98a2ac; --page: #14181c; --line: #343c44; --panel: #1b2127 }
}
body { color: var(--ink); background: var(--page); font: 15px/1.5 system-ui, sans-serif; max-width: 62rem;
  margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: 0 } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem }
p.soft, figcaption { color: var(--soft); margin: .2rem 0 }
figure { margin: .6rem 0 1.2rem } svg { max-width: 100%; height: auto; display: block }
div.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .28rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child, td.text { text-align: left } th { color: var(--soft); font-weight: 600 }
td.words { white-space: normal; text-align: left }
details { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: .5rem .9rem;
  margin: .7rem 0 }
summary { cursor: pointer; font-weight: 600 } .badge { background: #b8860b; color: #fff; border-radius: 4px;
  padding: .1rem .45rem; font-size: .8rem; vertical-align: middle }
"""


def report(runs: Sequence[Run], about: dict[str, Any]) -> str:
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>Roundhouse: simulated, {escape(str(about['trace']))}</title><style>{_STYLE}</style></head><body>",
        '<h1>Roundhouse <span class="badge">simulated</span></h1>',
        f'<p class="soft">{escape(_about(about))}</p>',
        "<h2>Runs</h2>",
        _table(COLUMNS, rows(runs)),
        *_comparison(runs),
        *_memory(runs),
        "<h2>Each run</h2>",
        *(_details(run) for run in runs),
        "</body></html>",
    ]
    return "\n".join(parts)


def _comparison(runs: Sequence[Run]) -> Iterable[str]:
    yield _figure("Delayed requests", charts.delayed(runs), "A request is delayed when its model has to start or wake.")
    yield _figure(
        "Waits",
        charts.waits(runs),
        "From arrival until a replica takes the request; what is below a millisecond is drawn at one.",
    )
    yield _figure("GPU-hours and money", charts.hours(runs), "What was there, and what had something awake on it.")
    if len(runs) > 1:
        words = "Down and left is better. The line joins the runs that no other one beats in both."
        yield _figure("Delay against GPU-hours", charts.pareto(runs), words)


def _memory(runs: Sequence[Run]) -> Iterable[str]:
    yield "<h2>Memory over time</h2>"
    for number, run in enumerate(runs[:SHELVES_MAX]):
        drawn = picture(run.result, f"Memory over time, {run.variant.label} (simulated)")
        if drawn is not None:
            opened = " open" if number == 0 else ""
            yield f"<details{opened}><summary>{escape(run.variant.label)}</summary><figure>{drawn}</figure></details>"
    if len(runs) > SHELVES_MAX:
        yield f'<p class="soft">Drawn for the first {SHELVES_MAX} of {len(runs)} runs.</p>'


def _details(run: Run) -> str:
    result = run.result
    policies = ", ".join(f"{name} {value}" for name, value in described(run.policies).items())
    worst = sorted(result.models, key=lambda model: (-model.delayed, model.model))[:MODELS_SHOWN]
    models = _table(
        ("MODEL", "REQUESTS", "DELAYED", "WAIT p99", "MAX", "STARTS", "WAKES", "EVICTED"),
        (
            (
                model.model,
                model.requests,
                model.delayed,
                duration(model.wait_p99_s),
                duration(model.wait_max_s),
                model.starts_disk,
                model.starts_host,
                model.evictions,
            )
            for model in worst
        ),
    )
    last = _table(
        ("AT", "ACTION", "MODEL", "GPU", "WHY"),
        (
            (f"{each.at_s:.1f} s", each.action, each.model, each.gpu or "-", each.reason)
            for each in result.decisions.last[-DECISIONS_SHOWN:]
        ),
        words=(1, 2, 3, 4),
    )
    kinds = ", ".join(f"{count} {action}" for action, count in sorted(result.decisions.actions.items()))
    how_many = f"{result.decisions.count} decisions ({kinds}) in {run.took_s:.1f} s of real time"
    return (
        f"<details><summary>{escape(run.variant.label)}</summary>"
        f'<p class="soft">{escape(f"{policies}; seed {result.seed}; {how_many}")}</p>'
        f"<h2>Models with the most delayed requests</h2>{models}<h2>Last decisions</h2>{last}</details>"
    )


def _about(about: dict[str, Any]) -> str:
    return (
        f"{about['requests']} requests to {about['models']} models over {duration(about['duration_s'])}, from "
        f"{about['trace']}; {about['hardware']}. No GPU was used: times come from the start-up and service models."
    )


def _figure(title: str, svg: str, words: str) -> str:
    return f"<h2>{escape(title)}</h2><figure>{svg}<figcaption>{escape(words)}</figcaption></figure>"


def _table(columns: Sequence[str], lines: Iterable[Sequence[object]], words: Sequence[int] = ()) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(_cell(cell, place in words) for place, cell in enumerate(line)) + "</tr>" for line in lines
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(cell: object, words: bool) -> str:
    kind = ' class="words"' if words else ""
    return f"<td{kind}>{escape('-' if cell is None else str(cell))}</td>"
