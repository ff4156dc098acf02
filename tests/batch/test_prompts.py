"""Prompt files: four formats of one meaning, and a line number for every mistake."""

import json

import pytest

from splatdream.batch import prompts
from splatdream.batch.prompts import Job, as_planned, job, read_jobs, read_plan, write_plan
from splatdream.recipe import Recipe

BASE = Recipe("each", steps=50, count=200)

SAME = {
    "a.csv": 'prompt,seed,lr_means\na red mug,3,\n"a ball, blue",,0.03..0.01\n',
    "a.jsonl": '{"prompt": "a red mug", "seed": 3}\n\n{"prompt": "a ball, blue", "lr_means": [0.03, 0.01]}\n',
    "a.toml": 'prompts = [{prompt = "a red mug", seed = 3}, {prompt = "a ball, blue", lr_means = [0.03, 0.01]}]\n',
}


@pytest.mark.parametrize("name", SAME)
def test_every_format_means_the_same_jobs(name, tmp_path) -> None:
    (tmp_path / name).write_text(SAME[name])
    assert [each.recipe for each in read_jobs(tmp_path / name, BASE)] == [
        BASE.replace(prompt="a red mug", seed=3),
        BASE.replace(prompt="a ball, blue", lr_means=(0.03, 0.01)),
    ]


def test_a_line_of_text_is_a_prompt_and_seeds_are_counted_up(tmp_path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffa red mug\r\n\r\na café\r\na red mug\r\n".encode())
    found = read_jobs(tmp_path / "a.txt", BASE.replace(seed=5), seeds=3)
    assert [(each.recipe.prompt, each.recipe.seed) for each in found] == [
        (prompt, seed) for prompt in ("a red mug", "a café") for seed in (5, 6, 7)
    ]


def test_keys_beside_the_prompts_of_a_toml_file_hold_for_all(tmp_path) -> None:
    (tmp_path / "a.toml").write_text('steps = 9\nprompts = ["a mug", {prompt = "a ball", steps = 7}]\n')
    assert [each.recipe.steps for each in read_jobs(tmp_path / "a.toml", BASE)] == [9, 7]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "prompt,stepz\na mug,3\n", "a.csv line 2: unknown recipe key 'stepz'.*did you mean 'steps'"),
        ("a.csv", "prompt,steps\na mug,many\n", "a.csv line 2: steps is a int"),
        ("a.csv", "prompt\na mug, a ball\n", "a.csv line 2: more cells than columns"),
        ("a.csv", 'prompt\n"a mug\na ball\n', "is no CSV: unexpected end of data; is a quote left open"),
        ("a.csv", "text\na mug\n", "a.csv has no column 'prompt'"),
        ("a.csv", "prompt,seed\n,3\n", "a.csv line 2: there is no prompt"),
        ("a.jsonl", '{"prompt": "a mug"}\n{"prompt": \n', "a.jsonl line 2 is no JSON"),
        ("a.jsonl", '["a mug"]\n', "a.jsonl line 1 is no object"),
        ("a.jsonl", '{"prompt": "a mug", "steps": 0}\n', "a.jsonl line 1: steps must be at least 1"),
        ("a.jsonl", '{"prompt": "a mug", "steps": true}\n', "a.jsonl line 1: steps is a int"),
        ("a.toml", 'prompt = "a mug"\n', "has no list prompts"),
        ("a.toml", "prompts = [3]\n", "a.toml prompt 1 is neither a text nor a table"),
        ("a.toml", "prompts = [\n", "is not a TOML file"),
        ("a.txt", "\n\n", "holds no prompt"),
        ("a.yaml", "- a mug\n", "unknown prompt file '.yaml'"),
    ],
)
def test_a_mistake_is_told_with_its_place(name, text, message, tmp_path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_jobs(tmp_path / name, BASE)


def test_bytes_that_are_no_text_are_told(tmp_path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a mug\xff\n")
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        read_jobs(tmp_path / "a.txt", BASE)


def test_names_follow_from_what_decides_the_result_and_nothing_else() -> None:
    mug = job(BASE.replace(prompt="A red mug: shiny!"))
    assert mug.name == job(BASE.replace(prompt="A red mug: shiny!")).name
    assert mug.name.startswith("a-red-mug-shiny-")
    assert job(mug.recipe.replace(seed=4)).folder == mug.folder
    assert job(mug.recipe.replace(steps=4)).folder != mug.folder
    assert job(mug.recipe.replace(prompt="../../etc")).folder.startswith("etc-")


def test_a_plan_comes_back_as_it_was_written(tmp_path) -> None:
    made = [job(BASE.replace(prompt='a "café"', lr_means=(0.03, 0.01))), job(BASE)]
    assert read_plan(tmp_path) == {}
    write_plan(tmp_path, {each.name: each for each in made})
    assert list(read_plan(tmp_path).values()) == made


@pytest.mark.parametrize("folder", ["../outside", "/tmp/outside", "a/b", "..", "", "a\\b"])
def test_a_plan_that_leads_out_of_its_batch_is_refused(folder, tmp_path) -> None:
    write_plan(tmp_path, {"x": Job(folder, Recipe("a red mug"))})
    with pytest.raises(ValueError, match="outside the batch"):
        read_plan(tmp_path)


def test_only_a_line_feed_ends_a_line(tmp_path) -> None:
    prompt = "a red mug\u2028with\x0ca blue hat"
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": prompt}, ensure_ascii=False) + "\r\n", encoding="utf-8")
    (tmp_path / "a.txt").write_text(f"{prompt}\r\n", encoding="utf-8")
    for name in ("a.jsonl", "a.txt"):
        (only,) = read_jobs(tmp_path / name, BASE, 1)
        assert only.recipe.prompt == prompt


def test_a_prompt_keeps_the_folder_that_an_earlier_version_gave_it() -> None:
    old = Job("a-red-mug-0ld", BASE)
    again, other = as_planned([job(BASE.replace(seed=7)), job(BASE.replace(steps=4))], {old.name: old})
    assert again.folder == "a-red-mug-0ld"
    assert other.folder == job(BASE.replace(steps=4)).folder


def test_two_prompts_are_never_one_job(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(prompts, "_prompt_key", lambda recipe: "the same")
    (tmp_path / "a.txt").write_text("a red mug\nA red mug!\n")
    with pytest.raises(ValueError, match=r"a\.txt line 2: a-red-mug-.* would be two jobs"):
        read_jobs(tmp_path / "a.txt", BASE)


@pytest.mark.parametrize("line", ["3", '{"folder": "mug"}', '{"folder": "mug", "rec'])
def test_a_damaged_plan_is_told_with_its_line(line, tmp_path) -> None:
    (tmp_path / "jobs.jsonl").write_text(f"{line}\n")
    with pytest.raises(ValueError, match=r"jobs\.jsonl line 1 is no job"):
        read_plan(tmp_path)
