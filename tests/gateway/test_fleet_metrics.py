"""The fleet as gauges."""

from __future__ import annotations

from gateway.fleet_metrics import render
from models.store.records import Failure, FleetRecord, GpuRecord, ModelRecord, NodeRecord, ReplicaRecord

GIB = 1 << 30


def gpu(name: str, **more: object) -> GpuRecord:
    return GpuRecord(
        id=name,
        node="n",
        index=0,
        name="simulated",
        simulated=True,
        memory_bytes=4 * GIB,
        reserved_bytes=GIB,
        free_bytes=3 * GIB,
        **more,  # type: ignore[arg-type]
    )


def node(name: str, state: str) -> NodeRecord:
    return NodeRecord(id=name, address="127.0.0.1", host_bytes=0, host_reserved_bytes=0, state=state)


def replica(name: str, state: str) -> ReplicaRecord:
    return ReplicaRecord(
        replica_id=name,
        model_id="org/m",
        node="n",
        gpu="n/0",
        state=state,
        reason="",
        state_since_unix_s=0.0,
        endpoint="",
        control="",
        pid=None,
        footprint={},
    )


def failed(name: str, *, permanent: bool) -> ModelRecord:
    failure = Failure(message="no", code="model_start_failed", at_unix_s=0.0, retry_at_unix_s=0.0, permanent=permanent)
    return ModelRecord(
        model_id=name,
        runtime="vllm",
        source="/x",
        aliases=(),
        min_replicas=0,
        max_replicas=1,
        ttl_s=1.0,
        priority=0,
        pinned=False,
        footprint={},
        card_hash="",
        failure=failure,
    )


FLEET = FleetRecord(
    seq=1,
    updated_unix_s=100.0,
    controller_pid=1,
    nodes=(node("a", "ready"), node("b", "away")),
    gpus=(gpu("n/0"), gpu("n/1", cordoned=True), gpu("n/2", lost="it fell off the bus")),
    replicas=(replica("r1", "ready"), replica("r2", "ready"), replica("r3", "asleep")),
    config_error="models.0.ttl: no",
    problems=("two clusters",),
)


def lines(fleet: FleetRecord, catalog: tuple[ModelRecord, ...] = (), now: float = 103.5) -> list[str]:
    return render(fleet, catalog, now).decode().splitlines()


def test_nothing_is_shown_before_any_controller_wrote() -> None:
    assert render(None, (), 1.0) == b""


def test_how_long_the_controller_has_been_silent() -> None:
    assert "roundhouse_controller_silent_seconds 3.5" in lines(FLEET)
    assert "roundhouse_controller_silent_seconds 0.0" in lines(FLEET, now=99.0)  # its clock is ahead of ours


def test_nodes_and_gpus_by_state_also_those_that_nobody_is_in() -> None:
    shown = lines(FLEET)
    for line in ('nodes{state="ready"} 1.0', 'nodes{state="away"} 1.0', 'nodes{state="lost"} 0.0'):
        assert f"roundhouse_{line}" in shown
    for state in ("ready", "cordoned", "lost"):
        assert f'roundhouse_gpus{{state="{state}"}} 1.0' in shown


def test_memory_by_gpu_says_that_it_is_simulated() -> None:
    shown = lines(FLEET)
    assert 'roundhouse_gpu_memory_bytes{gpu="n/0",node="n",simulated="true"} 4.294967296e+09' in shown
    assert 'roundhouse_gpu_reserved_bytes{gpu="n/0",node="n",simulated="true"} 1.073741824e+09' in shown


def test_replicas_failures_and_what_operators_have_to_see_to() -> None:
    shown = lines(FLEET, (failed("bad", permanent=True), failed("worse", permanent=False)))
    assert 'roundhouse_replicas{model="org/m",state="ready"} 2.0' in shown
    assert 'roundhouse_replicas{model="org/m",state="asleep"} 1.0' in shown
    assert 'roundhouse_model_failed{code="model_start_failed",model="bad",permanent="true"} 1.0' in shown
    assert 'roundhouse_model_failed{code="model_start_failed",model="worse",permanent="false"} 1.0' in shown
    assert "roundhouse_config_rejected 1.0" in shown
    assert "roundhouse_problems 1.0" in shown
