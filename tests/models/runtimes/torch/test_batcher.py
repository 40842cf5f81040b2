"""Requests share batches on a model's thread; on virtual time, with a model that computes at once or when told."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.runtimes.torch.api import ApiError
from models.runtimes.torch.batch_queue import Limits
from models.runtimes.torch.batcher import Batcher
from models.runtimes.torch.contained import ModelDefect
from models.runtimes.torch.model import BadInput
from tests.models.runtimes.virtual_loop import Inline, Never, play


class Model:
    """Doubles what it is given, and says what it was told to do."""

    def __init__(self):
        self.batches = []
        self.told = []

    def predict(self, inputs):
        self.batches.append(list(inputs))
        if "bad" in inputs:
            raise ValueError("a bad input")
        if "hang" in inputs:
            raise Never
        if "exit" in inputs:
            raise SystemExit(3)
        return [item * 2 for item in inputs]

    def stream(self, item):
        self.told.append(f"begin {item}")
        try:
            for number in range(3):
                if (item, number) == ("bad", 1):
                    raise ValueError("a bad input")
                self.told.append(f"{item}{number}")
                yield f"{item}{number}"
        finally:
            self.told.append(f"end {item}")

    def on_cancel(self, item):
        self.told.append(f"cancelled {item}")


class Desk:
    def __init__(self, *, took_s=1.0, **limits):
        self.model = Model()
        self.thread = Inline()
        self.thread.took_s = took_s
        self.batcher = Batcher(
            self.model.predict,
            self.thread,
            Limits(**limits),
            name="Model",
            stream=self.model.stream,
            on_cancel=self.model.on_cancel,
        )

    def ask(self, *inputs, **more):
        return asyncio.ensure_future(self.batcher.outputs(inputs, **more))

    def read(self, item, **more):
        return asyncio.ensure_future(self._read(item, **more))

    async def _read(self, item, **more):
        return [piece async for piece in self.batcher.pieces(item, **more)]


def now_s():
    return asyncio.get_running_loop().time()


async def read_into(found, pieces):
    async for piece in pieces:
        found.append(piece)


async def settled(*tasks):
    return await asyncio.gather(*tasks, return_exceptions=True)


class TestBatches:
    def test_an_idle_model_begins_at_once(self):
        async def story():
            desk = Desk()
            assert await desk.ask(1, 2) == [2, 4]
            assert now_s() == 1
            assert desk.model.batches == [[1, 2]]

        play(story)

    def test_those_that_come_while_it_is_busy_go_together(self):
        async def story():
            desk = Desk()
            first = desk.ask(1)
            await asyncio.sleep(0.5)
            rest = [desk.ask(number, -number) for number in (2, 3, 4)]
            assert await first == [2]
            assert await settled(*rest) == [[4, -4], [6, -6], [8, -8]]
            assert now_s() == 2
            assert sorted(desk.model.batches[1]) == [-4, -3, -2, 2, 3, 4]
            assert len(desk.model.batches) == 2

        play(story)

    def test_with_a_delay_the_first_waits_for_company_but_not_longer(self):
        async def story():
            desk = Desk(max_delay_s=0.2)
            first = desk.ask(1)
            await asyncio.sleep(0.1)
            second = desk.ask(2)
            assert await settled(first, second) == [[2], [4]]
            assert (desk.model.batches, now_s()) == ([[1, 2]], 1.2)
            await desk.ask(3)
            assert now_s() == 2.4

        play(story)

    def test_only_like_inputs_go_together(self):
        async def story():
            model = Model()
            batcher = Batcher(model.predict, Inline(), batch_key=type)
            assert await batcher.outputs([1, "a", 2, "b"]) == [2, "aa", 4, "bb"]
            assert model.batches == [[1, 2], ["a", "b"]]

        play(story)

    def test_nothing_is_asked_of_the_model_for_nothing(self):
        async def story():
            desk = Desk()
            assert await desk.ask() == []
            assert desk.model.batches == []

        play(story)

    @given(st.lists(st.lists(st.integers(), min_size=1, max_size=5), min_size=1, max_size=20), st.integers(1, 8))
    def test_everybody_gets_their_own_outputs_in_order(self, requests, batch_size):
        async def story():
            desk = Desk(took_s=0, batch_size=batch_size)
            return await settled(*(desk.ask(*inputs) for inputs in requests))

        assert play(story) == [[item * 2 for item in inputs] for inputs in requests]


class TestFailures:
    def test_only_the_input_that_is_to_blame_fails(self):
        async def story():
            desk = Desk()
            good = [desk.ask(letter) for letter in "abc"]
            bad = desk.ask("d", "bad", "e")
            *outputs, problem = await settled(*good, bad)
            assert outputs == [["aa"], ["bb"], ["cc"]]
            assert str(problem) == "a bad input"
            # It was looked for by halves, and what belongs to the bad request only was not computed after that.
            assert ["bad"] in desk.model.batches
            assert len(desk.model.batches) < 8

        play(story)

    def test_the_model_goes_on_after_a_failure(self):
        async def story():
            desk = Desk()
            with pytest.raises(ValueError, match="a bad input"):
                await desk.ask("bad")
            assert await desk.ask("a") == ["aa"]

        play(story)

    def test_what_would_end_the_process_is_a_failure_like_others(self):
        async def story():
            desk = Desk()
            with pytest.raises(ModelDefect, match="raised SystemExit"):
                await desk.ask("exit")
            assert await desk.ask("a") == ["aa"]

        play(story)

    @pytest.mark.parametrize(
        ("predict", "said"),
        [
            (lambda inputs: inputs[:1], "Model.predict returned 1 outputs for 2 inputs"),
            (lambda inputs: None, "Model.predict returned nothing where a list of outputs was due"),
            (lambda inputs: iter(inputs), "Model.predict returned a list_iterator where a list of outputs was due"),
            (lambda inputs: "ab", "Model.predict returned a str where a list of outputs was due"),
        ],
    )
    def test_a_wrong_number_or_kind_of_outputs_is_found_out(self, predict, said):
        async def story():
            with pytest.raises(ModelDefect) as told:
                await Batcher(predict, Inline(), name="Model").outputs([1, 2])
            assert str(told.value) == said

        play(story)

    def test_a_model_may_blame_an_input(self):
        def predict(inputs):
            raise BadInput("the picture has no pixels")

        async def story():
            with pytest.raises(BadInput, match="no pixels"):
                await Batcher(predict, Inline()).outputs([1])

        play(story)

    def test_a_key_that_cannot_be_made_is_its_requests_own_problem(self):
        async def story():
            batcher = Batcher(Model().predict, Inline(), batch_key=len)
            with pytest.raises(TypeError):
                await batcher.outputs([1])
            assert await batcher.outputs(["a"]) == ["aa"]

        play(story)

    def test_the_models_own_timeout_is_no_deadline(self):
        def predict(inputs):
            raise TimeoutError("its database did not answer")

        async def story():
            with pytest.raises(TimeoutError, match="its database"):
                await Batcher(predict, Inline()).outputs([1], deadline_s=9)

        play(story)


class TestGone:
    def test_a_client_that_is_gone_costs_nothing(self):
        async def story():
            desk = Desk()
            first = desk.ask(1)
            await asyncio.sleep(0.5)
            gone, stays = desk.ask(2), desk.ask(3)
            await asyncio.sleep(0)
            gone.cancel()
            assert await first == [2]
            assert await stays == [6]
            assert desk.model.batches == [[1], [3]]

        play(story)

    def test_a_request_whose_deadline_has_passed_is_never_computed(self):
        async def story():
            desk = Desk()
            first = desk.ask(1)
            late = desk.ask(2, deadline_s=5)
            await asyncio.sleep(0.5)
            hasty = desk.ask(3, deadline_s=0.25)
            with pytest.raises(ApiError) as told:
                await hasty
            assert (told.value.status, told.value.code, now_s()) == (504, "deadline_exceeded", 0.75)
            assert await settled(first, late) == [[2], [4]]
            assert desk.model.batches == [[1, 2]]

        play(story)

    def test_the_engines_own_limit_holds_for_all(self):
        async def story():
            desk = Desk(took_s=3, request_timeout_s=2)
            with pytest.raises(ApiError, match="did not answer in time"):
                await desk.ask(1, deadline_s=60)
            assert now_s() == 2

        play(story)


class TestFull:
    def test_more_than_the_queue_holds_is_refused_with_the_time_to_wait(self):
        async def story():
            desk = Desk(took_s=2, batch_size=1, queue_size=3)
            await desk.ask(0)  # so that it knows how long one takes
            tasks = [desk.ask(1)]
            await asyncio.sleep(0.5)
            tasks += [desk.ask(number) for number in (2, 3, 4)]
            await asyncio.sleep(0)
            with pytest.raises(ApiError, match="busy: 3 inputs wait already") as told:
                await desk.ask(5)
            response = told.value.response()
            assert (response.status_code, response.headers["retry-after"]) == (503, "2")
            assert await settled(*tasks) == [[2], [4], [6], [8]]

        play(story)

    def test_after_refuse_nothing_is_taken_and_what_waits_is_computed(self):
        async def story():
            desk = Desk(batch_size=1)
            tasks = [desk.ask(1), desk.ask(2)]
            await asyncio.sleep(0)
            desk.batcher.refuse("the model is ended", "engine_recycled")
            with pytest.raises(ApiError, match="the model is ended"):
                await desk.ask(3)
            await desk.batcher.drained()
            assert [task.result() for task in tasks] == [[2], [4]]

        play(story)


class TestHang:
    def test_a_call_that_does_not_return_breaks_the_batcher(self):
        async def story():
            desk = Desk(predict_timeout_s=30)
            hanging, waiting = desk.ask("hang"), None
            await asyncio.sleep(10)
            waiting = desk.ask("a")
            reading = desk.read("x")
            problem = await desk.batcher.broken()
            assert (str(problem), problem.fault) == ("Model.predict has not returned for 30 s", "hang")
            assert now_s() == 30
            for outcome in await settled(hanging, waiting, reading, desk.ask("b")):
                assert (outcome.status, outcome.code) == (503, "engine_broken")

        play(story)

    def test_without_a_timeout_it_waits(self):
        async def story():
            desk = Desk(took_s=1e6, predict_timeout_s=0)
            assert await desk.ask(1) == [2]

        play(story)


class TestStreams:
    def test_a_stream_comes_in_pieces(self):
        async def story():
            desk = Desk()
            assert await desk.read("x") == ["x0", "x1", "x2"]
            assert desk.model.told == ["begin x", "x0", "x1", "x2", "end x"]

        play(story)

    def test_batches_and_other_streams_have_their_turn_between_two_pieces(self):
        async def story():
            desk = Desk()
            streams = [desk.read("x"), desk.read("y")]
            await asyncio.sleep(0.5)
            assert await desk.ask(1) == [2]
            # Two iterators were made, each gave a piece, and then it was the batch's turn.
            assert now_s() == 5
            assert desk.model.told[:4] == ["begin x", "x0", "begin y", "y0"]
            assert await settled(*streams) == [["x0", "x1", "x2"], ["y0", "y1", "y2"]]

        play(story)

    def test_no_more_streams_begin_than_a_batch_has_inputs(self):
        async def story():
            desk = Desk(batch_size=1)
            await settled(desk.read("x"), desk.read("y"))
            assert desk.model.told.index("end x") < desk.model.told.index("begin y")

        play(story)

    def test_a_reader_that_leaves_closes_it_and_the_class_is_told(self):
        async def story():
            desk = Desk()
            async with contextlib.aclosing(desk.batcher.pieces("x")) as pieces:
                assert await anext(pieces) == "x0"
            await desk.batcher.drained()
            assert desk.model.told[-2:] == ["end x", "cancelled x"]
            assert "x2" not in desk.model.told

        play(story)

    def test_one_that_leaves_before_it_began_costs_nothing(self):
        async def story():
            desk = Desk()
            busy = desk.ask(1)
            await asyncio.sleep(0.5)
            reading = desk.read("x")
            await asyncio.sleep(0)
            reading.cancel()
            await settled(busy, reading)
            await desk.batcher.drained()
            assert desk.model.told == []

        play(story)

    def test_a_failure_comes_after_the_pieces_before_it(self):
        async def story():
            desk = Desk()
            found: list[str] = []
            with pytest.raises(ValueError, match="a bad input"):
                await read_into(found, desk.batcher.pieces("bad"))
            assert found == ["bad0"]
            assert await desk.ask("a") == ["aa"]

        play(story)

    def test_a_slow_reader_holds_up_only_itself(self):
        def forever(item):
            while True:
                told.append(item)
                yield item

        told: list[str] = []

        async def story():
            batcher = Batcher(Model().predict, Inline(), stream=forever)
            async with contextlib.aclosing(batcher.pieces("x")) as pieces:
                await anext(pieces)
                assert await batcher.outputs([1]) == [2]
                await asyncio.sleep(100)
                assert len(told) < 12
                assert await batcher.outputs([2]) == [4]

        play(story)

    def test_its_deadline_is_for_all_of_it(self):
        async def story():
            desk = Desk(took_s=1)
            found: list[str] = []
            with pytest.raises(ApiError, match="in time"):
                await read_into(found, desk.batcher.pieces("x", deadline_s=2.5))
            assert (found, now_s()) == (["x0"], 2.5)

        play(story)

    @pytest.mark.parametrize(
        ("stream", "said"),
        [
            (None, "Model cannot stream"),
            (lambda item: 5, "Model.stream returned a int where an iterator was due"),
            (lambda item: None, "Model.stream returned nothing where an iterator was due"),
        ],
    )
    def test_a_class_that_cannot(self, stream, said):
        async def story():
            batcher = Batcher(Model().predict, Inline(), name="Model", stream=stream)
            assert batcher.streams == (stream is not None)
            with pytest.raises((ApiError, ModelDefect), match=said):
                await read_into([], batcher.pieces("x"))

        play(story)


def test_all_is_computed_in_the_models_own_thread():
    threads = set()

    def predict(inputs):
        import threading

        threads.add(threading.current_thread().name)
        return inputs

    async def story():
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="model") as thread:
            batcher = Batcher(predict, thread)
            return await asyncio.gather(*(batcher.outputs([number]) for number in range(5)))

    assert asyncio.run(story()) == [[number] for number in range(5)]
    assert threads == {"model_0"}
