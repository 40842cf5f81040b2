"""Prometheus text of several workers as one: what was counted adds up. Works on the text, sample by sample."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

COUNTED = ("counter", "histogram", "summary")


@dataclass(slots=True)
class Family:
    """``head``: its HELP and TYPE lines. ``samples``: name with labels -> value, in the order of the text."""

    name: str
    kind: str = "untyped"
    head: list[str] = field(default_factory=list)
    samples: dict[str, float] = field(default_factory=dict)


def parse(text: bytes) -> dict[str, Family]:
    """Text format 0.0.4, as prometheus_client writes it: a family's samples follow its HELP and TYPE."""
    families: dict[str, Family] = {}
    current = Family("")
    for line in text.decode().split("\n"):  # labels may hold what splitlines() takes for an end
        if line.startswith("# "):
            _, what, name, rest = (line + " ").split(" ", 3)
            current = families.setdefault(name, Family(name))
            current.head.append(line)
            if what == "TYPE":
                current.kind = rest.strip()
        elif line:
            sample, _, value = line.rpartition(" ")
            if not current.name:
                name = sample.partition("{")[0]
                current = families.setdefault(name, Family(name))
            current.samples[sample] = float(value)
    return families


def counted(text: bytes) -> bytes:
    """Only what never goes down: what a worker that is gone leaves behind."""
    return render(family for family in parse(text).values() if family.kind in COUNTED)


def merge(texts: Iterable[bytes], least: Collection[str] = ()) -> bytes:
    """Everything added up, but the smallest where ``least`` names a family: a version, a state."""
    total: dict[str, Family] = {}
    for text in texts:
        for name, family in parse(text).items():
            known = total.setdefault(name, Family(name, family.kind, family.head))
            for sample, value in family.samples.items():
                if sample not in known.samples:
                    known.samples[sample] = value
                elif name in least:
                    known.samples[sample] = min(known.samples[sample], value)
                else:
                    known.samples[sample] += value
    return render(total.values())


def render(families: Iterable[Family]) -> bytes:
    lines: list[str] = []
    for family in families:
        lines += family.head
        lines += [f"{sample} {_number(value)}" for sample, value in family.samples.items()]
    return "".join(f"{line}\n" for line in lines).encode()


def _number(value: float) -> str:
    """As Prometheus writes what Python spells otherwise."""
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(text := repr(value), text)
