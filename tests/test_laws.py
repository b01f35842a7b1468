"""The comparison of laws for RA4: what else has a high R^2 over a few blocks is told from a line."""

import numpy as np
import pytest

from resdyn.errors import InputError
from resdyn.metrics import Estimate, Rule, compare_laws, fit_line, judge

GROWTH = {
    "exp(0.1 i)": lambda i: np.exp(0.1 * i),
    "exp(0.2 i)": lambda i: np.exp(0.2 * i),
    "exp(0.3 i)": lambda i: np.exp(0.3 * i),
    "i^2": np.square,
    "i^3": lambda i: i**3,
    "sqrt(i)": np.sqrt,
    "log(i + 1)": lambda i: np.log(i + 1),
    "a constant": lambda i: 3 + 0 * i,
}


def verdicts(inverse):
    """Of images (image, block): the two claims of RA4, with errors by drawing images again."""
    number, rng = np.arange(1, inverse.shape[1] + 1), np.random.default_rng(1)
    found = compare_laws(number, inverse.mean(0))
    draws = [compare_laws(number, inverse[rng.integers(len(inverse), size=len(inverse))].mean(0)) for _ in range(20)]
    margin = Estimate(found.margin, float(np.std([d.margin for d in draws])), len(inverse))
    exponent = Estimate(found.exponent, float(np.std([d.exponent for d in draws])), len(inverse))
    return {judge(margin, Rule("at_least", 0)).verdict, judge(exponent, Rule("within", 0.25, 1.0)).verdict}


def images(law, blocks, noise=0.02, n=10):
    i = np.arange(1, blocks + 1.0)
    rng = np.random.default_rng(0)
    return law(i) * np.exp(noise * rng.standard_normal((n, blocks)))


@pytest.mark.parametrize("blocks", [8, 16])
@pytest.mark.parametrize("name", GROWTH)
def test_other_laws_are_not_taken_for_a_line(name, blocks):
    assert verdicts(images(GROWTH[name], blocks)) != {"holds"}


@pytest.mark.parametrize("blocks", [8, 16])
@pytest.mark.parametrize("offset", [0.0, -0.7, 3.0])
def test_lines_are_lines(blocks, offset):
    found = compare_laws(np.arange(1, blocks + 1), np.arange(1, blocks + 1) + offset)
    assert found.margin > 6
    assert found.exponent == pytest.approx(1, abs=0.01)
    if not offset:
        assert verdicts(images(lambda i: i, blocks, 0.005)) == {"holds"}


def test_their_r_squared_would_not_have_told_them_apart():
    i = np.arange(1, 9.0)
    assert all(fit_line(i, law(i)).r_squared > 0.9 for name, law in GROWTH.items() if name not in ("i^3", "a constant"))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_unit_of_the_values_does_not_matter(scale):
    one, other = (compare_laws(np.arange(1, 11), s * (np.arange(1, 11) + 0.5) ** 1.3) for s in (1.0, scale))
    assert other.exponent == pytest.approx(one.exponent, abs=1e-3)
    assert one.exponent == pytest.approx(1.3, abs=1e-3)


def test_too_few_blocks_and_unequal_vectors_are_refused():
    with pytest.raises(InputError, match="got 5 usable blocks"):
        compare_laws(np.arange(6), [1, 2, 3, np.nan, 4, 5])
    with pytest.raises(InputError, match="one length"):
        compare_laws(np.arange(6), np.arange(7))
