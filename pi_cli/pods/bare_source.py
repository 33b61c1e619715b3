"""Python source as it is sent to a pod: without docstrings, comments and types, with short indents."""

import re
from collections.abc import Iterable

DOCSTRING = re.compile(r'^([ \t]*)"""(?s:.*?)"""$', re.MULTILINE)
COMMENT = re.compile(r"^[ \t]*#.*\n|  # [^\"'\n]*$", re.MULTILINE)
INDENT = re.compile(r"^(?: {4})+", re.MULTILINE)
CAPITALISED = re.compile(r"\b[A-Z]\w*")
BLANK = re.compile(r"\n{2,}")
BLOCK = re.compile(r"^(?=(?:class|def) )", re.MULTILINE)
# For type checkers only: imports, and the types of parameters, results and variables (not those of class fields).
FOR_TYPES = re.compile(r"^if TYPE_CHECKING:\n(?: .*\n|\n)+", re.MULTILINE)
TYPING = re.compile(r"^from typing import (.*)\n", re.MULTILINE)
TYPE = r"""(?:"[^"\n]*"|[\w.]+(?:\[(?:[^\[\]]|\[(?:[^\[\]]|\[[^\[\]]*\])*\])*\])?)"""
SIGNATURE = re.compile(r"^( *def \w+\((?:[^()]|\([^()]*\))*\))(?: -> [^\n]*)?:$", re.MULTILINE)
PARAMETER = re.compile(rf"(?<=[(,*\s])(\w+): {TYPE}")
NAMED_TUPLE = re.compile(r"^class (\w+)\(NamedTuple\):\n(?: +\"\".*\n+)?((?: +\w+: .*\n)+)", re.MULTILINE)
FIELD = re.compile(rf"^ +(\w+): {TYPE}(?: = (.*))?\n", re.MULTILINE)
VARIABLE = re.compile(rf"^( *)([\w.]+): {TYPE} = ", re.MULTILINE)


def bare(module: str) -> str:
    """Remove docstrings, comments and types from a module, and shorten its indents."""
    module = COMMENT.sub("", DOCSTRING.sub(r'\1""', module))
    module = INDENT.sub(lambda indent: " " * (len(indent[0]) // 4), module)
    module = "".join(_without_types(block) for block in BLOCK.split(FOR_TYPES.sub("", module)))
    module, count = NAMED_TUPLE.subn(_plain_tuple, module)
    module = ("from collections import namedtuple\n" if count else "") + module
    module = BLANK.sub("\n", module)
    return TYPING.sub(lambda names: _import_of_typing(_used(names[1].split(", "), module)), module)


def _without_types(block: str) -> str:
    """Remove the types from a class, a function, or the code before the first of them."""
    block = SIGNATURE.sub(lambda match: PARAMETER.sub(r"\1", match[1]) + ":", block)
    is_class = block.startswith("class ")
    return VARIABLE.sub(lambda match: match[0] if is_class and len(match[1]) < 2 else f"{match[1]}{match[2]} = ", block)


def _plain_tuple(match: re.Match[str]) -> str:
    """Make a `NamedTuple` one of `collections`: `typing` takes 5 ms to load, of the 45 of a list."""
    fields = FIELD.findall(match[2])
    names = " ".join(name for name, _ in fields)
    defaults = "".join(f"{default}," for _, default in fields if default)
    return f"class {match[1]}(namedtuple('{match[1]}', '{names}', defaults=({defaults}))):\n __slots__ = ()\n"


def _used(names: Iterable[str], module: str) -> list[str]:
    """Return the names that a module has elsewhere than in one import."""
    found = CAPITALISED.findall(module)
    return [name for name in names if found.count(name) > 1]


def _import_of_typing(names: Iterable[str]) -> str:
    used = ", ".join(names)
    return f"from typing import {used}\n" if used else ""
