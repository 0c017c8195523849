"""Reasons to doubt a model evaluated on labeled patches: useless, inverted, bad threshold."""

from __future__ import annotations

import numpy as np

from craters.evaluation import Scored, calibration, measure, scores
from craters.quality import check_rules as rules

WORTH_A_DOUBT = 0.15  # of macro F1, lost by the decision threshold


def evaluation_doubts(
    scored: Scored, result: scores.Scores, name: str, aim: str | None
) -> list[str]:
    """Apply the checks of runs that need no more than predictions, and two of their own.

    Parameters
    ----------
    scored : Scored
        The labeled patches, at the model's decision threshold.
    result : scores.Scores
        Their metrics.
    name : str
        What the patches are called, such as "Xtest1.npy".
    aim : str or None
        What the decision threshold was chosen for.

    Returns
    -------
    list of str
        Sentences without a full stop; empty if nothing is wrong.
    """
    row = result.to_dict()
    findings = [
        rules.above_majority([(name, row)], aim),
        rules.one_sided(row, scored.probability, "evaluated", ""),
        rules.above_chance([(name, row)], aim),
    ]
    doubts = [each.sentence.rstrip(".") for each in findings if each.state == "fired"]
    auc, high = row["roc_auc"], row["intervals"].get("roc_auc", (0, row["roc_auc"]))[1]
    if high < 0.5:
        return [
            f"the model ranks the patches of {name} the wrong way round (ROC AUC {auc:.2f}): is 1 "
            "the label of patches with a crater, and are the pixels not inverted?",
            *doubts,
        ]
    return [*doubts, *_threshold_doubt(scored, row["macro_f1"], auc, aim)]


def _threshold_doubt(scored: Scored, macro_f1: float, auc: float, aim: str | None) -> list[str]:
    """Describe how much the decision threshold loses of what the ranking allows."""
    if aim and aim != "macro_f1":  # such a threshold trades it on purpose
        return []
    best = calibration.choose_threshold(scored, "macro_f1")
    possible = measure(
        Scored(labels=scored.labels, probability=scored.probability, decision_threshold=best)
    ).macro_f1
    if possible - macro_f1 < WORTH_A_DOUBT:
        return []
    called = scored.probability >= scored.decision_threshold
    recall = float(np.mean(called[scored.labels == 1]))
    return [
        f"the decision threshold {scored.decision_threshold:g} does not suit these patches: macro "
        f"F1 is {macro_f1:.2f}, with {recall:.0%} of the craters found, although the ranking (ROC "
        f"AUC {auc:.2f}) allows {possible:.2f}, at {best:.2g}"
    ]
