"""The site: `make docs` builds it into out/docs. Everything is local: no CDN, no inventory of other projects."""

import hashlib
import sys
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(DOCS / "_ext"))

import resdyn  # noqa: E402

project = "resdyn"
author = "The resdyn authors"
copyright = author
version = release = resdyn.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "myst_nb",
    "sphinx_copybutton",
    "mathml",
    "plain_docstrings",
    "generated_pages",
    "gallery_reports",
]
exclude_patterns = ["_templates", "_ext", "results", "gallery/results", "gallery/reports"]
templates_path = ["_templates"]
suppress_warnings = ["mystnb.unknown_mime_type"]  # a widget of a progress bar has plain text beside it

# API reference: pages for every public name are made by generated_pages.py and autosummary.
autosummary_generate = True
autosummary_ignore_module_all = False
autosummary_imported_members = True
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
napoleon_google_docstring = True
napoleon_numpy_docstring = True  # the command line is described so
napoleon_use_ivar = True  # autodoc lists the attributes of a dataclass too
napoleon_custom_sections = ["Cost", "Source", "Equation", "Shapes"]
default_role = "py:obj"

# Notebooks: executed at build time, an error in one is an error of the build. The cache is keyed by the package's own
# source, so that no page shows what an older version printed.
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_execution_timeout = 240
nb_merge_streams = True
_source = hashlib.sha256()
for _path in sorted((ROOT / "src").rglob("*.py")):
    _source.update(_path.read_bytes())
nb_execution_cache_path = str(ROOT / "out" / "docs-cache" / _source.hexdigest()[:16])

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

html_theme = "pydata_sphinx_theme"
html_title = "resdyn"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_show_sourcelink = False
html_copy_source = False
_leaves = {path.stem for path in DOCS.glob("*.md")} - {"papers"}
html_sidebars = {page: [] for page in sorted(_leaves | {"_generated/cli"})}  # nothing is below these
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "friendly",
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
