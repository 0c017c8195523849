"""The audit: wrong labels, copies, flaws, shift, cleaned copies, the command."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from typer.testing import CliRunner

from craters.cli.main import app
from craters.data import PatchSet, copies, make_patch_set, search_copies
from craters.data.copies import MOST_PARTNERS
from craters.errors import ConfigError, DataError, ExistsError
from craters.quality import AuditConfig, audit_report, label_errors, run_audit
from craters.quality import shift as audit_shift
from craters.quality.audit import Audit
from craters.quality.cleaning import choose, write_cleaned
from craters.quality.findings import Findings, read_arrays
from craters.quality.flaws import find_flaws
from craters.quality.label_errors import confident_learning, draw_folds, out_of_fold
from craters.quality.shift import LOOKS, compare_arrays, in_words
from craters.training import trainer as training_trainer
from tests.conftest import Estimates, simple_patches, write_job

FIELDS = ("content", "rows", "pairs", "correlation", "shift", "crowded")


def textured(n: int, seed: int, side: int = 16) -> np.ndarray:
    """Smooth random patches: neighbouring pixels are alike, as in images."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(40, 200, (n, side // 4 + 2, side // 4 + 2))
    fine = np.kron(coarse, np.ones((4, 4)))[:, 2 : side + 2, 3 : side + 3]
    return np.clip(fine + random.normal(0, 4, fine.shape), 0, 255).astype(np.uint8)


def correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Correlate each patch of the first with each of the second; constant ones with none."""
    count = len(first)
    both = np.concatenate([first, second]).reshape(2 * count, -1)
    is_constant = np.ptp(both, axis=1) == 0
    with np.errstate(invalid="ignore", divide="ignore"):
        table = np.corrcoef(both)
    table[is_constant] = table[:, is_constant] = 0
    return table[:count, count:]


def best_correlations(images: np.ndarray, most: int) -> np.ndarray:
    """Correlate all pairs where the two overlap, at every move; shape (N, N)."""
    side, tables = images.shape[1], []
    for down in range(-most, most + 1):
        for right in range(-most, most + 1):
            ours = np.s_[max(0, down) : side + min(0, down), max(0, right) : side + min(0, right)]
            theirs = np.s_[
                max(0, -down) : side + min(0, -down), max(0, -right) : side + min(0, -right)
            ]
            tables.append(correlations(images[:, *ours], images[:, *theirs]))
    return np.max(tables, axis=0)


# Copies


@settings(max_examples=40)
@given(
    seed=st.integers(0, 999),
    n=st.integers(4, 30),
    kind=st.sampled_from(["noise", "smooth"]),
    exact=st.integers(0, 5),
    near=st.integers(0, 8),
    flat=st.integers(0, 3),
    shift=st.integers(0, 2),
    size=st.sampled_from([4, 8, None]),
)
def test_copies_are_those_of_brute_force(
    seed: int, n: int, kind: str, exact: int, near: int, flat: int, shift: int, size: int | None
) -> None:
    random = np.random.default_rng(seed)
    images = textured(n, seed)
    if kind == "noise":
        images = random.integers(0, 256, (n, 16, 16)).astype(np.uint8)
    for _ in range(exact):
        images[random.integers(n)] = images[random.integers(n)]
    for _ in range(near):
        source = np.roll(
            images[random.integers(n)].astype(float), random.integers(-1, 2, 2), (0, 1)
        )
        noise = random.normal(0, random.choice([1, 8, 16]), (16, 16))
        images[random.integers(n)] = np.clip(source * 0.6 + 30 + noise, 0, 255)
    for _ in range(flat):
        images[random.integers(n)] = random.choice([0, 200])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies, "_ROWS", 7)
        patch.setattr(copies, "_COLUMNS", 5)
        if size is not None:  # any number of waves finds the same
            patch.setattr(copies, "_choose_size", lambda _: size)
        found = search_copies(images, shift=shift, threads=2)
    best = best_correlations(images, shift)
    is_equal = (images[:, None] == images[None]).all(axis=(2, 3))
    is_clear = is_equal | (np.abs(best - 0.95) > 1e-5)
    is_near = ~is_equal & (best > 0.95)
    assert np.array_equal(found.content[:, None] == found.content[None], is_equal)
    is_pair = np.zeros((len(found.rows), len(found.rows)), bool)
    is_pair[found.pairs[:, 0], found.pairs[:, 1]] = True
    listed = (is_pair | is_pair.T)[np.ix_(found.content, found.content)]
    assert (listed == is_near)[is_clear].all()
    # Counted between two parts, an equal copy comes before a near one.
    seen, judged = np.arange(n // 2), np.arange(n // 2, n)
    equal, near = found.among(judged, seen)
    has_equal, has_near = (table[n // 2 :, : n // 2].any(axis=1) for table in (is_equal, is_near))
    assert np.array_equal(equal, has_equal)
    assert (near == (has_near & ~has_equal))[is_clear[n // 2 :, : n // 2].all(axis=1)].all()


@settings(max_examples=25)
@given(
    seed=st.integers(0, 999),
    n=st.integers(4, 40),
    near=st.integers(0, 12),
    shift=st.integers(0, 2),
    share=st.floats(0.1, 1),
)
def test_copies_of_judged_patches_are_those_of_the_whole_search(
    seed: int, n: int, near: int, shift: int, share: float
) -> None:
    random = np.random.default_rng(seed)
    images = textured(n, seed)
    for _ in range(near):
        moved = np.roll(images[random.integers(n)].astype(float), random.integers(-1, 2, 2), (0, 1))
        noise = random.normal(0, random.choice([0, 1, 8]), (16, 16))
        images[random.integers(n)] = np.clip(moved + noise, 0, 255)
    judged = np.flatnonzero(random.random(n) < share)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies, "_SEARCHED", 6)
        patch.setattr(copies, "_ROWS", 3)
        found = search_copies(images, shift=shift, threads=2, judged=judged)
    whole = search_copies(images, shift=shift)
    assert np.array_equal(found.content, whole.content)
    is_wanted = np.isin(whole.pairs, whole.content[judged]).any(axis=1)
    assert np.array_equal(found.pairs, whole.pairs[is_wanted])
    assert np.array_equal(found.shift, whole.shift[is_wanted])
    np.testing.assert_allclose(found.correlation, whole.correlation[is_wanted], atol=1e-6)
    for ours, theirs in zip(
        found.among(judged, np.arange(n)), whole.among(judged, np.arange(n)), strict=True
    ):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("judged", [None, np.arange(0, 40, 2)])
def test_the_search_reports_its_comparisons(
    judged: np.ndarray | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "_ROWS", 8)
    heard = Estimates()
    search_copies(textured(40, 1), shift=1, judged=judged, progress=heard)
    count, shifts = (40, 5) if judged is None else (20, 9)
    ends = [min(end, count) for end in range(8, count + 8, 8)]
    done = [shift + end / count for shift in range(shifts) for end in ends]
    assert sorted(set(heard.shares)) == pytest.approx([0, *np.array(done) / shifts])


def test_a_crowd_is_found_for_each_judged_patch() -> None:
    random = np.random.default_rng(0)
    n = 3 * MOST_PARTNERS
    crowd = np.clip(textured(1, 3).astype(float) + random.normal(0, 3, (n, 16, 16)), 0, 255)
    images = np.concatenate([crowd.astype(np.uint8), textured(20, 4)])
    found = search_copies(images, shift=1, judged=np.array([0, 1, n]))
    assert found.crowded.nonzero()[0].tolist() == [0, 1]
    _, near = found.among(np.array([0, 1, n]), np.arange(2, len(images)))
    assert near.tolist() == [True, True, False]
    assert len(found.pairs) <= 2 * MOST_PARTNERS


def test_the_correlation_and_the_shift_of_a_pair_are_reported() -> None:
    patch = textured(1, 0, 24)[0]
    images = np.stack([patch[:20, :20], textured(1, 1, 20)[0], patch[2:22, 1:21]])
    found = search_copies(images, shift=2)
    assert found.pairs.tolist() == [[0, 2]]
    assert found.correlation[0] == pytest.approx(1)
    assert found.shift.tolist() == [[2, 1]]
    assert len(search_copies(images, shift=1).pairs) == 0
    assert found.families.tolist() == [0, 1, 0]
    assert found.is_near.tolist() == [True, False, True]


def test_threads_and_blocks_touch_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.concatenate([textured(60, 0), textured(30, 0) + 3])
    first = search_copies(images, shift=1, threads=2)
    monkeypatch.setattr(copies, "_ROWS", 11)
    monkeypatch.setattr(copies, "_PAIRS", 3)
    second = search_copies(images, shift=1, threads=1)
    assert len(first.pairs) == 30
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_a_crowd_is_listed_in_part_and_every_member_is_found() -> None:
    random = np.random.default_rng(0)
    n = 2 * MOST_PARTNERS
    crowd = np.clip(textured(1, 3).astype(float) + random.normal(0, 3, (n, 16, 16)), 0, 255)
    found = search_copies(np.concatenate([crowd.astype(np.uint8), textured(20, 4)]), shift=1)
    assert found.is_near[:n].all()
    assert not found.is_near[n:].any()
    assert found.crowded[:n].all()
    assert len(found.pairs) <= n * MOST_PARTNERS
    assert len(set(found.families[:n])) == 1


# Flaws


def test_flaws_are_named_and_shadow_is_none() -> None:
    patch = np.random.default_rng(0).integers(60, 180, (20, 20)).astype(np.uint8)
    constant, faint, gap, saturated, shadow, specks, black = (patch.copy() for _ in range(7))
    constant[:] = 90
    faint[:] = 90
    faint[:, ::4] = 91
    gap[:, :2] = 0
    saturated[:5] = 255
    rows, columns = np.mgrid[:20, :20]
    shadow[:] = np.clip(8 * (np.hypot(rows - 10, columns - 10) - 5), 0, 255)  # fades to 0
    specks[::3, ::3] = 0
    black[:11] = 0
    black[11:] = 9
    found = find_flaws(np.stack([patch, constant, faint, gap, saturated, shadow, specks, black]))
    assert (shadow == 0).mean() > 0.15
    assert found.tolist() == ["", "constant", "faint", "gap", "saturated", "", "", "gap"]


def test_real_shadows_are_no_gaps(themis48: Path) -> None:
    sets = read_arrays(themis48)
    for found in sets.values():
        assert set(find_flaws(found.images)) <= {"", "saturated"}


# Labels


def test_confident_learning_by_hand() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    probability = np.array([0.1, 0.1, 0.2, 0.9, 0.95, 0.9, 0.2, 0.65])
    found = confident_learning(labels, probability)
    assert found.thresholds == pytest.approx((0.675, 0.675))
    # 0.65 passes no threshold, so that patch is not counted.
    assert found.joint == [[3, 1], [1, 2]]
    assert found.suspected.tolist() == [False, False, False, True, False, False, True, False]
    assert found.estimate == pytest.approx(1 + 4 / 3)
    assert found.order[:2].tolist() == [3, 6]
    assert found.confidence[3] == pytest.approx(0.1)


class Trainer:
    """Stands in for training: answers by the brightest pixels, and remembers what it saw."""

    def __init__(self) -> None:
        self.calls: list[tuple[np.ndarray, np.ndarray, np.ndarray, int]] = []

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, held_out: np.ndarray, seed: int
    ) -> np.ndarray:
        self.calls.append((images, labels, held_out, seed))
        bright = np.percentile(held_out.reshape(len(held_out), -1), 97, axis=1)
        noise = np.random.default_rng(seed).normal(0, 0.1, len(held_out))
        return np.asarray((bright - 160) / 5 + noise, np.float32)


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    found = Trainer()
    monkeypatch.setattr(label_errors, "_train_and_predict", found)
    monkeypatch.setattr(audit_shift, "_held_out_scores", lambda table, *_: table[:, 0] / 255)
    return found


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        audit_report.figures, "contact_sheet", lambda *_: Figure(figsize=(1, 1))
    )  # which takes most of the time


def labeled_set(n: int = 120, groups: bool = True) -> PatchSet:
    images, labels = simple_patches(n, 0, 0.5, 16)
    names = np.array([f"image_{row // 4}" for row in range(n)])
    return make_patch_set(images, labels, names if groups else None)


@pytest.mark.parametrize("groups", [True, False])
def test_each_patch_is_held_out_once_a_round_and_no_copy_is_trained_on(groups: bool) -> None:
    labeled = labeled_set(groups=groups)
    labeled.images[70] = labeled.images[3]
    families = np.arange(120)
    families[[5, 90]] = 5
    drawn = draw_folds(labeled, families, folds=4, rounds=2, seed=1)
    for number in (0, 1):
        folds = [fold for fold in drawn if fold.round == number]
        assert sorted(np.concatenate([fold.held_out for fold in folds])) == list(range(120))
        for fold in folds:
            assert not set(families[fold.train]) & set(families[fold.held_out])
            assert (3 in fold.held_out) == (70 in fold.held_out)
            if groups:
                assert labeled.groups is not None
                assert not set(labeled.groups[fold.train]) & set(labeled.groups[fold.held_out])
    assert len({fold.seed for fold in drawn}) == 8
    assert drawn[0].held_out.tolist() != drawn[4].held_out.tolist()


def test_planted_flips_are_ranked_first(trainer: Trainer) -> None:
    labeled = labeled_set()
    flipped = np.arange(0, 120, 17)
    labels = labeled.labels.copy()
    labels[flipped] = 1 - labels[flipped]
    folds = draw_folds(labeled, np.arange(120), folds=5, rounds=2, seed=0)
    probability = out_of_fold(replace(labeled, labels=labels), folds)
    found = confident_learning(labels, probability)
    assert set(found.order[: len(flipped)]) == set(flipped)
    assert np.flatnonzero(found.suspected).tolist() == flipped.tolist()
    for images, given_labels, held_out, _ in trainer.calls:
        assert len(images) == len(given_labels) == 120 - len(held_out)


def test_finished_trainings_are_kept_and_damaged_ones_refused(
    trainer: Trainer, tmp_path: Path
) -> None:
    labeled = labeled_set()
    folds = draw_folds(labeled, np.arange(120), folds=3, rounds=1, seed=0)
    first = out_of_fold(labeled, folds, cells=tmp_path)
    (tmp_path / f"{folds[1].key}.npy").unlink()
    again = out_of_fold(labeled, folds, cells=tmp_path)
    assert len(trainer.calls) == 4
    np.testing.assert_array_equal(first, again)
    np.save(tmp_path / f"{folds[0].key}.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"float64 of shape \(3,\), expected 40 finite logits"):
        out_of_fold(labeled, folds, cells=tmp_path)


def test_a_real_network_finds_flipped_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = training_trainer.modern_recipe

    def short(*given_values: int, **settings_: object) -> object:
        return replace(recipe(*given_values, **settings_), epochs=20)  # type: ignore[arg-type]

    monkeypatch.setattr(training_trainer, "modern_recipe", short)
    images, truth = simple_patches(200, 0, 0.5, 24)
    labels = truth.copy()
    labels[:8] = 1 - labels[:8]
    labeled = make_patch_set(images, labels)
    folds = draw_folds(labeled, np.arange(200), folds=2, rounds=1, seed=0)
    found = confident_learning(labeled.labels, out_of_fold(labeled, folds))
    assert len(set(found.order[:20]) & set(range(8))) >= 7


def test_too_few_images_are_refused() -> None:
    labeled = labeled_set(12)
    with pytest.raises(DataError, match="found 3 source images, expected at least 5"):
        draw_folds(labeled, np.arange(12), folds=5, rounds=1, seed=0)


# Shift


def image_set(n: int, seed: int, brighter: float = 0) -> PatchSet:
    """Patches of images that differ among themselves."""
    random = np.random.default_rng(seed)
    names = np.arange(n) // 5
    level = random.normal(0, 12, names.max() + 1)[names, None, None]
    images = textured(n, seed) * 0.6 + 50 + level + brighter
    return make_patch_set(
        np.clip(images, 0, 255).astype(np.uint8),
        groups=np.array([f"{seed}_{name}" for name in names]),
    )


def test_a_planted_shift_is_shown_in_words() -> None:
    shift = compare_arrays(("labeled", image_set(300, 1)), ("extra", image_set(300, 2, 30)))
    assert shift.is_shown
    assert shift.verdict in ("clear", "strong")
    assert shift.interval.low > 0.6
    look = dict(zip(LOOKS, shift.looks, strict=True))["brightness"]
    assert look.is_shown
    assert look.low < 30 < look.high + 8
    assert look.difference == pytest.approx(look.second - look.first)
    text = "\n".join(in_words(shift))
    assert "extra patches are brighter than labeled ones" in text
    assert shift.note == ""


@pytest.mark.parametrize("seed", [1, 3, 5])
def test_no_shift_stays_silent(seed: int) -> None:
    shift = compare_arrays(("labeled", image_set(300, seed)), ("test", image_set(300, seed + 1)))
    assert not shift.is_shown
    assert 0.4 < shift.area < 0.6
    assert "no difference that matters" in in_words(shift)[0]


def test_unknown_images_are_said() -> None:
    alone = replace(image_set(100, 2), groups=None)
    shift = compare_arrays(("labeled", image_set(100, 1)), ("test", alone))
    assert "source images of test are not known" in shift.note
    with pytest.raises(DataError, match="found 2 patches or source images"):
        compare_arrays(("labeled", image_set(10, 1)), ("test", alone))


# The whole audit


def plant(folder: Path) -> Path:
    """Write a job with every flaw that --fix leaves out."""
    write_job(folder, n=120, side=16, groups=True)
    images = {name: np.load(folder / f"{name}.npy") for name in
              ("Xtrain1", "Xtrain1_extra", "Xtest1")}  # fmt: skip
    labels = np.load(folder / "Ytrain1.npy")
    train, extra, test = (one.reshape(-1, 16, 16) for one in images.values())
    one, two, three = textured(3, 5)
    train[3], train[50], labels[[3, 50]] = one, one, 1  # equal, of one label
    train[7], train[60], labels[[7, 60]] = two, two, (0, 1)  # equal, of two labels
    train[9], test[4] = three, np.clip(three * 0.7 + 20, 0, 255)  # near, across arrays
    extra[0] = one
    extra[5], train[11] = 80, 90  # constant
    test[7], test[8] = 70, 70  # stay, as the test set is left whole
    for name, array in images.items():
        np.save(folder / f"{name}.npy", array)
    np.save(folder / "Ytrain1.npy", labels)
    np.save(folder / "groups_extra.npy", np.array([f"other_{row // 3}" for row in range(60)]))
    return folder


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    return plant(tmp_path / "DATA")


def audit(planted: Path, out: Path | None = None, **changes) -> Audit:
    flags = {name: changes.pop(name) for name in ("resume", "force") if name in changes}
    return run_audit(AuditConfig(planted, out, threads=1, **changes), **flags)


def test_what_was_planted_is_found(trainer: Trainer, planted: Path) -> None:
    found = audit(planted)
    counts = {(row["of"], row["in"]): (row["equal"], row["near"])
              for row in found.summary["copies"]}  # fmt: skip
    assert counts[("labeled", "labeled")] == (4, 0)
    assert counts[("extra", "labeled")] == (1, 0)
    assert counts[("labeled", "extra")] == (2, 0)
    assert counts[("labeled", "test")] == (0, 1)
    assert counts[("test", "test")] == (2, 0)
    assert found.summary["conflicts"] == [
        {"without_crater": "Xtrain1:7", "with_crater": "Xtrain1:60", "correlation": 1.0}
    ]
    flawed = found.summary["flawed"]
    assert [flawed[name]["constant"] for name in ("labeled", "extra", "test")] == [1, 1, 2]
    assert "left_out" not in found.summary
    text = "\n".join(found.lines)
    assert "2 patches have a copy with the other label" in text
    assert "labeled and extra" in text


def test_fix_writes_exactly_the_rest(trainer: Trainer, planted: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in planted.iterdir()}
    out = tmp_path / "CLEANED"
    found = audit(planted, fix=out)
    with (out / "left_out.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    reasons = {(row["array"], int(row["row"])): row["why"].partition(":")[0] for row in rows}
    assert reasons == {
        ("labeled", 7): "conflict", ("labeled", 9): "copy", ("labeled", 11): "constant",
        ("labeled", 50): "copy", ("labeled", 60): "conflict", ("extra", 0): "copy",
        ("extra", 5): "constant",
    }  # fmt: skip
    why = {row["id"]: row["why"] for row in rows}
    assert why["Xtrain1:50"] == "copy: equal to Xtrain1:3"
    assert why["Xtrain1:9"] == "copy: nearly equal to Xtest1:4"
    stems = {"labeled": ("Xtrain1", "Ytrain1", "groups_train"),
             "extra": ("Xtrain1_extra", "groups_extra"), "test": ("Xtest1",)}  # fmt: skip
    for array, names in stems.items():
        gone = [row for name, row in reasons if name == array]
        for name in names:
            original, cleaned = (np.load(at / f"{name}.npy") for at in (planted, out))
            np.testing.assert_array_equal(cleaned, np.delete(original, gone, axis=0))
            assert cleaned.dtype == original.dtype
    assert sorted(path.name for path in out.iterdir()) == sorted([*before, "left_out.csv"])
    assert {path.name: path.read_bytes() for path in planted.iterdir()} == before
    assert found.summary["left_out"] == {"labeled": 5, "extra": 2, "test": 0}


def test_cleaned_copies_hold_nothing_more_to_fix(
    trainer: Trainer, planted: Path, tmp_path: Path
) -> None:
    audit(planted, fix=tmp_path / "CLEANED", fix_labels="drop", shift=2)
    again = audit(tmp_path / "CLEANED", fix=tmp_path / "TWICE", shift=2)
    assert again.left_out == []


def test_suspected_labels_are_kept_unless_asked_for(
    trainer: Trainer, planted: Path, tmp_path: Path
) -> None:
    labels = np.load(planted / "Ytrain1.npy")
    labels[20] = 1 - labels[20]
    np.save(planted / "Ytrain1.npy", labels)
    kept = audit(planted, fix=tmp_path / "KEPT")
    assert kept.findings.labels is not None
    assert kept.findings.labels.suspected[20]
    assert 20 in kept.findings.labels.order[:3]
    dropped = audit(planted, fix=tmp_path / "DROPPED", fix_labels="drop")
    assert kept.left_out is not None
    assert dropped.left_out is not None
    assert 20 not in {one.row for one in kept.left_out if one.array == "labeled"}
    reasons = {one.row: one.why for one in dropped.left_out if one.array == "labeled"}
    assert reasons[20].startswith("label: probability 0.0")


def test_nothing_is_overwritten(trainer: Trainer, planted: Path, tmp_path: Path) -> None:
    (tmp_path / "THERE").mkdir()
    for folder in (planted, tmp_path / "THERE"):
        with pytest.raises(ExistsError, match=f"{folder}: exists already"):
            audit(planted, fix=folder)
    with pytest.raises(ExistsError, match="exists already"):
        audit(planted, tmp_path / "THERE")
    assert not trainer.calls


def test_leaving_out_a_whole_class_is_refused(trainer: Trainer, planted: Path) -> None:
    findings = audit(planted).findings
    flaws = findings.flaws.copy()
    flaws[np.flatnonzero(findings.given == 0)] = "faint"
    emptied = replace(findings, flaws=flaws)
    with pytest.raises(DataError, match="not of both classes"):
        write_cleaned(emptied, choose(emptied), planted.parent / "CLEANED")
    assert not (planted.parent / "CLEANED").exists()
    assert not list(planted.parent.glob(".*"))


def test_an_audit_leaves_tables_and_resumes(
    trainer: Trainer, no_figures: None, planted: Path, tmp_path: Path
) -> None:
    out = tmp_path / "AUDIT"
    first = audit(planted, out)
    names = {path.name for path in out.iterdir()}
    assert names >= {"audit.json", "audit.md", "labels.csv", "copies.csv", "flawed.csv", "cells"}
    assert {"labels.png", "copies.png", "conflicts.png", "flawed.png"} <= names
    with (out / "labels.csv").open() as stream:
        ranked = list(csv.DictReader(stream))
    confidence = [float(row["confidence"]) for row in ranked]
    assert confidence == sorted(confidence)
    assert len(ranked) == 120
    assert json.loads((out / "audit.json").read_text())["labels"] == json.loads(
        json.dumps(first.summary["labels"])
    )
    bytes_before = (out / "labels.csv").read_bytes()
    audit(planted, out, resume=True)
    assert len(trainer.calls) == 5
    assert (out / "labels.csv").read_bytes() == bytes_before
    audit(planted, out, resume=True, repeats=2)
    assert len(trainer.calls) == 10
    said = "audit of other settings, inputs or versions: seed was 0 and is 1"
    with pytest.raises(ExistsError, match=said):
        audit(planted, out, resume=True, seed=1)
    audit(planted, out, force=True, repeats=0)
    assert (tmp_path / "AUDIT.1" / "labels.csv").is_file()
    assert not (out / "labels.csv").exists()


def test_sheets_show_what_was_found(trainer: Trainer, planted: Path, tmp_path: Path) -> None:
    out = tmp_path / "AUDIT"
    found = audit(planted, out, repeats=0)
    assert (out / "conflicts.png").stat().st_size > 3000
    assert found.findings.conflicts[0][:2] == (7, 60)
    assert isinstance(found.findings, Findings)


def test_only_labeled_patches_are_needed(trainer: Trainer, planted: Path) -> None:
    for name in ("Xtrain1_extra", "Xtest1"):
        (planted / f"{name}.npy").unlink()
    found = audit(planted)
    assert list(found.summary["arrays"]) == ["labeled"]
    assert found.summary["shifts"] == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"repeats": -1}, "--repeats is -1, expected 0 to 20"),
        ({"folds": 1}, "--folds is 1, expected 2 or more"),
        ({"shift": 5}, "--shift is 5, expected 0 to 4"),
        ({"fix_labels": "flip"}, "--fix-labels is 'flip', expected keep or drop"),
        ({"fix_labels": "drop", "repeats": 0}, "--fix-labels drop requires label checks"),
        ({"out": Path("A"), "fix": Path("A")}, "--fix and --out are both A"),
    ],
)
def test_settings_are_checked(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AuditConfig(Path("DATA"), **changes)


def test_missing_arrays_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read_arrays(tmp_path / "none")
    (tmp_path / "DATA").mkdir()
    with pytest.raises(DataError, match=r"Xtrain1\.npy: no such file"):
        read_arrays(tmp_path / "DATA")


# The command


def test_the_command(trainer: Trainer, planted: Path, tmp_path: Path) -> None:
    fix = tmp_path / "CLEANED"
    flags = ["audit", "--data", str(planted), "--threads", "1", "-q"]
    plain = CliRunner().invoke(app, [*flags, "--fix", str(fix)])
    assert plain.exit_code == 0, plain.output
    assert "Cleaned copies keep: labeled 115 of 120, extra 58 of 60, test 30 of 30" in plain.stdout
    assert f"Cleaned copies, left_out.csv: {fix}" in plain.stdout
    as_json = CliRunner().invoke(app, [*flags, "--json"])
    content = json.loads(as_json.stdout)
    assert content["labels"]["joint"] == audit(planted).summary["labels"]["joint"]
    assert content["arrays"]["labeled"]["n"] == 120
    refused = CliRunner().invoke(app, [*flags, "--fix", str(fix)])
    assert refused.exit_code == 6
    assert "exists already" in refused.stderr


def test_a_pool_of_no_patch_is_as_none(tmp_path: Path) -> None:
    data = write_job(tmp_path / "DATA", n=20)
    np.save(data / "Xtrain1_extra.npy", np.load(data / "Xtrain1_extra.npy")[:0])
    assert list(read_arrays(data)) == ["labeled", "test"]
    np.save(data / "Xtest1.npy", np.load(data / "Xtest1.npy")[:0])
    with pytest.raises(DataError, match="found 0 patches, expected at least 1"):
        read_arrays(data)
