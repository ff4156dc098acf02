"""Full models of the hub: the real client against a hub of our own on this machine."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from families import sd3_folder
from shapes import shap_e_folder
from tiny import tiny_prior_folder

from splatdream.priors.diffusion import DiffusionPrior
from splatdream.priors.hub import Offer, Unavailable, check_room, chosen, fetch, offer, offer_of
from splatdream.priors.models import MODELS, NotHere, Wanted, missing
from splatdream.priors.shap_e import shape_folder
from splatdream.priors.words import choose_prior

REPOSITORY, _, REVISION = MODELS["sd21-base"].repositories[0].partition("@")
WEIGHTS = "diffusion_pytorch_model.safetensors"


class Hub(BaseHTTPRequestHandler):
    """Serves one repository from a folder, as far as the client asks."""

    folder: Path
    repository: str
    refusal: tuple[int, str] = (404, "RepoNotFound")

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
                {
                    "rfilename": file.relative_to(self.folder).as_posix(),
                    "size": file.stat().st_size,
                    "lfs": {"size": 0, "pointerSize": 0, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()},
                }
                for file in files
            ]
            listing = {"id": self.repository, "sha": REVISION, "siblings": siblings}
            return self.send(200, json.dumps(listing).encode(), {"Content-Type": "application/json"}, body)
        name = path.partition(f"/{self.repository}/resolve/{REVISION}/")[2]
        if name and (self.folder / name).is_file():
            content = (self.folder / name).read_bytes()
            headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": REVISION}
            return self.send(200, content, headers, body)
        code, reason = self.refusal
        return self.send(code, b"", {"X-Error-Code": reason}, body)

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
    handler = type("OneModel", (Hub,), {"folder": tiny_prior_folder(tmp_path / "model"), "repository": REPOSITORY})
    unet = handler.folder / "unet"
    shutil.copy(unet / WEIGHTS, unet / "diffusion_pytorch_model.fp16.safetensors")
    (unet / "diffusion_pytorch_model.bin").write_bytes(b"pickled")
    Hub.refusal = (404, "RepoNotFound")
    with served(handler) as address:
        yield address


@contextmanager
def served(handler: type[Hub]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_the_first_model_that_the_hub_has_is_offered_with_its_size(endpoint, tmp_path) -> None:
    found = offer(endpoint)
    assert found is not None
    assert (found.repository, found.revision) == (REPOSITORY, REVISION)
    everything = sum(file.stat().st_size for file in (tmp_path / "model").rglob("*") if file.is_file())
    assert 0 < found.size < everything


def test_a_fetched_model_is_a_prior_and_holds_nothing_else(endpoint, tmp_path) -> None:
    found = offer(endpoint)
    assert found is not None
    folder = fetch(found, tmp_path / "cache", endpoint)
    assert DiffusionPrior.load(folder).image_size == 32
    assert sorted(path.name for path in (folder / "unet").iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.fp16.safetensors",  # rather than the full precision
    ]


def test_a_known_name_means_the_fetched_mirror_and_is_missed_before(endpoint, tmp_path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(NotHere, match=r"neither a folder here nor fetched .*`splatdream prior fetch sd21-base`"):
        choose_prior("sd21-base", "a corgi", cache=cache)
    assert offer_of("sd21-base", endpoint=endpoint).repository == REPOSITORY
    folder = fetch(offer_of("sd21-base", endpoint=endpoint), cache, endpoint)
    assert choose_prior("sd21-base", "a red mug", cache=cache) == folder
    assert choose_prior(f"{REPOSITORY}@{REVISION};lora=style.safetensors", "a red mug", cache=cache) == folder
    with pytest.raises(NotHere):
        choose_prior(f"{REPOSITORY}@another", "a red mug", cache=cache)


def test_half_a_download_is_gone_on_with(endpoint, tmp_path) -> None:
    folder = fetch(offer_of("sd21-base", endpoint=endpoint), tmp_path / "cache", endpoint)
    (folder / "vae" / WEIGHTS).unlink()
    with pytest.raises(NotHere):
        choose_prior("sd21-base", "a red mug", cache=tmp_path / "cache")
    assert fetch(offer_of("sd21-base", endpoint=endpoint), tmp_path / "cache", endpoint) == folder
    assert (folder / "vae" / WEIGHTS).is_file()


def test_shap_e_is_fetched_from_the_revision_that_holds_safetensors(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    folder, cache = shap_e_folder(tmp_path / "shap-e"), tmp_path / "cache"
    weights = folder / "shap_e_renderer" / WEIGHTS
    old = folder / "renderer"  # lies there too, and is not asked for
    shutil.copytree(folder / "shap_e_renderer", old)
    with served(type("ShapE", (Hub,), {"folder": folder, "repository": "openai/shap-e"})) as endpoint:
        found = offer_of("openai/shap-e@refs/pr/11", endpoint=endpoint)
        snapshot = fetch(found, cache, endpoint)
        weights.rename(weights.with_suffix(".bin"))
        with pytest.raises(Unavailable, match="holds no pipeline with weights as safetensors"):
            offer_of("openai/shap-e", endpoint=endpoint)
    assert not (snapshot / "renderer").exists()
    assert shape_folder("openai/shap-e", cache) == snapshot


REFUSALS = {
    "gated": (
        (403, "GatedRepo"),
        r"is gated: accept its terms on its page, log in with `hf auth login`, then `splatdr",
    ),
    "missing": ((404, "RepoNotFound"), r"the hub has no somebody/else"),
    "revision": ((404, "RevisionNotFound"), r"somebody/else has no revision v7; leave it out"),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_what_the_hub_refuses_is_told_with_what_helps(endpoint, refusal) -> None:
    Hub.refusal, message = REFUSALS[refusal]
    with pytest.raises(Unavailable, match=message):
        offer_of("somebody/else@v7", endpoint=endpoint)


def test_without_a_hub_the_command_to_repeat_is_told(monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(Unavailable, match=r"the hub cannot be reached .*`splatdream prior fetch somebody/else`"):
        offer_of("somebody/else", endpoint="http://127.0.0.1:9")


def test_offline_mode_is_respected_and_named(monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(Unavailable, match="HF_HUB_OFFLINE forbids"):
        offer_of("somebody/else")


def test_a_disk_without_room_is_told_before_anything_is_fetched(endpoint, tmp_path, monkeypatch) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    with pytest.raises(Unavailable, match=r"has 0\.0 GB left, .*set HF_HOME to a folder on another disk"):
        fetch(offer_of("sd21-base", endpoint=endpoint), tmp_path / "cache", endpoint)
    assert not (tmp_path / "cache").exists()


def test_room_is_needed_for_what_is_not_there_yet_whatever_else_lies_there(endpoint, tmp_path, monkeypatch) -> None:
    class Usage:
        free = 1000

    found, cache = offer_of("sd21-base", endpoint=endpoint), tmp_path / "cache"
    folder = fetch(found, cache, endpoint)
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    check_room(found, cache)
    blobs = folder.parents[1] / "blobs"
    for blob in list(blobs.iterdir()):  # as those of another revision
        blob.rename(blobs / f"another-{blob.name}")
    with pytest.raises(Unavailable, match="make room"):
        check_room(found, cache)


@pytest.mark.parametrize("asked", ["@main", "", "@v1.0", "@refs/pr/3", f"@{REVISION[:8]}"])
def test_what_was_fetched_is_found_by_what_was_asked_for(asked, endpoint, tmp_path) -> None:
    cache, name = tmp_path / "cache", f"{REPOSITORY}{asked}"
    folder = fetch(offer_of(name, endpoint=endpoint), cache, endpoint)
    assert choose_prior(name, "a red mug", cache=cache) == folder
    (folder.parents[1] / "refs").rename(tmp_path / "refs")
    assert choose_prior(f"{REPOSITORY}@{REVISION[:7]}", "a red mug", cache=cache) == folder
    shutil.copytree(folder, folder.parent / (REVISION[:9] + "f" * 31))
    with pytest.raises(NotHere):  # now it could mean either
        choose_prior(f"{REPOSITORY}@{REVISION[:7]}", "a red mug", cache=cache)


def test_t5_goes_with_its_tokenizer_or_alone_but_never_the_tokenizer_alone(tmp_path) -> None:
    with pytest.raises(ValueError, match="text_encoder_3 reads what tokenizer_3 makes"):
        offer_of("sd35-medium", ("tokenizer_3",))
    folder = sd3_folder(tmp_path)
    assert missing(folder) == []
    shutil.rmtree(folder / "tokenizer_3")
    assert missing(folder) == ["tokenizer_3/tokenizer.json"]
    shutil.rmtree(folder / "text_encoder_3")
    assert missing(folder) == []


@pytest.mark.parametrize("half", ["fp16", "bf16"])
def test_weights_in_half_precision_alone_are_enough(half, tmp_path) -> None:
    folder = tiny_prior_folder(tmp_path)
    weights = folder / "unet" / WEIGHTS
    weights.rename(folder / "unet" / WEIGHTS.replace(".s", f".{half}.s"))
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert f"unet/{WEIGHTS.replace('.s', f'.{half}.s')}" in chosen(names)
    assert choose_prior(str(folder), "a red mug") == folder
    assert DiffusionPrior.load(folder).image_size == 32


@pytest.mark.parametrize("text", ["{}", '{"weight_map": {"a": ', "[]", '{"weight_map": []}'])
def test_an_index_of_weights_that_cannot_be_read_is_named(text, tmp_path) -> None:
    folder = tiny_prior_folder(tmp_path)
    (folder / "unet" / f"{WEIGHTS}.index.json").write_text(text)
    with pytest.raises(ValueError, match=r"index\.json is no index of weights; fetch or copy the folder again"):
        choose_prior(str(folder), "a red mug")


@pytest.mark.parametrize("text", ["{}", '{"model": {"type": "WordLevel"', "[]", '{"model": {"type": "WordLevel"}}'])
def test_a_tokenizer_that_cannot_be_read_is_named(text, tmp_path) -> None:
    folder = tiny_prior_folder(tmp_path)
    (folder / "tokenizer" / "tokenizer.json").write_text(text)
    with pytest.raises(ValueError, match=r"tokenizer\.json is no tokenizer \(.*\); fetch or copy the folder again"):
        choose_prior(str(folder), "a red mug")


@pytest.mark.parametrize("name", ["./nosuch", "../nosuch", "a/..", "a/.", "a/b@../../c"])
def test_a_folder_that_does_not_exist_is_no_model_of_the_hub(name, tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="is no prior: the folder does not exist"):
        choose_prior(name, "a red mug", cache=tmp_path)
    with pytest.raises(ValueError, match="is no model of the hub"):
        offer_of(name)


def test_what_is_no_model_is_told_with_the_names(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"one of sd15, .*did you mean 'sdxl'"):
        choose_prior("sdxll", "a mug", cache=tmp_path)
    with pytest.raises(ValueError, match=r"only text_encoder_3 and tokenizer_3 can be left out, not vae"):
        offer_of("sdxl", ("vae",))


def test_every_known_model_is_an_address_and_all_but_one_are_pinned() -> None:
    loose = [address for model in MODELS.values() for address in model.repositories if "@" not in address]
    assert loose == ["ashawkey/mvdream-sd2.1-diffusers"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("sd15", Wanted("sd15")),
        ("sd15;lora=a.safetensors", Wanted("sd15", loras=(("a.safetensors", 1.0),))),
        (
            r"C:\models\sd;lora=C:\a.safetensors:0.5;words=w.safetensors:<cat>;encoder=tiny",
            Wanted(r"C:\models\sd", ((r"C:\a.safetensors", 0.5),), (("w.safetensors", "<cat>"),), "tiny"),
        ),
    ],
)
def test_what_a_prior_is_said_to_be_is_read(text, wanted) -> None:
    assert Wanted.parse(text) == wanted


def test_a_settled_prior_means_the_same_from_anywhere(tmp_path) -> None:
    wanted = Wanted.parse("model;lora=a.safetensors:0.5;words=w.safetensors:<cat>;encoder=tiny")
    settled = Wanted.parse(wanted.settled(tmp_path, Path("builtin")))
    assert settled.name == str(tmp_path)
    assert settled.loras == ((str(Path.cwd() / "a.safetensors"), 0.5),)
    assert settled.words == ((str(Path.cwd() / "w.safetensors"), "<cat>"),)
    assert Wanted.parse("auto").settled(tmp_path, tmp_path) == "builtin"


@pytest.mark.parametrize("text", ["sd15;lora=", "sd15;loar=a", "sd15;lora=a.safetensors:much", "sd15;lora=a:1e9"])
def test_what_cannot_be_read_is_refused(text) -> None:
    with pytest.raises(ValueError, match=r"lora=FILE:SCALE|a scale is a number"):
        Wanted.parse(text)


def test_a_hub_that_cannot_be_reached_offers_nothing(monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert offer("http://127.0.0.1:9") is None


def test_four_gigabytes_take_minutes_on_a_common_line() -> None:
    assert Offer("a/b", REVISION, 4_000_000_000).minutes() == pytest.approx(5.33, abs=0.01)
