"""Benchmarks: rows that outlive changes of code, what they record, and what they are made into."""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bench
import harness
from accuracy import region_cv
from craters.core import NullProgress, Task, run_tasks
from craters.errors import DataError
from craters.semi_supervised import verdict
from harness import charts, measurements, rows, summaries, tables
from tests.conftest import REPOSITORY
from unlabeled import auto_choice, methods

FOLDER = REPOSITORY / "benchmarks"
SUBJECTS = ("harness", "accuracy", "unlabeled", "speed", "scans", "labels", "pretrained")
SCRIPTS = [
    *(path for path in FOLDER.glob("*.py") if path.name != "same_results.py"),
    *(path for name in SUBJECTS for path in (FOLDER / name).rglob("*.py")),
]

# Benchmarks of which not every row that a full call may ask for is stored.
UNFINISHED = {
    "auto_choice", "job", "nanedi", "review", "unlabeled",
}  # fmt: skip
# Settings of rows that no call asks for any more.
BEFORE = {"cold_predict": {"cpus": 1}}


@pytest.fixture
def data(themis48: Path) -> Path:
    """The real arrays with the regions of Nanedi, or a skip with the reason."""
    if not harness.nanedi_file(themis48, "west").is_file():
        pytest.skip("no real data: nanedi28/west.npz not found; set $CRATERS_DATA")
    return themis48.resolve()


@pytest.fixture
def nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse trainings, measured processes and new rows, write nothing, and have two CPUs."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("something is measured")

    def read_only(tasks: list[Task], *, threads: int) -> Iterator[tuple[str, Any]]:
        for task in tasks:
            assert task.key.split()[0] in ("queue", "random", "all", "pretrained"), task.key
            yield task.key, task.call(send=print, **task.arguments)

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr("craters.core.run_tasks", read_only)
    monkeypatch.setattr(harness, "measure_process", refuse)
    monkeypatch.setattr(harness.RowStore, "add", refuse)
    monkeypatch.setattr(harness, "write_result", lambda *_: None)


def stored(name: str) -> list[dict[str, Any]]:
    lines = (harness.RESULTS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def as_text(keys: Any) -> set[str]:
    return {json.dumps(key, sort_keys=True) for key in keys}


# Rows


def test_a_row_is_keyed_by_what_is_measured_and_not_by_code(tmp_path: Path) -> None:
    key = harness.row_key(harness.Bench(tmp_path, True, 1), "one", 3, {"cpus": 2}, 4)
    assert key == {
        "contender": "one",
        "round": 3,
        "settings": {"cpus": 2},
        "data": harness.data_hash(tmp_path),
        "result_version": 4,
    }


@pytest.mark.parametrize("name", bench.BENCHMARKS)
def test_stored_rows_name_no_code_in_their_keys_and_record_what_made_them(name: str) -> None:
    for row in stored(name):
        assert set(row) == {"key", "made", "values"}
        assert set(row["key"]) == {"contender", "round", "settings", "data", "result_version"}
        assert not {"code", "versions", "hardware"} & set(row["key"]["settings"])
        assert set(row["made"]) == {"commit", "date", "versions", "hardware"}
        assert set(row["made"]["hardware"]) == {"processor", "cpus"}
        assert row["made"]["versions"]
    assert len(as_text(row["key"] for row in stored(name))) == len(stored(name))


@pytest.mark.parametrize("name", bench.BENCHMARKS)
def test_stored_rows_are_found(name: str, data: Path, nothing_is_measured: None) -> None:
    asked = set()
    for seeds, same_start in ((1, True), (10, True), (16, False)):
        call = harness.Bench(data, True, seeds, same_start=same_start)
        asked |= as_text(bench.BENCHMARKS[name].keys(call).values())
    there = stored(name)
    current = as_text(row["key"] for row in there if row["key"]["settings"] != BEFORE.get(name))
    assert current
    assert current <= asked
    if name not in UNFINISHED:
        assert current == asked


def test_a_row_records_commit_versions_and_hardware(tmp_path: Path) -> None:
    store = harness.RowStore("some", tmp_path, tmp_path / "work")
    key = {"contender": "one"}
    assert store.find(key) is None
    store.add(key, {"wall_s": 1.0})
    added = store.add(key, {"wall_s": 2.0}, {"keras": "3"})
    assert store.find(key) == added
    first, last = (json.loads(line) for line in store.path.read_text().splitlines())
    assert added == {"wall_s": 2.0, "made": last["made"]}
    assert first["made"]["versions"] == harness.versions()
    assert last["made"]["versions"] == {"keras": "3"}
    assert last["made"]["commit"] == rows.commit()
    assert last["made"]["hardware"] == harness.hardware()


def test_the_commit_marks_changed_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org"]
        command = ["git", *who, *arguments]
        return subprocess.check_output(command, cwd=tmp_path, text=True).strip()

    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert rows.commit(tmp_path) == "unknown"
    for path in ("src/a.py", "benchmarks/results/a.jsonl"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text("1")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    found = []
    for path in ("benchmarks/results/a.jsonl", "src/a.py"):
        (tmp_path / path).write_text("2")
        rows.commit.cache_clear()
        found.append(rows.commit(tmp_path))
    head = git("rev-parse", "--short", "HEAD")
    assert found == [head, f"{head}+"]


def test_only_what_is_missing_is_measured(tmp_path: Path) -> None:
    store = harness.RowStore("some", tmp_path, tmp_path / "work")
    done: list[tuple[str, int]] = []

    def measure(name: str, number: int) -> dict[str, Any]:
        done.append((name, number))
        return {"wall_s": len(done)}

    def times(fresh: bool = False, due: Any = lambda *_: True) -> list[int]:
        call = harness.Bench(tmp_path, True, 1, fresh)
        keys = {("a", number): harness.row_key(call, "a", number, {}, 1) for number in range(3)}
        found = harness.measure_missing(call, "some", keys, measure, due=due, store=store)
        return [row["wall_s"] for row in found.values()]

    assert times(due=lambda _, number: number != 1) == [1, 2]
    assert times() == [1, 3, 2]
    assert times() == [1, 3, 2]
    assert times(fresh=True) == [4, 5, 6]
    assert done == [("a", number) for number in (0, 2, 1, 0, 1, 2)]


# Calls


def test_a_quick_call_measures_nothing_that_is_stored(
    data: Path, nothing_is_measured: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = {}
    monkeypatch.setattr(harness, "write_result", lambda name, found: written.update({name: found}))
    monkeypatch.setattr(charts, "draw_all", lambda: None)
    monkeypatch.setattr(tables, "write", lambda: tables.PAGE)
    bench.main(["quick", "--data", str(data)])
    assert set(written) == {"floor", "job", "original_job_time"}
    for name, found in written.items():
        assert_close(found | {"name": name}, harness.read_result(name))


# All rows of a result are stored for these; the audit looks at the real arrays in every full call.
WHOLE = sorted(set(bench.BENCHMARKS) - UNFINISHED - {"audit"} | {"nanedi", "review"})


@pytest.mark.parametrize("name", WHOLE)
def test_results_are_what_the_stored_rows_say(
    name: str, data: Path, nothing_is_measured: None
) -> None:
    seeds = 1 if name == "nanedi" else 10
    found = bench.BENCHMARKS[name].run(harness.Bench(data, True, seeds), NullProgress())
    assert found.pop("result_name", name) == name
    assert_close(found | {"name": name}, harness.read_result(name))


def assert_close(found: Any, expected: Any) -> None:
    """Compare as JSON does; numbers within rounding."""
    found = json.loads(json.dumps(found))
    assert_alike(found, expected, "")


def assert_alike(found: Any, expected: Any, where: str) -> None:
    if isinstance(expected, dict):
        assert set(found) == set(expected), where
        for name, value in expected.items():
            assert_alike(found[name], value, f"{where}/{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for place, pair in enumerate(zip(found, expected, strict=True)):
            assert_alike(*pair, f"{where}/{place}")
    else:
        assert found == (pytest.approx(expected) if type(expected) is float else expected), where


# Pages


def test_a_page_lists_every_commit_machine_and_version() -> None:
    made = [
        {"commit": "a1", "date": "2026-01-02", "versions": {"torch": "2.9"},
         "hardware": {"processor": "One", "cpus": 2}},
        {"commit": "b2+", "date": "2026-02-03", "versions": {"torch": "2.10", "keras": "3"},
         "hardware": {"processor": "Two", "cpus": 4}},
    ]  # fmt: skip
    listed = harness.result(
        "some", "Some", rows=[{"made": one} for one in (made[1], made[0], made[1])], about=[],
        settings={}, titles={}, tables={}, contenders=[], findings=[],
    )  # fmt: skip
    assert listed["made"] == made
    assert measurements.facts(listed).splitlines()[1:] == [
        "Measured at: a1 (2026-01-02), b2+ (2026-02-03)  ",
        "Hardware: One, 2 CPUs; Two, 4 CPUs  ",
        "Versions: keras 3, torch 2.10, torch 2.9",
    ]


def test_the_page_and_the_readme_are_those_of_the_results(tmp_path: Path) -> None:
    page, everything = tmp_path / "benchmarks.md", tmp_path / "measurements.md"
    readme = tmp_path / "README.md"
    readme.write_text((REPOSITORY / "README.md").read_text())
    tables.write(page, everything, readme)
    for path in (page, everything):
        assert path.read_text() == (REPOSITORY / "docs" / path.name).read_text()
    assert readme.read_text() == (REPOSITORY / "README.md").read_text()


def measured(**measures: tuple[float, ...]) -> dict[str, Any]:
    return {name: harness.summarize(values) for name, values in measures.items()}


def test_a_ratio_pairs_the_rounds() -> None:
    ours, peer = measured(wall_s=(2.0, 1.0, 4.0)), measured(wall_s=(4.0, 3.0, 4.0))
    assert summaries.ratio(peer, ours, "wall_s") == "2.00 (1.00 to 3.00)"
    assert summaries.ratio(measured(wall_s=(6.0,)), ours, "wall_s") == "3.00"


def test_a_recall_has_the_interval_of_wilson() -> None:
    # Wilson's interval of 8 of 10: 0.490 to 0.943.
    assert summaries.recall_of({"recall": 0.8, "craters": 10}) == "0.80 (0.49 to 0.94)"
    assert summaries.recall_of({"recall": None, "craters": 0}) == ""


def test_every_link_to_a_measurement_leads_to_its_heading() -> None:
    headings = {
        re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", line[3:].lower()).strip())
        for line in (REPOSITORY / "docs" / "measurements.md").read_text().splitlines()
        if line.startswith("## ")
    }
    links = re.findall(
        r"measurements\.md#([\w-]+)", (REPOSITORY / "docs" / "benchmarks.md").read_text()
    )
    assert len(links) >= 8
    assert set(links) <= headings


def test_the_list_of_benchmarks_names_each_with_its_file() -> None:
    text = (FOLDER / "README.md").read_text()
    for name, module in bench.BENCHMARKS.items():
        path = Path(module.__file__).relative_to(FOLDER)
        assert f"| `{name}` |" in text
        assert f"`{path}` |" in text


# Modules


def dotted(path: Path) -> str:
    parts = path.relative_to(FOLDER).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """List the modules of the benchmarks that one imports, anywhere in it."""
    known = {dotted(path) for path in SCRIPTS}
    beside = {one.stem: dotted(one) for one in path.parent.glob("*.py")}
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    if path.parent.name == "peers":  # a script, which finds what lies beside it
        found = {beside.get(name, name) for name in found}
    return found & known - {dotted(path)}


def test_modules_do_not_import_each_other_in_circles() -> None:
    graph = {dotted(path): imports(path) for path in SCRIPTS}
    assert graph["unlabeled.share"] == {"accuracy.fixed_folds.folds", "harness", "unlabeled.draws",
                                        "unlabeled.methods"}  # fmt: skip
    assert graph["speed.peers.keras_job"] == {
        "speed.peers.draw",
        "speed.peers.keras_original",
    }
    list(graphlib.TopologicalSorter(graph).static_order())


def test_all_that_scripts_import_from_the_package_exists() -> None:
    found = set()
    for path in SCRIPTS:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("craters"):
                found |= {(str(node.module), alias.name) for alias in node.names}
    assert len(found) > 100
    for module, name in sorted(found):
        if not hasattr(importlib.import_module(module), name):
            importlib.import_module(f"{module}.{name}")


def test_the_process_that_measures_stays_without_torch() -> None:
    code = "import bench, sys; print({'torch', 'scipy', 'matplotlib'} & set(sys.modules))"
    found = subprocess.check_output([sys.executable, "-c", code], cwd=FOLDER, text=True)
    assert found == "set()\n"


def test_the_level_of_auto_is_the_packages() -> None:
    assert (auto_choice.LEVEL, auto_choice.SUPERVISED) == (verdict.LEVEL, verdict.SUPERVISED)


def test_other_processes_find_what_they_are_to_train(tmp_path: Path) -> None:
    calls = {
        "unlabeled": (methods.train_cell, ("nanedi west", 50, "supervised", 0)),
        "region_cv": (functools.partial(region_cv.train_cell, work=tmp_path), ("compact", 0, 0)),
    }
    tasks = [
        Task(name, call, {"data": tmp_path / "none", "cell": cell})
        for name, (call, cell) in calls.items()
    ]
    with pytest.raises(DataError, match="no such file"):
        list(run_tasks(tasks, threads=2))


# Scripts that measure in a process of their own


def test_the_parts_of_a_scan_are_timed(tmp_path: Path) -> None:
    model = harness.write_models(tmp_path / "models") / "original"
    image = harness.write_image(tmp_path / "a.tif", 300, 300)
    script, found = FOLDER / "speed" / "peers" / "floor_scan.py", tmp_path / "parts.json"
    command = [sys.executable, script, image, model, tmp_path / "out", found]
    subprocess.run(list(map(str, command)), check=True, timeout=120)
    parts = json.loads(found.read_text())
    assert parts.keys() == {"plan", "decode", "compute", "keep", "encode", "look"}
    assert all(0 < seconds < 60 for seconds in parts.values())
