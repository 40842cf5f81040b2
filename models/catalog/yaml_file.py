"""Reads one YAML file strictly: positions are kept, double keys and files that expand without end are refused."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from models.catalog.errors import ConfigError, Problem

Loc = tuple[str | int, ...]
_MOST_VALUES = 1_000_000
_MERGE_TAG = "tag:yaml.org,2002:merge"


@dataclass(frozen=True, slots=True)
class Document:
    """``name``: the file as shown in messages."""

    name: str
    data: Any
    root: yaml.Node

    def line(self, loc: Loc) -> int:
        """Line of the value at ``loc``, or of the nearest one around it."""
        node, line = self.root, self.root.start_mark.line
        for part in loc:
            found = _child(node, part)
            if found is None:
                break
            line, node = found
        return int(line) + 1


def read_yaml(path: Path, name: str) -> Document:
    """Raises ConfigError with line and column."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise _error(name, "there is no such file", "check the path") from None
    except UnicodeDecodeError as error:
        raise _error(name, f"is not UTF-8 text (byte {error.start})", "save it as UTF-8") from None
    except OSError as error:
        raise _error(name, f"cannot be read ({error.strerror})", "check that it is a readable file") from None
    return parse_yaml(text, name)


def parse_yaml(text: str, name: str) -> Document:
    """Raises ConfigError with line and column."""
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            raise _error(name, "is empty", "fill it, see `roundhouse config schema`")
        _expanded_values(root, {}, name)
        return Document(name, loader.construct_document(root), root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        line = mark.line + 1 if mark else None
        raise _error(name, f"is not valid YAML: {what}{where}", "correct it there", line) from None
    except (yaml.YAMLError, ValueError) as error:
        raise _error(name, f"is not valid YAML: {' '.join(str(error).split())[:200]}", "correct it") from None
    except RecursionError:
        raise _error(name, "is nested too deeply", "flatten it") from None


class _Loader(yaml.SafeLoader):
    """SafeLoader takes the last of two equal keys without a word; here that is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[Hashable, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == _MERGE_TAG:
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                problem = f"the key {key!r} is given twice, first on line {seen[key]}"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            if isinstance(key, Hashable):
                seen[key] = key_node.start_mark.line + 1
        return super().construct_mapping(node, deep)


def _expanded_values(node: yaml.Node, sizes: dict[int, int], name: str) -> int:
    """How many values ``node`` holds once its aliases are followed; refuses loops and alias bombs."""
    if id(node) in sizes:
        size = sizes[id(node)]
        if size < 0:
            raise _error(name, "contains itself through an alias", "remove the alias", node.start_mark.line + 1)
        return size
    sizes[id(node)] = -1
    size = 1
    if isinstance(node, yaml.MappingNode):
        size += sum(_expanded_values(part, sizes, name) for pair in node.value for part in pair)
    elif isinstance(node, yaml.SequenceNode):
        size += sum(_expanded_values(part, sizes, name) for part in node.value)
    if size > _MOST_VALUES:
        raise _error(name, f"holds more than {_MOST_VALUES} values", "use fewer aliases", node.start_mark.line + 1)
    sizes[id(node)] = size
    return size


def _child(node: yaml.Node, part: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value == str(part):
                return key.start_mark.line, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and 0 <= part < len(node.value):
        return node.value[part].start_mark.line, node.value[part]
    return None


def _error(name: str, message: str, cure: str, line: int | None = None) -> ConfigError:
    return ConfigError((Problem(name, "", message, cure, line),))
