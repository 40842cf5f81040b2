"""Services that run: each has its own key, all are asked for what all of them have."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.compare.problems import CannotCompare
from loadtests.compare.targets import common_models, key_name, models_at, running_service, targets_of
from loadtests.load.settings import Settings
from loadtests.target import Target
from tests.loadtests.fake_service import FakeModel, FakeService

URL = "http://127.0.0.1:8000"


@contextlib.contextmanager
def services(**models: dict[str, FakeModel]) -> Iterator[dict[str, Target]]:
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(FakeService(known).running()).target for name, known in models.items()}


def speaks(context: int | None = None) -> FakeModel:
    """A model as plain vLLM tells of it: not what it can do."""
    return FakeModel(runtime=None, context=context)


EMBEDS = FakeModel(runtime="torch", capabilities=("embed",))


@pytest.mark.parametrize(
    ("name", "variable"),
    [("vllm", "VLLM_API_KEY"), ("ray-serve-llm", "RAY_SERVE_LLM_API_KEY"), ("v0.32", "V0_32_API_KEY")],
)
def test_each_has_a_variable_for_its_key(name: str, variable: str) -> None:
    assert key_name(name) == variable


def test_nobody_is_told_another_ones_key(tmp_path: Path) -> None:
    environ = {
        "ROUNDHOUSE_HOME": str(tmp_path),
        "ROUNDHOUSE_API_KEY": "ours",
        "ROUNDHOUSE_ADMIN_KEY": "admin",
        "VLLM_API_KEY": "theirs",
    }
    found = targets_of({"roundhouse": URL, "vllm": "http://127.0.0.1:8001/v1", "other": "http://localhost:2"}, environ)
    assert found["roundhouse"] == Target(URL, "ours", "admin")
    assert found["vllm"] == Target("http://127.0.0.1:8001", "theirs")
    assert found["other"] == Target("http://localhost:2")


def test_the_service_that_runs_here_has_left_its_keys(tmp_path: Path) -> None:
    (tmp_path / "demo.env").write_text(f"ROUNDHOUSE_URL={URL}\nROUNDHOUSE_API_KEY=a\nROUNDHOUSE_ADMIN_KEY=b\n")
    environ = {"ROUNDHOUSE_HOME": str(tmp_path)}
    found = targets_of({"ours": URL, "vllm": "http://127.0.0.1:8001"}, environ)
    assert found == {"ours": Target(URL, "a", "b"), "vllm": Target("http://127.0.0.1:8001")}
    assert running_service(found, {}) == Target(URL, "a", "b")


def test_every_wrong_address_is_told_at_once(tmp_path: Path) -> None:
    urls = {"a": "nonsense", "b": "http://192.0.2.1:8000", "c": URL}
    with pytest.raises(CannotCompare) as told:
        targets_of(urls, {"ROUNDHOUSE_HOME": str(tmp_path)})
    first, second = str(told.value).splitlines()
    assert first.startswith("a: its URL should look like http://127.0.0.1:8000")
    assert second == "b: http://192.0.2.1:8000 is not this machine; --allow-remote loads it all the same"
    assert targets_of({"b": urls["b"]}, {}, allow_remote=True)["b"].host == "192.0.2.1"


def test_everyone_who_gives_no_answer_is_named_with_a_cure() -> None:
    with services(here={"m": speaks()}) as found:
        wrong_key = Target(found["here"].url, "wrong")
        absent = Target("http://127.0.0.1:9")
        with pytest.raises(CannotCompare) as told:
            models_at({**found, "locked": wrong_key, "vllm": absent})
    locked, vllm = str(told.value).splitlines()
    assert locked.startswith("locked: ")
    assert locked.endswith("401 invalid_api_key: this key is not known; its key is read from LOCKED_API_KEY")
    assert vllm.startswith("vllm: nothing answers at http://127.0.0.1:9 (ConnectionRefusedError")
    assert vllm.endswith("start it, or leave it out")


def test_models_that_all_have_are_asked_and_fit_the_shortest_context() -> None:
    with services(
        ours={"a": FakeModel(context=512), "b": FakeModel(), "e": EMBEDS}, theirs={"b": speaks(), "a": speaks(256)}
    ) as found:
        settled = common_models(found, Settings(suite="steady"))
    assert settled.models == ("a", "b")
    assert settled.contexts == {"a": 256}
    assert settled.embedders == ()


def test_a_spike_is_for_one_model_of_all_the_first_that_tells_decides() -> None:
    with services(
        theirs={"a": speaks(), "b": speaks()},
        ours={"a": FakeModel(), "b": FakeModel(max_replicas=4)},
        other={"a": FakeModel(max_replicas=8), "b": FakeModel()},
    ) as found:
        targets = {**found, "theirs": Target(found["theirs"].url, found["theirs"].api_key)}
        assert common_models(targets, Settings(suite="spike")).models == ("b",)
        assert common_models(targets, Settings(suite="spike", models=("a", "b"))).models == ("a", "b")


@pytest.mark.parametrize(
    ("suite", "dialects", "asked"),
    [
        ("smoke", {}, (("a",), ("e",))),
        ("steady", {"embeddings": 1.0, "chat": 1.0}, (("a",), ("e",))),
        ("steady", {"embeddings": 1.0}, ((), ("e",))),
        ("steady", {}, (("a",), ())),
    ],
)
def test_what_one_calls_an_embedder_is_one_for_all(
    suite: str, dialects: dict[str, float], asked: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    with services(ours={"a": FakeModel(), "e": EMBEDS}, theirs={"a": speaks(), "e": speaks()}) as found:
        settled = common_models(found, Settings(suite=suite, dialects=dialects))
    assert (settled.models, settled.embedders) == asked


def test_a_model_that_somebody_lacks_is_told() -> None:
    with services(ours={"a": FakeModel(), "b": FakeModel()}, theirs={"b": speaks()}) as found:
        with pytest.raises(CannotCompare, match="theirs: no model a; there are b"):
            common_models(found, Settings(models=("a",)))
        assert common_models(found, Settings(models=("b",))).models == ("b",)


def test_nothing_in_common_is_told_with_what_there_is() -> None:
    with services(ours={"a": FakeModel()}, theirs={}) as found, pytest.raises(CannotCompare) as told:
        common_models(found, Settings())
    assert str(told.value).splitlines()[:2] == ["ours: has a", "theirs: has no model"]
    assert "no model in common" in str(told.value)


def test_only_embedders_in_common_are_nothing_for_a_chat() -> None:
    with (
        services(ours={"e": EMBEDS}, theirs={"e": speaks()}) as found,
        pytest.raises(CannotCompare, match="none of e can be asked everywhere"),
    ):
        common_models(found, Settings(suite="steady"))


def test_what_a_service_that_is_down_has_left_behind_is_no_service(tmp_path: Path) -> None:
    ours = FakeService({"a": FakeModel()})
    left = tmp_path / "demo.env"
    left.write_text(
        f"ROUNDHOUSE_URL={ours.target.url}\nROUNDHOUSE_API_KEY={ours.target.api_key}\n"
        f"ROUNDHOUSE_ADMIN_KEY={ours.target.admin_key}\n"
    )
    environ = {"ROUNDHOUSE_HOME": str(tmp_path)}
    with ours.running():
        assert running_service({}, environ) == ours.target
        assert running_service({}, environ | {"ROUNDHOUSE_ADMIN_KEY": ""}) == ours.target
    assert running_service({}, environ) is None
    left.unlink()
    assert running_service({}, environ) is None
