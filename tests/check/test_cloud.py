"""The criteria for splats: a sound cloud passes all of them, and one broken in one way fails that one and no other."""

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from splatdream.check import check_splats
from splatdream.check.cloud import measure
from splatdream.check.components import CELLS, REACH, of_edges, of_gaussians
from splatdream.check.criteria import read_criteria
from splatdream.check.tidy import tidied
from splatdream.splats import Splats, concatenate, logit

BREADTH, HEIGHT = 0.3, 0.8


def block(count: int = 600, *, seed: int = 0) -> Splats:
    """A standing block of round, solid Gaussians."""
    generator = torch.Generator().manual_seed(seed)
    means = (2 * torch.rand(count, 3, generator=generator) - 1) * torch.tensor([BREADTH, BREADTH, HEIGHT])
    return Splats(
        means=means,
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        log_scales=torch.full((count, 3), 0.05).log(),
        logit_opacities=logit(torch.full((count,), 0.8)),
        sh0=torch.zeros(count, 1, 3),
        shN=torch.zeros(count, 0, 3),
    )


def rows(splats: Splats, count: int, **values: list[float] | float) -> Splats:
    """The cloud with the first `count` rows of some tensors set."""
    changes = {}
    for name, value in values.items():
        changes[name] = getattr(splats, name).clone()
        changes[name][:count] = torch.tensor(value)
    return splats.replace(**changes)


def moved(splats: Splats, offset: list[float]) -> Splats:
    return splats.replace(means=splats.means + torch.tensor(offset))


def leaning(splats: Splats) -> Splats:
    """The block pushed over as a parallelogram, its foot where it was."""
    x, y, z = splats.means.unbind(1)
    return splats.replace(means=0.7 * torch.stack([x + z, y, z], 1))


LOG_NEEDLE = torch.tensor([0.12, 0.005, 0.005]).log().tolist()
BROKEN: dict[str, Callable[[Splats], Splats]] = {
    "gaussians": lambda cloud: rows(cloud, 80, log_scales=-2.0).take(torch.arange(80)),
    "visible": lambda cloud: concatenate([cloud, *[block(seed=n).replace(logit_opacities=cloud.logit_opacities - 8)
                                                   for n in (1, 2, 3)]]),
    "solid": lambda cloud: rows(rows(cloud, 600, log_scales=-2.0), 551, logit_opacities=-3.0),
    "largest": lambda cloud: rows(cloud, 1, log_scales=1.0, logit_opacities=-3.0),
    "smallest": lambda cloud: rows(cloud, 1, log_scales=-14.0),
    "needles": lambda cloud: rows(cloud, 60, log_scales=LOG_NEEDLE),
    "floaters": lambda cloud: concatenate([cloud, *[moved(block(8).replace(means=0.2 * block(8).means), place)
                                                    for place in ([0.9, 0, 0], [0, 0.9, 0.1], [-0.9, 0, 0])]]),
    "bodies": lambda cloud: concatenate([moved(cloud.replace(means=0.3 * cloud.means), [x, y, 0.0])
                                         for x in (-0.5, 0.5) for y in (-0.5, 0.5)]),
    "radius": lambda cloud: cloud.replace(means=3 * cloud.means, log_scales=cloud.log_scales + 1.1),
    "off_centre": lambda cloud: moved(cloud.replace(means=0.5 * cloud.means), [0.0, 0.0, 0.5]),
    "overhang": leaning,
}  # fmt: skip


def failing(splats: Splats) -> set[str]:
    return {finding.name for finding in check_splats(splats, strict=True).failures}


def test_a_sound_cloud_passes_every_criterion() -> None:
    report = check_splats(block(), strict=True)
    assert report.passed
    assert len(report.findings) == len(read_criteria("splats")) == 12
    assert all(finding.passed for finding in report.findings)


@pytest.mark.parametrize("defect", list(BROKEN))
def test_a_defect_fails_its_own_criterion_and_no_other(defect: str) -> None:
    assert failing(BROKEN[defect](block())) == {defect}


def test_a_row_that_is_not_finite_fails() -> None:
    assert [finding.name for finding in check_splats(block(), dropped=1).failures] == ["finite"]


def test_every_criterion_has_its_broken_cloud() -> None:
    assert {*BROKEN, "finite"} == set(read_criteria("splats"))


def test_custom_fails_under_strict_only() -> None:
    far = moved(block(), [0.0, 0.0, 5.0])
    assert check_splats(far).passed
    assert not check_splats(far, strict=True).passed


def test_an_empty_cloud_and_an_unseen_one_fail_without_numbers() -> None:
    for cloud in (block(0), block().replace(logit_opacities=torch.full((600,), -12.0))):
        report = check_splats(cloud)
        assert "solid" in {finding.name for finding in report.failures}
        unmeasured = [finding for finding in report.findings if finding.value is None]
        assert unmeasured
        assert all("opacity of 0.1" in finding.note for finding in unmeasured)


def test_what_is_tidied_passes_and_a_sound_cloud_stays_whole() -> None:
    criteria = read_criteria("splats")
    assert len(tidied(block(), criteria)) == 600
    for defect, left in (("largest", 599), ("floaters", 600)):
        clean = tidied(BROKEN[defect](block()), criteria)
        assert len(clean) == left
        assert check_splats(clean, strict=True).passed


def test_an_object_of_nothing_but_needles_is_left_to_its_check() -> None:
    spiky = rows(block(), 600, log_scales=LOG_NEEDLE)
    assert len(tidied(spiky, read_criteria("splats"))) == 600


def test_components_are_those_of_a_search_through_the_graph() -> None:
    generator = torch.Generator().manual_seed(3)
    edges = torch.randint(0, 60, (40, 2), generator=generator).numpy()
    labels = of_edges(edges, 60)
    neighbours = {node: {node} for node in range(60)}
    for one, two in edges.tolist():
        neighbours[one].add(two)
        neighbours[two].add(one)
    for start in range(60):
        reached, waiting = {start}, [start]
        while waiting:
            fresh = neighbours[waiting.pop()] - reached
            reached |= fresh
            waiting += fresh
        assert {node for node in range(60) if labels[node] == labels[start]} == reached


def reached(means, rotations, scales) -> np.ndarray:
    """Which Gaussian reaches into which cell, cell by cell as `of_gaussians` says it."""
    low, size = means.min(0), np.ptp(means, axis=0)
    cell = size.max() / CELLS
    middles = [low[axis] + cell * (np.arange(max(np.ceil(size[axis] / cell), 1)) + 0.5) for axis in range(3)]
    cells = np.stack(np.meshgrid(*middles, indexing="ij"), -1).reshape(-1, 1, 3)
    along = np.einsum("cni,nij->cnj", cells - means, rotations)
    return (np.square(along / (REACH * scales + 0.5 * np.sqrt(3) * cell)).sum(2) <= 1).T


def test_gaussians_hang_together_where_they_reach_into_one_cell() -> None:
    generator = torch.Generator().manual_seed(5)
    for spread in (-4.0, -3.0, -2.0):
        means = torch.rand(40, 3, generator=generator) * torch.tensor([1.0, 0.6, 0.3])
        scales = (spread + torch.randn(40, 3, generator=generator)).exp()
        splats = block(40).replace(quats=torch.randn(40, 4, generator=generator))
        arrays = (means.double().numpy(), splats.rotations.double().numpy(), scales.double().numpy())
        labels, cells = of_gaussians(*arrays), reached(*arrays)
        meeting = np.stack(np.nonzero(cells.astype(np.float32) @ cells.T.astype(np.float32)), 1)
        expected = of_edges(meeting, 40)
        assert ((labels[:, None] == labels) == (expected[:, None] == expected)).all()


def test_many_gaussians_as_large_as_the_object_are_joined_in_seconds() -> None:
    means = np.random.default_rng(0).random((8000, 3))
    of_gaussians(means[:2], np.eye(3)[None].repeat(2, 0), np.ones((2, 3)))  # compiles
    begun = time.process_time()
    labels = of_gaussians(means, np.eye(3)[None].repeat(len(means), 0), np.full(means.shape, 0.5))
    assert len(set(labels)) == 1
    # About two seconds; cell by cell it is 15.
    assert time.process_time() - begun < 7


def test_places_at_the_ends_of_float32_are_measured() -> None:
    cloud = rows(rows(block(), 2, means=3e38), 1, means=-3e38)
    # A 600th of the object each is less than what its radius leaves out.
    assert measure(cloud)["radius"] < 2


def test_ellipsoids_touch_along_their_length_and_not_across_it() -> None:
    """Two flat, long Gaussians side by side: turned towards each other they touch, turned by a right angle not."""
    means = torch.tensor([[-0.5, 0.0, 0.0], [0.5, 0.0, 0.0]])
    scales = torch.tensor([[0.38, 0.01, 0.01]]).repeat(2, 1)
    along = torch.eye(3).repeat(2, 1, 1)
    across = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]).repeat(2, 1, 1)
    assert len(set(of_gaussians(means.numpy(), along.numpy(), scales.numpy()))) == 1
    assert len(set(of_gaussians(means.numpy(), across.numpy(), scales.numpy()))) == 2
