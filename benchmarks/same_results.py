"""Compare the results of a commit and of the working tree.

Both trees do the same jobs at the same time, each on one CPU with one thread, and every file that
they leave is compared: arrays, weights, rasters, tables, layers and JSON by their content, text
line by line. Versions, times and paths are left out of the comparison.

    .venv/bin/python benchmarks/same_results.py --base REVISION
    .venv/bin/python benchmarks/same_results.py --only labels,scan
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "benchmarks" / "work" / "same_results"
BASE = "42368d3"  # the last commit with a flat package

# Names of JSON keys whose values differ between two runs of one program.
_UNSTABLE_KEY = re.compile(
    r"version|seconds|time|first_start|^end$|hardware|memory|sha256|digest|fingerprint|depends_on|^files$"
    r"|manifest|^created|^made|^date|^at$|_s$|model_sha|^code$|^cpu",
)
_UNSTABLE_TEXT = (
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?(\+\d\d:\d\d|Z)?"), "<time>"),
    (re.compile(r"\b\d+(\.\d+)? ?(s|ms|min|h|seconds|minutes|CPU seconds)\b"), "<duration>"),
    (re.compile(r"(?<![.\w])(?=[0-9]*[a-f])[0-9a-f]{12,64}\b"), "<hash>"),
    (re.compile(r"craters[ -]\d+\.\d+\.\d+\S*"), "craters <version>"),
)
_HASH_LISTS = ("SHA256SUMS", "manifest.json")


def jobs(data: Path) -> dict[str, list[str]]:
    """List the commands of each job; `{answers}` stands for a store and a table of answers."""
    themis, tiles = data / "themis48", data / "themis_tiles"
    images = " ".join(str(path) for path in sorted(tiles.glob("*.tif"))[:3])
    few = "--threads 1 --seed 3"
    return {
        "demo": ["demo --out demo"],
        "supervised": [
            f"run --data {themis} --out supervised --method supervised --epochs 3 {few}",
            f"predict supervised {themis}/Xtest1.npy --out predictions.csv",
            f"evaluate supervised --data {themis} --set train",
            f"check supervised --data {themis}",
            "info supervised",
            "export supervised --out exported.onnx",
        ],
        "original": [
            f"run --data {themis} --out original --method original --network original "
            f"--initial-epochs 4 --final-epochs 3 {few}",
            "export original --out exported.keras",
            "import exported.keras --out imported",
        ],
        "unlabeled": [f"run --data {themis} --out unlabeled --method fixmatch --epochs 2 {few}"],
        "scan": [
            f"run --data {themis} --out dense --method supervised --network dense --epochs 2 "
            f"--members 1 {few}",
            f"scan {images} --model dense --out scanned --parquet",
            f"match scanned --catalogue {tiles}/robbins.csv --out matched",
            f"patches {images} --catalogue {tiles}/robbins.csv --out cut --unlabeled 50",
        ],
        "audit": ["synth --out small --labeled 200 --unlabeled 150 --test 60 --seed 5",
                  "audit --data small --out audited --repeats 1 --folds 3 --threads 1"],
        "compare": [
            "synth --out small --labeled 160 --unlabeled 60 --test 30 --seed 5",
            "compare --data small --out compared --methods supervised,original "
            "--networks original --budgets 50 --seeds 1 --folds 2 --threads 1",
        ],
        "labels": [
            "synth --out small --labeled 60 --unlabeled 40 --test 20 --seed 5",
            "{answers}",
            "labels import store.sqlite answers.csv --target small --reviewer Ann",
            "labels export store.sqlite --out exported",
            "labels merge store.sqlite small --out merged",
            "labels agree store.sqlite",
        ],
    }  # fmt: skip


def main() -> None:
    """Run the jobs in both trees and report the differences."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default=BASE, help=f"the commit to compare with [{BASE}]")
    parser.add_argument("--only", help="names of jobs, with commas between")
    parser.add_argument("--data", type=Path, help="folder of themis48 and themis_tiles")
    asked = parser.parse_args()
    data = asked.data or Path(os.environ.get("CRATERS_DATA", ROOT.parent / "shared" / "data"))
    wanted = jobs(data.resolve())
    names = asked.only.split(",") if asked.only else list(wanted)
    base = _worktree(asked.base)
    cpus = sorted(os.sched_getaffinity(0))
    differences = []
    for name in names:
        folders = WORK / "base" / name, WORK / "tree" / name
        with ThreadPoolExecutor(2) as pool:
            ended = [
                pool.submit(_run, wanted[name], tree, folder, cpu)
                for tree, folder, cpu in zip(
                    (base, ROOT), folders, (cpus[0], cpus[-1]), strict=True
                )
            ]
        for future in ended:
            future.result()
        found = list(compare_folders(*folders))
        count = sum(1 for _ in _files(folders[1]))
        print(f"{name}: {count} files, {len(found) or 'no'} differences", flush=True)
        differences += [f"{name}/{line}" for line in found]
    print("\n".join(differences))
    sys.exit(1 if differences else 0)


def _worktree(revision: str) -> Path:
    """Check the commit out next to its results; a checkout of another commit is replaced."""
    folder = WORK / "checkout"
    commit = _git("rev-parse", revision)
    if folder.is_dir() and _git("rev-parse", "HEAD", folder=folder) == commit:
        return folder
    if folder.is_dir():
        _git("worktree", "remove", "--force", str(folder))
    shutil.rmtree(WORK / "base", ignore_errors=True)
    _git("worktree", "prune")
    _git("worktree", "add", "--detach", str(folder), commit)
    return folder


def _git(*words: str, folder: Path = ROOT) -> str:
    made = subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True)
    return made.stdout.strip()


def _run(commands: list[str], tree: Path, folder: Path, cpu: int) -> None:
    """Run the commands of one job in an empty folder; keep earlier results of the base."""
    done = folder / "stdout.txt"
    if tree != ROOT and done.is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    environment = os.environ | {
        "PYTHONPATH": str(tree / "src"),
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "100",
    }
    said = []
    for command in commands:
        if command == "{answers}":
            _write_answers(folder, environment)
            continue
        words = ["taskset", "-c", str(cpu), sys.executable, "-m", "craters", *command.split()]
        made = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        if made.returncode:
            sys.exit(f"{tree.name}: craters {command}\n{made.stdout}{made.stderr}")
        said.append(f"$ craters {command}\n{made.stdout}")
    done.write_text("\n".join(said))


def _write_answers(folder: Path, environment: dict[str, str]) -> None:
    """Make a label store of a known seed, and write answers about some patches."""
    made = "from craters.labels import LabelStore; LabelStore('store.sqlite', seed=5).close()"
    subprocess.run([sys.executable, "-c", made], cwd=folder, env=environment, check=True)
    rows = [f"Xtrain1:{row},{row % 2}" for row in range(0, 60, 3)]
    rows += [f"Xtrain1_extra:{row},{'unsure' if row % 8 else 1}" for row in range(0, 40, 4)]
    (folder / "answers.csv").write_text("id,answer\n" + "\n".join(rows) + "\n")


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def compare_folders(base: Path, tree: Path) -> Iterator[str]:
    """List the files that are in one of two folders only, or that differ."""
    names = [{str(path.relative_to(folder)) for path in _files(folder)} for folder in (base, tree)]
    for name in sorted(names[0] ^ names[1]):
        yield f"{name}: only {'before' if name in names[0] else 'after'} the change"
    for name in sorted(names[0] & names[1]):
        with contextlib.suppress(KeyError):
            if (found := _difference(base / name, tree / name)) is not None:
                yield f"{name}: {found}"


def _difference(base: Path, tree: Path) -> str | None:
    if base.read_bytes() == tree.read_bytes():
        return None
    if base.name in _HASH_LISTS:
        return None  # of files that are compared themselves
    read = _READERS.get(base.suffix, _read_bytes)
    before, after = read(base), read(tree)
    if isinstance(before, list) and isinstance(after, list):
        pairs = [(a, b) for a, b in zip(before, after, strict=False) if a != b]
        if pairs:
            return (
                f"{len(pairs)} items differ; the first: {pairs[0][0]!r:.300} {pairs[0][1]!r:.300}"
            )
        return None if len(before) == len(after) else f"{len(before)} and {len(after)} items"
    return None if before == after else "another content"


def _read_bytes(path: Path) -> Any:
    return path.read_bytes()


def _read_text(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    for pattern, word in _UNSTABLE_TEXT:
        text = pattern.sub(word, text)
    return text.splitlines()


def _read_json(path: Path) -> list[tuple[str, Any]]:
    return list(_leaves(json.loads(path.read_text(encoding="utf-8")), ""))


def _read_json_lines(path: Path) -> list[tuple[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return list(_leaves([json.loads(line) for line in lines], ""))


def _read_csv(path: Path) -> list[tuple[str, Any]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(_leaves(list(csv.DictReader(stream)), ""))


def _leaves(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if not _UNSTABLE_KEY.search(key):
                yield from _leaves(inner, f"{where}.{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{where}[{number}]")
    else:
        yield where, _stable(value)


def _stable(value: Any) -> Any:
    if isinstance(value, str):
        for pattern, word in _UNSTABLE_TEXT:
            value = pattern.sub(word, value)
    return value


def _read_npz(path: Path) -> list[tuple[str, bytes]]:
    with np.load(path) as arrays:
        return [(name, arrays[name].tobytes()) for name in sorted(arrays.files)]


def _read_raster(path: Path) -> list[Any]:
    import rasterio

    with rasterio.open(path) as image:
        return [image.profile, image.tags().get("model"), image.read().tobytes()]


def _read_database(path: Path) -> list[Any]:
    """Read every row of every table of a label store or a GeoPackage."""
    found = []
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        names = [row[0] for row in database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'rtree%' "
            "ORDER BY name")]  # fmt: skip
        for name in names:
            columns = [row[1] for row in database.execute(f'PRAGMA table_info("{name}")')]
            kept = [column for column in columns if not _UNSTABLE_COLUMN.search(column)]
            quoted = ", ".join(f'"{column}"' for column in kept)
            rows = database.execute(f'SELECT {quoted} FROM "{name}"') if kept else []
            found += [(name, *map(_stable, row)) for row in rows]
    return found


def _read_onnx(path: Path) -> list[Any]:
    import onnx

    model = onnx.load(path)
    numbers = [(item.name, item.SerializeToString()) for item in model.graph.initializer]
    return [*numbers, *[(node.op_type, list(node.input)) for node in model.graph.node]]


def _read_hdf(path: Path) -> list[Any]:
    import h5py

    found: list[Any] = []
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.append((name, item[()].tobytes())) if isinstance(item, h5py.Dataset) else None
            )
        )
    return found


def _read_zip(path: Path) -> list[Any]:
    import zipfile

    with zipfile.ZipFile(path) as archive:
        return [(name, archive.getinfo(name).file_size) for name in archive.namelist()]


_UNSTABLE_COLUMN = re.compile(
    r"time|last_change|model_sha|version|seconds|^at$|^made|update|metadata"
)
_READERS: dict[str, Callable[[Path], Any]] = {
    **dict.fromkeys((".txt", ".md", ".html", ".qml", ".toml"), _read_text),
    **dict.fromkeys((".sqlite", ".gpkg"), _read_database),
    **dict.fromkeys((".h5",), _read_hdf),
    ".csv": _read_csv,
    ".json": _read_json,
    ".jsonl": _read_json_lines,
    ".npz": _read_npz,
    ".tif": _read_raster,
    ".onnx": _read_onnx,
    ".keras": _read_zip,
}  # fmt: skip


if __name__ == "__main__":
    main()
