"""PLY: what is written is the layout that viewers read, and what any tool wrote is read back."""

import struct
import tracemalloc
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from splatdream.export import ply
from splatdream.export.axes import turn
from splatdream.export.ply import REQUIRED, load_ply, read_ply, write_ply
from splatdream.splats import Splats, colours_from_sh0, sh0_from_colours

INRIA = [
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"),
    *(f"f_rest_{index}" for index in range(45)),
    *("opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
]


def cloud(count: int = 11, K: int = 0) -> Splats:
    """Unit quaternions, since they are normalised on the way out."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(3,), (4,), (3,), (), (1, 3), (K, 3)]
    splats = Splats(*(torch.randn(count, *shape, generator=generator) for shape in shapes))
    return splats.replace(quats=torch.nn.functional.normalize(splats.quats, dim=-1))


def by_hand(path) -> tuple[list[str], dict[str, np.ndarray]]:
    """Header lines and columns of a file of floats, read from its bytes alone."""
    header, _, body = path.read_bytes().partition(b"end_header\n")
    lines = header.decode("ascii").splitlines()
    names = [line.split()[2] for line in lines if line.startswith("property float ")]
    count = int(next(line for line in lines if line.startswith("element vertex ")).split()[2])
    assert len(body) == 4 * len(names) * count
    values = np.frombuffer(body, "<f4").reshape(count, len(names))
    return lines, dict(zip(names, values.T, strict=True))


def foreign(path, columns: dict[str, np.ndarray], layout: str = "binary_little_endian", header: str = "") -> None:
    """A file as another tool might write it; `columns` give order and type of the properties."""
    kinds = {"f4": "float", "f8": "double", "u1": "uchar"}
    count = len(next(iter(columns.values())))
    lines = ["ply", f"format {layout} 1.0", *header.splitlines(), f"element vertex {count}"]
    lines += [f"property {kinds[column.dtype.str[1:]]} {name}" for name, column in columns.items()]
    head = "\n".join([*lines, "end_header", ""]).encode("ascii")
    rows = list(zip(*columns.values(), strict=True))
    if layout == "ascii":
        body = "".join(" ".join(repr(value.item()) for value in row) + "\n" for row in rows).encode("ascii")
    else:
        order = "<" if layout == "binary_little_endian" else ">"
        codes = order + "".join({"f4": "f", "f8": "d", "u1": "B"}[column.dtype.str[1:]] for column in columns.values())
        body = b"".join(struct.pack(codes, *row) for row in rows)
    path.write_bytes(head + body)


def columns_of(splats: Splats) -> dict[str, np.ndarray]:
    """The properties of a cloud in y-down axes, in reverse order, without normals."""
    splats = turn(splats, target="y-down")
    rest = splats.shN.transpose(1, 2).flatten(1)
    values = {
        **{f"rot_{i}": splats.quats[:, i] for i in range(4)},
        **{f"scale_{i}": splats.log_scales[:, i] for i in range(3)},
        "opacity": splats.logit_opacities,
        **{f"f_rest_{i}": rest[:, i] for i in range(rest.shape[1])},
        **{f"f_dc_{i}": splats.sh0[:, 0, i] for i in range(3)},
        **{name: splats.means[:, i] for i, name in enumerate("zyx"[::-1])},
    }
    return {name: value.numpy() for name, value in values.items()}


def assert_same(read: Splats, expected: Splats) -> None:
    for name, value in expected.parameters().items():
        # Rotation by roots of one half and normalisation, in float32.
        torch.testing.assert_close(getattr(read, name), value, rtol=0, atol=3e-6)


@pytest.mark.parametrize("up", ["y-down", "y-up", "z-up"])
@pytest.mark.parametrize("K", [0, 3, 8, 15])
def test_what_is_written_reads_back_in_every_degree_and_convention(tmp_path, K, up):
    write_ply(cloud(K=K), tmp_path / "a.ply", up=up)
    assert_same(read_ply(tmp_path / "a.ply"), cloud(K=K))


def test_an_empty_cloud_reads_back_empty(tmp_path):
    write_ply(cloud(0), tmp_path / "a.ply")
    assert len(read_ply(tmp_path / "a.ply")) == 0


def test_the_bytes_are_the_layout_of_the_original_code(tmp_path):
    splats = cloud(15, K=15)
    # One coefficient each: what is turned is then one product, not a sum that need not round the same way twice.
    splats = splats.replace(shN=splats.shN * torch.eye(15)[..., None])
    write_ply(splats, tmp_path / "a.ply")
    lines, columns = by_hand(tmp_path / "a.ply")
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    assert list(columns) == INRIA
    down = turn(splats, target="y-down")
    expected = {
        **{name: down.means[:, i] for i, name in enumerate("xyz")},
        **{f"n{name}": torch.zeros(15) for name in "xyz"},
        **{f"f_dc_{i}": down.sh0[:, 0, i] for i in range(3)},
        # Channel by channel: fifteen of red, fifteen of green, fifteen of blue.
        **{f"f_rest_{15 * channel + k}": down.shN[:, k, channel] for channel in range(3) for k in range(15)},
        "opacity": down.logit_opacities,
        **{f"scale_{i}": down.log_scales[:, i] for i in range(3)},
    }
    for name, value in expected.items():
        assert np.array_equal(columns[name], value.numpy()), name
    rotations = np.stack([columns[f"rot_{i}"] for i in range(4)], 1)
    np.testing.assert_allclose(rotations, down.quats.numpy(), atol=1e-6)


def test_quaternions_are_written_with_unit_length_and_the_same_direction(tmp_path):
    splats = cloud().replace(quats=3.0 * cloud().quats)
    write_ply(splats, tmp_path / "a.ply")
    assert_same(read_ply(tmp_path / "a.ply"), cloud())


def test_degree_zero_has_the_rest_as_zeros_unless_it_is_left_out(tmp_path):
    # Unity and the original loader fail without them (FIELD.md, P17).
    write_ply(cloud(), tmp_path / "full.ply")
    write_ply(cloud(), tmp_path / "short.ply", rest=False)
    full, short = by_hand(tmp_path / "full.ply")[1], by_hand(tmp_path / "short.ply")[1]
    assert list(full) == INRIA
    assert not any(full[f"f_rest_{index}"].any() for index in range(45))
    assert list(short) == [name for name in INRIA if not name.startswith("f_rest")]
    for name in ("full.ply", "short.ply"):
        assert read_ply(tmp_path / name).sh_degree == 0


@pytest.mark.parametrize(
    ("up", "said", "places"),
    [
        ("y-down", "y", [[0, -1, 0], [0, 0, -1], [1, 0, 0]]),
        ("y-up", "0 1 0", [[0, 1, 0], [0, 0, 1], [1, 0, 0]]),
        ("z-up", "z", [[0, 0, 1], [0, -1, 0], [1, 0, 0]]),
    ],
)
def test_an_asset_with_red_top_green_front_and_blue_left_lies_as_the_header_says(tmp_path, up, said, places):
    asset = cloud(3).replace(
        means=torch.tensor([[0.0, 0, 1], [0, -1, 0], [1, 0, 0]]), sh0=sh0_from_colours(torch.eye(3))
    )
    write_ply(asset, tmp_path / "a.ply", up=up)
    lines, columns = by_hand(tmp_path / "a.ply")
    assert f"comment Vertical axis: {said}" in lines
    assert np.stack([columns[name] for name in "xyz"], 1).tolist() == places
    colours = 0.5 + 0.28209479177387814 * np.stack([columns[f"f_dc_{i}"] for i in range(3)], 1)
    np.testing.assert_allclose(colours, np.eye(3), atol=1e-6)


@pytest.mark.parametrize(("antialiased", "mode"), [(False, "default"), (True, "mip")])
def test_the_header_says_how_the_cloud_was_rendered(tmp_path, antialiased, mode):
    write_ply(cloud(), tmp_path / "a.ply", antialiased=antialiased)
    assert f"comment SplatRenderMode: {mode}" in by_hand(tmp_path / "a.ply")[0]


@pytest.mark.parametrize("layout", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize("K", [0, 3, 8, 15])
def test_other_orders_encodings_and_missing_normals_are_read(tmp_path, K, layout):
    foreign(tmp_path / "a.ply", columns_of(cloud(K=K)), layout)
    assert_same(read_ply(tmp_path / "a.ply"), cloud(K=K))


TOOLS = {
    "the original code": (INRIA, ""),
    "nerfstudio": (INRIA, "comment Generated by Nerfstudio 1.1.5\ncomment Vertical Axis: z"),
    "gsplat": ([name for name in INRIA if name not in ("nx", "ny", "nz")], ""),
    "Brush": (
        ["x", "y", "z", *(f"scale_{i}" for i in range(3)), "opacity", *(f"rot_{i}" for i in range(4)), *INRIA[6:54]],
        "comment Exported from Brush\ncomment Vertical axis: y\ncomment SplatRenderMode: default",
    ),
    "SuperSplat": ([*INRIA[:3], *INRIA[6:], "state"], "comment Generated by SuperSplat 2.32.0"),
    "Postshot": (INRIA, "comment Generated by Jawset Postshot\ncomment antialiased 1"),
}
"""The order of properties and the header of other tools."""


@pytest.mark.parametrize("layout", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize("tool", TOOLS)
def test_the_files_of_other_tools_are_read(tmp_path, tool, layout):
    order, header = TOOLS[tool]
    splats = cloud(5, K=15)
    values = {**columns_of(splats), **{name: np.zeros(5, "f4") for name in ("nx", "ny", "nz")}}
    values["state"] = np.arange(5, dtype="u1")
    foreign(tmp_path / "a.ply", {name: values[name] for name in order}, layout, header)
    asset = load_ply(tmp_path / "a.ply")
    expected = turn(turn(splats, target="y-down"), source="z-up" if tool == "nerfstudio" else "y-down")
    # Nine digits of a text tell any float32.
    assert_same(asset.splats, expected)
    assert asset.antialiased == (tool == "Postshot")


@pytest.mark.parametrize("kind", ["u1", "f4"])
def test_plain_colours_stand_in_for_coefficients(tmp_path, kind):
    columns = {name: value for name, value in columns_of(cloud()).items() if not name.startswith("f_dc")}
    bytes_ = np.linspace(0, 255, 11).astype("u1")
    for name in ("red", "green", "blue"):
        columns[name] = bytes_ if kind == "u1" else (bytes_ / 255).astype("f4")
    foreign(tmp_path / "a.ply", columns)
    colours = colours_from_sh0(read_ply(tmp_path / "a.ply").sh0)
    np.testing.assert_allclose(colours, np.repeat(bytes_[:, None] / 255, 3, 1), atol=1e-6)


def test_a_logit_or_a_logarithm_may_be_infinite_where_that_has_a_meaning(tmp_path):
    columns = columns_of(cloud())
    columns["opacity"] = columns["opacity"].copy()
    columns["opacity"][:2] = [np.inf, -np.inf]
    columns["scale_1"] = columns["scale_1"].copy()
    columns["scale_1"][3] = -np.inf
    foreign(tmp_path / "a.ply", columns)
    splats = read_ply(tmp_path / "a.ply")
    # As near to 0 and 1 as eight-bit formats are read.
    np.testing.assert_allclose(splats.opacities[:2], [1, 0], atol=2e-6)
    assert splats.log_scales[3, 1].exp() < 1e-37
    assert all(value.isfinite().all() for value in splats.parameters().values())


@pytest.mark.parametrize(
    "comment", ["comment SplatRenderMode: mip", "comment antialiased 1", "obj_info antialiased: 1"]
)
def test_the_header_tells_that_a_cloud_is_antialiased(tmp_path, comment):
    foreign(tmp_path / "a.ply", columns_of(cloud()), header=comment)
    assert load_ply(tmp_path / "a.ply").antialiased
    foreign(tmp_path / "b.ply", columns_of(cloud()), header="comment SplatRenderMode: default")
    assert not load_ply(tmp_path / "b.ply").antialiased


def test_a_large_file_passes_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(ply, "BLOCK", 4)
    splats = cloud(11, K=8)
    write_ply(splats, tmp_path / "a.ply")
    assert_same(read_ply(tmp_path / "a.ply"), splats)
    means = splats.means.clone()
    means[[2, 9]] = float("nan")
    with pytest.raises(ValueError, match="2 of 11 Gaussians are not finite"):
        write_ply(splats.replace(means=means), tmp_path / "b.ply")
    assert not (tmp_path / "b.ply").exists()
    content = bytearray((tmp_path / "a.ply").read_bytes())
    row = len(content) // 11 // 4 * 4
    content[-1 - row : -1] = b"\xff" * row
    (tmp_path / "c.ply").write_bytes(content)
    with pytest.raises(ValueError, match="of 11 rows are not finite"):
        read_ply(tmp_path / "c.ply")
    kept = read_ply(tmp_path / "c.ply", drop_invalid=True)
    assert_same(kept, splats.take(torch.arange(len(kept))))


@pytest.mark.parametrize("layout", ["ascii", "binary_little_endian"])
@pytest.mark.parametrize("count", [10**9, 10**12, 10**17])
def test_a_count_beyond_the_file_is_refused_before_anything_is_allocated(tmp_path, layout, count):
    foreign(tmp_path / "a.ply", columns_of(cloud(2)), layout)
    content = (tmp_path / "a.ply").read_bytes()
    for name in (b"vertex", b"face"):
        lying = content.replace(b"element vertex 2", b"element " + name + b" %d\nelement vertex 2" % count)
        (tmp_path / "a.ply").write_bytes(lying)
        tracemalloc.start()
        with pytest.raises(ValueError, match=r"a\.ply is no complete PLY file: its header tells of"):
            read_ply(tmp_path / "a.ply")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 10_000_000


def test_doubles_and_extra_properties_are_read(tmp_path):
    columns = {name: value.astype("f8") for name, value in columns_of(cloud()).items()}
    columns = {"label": np.arange(11, dtype="u1"), **columns}
    foreign(tmp_path / "a.ply", columns)
    assert_same(read_ply(tmp_path / "a.ply"), cloud())


@pytest.mark.parametrize(
    ("comment", "axes"),
    [
        ("", "y-down"),
        ("comment Vertical axis: y", "y-down"),
        ("comment Vertical Axis: z", "z-up"),
        ("comment vertical axis: 0 1 0", "y-up"),
        ("comment Vertical axis: 0.0 -1.0 0.0", "y-down"),
        ("comment made by hand\ncomment VERTICAL AXIS: Z", "z-up"),
    ],
)
def test_the_axes_are_those_that_the_header_names(tmp_path, comment, axes):
    foreign(tmp_path / "a.ply", columns_of(cloud(K=3)), header=comment)
    raw = turn(cloud(K=3), target="y-down")
    assert_same(read_ply(tmp_path / "a.ply"), turn(raw, source=axes))


def test_axes_that_are_told_win_over_the_header_and_strange_ones_are_refused(tmp_path):
    foreign(tmp_path / "a.ply", columns_of(cloud()), header="comment Vertical axis: x")
    with pytest.raises(ValueError, match="calls 'x' its vertical axis"):
        read_ply(tmp_path / "a.ply")
    assert_same(read_ply(tmp_path / "a.ply", up="y-down"), cloud())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_rows_that_are_not_finite_are_counted_and_left_out_on_request(tmp_path, value):
    columns = {name: column.astype("f8") for name, column in columns_of(cloud()).items()}
    columns["scale_1"][3] = columns["x"][7] = value
    foreign(tmp_path / "a.ply", columns)
    with pytest.raises(ValueError, match="2 of 11 rows are not finite"):
        read_ply(tmp_path / "a.ply")
    rows = torch.tensor([row for row in range(11) if row not in (3, 7)])
    assert_same(read_ply(tmp_path / "a.ply", drop_invalid=True), cloud().take(rows))


def test_a_cloud_that_is_not_finite_is_not_written(tmp_path):
    means = cloud().means
    means[4, 1] = float("nan")
    with pytest.raises(ValueError, match="1 of 11 Gaussians are not finite"):
        write_ply(cloud().replace(means=means), tmp_path / "a.ply")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_property_is_named(tmp_path, name):
    foreign(tmp_path / "a.ply", {key: value for key, value in columns_of(cloud()).items() if key != name})
    with pytest.raises(ValueError, match=f"incomplete cloud of Gaussians: its vertices lack {name}$"):
        read_ply(tmp_path / "a.ply")


def test_meshes_point_clouds_and_compressed_files_are_called_by_their_names(tmp_path):
    path = tmp_path / "a.ply"
    vertices = "element vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    face = "element face 1\nproperty list uchar int vertex_indices\n"
    points = "0 0 0\n1 0 0\n0 1 0\n"
    start = "ply\nformat ascii 1.0\n"
    path.write_text(f"{start}{vertices}{face}end_header\n{points}3 0 1 2\n", newline="\n")
    with pytest.raises(ValueError, match="is a mesh"):
        read_ply(path)
    path.write_text(f"{start}{vertices}end_header\n{points}", newline="\n")
    with pytest.raises(ValueError, match="is a point cloud: its vertices lack f_dc_0"):
        read_ply(path)
    chunk = "element chunk 1\nproperty float min_x\nelement vertex 1\nproperty uint packed_position\n"
    path.write_text(f"{start}{chunk}end_header\n0\n0\n", newline="\n")
    with pytest.raises(ValueError, match="incomplete compressed PLY: its element vertex lacks packed_rotation"):
        read_ply(path)


@pytest.mark.parametrize(
    "rest", [["f_rest_0"], [f"f_rest_{i + 1}" for i in range(9)], [f"f_rest_{i}" for i in range(72)]]
)
def test_a_number_of_coefficients_that_no_degree_has_is_refused(tmp_path, rest):
    columns = columns_of(cloud()) | {name: np.zeros(11, "f4") for name in rest}
    foreign(tmp_path / "a.ply", columns)
    with pytest.raises(ValueError, match=rf"{len(rest)} properties f_rest_\*"):
        read_ply(tmp_path / "a.ply")


def test_a_list_in_place_of_a_number_is_refused(tmp_path):
    head = "\n".join(f"property {'list uchar float' if name == 'x' else 'float'} {name}" for name in REQUIRED)
    row = " ".join(["1 0"] + ["0"] * (len(REQUIRED) - 1))
    text = f"ply\nformat ascii 1.0\nelement vertex 1\n{head}\nend_header\n{row}\n"
    (tmp_path / "a.ply").write_text(text, newline="\n")
    with pytest.raises(ValueError, match="lists where a Gaussian has numbers: x"):
        read_ply(tmp_path / "a.ply")


def written(tmp_path_factory, splats: Splats, **options) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "whole.ply"
    write_ply(splats, path, **options)
    return path.read_bytes()


@pytest.fixture(scope="module")
def with_sh(tmp_path_factory) -> bytes:
    return written(tmp_path_factory, cloud(3, K=3))


@pytest.fixture(scope="module")
def short(tmp_path_factory) -> bytes:
    return written(tmp_path_factory, cloud(2), rest=False)


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_refused_as_incomplete(tmp_path, with_sh, share):
    path = tmp_path / "a.ply"
    path.write_bytes(with_sh[: int(share * len(with_sh))])
    with pytest.raises(ValueError, match=r"a\.ply"):
        read_ply(path)


@FUZZ
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
def test_a_wrong_byte_gives_a_cloud_or_a_clear_error_and_nothing_else(tmp_path, short, place, byte):
    path = tmp_path / "a.ply"
    content = bytearray(short)
    content[int(place * len(content))] = byte
    path.write_bytes(content)
    refused = pytest.raises(ValueError, match=r"a\.ply")
    with suppress(ValueError):
        read = read_ply(path)
        assert all(value.isfinite().all() for value in read.parameters().values())
        return
    with refused:
        read_ply(path)


@pytest.mark.parametrize("layout", ["ascii", "binary_little_endian"])
@pytest.mark.parametrize("count", ["999999999999999999", "-1", "many"])
def test_an_absurd_number_of_rows_is_refused(tmp_path, layout, count):
    foreign(tmp_path / "a.ply", columns_of(cloud(2)), layout)
    content = (tmp_path / "a.ply").read_bytes()
    (tmp_path / "a.ply").write_bytes(content.replace(b"vertex 2", b"vertex " + count.encode()))
    with pytest.raises(ValueError, match="no complete PLY"):
        read_ply(tmp_path / "a.ply")


def test_a_file_that_was_read_can_be_written_again_at_once(tmp_path):
    # Windows refuses to replace a file that is still mapped into memory.
    write_ply(cloud(), tmp_path / "a.ply")
    splats = read_ply(tmp_path / "a.ply")
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert str(tmp_path / "a.ply") not in maps.read_text()
    write_ply(splats.take(torch.arange(4)), tmp_path / "a.ply")
    assert_same(splats, cloud())
    assert_same(read_ply(tmp_path / "a.ply"), cloud().take(torch.arange(4)))
