"""The words of a prior, and which prior a prompt gets."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import WORDS
from transformers import AutoTokenizer
from typer.testing import CliRunner

from splatdream.priors import load_prior, words
from splatdream.priors.hub import Offer
from splatdream.priors.words import (
    FULL_MODELS,
    cached_model,
    choose_prior,
    known_words,
    nearest_words,
    unknown_words,
)
from splatdream_cli.main import app


@pytest.fixture
def builtin(tiny, monkeypatch) -> Path:
    """The tiny prior stands in for the one that ships."""
    monkeypatch.setattr(words, "builtin_folder", lambda: tiny)
    return tiny


@pytest.fixture(scope="module")
def tokenizer(tiny):
    return AutoTokenizer.from_pretrained(tiny / "tokenizer")


def test_the_known_words_are_those_of_the_tokenizer(builtin) -> None:
    assert known_words() == sorted(WORDS)


TEXTS = st.lists(st.sampled_from([*WORDS, "Red", "dragon", ",", ".", "mug,", "a.red", "<unk>", "\t", "é"]), max_size=8)


@given(TEXTS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_unknown_words_are_those_that_the_tokenizer_has_no_token_for(tiny, tokenizer, pieces) -> None:
    text = " ".join(pieces)
    unknown = unknown_words(text, tiny)
    for word in text.lower().replace(",", " ").replace(".", " ").split():
        ids = tokenizer(word, add_special_tokens=False).input_ids
        assert (tokenizer.unk_token_id in ids) == (word in unknown), word


def test_an_unknown_word_is_told_once_and_in_order(builtin) -> None:
    assert unknown_words("Dragon, a dragon on a wyvern.") == ["dragon", "on", "wyvern"]


def test_the_nearest_word_is_spelt_alike(builtin) -> None:
    assert nearest_words("Snowmen") == ["snowman"]
    assert nearest_words("quixotic") == []


NEEDED = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
    "tokenizer": "merges.txt",
}


def cached(cache: Path, address: str, revision: str = "abc", without: str = "") -> Path:
    """A model as the hub's client leaves it in its cache; empty files serve, since only paths are looked at."""
    repository = address.partition("@")[0]
    root = cache / f"models--{repository.replace('/', '--')}"
    snapshot = root / "snapshots" / revision
    for part, name in NEEDED.items():
        (snapshot / part).mkdir(parents=True)
        (snapshot / part / "config.json").touch()
        if part != without:
            (snapshot / part / name).touch()
    (snapshot / "model_index.json").write_text(json.dumps({part: ["library", "Class"] for part in NEEDED}))
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / "main").write_text(revision)
    return snapshot


def test_auto_takes_the_builtin_prior_when_it_knows_every_word(builtin, tmp_path) -> None:
    cached(tmp_path, FULL_MODELS[0])
    assert choose_prior("auto", "a red mug", cache=tmp_path) == builtin


def test_auto_takes_a_full_model_from_the_cache_for_other_words(builtin, tmp_path) -> None:
    full = cached(tmp_path, FULL_MODELS[1])
    assert choose_prior("auto", "a red dragon", cache=tmp_path) == full


def test_builtin_never_becomes_another_prior(builtin, tmp_path) -> None:
    cached(tmp_path, FULL_MODELS[0])
    with pytest.raises(ValueError, match="does not know 'dragon'"):
        choose_prior("builtin", "a red dragon", cache=tmp_path)


def test_without_a_full_model_the_error_names_words_neighbours_and_the_remedy(builtin, tmp_path) -> None:
    with pytest.raises(ValueError, match="does not know") as error:
        choose_prior("auto", "a red snowmen zzz", cache=tmp_path)
    message = str(error.value)
    assert "'snowmen' (near: snowman), 'zzz' (nothing is near)" in message
    assert "splatdream words" in message
    assert "--prior FOLDER" in message


def test_the_cached_revision_that_main_names_comes_first(tmp_path) -> None:
    cached(tmp_path, FULL_MODELS[0], "aaa")
    main = cached(tmp_path, FULL_MODELS[0], "bbb")
    assert cached_model(tmp_path) == main


def test_half_a_download_does_not_count(tmp_path) -> None:
    cached(tmp_path, FULL_MODELS[0], without="unet")
    assert cached_model(tmp_path) is None
    assert cached_model(tmp_path / "nowhere") is None
    whole = cached(tmp_path, FULL_MODELS[2])
    assert cached_model(tmp_path) == whole


def test_a_link_to_a_deleted_blob_does_not_count(tmp_path) -> None:
    snapshot = cached(tmp_path, FULL_MODELS[0], without="vae")
    try:
        (snapshot / "vae" / NEEDED["vae"]).symlink_to(tmp_path / "blobs" / "gone")
    except OSError:
        pytest.skip("this system makes no links")
    assert cached_model(tmp_path) is None


def test_a_tokenizer_that_spells_knows_every_word(tiny, tmp_path) -> None:
    folder = tmp_path / "speller"
    shutil.copytree(tiny, folder)
    (folder / "tokenizer" / "tokenizer.json").unlink()
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    assert unknown_words("floccinaucinihilipilification", folder) == []
    with pytest.raises(ValueError, match="spells"):
        known_words(folder)


def test_a_folder_that_holds_no_prior_is_named(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="the folder does not exist"):
        choose_prior(str(tmp_path / "nowhere"), "a mug")
    with pytest.raises(FileNotFoundError, match=r"has no model_index\.json"):
        choose_prior(str(tmp_path), "a mug")


def test_load_prior_follows_the_rule(builtin) -> None:
    assert load_prior("auto", "a red mug").image_size == 32  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="'dragon'"):
        load_prior("builtin", "a dragon")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, Path("/a")),
        ({"HF_HOME": "/b", "XDG_CACHE_HOME": "/c"}, Path("/b/hub")),
        ({"XDG_CACHE_HOME": "/c"}, Path("/c/huggingface/hub")),
        ({}, None),
    ],
)
def test_the_command_line_reads_where_the_hub_keeps_models(variables, expected, monkeypatch) -> None:
    from splatdream_cli.plan import hub_cache

    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hub_cache() == expected


def offered(monkeypatch, tiny: Path, *, answered: bool) -> None:
    """The hub has a model, which is fetched in no time; somebody is there to be asked or not."""
    monkeypatch.setattr("splatdream_cli.plan.offer", lambda: Offer("somebody/model", "abc", 4_300_000_000))
    monkeypatch.setattr("splatdream_cli.plan.fetch", lambda found, cache: tiny)
    monkeypatch.setattr("splatdream_cli.plan.somebody_there", lambda: answered)


def test_a_full_model_of_the_hub_is_offered_with_its_size_and_time(call, tiny, monkeypatch) -> None:
    offered(monkeypatch, tiny, answered=False)
    result = call("generate", "a red dragon", "-o", "dragon.ply")
    assert result.exit_code == 2
    assert "dragon" in result.stderr
    assert "somebody/model knows all words: 4.3 GB, 6 min" in result.stderr
    assert "splatdream prior fetch somebody/model" in result.stderr


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 2)])
def test_it_is_fetched_after_one_yes_and_never_without(tmp_path, tiny, monkeypatch, answer, code) -> None:
    offered(monkeypatch, tiny, answered=True)
    monkeypatch.chdir(tmp_path)
    flags = ["--renderer", "dense", "--device", "cpu", "--steps", "1", "--set", "views=1", "--set", "count=10"]
    # A full model spells unknown words; the tiny one stands in for it and knows this prompt's.
    monkeypatch.setattr(
        "splatdream.priors.words.unknown_words", lambda text, folder=None: ["red"] if not folder else []
    )
    result = CliRunner().invoke(app, ["generate", "a red mug", "-o", "mug.ply", *flags], input=f"{answer}\n")
    assert result.exit_code == code
    assert (tmp_path / "mug.ply").exists() == (code == 0)
