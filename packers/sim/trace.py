"""Requests over time, as columns: what every parser and generator makes and the simulator plays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from packers.types import ModelId

Floats = npt.NDArray[np.float64]
Blocks = tuple[int, ...]
DAY_S, HOUR_S = 86_400.0, 3_600.0


class TraceError(ValueError):
    """A trace that cannot be used. The message names the file, the line and the field as far as there are any."""

    def __init__(self, message: str, *, name: str = "", line: int | None = None, field: str | None = None) -> None:
        where = name if line is None else f"{name}:{line}"
        parts = [part for part in (where, f"field {field!r}" if field else "") if part]
        super().__init__(": ".join([*parts, message]))
        self.name, self.line, self.field = name, line, field


@dataclass(frozen=True, eq=False, slots=True)
class Trace:
    """One entry per request, sorted by ``at_s``. ``model`` indexes ``names``.

    ``at_s``: seconds since the trace's beginning, which was ``start_unix_s`` (0 where nobody knows).
    ``service_s``: how long a replica worked on it; 0 where it is not known (``packers.sim.service`` estimates it).
    ``input_tokens``, ``output_tokens``: 0 where not known. The arrays cannot be written to.
    ``blocks``: of each prompt, ids of its blocks (Mooncake's ``hash_ids``): prompts with the same first ids begin with
    the same text. Empty where nobody knows.
    """

    names: tuple[ModelId, ...]
    at_s: Floats
    model: npt.NDArray[np.int32]
    service_s: npt.NDArray[np.float32]
    input_tokens: npt.NDArray[np.int32]
    output_tokens: npt.NDArray[np.int32]
    start_unix_s: float = 0.0
    blocks: tuple[Blocks, ...] = ()

    @classmethod
    def of(
        cls,
        names: Iterable[str],
        at_s: npt.ArrayLike,
        model: npt.ArrayLike,
        service_s: npt.ArrayLike | None = None,
        input_tokens: npt.ArrayLike | None = None,
        output_tokens: npt.ArrayLike | None = None,
        start_unix_s: float = 0.0,
        blocks: Sequence[Blocks] = (),
    ) -> Trace:
        """From anything like an array; times need not be sorted. Raises TraceError (see ``_check``)."""
        at = np.asarray(at_s, np.float64)
        known = tuple(ModelId(name) for name in names)
        zeros = np.zeros(at.size, np.int32)
        given = {
            "at_s": at,
            "model": np.asarray(model),
            "service_s": zeros if service_s is None else np.asarray(service_s),
            "input_tokens": zeros if input_tokens is None else np.asarray(input_tokens),
            "output_tokens": zeros if output_tokens is None else np.asarray(output_tokens),
        }
        _check(known, given)
        if len(blocks) not in (0, at.size):
            raise TraceError(f"has {len(blocks)} values for {at.size} requests", field="blocks")
        order = np.argsort(at, kind="stable")
        return cls(
            known,
            _frozen(at[order]),
            _frozen(given["model"][order].astype(np.int32)),
            _frozen(given["service_s"][order].astype(np.float32)),
            _frozen(given["input_tokens"][order].astype(np.int32)),
            _frozen(given["output_tokens"][order].astype(np.int32)),
            start_unix_s,
            tuple(blocks[place] for place in order) if blocks else (),
        )

    def __len__(self) -> int:
        return int(self.at_s.size)

    @property
    def duration_s(self) -> float:
        """From the beginning to the last arrival."""
        return float(self.at_s[-1]) if len(self) else 0.0

    @property
    def rate_per_s(self) -> float:
        return len(self) / self.duration_s if self.duration_s else 0.0

    def counts(self) -> dict[ModelId, int]:
        """Requests of each model, in the order of ``names``."""
        found = np.bincount(self.model, minlength=len(self.names))
        return {name: int(count) for name, count in zip(self.names, found, strict=True)}

    def clip(self, from_s: float, until_s: float) -> Trace:
        """Requests with from_s <= at_s < until_s; ``from_s`` is the new beginning. All names stay."""
        first, last = np.searchsorted(self.at_s, [from_s, until_s])
        return self._take(slice(int(first), int(last)), shift_s=from_s)

    def days(self, first: int, last: int | None = None) -> Trace:
        """The days ``first`` to ``last`` (both included; default: just the one), counted from 0."""
        return self.clip(first * DAY_S, ((first if last is None else last) + 1) * DAY_S)

    def hours(self, first: int, last: int | None = None) -> Trace:
        """The hours ``first`` to ``last`` (both included; default: just the one), counted from 0."""
        return self.clip(first * HOUR_S, ((first if last is None else last) + 1) * HOUR_S)

    def scale(self, factor: float) -> Trace:
        """Everything ``factor`` times as fast: its rate is ``factor`` times as high, it takes 1/factor of the time."""
        if not 0 < factor < float("inf"):
            raise TraceError(f"a trace can be scaled by a number above 0, not by {factor}")
        return self._replace(at_s=self.at_s / factor)

    def to_rate(self, rate_per_s: float) -> Trace:
        """Scaled so that its mean rate is ``rate_per_s``."""
        if not len(self) or not self.duration_s:
            raise TraceError("a trace without requests or of no duration has no rate to scale")
        return self.scale(rate_per_s / self.rate_per_s)

    def only(self, models: Iterable[str]) -> Trace:
        """Just the requests of these models; they are its new names, in this order. Raises TraceError."""
        names = tuple(ModelId(name) for name in models)
        place = {name: index for index, name in enumerate(self.names)}
        missing = [name for name in names if name not in place]
        if missing:
            raise TraceError(f"the trace has no model {missing[0]!r}", field="model")
        new = np.full(len(self.names) + 1, -1, np.int32)
        for index, name in enumerate(names):
            new[place[name]] = index
        chosen = new[self.model]
        kept = self._take(np.flatnonzero(chosen >= 0))
        return kept._replace(names=names, model=chosen[chosen >= 0])

    def busiest(self, count: int) -> tuple[ModelId, ...]:
        """The models with the most requests, most first, ties by name."""
        ranked = sorted(self.counts().items(), key=lambda item: (-item[1], item[0]))
        return tuple(name for name, _ in ranked[:count])

    def _take(self, which: slice | npt.NDArray[np.intp], shift_s: float = 0.0) -> Trace:
        return Trace(
            self.names,
            _frozen(self.at_s[which] - shift_s),
            _frozen(self.model[which]),
            _frozen(self.service_s[which]),
            _frozen(self.input_tokens[which]),
            _frozen(self.output_tokens[which]),
            self.start_unix_s + shift_s if self.start_unix_s else 0.0,
            self._blocks_of(which),
        )

    def _blocks_of(self, which: slice | npt.NDArray[np.intp]) -> tuple[Blocks, ...]:
        if isinstance(which, slice) or not self.blocks:
            return self.blocks[which] if isinstance(which, slice) else ()
        return tuple(self.blocks[place] for place in which)

    def _replace(
        self,
        *,
        names: tuple[ModelId, ...] | None = None,
        at_s: Floats | None = None,
        model: npt.NDArray[np.int32] | None = None,
    ) -> Trace:
        return Trace(
            self.names if names is None else names,
            self.at_s if at_s is None else _frozen(at_s),
            self.model if model is None else _frozen(model),
            self.service_s,
            self.input_tokens,
            self.output_tokens,
            self.start_unix_s,
            self.blocks,
        )


def merge(traces: Sequence[Trace]) -> Trace:
    """All requests of several traces that begin at the same moment; models of one name are one model.

    ``blocks`` are left out: one trace's ids say nothing about another one's prompts.
    """
    if not traces:
        raise TraceError("there is no trace to merge")
    names = tuple(dict.fromkeys(name for one in traces for name in one.names))
    place = {name: index for index, name in enumerate(names)}
    models = []
    for one in traces:
        there = np.array([place[name] for name in one.names], np.int32)
        models.append(there[one.model])
    return Trace.of(
        names,
        np.concatenate([one.at_s for one in traces]),
        np.concatenate(models),
        np.concatenate([one.service_s for one in traces]),
        np.concatenate([one.input_tokens for one in traces]),
        np.concatenate([one.output_tokens for one in traces]),
        traces[0].start_unix_s,
    )


def _check(names: tuple[ModelId, ...], columns: Mapping[str, npt.NDArray[Any]]) -> None:
    """Raises TraceError for arrays of different sizes, NaN, infinite or negative values, models without a name."""
    if len(set(names)) < len(names):
        raise TraceError("two models have the same name", field="names")
    size = columns["at_s"].size
    for field, values in columns.items():
        if values.shape != (size,):
            raise TraceError(f"has {values.size} values for {size} requests", field=field)
        wrong = np.flatnonzero(~((values >= 0) & (values < np.inf)))  # NaN is neither
        if wrong.size:
            raise TraceError(f"request {int(wrong[0])} has {values[wrong[0]]}; it must be 0 or more", field=field)
    model = columns["model"]
    if size and model.max() >= len(names):
        raise TraceError(f"model {int(model.max())} has no name; there are {len(names)}", field="model")


_Kind = TypeVar("_Kind", bound=np.generic)


def _frozen(array: npt.NDArray[_Kind]) -> npt.NDArray[_Kind]:
    """Only views of other arrays are copied."""
    own = array if array.base is None else array.copy()
    own.setflags(write=False)
    return own
