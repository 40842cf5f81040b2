"""Requests for models that have no replica: held, woken, told."""

from __future__ import annotations

from gateway.admit import Outcome
from gateway.errors import HoldQueueFull, HoldTimeout, ModelNotFound, ModelStartFailed
from tests.gateway.admit.scene import EPOCH_UNIX_S, M, Scene, failed, model


def test_thirty_held_requests_all_go_when_the_replica_is_ready() -> None:
    scene = Scene()
    scene.table(model())
    waiting = [scene.ask() for _ in range(30)]
    assert scene.held == 30
    scene.wait(3)
    assert all(one.waits for one in waiting)
    scene.table(model("a"))
    scene.turn()
    assert {one.at for one in waiting} == {"a"}
    assert (scene.held, scene.flying("a")) == (0, 30)
    for one in waiting:
        assert one.claim is not None
        assert one.claim.woken
        assert round(one.claim.waited_s, 6) == 3.0


def test_more_than_there_are_slots_go_one_after_another() -> None:
    scene = Scene()
    scene.table(model())
    waiting = [scene.ask() for _ in range(5)]
    scene.table(model("a", slots=2))
    scene.turn()
    assert [one.waits for one in waiting] == [False, False, True, True, True], "the oldest first"
    scene.end(waiting[0])
    scene.turn()
    assert [one.waits for one in waiting] == [False, False, False, True, True]


def test_held_by_an_alias_counts_for_the_model() -> None:
    scene = Scene()
    scene.table(model(aliases=("alias",)))
    waiting = scene.ask("alias")
    assert scene.held == 1
    scene.table(model("a", aliases=("alias",)))
    scene.turn()
    assert waiting.claim is not None
    assert waiting.claim.model == M


def test_the_first_held_request_is_told_at_once_with_its_deadline() -> None:
    scene = Scene()
    scene.table(model())
    scene.demand.pace.sent(0.0)
    scene.ask(timeout_s=60)
    assert scene.demand.pace.urgent
    scene.ask(timeout_s=7)
    told = scene.demand.report("w", 1, 0.0).models[M]
    assert told.earliest_deadline_unix_s == EPOCH_UNIX_S + scene.now_s + 7
    scene.table(model("a"))
    assert scene.demand.report("w", 1, 0.0).models[M].earliest_deadline_unix_s is None


def test_a_deadline_ends_the_wait() -> None:
    scene = Scene()
    scene.table(model())
    waiting = scene.ask(timeout_s=42)
    scene.wait(41.8)
    assert waiting.waits
    scene.wait(0.3)
    assert isinstance(waiting.error, HoldTimeout)
    assert waiting.error.status == 503
    assert "42.0 s" in waiting.error.message
    assert dict(waiting.error.headers())["retry-after"]
    assert scene.held == 0


def test_no_time_to_wait_means_an_answer_at_once_and_a_start_all_the_same() -> None:
    scene = Scene()
    scene.table(model())
    assert isinstance(scene.ask(timeout_s=0).error, HoldTimeout)
    assert scene.held == 1, "the controller starts what is waited for"
    scene.wait(10)
    assert scene.held == 0, "but it does not believe for long that the caller comes back"


def test_a_start_that_would_be_too_late_is_told_at_once_with_the_time_that_it_takes() -> None:
    scene = Scene()
    scene.table(model(start_estimate_s=30.0))
    refused = scene.ask(timeout_s=10).error
    assert isinstance(refused, HoldTimeout)
    assert refused.headers() == [("retry-after", "30")]
    scene.wait(12)
    again = scene.ask(timeout_s=10).error
    assert isinstance(again, HoldTimeout)
    assert again.headers() == [("retry-after", "18")], "the start goes on meanwhile"
    scene.wait(10)
    assert scene.ask(timeout_s=10).waits, "now it will be in time"


def test_who_was_told_to_come_back_finds_the_model_started() -> None:
    scene = Scene()
    scene.table(model(start_estimate_s=30.0))
    scene.ask(timeout_s=5)
    scene.wait(29)
    assert scene.held == 1, "it is expected until then"
    scene.table(model("a", start_estimate_s=30.0))
    assert scene.held == 0
    assert scene.ask(timeout_s=5).at == "a"


def test_who_does_not_come_back_is_not_waited_for() -> None:
    scene = Scene()
    scene.table(model(start_estimate_s=8.0))
    scene.ask(timeout_s=5)
    scene.wait(12.9)
    assert scene.held == 1
    scene.wait(0.3)
    assert scene.held == 0
    scene.ask(timeout_s=5)
    refused = scene.ask(timeout_s=5).error
    assert refused is not None
    assert refused.headers() == [("retry-after", "8")], "a start that nobody waited for has to begin again"


def test_a_start_that_is_overdue_may_be_over_at_any_moment() -> None:
    scene = Scene()
    scene.table(model(start_estimate_s=10.0))
    scene.ask(timeout_s=60)
    scene.wait(20)
    assert scene.ask(timeout_s=5).waits
    assert scene.ask(timeout_s=0.5).error is not None, "not in the very next moment, though"


def test_an_unknown_start_time_refuses_nobody() -> None:
    scene = Scene()
    scene.table(model())
    assert scene.ask(timeout_s=0.2).waits


def test_a_full_queue_refuses_the_next_one_and_has_room_again_later() -> None:
    scene = Scene(hold_limit=2)
    scene.table(model())
    first, second = scene.ask(), scene.ask()
    third = scene.ask()
    assert isinstance(third.error, HoldQueueFull)
    assert third.error.status == 429
    assert dict(third.error.headers())["retry-after"]
    scene.admission.leave(first)
    assert scene.ask().waits
    assert second.waits


def test_a_full_queue_of_a_model_with_a_known_start_says_when_it_is_over() -> None:
    scene = Scene(hold_limit=1)
    scene.table(model(start_estimate_s=20.0))
    scene.ask()
    scene.wait(5)
    refused = scene.ask().error
    assert refused is not None
    assert refused.headers() == [("retry-after", "15")]


def test_one_models_queue_does_not_fill_anothers() -> None:
    scene = Scene(hold_limit=1)
    scene.table(model(), model(name="n"))
    assert scene.ask("m").waits
    assert scene.ask("n").waits


def test_a_caller_who_leaves_frees_the_place() -> None:
    scene = Scene()
    scene.table(model())
    waiting = scene.ask()
    scene.admission.leave(waiting)
    assert scene.held == 0
    scene.table(model("a"))
    scene.turn()
    assert waiting.told == 0
    assert scene.flying("a") == 0


def test_a_caller_who_leaves_between_its_place_and_the_news_of_it_gives_the_place_to_the_next() -> None:
    scene = Scene()
    scene.table(model())
    first, second = scene.ask(), scene.ask()
    scene.table(model("a", slots=1))
    scene.admission.leave(first)
    scene.turn()
    assert first.told == 0
    assert second.at == "a"
    assert scene.flying("a") == 1


def test_leaving_without_having_been_held_is_nothing() -> None:
    scene = Scene()
    scene.table(model("a"))
    asked = scene.ask()
    scene.admission.leave(asked)
    assert scene.flying("a") == 1


def test_a_failure_that_happens_while_waiting_is_the_answer() -> None:
    scene = Scene()
    scene.table(model())
    waiting = [scene.ask() for _ in range(3)]
    scene.wait(5)
    scene.table(model(failure=failed(at_s=scene.now_s - 0.5, retry_after_s=10)))
    scene.turn()
    for one in waiting:
        assert isinstance(one.error, ModelStartFailed)
        assert one.error.code == "model_start_failed"
        assert one.error.headers() == [("retry-after", "10")]  # 9.5 s, in whole seconds
    assert scene.held == 0


def test_a_failure_from_before_the_wait_is_old_news() -> None:
    scene = Scene()
    scene.table(model(failure=failed(at_s=scene.now_s - 7)))
    waiting = scene.ask()
    scene.wait(1)
    assert waiting.waits, "its next attempt is due, so the request may wait for it"
    scene.table(model("a"))
    scene.turn()
    assert waiting.at == "a"


def test_a_permanent_failure_also_ends_waits_that_began_after_it() -> None:
    """The request came in while the news was on its way."""
    scene = Scene()
    scene.table(model())
    waiting = scene.ask()
    scene.table(model(failure=failed(at_s=scene.now_s - 0.1, permanent=True)))
    scene.turn()
    assert isinstance(waiting.error, ModelStartFailed)


def test_a_model_that_is_removed_ends_the_wait() -> None:
    scene = Scene()
    scene.table(model())
    waiting = scene.ask()
    scene.table()
    scene.turn()
    assert isinstance(waiting.error, ModelNotFound)
    assert scene.held == 0


def test_the_controller_never_sees_a_request_in_neither_place() -> None:
    """From held to in flight: a report taken at any moment counts it."""
    scene = Scene()
    seen: list[int] = []

    def look() -> None:
        report = scene.demand.report("w", 1, 0.0)
        seen.append(sum(part.held + part.in_flight for part in report.models.values()))

    scene.table(model())
    scene.ask()
    scene.demand.on_change = look
    scene.demand.pace.sent(0.0)
    scene.table(model("a"))
    assert seen
    assert min(seen) >= 1


def test_when_the_only_replica_is_suspect_requests_wait_until_the_suspicion_ends() -> None:
    scene = Scene()
    scene.table(model("a"))
    scene.end(scene.ask(), Outcome.LOST)
    waiting = scene.ask()
    scene.wait(0.9)
    assert waiting.waits
    scene.wait(0.2)
    assert waiting.at == "a"
    assert waiting.claim is not None
    assert not waiting.claim.woken, "nothing was started for it"
