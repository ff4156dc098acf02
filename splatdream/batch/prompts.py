"""Prompt files, and the jobs that they mean. Imports no torch.

A line of a .txt file is a prompt. The other formats may give any key of a recipe beside it: .csv in columns (an empty
cell says nothing), .jsonl in objects, .toml in `prompts = ["a red mug", {prompt = "a ball", seed = 3}]`, where keys
beside `prompts` hold for all.
"""

import csv
import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from splatdream.catalog import choose
from splatdream.export.atomic import atomic_write
from splatdream.recipe import Recipe

PLAN = "jobs.jsonl"
ARCHIVE = "archive"


@dataclass(frozen=True)
class Job:
    """One prompt with one seed; `folder` is shared by the seeds of a prompt and says all else that decides them."""

    folder: str
    recipe: Recipe

    @property
    def name(self) -> str:
        return f"{self.folder}.seed-{self.recipe.seed}"

    def output(self, batch: Path) -> Path:
        """Where the splat is made, and lies if it is the best of its prompt's."""
        return batch / self.folder / f"seed-{self.recipe.seed}.ply"

    def archived(self, batch: Path) -> Path:
        return batch / self.folder / ARCHIVE / f"seed-{self.recipe.seed}.ply"

    def place(self, batch: Path) -> Path:
        """Where the splat lies now."""
        return self.archived(batch) if self.archived(batch).is_file() else self.output(batch)


def job(recipe: Recipe) -> Job:
    digest = hashlib.sha256(_prompt_key(recipe).encode()).hexdigest()[:16]
    words = re.sub(r"[^a-z0-9]+", "-", recipe.prompt.lower())[:40].strip("-")
    return Job(f"{words or 'prompt'}-{digest}", recipe)


def read_jobs(path: Path, base: Recipe, seeds: int = 1) -> list[Job]:
    """Every prompt of a file over the recipe `base`, each with so many seeds, counted up from its own; none twice.

    ValueError with the line of what is no prompt.
    """
    reader = READERS[choose("prompt file", path.suffix.lower(), list(READERS))]
    found: dict[str, Job] = {}
    try:
        for where, table in reader(path):
            try:
                first = recipe_of(table, base, where)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
            for seed in range(first.seed, first.seed + seeds):
                made = job(first.replace(seed=seed))
                if found.setdefault(made.name, made) != made:
                    raise ValueError(f"{where}: {made.name} would be two jobs; change a word of the prompt")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from error
    if not found:
        raise ValueError(f"{path} holds no prompt")
    return list(found.values())


def recipe_of(table: dict[str, Any], base: Recipe, where: str) -> Recipe:
    """The recipe with a line's own keys; texts are read as on the command line where the recipe wants no text."""
    if not isinstance(table.get("prompt"), str) or not table["prompt"].strip():
        raise ValueError("there is no prompt")
    plain = asdict(base)
    texts = {key: value for key, value in table.items() if isinstance(value, str) and not _is_text(plain, key)}
    typed = {key: value for key, value in table.items() if key not in texts}
    recipe = base.set([f"{key}={value}" for key, value in texts.items()])
    return Recipe.from_table(asdict(recipe) | typed, where)


def _is_text(plain: dict[str, Any], key: str) -> bool:
    return isinstance(plain.get(key), str)


Lines = Iterator[tuple[str, dict[str, Any]]]


def _txt(path: Path) -> Lines:
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        if line.strip():
            yield f"{path} line {number}", {"prompt": line.strip()}


def _csv(path: Path) -> Lines:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, skipinitialspace=True, strict=True)
        if "prompt" not in (rows.fieldnames or []):
            raise ValueError(f"{path} has no column 'prompt'; its first line names {rows.fieldnames}")
        for row in _parsed(rows, path):
            where = f"{path} line {rows.line_num}"
            if None in row:
                raise ValueError(f"{where}: more cells than columns; a comma inside a prompt needs quotes around it")
            yield where, {key: value.strip() for key, value in row.items() if value and value.strip()}


def _parsed(rows: csv.DictReader, path: Path) -> Iterator[dict[str, Any]]:
    try:
        yield from rows
    except csv.Error as error:
        raise ValueError(f"{path} line {rows.line_num} is no CSV: {error}; is a quote left open before it?") from error


def _jsonl(path: Path) -> Lines:
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        try:
            table = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where} is no JSON: {error}") from error
        if not isinstance(table, dict):
            raise ValueError(f'{where} is no object, like {{"prompt": "a red mug", "seed": 3}}')
        yield where, table


def _toml(path: Path) -> Lines:
    try:
        common = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not a TOML file: {error}") from error
    prompts = common.pop("prompts", None)
    if not isinstance(prompts, list):
        raise ValueError(f'{path} has no list prompts = ["a red mug", {{prompt = "a ball", seed = 3}}]')
    for number, entry in enumerate(prompts, 1):
        table = {"prompt": entry} if isinstance(entry, str) else entry
        if not isinstance(table, dict):
            raise ValueError(f"{path} prompt {number} is neither a text nor a table: {entry!r}")
        yield f"{path} prompt {number}", common | table


READERS: dict[str, Callable[[Path], Lines]] = {".txt": _txt, ".csv": _csv, ".jsonl": _jsonl, ".toml": _toml}


def as_planned(jobs: list[Job], plan: dict[str, Job]) -> list[Job]:
    """The jobs in the folders that the plan gave their prompts, however an earlier version came to their names."""
    folders = {_prompt_key(each.recipe): each.folder for each in plan.values()}
    return [Job(folders.get(_prompt_key(each.recipe), each.folder), each.recipe) for each in jobs]


def _prompt_key(recipe: Recipe) -> str:
    return json.dumps(asdict(recipe.replace(seed=0)), sort_keys=True)


def read_plan(batch: Path) -> dict[str, Job]:
    """The jobs of a batch by their names, in order; none where it was not begun."""
    path = batch / PLAN
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    jobs = (_planned(line, f"{path} line {number}") for number, line in enumerate(lines, 1) if line)
    return {each.name: each for each in jobs}


def _planned(line: str, where: str) -> Job:
    try:
        entry = json.loads(line)
        return Job(inside(entry["folder"], where), Recipe.from_table(entry["recipe"], where))
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{where} is no job: it is damaged, or of another version ({error})") from error


def inside(folder: str, where: str) -> str:
    """`folder`, if it is the name of one beside the plan. ValueError for a path that leads elsewhere."""
    if Path(folder).name != folder or folder in ("", "..") or "\\" in folder:
        raise ValueError(f"{where} names the folder {folder!r}, which would lie outside the batch")
    return folder


def write_plan(batch: Path, jobs: dict[str, Job]) -> None:
    lines = (json.dumps({"folder": each.folder, "recipe": asdict(each.recipe)}) for each in jobs.values())
    with atomic_write(batch / PLAN) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())
