"""A glTF 2.0 document: its JSON, its bytes, and what they say of attributes and nodes.

ValueError, naming the file, for all that is not as the specification has it. Nothing is allocated but what lies in the
file.
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

GLB = b"glTF"
JSON_CHUNK, BINARY_CHUNK = b"JSON", b"BIN\0"
READABLE = {"KHR_gaussian_splatting", "KHR_mesh_quantization"}
COMPONENTS = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}


class Document:
    """What a .glb or .gltf file says."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        content = self.path.read_bytes()
        text, self.binary = self.chunks(content) if content[:4] == GLB else (content, None)
        try:
            self.root = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self.wrong(f"its JSON cannot be read: {error}") from error
        if not isinstance(self.root, dict) or self.get(self.get(self.root, "asset", dict), "version", str)[:2] != "2.":
            raise self.wrong("it is not of version 2")
        needed = set(map(str, self.get(self.root, "extensionsRequired", list, []))) - READABLE
        if needed:
            raise self.wrong(f"it needs {', '.join(sorted(needed))}, which is not read")
        self.buffers: dict[int, bytes] = {}

    def wrong(self, what: str) -> ValueError:
        return ValueError(f"{self.path} is no glTF file that can be read: {what}")

    def chunks(self, content: bytes) -> tuple[bytes, bytes]:
        """The JSON and the bytes of a .glb file."""
        length = int.from_bytes(content[8:12], "little")
        if content[4:8] != b"\x02\0\0\0" or not 20 <= length <= len(content):
            raise self.wrong(f"it is cut short, or not of version 2: {length:,} bytes are told, {len(content):,} there")
        found, place = {}, 12
        while place + 8 <= length:
            size = int.from_bytes(content[place : place + 4], "little")
            if place + 8 + size > length:
                raise self.wrong("one of its chunks is cut short")
            found.setdefault(content[place + 4 : place + 8], content[place + 8 : place + 8 + size])
            place += 8 + size
        if JSON_CHUNK not in found:
            raise self.wrong("it has no JSON")
        return found[JSON_CHUNK], found.get(BINARY_CHUNK, b"")

    def get(self, holder: dict, key: str, kind: type[T], default: T | None = None) -> T:
        """The value of a key, of a type; an error without it, unless there is a default."""
        found = holder.get(key, default)
        if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
            raise self.wrong(f"{key} is {'missing' if found is None else 'of a wrong type'}")
        return found

    def size(self, holder: dict, key: str, default: int | None = None) -> int:
        """A number of bytes or rows."""
        found = self.get(holder, key, int, default)
        if found < 0:
            raise self.wrong(f"{key} is {found}")
        return found

    def item(self, kind: str, index: Any) -> dict[str, Any]:
        """An entry of one of the lists at the root."""
        entries = self.get(self.root, kind, list)
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(entries):
            raise self.wrong(f"there is no entry {index!r} of {kind}")
        if not isinstance(entries[index], dict):
            raise self.wrong(f"entry {index} of {kind} is of a wrong type")
        return entries[index]

    def buffer(self, index: int) -> bytes:
        """All bytes of a buffer, from the file itself or from another one in its folder."""
        if index not in self.buffers:
            self.buffers[index] = self.fetched(self.item("buffers", index), index)
        return self.buffers[index]

    def fetched(self, buffer: dict[str, Any], index: int) -> bytes:
        if "uri" not in buffer:
            if index or self.binary is None:
                raise self.wrong(f"buffer {index} lies nowhere")
            content = self.binary
        else:
            uri = self.get(buffer, "uri", str)
            content = self.embedded(uri) if uri.startswith("data:") else self.beside(uri)
        length = self.size(buffer, "byteLength")
        if length > len(content):
            raise self.wrong(f"buffer {index} has {len(content):,} of {length:,} bytes")
        return content[:length]

    def embedded(self, uri: str) -> bytes:
        head, _, data = uri.partition(",")
        try:
            return base64.b64decode(data, validate=True) if head.endswith(";base64") else b""
        except ValueError as error:
            raise self.wrong(f"a buffer in its JSON cannot be read: {error}") from error

    def beside(self, name: str) -> bytes:
        """The bytes of another file, which must not lie outside of the folder."""
        if Path(name).name != name or not (self.path.parent / name).is_file():
            raise self.wrong(f"its buffer {name!r} is no file in the same folder")
        return (self.path.parent / name).read_bytes()

    def array(self, index: Any, width: int) -> np.ndarray:
        """The rows of an accessor as float32; normalised integers as what they stand for."""
        accessor = self.item("accessors", index)
        if "sparse" in accessor:
            raise self.wrong("sparse accessors are not read")
        kind = self.get(accessor, "componentType", int)
        if kind not in COMPONENTS or WIDTHS.get(self.get(accessor, "type", str)) != width:
            raise self.wrong(f"accessor {index} has not {width} numbers in a row")
        dtype = np.dtype(COMPONENTS[kind]).newbyteorder("<")
        count, row = self.size(accessor, "count"), width * dtype.itemsize
        view = self.item("bufferViews", accessor.get("bufferView"))
        stride = self.size(view, "byteStride", 0) or row
        start, length = self.size(view, "byteOffset", 0), self.size(view, "byteLength")
        offset = self.size(accessor, "byteOffset", 0)
        buffer = self.buffer(self.get(view, "buffer", int))
        reach = offset + stride * (count - 1) + row if count else 0
        if stride < row or reach > length or start + length > len(buffer):
            raise self.wrong(f"accessor {index} reaches beyond its bytes")
        if count == 0:
            return np.zeros((0, width), np.float32)
        rows = np.ndarray((count, width), dtype, buffer, start + offset, (stride, dtype.itemsize))
        values = rows.astype(np.float32)
        if accessor.get("normalized") is True and dtype.kind in "iu":
            values = np.maximum(values / np.iinfo(dtype).max, -1)
        return values

    def instances(self) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        """Every primitive that the scene shows, with the matrix that takes it to the world."""
        waiting = [(index, np.eye(4)) for index in self.roots()]
        seen: set[int] = set()
        while waiting:
            index, above = waiting.pop(0)
            node = self.item("nodes", index)
            if index in seen:
                raise self.wrong(f"node {index} has two parents")
            seen.add(index)
            matrix = above @ self.matrix(node)
            waiting += [(child, matrix) for child in self.get(node, "children", list, [])]
            if "mesh" in node:
                for primitive in self.get(self.item("meshes", node["mesh"]), "primitives", list):
                    if not isinstance(primitive, dict):
                        raise self.wrong("a primitive is of a wrong type")
                    yield primitive, matrix

    def roots(self) -> list[int]:
        if "scenes" in self.root:
            return self.get(self.item("scenes", self.root.get("scene", 0)), "nodes", list, [])
        nodes = self.get(self.root, "nodes", list, [])
        children = {
            str(child) for node in nodes if isinstance(node, dict) for child in self.get(node, "children", list, [])
        }
        return [index for index in range(len(nodes)) if str(index) not in children]

    def matrix(self, node: dict[str, Any]) -> np.ndarray:
        """The matrix of a node, column vectors."""
        if "matrix" in node:
            return self.numbers(node, "matrix", [0.0] * 16).reshape(4, 4).T
        x, y, z, w = self.numbers(node, "rotation", [0.0, 0.0, 0.0, 1.0])
        turned = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
        matrix = np.eye(4)
        matrix[:3, :3] = np.array(turned) * self.numbers(node, "scale", [1.0, 1.0, 1.0])
        matrix[:3, 3] = self.numbers(node, "translation", [0.0, 0.0, 0.0])
        return matrix

    def numbers(self, node: dict[str, Any], key: str, default: list[float]) -> np.ndarray:
        found = self.get(node, key, list, default)
        good = [value for value in found if isinstance(value, (int, float)) and abs(value) < 1e30]
        if len(good) != len(found) or len(found) != len(default):
            raise self.wrong(f"the {key} of a node are not {len(default)} numbers")
        return np.array(good, np.float64)


def glb(document: dict[str, Any], binary: bytes) -> bytes:
    """The bytes of a .glb file."""
    text = json.dumps(document, separators=(",", ":")).encode("ascii")
    chunks = []
    for kind, content, fill in ((JSON_CHUNK, text, b" "), (BINARY_CHUNK, binary, b"\0")):
        content += fill * (-len(content) % 4)
        chunks += [len(content).to_bytes(4, "little"), kind, content]
    length = 12 + sum(map(len, chunks))
    return b"".join([GLB, b"\x02\0\0\0", length.to_bytes(4, "little"), *chunks])
