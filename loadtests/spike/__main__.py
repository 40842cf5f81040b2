"""``make bench-spike``: real vLLM engines behind the real gateway, called 1 and then 40 times a second.

Each variant of the same service gets the same arrivals: ``ours`` (the policy that is the default), ``fixed 1`` (one
replica, whatever comes), ``knative`` (Knative's defaults: policy ``concurrency``). A replica serves SLOTS requests at
once, so that several are needed. GPU-seconds count from the spike on until calm has lasted for the same time again.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loadtests.chat import ChatRequest
from loadtests.coldstart.admin import Admin
from loadtests.coldstart.machine import machine
from loadtests.coldstart.scene import make_models
from loadtests.coldstart.service import OwnService
from loadtests.figures import percentile
from loadtests.gateway.ports import free_port
from loadtests.spike.load import Phase, Sample, play
from loadtests.spike.replicas import Watch
from loadtests.target import Target

MODEL = "tiny-llama"
SLOTS, TOKENS, MOST = 2, 36, 6
CALM_S, SPIKE_S, AFTER_S = 10.0, 20.0, 20.0
GPUS = "4x512MiB"


@dataclass(frozen=True, slots=True)
class Variant:
    name: str
    policy: str
    most: int


VARIANTS = (Variant("ours", "ours", MOST), Variant("fixed 1", "demand", 1), Variant("knative", "concurrency", MOST))


def main() -> int:
    args = _arguments()
    with tempfile.TemporaryDirectory(prefix="rh-spike-") as folder:
        found = _passes(args, Path(folder))
    return _report(args, found)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-spike", description=__doc__.partition("\n")[0])
    parser.add_argument("--rate", type=float, default=40.0, help="requests a second in the spike")
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=[one.name for one in VARIANTS])
    parser.add_argument("--out", type=Path, default=Path("results"))
    return parser.parse_args()


def _passes(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Variants take turns, so that what the machine does meanwhile befalls all of them; each in a service that knows of
    no load before."""
    found: list[dict[str, Any]] = []
    model = make_models(folder / "models", [MODEL])[MODEL]
    chosen = [one for one in VARIANTS if not args.only or one.name in args.only]
    for number in range(args.passes):
        for variant in chosen:
            home = folder / f"{len(found)}"
            home.mkdir()
            _configure(home / "spike.yaml", model, variant)
            service = OwnService(home, free_port(), config=home / "spike.yaml")
            target, _ = service.up(MODEL)
            try:
                found.append(_one(args.rate, target, Admin(target), variant, random.Random(number)))
            finally:
                service.down()
            print(f"pass {number + 1}, {_line([found[-1]], variant.name)}", flush=True)
    return found


def _one(rate: float, target: Target, admin: Admin, variant: Variant, rng: random.Random) -> dict[str, Any]:
    request = ChatRequest(MODEL, "Tell me of the railway.", TOKENS, whole_length=True)
    phases = (Phase("calm", 1.0, CALM_S), Phase("spike", rate, SPIKE_S), Phase("after", 1.0, AFTER_S))
    begun: list[float] = []
    with Watch(admin, MODEL) as watch:
        samples = play(target, request, phases, rng, begun.append)
    spike_s = begun[0] + CALM_S
    most = watch.most_ready(spike_s, spike_s + SPIKE_S + AFTER_S)
    return {
        "variant": variant.name,
        **_waits([sample for sample in samples if sample.phase == "spike"]),
        "generator_late_p99_ms": round(percentile(sorted(sample.late_s for sample in samples), 99) * 1e3, 1),
        "replicas": most,
        "reached_s": {n: _rounded(watch.reached_s(n, spike_s)) for n in range(2, most + 1)},
        "gpu_s": round(watch.gpu_s(spike_s, spike_s + SPIKE_S + AFTER_S), 1),
    }


def _waits(samples: Sequence[Sample]) -> dict[str, Any]:
    ttft = sorted(sample.ttft_s for sample in samples if sample.ttft_s is not None)
    errors = [sample.error for sample in samples if sample.error]
    refused = sum(error.startswith(("429", "503")) for error in errors)
    return {
        "requests": len(samples),
        "refused": refused,
        "failed": len(errors) - refused,
        "errors": sorted(set(errors))[:5],
        "ttft_p50_s": _rounded(percentile(ttft, 50)) if ttft else None,
        "ttft_p99_s": _rounded(percentile(ttft, 99)) if ttft else None,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _line(runs: list[dict[str, Any]], name: str) -> str:
    def median(key: str) -> float:
        return float(statistics.median([run[key] for run in runs if run[key] is not None] or [math.nan]))

    most = max(run["replicas"] for run in runs)
    times = [run["reached_s"].get(most) for run in runs if run["reached_s"].get(most) is not None]
    reached = f"{most} replicas after {statistics.median(times):.2f} s" if times else f"{most} replica"
    return (
        f"{name}: TTFT p50 {median('ttft_p50_s'):.3f} s, p99 {median('ttft_p99_s'):.3f} s, "
        f"{sum(run['refused'] for run in runs)} refused and {sum(run['failed'] for run in runs)} failed of "
        f"{sum(run['requests'] for run in runs)}, {reached}, {median('gpu_s'):.0f} GPU-seconds"
    )


def _report(args: argparse.Namespace, found: list[dict[str, Any]]) -> int:
    names = list(dict.fromkeys(run["variant"] for run in found))
    lines = [_line([run for run in found if run["variant"] == name], name) for name in names]
    print(f"spike 1 -> {args.rate:g}/s, simulated GPUs, medians of {args.passes}: " + " | ".join(lines))
    args.out.mkdir(parents=True, exist_ok=True)
    setup = {"rate": args.rate, "slots": SLOTS, "tokens": TOKENS, "most": MOST, "spike_s": SPIKE_S, "after_s": AFTER_S}
    document = {"benchmark": "spike", "machine": machine(), **setup, "variants": [asdict(one) for one in VARIANTS]}
    path = args.out / "spike.json"
    path.write_text(json.dumps({**document, "runs": found, "lines": lines}, indent=1) + "\n")
    print(f"all in {path}")
    return 0


def _configure(file: Path, folder: Path, variant: Variant) -> None:
    card = {
        "model_id": MODEL,
        "model_source": str(folder),
        "engine_args": {"max_model_len": 512, "max_num_seqs": SLOTS},
        "declared": {"weights": "16MiB", "kv_cache": "16MiB", "overhead": "112MiB"},
        "target_in_flight": SLOTS,
        "min_replicas": 0,
        "max_replicas": variant.most,
        "ttl": "10m",
    }
    document = {"gpus": {"simulated": GPUS}, "policies": {"scaling": variant.policy}, "models": [card]}
    file.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
