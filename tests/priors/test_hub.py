"""Full models of the hub: the real client against a hub of our own on this machine."""

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from tiny import tiny_prior_folder

from splatdream.priors.diffusion import DiffusionPrior
from splatdream.priors.hub import Offer, fetch, offer
from splatdream.priors.words import FULL_MODELS

REVISION = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Serves one repository from a folder, as far as the client asks."""

    folder: Path
    repository: str

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = self.path.split("?")[0]
        if path.startswith(f"/api/models/{self.repository}"):
            files = [file for file in sorted(self.folder.rglob("*")) if file.is_file()]
            if "/tree/" in path:
                tree = [
                    {
                        "type": "file",
                        "path": file.relative_to(self.folder).as_posix(),
                        "size": file.stat().st_size,
                        "oid": REVISION,
                    }
                    for file in files
                ]
                return self.send(200, json.dumps(tree).encode(), {"Content-Type": "application/json"}, body)
            siblings = [
                {"rfilename": file.relative_to(self.folder).as_posix(), "size": file.stat().st_size} for file in files
            ]
            listing = {"id": self.repository, "sha": REVISION, "siblings": siblings}
            return self.send(200, json.dumps(listing).encode(), {"Content-Type": "application/json"}, body)
        name = path.partition(f"/{self.repository}/resolve/{REVISION}/")[2]
        if name and (self.folder / name).is_file():
            content = (self.folder / name).read_bytes()
            headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": REVISION}
            return self.send(200, content, headers, body)
        return self.send(404, b"", {"X-Error-Code": "RepoNotFound"}, body)

    def send(self, code: int, content: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(code)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *arguments) -> None: ...


@pytest.fixture
def endpoint(tmp_path, monkeypatch):
    """A hub that lacks the first of the known models and has the second."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    handler = type("OneModel", (Hub,), {"folder": tiny_prior_folder(tmp_path / "model"), "repository": FULL_MODELS[1]})
    (handler.folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"not asked for")
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_the_first_model_that_the_hub_has_is_offered_with_its_size(endpoint, tmp_path) -> None:
    found = offer(endpoint)
    assert found is not None
    assert (found.repository, found.revision) == (FULL_MODELS[1], REVISION)
    everything = sum(file.stat().st_size for file in (tmp_path / "model").rglob("*") if file.is_file())
    assert 0 < found.size < everything


def test_a_fetched_model_is_a_prior_and_holds_nothing_else(endpoint, tmp_path) -> None:
    found = offer(endpoint)
    assert found is not None
    folder = fetch(found, tmp_path / "cache", endpoint)
    assert DiffusionPrior.load(folder).image_size == 32
    assert not (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").exists()


def test_a_hub_that_cannot_be_reached_offers_nothing(monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert offer("http://127.0.0.1:9") is None


def test_four_gigabytes_take_minutes_on_a_common_line() -> None:
    assert Offer("a/b", REVISION, 4_000_000_000).minutes() == pytest.approx(5.33, abs=0.01)
