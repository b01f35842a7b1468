"""Numbers as a person reads them: a value with its standard error, to the digits that the error leaves."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any


def with_error(value: float, error: float | None = None) -> str:
    """'0.953 ± 0.012': two digits of the error; four significant digits where there is none.

    >>> with_error(0.95312, 0.0123)
    '0.953 ± 0.012'
    >>> with_error(12345.678)
    '12346'
    """
    if value is None:
        return "not defined"
    if error is None or not math.isfinite(error) or not math.isfinite(value):
        return short(value)
    if error == 0:
        return f"{short(value)} ± 0"
    places = max(1 - math.floor(math.log10(error)), 0)
    if places > 6 or abs(value) >= 1e5:
        return f"{short(value)} ± {error:.2g}".replace("-", "−")
    return f"{value:.{places}f} ± {error:.{places}f}".replace("-", "−")


def short(value: float) -> str:
    """Four significant digits, whole numbers as such."""
    if not math.isfinite(value):
        return "not defined" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    if value == int(value) and abs(value) < 1e7:
        return f"{int(value)}".replace("-", "−")
    if 1e4 <= abs(value) < 1e7:
        return f"{value:.0f}".replace("-", "−")
    return f"{value:.4g}".replace("-", "−")


def percent(
    value: float, error: float | None = None, interval: tuple[float, float] | None = None, digits: int = 1
) -> str:
    """'98.0 % ± 0.8 %' for a share of one; at 0 and 1, where the binomial error says nothing, its interval."""
    text = f"{100 * value:.{digits}f} %"
    if error and math.isfinite(error):
        return f"{text} ± {100 * error:.1f} %"
    if interval is None:
        return text
    low, high = (short(float(f"{100 * end:.2g}")) for end in interval)
    return f"{text} (95 %: {low} to {high} %)"


def counted(text: str, n: float) -> str:
    """The value and how many it is a mean of, within one pair of brackets.

    >>> counted("0.953 ± 0.012", 12), counted("0.0 % (95 %: 0 to 3 %)", 120)
    ('0.953 ± 0.012 (n = 12)', '0.0 % (95 %: 0 to 3 %, n = 120)')
    """
    count = f"n = {short(n)}"
    return f"{text[:-1]}, {count})" if text.endswith(")") else f"{text} ({count})"


def find(metrics: Iterable[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """All rows of one metric, in the order of the table."""
    return [row for row in metrics if row["name"] == name]


def duration(seconds: float) -> str:
    """A time in the unit that a person would use.

    >>> duration(0.27), duration(27), duration(840), duration(9000), duration(300000)
    ('0.3 s', '27 s', '14 min', '2.5 h', '3.5 days')
    """
    for unit, size, limit in (("s", 1, 100), ("min", 60, 100), ("h", 3600, 48)):
        if seconds < limit * size:
            value = seconds / size
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{seconds / 86400:.1f} days"


def bytes_text(count: float) -> str:
    """A number of bytes to two or three digits.

    >>> bytes_text(812), bytes_text(13774), bytes_text(1.24e9)
    ('812 bytes', '14 kB', '1.2 GB')
    """
    if count < 1000:
        return f"{count:.0f} bytes"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 999.5:
            return f"{count:.1f} {unit}" if count < 10 else f"{count:.0f} {unit}"
    return f"{count / 1000:.1f} TB"
