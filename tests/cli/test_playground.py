"""`splatdream playground`: the picture, how it came about, and what is refused before the first step."""

import signal
from pathlib import Path

import pytest
from PIL import Image

SIZE = 32
"""Of the tiny prior's pictures."""


@pytest.fixture
def quick(tiny: Path) -> list[str]:
    """Flags for a run of a fraction of a second."""
    return ["--prior", str(tiny), "--device", "cpu", "--steps", "3"]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_prompt_becomes_a_picture_and_a_strip_of_how_it_came_about(call, quick, tmp_path) -> None:
    result = call("playground", "a red mug", "-o", "mug.png", *quick, "--distill", "sds:guidance_scale=7")
    assert result.exit_code == 0, result.output
    assert files(tmp_path) == ["mug.evolution.png", "mug.png"]
    picture, strip = Image.open("mug.png"), Image.open("mug.evolution.png")
    assert picture.size == (SIZE, SIZE)
    # Before each of three steps and after the last, two pixels apart.
    assert strip.size == (4 * SIZE + 3 * 2, SIZE)
    assert strip.crop((strip.width - SIZE, 0, strip.width, SIZE)).tobytes() == picture.tobytes()
    first = strip.crop((0, 0, SIZE, SIZE))
    assert first.tobytes() != picture.tobytes()
    assert "mug.png: 3 steps in" in result.stdout


@pytest.mark.parametrize("rule", ["vsd", "sdedit", "hifa:steps=2"])
@pytest.mark.parametrize("space", ["latents", "pixels"])
def test_rules_with_a_student_and_rules_that_give_pictures_paint_too(rule, space, call, quick) -> None:
    result = call("playground", "a red mug", "-o", "mug.png", *quick, "--distill", rule, "--space", space)
    assert result.exit_code == 0, result.output


def test_the_same_words_give_the_same_bytes_and_another_seed_or_azimuth_does_not(call, quick) -> None:
    found = []
    for more in ([], [], ["--seed", "1"], ["--azimuth", "180"]):
        result = call("playground", "a red mug", "-o", "mug.png", *quick, *more, "--force")
        assert result.exit_code == 0, result.output
        found.append(Path("mug.png").read_bytes())
    assert found[0] == found[1]
    assert found[0] not in found[2:]


def test_several_views_have_a_row_each(call, quick) -> None:
    result = call("playground", "a red mug", "-o", "mug.png", *quick, "--set", "views=4", "--distill", "recon:group=1")
    assert result.exit_code == 0, result.output
    assert Image.open("mug.png").size == (2 * SIZE + 2, 2 * SIZE + 2)
    assert Image.open("mug.evolution.png").size == (4 * SIZE + 3 * 2, 4 * SIZE + 3 * 2)


WRONG_USES = {
    "suffix": (["-o", "mug.ply"], "unknown picture suffix '.ply'"),
    "folder": (["-o", "nowhere/mug.png"], "the folder nowhere does not exist"),
    "distiller": (["-o", "m.png", "--distill", "sdss"], "did you mean 'sds'"),
    "option of a rule": (["-o", "m.png", "--distill", "sds:guidance=3"], "did you mean 'guidance_scale'"),
    "space": (["-o", "m.png", "--space", "pixel"], "unknown space 'pixel': choose one of latents, pixels"),
    "learning rate": (["-o", "m.png", "--learning-rate", "fast"], "--learning-rate is LOW..HIGH"),
    "no learning": (["-o", "m.png", "--learning-rate", "0.1..0"], "above 0 and finite at both ends"),
    "azimuth": (["-o", "m.png", "--azimuth", "nan"], "azimuth and elevation are degrees; got nan"),
    "key of a splat": (["-o", "m.png", "--set", "count=9"], "unknown key of the playground 'count'"),
    "no key": (["-o", "m.png", "--set", "timestep=sdi"], "did you mean 'timesteps'"),
    "value": (["-o", "m.png", "--set", "views=many"], "views is a int"),
    "steps": (["-o", "m.png", "--steps", "0"], "steps must be at least 1; got 0"),
    "prior": (["-o", "m.png", "--prior", "nowhere"], "'nowhere' is no prior"),
    "negative words": (["-o", "m.png", "--negative", "gloomy"], "'gloomy'"),
    "no negative": (["-o", "m.png", "--distill", "csd:negative_weight=0.5"], "needs a negative prompt"),
    "words of a rule": (["-o", "m.png", "--distill", "nfsd:negative=gloomy"], "does not know 'gloomy'"),
    "views one by one": (["-o", "m.png", "--distill", "recon"], "recon takes the spread over 4 views"),
    "no output": ([], "Missing option"),
}


@pytest.mark.parametrize("case", WRONG_USES)
def test_wrong_use_is_refused_in_a_sentence_before_anything_is_written(case, call, quick, tmp_path) -> None:
    words, message = WRONG_USES[case]
    result = call("playground", "a red mug", *quick, *words)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert files(tmp_path) == []


@pytest.mark.parametrize("name", ["mug.png", "mug.evolution.png"])
def test_what_exists_is_overwritten_by_force_only(name, call, quick) -> None:
    Path(name).write_text("mine")
    refused = call("playground", "a red mug", "-o", "mug.png", *quick)
    assert refused.exit_code == 2
    assert f"{name} exists; --force overwrites it" in refused.stderr
    assert Path(name).read_text() == "mine"


def test_ctrl_c_writes_the_picture_as_it_is(call, quick, monkeypatch) -> None:
    from splatdream.priors.diffusion import DiffusionPrior

    condition, calls = DiffusionPrior.condition, []

    def interrupted(self, *arguments):
        calls.append(len(calls))
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return condition(self, *arguments)

    # A shell that starts tests in the background makes them deaf to Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(DiffusionPrior, "condition", interrupted)
    result = call("playground", "a red mug", "-o", "mug.png", *quick)
    signal.signal(signal.SIGINT, before)
    assert result.exit_code == 130
    assert "stopped by Ctrl-C after step 2 of 3" in result.stdout
    assert Image.open("mug.png").size == (SIZE, SIZE)
