"""Which machine has which name. Kept in a file, so that a door that was started anew still knows."""

from __future__ import annotations

from pathlib import Path

import msgspec

HEARD_S = 15.0  # every machine says hello each second; one that did not for so long has lost its name


class Taken(Exception):
    """Another machine goes by this name. ``address``: of that one."""

    def __init__(self, name: str, address: str) -> None:
        super().__init__(name, address)
        self.name, self.address = name, address


class Named(msgspec.Struct, frozen=True):
    identity: str
    address: str


class Register:
    """``own``: the head's name and address. Times are of one clock, in seconds."""

    def __init__(self, path: Path, own: str, address: str, now_s: float) -> None:
        self._path = path
        self._own, self._address = own, address
        self._named = _read(path)
        # Those that were there before this door may have tried to be heard.
        self._heard_s = dict.fromkeys(self._named, now_s)

    def check(self, name: str, known_as: Named, now_s: float) -> None:
        """Whether the machine could have this name. Raises Taken."""
        if name == self._own:
            raise Taken(name, self._address)
        before = self._named.get(name)
        if before is not None and before != known_as and now_s - self._heard_s[name] < HEARD_S:
            raise Taken(name, before.address)

    def hello(self, name: str, known_as: Named, now_s: float) -> None:
        """The machine has this name from now on. Raises Taken, OSError."""
        self.check(name, known_as, now_s)
        self._heard_s[name] = now_s
        if self._named.get(name) != known_as:
            self._named[name] = known_as
            self._write()

    def leave(self, name: str, known_as: Named) -> bool:
        """Whether it had the name, which is free now. Raises OSError."""
        if self._named.get(name) != known_as:
            return False
        del self._named[name], self._heard_s[name]
        self._write()
        return True

    def _write(self) -> None:
        beside = self._path.with_suffix(".new")
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(self._named)) + b"\n")
        beside.rename(self._path)


def _read(path: Path) -> dict[str, Named]:
    """A file that cannot be read is one that is not there: names are told again within a second."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Named])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}
