"""``python -m loadtests.gateway.install DIR``: the peers that are Python packages, each in a venv of its own."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

PINNED = {"vllm-router": "0.1.17", "sglang-router": "0.3.2", "litellm": "1.109.1"}
EXTRA = {"litellm": "proxy"}
# LiteLLM pins the newest release of these on its own release day; any other will do, where an index is behind.
LOOSE = ("certifi", "litellm-proxy-extras", "litellm-enterprise")
# Ray Serve LLM is a part of Ray: it gets the Ray and the vLLM that run this, and what it asks for besides them.
RAY_LLM = "ray-serve-llm"
OMITTED = ("vllm", "nixl", "nixl-cu13")  # vLLM is there, whichever its build; NIXL moves KV caches between machines
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_LIST_REQUIREMENTS = "import importlib.metadata as m, sys; print(*m.requires(sys.argv[1]) or (), sep='\\n')"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.gateway.install", description=(__doc__ or "").strip())
    parser.add_argument("folder", type=Path, help="outside of the repository: the peers are no part of it")
    parser.add_argument("--only", choices=sorted(WAYS), nargs="*", default=sorted(WAYS))
    options = parser.parse_args(argv)
    failed = [name for name in options.only if not WAYS[name](options.folder.absolute() / name, name)]
    for name in failed:
        print(f"{name}: could not be installed; the benchmark goes on without it", file=sys.stderr)
    return 1 if failed else 0


def installed(folder: Path, name: str) -> bool:
    """True when the peer is there afterwards."""
    wanted = f"{name}{'[' + EXTRA[name] + ']' if name in EXTRA else ''}=={PINNED[name]}"
    if not (folder / "bin" / "python").exists():
        venv.create(folder, with_pip=True, symlinks=True)
    print(f"{name} {PINNED[name]}: installing into {folder}", file=sys.stderr, flush=True)
    if _pip(folder, [wanted]):
        return True
    if name not in EXTRA or not _pip(folder, ["--no-deps", f"{name}=={PINNED[name]}"]):
        return False
    asked = subprocess.run(
        [folder / "bin" / "python", "-c", _LIST_REQUIREMENTS, name], capture_output=True, text=True, check=True
    )
    return _pip(folder, relaxed(asked.stdout.splitlines(), EXTRA[name]))


def installed_ray_llm(folder: Path, name: str = RAY_LLM) -> bool:
    """True when it is there afterwards: a venv that sees the packages of this one."""
    if importlib.util.find_spec("ray") is None:
        print(f"{name}: the package ray is not installed here", file=sys.stderr)
        return False
    if not (folder / "bin" / "python").exists():
        venv.create(folder, with_pip=True, symlinks=True)
    inherited = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (own,) = folder.glob("lib/python*/site-packages")
    (own / "inherited.pth").write_text("".join(f"{path}\n" for path in sorted(inherited)))
    print(f"{name}: installing what Ray asks for besides itself into {folder}", file=sys.stderr, flush=True)
    asked = relaxed(importlib.metadata.requires("ray") or (), "llm")
    return _pip(folder, [line for line in asked if _name_of(line) not in OMITTED])


def _name_of(requirement: str) -> str:
    found = _NAME.match(requirement)
    return found[0].lower() if found else ""


def relaxed(requirements: Iterable[str], extra: str) -> list[str]:
    """Those of the distribution and of one extra, without the versions of ``LOOSE``."""
    found = []
    for line in requirements:
        requirement, _, marker = line.partition(";")
        extras = re.findall(r"extra\s*==\s*[\"']([^\"']+)[\"']", marker)
        if extras and extra not in extras:
            continue
        name = _NAME.match(requirement.strip())
        if name is None:
            continue
        marker = re.sub(r"\s*(and\s+)?extra\s*==\s*[\"'][^\"']+[\"']", "", marker).strip()
        kept = name[0] if name[0].lower().replace("_", "-") in LOOSE else requirement.strip()
        found.append(f"{kept}; {marker}" if marker else kept)
    return found


def _pip(folder: Path, what: Sequence[str]) -> bool:
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what]
    return subprocess.run(command, check=False).returncode == 0


WAYS: dict[str, Callable[[Path, str], bool]] = {**dict.fromkeys(PINNED, installed), RAY_LLM: installed_ray_llm}


if __name__ == "__main__":
    sys.exit(main())
