"""What the dataset records about its own making, as rows of a table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import xarray as xr

LONG = 160
ORDER = (
    "model",
    "weights_hash",
    "data",
    "split",
    "kind",
    "dtype",
    "seed",
    "batch_norm",
    "nonsquare",
    "probes",
    "command",
    "machine",
    "versions",
    "complete",
)


@dataclass(frozen=True)
class Cell:
    """Text of a provenance entry; long ones fold away under a summary."""

    text: str
    summary: str = ""

    @property
    def block(self) -> bool:
        return bool(self.summary)


def provenance_rows(ds: xr.Dataset) -> list[tuple[str, Cell]]:
    """Every attribute of the dataset, the known ones first, then the samples and the stored arrays."""
    names = [n for n in ORDER if n in ds.attrs] + sorted(set(map(str, ds.attrs)) - set(ORDER))
    rows = [(name.replace("_", " "), _cell(ds.attrs[name])) for name in names]
    if "sample" in ds.coords:
        rows.append(("sample indices", _cell([int(i) for i in ds["sample"].values])))
    rows.append(("stored arrays", Cell(_arrays(ds), f"{len(ds.data_vars)} arrays")))
    return rows


def _cell(value: Any) -> Cell:
    if isinstance(value, str | int | float | bool) or value is None:
        return Cell(str(value))
    flat = json.dumps(value, ensure_ascii=False, default=str)
    if len(flat) <= LONG:
        return Cell(flat)
    return Cell(json.dumps(value, ensure_ascii=False, indent=2, default=str), f"{len(value)} entries")


def _arrays(ds: xr.Dataset) -> str:
    lines = [
        f"{name}  ({', '.join(f'{d}={n}' for d, n in array.sizes.items())})  {array.dtype}{_said(array)}"
        for name, array in sorted(ds.data_vars.items(), key=lambda item: str(item[0]))
    ]
    return "\n".join(lines)


def _said(array: xr.DataArray) -> str:
    """What is recorded beside an array: its meaning, and the reading of the Jacobian that it is of."""
    kind = f"kind {array.attrs['kind']}" if "kind" in array.attrs else ""
    said = "; ".join(part for part in (kind, str(array.attrs.get("long_name", ""))) if part)
    return f"  {said}" if said else ""
