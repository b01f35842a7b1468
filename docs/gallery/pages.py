"""What is said of a network of the gallery: sentences, a page and the table over all, from its numbers alone."""

from __future__ import annotations

from typing import Any

from networks import Network

from resdyn._format import with_error
from resdyn.metrics import Estimate

Result = dict[str, Any]
COLUMNS = (
    ("cosine of steps", "collinearity", ""),
    ("diagonal energy", "diagonal_energy_uv", ""),
    ("overlap of right spans", "right_subspace_overlap", ""),
    ("line of 1/s₁ begins at block", "inverse_scaling_start", ""),
    ("R² of that line", "inverse_scaling_r_squared", ""),
    ("negative eigenvalues, %", "percent_negative_flattened", "mean over blocks"),
    ("least step of a block", "least_relative_step", ""),
)
HEAD = """# The table over all

Every number with its standard error over samples (of the start none), trained and untrained; of networks with several stages
the last one. "Identity" is the share of the mean transport to the last state that is a multiple of the identity, from the first
state of the same shape. A dash: not measured, or undefined. Two to six samples stand behind a row, so that errors are rough.

"""


def rounded(value: Any, digits: int = 5) -> Any:
    """Numbers to five digits: results are read and compared by people."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {key: rounded(item, digits) for key, item in value.items()}
    return [rounded(item, digits) for item in value] if isinstance(value, list | tuple) else value


def number(result: Result, which: str, name: str, where: str = "") -> dict[str, Any] | None:
    """The row of a metric; of several stages the last one."""
    rows = [r for r in result["metrics"][which] if r["name"] == name and where in (r["where"] or "")]
    known = [row for row in rows if row["value"] is not None]
    return known[-1] if known else None


def said(row: dict[str, Any] | None) -> str:
    return "–" if row is None else with_error(row["value"], row["standard_error"])


def beside(result: Result, name: str, where: str = "") -> str:
    """'0.9 ± 0.1, untrained 0.1 ± 0.02 (more)': the two, and whether they differ by more than both errors allow."""
    own, null = (number(result, which, name, where) for which in ("trained", "untrained"))
    if own is None or null is None:
        return f"{said(own)}, untrained {said(null)}"
    return f"{said(own)}, untrained {said(null)} ({_order(own, null)})"


def _order(own: dict[str, Any], null: dict[str, Any]) -> str:
    first, second = (
        Estimate(row["value"], row["standard_error"], max(row["n"], 2) if row["standard_error"] is not None else None)
        for row in (own, null)
    )
    if abs(first.value - second.value) <= (first.margin(2) ** 2 + second.margin(2) ** 2) ** 0.5:
        return "not told apart"
    return "more" if first.value > second.value else "less"


def seen(result: Result) -> list[str]:
    """Five sentences, each with its numbers."""
    share = {which: result["identity_share"][which] for which in ("trained", "untrained")}
    start, line = (number(result, "trained", f"inverse_scaling_{name}") for name in ("start", "r_squared"))
    begins = "is undefined" if line is None or start is None else f"has R² {said(line)}, from block {start['value']:.0f} on"
    least = number(result, "trained", "least_relative_step")
    where = "" if least is None else f" ({least['where']})"
    sentences = [
        f"Successive steps of the state have a mean cosine of {beside(result, 'collinearity')}.",
        f"The singular vectors of one block diagonalise another with an energy of {beside(result, 'diagonal_energy_uv')}, "
        f"while their right spans overlap by {beside(result, 'right_subspace_overlap')}.",
        f"The line of 1/s₁ over depth {begins}; untrained its R² is "
        f"{said(number(result, 'untrained', 'inverse_scaling_r_squared'))}.",
        f"The block that changes its state least moves it by {beside(result, 'least_relative_step')} of its length{where}.",
        f"Of the mean transport to the last state {with_error(share['trained']['value'], share['trained']['standard_error'])} "
        f"is a multiple of the identity, untrained "
        f"{with_error(share['untrained']['value'], share['untrained']['standard_error'])}.",
    ]
    negative = number(result, "trained", "percent_negative_flattened", "mean over blocks")
    if negative is not None:
        shown = beside(result, "percent_negative_flattened", "mean over blocks")
        sentences[2] = sentences[2].rstrip(".") + f"; eigenvalues with negative real part, in %: {shown}."
    return sentences


def page(network: Network, result: Result, sentences: list[str]) -> str:
    """The page of one network, in Markdown."""
    name = network.name
    verdicts = "\n".join(f"| {row['title']} | {row['verdict']} | {row['reason']} |" for row in result["verdicts"])
    pictures = "\n".join(
        f"![{title}, {which}](pictures/{name}-{which}-{figure}.png)"
        for figure, title in (("principal_trajectories", "Paths of the states"), ("coupling_grid", "Coupling of blocks"))
        for which in ("trained", "untrained")
    )
    made = result["provenance"]
    return f"""# {network.title}

{network.what} From the {network.source}; {result["blocks"]} blocks were found in it. Measured on {network.data}:
{result["samples"]["trained"]} samples, and {result["samples"]["untrained"]} of the same network with random weights.

```console
$ python docs/gallery/make.py {name}
```

## What is seen

{" ".join(sentences)}

{result["conclusion"]}

:::{{div}} pairs
{pictures}
:::

Left trained, right untrained: the paths of the states on their principal axes, and $|U_j^T J_i V_j|$ for all pairs of blocks.
<a href="{name}-report.html">The whole report</a>, interactive.

## Verdicts

| property | verdict | why |
|---|---|---|
{verdicts}

The weights have the hash `{result["weights_hash"][:16]}`. The results were made by resdyn {made["versions"]["resdyn"]}, commit
`{made["commit"][:10]}`, torch {made["versions"]["torch"]}; {made["machine"]}.
"""


def table(results: list[Result]) -> str:
    """All networks in one table."""
    head = ["network", "weights", *(title for title, _, _ in COLUMNS), "identity"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for result in results:
        for which in ("trained", "untrained"):
            cells = [said(number(result, which, name, where)) for _, name, where in COLUMNS]
            share = result["identity_share"][which]
            link = f"[{result['title']}]({result['name']}.md)" if which == "trained" else ""
            lines.append(
                f"| {' | '.join([link, which, *cells, with_error(share['value'], share['standard_error'])])} |"
            )
    return HEAD + "\n".join(lines) + "\n"
