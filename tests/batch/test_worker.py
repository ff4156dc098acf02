"""A worker in this process: it does what `generate` does, goes on where others stopped, and survives bad prompts."""

import shutil
import threading

import pytest
from tiny import tiny_prior_folder
from trials import begun

from splatdream import runs, session
from splatdream.batch import worker
from splatdream.batch.claims import Hopeless
from splatdream.batch.results import archive, outcomes
from splatdream.batch.worker import work
from splatdream.manifest import sha256
from splatdream.recipe import Recipe


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Recipe:
    prior = tiny_prior_folder(tmp_path_factory.mktemp("prior") / "tiny")
    return Recipe("a red mug", prior=str(prior), renderer="dense", device="cpu", steps=3, views=2, count=30)


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    """Turntables of two small views, and no patience."""
    monkeypatch.setattr(worker, "VIEWS", 2)
    monkeypatch.setattr(worker, "PIXELS", 16)
    monkeypatch.setattr(worker, "POLL_SECONDS", 0.02)


def test_a_batch_makes_the_bytes_of_single_runs(base, tmp_path) -> None:
    recipes = base, base.replace(prompt="a blue ball", seed=3)
    jobs, claims = begun(tmp_path, [*recipes], retries=1)
    work(tmp_path, "a", threading.Event(), retries=1)
    assert claims.jobs("done") == {each.name for each in jobs}
    for each, recipe in zip(jobs, recipes, strict=True):
        list(session.start(recipe, tmp_path / "alone.ply"))
        assert each.output(tmp_path).read_bytes() == (tmp_path / "alone.ply").read_bytes()
        result = claims.results("done")[each.name]
        assert result["sha256"] == sha256(each.output(tmp_path))
        assert 0.0 <= result["score"] <= 1.0
        assert each.output(tmp_path).with_suffix(".gif").is_file()


def test_the_prior_is_loaded_once_for_all_jobs_that_want_the_same(base, tmp_path, monkeypatch) -> None:
    calls = []
    load = session.load_prior
    monkeypatch.setattr(session, "load_prior", lambda *words, **options: calls.append(words) or load(*words, **options))
    begun(tmp_path, [base, base.replace(seed=1), base.replace(prompt="a ball")], retries=1)
    work(tmp_path, "a", threading.Event(), retries=1)
    assert len(calls) == 1


def test_a_failing_prompt_is_told_and_the_rest_is_done(base, tmp_path) -> None:
    bad, good = base.replace(prompt="a red dragn"), base
    jobs, claims = begun(tmp_path, [bad, good], retries=1)
    work(tmp_path, "a", threading.Event(), retries=1)
    assert "does not know 'dragn'" in claims.results("failed")[jobs[0].name]["error"]
    assert claims.jobs("done") == {jobs[1].name}


def test_who_is_stopped_gives_its_job_back_with_its_state(base, tmp_path) -> None:
    (only,), claims = begun(tmp_path, [base.replace(steps=4)], retries=1)
    stop = threading.Event()
    run = runs.run_folder(only.output(tmp_path))
    log, told = runs.log, []

    def stops_at_two(folder, event, **values):
        log(folder, event, **values)
        if event == "step" and values["step"] == 2:
            told.append(values)
            stop.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "log", stops_at_two)
        work(tmp_path, "a", stop, retries=1)
    assert claims.jobs("todo") == {only.name}
    assert next(iter(runs.states(run))) == 2
    work(tmp_path, "b", threading.Event(), retries=1)
    assert [entry["step"] for entry in runs.events(run, "step")] == [1, 2, 3, 4]
    list(session.start(only.recipe, tmp_path / "alone.ply"))
    assert only.output(tmp_path).read_bytes() == (tmp_path / "alone.ply").read_bytes()


def test_a_run_that_was_finished_by_the_dead_is_not_done_again(base, tmp_path) -> None:
    (only,), claims = begun(tmp_path, [base], retries=1)
    work(tmp_path, "a", threading.Event(), retries=1)
    before = only.output(tmp_path).stat().st_mtime_ns
    (claims.folder / "done" / only.name).rename(claims.folder / "taken" / f"{only.name}.0@dead")
    claims.bury("dead", "by signal 9")
    work(tmp_path, "b", threading.Event(), retries=1)
    assert claims.results("done")[only.name]["deaths"] == 1
    assert only.output(tmp_path).stat().st_mtime_ns == before
    assert len(runs.events(runs.run_folder(only.output(tmp_path)), "begin")) == 1


def test_a_splat_that_was_deleted_is_made_again_from_the_beginning(base, tmp_path) -> None:
    (only,), claims = begun(tmp_path, [base], retries=0)
    work(tmp_path, "a", threading.Event(), retries=0)
    before = only.output(tmp_path).read_bytes()
    only.output(tmp_path).unlink()
    assert claims.retry([only.name], "done") == 1
    work(tmp_path, "b", threading.Event(), retries=0)
    assert claims.jobs("done") == {only.name}
    assert only.output(tmp_path).read_bytes() == before


def test_the_film_that_the_dead_have_half_written_is_swept_away(base, tmp_path) -> None:
    (only,), _ = begun(tmp_path, [base], retries=0)
    film = only.output(tmp_path).with_suffix(".gif")
    film.parent.mkdir()
    half = film.with_name(f".{film.name}.0a1b.tmp")
    half.write_bytes(b"GIF8")
    work(tmp_path, "a", threading.Event(), retries=0)
    assert film.is_file()
    assert not half.exists()


def test_a_folder_in_another_workers_hands_is_waited_for(base, tmp_path) -> None:
    (only,), claims = begun(tmp_path, [base], retries=1)
    output = only.output(tmp_path)
    output.parent.mkdir()
    busy = session.start(base, output)
    next(busy)  # the other one is only asleep
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(tmp_path, "b", stop), kwargs={"retries": 1})
    thread.start()
    list(busy)
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert claims.jobs("done") == {only.name}
    assert len(runs.events(runs.run_folder(output), "end")) == 1


def test_a_disk_that_fills_up_ends_the_work_and_no_job_fails_by_it(base, tmp_path, monkeypatch) -> None:
    (only,), claims = begun(tmp_path, [base], retries=0)

    def full(path: object, *others: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(worker, "write_gif", full)  # the splat is written, its film is not
        with pytest.raises(Hopeless, match="is full: make room, and begin the batch again"):
            work(tmp_path, "a", threading.Event(), retries=0)
    with monkeypatch.context() as patch:
        patch.setattr(session, "save_state", full)
        patch.setattr(runs, "finished", lambda folder: False)
        with pytest.raises(Hopeless):
            work(tmp_path, "b", threading.Event(), retries=0)
    assert claims.jobs("todo") == {only.name}
    work(tmp_path, "c", threading.Event(), retries=0)
    assert claims.results("done")[only.name]["deaths"] == 0


def test_a_seed_that_lies_in_the_archive_is_not_made_again(base, tmp_path) -> None:
    jobs, claims = begun(tmp_path, [base, base.replace(seed=1)], retries=0)
    work(tmp_path, "a", threading.Event(), retries=0)
    plan = {each.name: each for each in jobs}
    archive(outcomes(plan, claims), tmp_path)
    shutil.rmtree(claims.folder)
    _, claims = begun(tmp_path, [each.recipe for each in jobs], retries=0)
    work(tmp_path, "b", threading.Event(), retries=0)
    found = outcomes(plan, claims)
    archive(found, tmp_path)
    assert sorted(each.job.place(tmp_path).parent.name == "archive" for each in found) == [False, True]
    assert all(len(runs.events(runs.run_folder(each.job.place(tmp_path)), "begin")) == 1 for each in found)


def test_what_may_be_the_machines_fault_ends_the_worker_and_not_the_job(base, tmp_path, monkeypatch) -> None:
    (only,), claims = begun(tmp_path, [base], retries=1)

    def sick(*arguments: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with monkeypatch.context() as patch:
        patch.setattr(session, "loaded", sick)
        with pytest.raises(RuntimeError, match="CUDA error"):
            work(tmp_path, "a", threading.Event(), retries=1)
    claims.bury("a", "by what it said")
    work(tmp_path, "b", threading.Event(), retries=1)
    assert claims.results("done")[only.name]["deaths"] == 1
