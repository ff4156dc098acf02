""".sog: pictures that fit together, palettes, and files that do not."""

import json
import tracemalloc
from io import BytesIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from export.clouds import assert_near, cloud, in_order_of, tolerances
from splatdream.export import sog
from splatdream.export.axes import turn
from splatdream.export.codebook import LEVELS, codebook, nearest, palette
from splatdream.export.sog import load_sog, write_sog

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def files(tmp_path) -> dict[str, bytes]:
    """What lies in the zip of a small cloud."""
    write_sog(cloud(5, 1), tmp_path / "a.sog")
    with ZipFile(tmp_path / "a.sog") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(path, files: dict[str, bytes], meta: dict | None = None, **options) -> None:
    with ZipFile(path, "w", **options) as archive:
        for name, content in files.items():
            archive.writestr(name, json.dumps(meta) if name == "meta.json" and meta is not None else content)


def picture(pixels: np.ndarray, **options) -> bytes:
    content = BytesIO()
    Image.fromarray(pixels).save(content, **({"format": "WEBP", "lossless": True, "exact": True} | options))
    return content.getvalue()


def test_a_file_made_by_hand_is_read_as_the_specification_says(tmp_path):
    book = np.linspace(-3, 3, LEVELS).tolist()
    pixel = {name: np.zeros((1, 1, 4), np.uint8) for name in ("l", "u", "scales", "quats", "sh0", "labels")}
    pixel["l"][0, 0, :3], pixel["u"][0, 0, :3] = [0, 255, 1], [0, 255, 2]
    pixel["scales"][0, 0, :3], pixel["sh0"][0, 0] = [0, 255, 51], [255, 0, 51, 102]
    # The second of w, x, y, z is left out.
    pixel["quats"][0, 0] = [255, 0, 0, 253]
    pixel["labels"][0, 0, :2] = [1, 1]
    centroids = np.zeros((5, 64 * 3, 3), np.uint8)
    # Row 257 is the second of the fifth line.
    centroids[4, 3:6] = [[0, 51, 102], [153, 204, 255], [0, 0, 255]]
    meta = {
        "version": 2,
        "count": 1,
        "antialias": True,
        "means": {"mins": [-1, -1, -1], "maxs": [1, 2, 0], "files": ["l", "u"]},
        "scales": {"codebook": book, "files": ["scales"]},
        "quats": {"files": ["quats"]},
        "sh0": {"codebook": book, "files": ["sh0"]},
        "shN": {"count": 300, "bands": 1, "codebook": book, "files": ["centroids", "labels"]},
    }
    files = {name: picture(value) for name, value in (pixel | {"centroids": centroids}).items()}
    pack(tmp_path / "a.sog", {"meta.json": b"", **files}, meta)
    asset = load_sog(tmp_path / "a.sog", up="z-up")
    third = -1 + (2 * 256 + 1) / 65535
    expected = {
        "means": [1 - np.e, np.e**2 - 1, 1 - np.exp(-third)],
        "quats": [0.5**0.5, 0, -(0.5**0.5), -(0.5**0.5)],
        "log_scales": [-3, 3, -1.8],
        "sh0": [[3, -3, -1.8]],
        "shN": [[-3, -1.8, -0.6], [0.6, 1.8, 3], [-3, -3, 3]],
    }
    assert asset.antialiased
    np.testing.assert_allclose(asset.splats.opacities[0], 102 / 255, atol=1e-6)
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(asset.splats, name)[0], value, atol=2e-6, err_msg=name)


def test_pictures_and_meta_data_are_as_the_specification_wants_them(tmp_path, files):
    meta = json.loads(files["meta.json"])
    assert (meta["version"], meta["count"], meta["antialias"]) == (2, 5, False)
    assert meta["shN"]["bands"] == 1
    for name, content in files.items():
        if name == "meta.json":
            continue
        with Image.open(BytesIO(content)) as image:
            wide, high = (64 * 3, 1) if name == "shN_centroids.webp" else (3, 2)
            assert image.size == (wide, high)
            assert content[12:16] == b"VP8L"


def test_the_colours_of_invisible_gaussians_are_kept(tmp_path):
    splats = cloud(9).replace(logit_opacities=torch.full((9,), -20.0))
    write_sog(splats, tmp_path / "a.sog")
    assert_near(in_order_of(load_sog(tmp_path / "a.sog").splats, splats), splats, tolerances(".sog", splats))


def test_a_cloud_without_coefficients_or_of_one_has_no_more_than_it_needs(tmp_path):
    write_sog(cloud(5), tmp_path / "a.sog")
    with ZipFile(tmp_path / "a.sog") as archive:
        assert "shN_labels.webp" not in archive.namelist()
    same = cloud(500, 2)
    same = same.replace(shN=same.shN[:1].expand(500, -1, -1))
    write_sog(same, tmp_path / "b.sog")
    with ZipFile(tmp_path / "b.sog") as archive:
        assert json.loads(archive.read("meta.json"))["shN"]["count"] == 1


def test_a_codebook_bounds_the_error_and_serves_the_many():
    generator = np.random.default_rng(0)
    values = np.concatenate([generator.normal(size=5000), [-30.0, 30.0]])
    book = codebook(values)
    off = np.abs(book[nearest(values, book)] - values)
    assert off.max() <= 60 / 254 + 1e-6
    # Evenly spaced, the mean error would be a quarter of a level of 60 / 255.
    assert off.mean() < 0.25 * 60 / 255 / 3


@pytest.mark.parametrize("values", [np.zeros(0), np.array([2.5]), np.array([1.0, 1.0, 7.0])])
def test_a_codebook_of_few_values_holds_them(values):
    book = codebook(values)
    assert len(book) == LEVELS
    np.testing.assert_allclose(book[nearest(values, book)], values)


def test_a_palette_is_exact_as_long_as_it_can_be():
    rows = np.random.default_rng(0).normal(size=(20, 9)).astype(np.float32)[np.arange(100) % 20]
    labels, stand = palette(rows, 32)
    np.testing.assert_array_equal(stand[labels], rows)
    assert len(stand) == 20


def test_a_palette_that_is_too_small_keeps_clusters_apart():
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(8, 24))
    rows = centres[np.arange(640) % 8] + 0.01 * generator.normal(size=(640, 24))
    labels, stand = palette(rows, 8)
    assert len(stand) == 8
    # Clusters are of one size, so that medians fall between them.
    assert np.abs(stand[labels] - rows).max() < 0.06


def test_many_coefficients_are_averaged(tmp_path, monkeypatch):
    monkeypatch.setattr(sog, "MOST_ROWS", 128)
    splats = cloud(1000, 1)
    write_sog(splats, tmp_path / "a.sog")
    back = in_order_of(load_sog(tmp_path / "a.sog").splats, splats)
    error = (back.shN - splats.shN).square().mean()
    assert 0 < error < 0.4 * splats.shN.var()


def test_a_zip_may_be_deflated(tmp_path, files):
    pack(tmp_path / "b.sog", files, compression=ZIP_DEFLATED)
    torch.testing.assert_close(load_sog(tmp_path / "b.sog").splats.means, load_sog(tmp_path / "a.sog").splats.means)


def test_a_null_at_the_beginning_of_a_codebook_is_its_lowest_value(tmp_path, files):
    meta = json.loads(files["meta.json"])
    meta["scales"]["codebook"] = [None, *np.linspace(-4.98, 0, 255).tolist()]
    pack(tmp_path / "b.sog", files, meta)
    assert len(load_sog(tmp_path / "b.sog").splats) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda meta: meta.pop("version"), "of version 1; version 2 is read"),
        (lambda meta: meta.update(version=3), "of version 3"),
        (lambda meta: meta.update(count=-1), "counts -1 Gaussians"),
        (lambda meta: meta.update(count=True), "counts True Gaussians"),
        (lambda meta: meta.update(count=10**9), "counts 1000000000 Gaussians"),
        (lambda meta: meta.update(count=10**7), "has fewer pixels"),
        (lambda meta: meta.update(means=None), "has no files of means"),
        (lambda meta: meta["means"].update(mins=[0, 0]), "the mins of means are not 3 numbers"),
        (lambda meta: meta["means"].update(mins=[0, 0, "low"]), "the mins of means are not 3 numbers"),
        (lambda meta: meta["means"].update(maxs=[0, 0, 10**400]), "the maxs of means are not 3 numbers"),
        (lambda meta: meta["means"].update(maxs=[0, 0, float("nan")]), "5 of 5 rows are not finite"),
        (lambda meta: meta["means"].update(maxs=[0, 0, 1e300]), "rows are not finite"),
        (lambda meta: meta["means"].update(files=["means_l.webp"]), "names no file 1 for means"),
        (lambda meta: meta["means"].update(files=["means_l.webp", "../../etc/passwd"]), "has no ../../etc/passwd"),
        (lambda meta: meta["scales"].update(codebook=[0.0] * 255), "the codebook of scales are not 256 numbers"),
        (lambda meta: meta["scales"].update(codebook=[None] * 256), "the codebook of scales are not 256 numbers"),
        (lambda meta: meta["quats"].update(files=["sh0.webp"]), "do not say which component they leave out"),
        (lambda meta: meta["shN"].update(bands=4), "of degree 4; 0 to 3 are read"),
        (lambda meta: meta["shN"].update(bands=2), "a picture that is not made for it"),
        (lambda meta: meta["shN"].update(count=3), "outside of its palette of 3 rows"),
        (lambda meta: meta["shN"].update(count=-1), "a palette of -1 rows"),
        (lambda meta: meta["shN"].update(count=10**30), "a picture that is not made for it"),
    ],
)
def test_meta_data_that_do_not_fit_are_refused(tmp_path, files, change, message):
    meta = json.loads(files["meta.json"])
    change(meta)
    pack(tmp_path / "b.sog", files, meta)
    refused(tmp_path / "b.sog", message)


def refused(path, message: str) -> None:
    tracemalloc.start()
    with pytest.raises(ValueError, match=message) as error:
        load_sog(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert path.name in str(error.value)
    assert peak < 20_000_000


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("meta.json", b"{", "meta.json cannot be read"),
        ("meta.json", b"[" * 100_000, "meta.json cannot be read"),
        ("meta.json", b"\xff", "meta.json cannot be read"),
        ("meta.json", b"[2]", "of version 1"),
        ("quats.webp", b"", "quats.webp is no lossless WebP"),
        ("quats.webp", b"RIFF\x10\x00\x00\x00WEBPVP8L" + bytes(20), "quats.webp is no complete picture"),
        ("quats.webp", b"RIFF\x10\x00\x00\x00WEBPVP8L" + b"\xff" * 20, "claims to hold 1,073,741,824 bytes"),
        ("quats.webp", picture(np.zeros((2, 3, 3), np.uint8), lossless=False), "is no lossless WebP"),
        ("quats.webp", picture(np.zeros((2, 3, 3), np.uint8), format="PNG"), "is no lossless WebP"),
    ],
)
def test_files_that_are_not_what_they_are_called_are_refused(tmp_path, files, name, content, message):
    pack(tmp_path / "b.sog", files | {name: content})
    refused(tmp_path / "b.sog", message)


def test_a_missing_file_and_a_broken_zip_are_refused(tmp_path, files):
    pack(tmp_path / "b.sog", {name: content for name, content in files.items() if name != "sh0.webp"})
    refused(tmp_path / "b.sog", r"has no sh0\.webp")
    (tmp_path / "d.sog").write_bytes(b"PK" + bytes(100))
    refused(tmp_path / "d.sog", r"is no complete \.sog")


@FUZZ
@given(data=st.data())
def test_wrong_bytes_under_the_checksums_give_a_cloud_or_a_clear_error(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("fuzz")
    write_sog(cloud(5, 1), folder / "a.sog")
    with ZipFile(folder / "a.sog") as archive:
        content = {name: bytearray(archive.read(name)) for name in archive.namelist()}
    name = data.draw(st.sampled_from(sorted(content)))
    place = data.draw(st.integers(0, len(content[name]) - 1))
    new = data.draw(st.binary(min_size=1, max_size=6))
    content[name][place : place + len(new)] = new
    pack(folder / "b.sog", {key: bytes(value) for key, value in content.items()}, compression=ZIP_STORED)
    try:
        splats = load_sog(folder / "b.sog").splats
    except ValueError as error:
        assert "b.sog" in str(error)  # noqa: PT017
    else:
        assert all(value.isfinite().all() for value in splats.parameters().values())


def test_the_axes_are_those_of_a_ply(tmp_path):
    splats = cloud(50, 2)
    write_sog(splats, tmp_path / "a.sog")
    raw = load_sog(tmp_path / "a.sog", up="z-up").splats
    down = turn(splats, target="y-down")
    assert_near(in_order_of(raw, down), down, {name: 2 * value for name, value in tolerances(".sog", splats).items()})
