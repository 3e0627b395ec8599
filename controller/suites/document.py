"""Reads YAML into plain values and remembers on which line each stands, so that a fault can be found.

Plain YAML only: no tags of Python objects, no name twice in a mapping, and limits on size, depth and on what aliases may
unfold to.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError, SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from controller.errors import ConfigurationError
from streamswarm.targets import shown

MAX_BYTES = 1_000_000
#: Values in a document, those that an alias repeats counted again.
_MOST_VALUES = 50_000
_DEEPEST = 20
#: Characters of a number, an instant or a truth value.
_LONGEST_PLAIN = 100
_PLAIN_TAG = "tag:yaml.org,2002:"


class DocumentError(ConfigurationError):
    """The file is missing or not the YAML that it must be; the message says where."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """A YAML file as plain values."""

    #: As the user named it.
    name: str
    values: Any
    #: Line, from 1, of the value at each path: `tests[2].spec.count`; the empty path is the whole.
    lines: dict[str, int]

    def line(self, path: str) -> int:
        """Return the line of a path, or of the nearest thing around it that is in the file."""
        while path and path not in self.lines:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.lines.get(path, 1)

    def at(self, path: str) -> str:
        """Return `file:line` of a path."""
        return f"{self.name}:{self.line(path)}"


def read(path: Path) -> Document:
    """Read a file; `-` is standard input. Raises DocumentError."""
    name = str(path)
    try:
        if name == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise DocumentError(f"{name}: there is no such file", mend="mend the path") from error
    except OSError as error:
        raise DocumentError(
            f"{name}: cannot be read: {error.strerror}", mend="mend the path or its rights"
        ) from error
    if len(data) > MAX_BYTES:
        raise DocumentError(f"{name}: has more than {MAX_BYTES} bytes", mend="split it into several files")
    try:
        return parse(data.decode("utf-8-sig"), name="standard input" if name == "-" else name)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DocumentError(f"{name}:{line}: is not UTF-8 text", mend="save it as UTF-8") from error


def parse(text: str, *, name: str) -> Document:
    """Parse a text; raises DocumentError with the line at fault."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        why = shown(" ".join(filter(None, (error.context, error.problem))), 300)
        raise DocumentError(f"{name}:{line}: is not YAML: {why}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise DocumentError(
            f"{name}:{line}: is not YAML: it has the character {error.character!r}"
        ) from error
    except yaml.YAMLError as error:
        raise DocumentError(f"{name}: is not YAML: {shown(str(error), 300)}") from error
    except RecursionError as error:
        raise DocumentError(f"{name}:1: is nested too deeply, somewhere below this line") from error
    if root is None:
        raise DocumentError(f"{name}: is empty")
    reader = _Reader(name)
    return Document(name=name, values=reader.value(root, "", 0), lines=reader.lines)


class _Reader:
    """Walks the nodes once; an alias is walked again wherever it is used, and counted again."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._constructor = SafeConstructor()
        self._count = 0
        self.lines: dict[str, int] = {}

    def value(self, node: Node, path: str, depth: int) -> Any:
        self._count += 1
        if self._count > _MOST_VALUES:
            raise self._fault(node, f"unfolds to more than {_MOST_VALUES} values")
        if depth > _DEEPEST:
            raise self._fault(node, f"is nested more than {_DEEPEST} deep")
        self.lines[path] = node.start_mark.line + 1
        if isinstance(node, MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, SequenceNode):
            self._check_tag(node, "seq")
            return [self.value(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: MappingNode, path: str, depth: int) -> dict[str, Any]:
        self._check_tag(node, "map")
        found: dict[str, Any] = {}
        for key_node, inner in node.value:
            key = key_node.value if isinstance(key_node, ScalarNode) else None
            if key is None:
                raise self._fault(key_node, "a name in a mapping must be a word")
            if key_node.tag.endswith(":merge"):
                raise self._fault(
                    key_node, "`<<` is not merged here; write the values out, or use an alias as a value"
                )
            if key in found:
                raise self._fault(key_node, f"`{shown(key)}` is there twice")
            below = f"{path}.{shown(key)}" if path else shown(key)
            found[key] = self.value(inner, below, depth + 1)
            self.lines[below] = key_node.start_mark.line + 1
        return found

    def _scalar(self, node: Node) -> Any:
        if node.tag != _PLAIN_TAG + "str" and len(node.value) > _LONGEST_PLAIN:
            raise self._fault(
                node, f"has {len(node.value)} characters and is no text; put it into quotes if it is"
            )
        try:
            return self._constructor.construct_object(node)
        except (ConstructorError, ValueError, OverflowError) as error:
            why = error.problem if isinstance(error, ConstructorError) else str(error)
            raise self._fault(node, shown(str(why), 200)) from error

    def _check_tag(self, node: Node, plain: str) -> None:
        if node.tag != _PLAIN_TAG + plain:
            raise self._fault(node, f"the tag `{shown(node.tag)}` is not allowed here")

    def _fault(self, node: Node, why: str) -> DocumentError:
        return DocumentError(f"{self._name}:{node.start_mark.line + 1}: {why}")
