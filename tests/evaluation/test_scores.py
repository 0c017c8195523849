from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from craters.data import make_patch_set
from craters.errors import ConfigError, DataError
from craters.evaluation import (
    Scored,
    at_prior,
    bootstrap_interval,
    fit_conformal,
    measure,
    prediction_sets,
    scores,
)
from craters.evaluation.calibration import apply_temperature, choose_threshold
from craters.evaluation.conformal import measure_sets
from tests.conftest import simple_patches

seeds = st.integers(0, 2**32 - 1)


def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = (np.arange(n) < 0.4 * n).astype(np.int8)
    return labels, np.clip(0.3 + 0.4 * labels + random.normal(0, 0.25, n), 0, 1)


def test_without_an_aim_the_given_threshold_holds() -> None:
    labels, probability = drawn(30, 0)
    scored = Scored(labels=labels, probability=probability, decision_threshold=0.7)
    assert scores.decision_threshold(scored, None) == 0.7


@given(seeds, st.sampled_from(["macro_f1", "recall>=0.9", "precision>=0.5"]))
def test_a_threshold_by_aim_is_the_chosen_one_and_keeps_its_word(seed: int, aim: str) -> None:
    labels, probability = drawn(40, seed)
    found = scores.decision_threshold(Scored(labels=labels, probability=probability), aim)
    assert found == choose_threshold(Scored(labels=labels, probability=probability), aim)
    reached, plain = (
        measure(Scored(labels=labels, probability=probability, decision_threshold=found)),
        measure(Scored(labels=labels, probability=probability)),
    )
    if aim == "macro_f1":
        assert reached.macro_f1 >= plain.macro_f1 - 1e-12
    elif aim == "recall>=0.9":
        assert reached.crater_recall >= 0.9
    else:
        assert reached.crater_precision >= 0.5


def test_an_aim_out_of_reach_says_what_can_be_reached_and_what_to_do() -> None:
    labels, probability = np.array([0, 1, 0, 1]), np.array([0.9, 0.8, 0.2, 0.3])
    with pytest.raises(DataError) as caught:
        scores.decision_threshold(Scored(labels=labels, probability=probability), "precision>=0.9")
    assert str(caught.value) == (
        "aim precision>=0.9, on 4 validation patches: no decision threshold reaches "
        "precision>=0.9: the best precision is 0.667, at 0.250. Give a lower --aim, and "
        "--resume: finished trainings are kept."
    )
    with pytest.raises(ConfigError, match="aim is 'best', expected"):
        scores.decision_threshold(Scored(labels=labels, probability=probability), "best")


@given(st.permutations(range(12)))
def test_groups_are_found_by_id_whatever_the_order(order: list[int]) -> None:
    names = np.array([f"image_{row % 5}" for row in range(12)])
    images, labels = simple_patches(12, 0, side=8)
    known = make_patch_set(images, labels, groups=names)
    rows = np.array(order[:7])
    assert scores.groups_of(known.ids[rows], known).tolist() == names[rows].tolist()
    assert scores.groups_of(known.ids[rows], dataclasses.replace(known, groups=None)) is None


@pytest.mark.parametrize("grouped", [True, False])
def test_intervals_are_those_of_the_bootstrap(grouped: bool) -> None:
    labels, probability = drawn(90, 1)
    groups = np.array([f"image_{row % 30}" for row in range(90)]) if grouped else None
    found = scores.score(
        Scored(labels=labels, probability=probability, decision_threshold=0.45, groups=groups)
    ).to_dict()
    for name in scores.STATISTICS:
        by_hand = bootstrap_interval(
            Scored(labels=labels, probability=probability, decision_threshold=0.45, groups=groups),
            name,
        )
        assert found["intervals"][name] == [by_hand.low, by_hand.high]
        by = {"level": 0.95, "method": by_hand.method, "n_groups": by_hand.n_groups,
              "skipped": by_hand.skipped}  # fmt: skip
        assert by.items() <= found["intervals_by"].items()
    doubt = None if grouped else "source images are unknown: intervals by patch are too narrow"
    assert found["intervals_by"]["remark"] == doubt
    assert found["no_interval"] is None


def test_few_groups_are_reported() -> None:
    labels, probability = drawn(40, 1)
    by = scores.score(
        Scored(labels=labels, probability=probability, groups=np.arange(40) % 5)
    ).to_dict()["intervals_by"]
    assert by["remark"] == "with fewer than 6 groups intervals may be too narrow"
    assert (
        scores.score(
            Scored(labels=labels, probability=probability, groups=np.arange(40) % 6)
        ).to_dict()["intervals_by"]["remark"]
        is None
    )


def test_calibration_and_prior_by_hand() -> None:
    labels, probability = np.array([0, 1, 1, 1]), np.array([0.5, 0.5, 0.9, 0.9])
    found = scores.score(
        Scored(labels=labels, probability=probability, decision_threshold=0.6)
    ).to_dict()
    assert found["calibration"]["ece"] == pytest.approx((0 + 0.2) / 4)
    # Recall 2/3, no false call: precision 1 whatever the prior.
    assert found["at_prior"] == pytest.approx(
        {"prior": 0.03, "precision": 1, "recall": 2 / 3, "false_positives_per_1000": 0}
    )
    floor = found["calibration"]["ece_of_a_perfect_model"]
    # A perfect model's two bins are off by 0 or 0.5, and by 0.1, 0.4 or 0.9 (0.81, 0.18, 0.01).
    assert floor["mean"] == pytest.approx((0.5 * 0.5 + 0.081 + 0.072 + 0.009) / 2, abs=0.03)
    assert floor["p95"] >= floor["mean"]


@pytest.mark.parametrize(
    ("labels", "groups", "n_pseudo", "reason"),
    [
        ([0, 0, 1, 1], None, 3, "no interval: 3 of the 4 labels are pseudo-labels"),
        ([1, 1, 1, 1], None, 0, "no interval: all 4 labels are 1, expected both classes"),
        ([0, 0, 1, 1], ["a", "a", "a", "b"], 0,
         "no interval: all patches without crater are of one group (a), expected at least two "
         "groups"),
    ],
)  # fmt: skip
def test_where_no_interval_can_be_a_sentence_says_why(labels, groups, n_pseudo, reason) -> None:
    units = None if groups is None else np.array(groups)
    probability = np.array([0.1, 0.6, 0.7, 0.8])
    found = scores.score(
        Scored(labels=np.array(labels), probability=probability, groups=units), n_pseudo=n_pseudo
    ).to_dict()
    assert found["no_interval"] == reason
    assert (found["intervals"], found["intervals_by"]) == ({}, None)
    assert (found["at_prior"] is None) == (0 not in labels)


def test_rows_for_people_hold_the_figures() -> None:
    labels, probability = drawn(90, 2)
    metrics = measure(Scored(labels=labels, probability=probability, decision_threshold=0.45))
    found = scores.score(
        Scored(labels=labels, probability=probability, decision_threshold=0.45)
    ).to_dict()
    rows = {name: (value, beside) for name, value, beside in
            scores.figure_rows(dataclasses.asdict(metrics) | found)}  # fmt: skip
    low, high = found["intervals"]["macro_f1"]
    assert rows["macro F1"] == (f"{metrics.macro_f1:.4f}", f"{low:.4f} to {high:.4f}")
    assert rows["balanced accuracy"] == (f"{metrics.balanced_accuracy:.4f}", "")
    assert rows["Brier score (0 best)"] == (f"{metrics.brier:.4f}", "")
    rare = at_prior(metrics, 0.03)
    assert rows["precision at 3 % craters"] == (f"{rare.precision:.4f}", "")
    assert rows["recall at 3 % craters"] == (f"{metrics.crater_recall:.4f}", "")
    per_1000 = f"{rare.false_positives_per_1000:.0f}"
    assert rows["false positives per 1000 windows"] == (per_1000, "")


def test_rows_say_where_a_figure_or_its_spread_is_not_known() -> None:
    flawless = scores.score(
        Scored(labels=np.tile([0, 1], 9), probability=np.tile([0.1, 0.9], 9))
    ).to_dict()
    metrics = measure(Scored(labels=np.tile([0, 1], 9), probability=np.tile([0.1, 0.9], 9)))
    rows = scores.figure_rows(dataclasses.asdict(metrics) | flawless)
    low = flawless["intervals"]["macro_f1"][0]
    assert 0.7 < low < 0.9
    assert ("macro F1", "1.0000", f"{low:.4f} to 1.0000") in rows
    one_class = scores.score(
        Scored(labels=np.ones(3, int), probability=np.array([0.4, 0.6, 0.8]))
    ).to_dict()
    metrics = measure(Scored(labels=np.ones(3, int), probability=np.array([0.4, 0.6, 0.8])))
    short = scores.figure_rows(dataclasses.asdict(metrics) | one_class)
    assert [row[0] for row in short] == [row[0] for row in rows]
    assert ("ROC AUC", "n/a", "") in short
    assert ("precision at 3 % craters", "n/a", "") in short


def test_prediction_sets_are_those_of_conformal_on_calibrated_probabilities() -> None:
    labels, probability = drawn(80, 3)
    logits = np.log((probability + 0.01) / (1.01 - probability))
    by_class = scores.conformal_scores(
        Scored(labels=labels, probability=probability, logits=logits), 1.7
    )
    fitted = fit_conformal(Scored(labels=labels, probability=apply_temperature(logits, 1.7)))
    assert by_class == {"without crater": list(fitted.without_crater),
                        "with crater": list(fitted.with_crater)}  # fmt: skip
    truth, new = drawn(50, 4)
    sets = prediction_sets(new, fitted, 0.1)
    found = scores.set_shares(by_class, new, truth)
    assert (found["risk"], found["n"]) == (0.1, 50)
    assert found["unsure"] == (sets == 3).mean() > 0
    assert found["none"] == (sets == 0).mean()
    assert found["against_truth"] == dataclasses.asdict(measure_sets(truth, sets, 0.1))
    assert scores.set_shares(by_class, new, np.full(50, -1))["against_truth"] is None


def test_a_network_without_temperature_has_no_prediction_sets() -> None:
    scored = Scored(labels=[0, 1], probability=[0.3, 0.7], logits=np.array([-1.0, 1.0]))
    assert scores.conformal_scores(scored, 1.0) is None
    assert scores.set_shares(None, np.array([0.5]), np.array([1])) is None
