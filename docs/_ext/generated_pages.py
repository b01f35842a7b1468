"""Pages that are made and not typed: one per public package, the command line, and the papers' own pages.

They are written into docs/_generated, which git ignores, before Sphinx looks for its sources.
"""

import ast
import importlib
import inspect
import tomllib
from pathlib import Path

from docutils import nodes
from plain_docstrings import escape
from public_names import names_of, places
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.docutils import SphinxDirective

INTRODUCTION = (
    "Every public name, once: at the top level where ``resdyn`` itself offers it, else in its package. "
    "What is not listed here, and every name that begins with an underscore, may change without notice."
)


def write(app: Sphinx, config: Config) -> None:
    out = Path(app.srcdir) / "_generated"
    table = places()
    pages = {f"api/{package}.rst": package_page(package, found) for package, found in table.items()}
    pages["api/index.rst"] = index_page(list(pages))
    pages["cli.md"] = command_line()
    for readme in sorted((Path(app.srcdir).parent / "src/resdyn/papers").glob("*/README.md")):
        pages[f"papers/{readme.parent.name}.md"] = included(readme)
    for name, text in pages.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:  # else Sphinx reads it again for nothing
            path.write_text(text, encoding="utf-8")
    stubs = {f"api/names/{package}.{name}.rst" for package, found in table.items() for name, _ in found}
    for stale in {*out.rglob("*.rst"), *out.rglob("*.md")} - {out / name for name in {*pages, *stubs}}:
        stale.unlink()


def look_again(app: Sphinx) -> None:
    """A build that reuses an environment knows only the pages of the last one; autosummary needs the new ones."""
    app.env.find_files(app.config, app.builder)


def package_page(package: str, found: list[tuple[str, object]]) -> str:
    groups = {"Functions": [], "Classes": [], "Constants and types": []}
    for name, value in found:
        kind = "Classes" if inspect.isclass(value) else "Functions" if inspect.isroutine(value) else ""
        groups[kind or "Constants and types"].append(name)
    lines = [package, "=" * len(package), "", f".. automodule:: {package}", "   :no-members:", ""]
    lines += [f".. currentmodule:: {package}", ""]
    for title, names in groups.items():
        if names:
            lines += [f".. rubric:: {title}", "", ".. autosummary::", "   :toctree: names", "   :nosignatures:", ""]
            lines += [*(f"   {name}" for name in names), ""]
    offered = sorted({*names_of(package)} & {*names_of("resdyn")})
    if package != "resdyn" and offered:
        lines += ["Also here, and documented at the top level: " + ", ".join(f":py:obj:`resdyn.{n}`" for n in offered)]
    return "\n".join(lines)


def index_page(pages: list[str]) -> str:
    """The packages in the order of PACKAGES, each with the first line of its docstring."""
    title = "API reference"
    entries = [Path(page).stem for page in pages]
    lines = [title, "=" * len(title), "", INTRODUCTION, "", ".. toctree::", "   :hidden:", ""]
    lines += [*(f"   {entry}" for entry in entries), "", ".. list-table::", "   :widths: 30 70", ""]
    for entry in entries:
        summary = (importlib.import_module(entry).__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")
        lines += [f"   * - :doc:`{entry}`", f"     - {escape(summary)}"]
    return "\n".join(lines) + "\n"


def imports() -> dict[str, set[str]]:
    """package -> the packages that its modules import, read from their sources, at run time or for types."""
    root = Path(importlib.import_module("resdyn").__file__).parent
    table: dict[str, set[str]] = {}
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).parts
        owner = parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            if module == "resdyn":
                named = [alias.name for alias in node.names]
            elif module and module.startswith("resdyn."):
                named = [module.split(".")[1]]
            else:
                continue
            table.setdefault(owner, set()).update(name for name in named if (root / name).is_dir() and name != owner)
    return table


class PackageTable(SphinxDirective):
    """Every package with the first line of its docstring and what it imports: read from the code, not typed."""

    def run(self) -> list[nodes.Node]:
        root = Path(importlib.import_module("resdyn").__file__).parent
        imported = imports()
        owners = sorted(path.parent.name for path in root.glob("*/__init__.py")) + ["accessor"]
        lines = [".. list-table::", "   :header-rows: 1", "   :widths: 16 54 30", ""]
        lines += ["   * - package", "     - holds", "     - imports"]
        for owner in sorted(owners):
            summary = (importlib.import_module(f"resdyn.{owner}").__doc__ or "").split("\n\n")[0].replace("\n", " ")
            others = ", ".join(f"``{name}``" for name in sorted(imported.get(owner, ()))) or "nothing of resdyn's"
            lines += [f"   * - ``{owner}``", f"     - {escape(summary)}", f"     - {others}"]
        return self.parse_text_to_nodes("\n".join(lines))


class ImportContracts(SphinxDirective):
    """The contracts of import-linter, as pyproject.toml states them."""

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir).parent
        settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
        lines: list[str] = []
        for contract in settings["tool"].get("importlinter", {}).get("contracts", []):
            lines += [f"**{escape(contract['name'])}**", ""]
            if contract["type"] == "layers":
                lines += ["From top to bottom; packages on one line do not import each other:", "", "::", ""]
                lines += [*(f"    {layer}" for layer in contract["layers"]), ""]
        return self.parse_text_to_nodes("\n".join(lines))


def command_line() -> str:
    app = importlib.import_module("resdyn.cli.app").app
    text = app.generate_docs(output_format="markdown")
    before, rest = text.split("## Table of Contents", 1)
    return before.replace("# resdyn", "# Command line", 1) + rest[rest.index("**Commands**") :]


def included(readme: Path) -> str:
    relative = Path("../../..") / readme.relative_to(readme.parents[4])
    return f"```{{include}} {relative}\n:relative-docs: .\n:relative-images:\n```\n"


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", write)
    app.connect("builder-inited", look_again, priority=100)
    app.add_directive("package-table", PackageTable)
    app.add_directive("import-contracts", ImportContracts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
