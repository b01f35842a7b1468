"""The summary: whatever probes are present, finite numbers or None with a note."""

import itertools
import json

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from resdyn.errors import InputError
from resdyn.metrics import metrics_table, summarize
from resdyn.metrics.share import share_interval
from resdyn.metrics.summary import descriptions, over_samples
from resdyn.metrics.summary.lyapunov import SUMMARY as LYAPUNOV
from resdyn.metrics.summary.transport import SUMMARY as TRANSPORT
from synthetic import PROBES, synthetic_dataset


def by_name(ds, name, **options):
    return [metric for metric in summarize(ds, **options) if metric.name == name]


def test_the_summary_of_a_known_network_holds_its_known_numbers():
    ds = synthetic_dataset(early_blocks=2, num_classes=4, n_samples=5)
    expected = {
        "line_shape_score": 1.0,
        "equispacing": 0.0,
        "collinearity": 1.0,
        "diagonal_energy_uv": 1.0,
        "expected_diagonal_energy": 1 / 6,
        "mismatch_vu": 0.0,
        "singular_gap": 10.0,
        "gap_rank": 4.0,
        "inverse_scaling_slope": 1.0,
        "inverse_scaling_intercept": 0.0,
        "inverse_scaling_start": 3.0,
        "equinorm": 0.0,
        "self_duality": 0.0,
    }
    for name, value in expected.items():
        assert by_name(ds, name)[0].value == pytest.approx(value, abs=1e-10), name


def test_every_metric_is_described_and_measured_when_all_probes_are_present():
    names = {metric.name for metric in summarize(synthetic_dataset())}
    others = {*LYAPUNOV.texts, *TRANSPORT.texts}  # measured in their own tests
    assert names == set(descriptions()) - others


def test_stiffness_is_averaged_over_blocks_and_told_of_the_last():
    ds = synthetic_dataset(probes=["spectrum"], n_blocks=4)
    mean, last = by_name(ds, "stiffness_index_flattened")
    assert mean.value == pytest.approx(-2 * np.mean([1, 2, 3, 4]))
    assert last.value == pytest.approx(-8)
    assert by_name(ds, "stiffness_index_slices")[0].value == pytest.approx(-1)
    assert by_name(ds, "percent_negative_flattened")[0].value == pytest.approx(100 / 3)
    assert by_name(ds, "percent_negative_slices")[0].value == pytest.approx(12.5)


def test_cushions_are_averaged_over_layers_and_blocks():
    ds = synthetic_dataset(probes=["cushion"], n_blocks=4)
    assert by_name(ds, "layer_cushion")[0].value == pytest.approx(np.mean([1 / 2, 1 / 3, 1 / 4, 1 / 5]))
    assert by_name(ds, "least_layer_cushion")[0].value == pytest.approx(1 / 5)
    assert by_name(ds, "block_cushion")[0].value == pytest.approx(1.0)
    assert "estimated to 1 %" in by_name(ds, "block_cushion")[0].note
    assert by_name(ds, "output_cushion")[0].value == pytest.approx(2.0)
    assert "exact" in by_name(ds, "output_cushion")[0].note


@pytest.mark.parametrize("probes", [c for r in range(3) for c in itertools.combinations(PROBES, r)], ids="+".join)
def test_any_subset_of_probes_gives_json_without_nan(probes):
    table = metrics_table(synthetic_dataset(probes=probes, n_blocks=5, n_samples=2))
    assert json.loads(json.dumps(table, allow_nan=False)) == table
    assert bool(table) == bool(probes)


def test_the_standard_error_is_that_of_the_meanover_samples():
    metric = by_name(synthetic_dataset(n_samples=5, spread=0.1), "inverse_scaling_slope")[0]
    slopes = 1 + 0.1 * np.linspace(-1, 1, 5)
    assert metric.standard_error == pytest.approx(slopes.std(ddof=1) / 5**0.5)
    assert metric.n == 5


def test_one_sample_has_no_standard_error():
    metric = by_name(synthetic_dataset(n_samples=1), "diagonal_energy_uv")[0]
    assert metric.standard_error is None
    assert "one sample" in metric.note


def test_stages_are_listed_apart():
    where = [metric.where for metric in by_name(synthetic_dataset(n_blocks=8), "line_shape_score")]
    assert where == ["stage 0 (depths 0-4)", "stage 1 (depths 5-8)"]


def test_a_stage_too_short_for_a_line_is_none_with_a_note():
    metric = by_name(synthetic_dataset(n_blocks=3), "line_shape_score")[1]
    assert metric.value is None
    assert "fewer than two steps" in metric.note


def test_a_stage_without_two_steps_has_no_rows_beside_one_that_has():
    ds = synthetic_dataset(n_blocks=8)
    ds["stage_of_depth"] = ("depth", [0, 1, 1, 2, 2, 2, 2, 2, 2])
    assert [metric.where for metric in by_name(ds, "collinearity")] == ["stage 2 (depths 3-8)"]


def test_missing_stiffness_widens_the_error_of_the_median_by_what_it_could_change():
    ds = synthetic_dataset(n_samples=6, n_blocks=9, probes=("spectrum",))
    (whole,) = by_name(ds, "stiffness_size")
    few, many = ds.copy(deep=True), ds.copy(deep=True)
    few["smallest_real"][:, :2] = 0.0
    many["smallest_real"][:, :6] = 0.0
    (some,), (none,) = by_name(few, "stiffness_size"), by_name(many, "stiffness_size")
    sizes = np.abs(ds["largest_real"] / ds["smallest_real"]).values
    for other in (0.0, 1e9):  # whatever the missing ones are
        filled = np.concatenate([np.full((6, 2), other), sizes[:, 2:]], axis=1)
        assert abs(np.median(np.median(filled, axis=1)) - some.value) <= 2 * some.standard_error + 1e-12
    assert some.standard_error >= whole.standard_error
    assert none.standard_error is None
    assert "not bounded" in none.note


def test_a_network_too_short_for_a_scaling_fit_is_none_with_a_note():
    metric = by_name(synthetic_dataset(n_blocks=3), "inverse_scaling_slope")[0]
    assert metric.value is None
    assert "expected at least 6" in metric.note
    assert metric.missing == "undefined"


def test_triplets_that_did_not_converge_are_counted_in_the_notes():
    ds = synthetic_dataset(n_samples=6, n_blocks=8)
    ds["singular_converged"][0, 0, :3] = False
    for name in ("diagonal_energy_uv", "singular_gap", "inverse_scaling_slope"):
        assert "3 of 288 singular triplets did not converge and were left out" in by_name(ds, name)[0].note


def test_nothing_converged_is_none_everywhere():
    ds = synthetic_dataset(probes=("singular", "coupling"))
    ds["singular_converged"][:] = False
    measured = [metric for metric in summarize(ds) if metric.name != "expected_diagonal_energy"]
    assert measured
    assert all(metric.value is None and metric.note for metric in measured)


def test_samples_that_are_not_captured_yet_are_left_out_and_counted():
    ds = synthetic_dataset(n_samples=6)
    ds["states"][2] = np.nan
    metric = by_name(ds, "equispacing")[0]
    assert metric.n == 5
    assert "1 of 6 samples without a finite value left out" in metric.note


def test_couplings_without_singular_values_say_that_convergence_is_unknown():
    metric = by_name(synthetic_dataset(probes=["coupling"]), "diagonal_energy_uv")[0]
    assert "convergence of the triplets is not known" in metric.note


def test_empty_classes_and_two_classes_are_noted():
    ds = synthetic_dataset(num_classes=3)
    ds["class_count"] = ("class", np.array([10, 0, 10]))
    note = by_name(ds, "equinorm")[0].note
    assert "1 classes without images left out" in note
    assert "zero by construction for two classes" in note


def test_too_few_triplets_for_the_gap_are_none_with_a_note():
    metric = by_name(synthetic_dataset(num_classes=4, rank=4), "singular_gap")[0]
    assert metric.value is None
    assert "needs 5 triplets, 4 are stored" in metric.note


def test_a_block_is_not_compared_with_itself():
    lonely = by_name(synthetic_dataset(n_blocks=3, angle=0.3), "mismatch_uv")[0]
    assert lonely.value is None  # no two blocks of equal shape
    pair = by_name(synthetic_dataset(n_blocks=4, angle=0.3), "mismatch_uv")[0]
    assert pair.value == pytest.approx(np.sin(0.3) ** 2)


def test_rank_limits_the_alignment():
    metric = by_name(synthetic_dataset(), "expected_diagonal_energy", rank=2)[0]
    assert metric.value == 0.5


def test_one_description_per_quantity():
    titles = [title for title, _, _ in descriptions().values()]
    assert len(set(titles)) == len(titles)


def test_infinite_values_are_counted_and_never_averaged_away():
    ds = synthetic_dataset(n_samples=4, n_blocks=8)
    ds["singular_values"][:3, :, ds.sizes["class"] :] = 0.0
    gap = by_name(ds, "singular_gap")[0]
    assert (gap.value, gap.standard_error, gap.n) == (np.inf, None, 4)
    assert "3 of 4 samples infinite, median inf" in gap.note
    ds["states"][0, 2] = ds["states"][0, 0]  # its path turns back
    ds["states"][0, 4] = ds["states"][0, 0]
    score = by_name(ds, "line_shape_score")[0]
    assert score.value == np.inf
    assert "1 of 4 samples infinite, median 1" in score.note


def test_values_whose_squares_are_too_large_have_a_mean_and_an_error():
    ds = synthetic_dataset(probes=("trajectory", "robustness"))
    n = ds.sizes["sample"]
    ds["noise_amplitude"][:] = np.linspace(1, 2, n)
    small = by_name(ds, "noise_amplitude")[0]
    ds["noise_amplitude"][:] = np.linspace(1e307, 2e307, n)
    large = by_name(ds, "noise_amplitude")[0]
    assert large.value == pytest.approx(1e307 * small.value)
    assert large.standard_error == pytest.approx(1e307 * small.standard_error)


def test_a_store_of_which_no_sample_is_finished_yet_has_a_summary_without_values():
    ds = synthetic_dataset(probes=("trajectory", "singular", "cushion")).isel(sample=[])
    values = {metric.name: metric.value for metric in summarize(ds)}
    assert values["layer_cushion"] is values["least_layer_cushion"] is values["tortuosity"] is None


def test_infinite_values_of_both_signs_have_no_mean():
    metric = over_samples("singular_gap", [np.inf, -np.inf, 2.0], None)
    assert metric.value is None
    assert "2 of 3 samples infinite, median 2" in metric.note


def test_a_share_of_none_has_an_interval_and_no_error_of_zero():
    ds = xr.Dataset({"class_count": ("class", [20, 20]), "nearest_mean_agrees": ("depth", [1.0])}, {"depth": [0]})
    metric = by_name(ds, "nearest_mean_disagreement")[0]
    assert (metric.value, metric.standard_error) == (0.0, None)
    assert metric.interval == pytest.approx(stats.binomtest(0, 40).proportion_ci(method="wilson"))
    assert "95 % interval 0 to 0.088 (Wilson)" in metric.note
    ds["nearest_mean_agrees"] = ("depth", [0.75])
    assert by_name(ds, "nearest_mean_disagreement")[0].standard_error == pytest.approx((0.25 * 0.75 / 40) ** 0.5)


@pytest.mark.parametrize("wrong", [(3, 2), (-1, 2), (1, 0), (1.0, 2), (True, 2)])
def test_a_share_is_of_whole_numbers(wrong):
    with pytest.raises(InputError, match="got "):
        share_interval(*wrong)
