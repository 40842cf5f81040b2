"""A model's weights as views of its mapped files, and the binding of modules to them without a copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.overrides import TorchFunctionMode

from models.runtimes import model_folder
from models.runtimes.protocol import EngineError

Module = TypeVar("Module", bound=torch.nn.Module)


class Weights(Mapping[str, torch.Tensor]):
    """The tensors of a model's folder by name. Nothing is read before it is used, and then only mapped.

    ``settings``: what the card gives the class as ``engine_args.settings``.
    """

    def __init__(
        self,
        folder: Path,
        device: torch.device,
        settings: Mapping[str, Any] | None = None,
        put: Callable[[torch.nn.Module], object] | None = None,
    ) -> None:
        """``put``: brings a bound module to ``device`` where that is more than ``module.to`` (models/cuda)."""
        self.folder = folder
        self.device = device
        self._put = put or (lambda module: module.to(device))
        self.settings: Mapping[str, Any] = dict(settings or {})
        self.bound: list[torch.nn.Module] = []

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The parsed config.json. Raises EngineError when there is none or it cannot be read."""
        return model_folder.read_config(self.folder)

    @cached_property
    def _tensors(self) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = {}
        for file in model_folder.weight_files(self.folder):
            try:
                found |= load_file(file)
            except SafetensorError as problem:
                raise EngineError(f"{file.name} is damaged: {problem}", "weights") from problem
        return found

    def tensors(self) -> dict[str, torch.Tensor]:
        """All of them: views of the mapped files, on the CPU, in the files' types. Copy before you write.

        Raises EngineError when files are missing or damaged.
        """
        return dict(self._tensors)

    def mapped(self) -> list[torch.Tensor]:
        """Those that were read so far."""
        return list(self.__dict__.get("_tensors", {}).values())

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def build(self, make: Callable[[], Module], *, prefix: str = "", optional: Sequence[str] = ()) -> Module:
        """``make()`` in the time that its skeleton takes, then ``bind``: nothing is allocated for its parameters.

        Buffers that no file holds are computed by ``make`` as always.
        """
        with Skeleton():
            module = make()
        return self.bind(module, prefix=prefix, optional=optional)

    def bind(self, module: Module, *, prefix: str = "", optional: Sequence[str] = ()) -> Module:
        """Make the tensors the module's own, without a copy on the CPU; it comes back on the device, for inference.

        ``prefix``: taken off names in the files. ``optional``: submodules that become None when no file has them.
        Raises EngineError naming a tensor that is missing or of another shape.
        """
        ties = _ties(module)
        given = {name.removeprefix(prefix): tensor for name, tensor in self._tensors.items()}
        _check_shapes(module, given)
        missing = set(module.load_state_dict(given, assign=True, strict=False).missing_keys)
        for names in ties:
            missing -= _tie(module, names, missing)
        for name in optional:
            missing -= _leave_out(module, name, missing)
        if missing:
            raise EngineError(f"the weights are incomplete: {min(missing)} is missing", "weights")
        _check_buffers(module)
        module.eval().requires_grad_(False)
        self._put(module)
        self.bound.append(module)
        return module

    def transformer(self, auto: Any, *, optional: Sequence[str] = ()) -> Any:
        """The model that an ``Auto`` class of transformers makes of config.json, bound.

        Raises EngineError for an architecture that is not known, and what ``bind`` raises.
        """
        import transformers

        kind = self.config.get("model_type")
        try:
            config = transformers.AutoConfig.from_pretrained(self.folder)
            with Skeleton():
                module: Any = auto.from_config(config)
        except (ValueError, KeyError) as problem:
            raise EngineError(
                f"the model's type {kind!r} (in config.json) is not one that transformers knows", "weights"
            ) from problem
        prefix = f"{module.base_model_prefix}."
        own = any(name.startswith(prefix) for name in module.state_dict())
        return self.bind(module, prefix="" if own else prefix, optional=optional)


class Skeleton(TorchFunctionMode):
    """What is made here without values, as parameters are, has no memory; all else is computed as always.

    Under ``torch.device("meta")`` buffers that no file holds (rotary frequencies, positions) would have no values.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        return function(*args, **({**given, "device": "meta"} if function is torch.empty else given))


def _ties(module: torch.nn.Module) -> list[list[str]]:
    """Names that are one parameter."""
    groups: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def _tie(module: torch.nn.Module, names: list[str], missing: set[str]) -> set[str]:
    """Give those that no file has what another name of theirs got; those that this has helped."""
    got = next((name for name in names if name not in missing), None)
    if got is None:
        return set()
    helped = missing.intersection(names)
    for name in helped:
        owner, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(owner), attribute, module.get_parameter(got))
    return helped


def _leave_out(module: torch.nn.Module, name: str, missing: set[str]) -> set[str]:
    below = {key for key in missing if key.startswith(f"{name}.")}
    if below:
        owner, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(owner), attribute, None)
    return below


def _check_shapes(module: torch.nn.Module, given: Mapping[str, torch.Tensor]) -> None:
    for name, own in module.state_dict(keep_vars=True).items():
        if name in given and own.shape != given[name].shape:
            raise EngineError(
                f"the weights do not match the model: {name} has the shape {list(given[name].shape)} in the files,"
                f" {list(own.shape)} in the model",
                "weights",
            )


def _check_buffers(module: torch.nn.Module) -> None:
    for name, buffer in module.named_buffers():
        if buffer.is_meta:
            raise EngineError(
                f"the buffer {name} has no values, neither in the files nor from the model's class: build the module"
                " with weights.build, or give the buffer its values in load before it is bound",
                "code",
            )
