from __future__ import annotations

import csv
import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from craters.cli.main import app
from craters.compare import cells as compare_cells
from craters.compare import compare, plan
from craters.compare.cells import CompareData, draw_folds, draw_labels, read_compare_data, take_cell
from craters.compare.report import Outcome, draw_rows, gather_rows, one_sided_cells, table_lines
from craters.data import make_patch_set, splits
from craters.errors import ConfigError, DataError, DeadNetworkError, ExistsError
from craters.evaluation import paired_difference
from craters.settings import Cell, CompareConfig, JobSettings
from tests.conftest import simple_patches

SIDE = 16


def write_data(folder: Path, *, n: int = 90, regions: int = 9, groups: bool = True) -> Path:
    folder.mkdir(parents=True)
    images, labels = simple_patches(n, 1, side=SIDE)
    extra = simple_patches(n // 2, 2, 0.2, SIDE)[0]
    np.save(folder / "Xtrain1.npy", images.reshape(n, -1))
    np.save(folder / "Ytrain1.npy", labels)
    np.save(folder / "Xtrain1_extra.npy", extra.reshape(n // 2, -1))
    if groups:
        for stem, count in (("train", n), ("extra", n // 2)):
            names = [f"plain{row % regions}_{row % 4}_{row % 3}" for row in range(count)]
            np.save(folder / f"groups_{stem}.npy", np.array(names))
    return folder


class Brightness(torch.nn.Module):
    """Calls a patch by its mean brightness, on the side of the nearer class mean."""

    def __init__(self, middle: float, slope: float) -> None:
        super().__init__()
        self.middle, self.slope = middle, slope

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (255 * images.mean(dim=(1, 2)) - self.middle) * self.slope


def train_by_brightness(labeled, pool, config) -> Brightness:
    means = [labeled.images[labeled.labels == label].mean() for label in (0, 1)]
    shift = {"supervised": 0.0, "original": 1.0}[config.method]
    slope = {"compact": 0.5, "original": 0.1}[config.network]
    return Brightness(float(np.mean(means)) + shift + 0.1 * config.seed, slope)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Put a trainer of milliseconds in the place of the real one; give what it was called with."""
    calls: list[tuple] = []

    def train(labeled, pool, config):
        calls.append((labeled, pool, config))
        return train_by_brightness(labeled, pool, config)

    monkeypatch.setattr(compare_cells, "_train", train)
    return calls


def config_for(data: Path, **changes) -> CompareConfig:
    plain = CompareConfig(
        data, data.parent / "CMP", networks=("compact",), starts=("random",), budgets=(20, "all"),
        seeds=2, folds=3, threads=1,
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    return write_data(tmp_path / "DATA")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


# The protocol.


def test_contenders_share_draws_and_seeds_do_not(data_folder: Path, quick: list[tuple]) -> None:
    compare(config_for(data_folder, networks=("compact", "original")))
    drawn: dict[tuple, set[tuple]] = {}
    for labeled, pool, config in quick:
        place = (config.seed, len(labeled))
        drawn.setdefault(place, set()).add((tuple(labeled.ids), tuple(pool.ids)))
    assert len(quick) == 4 * 2 * 2 * 3
    assert {place: len(sets) for place, sets in drawn.items()} == {
        (0, 20): 3, (1, 20): 3, (0, 60): 3, (1, 60): 3,
    }  # fmt: skip
    assert not drawn[0, 20] & drawn[1, 20]
    assert drawn[0, 60] == drawn[1, 60]
    assert all((pool.labels == -1).all() for _, pool, _ in quick)


@given(
    n=st.integers(12, 120),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 50),
    fold=st.integers(1, 9),
)
def test_draws_are_nested_stratified_and_repeatable(
    n: int, share: float, seed: int, fold: int
) -> None:
    labels = np.zeros(n, np.int8)
    labels[: min(max(2, round(n * share)), n - 2)] = 1
    np.random.default_rng(seed).shuffle(labels)
    rows = np.random.default_rng(n).permutation(n)
    before: set[int] = set()
    for budget in range(4, n + 1):
        cell = Cell("supervised", "compact", budget, seed, fold)
        drawn = draw_labels(labels, rows, cell)
        other = dataclasses.replace(cell, method="original", network="original")
        assert np.array_equal(drawn, draw_labels(labels, rows, other))
        assert len(set(drawn)) == budget
        assert before < set(drawn)
        craters = int(labels[drawn].sum())
        assert min(craters, budget - craters) >= 2
        assert abs(craters - budget * labels.mean()) <= 2
        before = set(drawn)
    every = dataclasses.replace(cell, budget="all")
    assert set(draw_labels(labels, rows, every)) == before == set(range(n))


def test_draws_differ_by_seed_and_fold() -> None:
    labels, rows = np.tile([0, 1], 40), np.arange(80)
    found = [
        draw_labels(labels, rows, Cell("supervised", "compact", 20, seed, fold)).tolist()
        for seed in range(3)
        for fold in (1, 2)
    ]
    assert len({tuple(row) for row in found}) == 6
    with pytest.raises(DataError, match="fold 1: its training part has 80 labels, expected 81"):
        draw_labels(labels, rows, Cell("supervised", "compact", 81, 0, 1))
    with pytest.raises(DataError, match="has 1 patches of the rarer class, expected at least 2"):
        draw_labels(labels, rows[:3], Cell("supervised", "compact", 4, 0, 1))


def make_data(places: list[int], extra: list[int], copies: int) -> CompareData:
    """Patches of their own place each; the first `copies` unlabeled ones repeat labeled ones."""
    random = np.random.default_rng(len(places))
    images = random.integers(0, 256, (len(places), 8, 8), np.uint8)
    pool = random.integers(0, 256, (len(extra), 8, 8), np.uint8)
    pool[:copies] = images[:copies]
    images[-1] = images[0]
    labels = np.arange(len(places)) % 2
    names = [np.array([f"r{place}_{row % 2}_0" for row, place in enumerate(rows)])
             for rows in (places, extra)]  # fmt: skip
    return CompareData(
        make_patch_set(images, labels, names[0]), make_patch_set(pool, None, names[1])
    )


@given(
    places=st.lists(st.integers(0, 7), min_size=20, max_size=60),
    extra=st.lists(st.integers(0, 9), min_size=5, max_size=30),
    hold_out=st.sampled_from(["auto", "region", "group", "random"]),
    pool=st.sampled_from(["extra", "rest", "both"]),
    copies=st.integers(0, 5),
)
def test_nothing_held_out_is_trained_on(places, extra, hold_out, pool, copies) -> None:
    places[:4] = [0, 1, 2, 3]
    data = make_data(places, extra, copies)
    found = draw_folds(data, hold_out, 3)
    tested = np.concatenate([fold.test for fold in found.folds])
    assert sorted(tested) == list(range(len(places)))
    for number, fold in enumerate(found.folds, 1):
        cell = Cell("supervised", "compact", "all", 0, number)
        if min(np.bincount(data.labeled.labels[fold.train], minlength=2)) < 2:
            continue
        labeled, unlabeled = take_cell(data, fold, cell, pool)
        held = data.labeled.take(fold.test)
        pixels = splits.content_ids(held.images)
        for part in (labeled, unlabeled):
            assert not np.isin(splits.content_ids(part.images), pixels).any()
            if hold_out in ("auto", "region"):
                mine = {name.partition("_")[0] for name in part.groups}
                assert not mine & {name.partition("_")[0] for name in held.groups}
            elif hold_out == "group":
                assert not set(part.groups) & set(held.groups)
    # Of whole folds the copy in another fold is left out once on each side; random folds keep
    # copies together.
    if hold_out == "random":
        assert any({0, len(places) - 1} <= set(fold.test) for fold in found.folds)


def test_the_pool_is_what_was_asked_for() -> None:
    data = make_data([place for place in range(6) for _ in range(10)], list(range(9)) * 2, 0)
    fold = draw_folds(data, "region", 3).folds[0]
    cell = Cell("original", "compact", 12, 0, 1)
    found = {pool: take_cell(data, fold, cell, pool) for pool in ("extra", "rest", "both")}
    labeled = found["extra"][0]
    assert set(found["extra"][1].ids) == set(data.extra.ids[fold.extra])
    assert set(found["rest"][1].ids) == set(data.labeled.ids[fold.train]) - set(labeled.ids)
    both = found["both"][1]
    assert both.ids.tolist() == [*found["extra"][1].ids, *found["rest"][1].ids]
    assert np.array_equal(both.images[-1], found["rest"][1].images[-1])
    assert (both.labels == -1).all()
    everything = dataclasses.replace(cell, budget="all")
    with pytest.raises(DataError, match="no unlabeled patch is left for 'original'"):
        take_cell(data, fold, everything, "rest")


def test_what_is_held_out_is_said(tmp_path: Path) -> None:
    data = read_compare_data(write_data(tmp_path / "A"))
    assert draw_folds(data, "auto", 3).notes == [
        "Held out: whole regions of the labeled set, 3 folds."
    ]
    odd = np.array([f"image {row // 5}" for row in range(90)])
    named = dataclasses.replace(data, labeled=dataclasses.replace(data.labeled, groups=odd))
    found = draw_folds(named, "auto", 3)
    assert found.held_out == "group"
    with pytest.raises(DataError, match="'image 0' names no region"):
        draw_folds(named, "region", 3)
    unknown = dataclasses.replace(data, extra=dataclasses.replace(data.extra, groups=None))
    assert (
        "Source images of unlabeled patches are unknown" in draw_folds(unknown, "auto", 3).notes[1]
    )
    bare = read_compare_data(write_data(tmp_path / "B", groups=False))
    found = draw_folds(bare, "auto", 3)
    assert found.held_out == "random"
    assert "scores are optimistic" in found.notes[0]
    shares = [bare.labeled.labels[fold.test].mean() for fold in found.folds]
    assert shares == pytest.approx([0.6] * 3, abs=0.02)
    with pytest.raises(DataError, match="groups_train.npy to hold out by region"):
        draw_folds(bare, "region", 3)


# The figures.


def macro_f1(labels: np.ndarray, called: np.ndarray) -> float:
    scores = []
    for label in (0, 1):
        hits = ((labels == label) & (called == label)).sum()
        scores.append(2 * hits / ((labels == label).sum() + (called == label).sum()))
    return float(np.mean(scores))


def test_scores_are_those_worked_out_by_hand(data_folder: Path, quick: list[tuple]) -> None:
    config = config_for(data_folder, seeds=3, budgets=(20,))
    found = compare(config)
    images = np.load(data_folder / "Xtrain1.npy").astype(np.float64)
    labels = np.load(data_folder / "Ytrain1.npy")
    regions = splits.regions_of(np.load(data_folder / "groups_train.npy"))
    folds = [fold.validation for fold in splits.whole_folds(regions, 3)]
    by_hand: dict[str, list[list[float]]] = {"supervised": [], "original": []}
    pooled: dict[str, list[float]] = {"supervised": [], "original": []}
    for method, scores in by_hand.items():
        for seed in range(3):
            mine = [call for call in quick if call[2].method == method and call[2].seed == seed]
            called = np.full(len(labels), -1)
            for rows in folds:
                # The draw of this fold is the only one without its regions.
                (call,) = [
                    call for call in mine
                    if not set(splits.regions_of(call[0].groups)) & set(regions[rows])
                ]  # fmt: skip
                network = train_by_brightness(*call)
                called[rows] = images[rows].mean(axis=1) >= network.middle
            scores.append([macro_f1(labels[rows], called[rows]) for rows in folds])
            pooled[method].append(macro_f1(labels, called))
    means = {method: np.mean(scores, axis=1) for method, scores in by_hand.items()}
    table = {row["contender"]: row for row in found.summary["rows"]}
    for method, scores in means.items():
        row = table[f"{method}/compact/random"]
        assert row["macro_f1"] == pytest.approx(scores.mean(), abs=1e-12)
        assert row["macro_f1_sd"] == pytest.approx(scores.std(ddof=1), abs=1e-12)
        assert row["macro_f1_pooled"] == pytest.approx(np.mean(pooled[method]), abs=1e-12)
        assert row["labels"] == 20
        assert row["seeds"] == 3
    expected = paired_difference(means["original"].tolist(), means["supervised"].tolist())
    found_row = table["original/compact/random"]
    assert found_row["difference_mean"] == pytest.approx(expected.mean, abs=1e-12)
    assert found_row["difference_low"] == pytest.approx(expected.low, abs=1e-12)
    assert found_row["difference_verdict"] == expected.verdict
    assert table["supervised/compact/random"]["difference_mean"] is None
    cells = rows_of(config.out / "cells.csv")
    assert len(cells) == 18
    line = next(row for row in cells if row["method"] == "original" and row["fold"] == "2")
    assert float(line["macro_f1"]) == pytest.approx(by_hand["original"][0][1], abs=1e-12)
    assert sum(int(line[name]) for name in ("tn", "fp", "fn", "tp")) == len(folds[1])


def outcome(method: str, seed: int, fold: int, f1: float, error: str = "") -> Outcome:
    figures = {
        "macro_f1": f1, "roc_auc": None if fold == 1 else f1, "accuracy": f1,
        "average_precision": f1, "brier": 0.1, "labels": 50, "pool": 9, "n": 10,
        "confusion_matrix": [[5, 1], [0, 4]],
    }  # fmt: skip
    return Outcome(Cell(method, "compact", 50, seed, fold), {} if error else figures, 1.0, error)


def test_a_seed_counts_when_all_its_folds_are_there() -> None:
    outcomes = [outcome("a", seed, fold, 0.5 + seed / 10) for seed in range(4) for fold in (1, 2)]
    outcomes += [outcome("b", seed, fold, 0.7 + seed / 10) for seed in range(3) for fold in (1, 2)]
    outcomes[-1] = outcome("b", 2, 2, 0.0, "died")
    names = ["a/compact/random", "b/compact/random"]
    first, second = gather_rows(outcomes, names, [50], 2, "a/compact/random")
    assert (first.seeds, second.seeds, second.failed) == (4, 2, 1)
    assert second.difference is not None
    assert second.difference.n == 2
    assert second.difference.mean == pytest.approx(0.2)
    assert second.difference.verdict == "too few pairs to judge"
    assert second.interval() is None
    assert first.values("roc_auc").tolist() == first.values("macro_f1").tolist()
    lines = table_lines([first, second], "a/compact/random")
    assert len({len(line) for line in lines}) == 1
    assert "+0.2000 " in lines[-1]
    assert "too few pairs to judge; 1 cell failed" in lines[-1]
    one = gather_rows(outcomes[:2] + outcomes[8:10], names, [50], 2, "a/compact/random")
    assert one[1].difference is None
    assert one[1].gap == pytest.approx(0.2)
    assert one[1].interval() is None
    assert "no interval: requires three seeds" in table_lines(one, "a/compact/random")[-1]


def test_one_sided_networks_are_counted() -> None:
    made = [outcome("a", 0, fold, 0.4) for fold in (1, 2, 3)]
    for number, matrix in enumerate(([[0, 40], [0, 60]], [[1, 39], [0, 60]], [[2, 38], [0, 60]])):
        made[number].figures["confusion_matrix"] = matrix
    assert one_sided_cells([*made, outcome("b", 0, 1, 0.0, "died")]) == {"a/compact/random": 2}


def test_the_figure_shows_means_and_intervals() -> None:
    outcomes = [
        Outcome(dataclasses.replace(made.cell, budget=budget), made.figures | {"labels": budget}, 1)
        for budget in (20, 50)
        for made in (
            outcome(name, seed, fold, 0.6 + seed / 20 + budget / 1000)
            for name in "ab" for seed in range(3) for fold in (1, 2)
        )
    ]  # fmt: skip
    names = ["a/compact/random", "b/compact/random"]
    rows = gather_rows(outcomes, names, [20, 50], 2, "b/compact/random")
    figure = draw_rows(rows, "b/compact/random")
    assert figure is not None
    (axes,) = figure.axes
    lines = [bars.lines[0] for bars in axes.containers]
    for line, dodge in zip(lines, (1.02**-0.5, 1.02**0.5), strict=True):
        assert np.allclose(line.get_ydata(), [0.67, 0.70])
        assert np.allclose(line.get_xdata(), np.array([20, 50]) * dodge)
    assert [text.get_text() for text in axes.texts] == [
        "a/compact/random",
        "b/compact/random (baseline)",
    ]
    low, high = rows[0].interval()
    segment = axes.containers[0].lines[2][0].get_segments()[0]
    assert np.allclose(segment[:, 1], [low, high])
    single = draw_rows([row for row in rows if row.budget == 50], "b/compact/random")
    assert single is not None
    assert "50 labels" in single.axes[0].get_xlabel()
    assert (
        draw_rows(gather_rows([], names, [20], 2, "b/compact/random"), "b/compact/random") is None
    )


# The folder.


SAME = ("table.csv", "table.md", "compare.png")


def without_times(folder: Path) -> list[dict[str, str]]:
    return [row | {"seconds": ""} for row in rows_of(folder / "cells.csv")]


@pytest.mark.parametrize("stop_after", [1, 13])
def test_a_resumed_comparison_ends_with_the_same_bytes(
    data_folder: Path, quick: list[tuple], monkeypatch, stop_after: int
) -> None:
    whole = compare(config_for(data_folder))
    total, trainer = len(quick), compare_cells._train
    assert total == 24

    def stop(*arguments):
        if len(quick) == total + stop_after:
            raise KeyboardInterrupt
        return trainer(*arguments)

    again = config_for(data_folder, out=data_folder.parent / "AGAIN")
    monkeypatch.setattr(compare_cells, "_train", stop)
    with pytest.raises(KeyboardInterrupt):
        compare(again)
    kept = (again.out / "cells.jsonl").read_text().splitlines()
    assert len(kept) == stop_after
    assert (again.out / "table.md").exists() == (stop_after == 13)  # a complete seed by then
    monkeypatch.setattr(compare_cells, "_train", trainer)
    compare(again, resume=True)
    assert len(quick) == 2 * total
    for name in SAME:
        assert (again.out / name).read_bytes() == (whole.folder / name).read_bytes(), name
    assert without_times(again.out) == without_times(whole.folder)
    assert set(kept) <= set((again.out / "cells.jsonl").read_text().splitlines())


def test_seeds_and_another_baseline_can_be_added(data_folder: Path, quick: list[tuple]) -> None:
    few = compare(config_for(data_folder, seeds=1))
    assert any("One seed: without an interval" in line for line in few.lines)
    assert len(quick) == 12
    more = compare(
        config_for(data_folder, seeds=3, baseline="original/compact/random"), resume=True
    )
    assert len(quick) == 36
    whole = config_for(
        data_folder, seeds=3, out=data_folder.parent / "W", baseline="original/compact/random"
    )
    compare(whole)
    for name in SAME:
        assert (whole.out / name).read_bytes() == (more.folder / name).read_bytes(), name
    before = len(quick)
    finished = compare(whole, resume=True)
    assert len(quick) == before
    assert finished.summary["cells"] == {"total": 36, "computed": 36, "failed": 0}


def test_another_comparison_is_not_gone_on_with(data_folder: Path, quick: list[tuple]) -> None:
    config = config_for(data_folder, seeds=1, budgets=(20,))
    compare(config)
    with pytest.raises(ExistsError, match="CMP: exists already"):
        compare(config)
    for changes, reason in (
        ({"folds": 4}, "folds was 3 and is 4"),
        ({"pool": "both"}, "pool was extra and is both"),
        ({"hold_out": "group"}, "held_out was region and is group"),
    ):
        with pytest.raises(ExistsError, match=f"comparison of other settings.*: {reason}"):
            compare(dataclasses.replace(config, **changes), resume=True)
    labels = np.load(data_folder / "Ytrain1.npy")
    np.save(data_folder / "Ytrain1.npy", 1 - labels)
    with pytest.raises(ExistsError, match=r"inputs or versions: Ytrain1\.npy has changed"):
        compare(config, resume=True)
    other = data_folder.parent / "OTHER"
    other.mkdir()
    with pytest.raises(ExistsError, match="not the folder of a comparison"):
        compare(dataclasses.replace(config, out=other), resume=True)
    with pytest.raises(ConfigError, match="exclude each other"):
        compare(config, resume=True, force=True)
    compare(config, force=True)
    assert (data_folder.parent / "CMP.1" / "table.md").is_file()
    (config.out / "cells.jsonl").write_text('{"cell": 3}\n')
    with pytest.raises(DataError, match=r"cells.jsonl: is damaged"):
        compare(config, resume=True)


def test_failed_cells_are_listed_and_stop_nothing(data_folder: Path, monkeypatch) -> None:
    def train(labeled, pool, config):
        if config.method == "original" and config.seed == 1 and len(labeled) == 20:
            raise DeadNetworkError("all 6 networks died", "Try another --seed.")
        return train_by_brightness(labeled, pool, config)

    monkeypatch.setattr(compare_cells, "_train", train)
    found = compare(config_for(data_folder, seeds=3))
    assert len(found.failed) == 3
    assert found.failed[0] == (
        "original/compact/random, 20 labels, seed 1, fold 1: all 6 networks died. "
        "Try another --seed."
    )
    row = next(
        row for row in found.summary["rows"]
        if row["contender"] == "original/compact/random" and row["budget"] == 20
    )  # fmt: skip
    assert (row["seeds"], row["failed_cells"], row["difference_n"]) == (2, 3, 2)
    assert found.failed[2] in (found.folder / "table.md").read_text()
    errors = [line["error"] for line in rows_of(found.folder / "cells.csv") if line["error"]]
    assert errors == ["all 6 networks died. Try another --seed."] * 3


class Notes:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def __getattr__(self, name: str):
        return lambda *arguments: self.lines.append(f"{name}: {arguments[-1]}")


def test_the_duration_is_reported_first_and_by_what_was_measured(
    data_folder: Path, quick: list[tuple], monkeypatch
) -> None:
    clock = iter(np.arange(0, 1e6, 100.0))  # so a cell takes 100 s
    monkeypatch.setattr(compare_cells.time, "monotonic", lambda: float(next(clock)))
    notes = Notes()
    config = config_for(data_folder)
    compare(config, progress=notes)
    text = [line for line in notes.lines if not line.startswith("say: Held out")]
    assert text[0] == "say: 24 cells; 24 to compute on 1 process."
    assert text[1] == "say: The duration is estimated after the first cell of each contender."
    assert re.fullmatch(r"say: 1 of 24: supervised/compact/random, all labels, seed 0, fold 1: "
                        r"macro F1 \d\.\d{4} in 2 min", text[2])  # fmt: skip
    assert "2 of 24: original/compact/random, all labels" in text[3]
    assert (
        text[4]
        == "say: Expected duration: about 37 min for the 22 cells that are left, on 1 process."
    )
    assert text[5].endswith("; about 35 min left")
    assert len(text) == 4 + 23
    monkeypatch.undo()
    before = sorted(path.name for path in config.out.parent.rglob("*"))
    lines = plan(dataclasses.replace(config, seeds=4), resume=True)
    assert "48 cells, 24 of them done; 24 to compute on 1 process." in lines
    assert "Expected duration: about 40 min for the 24 cells that are left, on 1 process." in lines
    assert sum(line.startswith("done: ") for line in lines) == 24
    assert lines[-1] == "to do: original/compact/random, 20 labels, seed 3, fold 3"
    assert sorted(path.name for path in config.out.parent.rglob("*")) == before


def test_the_order_gives_one_cell_of_each_contender_and_then_whole_seeds(tmp_path: Path) -> None:
    config = config_for(tmp_path, networks=("compact", "original"), budgets=(20, "all", 50))
    cells = config.cells()
    assert len(set(cells)) == len(cells) == 4 * 3 * 2 * 3
    assert [cell.contender for cell in cells[:4]] == config.contenders()[0]
    assert {cell.budget for cell in cells[:4]} == {"all"}
    assert [cell.seed for cell in cells] == [0] * 36 + [1] * 36


# The command.


def craters(data: Path, *arguments: str):
    out = str(data.parent / "CMP")
    given = ["--data", str(data), "--out", out, "--threads", "1", "--starts", "random"]
    return CliRunner().invoke(app, ["compare", *given, *arguments])


QUICK = ("--folds", "3", "--budgets", "20,all", "--seeds", "2", "--networks", "compact")


def test_the_command_prints_the_table(data_folder: Path, quick: list[tuple]) -> None:
    result = craters(data_folder, *QUICK)
    assert result.exit_code == 0, result.output
    assert re.search(r"\| 20 +\| original/compact/random +\| 0\.\d{4} ± 0\.\d{4} \|", result.stdout)
    assert "24 of 24: " in result.stderr
    listed = craters(data_folder, *QUICK, "--json", "--resume")
    assert json.loads(listed.stdout) == json.loads(
        (data_folder.parent / "CMP" / "summary.json").read_text()
    )
    assert listed.stderr == ""
    assert "Example" in CliRunner().invoke(app, ["compare", "-h"]).output


def test_a_dry_run_writes_nothing(data_folder: Path, quick: list[tuple]) -> None:
    result = craters(data_folder, *QUICK, "--dry-run")
    assert result.exit_code == 0
    assert result.stdout.count("to do: ") == 24
    assert not (data_folder.parent / "CMP").exists()
    assert quick == []


def test_failed_cells_make_the_exit_code_one(data_folder: Path, monkeypatch) -> None:
    def train(labeled, pool, config):
        raise DataError("found too few")

    monkeypatch.setattr(compare_cells, "_train", train)
    result = craters(data_folder, *QUICK, "-q")
    assert result.exit_code == 1
    assert "craters: error: 24 of 24 cells failed; they are listed in " in result.stderr
    assert (
        "Failed: supervised/compact/random, 20 labels, seed 0, fold 1: found too few"
        in result.stdout
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--methods", "supervized"], 2, "Did you mean 'supervised'?"),
        (["--methods", "supervised,supervised"], 2, "supervised is given twice"),
        (["--methods", ","], 2, "--methods is empty"),
        (["--networks", "compct"], 2, "--networks: found 'compct', expected "),
        (["--budgets", "20,many"], 2, "--budgets: found 'many', expected whole numbers or all"),
        (["--budgets", "3"], 2, "--budgets: found 3, expected at least 4 labels"),
        (["--budgets", "9999"], 2, "--budgets: found 9999, expected at most 70"),
        (["--seeds", "0"], 2, "--seeds is 0, expected 1 or more"),
        (["--folds", "1"], 2, "--folds is 1, expected 2 or more"),
        (["--folds", "12"], 3, "found 9 regions or groups, expected at least 12"),
        (["--hold-out", "regions"], 2, "Did you mean 'region'?"),
        (["--pool", "all"], 2, "--pool is 'all', expected extra or rest or both"),
        (["--baseline", "supervised"], 2, "--baseline: found 'supervised', expected supervised/"),
        (["--resume", "--force"], 2, "exclude each other"),
        (["--data", "nowhere"], 3, "nowhere: no such folder"),
    ],
)
def test_errors_are_one_line(
    data_folder: Path, quick: list[tuple], arguments: list[str], code: int, message: str
) -> None:
    result = craters(data_folder, *arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert result.stderr.startswith("craters: error: ")
    assert result.stdout == ""
    assert not (data_folder.parent / "CMP").exists()
    assert quick == []


def test_pairs_that_cannot_be_trained_are_left_out(data_folder: Path, monkeypatch) -> None:
    accept = JobSettings.__post_init__

    def refuse(config: JobSettings) -> None:
        accept(config)
        if (config.method, config.network) == ("original", "compact"):
            raise ConfigError("they do not go together")

    monkeypatch.setattr(JobSettings, "__post_init__", refuse)
    contenders, refused = config_for(data_folder, networks=("compact", "original")).contenders()
    assert contenders == [
        "supervised/compact/random",
        "supervised/original/random",
        "original/original/random",
    ]
    assert refused == ["original/compact/random is left out: they do not go together"]
    with pytest.raises(ConfigError, match="no method can be combined with any of the networks"):
        config_for(data_folder, methods=("original",))


def test_starts_are_contenders_and_the_original_network_has_one(data_folder: Path) -> None:
    config = config_for(
        data_folder, methods=("supervised",), networks=("compact", "original"),
        starts=("pretrained", "random"),
    )  # fmt: skip
    names = ["supervised/compact/pretrained", "supervised/compact/random"]
    assert config.contenders()[0] == [*names, "supervised/original/random"]
    starts = {cell.contender: cell.start for cell in config.cells()}
    assert {name.rsplit("/")[-1] for name in starts} == set(starts.values())
    settings = config.job_settings("supervised", "compact", "pretrained", 3)
    assert (settings.start, settings.seed) == ("pretrained", 3)
    with pytest.raises(DataError, match="16 x 16 pixels, the pretrained model takes 24 x 24"):
        compare(config)
    with pytest.raises(ConfigError, match="--starts: found 'ransom', expected"):
        config_for(data_folder, starts=("ransom",))


def test_two_processes_and_the_real_trainer(tmp_path: Path) -> None:
    from craters.pipeline import kept_network
    from craters.synthetic import write_dataset
    from craters.training import predict_logits

    write_dataset(tmp_path / "DATA", seed=3, n_labeled=60, n_unlabeled=20, n_test=1, size=16)
    config = CompareConfig(
        tmp_path / "DATA", tmp_path / "CMP", methods=("supervised",), networks=("original",),
        budgets=(24,), seeds=1, folds=2, threads=2,
    )  # fmt: skip
    found = compare(config)
    assert found.failed == []
    data = read_compare_data(config.data)
    folds = draw_folds(data, "auto", 2).folds
    lines = rows_of(config.out / "cells.csv")
    assert [(line["seed"], line["fold"]) for line in lines] == [("0", "1"), ("0", "2")]
    for line in lines:
        seed, fold = int(line["seed"]), folds[int(line["fold"]) - 1]
        cell = Cell("supervised", "original", 24, seed, int(line["fold"]))
        labeled, pool = take_cell(data, fold, cell, "extra")
        settings = JobSettings(method="supervised", network="original", seed=seed, threads=1)
        logits = predict_logits(
            kept_network(labeled, pool, settings), data.labeled.images[fold.test]
        )
        expected = macro_f1(data.labeled.labels[fold.test], (logits >= 0).astype(int))
        assert float(line["macro_f1"]) == pytest.approx(expected, abs=1e-12)


def test_without_a_pool_supervised_is_compared_and_others_say_what_they_lack(
    tmp_path: Path, quick: list[tuple]
) -> None:
    data = write_data(tmp_path / "A")
    for name in ("Xtrain1_extra", "groups_extra"):
        np.save(data / f"{name}.npy", np.load(data / f"{name}.npy")[:0])
    found = read_compare_data(data)
    fold = draw_folds(found, "auto", 3).folds[0]
    assert len(fold.extra) == 0
    cell = Cell("supervised", "compact", 12, 0, 1)
    assert len(take_cell(found, fold, cell, "extra")[0]) == 12
    with pytest.raises(DataError, match="no unlabeled patch is left for 'fixmatch'"):
        take_cell(found, fold, dataclasses.replace(cell, method="fixmatch"), "extra")
