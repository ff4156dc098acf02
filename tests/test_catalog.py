"""The table of contents: what it names exists, and what it does not name is told with the nearest name."""

import subprocess
import sys

import pytest

from splatdream.catalog import CATALOG, choose, configured, find, parse

ENTRIES = [(kind, name) for kind, parts in CATALOG.items() for name in parts]


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_every_entry_is_there(kind, name) -> None:
    assert callable(find(kind, name))


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_every_summary_is_one_line(kind, name) -> None:
    summary = CATALOG[kind][name].summary
    assert summary
    assert "\n" not in summary


@pytest.mark.parametrize("module", ["splatdream", "splatdream.catalog", "splatdream.recipe", "splatdream.priors.words"])
def test_what_the_command_line_needs_first_imports_without_torch(module) -> None:
    check = f"import sys, {module}; print(sorted({{'torch', 'numpy', 'diffusers', 'transformers'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_misspelt_name_is_told_with_the_choices_and_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown densifier 'mcmcc': choose one of fixed, .*did you mean 'mcmc'\?"):
        find("densifier", "mcmcc")


def test_a_name_like_no_other_gets_the_choices_alone() -> None:
    with pytest.raises(ValueError, match=r"choose one of a, b$"):
        choose("letter", "quixotic", ["a", "b"])


def test_options_behind_a_name_have_the_types_of_the_defaults() -> None:
    from splatdream.densify.mcmc import MCMC

    assert configured("densifier", "mcmc:cap=50,noise=1e3") == MCMC(cap=50, noise=1000.0)
    assert configured("densifier", "mcmc") == MCMC()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mcmc:capp=3", "did you mean 'cap'"),
        ("mcmc:cap", "mcmc:cap=VALUE"),
        ("mcmc:cap=many", "mcmc:cap is a int, like"),
    ],
)
def test_options_that_a_part_does_not_have_are_refused(spec, message) -> None:
    with pytest.raises(ValueError, match=message):
        configured("densifier", spec)


def test_a_function_has_no_options() -> None:
    with pytest.raises(ValueError, match="has no options"):
        configured("renderer", "dense:radius=2")


@pytest.mark.parametrize(
    ("text", "like", "value"),
    [("3", 1, 3), ("0.5", 1.0, 0.5), ("yes", False, True), ("FALSE", True, False), ("1..2", (0.0, 1.0), (1.0, 2.0))],
)
def test_texts_are_read_as_the_type_of_the_default(text, like, value) -> None:
    assert parse(text, like, "name") == value


def test_the_public_names_of_the_package_exist() -> None:
    import splatdream

    for name in splatdream.__all__:
        assert getattr(splatdream, name) is not None
    with pytest.raises(AttributeError, match="public names: Cameras"):
        splatdream.nothing  # noqa: B018


def test_the_public_name_dream_is_the_function_however_often_and_whatever_was_imported_before() -> None:
    code = "import splatdream.loop; from splatdream import dream; from splatdream import dream as again; "
    code += "assert callable(dream) and dream is again"
    subprocess.run([sys.executable, "-c", code], check=True)
