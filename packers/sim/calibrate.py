"""Start-up times from measurements: published load times, and the project's own cold start benchmark."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from packers.sim.formats.rows import table
from packers.sim.startup import Sample, StartUp, TierTime, fit_tier
from packers.sim.trace import TraceError
from packers.types import ModelId

BILLIONS = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)[bB](?![a-zA-Z])")
STOPPED, ASLEEP = "stopped model to first token", "asleep model to first token"


def load_times(lines: Iterable[str], name: str, keep: str = "", bytes_per_weight: float = 2.0) -> list[Sample]:
    """From a CSV with the columns file, n and mean_load_s, as ServerlessLLM's results are summed up.

    A row's size is the number of billions in its file name ("..._Qwen3-32B_...") times ``bytes_per_weight``. Only rows
    with ``keep`` in that name are taken. Raises TraceError.
    """
    found = []
    for row in table(lines, name, ("file", "n", "mean_load_s")):
        file = row.text("file")
        if keep not in file:
            continue
        size = BILLIONS.search(file.replace("_", " "))
        if size is None:
            raise row.error("file", f"{file!r} does not say how many billions of weights the model has")
        weights_bytes = round(float(size[1]) * 1e9 * bytes_per_weight)
        found.append(Sample(weights_bytes, row.number("mean_load_s"), max(1.0, row.number("n"))))
    if not found:
        raise TraceError(f"no row has {keep!r} in its file name", name=name, field="file")
    return found


def coldstart(text: str, name: str, weights_bytes: Mapping[ModelId, int]) -> StartUp:
    """From the JSON that ``make bench-coldstart`` writes: the median times to the first token of stopped and of asleep
    models, of those whose ``weights_bytes`` are given. Raises TraceError when there are none."""
    try:
        figures = json.loads(text)["figures"]
    except (ValueError, KeyError, TypeError):
        raise TraceError("is not a report of the cold start benchmark", name=name) from None
    return StartUp(disk=_tier(figures, STOPPED, name, weights_bytes), host=_tier(figures, ASLEEP, name, weights_bytes))


def _tier(figures: list[dict[str, object]], called: str, name: str, weights_bytes: Mapping[ModelId, int]) -> TierTime:
    samples = []
    for place, figure in enumerate(figures):
        model, median = ModelId(str(figure.get("model"))), figure.get("median")
        if figure.get("name") != called or model not in weights_bytes or median is None:
            continue
        if not isinstance(median, int | float) or not median >= 0:
            raise TraceError(f"{median!r} is not a time", name=name, field=f"figures[{place}].median")
        samples.append(Sample(weights_bytes[model], float(median)))
    if not samples:
        raise TraceError(f"there is no figure {called!r} of {', '.join(sorted(weights_bytes))}", name=name)
    return fit_tier(samples)
