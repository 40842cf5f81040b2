"""The few driver functions that torch does not offer, called in libcuda itself.

Not through the runtime library: a call that fails there leaves its error behind for the next kernel launch to find.
"""

from __future__ import annotations

import ctypes
from typing import Any

LIBRARY = "libcuda.so.1"
# cuda.h
SUCCESS = 0
REGISTER_PORTABLE = 0x01
REGISTER_READ_ONLY = 0x08
ATTRIBUTE_HOST_REGISTER = 99
ATTRIBUTE_READ_ONLY_HOST_REGISTER = 113


class DriverError(Exception):
    """A driver call failed; ``code`` is its CUresult."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Driver:
    """Needs a thread whose current context is the device's, as torch makes it."""

    def __init__(self, library: Any = None) -> None:
        """Raises OSError where there is no driver."""
        self._library = library or ctypes.CDLL(LIBRARY)

    def has_context(self) -> bool:
        context = ctypes.c_void_p()
        self._check("cuCtxGetCurrent", ctypes.byref(context))
        return bool(context.value)

    def attribute(self, number: int) -> int:
        """Of the current device. Raises DriverError."""
        device, value = ctypes.c_int(), ctypes.c_int()
        self._check("cuCtxGetDevice", ctypes.byref(device))
        self._check("cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(number), device)
        return value.value

    def register(self, address: int, size_bytes: int, flags: int) -> None:
        """Raises DriverError."""
        self._check("cuMemHostRegister_v2", ctypes.c_void_p(address), ctypes.c_size_t(size_bytes), ctypes.c_uint(flags))

    def unregister(self, address: int) -> None:
        """Raises DriverError."""
        self._check("cuMemHostUnregister", ctypes.c_void_p(address))

    def _check(self, name: str, *arguments: Any) -> None:
        code = int(getattr(self._library, name)(*arguments))
        if code != SUCCESS:
            raise DriverError(f"{name}: {self._words(code)}", code)

    def _words(self, code: int) -> str:
        text = ctypes.c_char_p()
        found = self._library.cuGetErrorString(ctypes.c_int(code), ctypes.byref(text))
        return text.value.decode() if found == SUCCESS and text.value else f"error {code}"
