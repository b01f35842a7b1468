"""The page of a readout: complete, escaped, and refused for what is not one."""

import json
import re

import numpy as np
import pytest
import xarray as xr

from resdyn.errors import InputError
from resdyn.report import write_readout


def readout(depths=3, positions=4, rank=2):
    rng = np.random.default_rng(0)
    arrays = {}
    for name, lead in (("lens", (1, depths)), ("logit_lens", (1, depths)), ("model", (1,))):
        dims = ("sample", *(("depth",) if len(lead) == 2 else ()), "position", "rank")
        arrays[f"{name}_top"] = (dims, rng.integers(0, 6, (*lead, positions, rank)))
        arrays[f"{name}_score"] = (dims, rng.standard_normal((*lead, positions, rank)))
    return xr.Dataset(arrays, {"depth": range(depths)})


def embedded(path):
    (text,) = re.findall(r'<script type="application/json" id="content">(.*?)</script>', path.read_text())
    return json.loads(text)


def test_every_prediction_is_on_the_page_and_no_text_is_markup(tmp_path):
    ds, hostile = readout(), "</script><b>"
    page = write_readout(ds, tmp_path / "page.html", inputs=[hostile] * 4, words=[hostile] * 6, title=hostile)
    content = embedded(page)
    assert hostile not in page.read_text()
    assert content["inputs"] == [hostile] * 4
    assert content["depths"] == [2, 1, 0]
    top = ds["lens_top"].values[0]
    assert [[[number for number, _ in cell] for cell in row] for row in content["lenses"]["lens"]] == top[::-1].tolist()
    assert "http" not in page.read_text()


def test_a_depth_without_a_logit_lens_is_empty_and_names_may_be_a_function(tmp_path):
    ds = readout()
    ds["logit_lens_top"][:, 0] = -1
    content = embedded(write_readout(ds, tmp_path / "page.html", words=lambda number: f"<{number}>"))
    assert content["lenses"]["logit_lens"][-1] == [[], [], [], []]
    assert content["words"]["0"] == "<0>"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sample": 1}, "got sample=1"),
        ({"inputs": ["a"]}, "got 1 inputs, expected 4"),
        ({"words": ["a"]}, "got 1 words"),
    ],
)
def test_what_does_not_fit_is_refused(settings, words, tmp_path):
    with pytest.raises(InputError, match=words):
        write_readout(readout(), tmp_path / "page.html", **settings)
    with pytest.raises(InputError, match="no readout"):
        write_readout(xr.Dataset(), tmp_path / "page.html")


def test_a_classifier_has_paths_of_its_classes_and_no_lens_that_says_nothing(tmp_path):
    ds = readout(depths=4, positions=1, rank=3)
    ds["logit_lens_top"][:] = -1
    page = write_readout(ds.isel(position=0), tmp_path / "page.html", words=["a", "b", "c", "d", "e", "</script>"])
    text, content = page.read_text(), embedded(page)
    assert content["places"] == 1
    assert "Logit lens" not in text
    assert 'id="paths"' in text
    assert '</script>"' not in text
    assert content["lenses"]["lens"][0][0][0][0] == int(ds["lens_top"][0, -1, 0, 0])
