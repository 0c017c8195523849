"""`craters scan`: workers, memory, reading and writing, kills, the dense form against others."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import harness
from harness import FOLDER, ROOT, WORK, Bench, BenchError, Row, RowStore
from keras_parity import tensorflow_python, tensorflow_versions

NAME = "scan"
TITLE = "`craters scan`: time, memory, kills"
ROUNDS = 5
KILLS = 30
SIDE = 9000  # pixels of the image that workers share
KERAS_SIDE = 1992  # so that windows of both strides end with the image
TOLERANCE = 1e-4  # of probabilities, between the contenders

_PEERS = FOLDER / "peers"
_PLACE = WORK / NAME
_CODE = (
    "classifier", "detections", "gaps", "geo_files", "masks", "onnx_graph", "raster", "scan",
    "scan_grid", "scan_output", "scan_plan", "scan_predict", "scan_report", "scan_result",
    "scan_store", "scan_work",
)  # fmt: skip
_TITLES = {
    "wall_s": ["wall seconds", 1],
    "cpu_s": ["CPU seconds", 1],
    "peak_mib": ["peak memory, MiB", 0],
    "large_wall_s": ["wall seconds", 0],
    "large_peak_mib": ["peak memory, MiB", 0],
    "map_s": ["seconds", 2],
    "windows_per_s": ["windows a second", 0],
}
# Name of a row: what is said of it.
_SCANS = {
    "one": "`original`, stride 6, 1 worker of 1 thread",
    "two": "`original`, stride 6, 2 workers of 1 thread",
    "noop": "`original`, stride 6, the network replaced by a no-op",
    "dense_one": "`dense`, stride 4, 1 worker of 1 thread",
    "dense_two": "`dense`, stride 4, 2 workers of 1 thread",
    "dense_noop": "`dense`, stride 4, the network replaced by a no-op",
}
_LARGE = {
    "sparse": ("100,000 x 50,000, mostly gap", 50_000, 100_000),
    "full": ("20,000 x 20,000", 20_000, 20_000),
}
_MAPS = {
    "craters": "craters, stride 6",
    "keras6": "Keras window by window, stride 6",
    "keras24": "Keras window by window, stride 24",
    "keras_whole": "Keras, fully convolutional, stride 6",
}


def run(bench: Bench, say: Callable[[str], None]) -> Row | None:
    """Measure what is missing; a quick call leaves what is stored as it is.

    `CRATERS_BENCH_PARTS=scans,large,kills,dense,keras` chooses parts; the result holds what is
    stored of the others.
    """
    if not bench.full:
        return harness.tell_stored(NAME, say)
    parts = os.environ.get("CRATERS_BENCH_PARTS", "scans,large,kills,dense,keras").split(",")
    _PLACE.mkdir(parents=True, exist_ok=True)
    if not (_PLACE / "flops.json").exists():
        subprocess.run([sys.executable, _PEERS / "scan_models.py", _PLACE], check=True)
    rows: dict[str, dict[int, Row]] = {}
    for part, measure in (
        ("scans", scans), ("large", large), ("kills", kills), ("dense", dense), ("keras", keras),
    ):  # fmt: skip
        rows |= measure(bench, say, due=part in parts)
    return _result(rows)


class Rows:
    """Rows of one part of the benchmark, measured in turn, round by round."""

    def __init__(self, bench: Bench, settings: Row, made_by: Row, code: list[Path]) -> None:
        self.bench, self.store = bench, RowStore(NAME)
        self.settings, self.made_by, self.code = settings, made_by, code

    def measure(
        self, ways: dict[str, Callable[[], Row]], rounds: int, say: Callable[[str], None], due: bool
    ) -> dict[str, dict[int, Row]]:
        """Return all rows of each way; measure those that are missing, if they are due."""
        found: dict[str, dict[int, Row]] = {name: {} for name in ways}
        for number in range(rounds):
            for name, way in ways.items():
                key = harness.row_key(
                    self.bench, name, number, self.settings, self.made_by, self.code
                )
                row = None if self.bench.again and due else self.store.find(key)
                if row is None and due:
                    row = way()
                    self.store.add(key, row)
                    say(f"{name}, round {number}: {json.dumps(row)}")
                if row is not None:
                    found[name][number] = row
        return found


def modules() -> list[Path]:
    """List the modules of the package that a scan's rows depend on."""
    return [ROOT / "src" / "craters" / f"{name}.py" for name in _CODE]


def write_image(path: Path, height: int, width: int, *, share: float = 1.0) -> Path:
    """Write a tiled BigTIFF of smooth noise; beyond the first `share` of its rows it is a gap."""
    import numpy as np
    import rasterio
    from rasterio.transform import Affine
    from rasterio.windows import Window

    if path.exists():
        return path
    side = 512
    noise = np.random.default_rng(0).normal(size=(side + 4, 3 * side + 4))
    smooth = sum(noise[i : i + side, j : j + 3 * side] for i in range(5) for j in range(5))
    strip = np.clip(125 + 8 * smooth, 1, 255).astype(np.uint8)
    partial = path.with_suffix(".partial.tif")
    with rasterio.open(
        partial, "w", driver="GTiff", height=height, width=width, count=1, dtype="uint8", nodata=0,
        crs="IAU_2015:49910", transform=Affine(100, 0, 0, 0, -100, 0), tiled=True, blockxsize=side,
        blockysize=side, compress="deflate", zlevel=1, bigtiff="yes", sparse_ok=True,
    ) as image:  # fmt: skip
        for top in range(0, int(height * share), side):
            rows = min(side, height - top)
            turned = np.roll(strip, 37 * (top // side), axis=1)
            band = np.tile(turned, (1, -(-width // strip.shape[1])))[:rows, :width]
            image.write(band, 1, window=Window(0, top, width, rows))
    partial.rename(path)
    return path


def _scan(
    image: Path, *, workers: int = 1, cpus: int = 1, network: str = "original", noop: bool = False
) -> harness.Usage:
    out = _PLACE / "out"
    for folder in (out, out.with_name(".out.unfinished")):
        shutil.rmtree(folder, ignore_errors=True)
    model = str(_PLACE / network)
    if noop:
        command = [sys.executable, str(_PEERS / "scan_noop.py"), str(image), model, str(out)]
    else:
        command = [
            sys.executable, "-m", "craters", "scan", str(image), "--model", model, "--out",
            str(out), "--workers", str(workers), "--threads", str(workers), "--no-windows", "-q",
        ]  # fmt: skip
    usable = harness.usable_cpus()
    if len(usable) < cpus:
        raise BenchError(f"{cpus} CPUs are needed, {len(usable)} may be used")
    usage = harness.measure_process(
        command, _PLACE / "last.log", cpus=usable[:cpus], one_thread=True
    )
    shutil.rmtree(out)
    return usage


def scans(bench: Bench, say: Callable[[str], None], *, due: bool) -> dict[str, dict[int, Row]]:
    """One worker, two workers, and networks that do nothing, in turn."""
    path = _PLACE / f"{SIDE}.tif"
    if due:
        write_image(path, SIDE, SIDE)
    ways = {
        name: lambda settings=settings: dataclasses.asdict(_scan(path, **settings))
        for name, settings in {
            "one": {},
            "two": {"workers": 2, "cpus": 2},
            "noop": {"noop": True},
            "dense_one": {"network": "dense"},
            "dense_two": {"network": "dense", "workers": 2, "cpus": 2},
            "dense_noop": {"network": "dense", "noop": True},
        }.items()
    }
    settings = {"side": SIDE}
    code = [*modules(), _PEERS / "scan_noop.py"]
    return Rows(bench, settings, harness.versions(), code).measure(ways, ROUNDS, say, due)


def large(bench: Bench, say: Callable[[str], None], *, due: bool) -> dict[str, dict[int, Row]]:
    """Peak memory of large images, with the default --memory."""

    def measure(name: str) -> Row:
        _, height, width = _LARGE[name]
        path = _PLACE / f"{name}.tif"
        write_image(path, height, width, share=0.02 if name == "sparse" else 1.0)
        usage = _scan(path, workers=2, cpus=len(harness.usable_cpus()[:2]))
        return {"large_wall_s": usage.wall_s, "large_peak_mib": usage.peak_mib}

    ways = {name: lambda name=name: measure(name) for name in _LARGE}
    rows = Rows(bench, {"workers": 2}, harness.versions(), modules())
    return rows.measure(ways, 1, say, due)


def kills(bench: Bench, say: Callable[[str], None], *, due: bool) -> dict[str, dict[int, Row]]:
    """Kill scans at random moments, go on, and compare every file."""

    def measure() -> Row:
        path = write_image(_PLACE / "kill.tif", 4000, 4000)
        command = [
            sys.executable, "-m", "craters", "scan", str(path), "--model", str(_PLACE / "original"),
            "--memory", "480", "--threshold", "0.5", "-q", "--resume", "--out",
        ]  # fmt: skip
        whole, out = _PLACE / "whole", _PLACE / "killed"
        for folder in (whole, out, out.with_name(".killed.unfinished")):
            shutil.rmtree(folder, ignore_errors=True)
        clock = time.monotonic()
        subprocess.run([*command, str(whole)], check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - clock
        draw, count, scans = random.Random(0), 0, 0
        while count < KILLS:
            process = subprocess.Popen([*command, str(out)], stdout=subprocess.DEVNULL)
            try:
                process.wait(draw.uniform(0.2, 1.0) * seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                count += process.wait() == -signal.SIGKILL
                continue
            _compare(whole, out)  # it ended before its time: from the start again
            scans += 1
            shutil.rmtree(out)
        subprocess.run([*command, str(out)], check=True, stdout=subprocess.DEVNULL)
        _compare(whole, out)
        return {"kills": count, "equal_scans": scans + 1}

    rows = Rows(bench, {"kills": KILLS}, harness.versions(), modules())
    return rows.measure({"kills": measure}, 1, say, due)


def _compare(one: Path, other: Path) -> None:
    """Stop where two scans left different files; GeoPackages hold times, so by their rows."""
    names = [sorted(path.relative_to(top) for path in top.rglob("*")) for top in (one, other)]
    if names[0] != names[1]:
        raise BenchError(f"{one} and {other} hold different files")
    for name in names[0]:
        if (one / name).is_dir():
            continue
        if name.suffix == ".gpkg":
            same = _rows_of(one / name) == _rows_of(other / name)
        else:
            same = (one / name).read_bytes() == (other / name).read_bytes()
        if not same:
            raise BenchError(f"{other / name} differs after kills")


def _rows_of(path: Path) -> list[list[tuple]]:
    tables = ("detections", "windows", "footprint", "run")
    with sqlite3.connect(path) as base:
        return [base.execute(f"SELECT * FROM {name}").fetchall() for name in tables]


def dense(bench: Bench, say: Callable[[str], None], *, due: bool) -> dict[str, dict[int, Row]]:
    """One pass of `dense` over a tile against its windows, beside the operations of both."""

    def measure(name: str) -> Row:
        out = _PLACE / "dense.json"
        command = [sys.executable, str(_PEERS / "scan_dense.py"), str(_PLACE / name), str(out)]
        harness.measure_process(
            command, _PLACE / "last.log", cpus=harness.usable_cpus()[:1], one_thread=True
        )
        flops = json.loads((_PLACE / "flops.json").read_text())[name]
        found = json.loads(out.read_text())
        fewer = found["windows"] * flops["window"] / flops["tile"]
        faster = found["window_s"] / found["pass_s"]
        return found | {"fewer_flops": fewer, "faster": faster, "share": faster / fewer}

    ways = {f"pass_{name}": lambda name=name: measure(name) for name in ("dense", "original")}
    code = [
        *(
            ROOT / "src" / "craters" / f"{name}.py"
            for name in ("classifier", "networks", "interop")
        ),
        _PEERS / "scan_dense.py",
    ]
    return Rows(bench, {"threads": 1}, harness.versions(), code).measure(ways, ROUNDS, say, due)


def keras(bench: Bench, say: Callable[[str], None], *, due: bool) -> dict[str, dict[int, Row]]:
    """Map an array by the `original` network on one core: craters, and Keras in three ways."""
    import numpy as np

    python, made_by = None, _stored_versions()
    image = _PLACE / "image.npy"
    if due:
        python = tensorflow_python(say)
        made_by = tensorflow_versions(python)
        pixels = np.random.default_rng(1).integers(0, 256, (KERAS_SIDE, KERAS_SIDE), np.uint8)
        np.save(image, pixels)
    h5, theirs = str(_PLACE / "original.h5"), str(_PEERS / "keras_scan.py")

    def measure(command: list, name: str) -> Row:
        out = _PLACE / f"{name}.npy"
        log = _PLACE / f"{name}.log"
        harness.measure_process(
            [*map(str, command), str(out)], log, cpus=harness.usable_cpus()[:1], one_thread=True
        )
        found, wanted = np.load(out), np.load(_PLACE / "craters.npy")
        wanted = wanted[::4, ::4] if name == "keras24" else wanted
        if found.shape != wanted.shape or np.abs(found - wanted).max() > TOLERANCE:
            raise BenchError(f"{name} says something else than craters")
        seconds = float(log.read_text().split()[-1])
        return {"map_s": seconds, "windows_per_s": found.size / seconds}

    ways = {
        "craters": [sys.executable, _PEERS / "craters_scan.py", _PLACE / "original", image],
        "keras6": [python, theirs, "windows", h5, image, 6],
        "keras24": [python, theirs, "windows", h5, image, 24],
        "keras_whole": [python, theirs, "whole", h5, image, 6],
    }
    calls = {name: lambda c=command, n=name: measure(c, n) for name, command in ways.items()}
    code = [*modules(), _PEERS / "craters_scan.py", _PEERS / "keras_scan.py"]
    rows = Rows(bench, {"side": KERAS_SIDE}, harness.versions() | made_by, code)
    return rows.measure(calls, ROUNDS, say, due)


def _stored_versions() -> Row:
    """Return the versions of TensorFlow's side as they were when it was measured last."""
    path = RowStore(NAME).path
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    stored = [json.loads(line)["key"]["versions"] for line in lines]
    found = next((one for one in reversed(stored) if "tensorflow" in one), {})
    names = ("tensorflow", "keras", "numpy with Keras", "python with Keras")
    return {name: found[name] for name in names if name in found}


def _result(rows: dict[str, dict[int, Row]]) -> Row:
    """Put together what is stored."""
    costs = ("wall_s", "cpu_s", "peak_mib")
    tables = {
        f"A mosaic of {SIDE} x {SIDE} pixels, the whole command": (_SCANS, costs),
        "Large images, 2 workers, the default memory": (
            {name: words[0] for name, words in _LARGE.items()}, ("large_wall_s", "large_peak_mib"),
        ),
        f"`original` over an array of {KERAS_SIDE} x {KERAS_SIDE} pixels, one core": (
            _MAPS, ("map_s", "windows_per_s"),
        ),
    }  # fmt: skip
    contenders = [
        harness.contender(label, rows[name], names, name.startswith("keras"))
        for labels, names in tables.values()
        for name, label in labels.items()
        if rows[name]
    ]
    shown = {
        title: names
        for title, (labels, names) in tables.items()
        if any(rows[name] for name in labels)
    }
    return harness.result(
        NAME,
        TITLE,
        about=[
            "Contenders take turns, round by round, each in a process of its own on pinned cores; "
            "weights are random, because the time does not depend on them.",
        ],
        settings={"rounds": ROUNDS, "kills": KILLS},
        titles=_TITLES,
        tables=shown,
        contenders=contenders,
        findings=_findings(rows),
        made_by=harness.versions() | _stored_versions(),
    )


def _findings(rows: dict[str, dict[int, Row]]) -> list[str]:
    said = []
    for above, below, measure, text in (
        ("dense_one", "dense_two", "wall_s", "Two workers of one thread are {} times as fast as "
         "one with `dense` (target: 1.7)."),
        ("one", "two", "wall_s", "... and {} times with `original`, whose share of starting, "
         "reading and writing is larger (below)."),
        ("dense_noop", "dense_one", "wall_s", "With a network that does nothing in the place of "
         "`dense`, {} of the wall time is left for reading and writing (target: at most 0.30)."),
        ("noop", "one", "wall_s", "... and in the place of `original`, which is many times faster "
         "than `dense`, {}."),
        ("keras6", "craters", "map_s", "`original` maps an array {} times as fast as Keras window "
         "by window at the same stride of 6 (target: 60)."),
        ("keras24", "craters", "map_s", "... and {} times as fast as Keras at a stride of 24, "
         "which sees a sixteenth of the windows (target: 5)."),
        ("keras_whole", "craters", "map_s", "... and {} times as fast as a fully convolutional "
         "Keras model (target: 1.3)."),
    ):  # fmt: skip
        both = sorted(rows[above].keys() & rows[below].keys())
        if both:
            said.append(text.format(
                harness.spread([rows[above][n][measure] / rows[below][n][measure] for n in both])
            ))  # fmt: skip
    said += [
        f"Peak memory over {words[0]}: {row['large_peak_mib']:.0f} MiB (target: 1.5 GB)."
        for name, words in _LARGE.items()
        for row in rows[name].values()
    ]
    said += [
        f"{row['kills']} kills at random moments, resumed: {row['equal_scans']} scans ended, every "
        "file equal to that of an uninterrupted scan."
        for row in rows["kills"].values()
    ]
    for name in ("dense", "original"):
        found = list(rows[f"pass_{name}"].values())
        if found:
            faster, share = (
                harness.spread([row[name] for row in found]) for name in ("faster", "share")
            )
            said.append(
                f"One pass of `{name}` over a tile takes {found[0]['fewer_flops']:.1f} times fewer "
                f"operations than its windows, and {faster} times less time: {share} of that "
                "advantage" + (" (target: 0.60)." if name == "dense" else ".")
            )
    return said
