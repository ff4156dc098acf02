"""Workers as processes: five are killed over twenty prompts, and nothing is lost or done twice."""

import os
import random
import signal
import sys
from pathlib import Path

import pytest
from tiny import tiny_prior_folder
from trials import TINY, begun, kill_while_working, whole

from splatdream.batch import local
from splatdream.batch.claims import Hopeless
from splatdream.batch.local import run_local
from splatdream.recipe import Recipe

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Recipe:
    return TINY.replace(prior=str(tiny_prior_folder(tmp_path_factory.mktemp("prior") / "tiny")))


def test_workers_die_and_their_prompts_go_on(base, tmp_path) -> None:
    jobs, claims = begun(tmp_path, [base.replace(seed=seed) for seed in range(20)], retries=10)
    kills = kill_while_working(run_local(tmp_path, claims, [ENVIRONMENT] * 2), claims, 5, random.Random(0))
    assert kills == 5
    assert whole(tmp_path, jobs, claims) == []


def test_a_batch_whose_owner_leaves_stops_and_goes_on(base, tmp_path) -> None:
    jobs, claims = begun(tmp_path, [base.replace(steps=2000)], retries=0)
    crew = run_local(tmp_path, claims, [ENVIRONMENT])
    for _ in crew:
        if any(status.get("step", 0) > 1 for status in claims.workers().values()):
            break
    crew.close()
    assert claims.jobs("todo") == {jobs[0].name}
    assert claims.workers() == {}


def test_workers_that_cannot_begin_end_the_batch_with_their_last_words(base, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(local, "FRUITLESS", 2)
    _, claims = begun(tmp_path, [base], retries=0)
    broken = ENVIRONMENT | {"PYTHONPATH": str(tmp_path / "broken")}
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "torch.py").write_text("raise ImportError('no torch here')")
    with pytest.raises(Hopeless, match="no torch here"):
        list(run_local(tmp_path, claims, [broken]))
    assert claims.jobs("todo")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_five_hundred_prompts_under_fire(base, tmp_path) -> None:
    recipes = [base.replace(seed=seed) for seed in range(500)]
    jobs, claims = begun(tmp_path, recipes, retries=50)
    kills = kill_while_working(run_local(tmp_path, claims, [ENVIRONMENT] * 2), claims, 40, random.Random(1))
    print(f"\n{len(jobs)} prompts, {kills} kills, lost or done twice: {whole(tmp_path, jobs, claims)}", file=sys.stderr)
    assert kills == 40
    assert whole(tmp_path, jobs, claims) == []


def signal_at_work(crew, claims, signum: int) -> None:
    """Sends a signal to the first worker that is in the middle of a job."""
    for _ in crew:
        working = [status["pid"] for status in claims.workers().values() if status.get("step", 0) > 1]
        if working:
            os.kill(working[0], signum)
            return


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGHUP")
def test_a_terminal_that_closes_costs_no_prompt_a_death(base, tmp_path) -> None:
    jobs, claims = begun(tmp_path, [base.replace(steps=2000)], retries=0)
    crew = run_local(tmp_path, claims, [ENVIRONMENT])
    signal_at_work(crew, claims, signal.SIGHUP)  # which comes to workers as well as to their owner, who leaves then
    crew.close()
    assert claims.results("failed") == {}
    assert claims.jobs("todo") == {jobs[0].name}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to send")
def test_a_terminated_worker_gives_its_job_back_without_a_death(base, tmp_path) -> None:
    jobs, claims = begun(tmp_path, [base.replace(steps=2000)], retries=0)
    crew = run_local(tmp_path, claims, [ENVIRONMENT])
    signal_at_work(crew, claims, signal.SIGTERM)
    for _ in crew:
        pass
    assert claims.jobs("todo") == {jobs[0].name}
    assert Path(jobs[0].output(tmp_path)).is_file()  # the splat as it is


def test_a_machine_on_which_every_prompt_fails_ends_the_batch_and_leaves_the_rest(base, tmp_path) -> None:
    recipes = [base.replace(prior=str(tmp_path / "unmounted"), seed=seed) for seed in range(8)]
    jobs, claims = begun(tmp_path, recipes, retries=1)
    with pytest.raises(Hopeless, match=r"nothing is done, the last one with exit code 1: .*unmounted"):
        list(run_local(tmp_path, claims, [ENVIRONMENT]))
    assert len(claims.jobs("failed")) <= local.FRUITLESS
    assert len(claims.jobs("todo")) >= len(jobs) - local.FRUITLESS
