"""Which model's files are served by what ``compare`` starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from loadtests.coldstart.admin import Admin
from loadtests.coldstart.scene import make_models
from loadtests.compare.problems import CannotCompare
from loadtests.load.settings import SettingsError
from loadtests.served import chat_models
from loadtests.target import Target, TargetError
from loadtests.wire import CallFailed

TINY = "tiny-llama"


def weights_of(models: Sequence[str], folder: Path | None, service: Target | None, made: Path) -> tuple[str, Path]:
    """The model's name and folder: as given; else as the running service has it; else a tiny one, made below ``made``.

    Raises SettingsError, CannotCompare, CallFailed.
    """
    if len(models) > 1:
        raise SettingsError("what is started serves one model: name one in --models, not several")
    if folder is not None:
        whole = folder.absolute()
        return (models[0] if models else whole.name), _checked(whole, f"--weights {folder}")
    if service is None:
        if models and models[0] != TINY:
            raise CannotCompare(
                [f"no service runs that has {models[0]}: name its folder with --weights DIR, or --models {TINY}"]
            )
        return TINY, make_models(made, [TINY])[TINY]
    try:
        model = chat_models(service, models)[0]
        source = Admin(service).source(model)
    except (TargetError, CallFailed) as problem:
        raise CannotCompare([f"the running service does not tell where its models are: {problem}"]) from None
    if not Path(source).is_dir():
        raise CannotCompare([f"the running service has {model} from {source}: name its folder with --weights DIR"])
    return model, _checked(Path(source), f"the running service's {model}")


def _checked(folder: Path, whose: str) -> Path:
    if not (folder / "config.json").is_file():
        raise CannotCompare([f"{whose}: {folder} is no folder of a model (no config.json in it)"])
    return folder
