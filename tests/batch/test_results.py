"""Results: the best seed up, the others archived, every job told of, and pages that escape what users wrote."""

import json
from pathlib import Path

import pytest

from splatdream import runs
from splatdream.batch import page
from splatdream.batch.claims import Claims
from splatdream.batch.page import write_pages
from splatdream.batch.prompts import Job, job
from splatdream.batch.results import archive, outcomes, write_results
from splatdream.recipe import Recipe

SEEDS = [job(Recipe("a <b>mug</b>", seed=seed)) for seed in range(3)]


def settle(batch: Path, each: Job, score: float) -> None:
    claims = Claims(batch)
    claims.add([each.name])
    output = each.output(batch)
    runs.run_folder(output).mkdir(parents=True)
    output.write_text(each.name)
    output.with_suffix(".gif").write_text("film")
    claims.settle(claims.take("a"), "done", {"name": each.name, "score": score, "gaussians": 30})


@pytest.fixture
def batch(tmp_path) -> Path:
    for each, score in zip(SEEDS, (0.5, 0.9, 0.9), strict=True):
        settle(tmp_path, each, score)
    return tmp_path


def concluded(batch: Path, jobs: list[Job] = SEEDS) -> list:
    found = outcomes({each.name: each for each in jobs}, Claims(batch))
    archive(found, batch)
    return found


def test_the_best_score_is_kept_and_of_equals_the_first(batch) -> None:
    for _ in range(2):  # the second time changes nothing
        assert [outcome.best for outcome in concluded(batch)] == [False, True, False]
        assert SEEDS[1].output(batch).read_text() == SEEDS[1].name
        assert runs.run_folder(SEEDS[1].output(batch)).is_dir()
        for each in (SEEDS[0], SEEDS[2]):
            assert not each.output(batch).exists()
            assert each.place(batch) == each.archived(batch)
            assert runs.run_folder(each.archived(batch)).is_dir()
            assert each.archived(batch).with_suffix(".gif").is_file()


def test_a_better_seed_that_comes_later_takes_the_place(batch) -> None:
    concluded(batch)
    later = job(SEEDS[0].recipe.replace(seed=7))
    settle(batch, later, 0.95)
    concluded(batch, [*SEEDS, later])
    assert later.output(batch).is_file()
    assert SEEDS[1].place(batch) == SEEDS[1].archived(batch)


def test_nothing_is_moved_while_seeds_are_being_done(batch) -> None:
    later = job(SEEDS[0].recipe.replace(seed=7))
    claims = Claims(batch)
    claims.add([later.name])
    assert concluded(batch, [*SEEDS, later])[-1].state == "open"
    claims.take("a")
    assert concluded(batch, [*SEEDS, later])[-1].state == "open"
    assert all(each.output(batch).is_file() for each in SEEDS)


def test_a_seed_that_is_asked_for_no_more_holds_nothing_up(batch) -> None:
    later = job(SEEDS[0].recipe.replace(seed=7))
    claims = Claims(batch)
    claims.add([later.name])
    claims.withdraw([later.name])
    assert concluded(batch, [*SEEDS, later])[-1].state == "withdrawn"
    assert [each.place(batch) == each.output(batch) for each in SEEDS] == [False, True, False]


def test_a_result_without_a_score_is_the_worst(batch) -> None:
    (Claims(batch).folder / "done" / SEEDS[1].name).write_text("{}")
    assert [outcome.best for outcome in concluded(batch)] == [False, False, True]


def test_every_job_has_its_line(batch) -> None:
    failing = job(Recipe("a ball"))
    claims = Claims(batch)
    claims.add([failing.name])
    claims.settle(claims.take("a"), "failed", {"name": failing.name, "error": "no"})
    write_results(concluded(batch, [*SEEDS, failing]), batch)
    lines = [json.loads(line) for line in (batch / "results.jsonl").read_text().splitlines()]
    assert [(line["seed"], line["state"], line["best"]) for line in lines] == [
        (0, "done", False),
        (1, "done", True),
        (2, "done", False),
        (0, "failed", False),
    ]
    assert lines[3]["error"] == "no"
    assert all((batch / line["file"]).is_file() for line in lines[:3])


def test_pages_escape_prompts_and_link_what_is_there(batch, monkeypatch) -> None:
    others = [job(Recipe(f"ball {number}")) for number in range(3)]
    Claims(batch).add([each.name for each in others])
    monkeypatch.setattr(page, "PROMPTS", 2)
    assert write_pages(concluded(batch, [*SEEDS, *others]), batch) == 2
    first, second = ((batch / name).read_text() for name in ("index.html", "index-2.html"))
    assert "a &lt;b&gt;mug&lt;/b&gt;" in first
    assert "<b>" not in first
    assert "3 done, 3 open" in first
    assert 'href="index-2.html"' in first
    assert "ball 2" in second
    for source in [piece.split('"')[0] for piece in first.split('src="')[1:]]:
        assert (batch / source).is_file()
