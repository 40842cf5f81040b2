"""``make bench-replay``: a minute of bursty traffic to many models, through the real gateway, on real engines and
simulated GPUs; and the simulator's prediction of the same minute, with costs measured just before.

1. A service of its own comes up; each model is started, put to sleep, woken and stopped while that is timed.
2. An hour of a trace is played in a minute, while ``roundhouse record`` writes down what the controller does.
3. The simulator plays the same requests with the recorded world and policies, at the measured costs.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loadtests.coldstart.admin import Admin
from loadtests.coldstart.machine import machine
from loadtests.coldstart.scene import make_models
from loadtests.coldstart.service import OwnService
from loadtests.gateway.ports import free_port
from loadtests.replay import calibration, comparison
from loadtests.replay.calls import Answer, ask
from loadtests.replay.minute import Minute, take_minute
from loadtests.replay.prediction import predict
from loadtests.replay.recorded import deeds, longest_gap_s, recording, steps_of
from loadtests.replay.scene import LARGE, SMALL, Scene
from loadtests.target import Target
from loadtests.wire import CallFailed
from models.control.recording import RecordingError, Step
from packers.sim import SimError, TraceError

TRACE = Path("servegen/clients_m_days_0_6.csv.gz")
MOST_AT_ONCE = 256
BEFORE_S, AFTER_S = 3.0, 4.0  # the recording begins sooner and ends later


@dataclass(frozen=True, slots=True)
class Played:
    """``began_s``, ``ended_s``: Unix."""

    answers: list[Answer]
    began_s: float
    ended_s: float


def main() -> int:
    """Exit 1 when nothing could be measured, or more requests failed than the simulator says."""
    args = _arguments()
    scene = Scene(args.models, args.gpus, args.fill)
    try:
        minute = take_minute(_trace(args), scene.names, rate_per_s=args.rate, seconds=args.seconds, seed=args.seed)
        with tempfile.TemporaryDirectory(prefix="rh-replay-") as folder:
            played, steps, costs = _live(Path(folder), scene, minute, args.rounds)
        first = max((step for step in steps if step.snapshot.now_s <= played.began_s), key=_time, default=steps[0])
        predicted = predict(first, minute, costs, scene.weights_bytes())
    except (CallFailed, TraceError, SimError, RecordingError, OSError) as problem:
        print(f"replay: {problem}", file=sys.stderr)
        return 1
    metrics = comparison.compare(played.answers, deeds(steps, played.began_s, played.ended_s), predicted)
    facts = {
        "source": minute.source,
        "seconds": minute.seconds,
        "scene": asdict(scene) | {"gpu_mib": scene.gpu_mib(), "host_mib": scene.host_mib()},
        "seed": args.seed,
        "costs_s": calibration.document(costs),
        "recorded_steps": len(steps),
        "longest_gap_s": round(longest_gap_s(steps), 3),
        "latest_call_s": round(max((answer.late_s for answer in played.answers), default=0.0), 4),
        "errors": sorted({answer.error for answer in played.answers if answer.error})[:5],
    }
    return _report(args.out, comparison.line(minute.source, minute.seconds, metrics), metrics, facts)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-replay", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--data", type=Path, help="folder with traces; the default is made up where it has none")
    parser.add_argument("--trace", type=Path, help="a trace of requests; overrides --data")
    parser.add_argument("--models", type=int, default=16)
    parser.add_argument("--gpus", type=int, default=2, help="simulated ones")
    parser.add_argument("--fill", type=float, default=0.35, help="share of all models that the GPUs hold at once")
    parser.add_argument("--rate", type=float, default=4.0, help="requests a second, on average")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=2, help="of the calibration")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results"))
    return parser.parse_args()


def _trace(args: argparse.Namespace) -> Path | None:
    if args.trace is not None:
        return Path(args.trace)
    found = args.data / TRACE if args.data is not None else None
    return found if found is not None and found.is_file() else None


def _live(
    folder: Path, scene: Scene, minute: Minute, rounds: int
) -> tuple[Played, list[Step], dict[str, calibration.Costs]]:
    folders = make_models(folder / "models", (SMALL, LARGE))
    config = folder / "replay.yaml"  # as roundhouse.yaml it would be the demo's, whose models would all be made first
    scene.write(config, folders)
    service = OwnService(folder, free_port(), config=config)
    target, _ = service.up(scene.names[0])
    try:
        costs = calibration.measure(target, Admin(target), scene.names, rounds)
        file = folder / "minute.jsonl"
        with recording(service, file, BEFORE_S + minute.seconds + AFTER_S):
            time.sleep(BEFORE_S)
            played = play(target, minute)
        return played, steps_of(file), costs
    finally:
        service.down()


def play(target: Target, minute: Minute) -> Played:
    """Requests go out when their time has come, however slow the answers are."""
    answers: list[Answer] = []
    lock = threading.Lock()
    trace = minute.trace
    start_s, began_s = time.monotonic(), time.time()

    def one(model: str, tokens: int, at_s: float) -> None:
        answer = ask(target, model, tokens, at_s=at_s, late_s=time.monotonic() - start_s - at_s)
        with lock:
            answers.append(answer)

    with ThreadPoolExecutor(MOST_AT_ONCE) as threads:
        for at_s, model, tokens in zip(
            trace.at_s.tolist(), trace.model.tolist(), trace.output_tokens.tolist(), strict=True
        ):
            time.sleep(max(0.0, start_s + at_s - time.monotonic()))
            threads.submit(one, trace.names[model], tokens, at_s)
    return Played(answers, began_s, began_s + time.monotonic() - start_s)


def _time(step: Step) -> float:
    return step.snapshot.now_s


def _report(out: Path, line: str, metrics: list[comparison.Metric], facts: dict[str, Any]) -> int:
    print(line)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "replay.json"
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    found = {"benchmark": "replay", "date": now, "machine": machine(), **facts}
    path.write_text(json.dumps({**found, "line": line, "metrics": comparison.document(metrics)}, indent=1) + "\n")
    print(f"all in {path}")
    failed = next(metric for metric in metrics if metric.name == "failed")
    return int(failed.live > failed.predicted)


if __name__ == "__main__":
    sys.exit(main())
