"""Cross-fits with networks that answer by brightness: what is asked of whom, and what comes out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from craters.core import NullProgress
from craters.data import make_patch_set, normalize
from craters.errors import DataError
from craters.evaluation.class_share import estimate_class_share
from craters.semi_supervised import learn, methods, verdict
from craters.settings import JobSettings
from craters.training import TrainingRun, TrainState


class Bright(torch.nn.Module):
    """Answers by the mean brightness; `skill` 0 answers by the seed alone."""

    def __init__(self, skill: float) -> None:
        super().__init__()
        self.skill = skill

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean = images.mean((1, 2))
        noise = torch.sin(1e5 * mean) * 3
        return self.skill * 30 * (mean - 0.5) + (1 - self.skill) * noise


class FakeTrainer:
    """Takes down what it is asked to train; `skills` by method."""

    def __init__(self, **skills: float) -> None:
        self.settings = JobSettings(threads=1, start="random").training
        self.is_pretrained = False
        self.progress = NullProgress()
        self.skills = skills
        self.runs: list[TrainingRun] = []
        self.expected: set[str] = set()

    def plan(self, *runs: TrainingRun) -> None:
        self.expected |= {run.name for run in runs}

    def forget(self, *runs: TrainingRun) -> None:
        self.expected -= {run.name for run in runs}

    def train(self, *runs: TrainingRun):
        self.runs += runs
        names = [run.name.split("-fold")[0].split("-round")[0] for run in runs]
        return [(Bright(self.skills.get(name, 1.0)), TrainState()) for name in names]


def patches_of(labels: np.ndarray, seed: int, spread: float = 12.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    level = np.where(labels == 1, 150, 105) + random.normal(0, spread, len(labels))
    noise = random.integers(-3, 4, (len(labels), 16, 16))
    return np.clip(level[:, None, None] + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def sets():
    labels = (np.arange(200) % 5 < 3).astype(np.int8)
    truth = (np.arange(1000) % 10 == 0).astype(np.int8)
    labeled = make_patch_set(patches_of(labels, 1), labels)
    return labeled, make_patch_set(patches_of(truth, 2)), truth


def test_out_of_fold_answers_are_of_the_network_that_did_not_see_the_fold(sets) -> None:
    labeled, pool, _ = sets
    trainer = FakeTrainer()
    found = learn("distillation", labeled, pool, trainer)
    logits = Bright(1.0)(torch.from_numpy(normalize(labeled.images))).numpy()
    assert np.allclose(found.supervised.logits, logits, atol=1e-4)
    names = [run.name for run in trainer.runs]
    assert names == [f"{m}-fold{n}" for m in ("supervised", "distillation") for n in (1, 2, 3)]
    assert trainer.expected == set(names)
    for run, fold in zip(trainer.runs, found.folds.folds * 2, strict=True):
        assert np.array_equal(run.train.ids, labeled.ids[fold.train])
        if run.name.endswith("-fold1"):  # whose learning curve is shown
            assert np.array_equal(run.validation.ids, labeled.ids[fold.held_out])
        else:
            assert run.validation is None
    assert trainer.runs[0].unlabeled is None
    assert trainer.runs[3].unlabeled.kind == "distillation"
    assert found.unlabeled.kind == "distillation"
    assert len(found.unlabeled.pool) == 1000
    assert len({run.purpose for run in trainer.runs}) == 6


def test_the_pools_share_is_estimated_and_handed_to_fixmatch(sets) -> None:
    labeled, pool, truth = sets
    found = learn("fixmatch", labeled, pool, FakeTrainer())
    assert abs(found.share.share - truth.mean()) < 0.03
    assert found.share.low < truth.mean() < found.share.high
    assert found.unlabeled.pool_share == max(found.share.share, 0.1)
    assert found.unlabeled.labeled_share == pytest.approx(labeled.labels.mean())
    assert found.labeled.origin.tolist() == ["human"] * 200


@pytest.mark.parametrize(("truth", "aligned_to"), [(0, 0.1), (1, 0.9)])
def test_a_pool_of_one_class_is_aligned_as_if_a_tenth_were_of_the_other(
    sets, truth: int, aligned_to: float
) -> None:
    pool = make_patch_set(patches_of(np.full(400, truth), 3))
    found = learn("fixmatch", sets[0], pool, FakeTrainer())
    assert abs(found.share.share - truth) < 0.03
    assert found.unlabeled.pool_share == pytest.approx(aligned_to)


def test_a_pool_patch_that_several_folds_answer_for_is_one_patch_of_the_share(sets) -> None:
    labeled, pool, _ = sets
    logits, pool_logits = (
        Bright(1.0)(torch.from_numpy(normalize(one.images))).numpy() for one in (labeled, pool)
    )
    places = np.arange(200) // 4
    for groups in (None, places):
        found = learn("fixmatch", dataclasses.replace(labeled, groups=groups), pool, FakeTrainer())
        once = estimate_class_share(
            labeled.labels, logits, pool_logits, groups=groups, pool_groups=np.arange(1000)
        )
        assert found.share.n_pool == 1000
        for name in ("share", "low", "high"):
            assert getattr(found.share, name) == pytest.approx(getattr(once, name), abs=1e-4)
    # Where a class is of one image, images cannot be drawn, so patches are.
    alone = np.where(labeled.labels == 1, "A", "B")
    narrow = dataclasses.replace(labeled, groups=alone)
    with pytest.raises(DataError, match="too few source images"):
        estimate_class_share(labeled.labels, logits, pool_logits, groups=alone, draws=2)
    assert learn("fixmatch", narrow, pool, FakeTrainer()).share.n_labeled == 200


def test_self_training_gives_right_labels_in_the_class_shares_of_the_people(sets) -> None:
    labeled, pool, truth = sets
    found = learn("self-training", labeled, pool, FakeTrainer())
    pseudo = found.labeled.origin == "pseudo"
    assert np.array_equal(found.labeled.labels[~pseudo], labeled.labels)
    given = found.labeled.labels[pseudo]
    assert given.mean() == pytest.approx(labeled.labels.mean(), abs=0.02)
    by_id = dict(zip(pool.ids.tolist(), truth.tolist(), strict=True))
    right = [by_id[name] for name in found.labeled.ids[pseudo]]
    assert (given == right).mean() > 0.9
    sure = np.maximum(found.labeled.probability[pseudo], 1 - found.labeled.probability[pseudo])
    assert sure.min() >= 0.9
    assert [one.number for one in found.rounds] == [1, 2]
    assert found.rounds[-1].with_crater == given.sum()
    assert set(found.labeled.round[pseudo]) == {2}


def test_a_folds_pseudo_labels_never_come_from_copies_of_its_held_out_patches(sets) -> None:
    labeled, _, _ = sets
    trainer = FakeTrainer()
    found = learn("self-training", labeled, make_patch_set(labeled.images), trainer)
    for run, fold in zip(trainer.runs[3:6], found.folds.folds, strict=True):
        pseudo = run.train.images[run.train.origin == "pseudo"]
        away = {image.tobytes() for image in labeled.images[fold.held_out]}
        assert len(pseudo) > 0
        assert not any(image.tobytes() in away for image in pseudo)


def test_without_a_verdict_the_kept_network_is_trained_on_the_same(sets) -> None:
    labeled, pool, _ = sets
    for method in methods.METHODS:
        quick, whole = FakeTrainer(), FakeTrainer()
        one = learn(method, labeled, pool, quick, judge=False)
        two = learn(method, labeled, pool, whole)
        assert len(quick.runs) < len(whole.runs)
        assert np.array_equal(one.labeled.ids, two.labeled.ids)
        assert np.array_equal(one.labeled.labels, two.labeled.labels)
        assert (one.unlabeled is None) == (two.unlabeled is None)
        if one.unlabeled is not None:
            assert np.array_equal(one.unlabeled.pool, two.unlabeled.pool)
            assert one.unlabeled.pool_share == two.unlabeled.pool_share
        assert not one.verdicts
        assert method in two.verdicts


def test_auto_takes_what_gains_and_abstains_where_nothing_does(sets) -> None:
    labeled, pool, _ = sets
    (name,) = verdict.candidates(200, pretrained=False)
    better = learn("auto", labeled, pool, FakeTrainer(supervised=0.2))
    assert (better.method, better.choice.method) == (name, name)
    assert better.verdicts[name].outcome == "helped"
    assert better.measured is better.tried[name]
    trainer = FakeTrainer(**{name: 0.0})
    worse = learn("auto", labeled, pool, trainer)
    assert worse.method == "supervised"
    assert worse.measured is worse.supervised
    assert worse.unlabeled is None
    assert len(worse.labeled) == 200
    assert worse.choice.reason.startswith(f"{name} gained -")
    assert worse.choice.reason.endswith("dropped. Supervised is kept.")
    assert [run.name for run in trainer.runs if run.name.startswith(name)] == [f"{name}-fold1"]
    assert trainer.expected == {run.name for run in trainer.runs}


def test_without_a_pool_auto_says_why_and_a_named_method_refuses(sets) -> None:
    labeled, _, _ = sets
    empty = dataclasses.replace(make_patch_set(labeled.images[:1]).take(np.arange(0)))
    found = learn("auto", labeled, empty, FakeTrainer())
    assert found.method == "supervised"
    assert "Nothing was tried" in found.choice.reason
    for method in ("fixmatch", "self-training"):
        with pytest.raises(DataError, match="no unlabeled patch"):
            learn(method, labeled, empty, FakeTrainer())


def test_a_large_pool_is_drawn_from(sets, monkeypatch) -> None:
    labeled, pool, truth = sets
    monkeypatch.setattr(methods, "MOST_POOL", 300)
    found = learn("fixmatch", labeled, pool, FakeTrainer())
    again = learn("fixmatch", labeled, pool, FakeTrainer())
    assert len(found.candidates) == len(found.unlabeled.pool) == 300
    assert np.array_equal(found.candidates, again.candidates)
    assert len(np.unique(found.candidates)) == 300
    assert abs(found.share.share - truth.mean()) < 0.06
