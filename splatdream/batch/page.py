"""The index of a batch: plain pages of turntables, scores and links, which need no server and no script."""

from html import escape
from pathlib import Path
from urllib.parse import quote

from splatdream import runs
from splatdream.batch.results import Outcome
from splatdream.export.atomic import atomic_write

PROMPTS = 200
"""On a page."""
STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(13em, 1fr)); gap: 1.5em; }
h2 { font-size: 1em; margin: 0; } p { margin: .2em 0; } .why { color: #b00020; }
img { width: 100%; image-rendering: auto; background: #fff; } .others img { width: 23%; } nav a { margin-right: .6em; }
"""


def write_pages(found: list[Outcome], batch: Path) -> int:
    """index.html, index-2.html, ..., and their number."""
    seeds: dict[str, list[Outcome]] = {}
    for outcome in found:
        seeds.setdefault(outcome.job.folder, []).append(outcome)
    prompts = list(seeds.values())
    pages = [prompts[start : start + PROMPTS] for start in range(0, len(prompts), PROMPTS)]
    for number, page in enumerate(pages, 1):
        with atomic_write(batch / name(number)) as file:
            file.write(document(page, number, len(pages), heading(found), batch).encode())
    return len(pages)


def name(number: int) -> str:
    return "index.html" if number == 1 else f"index-{number}.html"


def heading(found: list[Outcome]) -> str:
    states = ("done", "failed", "open", "withdrawn")
    counts = {state: sum(outcome.state == state for outcome in found) for state in states}
    return ", ".join(f"{count:,} {state}" for state, count in counts.items() if count)


def document(page: list[list[Outcome]], number: int, count: int, title: str, batch: Path) -> str:
    links = "".join(f'<a href="{name(each)}">{each}</a>' for each in range(1, count + 1)) if count > 1 else ""
    cards = "\n".join(card(seeds, batch) for seeds in page)
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>\n<style>{STYLE}</style>\n'
        f"<h1>{title}</h1>\n<nav>{links}</nav>\n<main>\n{cards}\n</main>\n<nav>{links}</nav>\n</html>\n"
    )


def card(seeds: list[Outcome], batch: Path) -> str:
    """A prompt: its best seed large, the others small, and why any failed."""
    best = next((seed for seed in seeds if seed.best), None)
    parts = [f"<h2>{escape(seeds[0].job.recipe.prompt)}</h2>"]
    if best is not None:
        splat, run = (link(path, batch) for path in (best.job.place(batch), runs.run_folder(best.job.place(batch))))
        parts.insert(0, film(best, batch))
        parts.append(
            f"<p>seed {best.job.recipe.seed}, score {best.score:.2f}, {best.told.get('gaussians', 0):,} Gaussians</p>"
            f'<p><a href="{splat}">splat</a> <a href="{run}/recipe.toml">recipe</a> '
            f'<a href="{run}/manifest.json">manifest</a></p>'
        )
    others = "".join(film(seed, batch) for seed in seeds if seed.state == "done" and not seed.best)
    parts += [f'<p class="others">{others}</p>'] if others else []
    for seed in seeds:
        if seed.state == "failed":
            parts.append(f'<p class="why">seed {seed.job.recipe.seed}: {escape(seed.told.get("error", "failed"))}</p>')
    waiting = sum(seed.state == "open" for seed in seeds)
    parts += [f"<p>{waiting} to be done</p>"] if waiting else []
    return f"<article>{''.join(parts)}</article>"


def film(outcome: Outcome, batch: Path) -> str:
    """A turntable that leads to its splat."""
    place, says = outcome.job.place(batch), f"seed {outcome.job.recipe.seed}, score {outcome.score:.2f}"
    source = link(place.with_suffix(".gif"), batch)
    return f'<a href="{link(place, batch)}"><img loading="lazy" src="{source}" alt="{says}" title="{says}"></a>'


def link(path: Path, batch: Path) -> str:
    return quote(path.relative_to(batch).as_posix())
