"""Each pass brings the model into a state, proves it, and only then asks."""

from __future__ import annotations

import pytest

from loadtests.chat import StreamBroken
from loadtests.coldstart.admin import Admin, NotInState
from loadtests.coldstart.passes import first_token_s, passes
from loadtests.wire import Refused
from tests.loadtests.fake_service import FakeModel, FakeService


class Clock:
    """Virtual time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def admin_of(service: FakeService) -> Admin:
    clock = Clock()
    return Admin(service.target, clock, clock.sleep)


def silent(_: str) -> None:
    """Progress lines are for people."""


def test_every_pass_asks_a_stopped_a_ready_and_an_asleep_model() -> None:
    model = FakeModel(state="ready")
    with FakeService({"llama": model}).running() as service:
        figures = passes(admin_of(service), "llama", 2, silent, first_token_s)
        assert service.orders == ["stop llama", "sleep llama"] * 3
    assert model.starts == ["stopped", "ready", "asleep"] * 3  # one uncounted pass first
    assert [len(figure.values) for figure in figures] == [2, 2, 2]
    assert all(figure.beside["uncounted first pass"] > 0 and figure.problem is None for figure in figures)


def test_the_time_of_a_start_is_in_the_first_token_of_a_stopped_model() -> None:
    with FakeService({"llama": FakeModel(start_s=0.05)}).running() as service:
        stopped, ready, asleep = passes(admin_of(service), "llama", 1, silent, first_token_s)
    assert stopped.median >= 0.05
    assert asleep.median >= 0.05
    assert asleep.goal == pytest.approx(ready.median + 0.03)


def test_a_wrong_clock_is_not_used_the_callers_is() -> None:
    times = iter([0.0, 5.0, 7.0])
    with FakeService({"llama": FakeModel(words=("one",))}).running() as service:
        assert first_token_s(service.target, "llama", lambda: next(times, 9.0)) in (5.0, 7.0, 9.0)


def test_a_model_that_does_not_stop_is_never_measured_as_stopped() -> None:
    model = FakeModel(state="ready", obeys=False)
    told: list[str] = []
    with FakeService({"llama": model}).running() as service:
        stopped, ready, asleep = passes(admin_of(service), "llama", 2, told.append, first_token_s)
        assert service.asked == []
    assert told == ["llama: llama was told to be stopped, but is ready after 15 s"]
    assert stopped.problem == ready.problem == asleep.problem == told[0].removeprefix("llama: ")


def test_a_refused_order_ends_the_passes_in_the_servers_words() -> None:
    said = "409 busy: llama has no replica that could sleep"
    with FakeService({"llama": FakeModel()}).running() as service, pytest.raises(Refused, match=said):
        admin_of(service).put_to_sleep("llama")


def test_only_living_replicas_of_the_model_count() -> None:
    models = {"llama": FakeModel(state="dead"), "qwen": FakeModel(state="ready")}
    with FakeService(models).running() as service:
        admin = admin_of(service)
        assert [replica["model_id"] for replica in admin.replicas()] == ["qwen"]
        assert admin.replicas("llama") == []


def test_asleep_means_that_there_is_a_replica_and_it_sleeps() -> None:
    model = FakeModel(state="ready")
    with FakeService({"llama": model}).running() as service:
        admin_of(service).put_to_sleep("llama")
        assert model.state == "asleep"
        model.obeys, model.state = False, "ready"
        with pytest.raises(NotInState, match="asleep, but is ready"):
            admin_of(service).put_to_sleep("llama")


def test_an_order_waits_until_the_last_request_is_forgotten() -> None:
    model = FakeModel(state="ready", in_flight=[1, 2, 0])
    with FakeService({"llama": model}).running() as service:
        admin = admin_of(service)
        admin.stop("llama")
        assert (model.in_flight, service.orders) == ([], ["stop llama"])
        model.in_flight = [1] * 1000
        with pytest.raises(NotInState, match="llama still has 1 requests after 15 s; is somebody else using it"):
            admin.stop("llama")
        assert service.orders == ["stop llama"]


def test_the_catalog_says_where_the_weights_are() -> None:
    with FakeService({"llama": FakeModel()}).running() as service:
        assert Admin(service.target).source("llama") == "/models/llama"


def test_an_answer_without_tokens_has_no_first_token() -> None:
    said = "llama answered without a single token"
    with FakeService({"llama": FakeModel(words=())}).running() as service, pytest.raises(StreamBroken, match=said):
        first_token_s(service.target, "llama")
