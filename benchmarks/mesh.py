"""How good the meshes are: of what was generated for the yardstick's prompts, and of splats fitted to the truth.

    python benchmarks/mesh.py --splats runs/quality      # the splats of a run of benchmarks/quality.py
    python benchmarks/mesh.py --rows ours --list tune

Splats that are missing are made, under --work. Every (row, prompt) is a cell kept there, which a change of
the splat or of the code that makes meshes makes anew.

Files are read back by another library before they are judged, vertices joined by their places. Chamfer distance is the
mean of accuracy and completeness (Mescheder et al. 2019), over the truth's surface as far as it can be seen from
anywhere, in percent of the truth's diagonal. Rates of IoU are the mesh's to the splat's, both against the truth. On a
busy machine the processor's seconds, over all threads, say more than those of the clock.
"""

import argparse
import json
import time
from hashlib import sha256
from pathlib import Path
from statistics import median

import _report as report
import manifold3d
import numpy as np
import torch
import trimesh
from _rows import dreamt, fitted_splats, look_at_splats
from PIL import Image
from scipy.spatial import KDTree

from splatdream import mesh
from splatdream.corpus.captions import caption
from splatdream.corpus.raster import draw
from splatdream.corpus.scenes import Scene, build
from splatdream.corpus.truth import Solid, render_truth, surface_points
from splatdream.export import read, write
from splatdream.inspect.compare import comparison
from splatdream.inspect.yardstick import best_turn, judging_cameras, read_scenes, turned
from splatdream.mesh.drawing import everywhere, shown
from splatdream.mesh.gltf import write_glb
from splatdream.mesh.making import Options
from splatdream.mesh.making import mesh as make
from splatdream.priors import builtin_folder
from splatdream.recipe import preset
from splatdream.render.cpu import render

LISTS = ("trained", "held_out")
ROWS = ("ours", "fitted splats")
POINTS = 20_000
FACES = 20_000
SHOWN = [0, 4, 7, 11]
ASKED = (
    "watertight, manifold, textured, one body where the object is, at most 20,000 faces: all; rate of IoU: at least "
)
ASKED += "0.9; Chamfer: at most 2.5 at the median; seconds: at most 20"


def splat_file(row: str, name: str, index: int, scene: Scene, options: argparse.Namespace) -> Path:
    """The file of a row's splat, made now if it is nowhere."""
    kind = row.replace(" ", "-")
    found = sorted(options.splats.glob(f"{name}-{index:02d}-{kind}-*.ply"), key=lambda file: file.stat().st_mtime)
    path = found[-1] if found else options.work / f"{name}-{index:02d}-{kind}-made.ply"
    if not path.exists():
        recipe = preset("normal", caption(scene), seed=0)
        write(dreamt(recipe, None) if row == "ours" else fitted_splats(scene, recipe), path)
    return path


def visible_points(solid: Solid) -> np.ndarray:
    """Points evenly on what can be seen of the truth from anywhere: parts of a solid lie inside one another."""
    points = surface_points(solid, 3 * POINTS, torch.Generator().manual_seed(0)).numpy()
    cameras, seen = everywhere(60, 384), np.zeros(len(points), bool)
    focal = float(cameras.Ks[0, 0, 0])
    for viewmat in cameras.viewmats.double().numpy():
        camera = (solid.vertices @ viewmat[:3, :3].T + viewmat[:3, 3]).astype(np.float32)
        _, _, depths = draw(camera, solid.faces, focal, 384)
        x, y, z = (points @ viewmat[:3, :3].T + viewmat[:3, 3]).T
        rows, columns = ((focal * v / z + 192).astype(int).clip(0, 383) for v in (y, x))
        seen |= (z < depths[rows, columns] + 0.01) & np.isfinite(depths[rows, columns])
    return points[seen][:POINTS]


def chamfer(surface: trimesh.Trimesh, truth: np.ndarray) -> float:
    points, _ = trimesh.sample.sample_surface(surface, POINTS, seed=0)
    accuracy, completeness = (KDTree(b).query(a)[0].mean() for a, b in ((points, truth), (truth, points)))
    return 0.5 * float(accuracy + completeness)


def checked(path: Path) -> tuple[trimesh.Trimesh, dict[str, float]]:
    """The mesh in a file, its seams closed, in our axes; and whether it is what was asked for."""
    found = trimesh.load(path, force="mesh")
    textured = found.visual.material.baseColorTexture is not None and found.visual.uv is not None
    # Places alone: trimesh would keep vertices apart that differ in their uv.
    places, where = np.unique(found.vertices, axis=0, return_inverse=True)
    solid = trimesh.Trimesh(places, where.reshape(-1)[found.faces], process=False)
    solid.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0]))
    whole = manifold3d.Manifold(manifold3d.Mesh(places.astype(np.float32), np.array(solid.faces, np.uint32)))
    return solid, {
        "watertight": float(solid.is_watertight and solid.is_winding_consistent and solid.volume > 0),
        "manifold": float(whole.status() == manifold3d.Error.NoError),
        "bodies": len(solid.split(only_watertight=False)),
        "textured": float(textured),
        "faces": len(solid.faces),
    }


def run_cell(row: str, scene: Scene, file: Path, cell: Path) -> dict:
    """Scores as JSON, a strip as PNG (splat | mesh | truth), and the mesh."""
    asset = read(file)
    began, cpu = time.monotonic(), time.process_time()
    model = make(asset.splats, render, Options(), antialiased=asset.antialiased)
    write_glb(model, cell.with_suffix(".glb"))
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    surface, scores = checked(cell.with_suffix(".glb"))
    look = look_at_splats(asset.splats, render)
    solid = turned(build(scene), best_turn(look, scene) if row == "ours" else 0.0)
    cameras = judging_cameras()
    truth = render_truth(solid, cameras)
    looks = look(cameras), shown(model, cameras), (truth.images, truth.alphas)
    splat, meshed = (comparison(*pictures, *looks[2]) for pictures in looks[:2])
    diagonal = float(np.linalg.norm(solid.vertices.max(0) - solid.vertices.min(0)))
    scores |= {
        "iou": meshed["iou"],
        "rate": meshed["iou"] / max(splat["iou"], 1e-6),
        "psnr_lost": splat["psnr"] - meshed["psnr"],
        "chamfer": 100 * chamfer(surface, visible_points(solid)) / diagonal,
        "seconds": seconds,
        "cpu": cpu,
        "expected": 2 if scene.relation == "next to" else 1,
        "prompt": caption(scene),
    }
    pictures = [(colours + (1 - alphas) * 0.75).clamp(0, 1)[SHOWN] for colours, alphas in looks]
    strip = torch.cat([picture for part in pictures for picture in part], dim=1)
    Image.fromarray((strip * 255).byte().numpy()).save(cell.with_suffix(".png"))
    cell.write_text(json.dumps(scores))
    return scores


def sound(cell: dict) -> bool:
    whole = cell["watertight"] and cell["manifold"] and cell["textured"]
    return bool(whole and cell["faces"] <= FACES and cell["bodies"] <= cell["expected"])


def summary(cells: dict[str, list[dict]]) -> str:
    titles = ("prompts", "sound", "rate min", "rate", "chamfer", "worst", "PSNR lost", "seconds", "most", "CPU s")
    lines = [f"{'row':<16}" + "".join(f"{title:>11}" for title in titles)]
    for row, found in cells.items():
        rates, distances, seconds = ([cell[key] for cell in found] for key in ("rate", "chamfer", "seconds"))
        figures = (min(rates), median(rates), median(distances), max(distances))
        more = (
            median(cell["psnr_lost"] for cell in found),
            median(seconds),
            max(seconds),
            median(cell["cpu"] for cell in found),
        )
        counts = f"{len(found):>11}{sum(map(sound, found)):>11}"
        lines.append(f"{row:<16}{counts}" + "".join(f"{figure:>11.3f}" for figure in (*figures, *more)))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", nargs="+", default=list(LISTS), help="prompt lists: trained, held_out, tune")
    parser.add_argument("--first", type=int, metavar="N", help="only the first prompts of each list")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--splats", type=Path, default=Path("runs/quality"), help="folder of a run of quality.py")
    parser.add_argument("--prompts", type=Path, default=builtin_folder().parent / "prompts.toml")
    parser.add_argument("--work", type=Path, default=Path("runs/mesh"), help="where finished cells are kept")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)

    sources = b"".join(path.read_bytes() for path in sorted(Path(str(mesh.__file__)).parent.glob("*.py")))
    cells: dict[str, list[dict]] = {}
    strips: list[Path] = []
    for row in options.rows:
        for name in options.list:
            for index, scene in enumerate(read_scenes(options.prompts, name)[: options.first]):
                file = splat_file(row, name, index, scene, options)
                key = sha256(file.read_bytes() + sources).hexdigest()[:10]
                cell = options.work / f"{name}-{index:02d}-{row.split()[0]}-{key}.json"
                scores = json.loads(cell.read_text()) if cell.exists() else run_cell(row, scene, file, cell)
                cells.setdefault(row, []).append(scores | {"list": name})
                strips += [cell.with_suffix(".png")] if row == options.rows[0] else []
                figures = f"rate {scores['rate']:.3f} chamfer {scores['chamfer']:.2f} {scores['seconds']:.1f} s"
                print(f"{row:<16}{name:<10}{scores['prompt']:<40}{figures} {sound(scores)}", flush=True)

    first = cells[options.rows[0]]
    worst = sorted(first, key=lambda cell: -cell["chamfer"])[:3]
    faulty = [cell["prompt"] for found in cells.values() for cell in found if not sound(cell)]
    text = [f"asked: {ASKED}", "", summary(cells), ""]
    text += ["worst three: " + "; ".join(f"{c['prompt']} ({c['chamfer']:.1f}, rate {c['rate']:.2f})" for c in worst)]
    text += [f"not sound: {', '.join(faulty) or 'none'}"]
    print("\n".join(text))
    report.save("mesh", "\n".join(text), {"cells": cells}, options.out)
    order = sorted(range(len(first)), key=lambda k: -first[k]["chamfer"])
    sheet = np.concatenate([np.asarray(Image.open(strips[k])) for k in order[:3] + sorted(order[3:])])
    Image.fromarray(sheet).save(options.out / "mesh.png")


if __name__ == "__main__":
    main()
