"""Files in which `{{ name }}` takes a value of the node that receives them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hacore.errors import HacoreError

PLACE = re.compile(rb"\{\{[ \t]*([A-Za-z_][A-Za-z0-9_]{0,63})[ \t]*\}\}")
#: A template of this name is kept, and its product stands beside it without the suffix.
SUFFIX = ".template"


class TemplateError(HacoreError):
    """A template that this node cannot resolve."""

    exit_code = 78


def resolve(path: str, content: bytes, variables: Mapping[str, str]) -> bytes:
    """`content` with each `{{ name }}` replaced; raises TemplateError that names every variable that is missing."""
    missing: list[str] = []

    def value(match: re.Match[bytes]) -> bytes:
        name = match[1].decode()
        if name not in variables:
            line = content.count(b"\n", 0, match.start()) + 1
            missing.append(f"{name} (line {line})")
            return b""
        return variables[name].encode()

    resolved = PLACE.sub(value, content)
    if missing:
        raise TemplateError(f"template {path}: this node's [node.variables] lack {', '.join(dict.fromkeys(missing))}")
    return resolved


def product(path: str) -> str:
    """Where the resolved file stands."""
    return path.removesuffix(SUFFIX)
