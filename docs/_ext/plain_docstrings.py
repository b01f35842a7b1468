"""Docstrings are plain text with code in backticks: |J|_F, x * y and h_ mean what they say.

reStructuredText would read these as substitutions, emphasis and links. They are escaped outside code and doctests, and
an indented paragraph is code as it is, before napoleon finds the sections.
"""

import inspect
import re
from typing import Any

from sphinx.application import Sphinx

CODE = re.compile(r"(``.+?``|:[\w:]+:`[^`]+`|`[^`]+`)")
STARRED_ARGUMENT = re.compile(r"^\s*\*{1,2}\w+( \([^)]*\))?:")
SECTION = re.compile(r"^[A-Z]\w*( \w+)?:$")


def escape(line: str) -> str:
    """`line` with all of reStructuredText's inline markup taken literally, except for code."""
    if line.lstrip().startswith((">>>", "...", ".. ")):
        return line
    line = line.replace(" ... ", " … ")  # autosummary would take the dots for the end of a sentence
    named = STARRED_ARGUMENT.match(line)
    head, rest = (named[0], line[named.end() :]) if named else ("", line)
    parts = CODE.split(rest)
    parts[::2] = [re.sub(r"([|*])|(?<=\w)(_)(?!\w)", lambda found: "\\" + found[0], part) for part in parts[::2]]
    return head + "".join(parts)


def plain(lines: list[str]) -> list[str]:
    """A docstring's lines as reStructuredText that shows what they say."""
    result: list[str] = []
    last, quoted, in_doctest = "", False, False  # last: the last line of text at the margin
    for k, line in enumerate(lines):
        indented = line.startswith("    ")
        if line.strip() and not indented:
            last, quoted = line, False
        opens = indented and k > 0 and not lines[k - 1].strip() and not quoted
        if (
            opens
            and not SECTION.match(last)
            and not last.endswith("::")
            and not line.lstrip().startswith((">>>", "- "))
        ):
            result += ["::", ""]
            quoted = True
        in_doctest = bool(line.strip()) and (in_doctest or line.lstrip().startswith(">>>"))
        literal = quoted or in_doctest or (indented and last.endswith("::"))
        result.append(line if literal else escape(line))
    return result


def process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    own = lines != [*(inspect.getdoc(type(obj)) or "").splitlines(), ""]  # not what `dict` says of a constant
    lines[:] = plain(lines) if own or what != "data" else []


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", process, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
