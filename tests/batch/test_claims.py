"""Claims: every job is in one place, in one pair of hands, and outlives its worker."""

import os
import subprocess
import sys

import pytest

from splatdream.batch.claims import Claim, Claims, new_worker

JOBS = [f"job-{number}.seed-0" for number in range(5)]

TAKER = """
import sys
from pathlib import Path
from splatdream.batch.claims import Claims
claims = Claims(Path(sys.argv[1]))
while (claim := claims.take(sys.argv[2])) is not None:
    print(claim.job, flush=True)
    claims.settle(claim, "done", {"name": claim.job})
"""


@pytest.fixture
def claims(tmp_path) -> Claims:
    claims = Claims(tmp_path, retries=1)
    assert claims.add(JOBS) == 5
    return claims


def take(claims: Claims, worker: str) -> Claim | None:
    """As another process would, with eyes of its own."""
    return Claims(claims.folder.parent).take(worker)


def places(claims: Claims) -> dict[str, set[str]]:
    return {state: claims.jobs(state) for state in ("todo", "taken", "done", "failed")}


def test_a_job_goes_through_one_pair_of_hands(claims) -> None:
    claim = take(claims, "a")
    assert claim == Claim(JOBS[0], 0, "a")
    assert places(claims) == {"todo": {*JOBS[1:]}, "taken": {JOBS[0]}, "done": set(), "failed": set()}
    claims.settle(claim, "done", {"score": 0.5})
    assert claims.results("done") == {JOBS[0]: {"score": 0.5}}
    assert places(claims)["taken"] == set()


def test_what_is_known_is_not_put_up_again(claims) -> None:
    claims.settle(take(claims, "a"), "done", {})
    claims.settle(take(claims, "a"), "failed", {})
    take(claims, "a")
    assert claims.add(JOBS) == 0
    assert claims.add([*JOBS, "new.seed-0"]) == 1


def test_it_is_over_when_nothing_is_left_in_any_hands(claims) -> None:
    held = [take(claims, "a") for _ in JOBS]
    assert take(claims, "a") is None
    assert not claims.over()
    for claim in held:
        claims.settle(claim, "done", {})
    assert claims.over()


def test_the_jobs_of_the_dead_go_on_until_too_many_have_died_over_them(claims) -> None:
    first = take(claims, "a")
    assert claims.bury("a", "by signal 9") == 1
    second = take(claims, "b")
    assert second == Claim(first.job, 1, "b")
    claims.bury("b", "by signal 9")
    assert claims.results("failed")[first.job]["error"] == "2 workers died over it, the last one by signal 9"
    assert first.job not in claims.jobs("todo")


def test_who_was_buried_alive_cannot_settle_what_others_hold(claims) -> None:
    mine = take(claims, "asleep")
    claims.bury("asleep", "without a sign of life")
    others = take(claims, "b")
    claims.settle(mine, "failed", {})
    assert mine.job == others.job
    assert places(claims)["failed"] == set()


def test_only_those_without_a_pulse_are_buried(claims) -> None:
    claims.beat("alive", {})
    claims.beat("dead", {})
    take(claims, "alive")
    dead = take(claims, "dead")
    fresh = take(claims, "fresh")  # has not told of itself yet
    for path in (claims.folder / "workers" / "dead", claims.folder / "taken" / dead.token):
        os.utime(path, (1.0, 1.0))
    assert claims.bury_stale() == 1
    assert take(claims, "next") == Claim(dead.job, 1, "next")
    assert {claim.worker for claim in claims.taken()} == {"alive", "fresh", "next"}
    os.utime(claims.folder / "taken" / fresh.token, (1.0, 1.0))
    assert claims.bury_stale() == 1


def test_what_the_dead_have_half_written_is_taken_away_and_they_are_listed_no_more(claims) -> None:
    claims.beat("idle", {"job": None})
    claims.beat("alive", {})
    dead = take(claims, "dead")
    half = [claims.folder / "taken" / f".{dead.token}.0a1b.tmp", claims.folder / "workers" / ".dead.0a1b.tmp"]
    others = claims.folder / "taken" / ".job.0@deadly.0a1b.tmp"
    for path in (*half, others):
        path.write_text("{")
    for path in (claims.folder / "workers" / "idle", claims.folder / "taken" / dead.token):
        os.utime(path, (1.0, 1.0))
    assert claims.bury_stale() == 2
    assert not any(path.exists() for path in half)
    assert others.exists()
    assert claims.workers().keys() == {"alive"}


def test_a_released_job_has_no_death_on_it(claims) -> None:
    claim = take(claims, "a")
    claims.release(claim)
    assert take(claims, "b") == Claim(claim.job, 0, "b")


def test_failed_jobs_are_tried_again_on_request(claims) -> None:
    claims.settle(take(claims, "a"), "failed", {})
    assert claims.retry([]) == 0
    assert claims.retry(claims.jobs("failed")) == 1
    assert claims.jobs("failed") == set()
    assert take(claims, "b").deaths == 0


def test_what_is_half_written_does_not_count(claims) -> None:
    for state in ("todo", "taken", "done", "failed", "workers"):
        (claims.folder / state / ".job.0@a.1234.tmp").write_text("{")
    assert [len(found) for found in places(claims).values()] == [5, 0, 0, 0]
    assert claims.workers() == {}


def test_of_many_processes_each_job_is_had_by_one(tmp_path) -> None:
    claims = Claims(tmp_path)
    jobs = [f"job-{number:03d}.seed-0" for number in range(200)]
    claims.add(jobs)
    words = [sys.executable, "-c", TAKER, str(tmp_path)]
    processes = [subprocess.Popen([*words, f"w{k}"], stdout=subprocess.PIPE, text=True) for k in range(3)]
    taken = [job for process in processes for job in process.communicate(timeout=60)[0].split()]
    assert sorted(taken) == jobs
    assert claims.over()


def test_no_two_workers_have_one_name() -> None:
    names = {new_worker() for _ in range(100)}
    assert len(names) == 100
    assert not any("@" in name or "." in name for name in names)


def test_what_was_filed_and_is_damaged_is_put_up_again(claims) -> None:
    good, bad = take(claims, "a"), take(claims, "a")
    claims.settle(good, "done", {"score": 1.0})
    claims.settle(bad, "done", {"score": 1.0})
    (claims.folder / "done" / bad.job).write_text('{"sco')
    assert claims.results("done") == {good.job: {"score": 1.0}}
    assert claims.mend() == 1
    assert bad.job in claims.jobs("todo")


def test_files_that_others_have_laid_there_are_no_jobs(claims) -> None:
    before = places(claims)
    for state in ("todo", "taken"):
        (claims.folder / state / "Thumbs.db").touch()
    assert places(claims) == before


def test_jobs_are_withdrawn_unless_somebody_is_at_work(claims) -> None:
    claims.beat("a", {"job": None})
    assert claims.withdraw(claims.jobs("todo")) == 0
    claims.leave("a")
    kept = sorted(claims.jobs("todo"))[0]
    assert claims.withdraw(claims.jobs("todo") - {kept}) == 4
    assert claims.jobs("todo") == {kept}


def test_a_rename_that_was_done_although_it_was_refused_counts(claims, monkeypatch) -> None:
    rename = os.replace

    def twice(old, new) -> None:
        rename(old, new)
        rename(old, new)

    monkeypatch.setattr(os, "replace", twice)
    assert claims.take("a") is not None
