"""The papers that resdyn unites: their experiments, their numbers beside ours, and a page that compares them.

`names()` lists them, `get_paper(name)` gives one, `run_experiment` runs one of its experiments,
`compare` puts every claim beside what was found, `write_page` makes the comparison page.
"""

from resdyn.metrics import Rule
from resdyn.papers.claims import Claim
from resdyn.papers.comparison import ComparedClaim, ComparedExperiment, as_json, compare
from resdyn.papers.lab import SCALES, Lab, Scale
from resdyn.papers.page import write_page
from resdyn.papers.paper import Experiment, Paper, get_paper, names
from resdyn.papers.results import Number, Result, load_results
from resdyn.papers.runner import results_of, run_experiment

__all__ = [
    "SCALES",
    "Claim",
    "ComparedClaim",
    "ComparedExperiment",
    "Experiment",
    "Lab",
    "Number",
    "Paper",
    "Result",
    "Rule",
    "Scale",
    "as_json",
    "compare",
    "get_paper",
    "load_results",
    "names",
    "results_of",
    "run_experiment",
    "write_page",
]
