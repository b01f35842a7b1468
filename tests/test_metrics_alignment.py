"""RA2: prescribed couplings and subspaces have known alignment."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from resdyn.errors import InputError
from resdyn.metrics import (
    aligned_vectors,
    alignment,
    between_blocks,
    coupled_rank,
    diagonal_energy,
    expected_diagonal_energy,
    mismatch,
    overlap_angles,
    subspace_overlap,
    vector_alignment,
)
from synthetic import random_orthonormal, synthetic_dataset


def test_diagonal_energy_is_one_for_a_diagonal_and_zero_for_a_hollow_matrix():
    assert diagonal_energy(np.diag([3.0, -2.0, 1.0])) == 1.0
    assert diagonal_energy(np.array([[0.0, 2.0], [5.0, 0.0]])) == 0.0
    assert np.isnan(diagonal_energy(np.zeros((2, 2))))


def test_diagonal_energy_of_random_matrices_averages_to_one_over_rank():
    matrices = np.random.default_rng(0).standard_normal((20000, 5, 5))
    energy = diagonal_energy(matrices)
    assert energy.mean() == pytest.approx(expected_diagonal_energy(5), abs=4 * energy.std() / 20000**0.5)


def test_rank_keeps_the_leading_corner():
    matrix = np.array([[1.0, 0.0, 9.0], [0.0, 1.0, 9.0], [9.0, 9.0, 9.0]])
    assert diagonal_energy(matrix, rank=2) == 1.0
    assert mismatch(matrix, [1.0, 1.0, 7.0], rank=2) == 0.0


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**20), scale=st.floats(1e-3, 1e3))
def test_diagonal_energy_and_mismatch_ignore_scale_and_signs_of_triplets(seed, scale):
    rng = np.random.default_rng(seed)
    matrix, values = rng.standard_normal((4, 4)), np.sort(rng.uniform(0.1, 2, 4))[::-1]
    signs = rng.choice([-1.0, 1.0], 4)
    flipped = scale * signs[:, None] * matrix * signs
    assert diagonal_energy(flipped) == pytest.approx(float(diagonal_energy(matrix)))
    assert mismatch(flipped, scale * values) == pytest.approx(float(mismatch(matrix, values)))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_mismatch_of_exact_couplings_lies_between_zero_and_root_two(seed):
    rng = np.random.default_rng(seed)
    jacobian_i, jacobian_j = rng.standard_normal((2, 9, 9))
    left, _, right = np.linalg.svd(jacobian_j)
    values = np.linalg.svd(jacobian_i, compute_uv=False)[:3]
    assert 0 <= mismatch(left[:, :3].T @ jacobian_i @ right[:3].T, values) <= np.sqrt(2)


def test_mismatch_of_a_block_with_itself_is_zero_and_of_no_coupling_is_one():
    left, values, right = np.linalg.svd(np.random.default_rng(1).standard_normal((6, 6)))
    own = left.T @ (left * values @ right) @ right.T
    assert mismatch(own, values) < 1e-12
    assert mismatch(np.zeros((6, 6)), values) == pytest.approx(1.0)
    assert np.isnan(mismatch(np.ones((2, 2)), np.zeros(2)))


def test_signed_mismatch_tells_an_opposite_orientation_apart():
    assert mismatch(np.diag([-2.0, 1.0]), [2.0, 1.0]) == 0.0
    assert mismatch(np.diag([-2.0, 1.0]), [2.0, 1.0], signed=True) == pytest.approx(4 / 5**0.5)


def test_overlap_angles_of_planes_turned_by_known_angles():
    rng = np.random.default_rng(2)
    basis = random_orthonormal(10, 6, rng)
    angles = np.array([0.1, 0.7, 1.3])
    turned = basis[:, :3] * np.cos(angles) + basis[:, 3:] * np.sin(angles)
    mixed = turned @ random_orthonormal(3, 3, rng)
    np.testing.assert_allclose(overlap_angles(basis[:, :3].T @ mixed), angles, atol=1e-10)
    np.testing.assert_allclose(subspace_overlap(basis[:, :3].T @ mixed), np.mean(np.cos(angles) ** 2))
    np.testing.assert_allclose(vector_alignment(-basis[:, :3].T @ turned), np.cos(angles))


def test_subspace_overlap_of_random_planes_averages_to_rank_over_dimension():
    rng = np.random.default_rng(3)
    overlaps = [random_orthonormal(12, 3, rng).T @ random_orthonormal(12, 3, rng) for _ in range(2000)]
    values = subspace_overlap(np.array(overlaps))
    assert values.mean() == pytest.approx(3 / 12, abs=4 * values.std() / 2000**0.5)


def test_matrices_that_hold_nan_give_nan():
    matrix = np.full((2, 3, 3), np.nan)
    matrix[1] = np.eye(3)
    for metric in (diagonal_energy, subspace_overlap):
        assert np.isnan(metric(matrix)[0])
        assert metric(matrix)[1] == 1.0
    assert np.isnan(overlap_angles(matrix)[0]).all()
    np.testing.assert_array_equal(overlap_angles(matrix)[1], 0.0)


def test_aligned_blocks_have_full_energy_and_no_mismatch():
    measured = alignment(synthetic_dataset(angle=0.0))
    for kind in ("uv", "vu"):
        np.testing.assert_allclose(between_blocks(measured[f"diagonal_energy_{kind}"]), 1.0)
        np.testing.assert_allclose(between_blocks(measured[f"mismatch_{kind}"]), 0.0, atol=1e-12)
    np.testing.assert_allclose(between_blocks(measured["left_alignment"]), 1.0)
    np.testing.assert_allclose(measured["left_right_alignment"].isel(block=[0, 1, 2, 3, 5, 6, 7]), 1.0)


def test_blocks_turned_by_a_known_angle_have_a_known_mismatch():
    angle = 0.3
    measured = alignment(synthetic_dataset(angle=angle))
    pair = measured.isel(sample=0, block=0, block_j=2)
    assert pair["diagonal_energy_uv"] == pytest.approx(1.0)
    assert pair["mismatch_uv"] == pytest.approx(1 - np.cos(2 * angle) ** 2)
    assert pair["right_alignment"] == pytest.approx(np.cos(2 * angle))
    assert pair["left_subspace_overlap"] == pytest.approx(np.cos(2 * angle) ** 2)


def test_stored_pairs_agree_with_dense_jacobians_pair_by_pair():
    rng = np.random.default_rng(4)
    n_blocks, size, rank = 4, 9, 3
    jacobians = rng.standard_normal((n_blocks, size, size)) * rng.uniform(0.5, 2, (n_blocks, 1, 1))
    left, values, right = np.linalg.svd(jacobians)
    left, values, right = left[..., :rank], values[:, :rank], right[:, :rank].swapaxes(1, 2)
    dims = ("sample", "block", "block_j", "rank", "rank_j")
    ds = xr.Dataset(
        {
            "singular_values": (dims[:2] + dims[3:4], values[None]),
            "singular_converged": (dims[:2] + dims[3:4], np.ones((1, n_blocks, rank), dtype=bool)),
            "coupling_uv": (dims, np.einsum("jak,iab,jbl->ijkl", left, jacobians, right)[None]),
            "overlap_uv": (dims, np.einsum("iak,jal->ijkl", left, right)[None]),
        },
        coords={"sample": [0], "block": np.arange(n_blocks), "block_j": np.arange(n_blocks)},
    )
    measured = alignment(ds)
    for i in range(n_blocks):
        own = np.linalg.norm(left[i].T @ right[i]) ** 2 / rank
        assert measured["left_right_subspace_overlap"][0, i] == pytest.approx(own)
        for j in range(n_blocks):
            matrix = left[j].T @ jacobians[i] @ right[j]
            energy = np.sum(np.diag(matrix) ** 2) / np.sum(matrix**2)
            distance = np.linalg.norm(np.abs(matrix) - np.diag(values[i])) / np.linalg.norm(values[i])
            assert measured["diagonal_energy_uv"][0, i, j] == pytest.approx(energy)
            assert measured["mismatch_uv"][0, i, j] == pytest.approx(distance)


def test_pairs_of_blocks_of_different_shape_are_not_measured():
    measured = alignment(synthetic_dataset(n_blocks=8))
    stage = measured["stage"].values
    across = stage[:, None] != stage[None, :]
    assert np.isnan(measured["diagonal_energy_uv"].values[:, across]).all()
    assert np.isnan(measured["left_right_alignment"].isel(block=4)).all()


def test_between_blocks_leaves_out_the_diagonal():
    measured = alignment(synthetic_dataset(angle=0.4, n_samples=1))
    pairs = measured["mismatch_uv"].values[0]
    off = pairs[~np.eye(len(pairs), dtype=bool)]
    np.testing.assert_allclose(between_blocks(measured["mismatch_uv"]), [np.nanmean(off)])


def test_triplets_that_did_not_converge_are_left_out_of_every_pair_they_enter():
    ds = synthetic_dataset()
    ds["singular_converged"][0, 1, 2] = False
    measured = alignment(ds)
    energy = measured["diagonal_energy_uv"].isel(sample=0)
    assert energy.isel(block_j=1).isnull().all()
    assert energy.isel(block=1, block_j=[0, 2, 3]).notnull().all()
    assert measured["mismatch_uv"].isel(sample=0, block=1).isnull().all()
    assert measured["left_alignment"].isel(sample=0, block=1).isnull().all()
    assert measured["left_alignment"].isel(sample=0, block_j=1).isnull().all()
    assert measured["diagonal_energy_uv"].isel(sample=1, block_j=1).notnull().any()
    # The third triplet does not enter the top two.
    assert alignment(ds, rank=2)["diagonal_energy_uv"].isel(sample=0, block=0, block_j=1) == pytest.approx(1.0)


def test_couplings_without_singular_values_give_no_mismatch_and_say_so():
    measured = alignment(synthetic_dataset(probes=["coupling"]))
    assert "mismatch_uv" not in measured
    assert not measured.attrs["convergence_known"]


@pytest.mark.parametrize("rank", [0, 7])
def test_a_rank_that_is_not_stored_is_refused(rank):
    with pytest.raises(InputError, match=f"got rank={rank}, expected 1 to 6"):
        alignment(synthetic_dataset(), rank=rank)


def test_triplets_that_were_not_coupled_do_not_enter():
    ds = synthetic_dataset(rank=6)
    narrow = ds.copy()
    for name in ("coupling_uv", "coupling_vu", "overlap_uu", "overlap_vv", "overlap_uv"):
        narrow[name] = ds[name].where((ds["rank"] < 4) & (ds["rank_j"] < 4))
    assert coupled_rank(narrow) == 4
    xr.testing.assert_allclose(alignment(narrow), alignment(ds, rank=4))


def test_vectors_that_line_up_are_counted_by_pair_of_blocks():
    """Two directions shared by all blocks, the rest not; every block is aligned with itself; unequal shapes are NaN."""
    rng = np.random.default_rng(0)
    matrix = rng.uniform(0.1, 0.2, (1, 4, 4, 5, 5))
    matrix[..., 0, 0], matrix[..., 1, 1] = 3.0, 2.0
    matrix[..., 2, 2] = matrix[..., 3, 3] = matrix[..., 4, 4] = 0.0
    matrix[:, range(4), range(4)] = np.diag([5.0, 4.0, 3.0, 2.0, 1.0])
    matrix[:, 3, 0] = np.nan
    dims = ("sample", "block", "block_j", "rank", "rank_j")
    coords = {"sample": [0], "block": range(4), "block_j": range(4), "rank": range(5)}
    found = aligned_vectors(xr.Dataset({"coupling_uv": (dims, matrix)}, coords))
    assert found.dims == ("sample", "block", "block_j", "rank")
    assert found[0, 1, 2].values.tolist() == [1, 1, 0, 0, 0]
    assert found[0, 1, 1].values.tolist() == [1, 1, 1, 1, 1]
    assert np.isnan(found[0, 3, 0]).all()
    assert between_blocks(found)[0].values.tolist() == [1, 1, 0, 0, 0]


def test_vectors_of_a_jacobian_that_is_zero_are_left_out():
    ds = synthetic_dataset(n_samples=2)
    ds["singular_values"][{"block": 1}] = 0.0
    found = alignment(ds)
    assert np.isnan(found["left_alignment"].isel(block=1)).all()
    assert np.isnan(found["diagonal_energy_uv"].isel(block_j=1)).all()
    assert np.isfinite(found["left_alignment"].isel(block=0, block_j=0)).all()
