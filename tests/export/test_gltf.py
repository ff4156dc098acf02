"""glTF: what Khronos ratified, node by node and number by number, and documents that are not so."""

import base64
import copy
import json
import struct
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export.clouds import EXACT, assert_near, cloud
from splatdream.export.axes import rotate, turn
from splatdream.export.gltf import load_gltf, write_glb, write_gltf
from splatdream.splats import SH_C0, Splats, concatenate, sh0_from_colours

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PREFIX = "KHR_gaussian_splatting:"


def by_hand(path) -> tuple[dict, bytes]:
    """JSON and bytes of a .glb file, which are checked on the way."""
    content = path.read_bytes()
    magic, version, length = struct.unpack_from("<4sII", content)
    assert (magic, version, length) == (b"glTF", 2, len(content))
    size, kind = struct.unpack_from("<I4s", content, 12)
    assert kind == b"JSON"
    assert size % 4 == 0
    rest, kind = struct.unpack_from("<I4s", content, 20 + size)
    assert kind == b"BIN\0"
    assert 28 + size + rest == len(content)
    return json.loads(content[20 : 20 + size]), content[28 + size :]


def floats(document: dict, binary: bytes, name: str) -> np.ndarray:
    accessor = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"][name]]
    view = document["bufferViews"][accessor["bufferView"]]
    assert accessor["componentType"] == 5126
    return np.frombuffer(binary, "<f4", view["byteLength"] // 4, view["byteOffset"]).reshape(accessor["count"], -1)


def test_the_numbers_are_what_khronos_ratified(tmp_path):
    splats = cloud(7, 3)
    write_glb(splats, tmp_path / "a.glb")
    document, binary = by_hand(tmp_path / "a.glb")
    up = turn(splats, target="y-up")
    expected = {
        "POSITION": up.means,
        f"{PREFIX}ROTATION": up.quats[:, [1, 2, 3, 0]],
        f"{PREFIX}SCALE": up.scales,
        f"{PREFIX}OPACITY": up.opacities[:, None],
        f"{PREFIX}SH_DEGREE_0_COEF_0": up.sh0[:, 0],
        f"{PREFIX}SH_DEGREE_1_COEF_2": up.shN[:, 2],
        f"{PREFIX}SH_DEGREE_2_COEF_0": up.shN[:, 3],
        f"{PREFIX}SH_DEGREE_3_COEF_6": up.shN[:, 14],
    }
    for name, value in expected.items():
        np.testing.assert_allclose(floats(document, binary, name), value, atol=1e-6, err_msg=name)
    primitive = document["meshes"][0]["primitives"][0]
    assert primitive["mode"] == 0
    assert primitive["extensions"]["KHR_gaussian_splatting"] == {
        "kernel": "ellipse",
        "colorSpace": "srgb_rec709_display",
    }
    assert document["extensionsUsed"] == ["KHR_gaussian_splatting"]
    assert len(primitive["attributes"]) == 4 + 16 + 1
    places = document["accessors"][primitive["attributes"]["POSITION"]]
    np.testing.assert_allclose(places["min"], up.means.amin(0))
    np.testing.assert_allclose(places["max"], up.means.amax(0))


def test_viewers_without_the_extension_see_points_in_linear_colour(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    splats = cloud(3).replace(
        sh0=sh0_from_colours(torch.tensor([[0.5, 1.2, 0.0], [1, 1, 1], [0.02, 0.2, -1]])),
        logit_opacities=torch.tensor([0.0, 30, -30]),
    )
    write_glb(splats, tmp_path / "a.glb")
    points = next(iter(trimesh.load(tmp_path / "a.glb").geometry.values()))
    np.testing.assert_allclose(points.vertices, turn(splats, target="y-up").means, atol=1e-6)
    # The sRGB curve by its table: 0.5 is 0.214, 0.2 is 0.0331 and 0.02 is 0.00155.
    assert points.colors.tolist() == [[55, 255, 0, 128], [255, 255, 255, 255], [0, 8, 0, 0]]


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_text_and_binary_hold_the_same(tmp_path, degree):
    write_glb(cloud(9, degree), tmp_path / "a.glb")
    write_gltf(cloud(9, degree), tmp_path / "a.gltf")
    one, two = load_gltf(tmp_path / "a.glb").splats, load_gltf(tmp_path / "a.gltf").splats
    assert all(torch.equal(value, getattr(two, name)) for name, value in one.parameters().items())
    assert_near(two, cloud(9, degree), EXACT)


def document_of(splats: Splats) -> tuple[dict, bytes]:
    """A document written by hand, in y-up, with as little as there must be."""
    attributes = {
        "POSITION": splats.means,
        f"{PREFIX}ROTATION": splats.quats[:, [1, 2, 3, 0]],
        f"{PREFIX}SCALE": splats.scales,
        f"{PREFIX}OPACITY": splats.opacities[:, None],
        f"{PREFIX}SH_DEGREE_0_COEF_0": splats.sh0[:, 0],
    }
    for n in range(splats.shN.shape[1]):
        attributes[f"{PREFIX}SH_DEGREE_1_COEF_{n}"] = splats.shN[:, n]
    document = {
        "asset": {"version": "2.0"},
        "extensionsUsed": ["KHR_gaussian_splatting"],
        "nodes": [{"mesh": 0}],
        "meshes": [
            {
                "primitives": [
                    {"mode": 0, "attributes": {}, "extensions": {"KHR_gaussian_splatting": {"kernel": "ellipse"}}}
                ]
            }
        ],
        "accessors": [],
        "bufferViews": [],
        "buffers": [{}],
    }
    binary = b""
    for name, value in attributes.items():
        add(document, name, {"componentType": 5126, "count": len(splats)}, value.shape[1], {"byteOffset": len(binary)})
        document["bufferViews"][-1]["byteLength"] = 4 * value.numel()
        binary += value.contiguous().numpy().astype("<f4").tobytes()
    document["buffers"][0]["byteLength"] = len(binary)
    return document, binary


def add(document: dict, name: str, accessor: dict, width: int, view: dict) -> None:
    kind = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}[width]
    document["meshes"][0]["primitives"][0]["attributes"][name] = len(document["accessors"])
    document["accessors"].append(accessor | {"type": kind, "bufferView": len(document["bufferViews"])})
    document["bufferViews"].append({"buffer": 0} | view)


def save(path, document: dict, binary: bytes) -> None:
    """As .glb, or with the bytes in another file or in the JSON."""
    if path.suffix == ".glb":
        text = json.dumps(document).encode()
        text += b" " * (-len(text) % 4)
        binary += b"\0" * (-len(binary) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
        path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
        return
    document = copy.deepcopy(document)
    document["buffers"][0].setdefault("uri", "data:;base64," + base64.b64encode(binary).decode())
    path.write_text(json.dumps(document))


UP = turn(cloud(6, 1), target="y-up")


@pytest.mark.parametrize("name", ["a.glb", "a.gltf"])
def test_a_document_made_by_hand_is_read(tmp_path, name):
    save(tmp_path / name, *document_of(UP))
    assert_near(load_gltf(tmp_path / name).splats, cloud(6, 1), EXACT)


def test_bytes_may_lie_in_another_file_of_the_folder_but_nowhere_else(tmp_path):
    document, binary = document_of(UP)
    (tmp_path / "there").mkdir()
    for place in ("bytes.bin", "there/bytes.bin"):
        (tmp_path / place).write_bytes(binary)
    document["buffers"][0]["uri"] = "bytes.bin"
    save(tmp_path / "a.gltf", document, b"")
    assert_near(load_gltf(tmp_path / "a.gltf").splats, cloud(6, 1), EXACT)
    for uri in ("there/bytes.bin", "../bytes.bin", str(tmp_path / "bytes.bin"), "none.bin", "", ".", "http://x/y"):
        document["buffers"][0]["uri"] = uri
        save(tmp_path / "b.gltf", document, b"")
        with pytest.raises(ValueError, match="no file in the same folder"):
            load_gltf(tmp_path / "b.gltf")


def test_rows_may_have_gaps_between_them(tmp_path):
    document, binary = document_of(UP)
    wide = np.full((6, 5), np.nan, "<f4")
    wide[:, 1:4] = UP.means
    view = {"byteOffset": len(binary), "byteLength": wide.nbytes, "byteStride": 20}
    add(document, "POSITION", {"componentType": 5126, "count": 6, "byteOffset": 4}, 3, view)
    document["buffers"][0]["byteLength"] += wide.nbytes
    save(tmp_path / "a.glb", document, binary + wide.tobytes())
    assert_near(load_gltf(tmp_path / "a.glb").splats, cloud(6, 1), EXACT)


@pytest.mark.parametrize(("kind", "dtype"), [(5120, "i1"), (5122, "<i2")])
def test_quantised_rotations_and_opacities_are_read(tmp_path, kind, dtype):
    document, binary = document_of(UP)
    most, unsigned = np.iinfo(dtype).max, np.iinfo(dtype.replace("i", "u")).max
    # Rows fill whole words.
    rotations = np.rint(most * UP.quats.numpy()[:, [1, 2, 3, 0]]).astype(dtype)
    opacities = np.zeros((6, 4 // np.dtype(dtype).itemsize), dtype.replace("i", "u"))
    opacities[:, 0] = np.rint(unsigned * UP.opacities.numpy())
    for name, rows, width, number in (("ROTATION", rotations, 4, kind), ("OPACITY", opacities, 1, kind + 1)):
        view = {"byteOffset": len(binary), "byteLength": rows.nbytes, "byteStride": rows.shape[1] * rows.itemsize}
        add(document, PREFIX + name, {"componentType": number, "count": 6, "normalized": True}, width, view)
        binary += rows.tobytes()
    document["buffers"][0]["byteLength"] = len(binary)
    save(tmp_path / "a.glb", document, binary)
    allowed = EXACT | {"quats": 2 / most, "opacities": 0.5 / unsigned + 1e-6}
    assert_near(load_gltf(tmp_path / "a.glb").splats, cloud(6, 1), allowed)


def test_nodes_turn_move_and_scale_what_hangs_on_them(tmp_path):
    document, binary = document_of(UP)
    half = 0.5**0.5
    document["nodes"] = [
        {"children": [1, 2], "translation": [1, 2, 3], "scale": [2, 2, 2]},
        {"mesh": 0, "rotation": [0, half, 0, half]},
        {"mesh": 0, "matrix": [0, 3, 0, 0, -3, 0, 0, 0, 0, 0, 3, 0, 5, 0, 0, 1]},
    ]
    save(tmp_path / "a.glb", document, binary)
    # A quarter about y takes z to x; a quarter about z takes x to y.
    about_y = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    about_z = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    moved = torch.tensor([1.0, 2, 3])
    one, two = rotate(UP, about_y), rotate(UP, about_z)
    one = one.replace(means=2 * one.means + moved, log_scales=one.log_scales + np.log(2))
    two = two.replace(
        means=2 * (3 * two.means + torch.tensor([5.0, 0, 0])) + moved, log_scales=two.log_scales + np.log(6)
    )
    expected = turn(concatenate([one, two]), source="y-up")
    assert_near(load_gltf(tmp_path / "a.glb").splats, expected, {name: 6 * value for name, value in EXACT.items()})


def test_clouds_of_several_primitives_and_degrees_become_one(tmp_path):
    document, binary = document_of(UP)
    plain = copy.deepcopy(document["meshes"][0]["primitives"][0])
    plain["attributes"] = {name: index for name, index in plain["attributes"].items() if "DEGREE_1" not in name}
    mesh = {"mode": 4, "attributes": {"POSITION": 0}}
    document["meshes"][0]["primitives"] += [mesh, plain]
    document["scenes"] = [{"nodes": []}, {"nodes": [0]}]
    document["scene"] = 1
    save(tmp_path / "a.glb", document, binary)
    splats = cloud(6, 1)
    both = concatenate([splats, splats.replace(shN=torch.zeros_like(splats.shN))])
    assert_near(load_gltf(tmp_path / "a.glb").splats, both, EXACT)


def primitive(document: dict) -> dict:
    return document["meshes"][0]["primitives"][0]


def splatting(document: dict) -> dict:
    return primitive(document)["extensions"]["KHR_gaussian_splatting"]


WRONG = {
    "version": (lambda d: d["asset"].update(version="1.0"), "not of version 2"),
    "required": (lambda d: d.update(extensionsRequired=["EXT_meshopt_compression"]), "needs EXT_meshopt_compression"),
    "a mesh": (lambda d: primitive(d).pop("extensions"), "shows no Gaussians"),
    "an empty scene": (lambda d: d.update(scenes=[{}]), "shows no Gaussians"),
    "triangles": (lambda d: primitive(d).pop("mode"), "Gaussians are no points"),
    "kernel": (lambda d: splatting(d).update(kernel="cube"), "of kernel 'cube'"),
    "colours": (lambda d: splatting(d).update(colorSpace="lin_rec709_display"), "lin_rec709_display"),
    "packed": (
        lambda d: splatting(d).update(extensions={"KHR_gaussian_splatting_compression_spz_2": {}}),
        "need KHR_gaussian_splatting_compression_spz_2",
    ),
    "scale": (lambda d: primitive(d)["attributes"].pop(f"{PREFIX}SCALE"), f"lack {PREFIX}SCALE"),
    "part": (lambda d: primitive(d)["attributes"].pop(f"{PREFIX}SH_DEGREE_1_COEF_1"), "its 3 coefficients are not"),
    "degree 4": (lambda d: primitive(d)["attributes"].update({f"{PREFIX}SH_DEGREE_4_COEF_0": 4}), "its 5 coefficients"),
    "accessor": (lambda d: primitive(d)["attributes"].update(POSITION=99), "no entry 99 of accessors"),
    "negative accessor": (lambda d: primitive(d)["attributes"].update(POSITION=-1), "no entry -1 of accessors"),
    "sparse": (lambda d: d["accessors"][0].update(sparse={}), "sparse accessors"),
    "component": (lambda d: d["accessors"][0].update(componentType=5130), "has not 3 numbers"),
    "type": (lambda d: d["accessors"][0].update(type="MAT3"), "has not 3 numbers"),
    "lengths": (lambda d: d["accessors"][0].update(count=5), "different lengths"),
    "count": (lambda d: d["accessors"][0].update(count=10**15), "reaches beyond its bytes"),
    "negative count": (lambda d: d["accessors"][0].update(count=-1), "count is -1"),
    "stride": (lambda d: d["bufferViews"][0].update(byteStride=4), "reaches beyond its bytes"),
    "offset": (lambda d: d["bufferViews"][0].update(byteOffset=10**15), "reaches beyond its bytes"),
    "view": (lambda d: d["accessors"][0].pop("bufferView"), "no entry None of bufferViews"),
    "buffer": (lambda d: d["bufferViews"][0].update(buffer=1), "no entry 1 of buffers"),
    "length": (lambda d: d["buffers"][0].update(byteLength=10**12), "bytes"),
    "logarithms": (lambda d: primitive(d)["attributes"].update({f"{PREFIX}SCALE": 0}), "wrote logarithms"),
    "stretched": (lambda d: d["nodes"][0].update(scale=[1, 1, 2]), "stretches or mirrors"),
    "mirrored": (lambda d: d["nodes"][0].update(scale=[-1, 1, 1]), "stretches or mirrors"),
    "flat": (lambda d: d["nodes"][0].update(scale=[0, 0, 0]), "stretches or mirrors"),
    "matrix": (lambda d: d["nodes"][0].update(matrix=[1] * 15), "matrix of a node are not 16 numbers"),
    "rotation": (lambda d: d["nodes"][0].update(rotation=["x", 0, 0, 1]), "rotation of a node are not 4 numbers"),
    "circle": (lambda d: d.update(nodes=[{"mesh": 0, "children": [0]}], scenes=[{"nodes": [0]}]), "has two parents"),
    "node": (lambda d: d["nodes"][0].update(children=[7]), "no entry 7 of nodes"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_and_nothing_allocated(tmp_path, case):
    change, message = WRONG[case]
    document, binary = document_of(UP)
    change(document)
    path = tmp_path / "a.glb"
    save(path, document, binary)
    tracemalloc.start()
    with pytest.raises(ValueError, match=message) as error:
        load_gltf(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "a.glb" in str(error.value)
    assert peak < 10_000_000


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_are_counted(tmp_path, value):
    means = UP.means.clone()
    means[2, 1] = value
    save(tmp_path / "a.glb", *document_of(UP.replace(means=means)))
    with pytest.raises(ValueError, match="1 of 6 rows are not finite"):
        load_gltf(tmp_path / "a.glb")
    assert len(load_gltf(tmp_path / "a.glb", drop_invalid=True).splats) == 5


def test_an_opacity_beyond_one_is_no_opacity(tmp_path):
    document, binary = document_of(UP)
    primitive(document)["attributes"][f"{PREFIX}OPACITY"] = len(document["accessors"])
    sizes = np.array([0.5, 1.5, 0.2, 1, 0, 0.1], "<f4")
    add(
        document,
        f"{PREFIX}OPACITY",
        {"componentType": 5126, "count": 6},
        1,
        {"byteOffset": len(binary), "byteLength": 24},
    )
    document["buffers"][0]["byteLength"] += 24
    save(tmp_path / "a.glb", document, binary + sizes.tobytes())
    with pytest.raises(ValueError, match="1 of 6 rows are not finite"):
        load_gltf(tmp_path / "a.glb")


def places(value, path=()):
    """Where there is something in a document."""
    yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from places(inner, (*path, key))


STRANGE = st.sampled_from(
    [None, True, -1, 0, 1, 3, 10**9, 10**30, 0.5, float("nan"), "", "x", [], {}, [0], [None], [[]]]
)


@FUZZ
@given(data=st.data())
def test_strange_values_anywhere_give_a_cloud_or_a_clear_error(tmp_path, data):
    document, binary = document_of(UP)
    *above, last = data.draw(st.sampled_from([place for place in places(document) if place]))
    holder = document
    for key in above:
        holder = holder[key]
    holder[last] = data.draw(STRANGE)
    save(tmp_path / "a.glb", document, binary)
    try:
        splats = load_gltf(tmp_path / "a.glb").splats
    except ValueError as error:
        assert "a.glb" in str(error)  # noqa: PT017
    else:
        assert all(value.isfinite().all() for value in splats.parameters().values())


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"{", b"[" * 100_000, b"\xff\xfe", b'{"asset": {"version": 2}}'])
def test_text_that_is_no_gltf_is_refused(tmp_path, text):
    (tmp_path / "a.gltf").write_bytes(text)
    with pytest.raises(ValueError, match=r"a\.gltf is no glTF file that can be read"):
        load_gltf(tmp_path / "a.gltf")


def test_the_constant_coefficient_is_that_of_splat_files(tmp_path):
    save(tmp_path / "a.glb", *document_of(UP))
    document, binary = by_hand(tmp_path / "a.glb")
    stored = floats(document, binary, f"{PREFIX}SH_DEGREE_0_COEF_0")
    np.testing.assert_allclose(0.5 + SH_C0 * stored, 0.5 + SH_C0 * cloud(6, 1).sh0[:, 0], atol=1e-6)
