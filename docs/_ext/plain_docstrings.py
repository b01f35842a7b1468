"""Docstrings are plain text with code in backticks: |J|_F, x * y and h_ mean what they say.

reStructuredText would read these as substitutions, emphasis and links. They are escaped outside code and doctests, and
an indented paragraph is code as it is, before napoleon finds the sections.
"""

import re
from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx

# What is left as it is: code, roles, and the stars of `*args:` in a list of arguments.
CODE = re.compile(r"(``.+?``|:[\w:]+:`[^`]+`|`[^`]+`|^\s*\*{1,2}\w+(?: \([^)]*\))?:)", flags=re.DOTALL | re.MULTILINE)
MARKUP = re.compile(r"([|*])|(?<=\w)(_)(?!\w)")
SECTION = re.compile(r"^[A-Z]\w*( \w+)?:$")


def escape(text: str) -> str:
    """`text` with all of reStructuredText's inline markup taken literally, except for code."""
    text = text.replace(" ... ", " … ")  # autosummary would take the dots for the end of a sentence
    parts = CODE.split(text)
    parts[::2] = [MARKUP.sub(lambda found: "\\" + found[0], part) for part in parts[::2]]
    for k in range(1, len(parts), 2):  # code ends where a space follows: `Section`s
        parts[k] += "\\ " if parts[k].endswith("`") and parts[k + 1][:1].isalnum() else ""
    return "".join(parts)


def plain(lines: list[str]) -> list[str]:
    """A docstring's lines as reStructuredText that shows what they say."""
    result: list[str] = []
    for kind, paragraph in paragraphs(lines):
        if kind == "code":
            result += ["::", "", *paragraph, ""]
        else:
            result += paragraph if kind == "doctest" else escape("\n".join(paragraph)).split("\n")
    return result


def paragraphs(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Runs of text, blank lines, doctests, and code: what is indented after a line of text at the margin."""
    before = "x:"  # the line of text before
    k = 0
    while k < len(lines):
        end = next((j for j in range(k + 1, len(lines)) if not lines[j].strip()), len(lines))
        first = lines[k].lstrip()
        if not first:
            yield "text", [lines[k]]
            k += 1
            continue
        follows_text = k > 0 and not before.startswith(" ") and not SECTION.match(before) and not before.endswith("::")
        if first.startswith((">>>", ".. ")):
            kind = "doctest"
        elif lines[k].startswith("    ") and follows_text and not first.startswith("- "):
            kind, end = "code", next((j for j in range(k, len(lines)) if lines[j][:1].strip()), len(lines))
        else:  # text up to a doctest that follows without a blank line
            kind = "text"
            end = next((j for j in range(k + 1, end) if lines[j].lstrip().startswith(">>>")), end)
        before = next(line for line in reversed(lines[k:end]) if line.strip())
        yield kind, lines[k:end]
        k = end


def process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    borrowed = " ".join(lines).split() in (type_.__doc__.split() for type_ in (dict, list, tuple, frozenset, str))
    lines[:] = [] if borrowed else plain(lines)  # a constant or an alias has no words of its own


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", process, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
