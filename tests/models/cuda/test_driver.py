"""Calls into libcuda, against a library that is played: what is passed, and what its errors become."""

from __future__ import annotations

import ctypes

import pytest
import torch

from models.cuda.calls import CannotRegister
from models.cuda.driver import (
    ATTRIBUTE_HOST_REGISTER,
    ATTRIBUTE_READ_ONLY_HOST_REGISTER,
    Driver,
    DriverError,
)
from models.cuda.torch_calls import TorchCalls, _DeviceBytes


class Library:
    """A libcuda of one device. ``attributes`` by number; ``failing``: code by function."""

    def __init__(self, attributes=None, failing=None):
        self.attributes = attributes or {}
        self.failing = failing or {}
        self.registered = {}

    def cuCtxGetCurrent(self, context):  # noqa: N802
        context._obj.value = 0x1234
        return self.failing.get("cuCtxGetCurrent", 0)

    def cuCtxGetDevice(self, device):  # noqa: N802
        device._obj.value = 3
        return 0

    def cuDeviceGetAttribute(self, value, number, device):  # noqa: N802
        assert device.value == 3
        value._obj.value = self.attributes.get(number.value, 0)
        return 0

    def cuMemHostRegister_v2(self, address, size, flags):  # noqa: N802
        self.registered[address.value] = (size.value, flags.value)
        return self.failing.get("cuMemHostRegister_v2", 0)

    def cuMemHostUnregister(self, address):  # noqa: N802
        del self.registered[address.value]
        return 0

    def cuGetErrorString(self, code, text):  # noqa: N802
        if code.value == 999:
            return 1
        text._obj.value = b"operation not supported"
        return 0


def test_a_context_is_seen():
    assert Driver(Library()).has_context()


def test_attributes_are_of_the_current_device():
    assert Driver(Library({ATTRIBUTE_HOST_REGISTER: 1})).attribute(ATTRIBUTE_HOST_REGISTER) == 1


@pytest.mark.parametrize(("code", "words"), [(801, "operation not supported"), (999, "error 999")])
def test_errors_carry_the_drivers_words(code, words):
    with pytest.raises(DriverError, match=f"^cuMemHostRegister_v2: {words}$") as failed:
        Driver(Library(failing={"cuMemHostRegister_v2": code})).register(4096, 8192, 1)
    assert failed.value.code == code


def test_arguments_are_as_wide_as_the_drivers():
    """Addresses and sizes beyond 32 bits must not be cut."""
    library = Library()
    driver = Driver(library)
    driver.register(0x7F12_3456_7000, 5 << 32, 9)
    assert library.registered == {0x7F12_3456_7000: (5 << 32, 9)}
    driver.unregister(0x7F12_3456_7000)
    assert library.registered == {}


class Calls(TorchCalls):
    """On a machine without CUDA: the device is not asked for, the driver is a played one."""

    def __init__(self, library):
        self.device = torch.device("cuda", 0)
        self.__dict__["_driver"] = Driver(library)

    def enter(self):
        pass


@pytest.mark.parametrize(
    ("read_only", "attribute", "flags"),
    [(False, ATTRIBUTE_HOST_REGISTER, 1), (True, ATTRIBUTE_READ_ONLY_HOST_REGISTER, 9)],
)
def test_memory_is_registered_for_all_contexts_and_only_where_the_device_takes_it(read_only, attribute, flags):
    library = Library({attribute: 1})
    calls = Calls(library)
    calls.register(4096, 100, read_only=read_only)
    assert library.registered == {4096: (100, flags)}
    calls.unregister(4096)
    with pytest.raises(CannotRegister, match="this GPU cannot read memory that"):
        Calls(Library()).register(4096, 100, read_only=read_only)


def test_a_refusal_of_the_driver_is_a_reason():
    library = Library({ATTRIBUTE_HOST_REGISTER: 1}, {"cuMemHostRegister_v2": 801})
    with pytest.raises(CannotRegister, match="cuMemHostRegister_v2: operation not supported"):
        Calls(library).register(4096, 100, read_only=False)


def test_no_driver_is_a_reason(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    calls = Calls(Library())
    del calls.__dict__["_driver"]
    with pytest.raises(CannotRegister, match=r"libcuda.so.1: cannot open"):
        calls.register(4096, 100, read_only=False)


def test_foreign_memory_is_described_as_flat_bytes():
    described = _DeviceBytes(0x7F00, 64).__cuda_array_interface__
    assert (described["data"], described["shape"], described["typestr"]) == ((0x7F00, False), (64,), "|u1")
