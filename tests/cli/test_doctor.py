"""`splatdream doctor`: a table for people, JSON for programs, and an exit code."""

import json


def test_the_doctor_speaks_to_people_and_programs(call, tmp_path) -> None:
    variables = {"SPLATDREAM_CACHE": str(tmp_path / "c"), "HF_HUB_OFFLINE": "1"}
    table = call("doctor", "--no-test", **variables)
    assert table.exit_code == 0, table.output
    names = ("software", "torch", "CUDA", "gsplat", "renderer", "memory", "disk", "cache", "prior", "hub", "extras")
    assert [line.split()[1] for line in table.stdout.splitlines()] == list(names)
    found = json.loads(call("doctor", "--no-test", "--json", **variables).stdout)
    assert [entry["name"] for entry in found] == list(names)
    assert found[7]["facts"]["folder"] == str(tmp_path / "c")


def test_what_is_broken_ends_with_exit_code_1(call, tmp_path) -> None:
    (tmp_path / "file").touch()
    result = call("doctor", "--no-test", SPLATDREAM_CACHE=str(tmp_path / "file"))
    assert result.exit_code == 1
    assert "FAILS cache" in result.stdout
