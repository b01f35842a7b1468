"""The stream as a small drawing: a chain of blocks with skips, gates and changes of shape."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup, escape

PER_ROW = 10
STEP, ROW, TOP, LEFT = 92, 118, 30, 30
WIDE, TALL = 46, 30


def stream_svg(blocks: list[dict[str, Any]]) -> Markup:
    """SVG of the blocks in rows of ten, coloured by stage by the page's style sheet; empty without blocks."""
    if not blocks:
        return Markup("")
    rows = -(-len(blocks) // PER_ROW)
    width = LEFT + STEP * min(len(blocks), PER_ROW) + 40
    height = TOP + ROW * (rows - 1) + 82
    shapes = [shape_text(block["shape_in"]) for block in blocks] + [shape_text(blocks[-1]["shape_out"])]
    places = [_place(k) for k in range(len(blocks))] + [_end(len(blocks))]
    parts = [_block(block, *place) for block, place in zip(blocks, places)]
    for k, (shape, place) in enumerate(zip(shapes, places)):
        parts.append(_state(k, *place, shape if k == 0 or shape != shapes[k - 1] else ""))
    return Markup(
        f'<svg class="stream" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="Chain of {len(blocks)} residual blocks">{"".join(parts)}</svg>'
    )


def shape_text(shape: Any) -> str:
    """'16×32×32' for (16, 32, 32)."""
    return "×".join(str(n) for n in shape) or "1"


def _place(k: int) -> tuple[int, int]:
    return LEFT + STEP * (k % PER_ROW), TOP + 26 + ROW * (k // PER_ROW)


def _end(count: int) -> tuple[int, int]:
    x, y = _place(count - 1)
    return x + STEP, y


def _block(block: dict[str, Any], x: int, y: int) -> str:
    """One block: state dot, branch box, skip arc above it, sum and gate after it."""
    stage = int(block.get("stage", 0)) % 6
    joint = x + STEP - 16
    title = escape(f"block {block['index']}: {block['path']}, {block['skip']} skip, gate {block['gate']}")
    return (
        f'<g class="stage{stage}"><title>{title}</title>'
        f'<path class="wire" d="M{x},{y}H{x + STEP}"/>{_skip(block, x, joint, y)}'
        f'<rect class="branch" x="{x + 14}" y="{y - TALL // 2}" width="{WIDE}" height="{TALL}" rx="7"/>'
        f'<text class="branch-name" x="{x + 14 + WIDE / 2:g}" y="{y + 4}">F<tspan class="sub" dy="3">'
        f"{int(block['index'])}</tspan></text>"
        f'<circle class="sum" cx="{joint}" cy="{y}" r="7"/>'
        f'<path class="plus" d="M{joint - 3.5:g},{y}h7M{joint},{y - 3.5:g}v7"/>{_gate(block, joint, y)}</g>'
    )


def _skip(block: dict[str, Any], x: int, joint: int, y: int) -> str:
    """The arc of the skip: solid for the identity, dashed for a projection, absent where there is none."""
    if block["skip"] == "none":
        return ""
    kind = "identity" if block["skip"] == "identity" else "projection"
    top = y - 34
    return f'<path class="skip {kind}" d="M{x},{y}C{x + 6},{top} {joint - 6},{top} {joint},{y - 7}"/>'


def _gate(block: dict[str, Any], joint: int, y: int) -> str:
    if block["gate"] == "none":
        return ""
    name = escape(str(block["gate"]).replace("_", " "))
    return f'<text class="gate" x="{joint}" y="{y + 22}">{name}</text>'


def _state(index: int, x: int, y: int, shape: str) -> str:
    """The dot of a state with its name below, and its shape where it has just changed."""
    under = f'<text class="shape" x="{x}" y="{y + 48}">{escape(shape)}</text>' if shape else ""
    return (
        f'<circle class="state" cx="{x}" cy="{y}" r="4.5"/><text class="state-name" x="{x}" y="{y + 34}">'
        f'h<tspan class="sub" dy="3">{int(index)}</tspan></text>{under}'
    )
