"""Timesteps: the draws of every ladder, against tables written out by hand."""

from zlib import crc32

import pytest
import torch
from exact import cosine_schedule

from splatdream.catalog import CATALOG, configured
from splatdream.timesteps import Timesteps

SCHEDULE = cosine_schedule(1000)
EIGHTHS = (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def seen_range(timesteps: Timesteps, progress: float) -> tuple[int, int]:
    """The lowest and the highest of so many draws that both ends are among them."""
    drawn = timesteps(SCHEDULE, 20_000, progress, seeded())
    return int(drawn.min()), int(drawn.max())


RANGES = {
    # The ends at 0, 1/8, .., 1 of the run.
    "linear": [(20, h) for h in (980, 920, 860, 800, 740, 680, 620, 560, 500)],
    "uniform": [(20, 980)] * 9,
    "two-stage": [(20, 980)] * 4 + [(20, 500)] * 5,
    "dreamfusion": [(20, 980)] * 9,
    "sjc": [(10, 970)] * 9,
    "magic3d": [(20, 500)] * 9,
    "prolificdreamer": [(20, 980)] * 2 + [(20, 500)] * 7,
    "threestudio": [(20, 980)] * 2 + [(20, 500)] * 7,
    "gsgen": [(20, 980)] * 2 + [(20, 500)] * 7,
    "gaussiandreamer": [(20, 980)] * 4 + [(20, 550)] * 5,
    "rfds": [(20, 700)] * 9,
    # 0.98 - 0.96 p / 0.8 and 0.98 - 0.48 p / 0.8.
    "mvdream": [
        (980, 980),
        (830, 905),
        (680, 830),
        (530, 755),
        (380, 680),
        (230, 605),
        (80, 530),
        (20, 500),
        (20, 500),
    ],
}
FIXED = {
    "deterministic": [980, 860, 740, 620, 500, 380, 260, 140, 20],
    # 980 - 960 sqrt(p)
    "sqrt": [980, 641, 500, 392, 301, 221, 149, 82, 20],
    "dreamgaussian": [980, 875, 750, 625, 500, 375, 250, 125, 20],
    # 1000 - 800 p; the table ends at 999.
    "sdi": [999, 900, 800, 700, 600, 500, 400, 300, 200],
    # 980 - 680 sqrt(p)
    "hifa": [980, 740, 640, 564, 499, 442, 391, 344, 300],
}


@pytest.mark.parametrize("name", RANGES)
def test_a_ladder_with_chance_draws_from_the_published_range(name) -> None:
    timesteps = configured("timesteps", name)
    assert [seen_range(timesteps, progress) for progress in EIGHTHS] == RANGES[name]


@pytest.mark.parametrize("name", FIXED)
def test_a_ladder_without_chance_has_the_published_values_and_leaves_the_generator_alone(name) -> None:
    timesteps, generator = configured("timesteps", name), seeded()
    before = generator.get_state()
    assert [timesteps(SCHEDULE, 2, progress, generator).tolist() for progress in EIGHTHS] == [
        [t] * 2 for t in FIXED[name]
    ]
    assert torch.equal(generator.get_state(), before)


def test_luciddreamer_draws_once_for_all_views_below_an_end_that_falls_for_its_warm_up() -> None:
    timesteps, generator = configured("timesteps", "luciddreamer"), seeded()
    for progress, high in ((0.0, 980), (0.15, 740), (0.3, 500), (1.0, 500)):
        drawn = torch.stack([timesteps(SCHEDULE, 3, progress, generator) for _ in range(500)])
        assert (drawn == drawn[:, :1]).all()
        # Of 500 draws the highest lies within 2 % of the end but for one case in 20,000.
        assert 0.98 * high < drawn.max() <= high


def test_every_ladder_of_the_catalogue_is_checked_here() -> None:
    assert set(CATALOG["timesteps"]) == {*RANGES, *FIXED, "luciddreamer"}


def test_the_default_draws_what_it_always_drew() -> None:
    """Seeds repeat: uniform below an end that falls linearly, by one `randint` for all views of seed 0's generator."""
    generator, reference = seeded(crc32(b"0 timesteps")), seeded(crc32(b"0 timesteps"))
    drawn = [configured("timesteps", "linear")(SCHEDULE, 4, step / 8, generator).tolist() for step in range(3)]
    assert drawn == [[609, 442, 111, 376], [347, 787, 559, 331], [641, 135, 150, 665]]
    generator.set_state(reference.get_state())
    for step in range(8):
        high = round(1000 * (0.98 + (0.5 - 0.98) * step / 8))
        drawn = configured("timesteps", "linear")(SCHEDULE, 4, step / 8, generator)
        assert torch.equal(drawn, torch.randint(20, high + 1, (4,), generator=reference))


def test_draws_are_uniform_over_the_range_both_ends_included() -> None:
    drawn = Timesteps(low=(0.1, 0.1), high=(0.3, 0.3))(SCHEDULE, 20_000, 0.0, seeded()).double()
    # The mean of 20,000 draws from 100..300 has a standard error of 0.41, their deviation one of 0.26.
    assert drawn.mean().item() == pytest.approx(200, abs=5 * 0.41)
    assert drawn.std().item() == pytest.approx((201**2 / 12) ** 0.5, abs=5 * 0.26)


def test_options_change_a_ladder() -> None:
    changed = configured("timesteps", "hifa:high=0.9..0.1,power=1,draw=batch")
    assert changed == Timesteps(high=(0.9, 0.1), draw="batch")
    assert configured("timesteps", "uniform:high=0.7").high == (0.7, 0.7)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("linaer", "did you mean 'linear'"),
        ("linear:hihg=1", "did you mean 'high'"),
        ("linear:high=1.5..0.5", "0 <= low <= high <= 1"),
        ("linear:low=0.6", "0 <= low <= high <= 1"),
        ("linear:high=nan", "0 <= low <= high <= 1"),
        ("linear:during=0.5..0.1", r"during START\.\.END within 0\.\.1"),
        ("sqrt:power=0", "power of timesteps must be above 0"),
        ("linear:draw=view", "did you mean 'views'"),
    ],
)
def test_what_is_no_ladder_is_refused_in_one_sentence(spec, message) -> None:
    with pytest.raises(ValueError, match=message):
        configured("timesteps", spec)
