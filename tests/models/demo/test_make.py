"""Demo models appear whole or not at all, once, however often and however badly they are asked for."""

from __future__ import annotations

import fcntl
import hashlib
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from models.demo.__main__ import main
from models.demo.errors import UnknownDemoModel
from models.demo.make import (
    LOCK,
    MAKERS,
    MARKER,
    UNFINISHED,
    describe,
    ensure_model,
    is_complete,
    make_demo_models,
    make_warmup_model,
    recipe_id,
)


def small_model(folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    (folder / "inner").mkdir()
    (folder / "inner" / "weights").write_bytes(b"\0" * 1000)


def never(folder: Path) -> None:
    raise AssertionError("it was made once already")


def visible(root: Path) -> set[str]:
    return {path.name for path in root.iterdir() if not path.name.startswith(".")}


def leftovers(root: Path) -> list[Path]:
    return list(root.glob(f"{UNFINISHED}*"))


def test_a_model_is_made_once(tmp_path: Path) -> None:
    first = ensure_model(tmp_path / "models", "small", small_model)
    second = ensure_model(tmp_path / "models", "small", never)
    assert (first.made, second.made) == (True, False)
    assert first.size_bytes == second.size_bytes == 1002
    assert first.folder == tmp_path / "models" / "small"
    assert not leftovers(tmp_path / "models")


def test_it_is_made_anew_when_its_recipe_has_changed(tmp_path: Path) -> None:
    ensure_model(tmp_path, "small", small_model)
    marker = tmp_path / "small" / MARKER
    marker.write_text(marker.read_text().replace(recipe_id(), "older"))
    assert ensure_model(tmp_path, "small", small_model).made


@pytest.mark.parametrize("marker", ["", "[]", "{}", '{"recipe": null, "files": null}', '"text"'])
def test_it_is_made_anew_when_its_marker_says_nothing(tmp_path: Path, marker: str) -> None:
    ensure_model(tmp_path, "small", small_model)
    (tmp_path / "small" / MARKER).write_text(marker)
    assert ensure_model(tmp_path, "small", small_model).made


def test_it_is_made_anew_when_it_has_lost_a_file_or_part_of_one(tmp_path: Path) -> None:
    weights = ensure_model(tmp_path, "small", small_model).folder / "inner" / "weights"
    weights.write_bytes(b"\0" * 999)
    assert ensure_model(tmp_path, "small", small_model).made
    weights.unlink()
    assert ensure_model(tmp_path, "small", small_model).made
    assert weights.stat().st_size == 1000


def test_a_file_that_somebody_added_does_no_harm(tmp_path: Path) -> None:
    (ensure_model(tmp_path, "small", small_model).folder / "notes.txt").write_text("mine")
    assert not ensure_model(tmp_path, "small", never).made


def test_a_maker_that_fails_leaves_nothing_behind_and_what_was_there(tmp_path: Path) -> None:
    def fails(folder: Path) -> None:
        small_model(folder)
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        ensure_model(tmp_path, "small", fails)
    assert visible(tmp_path) == set()
    assert not leftovers(tmp_path)

    ensure_model(tmp_path, "small", small_model)
    (tmp_path / "small" / MARKER).unlink()
    with pytest.raises(OSError, match="No space left"):
        ensure_model(tmp_path, "small", fails)
    assert (tmp_path / "small" / "config.json").is_file()


def make_and_hang(root: Path) -> None:
    def hangs(folder: Path) -> None:
        small_model(folder)
        (root / "half-done").touch()
        signal.pause()

    ensure_model(root, "small", hangs)


def test_a_killed_process_leaves_no_half_model_and_the_next_one_clears_up(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=make_and_hang, args=(tmp_path,))
    process.start()
    try:
        deadline_s = time.monotonic() + 30
        while not (tmp_path / "half-done").exists():
            assert time.monotonic() < deadline_s, "the maker never began"
            process.join(0.01)
    finally:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    assert not (tmp_path / "small").exists()
    assert leftovers(tmp_path)

    assert ensure_model(tmp_path, "small", small_model).made
    assert not leftovers(tmp_path)


def test_whoever_makes_a_model_holds_the_lock_until_it_has_its_name(tmp_path: Path) -> None:
    def another_may_begin() -> bool:
        with (tmp_path / LOCK).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    def looks(folder: Path) -> None:
        small_model(folder)
        assert not another_may_begin()

    ensure_model(tmp_path, "small", looks)
    assert another_may_begin()


def make_and_count(root: Path) -> None:
    def counted(folder: Path) -> None:
        with (root / ".count").open("a") as file:
            file.write("made\n")
        small_model(folder)

    ensure_model(root, "small", counted)


def test_of_several_processes_one_makes_it_and_the_others_wait(tmp_path: Path) -> None:
    processes = [multiprocessing.get_context("fork").Process(target=make_and_count, args=(tmp_path,)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 6
    assert (tmp_path / ".count").read_text() == "made\n"


def test_all_demo_models_are_there_and_each_has_had_its_line(tmp_path: Path, demo_root: Path) -> None:
    lines: list[str] = []
    models = make_demo_models(demo_root, progress=lines.append)
    assert [model.name for model in models] == list(MAKERS)
    assert not any(model.made for model in models)
    assert lines == [describe(model) for model in models]
    assert all(line.endswith("MB  ready") for line in lines)
    assert all(is_complete(model.folder, recipe_id()) for model in models)


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize(
    "name", ["tiny-llama", "tiny-gemma", "tiny-reranker", "tiny-topics", "tiny-painter", "tiny-voice", "tiny-ear"]
)
def test_making_a_model_again_gives_the_same_bytes(tmp_path: Path, demo_root: Path, name: str) -> None:
    (model,) = make_demo_models(tmp_path, only=[name], progress=print)
    assert model.made
    assert hashes(model.folder) == hashes(demo_root / name)
    assert visible(tmp_path) == {name}


def test_the_models_are_not_one_model_three_times(demo_root: Path) -> None:
    weights = {hashes(demo_root / name)["model.safetensors"] for name in ("tiny-llama", "tiny-gemma", "tiny-qwen3")}
    assert len(weights) == 3


def test_an_unknown_name_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UnknownDemoModel, match=r"no demo model called 'tiny'; choose among tiny-llama, "):
        make_demo_models(tmp_path, only=["tiny-llama", "tiny"], progress=print)
    assert visible(tmp_path) == set()


def test_the_warmup_model_is_no_demo_model(tmp_path: Path) -> None:
    assert make_warmup_model(tmp_path) == make_warmup_model(tmp_path) == tmp_path / "warmup"
    assert visible(tmp_path) == {"warmup"}


def test_the_command_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--only", "minilm"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("minilm")
    assert "made in" in said[0]
    assert said[1].startswith("1 models, 91.")


def test_the_command_fails_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main([str(tmp_path / "file"), "--only", "minilm"]) == 1
    assert capsys.readouterr().err.startswith("error: ")
