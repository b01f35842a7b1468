"""Formulas as MathML, which browsers typeset themselves.

MathJax would be fetched from a CDN, and images would need LaTeX. docutils, on which Sphinx rests, translates TeX to
MathML, so the pages need neither a network nor another package.
"""

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


def typeset(node: nodes.Element, as_block: bool) -> str:
    try:
        return tex2mathml(node.astext(), as_block=as_block)
    except MathError as error:
        logger.warning("cannot typeset %r: %s", node.astext(), error, location=node)
        return ""


def inline(self, node: nodes.math) -> None:
    self.body.append(typeset(node, as_block=False))
    raise nodes.SkipNode


def block(self, node: nodes.math_block) -> None:
    self.body.append(self.starttag(node, "div", CLASS="math"))
    self.body.append(typeset(node, as_block=True))
    self.body.append("</div>")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
