"""What is said of a network of the gallery: sentences, a page and the table over all, from its numbers alone."""

from __future__ import annotations

from typing import Any

from networks import Network

from resdyn._format import with_error
from resdyn.metrics import Estimate

Result = dict[str, Any]
WEIGHTS = ("trained", "untrained")
MEAN = "mean over blocks"
COLUMNS = (
    ("cosine of steps", "collinearity", ""),
    ("diagonal energy", "diagonal_energy_uv", ""),
    ("overlap of right spans", "right_subspace_overlap", ""),
    ("line of 1/s₁ begins at block", "inverse_scaling_start", ""),
    ("slope of that line", "inverse_scaling_slope", ""),
    ("its R²", "inverse_scaling_r_squared", ""),
    ("negative eigenvalues, %", "percent_negative_flattened", MEAN),
    ("least step of a block", "least_relative_step", ""),
)
PICTURES = (("principal_trajectories", "Paths of the states"), ("coupling_grid", "Coupling of blocks"))
HEAD = """# The table over all

Every number with its standard error over samples (the start has none), trained and untrained; of networks with several
stages the last one. "Identity" is the share of the mean transport to the last state that is a multiple of the identity,
from the first state of the same shape. A dash: not measured, or undefined. Each row is of two to six samples, so that
the errors are rough.

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
    own, null = (number(result, which, name, where) for which in WEIGHTS)
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
    share = result["identity_share"]
    own, null = (with_error(share[which]["value"], share[which]["standard_error"]) for which in WEIGHTS)
    start, line = (number(result, "trained", f"inverse_scaling_{name}") for name in ("start", "r_squared"))
    known = line is not None and start is not None
    slope = said(number(result, "trained", "inverse_scaling_slope"))
    begins = f"has slope {slope} and R² {said(line)}, from block {start['value']:.0f} on" if known else "is undefined"
    least = number(result, "trained", "least_relative_step")
    where = "" if least is None else f" ({least['where']})"
    energy, overlap = beside(result, "diagonal_energy_uv"), beside(result, "right_subspace_overlap")
    step = beside(result, "least_relative_step")
    untrained_line = said(number(result, "untrained", "inverse_scaling_r_squared"))
    negative = ""
    if number(result, "trained", "percent_negative_flattened", MEAN) is not None:
        negative = f"; negative real parts of eigenvalues, in %: {beside(result, 'percent_negative_flattened', MEAN)}"
    return [
        f"Successive steps of the state have a mean cosine of {beside(result, 'collinearity')}.",
        f"The singular vectors of one block diagonalise another with an energy of {energy}, while their right spans "
        f"overlap by {overlap}.",
        f"The line of 1/s₁ over depth {begins}; untrained its R² is {untrained_line}{negative}.",
        f"The block that changes its state least moves it by {step} of its length{where}.",
        f"Of the mean transport to the last state {own} is a multiple of the identity, untrained {null}.",
    ]


def page(network: Network, result: Result, sentences: list[str]) -> str:
    """The page of one network, in Markdown."""
    name = network.name
    rows = [(row["title"], row["verdict"], row["reason"].replace("|", "\\|")) for row in result["verdicts"]]
    verdicts = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    pictures = "\n".join(
        f"![{title}, {which}](pictures/{name}-{which}-{figure}.png)" for figure, title in PICTURES for which in WEIGHTS
    )
    made, counts = result["provenance"], result["samples"]
    machine = ", ".join(f"{key} {value}" for key, value in made["machine"].items())
    return f"""# {network.title}

{network.what} From the {network.source}; {result["blocks"]} blocks were found in it. Measured on {network.data}:
{counts["trained"]} samples, and {counts["untrained"]} of the same network with random weights.

```console
$ python docs/gallery/make.py {name}
```

## What is seen

{" ".join(sentences)}

{result["conclusion"]}

:::{{container}} pairs
{pictures}
:::

Left trained, right untrained: the paths of the states on their principal axes, and $|U_j^T J_i V_j|$ for all pairs of
blocks. <a href="{name}-report.html">The whole report</a>, interactive.

## Verdicts

| property | verdict | why |
|---|---|---|
{verdicts}

The weights have the hash `{result["weights_hash"][:16]}`. Made by resdyn {made["versions"]["resdyn"]} (commit
`{made["commit"][:10]}`) with torch {made["versions"]["torch"]}; {machine}.
"""


def table(results: list[Result]) -> str:
    """All networks in one table."""
    head = ["network", "weights", *(title for title, _, _ in COLUMNS), "identity"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for result in results:
        for which in WEIGHTS:
            cells = [said(number(result, which, name, where)) for _, name, where in COLUMNS]
            share = result["identity_share"][which]
            link = f"[{result['title']}]({result['name']}.md)" if which == "trained" else ""
            lines.append(
                f"| {' | '.join([link, which, *cells, with_error(share['value'], share['standard_error'])])} |"
            )
    return HEAD + "\n".join(lines) + "\n"
