"""Every metric that the probes in a dataset allow, as one flat list of numbers with their errors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from resdyn._statistics import standard_error
from resdyn.errors import InputError
from resdyn.metrics.collapse import neural_collapse
from resdyn.metrics.cushion import cushions
from resdyn.metrics.line import line_geometry
from resdyn.metrics.rank import count_unconverged, singular_rank
from resdyn.metrics.residual_alignment import alignment, between_blocks, expected_diagonal_energy
from resdyn.metrics.scaling import inverse_scaling, jackknife_errors
from resdyn.metrics.share import share_interval
from resdyn.metrics.stiffness_index import count_undetermined, determined, stiffness

TREFETHEN = "Trefethen and Embree (2005)"
GAI = "Gai and Zhang (2021)"
LI = "Li and Papyan (2023)"
AUBRY = "Aubry, Meng, Sugolov and Papyan (2024)"
STIFF = "Block-level stiffness analysis of residual networks"
MOOSAVI = "Moosavi-Dezfooli, Fawzi and Frossard (2016)"
ARORA = "Arora, Ge, Neyshabur and Zhang (2018)"
PAPYAN = "Papyan, Han and Donoho (2020)"

# name -> title, how to read it, source
DESCRIPTIONS: dict[str, tuple[str, str, str]] = {
    "line_shape_score": ("RA1 line-shape score", "1 when straight, larger when the path bends", GAI),
    "tortuosity": ("RA1 path length over distance of ends", "1 when the path is straight", "arc-chord ratio"),
    "collinearity": ("RA1 mean cosine of successive steps", "1 on a line, 0 at right angles", LI),
    "equispacing": ("RA1 coefficient of variation of step lengths", "0 when equispaced", LI),
    "diagonal_energy_uv": ("RA2 diagonal energy of U_j'J_iV_j", "1 when block j diagonalises block i", LI),
    "diagonal_energy_vu": ("RA2 diagonal energy of V_j'J_iU_j", "1 when block j diagonalises block i", LI),
    "expected_diagonal_energy": ("RA2 diagonal energy by chance", "what unrelated vectors give", "1/K"),
    "mismatch_uv": ("RA2 mismatch of U_j'J_iV_j with S_i", "0 when blocks share singular vectors", AUBRY),
    "mismatch_vu": ("RA2 mismatch of V_j'J_iU_j with S_i", "0 when blocks share singular vectors", AUBRY),
    "left_alignment": ("RA2 cosine of left vectors across blocks", "1 when parallel, rank by rank", LI),
    "right_alignment": ("RA2 cosine of right vectors across blocks", "1 when parallel, rank by rank", LI),
    "left_subspace_overlap": ("RA2 overlap of left subspaces across blocks", "1 when the spans agree", LI),
    "right_subspace_overlap": ("RA2 overlap of right subspaces across blocks", "1 when the spans agree", LI),
    "left_right_alignment": ("RA2 cosine of left with right vectors", "1 when parallel within a block", LI),
    "left_right_subspace_overlap": ("RA2 overlap of left with right subspace", "1 when the spans agree", LI),
    "singular_gap": ("RA3 gap s_C / s_(C+1)", "well above 1 when the rank is at most C", LI),
    "gap_rank": ("RA3 singular values before the largest gap", "at most C under RA3", LI),
    "numerical_rank": ("RA3 singular values above rounding", "at most the number of triplets stored", LI),
    "inverse_scaling_slope": ("RA4 slope of 1/s_1 against block number", "1 when s_1 = 1/i", LI),
    "inverse_scaling_intercept": ("RA4 intercept of that line", "0 when s_1 = 1/i", LI),
    "inverse_scaling_r_squared": ("RA4 R^2 of that line, adjusted", "1 when 1/s_1 grows linearly, 0 by chance", LI),
    "inverse_scaling_start": ("RA4 block where alignment begins", "1-based, chosen by BIC", LI),
    "stiffness_index_flattened": ("Stiffness index of the Jacobian", "max Re / min Re: far below 0 when stiff", STIFF),
    "stiffness_index_slices": ("Stiffness index of the Jacobian's slices", "the paper's tables hold this", STIFF),
    "percent_negative_flattened": ("Eigenvalues with negative real part, %", "0 when nothing is reversed", STIFF),
    "percent_negative_slices": ("The same of the Jacobian's slices, %", "the paper's tables hold this", STIFF),
    "spectral_radius": ("Largest modulus of an eigenvalue", "below 1 when the block contracts in the end", ""),
    "jacobian_norm": ("Norm of the Jacobian", "the largest stretch at once; equals the radius if normal", ""),
    "numerical_abscissa": ("Numerical abscissa", "fastest growth at once, at least the largest real part", TREFETHEN),
    "departure_from_normality": ("Departure from normality", "0 when normal, 1 when nilpotent", "Henrici (1962)"),
    "noise_amplitude": ("smallest noise that flips the answer", "in random directions, norm of the input's units", ""),
    "gradient_amplitude": ("the same along gradients", "an upper bound of the distance to the boundary", MOOSAVI),
    "layer_cushion": ("layer cushion |Ax| / (|A|_F |x|)", "larger: noise in weights matters less", ARORA),
    "least_layer_cushion": ("least layer cushion", "of all layers and samples", ARORA),
    "block_cushion": ("interlayer cushion of a block", "1 when the state passes like a random direction", ARORA),
    "output_cushion": ("interlayer cushion to the output", "1 when the state passes like a random direction", ARORA),
    "within_class_variability": ("NC1 tr(Sigma_W Sigma_B^+) / C", "0 when every class is a point", PAPYAN),
    "within_between_ratio": ("NC1 tr(Sigma_W) / tr(Sigma_B)", "0 when classes are points", "scatter ratio"),
    "equinorm": ("NC2 variation of class-mean norms", "0 when the norms agree", PAPYAN),
    "equiangularity": ("NC2 deviation of class-mean cosines", "0 when the angles agree", PAPYAN),
    "maximal_angle": ("NC2 distance from cosine -1/(C-1)", "0 when the angles are as wide as can be", PAPYAN),
    "self_duality": ("NC3 classifier against class means", "0 when proportional, 1.41 orthogonal", PAPYAN),
    "nearest_mean_disagreement": ("NC4 predictions off the nearest class mean", "0 when all agree", PAPYAN),
}


@dataclass(frozen=True)
class Metric:
    """One number of a summary; `value` is None when it could not be measured, and `note` says why.

    A mean is infinite where a value in it is; `note` counts these, and gives the median. `standard_error` is that of
    the mean over the `n` samples (NC4: of a share of `n` images); None where there is no spread over samples, or where
    it says nothing: of infinite means, of shares of 0 and 1. `interval` holds 95 % of a share (Wilson's), else None.
    `where` says which stage, depth or blocks the number belongs to. `per_sample` holds what `value` is the mean of, one
    per sample in the order of the dataset (NaN where unknown); None for a number that no single sample has.
    """

    name: str
    title: str
    value: float | None
    standard_error: float | None
    n: int
    where: str | None
    reading: str
    source: str
    note: str = ""
    interval: tuple[float, float] | None = None
    per_sample: tuple[float, ...] | None = field(default=None, repr=False, compare=False)


def summarize(ds: xr.Dataset, *, rank: int | None = None) -> list[Metric]:
    """All metrics of the probes in `ds`, in the order RA1-RA4, stiffness, noise, NC1-NC4; nothing for absent probes.

    `rank` limits RA2 to the top triplets. Numbers are averages over samples of per-sample values (means over
    depths or pairs i != j, medians over blocks); singular triplets that did not converge are left out, and
    counted in the note, and so are values that are undefined or infinite. Values are numbers, infinite ones too, or
    None.
    """
    found: list[Metric] = []
    if "states" in ds:
        found += _line(ds)
    if any(name in ds for name in ("coupling_uv", "coupling_vu", "overlap_uu", "overlap_vv", "overlap_uv")):
        found += _alignment(ds, rank)
    if "singular_values" in ds:
        found += [*_rank(ds), *_scaling(ds)]
    if "largest_real" in ds:
        found += _stiffness(ds)
    for name in ("noise_amplitude", "gradient_amplitude"):
        if name in ds:
            found.append(_over_samples(name, ds[name].values, None, "mean over samples"))
    if "span_product_norm" in ds:
        found += _cushion(ds)
    if "class_count" in ds:
        found += _collapse(ds)
    return found


def metrics_table(ds: xr.Dataset, *, rank: int | None = None) -> list[dict]:
    """`summarize` as a list of dicts that json.dumps takes as they are; without the values of single samples."""
    return [as_row(metric) for metric in summarize(ds, rank=rank)]


def as_row(metric: Metric) -> dict:
    """A metric as a row of `metrics_table`."""
    row = {name: value for name, value in vars(metric).items() if name != "per_sample"}
    return row | {"interval": None if metric.interval is None else list(metric.interval)}


def _line(ds: xr.Dataset) -> Iterator[Metric]:
    geometry = line_geometry(ds)
    stage_of_depth = ds["stage_of_depth"].values
    for stage in geometry["stage"].values:
        depths = np.flatnonzero(stage_of_depth == stage)
        where = f"stage {stage} (depths {depths[0]}-{depths[-1]})"
        steps = depths.size - 1
        short = "" if steps > 1 else "fewer than two steps in this stage"
        chance = f"about {steps**0.5:.2f} by chance ({steps} unrelated steps)" if steps > 1 else short
        cosines = geometry["collinearity"].values[:, depths[1:-1]]
        for name in ("line_shape_score", "tortuosity", "collinearity", "equispacing"):
            values = _row_means(cosines) if name == "collinearity" else geometry[name].sel(stage=stage).values
            yield _over_samples(name, values, where, chance if name == "line_shape_score" else short)


def _alignment(ds: xr.Dataset, rank: int | None) -> Iterator[Metric]:
    measured = alignment(ds, rank)
    used = measured.attrs["rank"]
    convergence = _convergence_note(ds) if "singular_values" in ds else "convergence of the triplets is not known"
    for name, values in measured.data_vars.items():
        within = "block_j" not in values.dims
        per_sample = values.mean("block") if within else between_blocks(values)
        where = "within blocks" if within else "pairs of blocks of equal shape, i != j"
        note = f"top {used} triplets{_chance(ds, str(name), used)}"
        yield _over_samples(str(name), per_sample.values, where, note, convergence)
    yield _metric("expected_diagonal_energy", expected_diagonal_energy(used), None, 0, None, f"K = {used}")


def _cushion(ds: xr.Dataset) -> Iterator[Metric]:
    measured = cushions(ds)
    parts = measured["layer_cushion"].transpose("sample", "block", "part").values
    layers = parts.reshape(len(parts), math.prod(parts.shape[1:]))
    yield _over_samples("layer_cushion", _row_means(layers), "layers in branches", "")
    least = float(np.nanmin(layers)) if np.isfinite(layers).any() else float("nan")
    yield _metric("least_layer_cushion", least, None, 0, "layers in branches", "a minimum over samples has no error")
    for name in ("block_cushion", "output_cushion"):
        values = measured[name].transpose("sample", "block").values
        estimate = measured[f"{name}_error"].values / values
        known = estimate[~np.isnan(estimate)]
        worst = float(known.max()) if known.size else 0.0
        note = f"|J|_F estimated to {100 * worst:.1g} % at worst" if worst else "|J|_F exact"
        yield _over_samples(name, _row_means(values), "blocks", note)


def _chance(ds: xr.Dataset, name: str, rank: int) -> str:
    """What unrelated singular vectors would give, where that is known."""
    if name.startswith("diagonal_energy"):
        return f", {expected_diagonal_energy(rank):.2g} by chance"
    if name.endswith("subspace_overlap"):
        low, high = (min(rank / size, 1.0) for size in (int(ds["state_size"].max()), int(ds["state_size"].min())))
        return f", {low:.2g} by chance" if low == high else f", {low:.2g} to {high:.2g} by chance"
    return ""


def _rank(ds: xr.Dataset) -> Iterator[Metric]:
    measured = singular_rank(ds)
    convergence, stored = _convergence_note(ds), measured.attrs["num_values"]
    n_classes = measured.attrs["n_classes"]
    short = f": needs {n_classes + 1} triplets, {stored} are stored" if stored <= n_classes else ""
    notes = {
        "singular_gap": f"C = {n_classes}{short}",
        "gap_rank": f"of {stored} triplets",
        "numerical_rank": f"of {stored} triplets: {stored} means at least {stored}",
    }
    for name, note in notes.items():
        if name in measured:
            values = _row_medians(measured[name].transpose("sample", "block").values)
            yield _over_samples(name, values, "median over blocks", note, convergence)


def _scaling(ds: xr.Dataset) -> Iterator[Metric]:
    convergence = _convergence_note(ds)
    try:
        fit, lines = inverse_scaling(ds)
    except InputError as error:
        yield _metric("inverse_scaling_slope", np.nan, None, 0, None, str(error), convergence)
        return
    where = f"blocks {fit.start}-{int(ds['block'].values[-1]) + 1} (1-based)"
    trend = f"p = {fit.p_value:.2g} for no trend, the choice of the start repeated"
    for name, spread in zip(("slope", "intercept"), jackknife_errors(ds), strict=True):
        own_lines = [getattr(line, name) for line in lines]
        n = _mean(own_lines)[2]
        regression = f"standard error of the regression {getattr(fit, f'{name}_error'):.2g}"
        said = trend if name == "slope" else ""
        common = _metric(f"inverse_scaling_{name}", getattr(fit, name), spread, n, where, regression, said, convergence)
        yield _with_samples(common, own_lines)
    own = _mean([line.r_squared for line in lines])[0]
    own_note = f"mean R^2 of the samples' own lines {own:.3g}" if np.isfinite(own) else ""
    plain = f"R^2 of these {fit.num_points} points {fit.r_squared:.3g}, 0 is what chance gives on average"
    chance = f"one in twenty rows without a trend exceeds R^2 = {fit.r_squared_by_chance:.2g}"
    said = f"{plain}; {chance}"
    yield _metric("inverse_scaling_r_squared", fit.r_squared_adjusted, None, n, where, said, own_note, convergence)
    early = f"{len(fit.criterion)} starts compared"
    yield _metric("inverse_scaling_start", fit.start, None, n, None, early, convergence)


def _stiffness(ds: xr.Dataset) -> Iterator[Metric]:
    """Every quantity of the spectrum as its mean over the blocks that have it, and of the last block alone."""
    kind = ds.attrs.get("probes", {}).get("spectrum", {}).get("kind", "block")
    failed = int((~ds["eigen_converged"].values & np.isfinite(ds["largest_real"].values)).sum())
    undetermined = count_undetermined(ds)
    doubts = (
        f"{failed} blocks with eigenvalues that did not converge are included" if failed else "",
        f"undetermined in {undetermined} blocks, where the error exceeds the value; left out" if undetermined else "",
    )
    unsure = "; ".join(doubt for doubt in doubts if doubt)
    measured = stiffness(ds)
    names = ("spectral_radius", "jacobian_norm", "numerical_abscissa", "departure_from_normality")
    columns = {str(name): values for name, values in measured.items() if not str(name).endswith("_error")}
    columns |= {name: determined(ds, name) for name in names if bool(np.isfinite(ds[name].values).any())}
    for name, values in columns.items():
        table = values.transpose("sample", "block").values
        missing = int(np.isnan(table).sum())
        note = f"kind {kind}{f'; {missing} of {table.size} without a value' if missing else ''}"
        doubt = _share_note(measured, ds) if name == "percent_negative_flattened" else ""
        yield _over_samples(name, _row_means(table), "mean over blocks", note, unsure, doubt)
        yield _over_samples(name, table[:, -1], "last block", f"kind {kind}", unsure, doubt)


def _share_note(measured: xr.Dataset, ds: xr.Dataset) -> str:
    """How far the shares may be off, and what of them are zeros of a null space."""
    errors = measured["percent_negative_error"].values
    worst = float(np.nanmax(errors)) if np.isfinite(errors).any() else 0.0
    found = [f"undecided or estimated to {worst:.2g} % at worst" if worst else ""]
    if "num_zero" in ds:
        zeros = 100 * ds["num_zero"].values / ds["num_eigenvalues"].values
        most = float(np.nanmax(zeros)) if np.isfinite(zeros).any() else 0.0
        found.append(f"up to {most:.2g} % are zero to rounding and not counted" if most else "")
    return "; ".join(part for part in found if part)


def _collapse(ds: xr.Dataset) -> Iterator[Metric]:
    measured = neural_collapse(ds)
    images = int(ds["num_images"]) if "num_images" in ds else int(ds["class_count"].sum())
    empty = measured.attrs["empty_classes"]
    left_out = f"{len(empty)} classes without images left out" if empty else ""
    two = ds.sizes["class"] - len(empty) == 2
    for key, values in measured.data_vars.items():
        name = str(key).removeprefix("feature_")
        value = float(values.values[-1] if "depth" in values.dims else values.values)
        where = f"depth {int(ds['depth'].values[-1])}" if "depth" in values.dims else "input of the classifier"
        trivial = "zero by construction for two classes" if two and name in _TRIVIAL_FOR_TWO else ""
        metric = _metric(name, value, None, images, where, left_out, trivial)
        yield _share(metric, images) if name == "nearest_mean_disagreement" else metric


_LARGE = 1e150  # beyond, squares leave the dtype
_TRIVIAL_FOR_TWO = ("equinorm", "equiangularity", "maximal_angle")


def _over_samples(name: str, values: ArrayLike, where: str | None, *notes: str) -> Metric:
    mean, error, n = _mean(values)
    missing = np.size(values) - n
    left_out = f"{missing} of {np.size(values)} samples without a finite value left out" if missing else ""
    single = "one sample: no standard error" if n == 1 else ""
    return _with_samples(_metric(name, mean, error, n, where, *notes, _infinite(values), left_out, single), values)


def _infinite(values: ArrayLike) -> str:
    """How many values are infinite, and the median, which a few of them leave finite."""
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    count = int(np.isinf(known).sum())
    middle = float(np.quantile(known, 0.5, method="inverted_cdf")) if count else 0.0  # one of the values
    return f"{count} of {known.size} samples infinite, median {middle:.4g}" if count else ""


def _share(metric: Metric, n: int) -> Metric:
    """A share of `n` with its binomial standard error, where that says anything, and its interval."""
    if metric.value is None or not n:
        return metric
    low, high = share_interval(round(metric.value * n), n)
    error = (metric.value * (1 - metric.value) / n) ** 0.5 or None
    note = "; ".join(part for part in (metric.note, f"95 % interval {low:.2g} to {high:.2g} (Wilson)") if part)
    return replace(metric, standard_error=error, interval=(low, high), note=note)


def _with_samples(metric: Metric, values: ArrayLike) -> Metric:
    return replace(metric, per_sample=tuple(np.asarray(values, dtype=np.float64).tolist()))


def _metric(name: str, value: float, error: float | None, n: int, where: str | None, *notes: str) -> Metric:
    title, reading, source = DESCRIPTIONS[name]
    note = "; ".join(note for note in (*notes, "not measured" if np.isnan(value) else "") if note)
    return Metric(name, title, _known(value), _known(error), n, where, reading, source, note)


def _mean(values: ArrayLike) -> tuple[float, float | None, int]:
    """Mean of the known values, its standard error (None below two values), their number.

    Infinite where some are, without an error; NaN where these are of both signs.
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    if not known.size:
        return float("nan"), None, 0
    infinite = known[np.isinf(known)]
    if infinite.size:
        return float(infinite[0]) if len(set(infinite)) == 1 else float("nan"), None, known.size
    scale = 2.0 ** math.frexp(float(np.abs(known).max()))[1] if np.abs(known).max() > _LARGE else 1.0
    known = known / scale
    error = float(standard_error(known)) * scale if known.size > 1 else None
    return float(known.mean()) * scale, error, known.size


def _known(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else float(value)


def _row_means(values: np.ndarray) -> list[float]:
    return [_mean(row)[0] for row in values]


def _row_medians(values: np.ndarray) -> list[float]:
    """Median of what is known in each row; an infinite gap counts as the largest."""
    rows = [row[~np.isnan(row)] for row in values]
    return [float(np.median(row)) if row.size else float("nan") for row in rows]


def _convergence_note(ds: xr.Dataset) -> str:
    failed = count_unconverged(ds)
    stored = int(np.isfinite(ds["singular_values"]).sum())
    return f"{failed} of {stored} singular triplets did not converge and were left out" if failed else ""
