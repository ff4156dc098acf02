"""The doctor: what it finds is what there is, and what is broken is found."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch

from splatdream import doctor
from splatdream.render import cpu
from splatdream.render.gsplat_build import Kernels

HERE = Path("built")


@pytest.mark.parametrize(
    ("kernels", "has_cuda", "state", "text"),
    [
        (Kernels("unbuilt", HERE, 20, "/usr/local/cuda/bin/nvcc"), True, "note", "kernels not built yet: about"),
        (Kernels("no compiler", HERE, 20), True, "bad", "no nvcc"),
        (Kernels("no compiler", HERE, 20), False, "note", "needs a CUDA device"),
        (Kernels("built", HERE, 20), True, "good", "kernels built"),
        (Kernels("shipped", HERE), True, "good", "kernels shipped"),
        (Kernels("absent", HERE), True, "bad", "pip install gsplat"),
        (Kernels("no folder", HERE), True, "bad", "built cannot be made"),
        (Kernels("no folder", HERE), False, "note", "needs a CUDA device"),
    ],
)
def test_gsplat_is_bad_only_where_it_is_needed_and_cannot_be_had(kernels, has_cuda, state, text) -> None:
    found = doctor.gsplat(kernels, has_cuda)
    assert found.state == state
    assert text in found.text


def test_a_cache_that_cannot_be_written_is_bad(tmp_path) -> None:
    assert doctor.cached(tmp_path / "new").state == "good"
    (tmp_path / "file").touch()
    assert doctor.cached(tmp_path / "file" / "cache").state == "bad"


def test_a_hub_that_refuses_is_reached_and_one_that_is_silent_is_not() -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(403)

        def log_message(self, format, *arguments) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    assert doctor.hub(endpoint, offline=False).facts["reachable"]
    server.shutdown()
    server.server_close()
    silent = doctor.hub(endpoint, offline=False)
    assert not silent.facts["reachable"]
    assert "cannot be reached" in silent.text
    assert "offline" in doctor.hub(endpoint, offline=True).text
    assert "cannot be reached" in doctor.hub("http://127.0.0.1:80a", offline=False).text


def test_extras_are_those_of_the_package_without_the_developers(monkeypatch) -> None:
    needs = ["numpy>=2", 'no-such-package[all]>=1; extra == "maps"', "pytest; extra == 'dev'"]
    monkeypatch.setattr(doctor, "requires", lambda name: needs)
    assert doctor.optional() == {"maps": ["no-such-package"]}
    found = doctor.extras()
    assert found.state == "note"
    assert "maps lacks no-such-package" in found.text
    assert doctor.missing(["numpy"]) == []


def test_the_renderer_agrees_with_the_reference_and_a_wrong_one_is_found(monkeypatch) -> None:
    assert (
        doctor.disagreement(cpu.render, torch.device("cpu")) < 1e-3
    )  # sums in another order, float32; gradients are divided by their largest
    monkeypatch.setattr(doctor, "steps", lambda draw: 0.5)
    good = doctor.trial()
    assert good.state == "good"
    assert good.facts["seconds_per_step"] == 0.5
    monkeypatch.setattr(doctor, "disagreement", lambda draw, device: 0.5)
    assert doctor.trial().state == "bad"


def test_a_trial_that_fails_is_a_finding(monkeypatch) -> None:
    def broken(draw, device):
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(doctor, "disagreement", broken)
    found = doctor.trial()
    assert found.state == "bad"
    assert "no kernel image" in found.text


def test_the_trial_stops_in_time() -> None:
    ticks = iter(range(0, 1000, 6))
    assert doctor.steps(cpu.render, clock=lambda: float(next(ticks))) == 6.0
    assert next(ticks) == 18  # two steps: the second one ended after ten seconds
