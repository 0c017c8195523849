"""Fixed folds: copies, scores, discipline, resuming, refusals, the command."""

from __future__ import annotations

import csv
import doctest
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from sklearn import metrics

import nanedi_folds
from accuracy.fixed_folds import folds as protocol
from accuracy.fixed_folds import report, scores
from accuracy.fixed_folds.folds import FoldSet, find_copies, hold_out, read_fold_set
from accuracy.fixed_folds.report import quoted_for
from accuracy.fixed_folds.run import KFoldConfig, KFoldOutcome, run_kfold
from accuracy.fixed_folds.scores import Region
from craters.core import NullProgress
from craters.errors import ConfigError, DataError, DeadNetworkError, ExistsError
from craters.training import trainer as training
from tests.conftest import REPOSITORY, simple_patches

OTHER = "OUT: is a benchmark of other settings, inputs or versions"
FILES = ("folds.csv", "predictions.csv", "summary.json", "table.md", "benchmark.png", "config.json")


def write_region(path: Path, n: int = 48, count: int = 3, seed: int = 0, side: int = 16) -> Path:
    images, labels = simple_patches(n, seed, 0.5, side)
    numbers = np.arange(n) % count + 1
    images[5], images[9] = images[4], images[7]  # equal patches of other folds
    images[20] = np.clip(images[21].astype(int) + 7, 0, 255)  # a near copy
    np.savez(path, X=images, y=labels, fold=numbers)
    return path


@pytest.fixture
def regions(tmp_path: Path) -> tuple[Path, ...]:
    return tuple(
        write_region(tmp_path / f"{name}.npz", seed=seed)
        for seed, name in enumerate(("West", "tile7"))
    )


class Trainer:
    """Stands in for training: a network that answers by brightness, noise and seed."""

    def __init__(self, dies_after: int = 10**9) -> None:
        self.calls: list[tuple[np.ndarray, np.ndarray, str, int]] = []
        self.dies_after = dies_after

    def train(self, images: np.ndarray, labels: np.ndarray, name: str, seed: int) -> int:
        if len(self.calls) >= self.dies_after:
            raise DeadNetworkError("every attempt died")
        self.calls.append((images, labels, name, seed))
        return seed

    @staticmethod
    def predict(network: int, images: np.ndarray) -> np.ndarray:
        noise = np.random.default_rng(network).normal(0, 2, len(images))
        return (images.mean(axis=(1, 2)) / 40 - 3 + noise).astype(np.float32)


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    return install(monkeypatch, Trainer())


def install(monkeypatch: pytest.MonkeyPatch, trainer: Trainer, figure: bool = False) -> Trainer:
    if not figure:  # which takes most of the time
        monkeypatch.setattr(report, "draw", lambda _: Figure(figsize=(1, 1)))
    monkeypatch.setattr(protocol, "train_network", trainer.train)
    monkeypatch.setattr(protocol, "predict_logits", trainer.predict)
    return trainer


def run(paths: tuple[Path, ...], out: Path, resume: bool = False, **changes) -> KFoldOutcome:
    return run_kfold(KFoldConfig(paths, out, threads=1, **changes), resume=resume)


# Copies


@settings(max_examples=40)
@given(
    seed=st.integers(0, 999),
    n=st.integers(4, 40),
    exact=st.integers(0, 6),
    near=st.integers(0, 6),
    flat=st.integers(0, 4),
)
def test_copies_are_those_of_brute_force(
    seed: int, n: int, exact: int, near: int, flat: int
) -> None:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (n, 8, 8)).astype(np.uint8)
    folds = random.integers(1, 4, n)
    for _ in range(exact):
        images[random.integers(n)] = images[random.integers(n)]
    for _ in range(near):
        source = images[random.integers(n)].astype(float)
        noise = random.normal(0, random.choice([2, 20, 30]), (8, 8))
        images[random.integers(n)] = np.clip(source * 0.6 + 30 + noise, 0, 255)
    for _ in range(flat):
        images[random.integers(n)] = random.choice([0, 200])
    found = find_copies(images, folds)
    for row in range(n):
        others = [other for other in range(n) if folds[other] != folds[row]]
        equal = any(np.array_equal(images[row], images[other]) for other in others)
        best = max((correlation(images[row], images[other]) for other in others), default=0.0)
        assert found.exact[row] == equal
        if abs(best - 0.95) > 1e-5:
            assert found.near[row] == (best > 0.95 and not equal)


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def test_constant_patches_are_copies_only_of_equal_ones() -> None:
    images = np.zeros((4, 8, 8), np.uint8)
    images[2] = 9
    images[3] = np.arange(64).reshape(8, 8)
    found = find_copies(images, np.array([1, 2, 1, 2]))
    assert found.exact.tolist() == [True, True, False, False]
    assert not found.near.any()


def test_copies_of_the_same_fold_are_none() -> None:
    images = np.repeat(simple_patches(2, 0, side=8)[0], 2, axis=0)
    assert not find_copies(images, np.array([1, 1, 2, 2])).either.any()


# Scores


def test_scores_are_those_of_scikit_learn(
    regions: tuple[Path, ...], trainer: Trainer, tmp_path: Path
) -> None:
    outcome = run(regions, tmp_path / "OUT", seeds=2, members=2, seed=3)
    rows = read_csv(tmp_path / "OUT" / "predictions.csv")
    table = {
        (row["region"], row["seed"], row["fold"]): row
        for row in read_csv(tmp_path / "OUT" / "folds.csv")
    }
    assert len(table) == 2 * 2 * 3
    for name in ("West", "tile7"):
        of_region = [row for row in rows if row["region"] == name]
        for seed in ("3", "4"):
            official, kept = [], []
            for fold in ("1", "2", "3"):
                mine = [row for row in of_region if row["fold"] == fold]
                found = table[name, seed, fold]
                f1 = by_hand(mine, seed, found, "")
                official.append(f1)
                left = [row for row in mine if row["copy"] == ""]
                kept.append(by_hand(left, seed, found, "_without_copies"))
                assert int(found["exact_copies"]) == sum(row["copy"] == "exact" for row in mine)
                assert int(found["near_copies"]) == sum(row["copy"] == "near" for row in mine)
                assert int(found["patches_without_copies"]) == len(left)
            summary = outcome.summary["regions"][name]
            for kind, values in (("official", official), ("without_copies", kept)):
                seeds = summary[kind]["crater_f1"]["seeds"]
                assert seeds[int(seed) - 3] == pytest.approx(np.mean(values))
            pooled = summary["official"]["pooled_crater_f1"][int(seed) - 3]
            assert pooled == pytest.approx(f1_of(of_region, seed))


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def f1_of(rows: list[dict[str, str]], seed: str) -> float:
    labels = [int(row["label"]) for row in rows]
    return metrics.f1_score(labels, [float(row[f"probability_seed{seed}"]) >= 0.5 for row in rows])


def by_hand(rows: list[dict[str, str]], seed: str, found: dict[str, str], suffix: str) -> float:
    labels = np.array([int(row["label"]) for row in rows])
    probability = np.array([float(row[f"probability_seed{seed}"]) for row in rows])
    called = probability >= 0.5
    expected = {
        "crater_f1": metrics.f1_score(labels, called),
        "macro_f1": metrics.f1_score(labels, called, average="macro"),
        "accuracy": np.mean(labels == called),
        "roc_auc": metrics.roc_auc_score(labels, probability),
    }
    for name, value in expected.items():
        assert float(found[name + suffix]) == pytest.approx(value, abs=1e-12), name
    return float(expected["crater_f1"])


def test_members_are_joined_by_their_mean_logit(
    regions: tuple[Path, ...], trainer: Trainer, tmp_path: Path
) -> None:
    outcome = run(regions[:1], tmp_path / "OUT", members=3)
    data = outcome.regions[0].data
    expected = np.zeros(len(data), np.float32)
    for position, fold in enumerate(data.numbers):
        rows = data.folds == fold
        found = [
            trainer.predict(call[3], data.images[rows])
            for call in trainer.calls[3 * position : 3 * position + 3]
        ]
        expected[rows] = np.mean(found, axis=0)
    assert np.allclose(outcome.regions[0].logits[0], expected, atol=1e-6)
    assert len({call[3] for call in trainer.calls}) == 9


def test_spreads_by_hand() -> None:
    labels = np.array([0, 1] * 4, np.int8)
    images = simple_patches(8, 0, side=8)[0]
    data = FoldSet("x", images, labels, np.array([1] * 4 + [2] * 4))
    copies = find_copies(images, data.folds)
    right = (labels * 2.0 - 1).astype(np.float32)
    half = right.copy()
    half[1] = -1  # one of the two craters of fold 1 is missed: F1 is 2/3
    measured = [scores.score_folds(data, copies, logits) for logits in (right, half)]
    found = scores.estimate(measured, "crater_f1")
    assert found is not None
    assert found.folds == pytest.approx([5 / 6, 1])
    assert found.seeds == pytest.approx([1, 5 / 6])
    assert found.mean == pytest.approx(11 / 12)
    assert found.standard_error == pytest.approx(1 / 12)
    assert found.sd == pytest.approx(np.std([1, 5 / 6], ddof=1))


def test_a_fold_of_copies_has_no_score_without_them(tmp_path: Path, trainer: Trainer) -> None:
    images, labels = simple_patches(36, 0, 0.5, 16)
    numbers = np.arange(36) % 3 + 1
    images[numbers == 3] = images[numbers == 2]
    labels[numbers == 3] = labels[numbers == 2]
    np.savez(tmp_path / "a.npz", X=images, y=labels, fold=numbers)
    outcome = run((tmp_path / "a.npz",), tmp_path / "OUT")
    rows = read_csv(tmp_path / "OUT" / "folds.csv")
    assert [row["crater_f1_without_copies"] == "" for row in rows] == [False, True, True]
    found = outcome.summary["regions"]["a"]["without_copies"]["crater_f1"]
    assert len(found["folds"]) == 1
    assert found["standard_error"] is None
    np.savez(tmp_path / "b.npz", X=images[numbers > 1], y=labels[numbers > 1],
             fold=numbers[numbers > 1])  # fmt: skip
    outcome = run((tmp_path / "b.npz",), tmp_path / "OUT2")
    assert outcome.summary["regions"]["b"]["without_copies"]["crater_f1"] is None
    assert "| -" in (tmp_path / "OUT2" / "table.md").read_text()


# Discipline, seeds, resuming


def test_training_never_sees_the_held_out_fold(
    regions: tuple[Path, ...], trainer: Trainer, tmp_path: Path
) -> None:
    run(regions, tmp_path / "OUT", seeds=2)
    expected = [
        (data, fold) for _ in range(2) for data in map(read_fold_set, regions)
        for fold in data.numbers
    ]  # fmt: skip
    assert len(trainer.calls) == len(expected)
    for (images, labels, name, _), (data, fold) in zip(trainer.calls, expected, strict=True):
        assert np.array_equal(images, data.images[data.folds != fold])
        assert np.array_equal(labels, data.labels[data.folds != fold])
        assert name == "compact"


@settings(max_examples=20)
@given(st.lists(st.integers(1, 3), min_size=4, max_size=20), st.integers(1, 3))
def test_labels_of_the_held_out_fold_are_hidden(folds: list[int], fold: int) -> None:
    labels = np.arange(len(folds)) % 2
    images = np.zeros((len(folds), 8, 8), np.uint8)
    found = hold_out(FoldSet("x", images, labels.astype(np.int8), np.array(folds)), fold)
    for shown, label, number in zip(found, labels, folds, strict=True):
        assert shown == (-1 if number == fold else label)


def test_equal_seeds_give_equal_bytes_and_others_do_not(
    regions: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch, Trainer(), figure=True)
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        run(regions, tmp_path / name, seed=seed)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    for name in ("folds.csv", "predictions.csv"):
        assert (tmp_path / "a" / name).read_text() != (tmp_path / "c" / name).read_text()
    assert set(FILES) <= set(contents(tmp_path / "a"))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_broken_run_goes_on_and_ends_with_the_same_bytes(
    regions: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch, Trainer())
    run(regions, tmp_path / "whole", seeds=2)
    install(monkeypatch, Trainer(dies_after=5))
    with pytest.raises(DeadNetworkError):
        run(regions, tmp_path / "broken", seeds=2)
    assert len(list((tmp_path / "broken" / "cells").iterdir())) == 5
    assert not (tmp_path / "broken" / "summary.json").exists()
    rest = install(monkeypatch, Trainer())
    run(regions, tmp_path / "broken", resume=True, seeds=2)
    assert len(rest.calls) == 2 * 2 * 3 - 5
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")
    run(regions, tmp_path / "broken", resume=True, seeds=2)
    assert len(rest.calls) == 2 * 2 * 3 - 5
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


def test_what_is_there_is_never_mixed_or_lost(
    regions: tuple[Path, ...], trainer: Trainer, tmp_path: Path
) -> None:
    out = tmp_path / "OUT"
    run(regions, out, resume=True)  # nothing to go on with
    before = contents(out)
    with pytest.raises(ExistsError, match="OUT: exists already"):
        run(regions, out)
    for changes in ({"seed": 1}, {"seeds": 2}, {"members": 2}, {"network": "original"}):
        with pytest.raises(ExistsError, match=OTHER):
            run(regions, out, resume=True, **changes)
    write_region(regions[0], seed=9)
    with pytest.raises(ExistsError, match=OTHER):
        run(regions, out, resume=True)
    assert contents(out) == before
    run_kfold(KFoldConfig(regions, out, threads=1), force=True)
    assert contents(tmp_path / "OUT.1") == before
    assert contents(out) != before


def test_a_damaged_cell_is_reported(regions: tuple[Path, ...], trainer: Trainer, tmp_path: Path):
    run(regions, tmp_path / "OUT")
    cell = tmp_path / "OUT" / "cells" / "West-seed0-member0-fold2.npy"
    np.save(cell, np.zeros(3, np.float32))
    with pytest.raises(DataError, match=r"fold2.npy: found float32 .* expected 16 finite logits"):
        run(regions, tmp_path / "OUT", resume=True)


def test_real_trainings_do_not_depend_on_processes(tmp_path: Path) -> None:
    paths = (write_region(tmp_path / "a.npz", n=40, count=2),)
    for threads in (1, 2):
        run_kfold(KFoldConfig(paths, tmp_path / str(threads), "original", threads=threads))
    one, two = (contents(tmp_path / name) for name in ("1", "2"))
    assert one == two
    assert len(one) == 2 + len(FILES)


def test_a_real_network_learns_from_the_other_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = training.modern_recipe

    def shorter(*arguments, **named):
        return replace(recipe(*arguments, **named), epochs=40)

    monkeypatch.setattr(training, "modern_recipe", shorter)
    images, labels = simple_patches(120, 3, 0.5, 16)
    data = FoldSet("x", images, labels.astype(np.int8), np.arange(120) % 2)
    logits = protocol.train_cell(
        send=print, images=images, labels=hold_out(data, 1), network="compact", seed=3
    )
    assert metrics.roc_auc_score(labels[data.folds == 1], logits) > 0.9


def test_the_original_network_keeps_its_validation_in_the_training_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def fit(build, train, validation, recipe):
        seen.append((train, validation, recipe))
        return build(recipe.seed), None

    monkeypatch.setattr(training, "fit", fit)
    images, labels = simple_patches(60, 4, 0.5, 28)
    network = training.train_network(images, labels.astype(np.int8), "original", 2**60)
    assert network.name == "original"
    ((train, validation, recipe),) = seen
    assert (len(train), len(validation), recipe.epochs, recipe.seed) == (48, 12, 75, 2**60)
    together = np.concatenate([train.images, validation.images])
    assert sorted(image.tobytes() for image in together) == sorted(map(np.ndarray.tobytes, images))


def test_the_number_of_trainings_and_the_time_left_are_reported(
    regions: tuple[Path, ...], trainer: Trainer, tmp_path: Path
) -> None:
    lines: list[str] = []

    class Lines(NullProgress):
        def say(self, text: str) -> None:
            lines.append(text)

    run_kfold(KFoldConfig(regions, tmp_path / "OUT", seeds=2, threads=1), progress=Lines())
    assert lines[0].startswith("12 trainings of compact: regions 2, seeds 2, members 1")
    assert lines[0].endswith("0 done already, 1 at once.")
    assert lines[1].startswith("1 of 12 trainings done, about ")
    assert lines[-1] == "12 of 12 trainings done."


# Refusals

GOOD = {
    "X": np.random.default_rng(0).integers(0, 256, (12, 256)).astype(np.uint8),
    "y": np.arange(12) // 2 % 2,
    "fold": np.arange(12) % 2 + 1,
}
BAD = {
    "no fold": ({"fold": None}, "a.npz: holds X, y, expected X, y, fold; fold is missing"),
    "pickles": (
        {"y": np.array([0, "1"] * 6, object)},
        "a.npz: y holds Python objects, expected numbers",
    ),
    "no craters": ({"y": GOOD["fold"] - 1}, "a.npz: fold 1 has 0 craters among 6 patches"),
    "labels of 2": ({"y": np.arange(12) % 3}, "a.npz: y: found labels 0, 1, 2, expected 0"),
    "labels of 0.5": ({"y": GOOD["y"] / 2}, "a.npz: y: found labels 0, 0.5, expected 0"),
    "few labels": ({"y": GOOD["y"][:9]}, "a.npz: y: found 9 labels for 12 images"),
    "floats": ({"X": GOOD["X"] / 255}, "a.npz: X is float64, expected uint8"),
    "no squares": ({"X": GOOD["X"][:, :250]}, r"a.npz: X: found shape \(12, 250\), expected"),
    "fold of floats": ({"fold": GOOD["fold"] * 1.0}, "a.npz: fold is float64 of shape"),
    "few folds": ({"fold": GOOD["fold"][:9]}, r"fold is int64 of shape \(9,\), expected one whole"),
    "one fold": ({"fold": np.ones(12, int)}, "a.npz: fold names one fold, expected two or more"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_refused_before_anything_is_written(tmp_path: Path, kind: str) -> None:
    changes, message = BAD[kind]
    arrays = {key: value for key, value in (GOOD | changes).items() if value is not None}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        run((tmp_path / "a.npz",), tmp_path / "OUT")
    assert not (tmp_path / "OUT").exists()


def test_files_that_are_no_archives_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "good.npz", **GOOD)
    assert len(read_fold_set(tmp_path / "good.npz")) == 12
    with pytest.raises(DataError, match="none.npz: no such file, expected .npz with X, y, fold"):
        read_fold_set(tmp_path / "none.npz")
    np.save(tmp_path / "array.npy", GOOD["X"])
    (tmp_path / "cut.npz").write_bytes((tmp_path / "good.npz").read_bytes()[:2000])
    for name in ("array.npy", "cut.npz"):
        with pytest.raises(DataError, match=f"{name}: is no .npz file or is damaged"):
            read_fold_set(tmp_path / name)


def test_patches_too_small_for_the_network_are_refused(tmp_path: Path) -> None:
    path = write_region(tmp_path / "a.npz", side=12)
    with pytest.raises(ConfigError, match="12 x 12 pixels are too small"):
        run((path,), tmp_path / "OUT")
    assert not (tmp_path / "OUT").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"members": 0}, "members is 0, expected 1 to 20"),
        ({"seeds": 0}, "seeds is 0, expected 1 or more"),
        ({"seed": -1}, "seed is -1, expected 0 or more"),
        ({"network": "large"}, "network is 'large', expected 'compact' or 'original'"),
        ({"paths": (Path("a/w.npz"), Path("b/W.npz"))}, "regions are called w, W, expected"),
    ],
)
def test_bad_settings_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        KFoldConfig(**{"paths": (Path("a.npz"),), "out": Path("OUT")} | changes)


def test_networks_that_call_all_alike_are_reported(
    regions: tuple[Path, ...], trainer: Trainer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        protocol, "predict_logits", lambda _, images: np.full(len(images), -1, "f4")
    )
    outcome = run(regions, tmp_path / "OUT")
    assert [row["one_sided"] for row in outcome.summary["regions"].values()] == [3, 3]
    table = (tmp_path / "OUT" / "table.md").read_text()
    assert "West: 3 of 3 times, all patches of a fold are called the same" in table


# Quoted rows


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("west", [0.8878, 0.8389, 0.8533]),
        ("nanedi_CENTER", [0.8881, 0.8302, 0.7935]),
        ("East28", [0.9029, 0.8951, 0.8609]),
        ("tile7", []),
        ("west_and_east", []),
    ],
)
def test_quotes_are_of_the_known_regions(name: str, expected: list[float]) -> None:
    assert list(quoted_for(name).values()) == expected


def test_quoted_rows_stand_at_their_region_only(
    regions: tuple[Path, ...], trainer: Trainer, tmp_path: Path
) -> None:
    outcome = run(regions, tmp_path / "both")
    table = (tmp_path / "both" / "table.md").read_text()
    cells = {row[0]: row[1:] for row in map(split_row, table.splitlines()) if row}
    assert cells["Cohen et al. 2016, as quoted"] == ["88.78", "-", "-", "-"]
    assert cells["crater F1, %"][0] == "West, official"
    assert report.QUOTE_NOTE in table
    assert "are called the same" not in table
    found = outcome.summary["regions"]["West"]["official"]["crater_f1"]
    shown = f"{100 * found['mean']:.2f} ± {100 * found['standard_error']:.2f}"
    assert cells["craters, compact, 1 network a fold, 1 seed"][0] == shown
    run(regions[1:], tmp_path / "other")
    assert "quoted" not in (tmp_path / "other" / "table.md").read_text()


def split_row(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []


def test_the_figure_holds_every_fold_and_quote(
    regions: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch, Trainer(), figure=True)
    outcome = run(regions, tmp_path / "OUT")
    west, other = report.draw(outcome.summary).axes
    expected = outcome.summary["regions"]["West"]["official"]["crater_f1"]["folds"]
    assert west.lines[0].get_ydata().tolist() == pytest.approx([100 * one for one in expected])
    texts = [text.get_text() for text in west.texts]
    assert "Cohen et al. 2016\n88.78, as quoted" in texts
    assert not [text for text in other.texts if "quoted" in text.get_text()]


# The command


def call(*arguments: str | Path) -> None:
    nanedi_folds.main([*map(str, arguments), "--threads", "1"])


def test_the_command_does_what_the_function_does(
    regions: tuple[Path, ...],
    trainer: Trainer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(regions, tmp_path / "function", seeds=2, seed=4)
    arguments = [*regions, "--out", tmp_path / "OUT", "--seeds", "2", "--seed", "4"]
    call(*arguments)
    printed = capsys.readouterr()
    assert printed.out == (tmp_path / "OUT" / "table.md").read_text()
    assert "12 of 12 trainings done." in printed.err
    assert contents(tmp_path / "OUT") == contents(tmp_path / "function")
    call(*arguments, "--resume")
    assert "12 done already" in capsys.readouterr().err
    call(*arguments, "--force", "--network", "original", "--members", "2")
    config = json.loads((tmp_path / "OUT" / "config.json").read_text())
    assert config["settings"] == {"network": "original", "members": 2, "seeds": [4, 5]}
    assert contents(tmp_path / "OUT.1") == contents(tmp_path / "function")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.npz"], 3, "none.npz: no such file"),
        (["none.npz", "--members", "0"], 2, "members is 0"),
    ],
)
def test_the_command_refuses_in_one_line(
    arguments: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        call(*arguments, "--out", tmp_path / "OUT")
    assert ended.value.code == code
    printed = capsys.readouterr().err
    assert message in printed
    assert len(printed.strip().splitlines()) == 1
    assert not (tmp_path / "OUT").exists()


def test_the_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        call("-h")
    example = "python benchmarks/nanedi_folds.py west.npz center.npz --out NANEDI"
    assert example in capsys.readouterr().out


def test_the_examples_of_the_docstrings_hold() -> None:
    for module in (protocol, report):
        assert doctest.testmod(module).attempted
        assert not doctest.testmod(module).failed


# Real data


@pytest.fixture
def nanedi28() -> Path:
    """The real HRSC patches, or a skip with the reason."""
    root = Path(os.environ.get("CRATERS_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (root / "nanedi28" / "west.npz").is_file():
        pytest.skip(f"no real data: {root.name}/nanedi28/west.npz not found; set $CRATERS_DATA")
    return root / "nanedi28"


@pytest.mark.parametrize(("name", "n", "near"), [("west", 2480, 14), ("center", 1170, 34)])
def test_copies_of_the_real_folds(nanedi28: Path, name: str, n: int, near: int) -> None:
    data = read_fold_set(nanedi28 / f"{name}.npz")
    assert len(data) == n
    assert data.numbers == list(range(1, 11))
    homes: dict[bytes, set[int]] = {}
    for image, fold in zip(data.images, data.folds, strict=True):
        homes.setdefault(image.tobytes(), set()).add(int(fold))
    found = find_copies(data.images, data.folds)
    assert found.exact.sum() == sum(len(homes[image.tobytes()]) > 1 for image in data.images)
    assert found.near.sum() == near
    share = found.either.mean()
    assert 0.05 < share < 0.09


def test_regions_are_scored_from_their_logits() -> None:
    images, labels = simple_patches(12, 0, 0.5, 8)
    data = FoldSet("x", images, labels.astype(np.int8), np.arange(12) % 2)
    logits = np.stack([labels * 2.0 - 1, 1 - labels * 2.0]).astype(np.float32)
    region = Region(data, find_copies(images, data.folds), [0, 1], logits)
    right, wrong = region.scores()
    assert [one.official.crater_f1 for one in right] == [1, 1]
    assert [one.official.crater_f1 for one in wrong] == [0, 0]
