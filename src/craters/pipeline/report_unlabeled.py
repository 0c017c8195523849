"""What a report says of the unlabeled patches: class share, what was tried, the verdict."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from craters.evaluation import figures, groups_of
from craters.pipeline.result import JobResult, Phase
from craters.semi_supervised import PSEUDO, Learned, Verdict, pseudo_labels, verdict

_BORDERLINE = 12  # pictures of the pseudo-labels that were given with the least confidence


def summary(result: JobResult) -> dict[str, Any]:
    """Gather the pool's class share, the methods tried, the choice and the verdict.

    Returns
    -------
    dict
        `verdict`, `class_share`, `auto` and `tried`; None where a method knows nothing of it.
    """
    found = result.learned
    tried = {} if found is None else found.verdicts
    told = _verdict(result)
    share = None if found is None or found.share is None else found.share
    choice = None if found is None else found.choice
    return {
        "verdict": None if told is None else _as_dict(told),
        "class_share": (
            None if share is None else dataclasses.asdict(share) | {"sentence": share.sentence}
        ),
        "auto": None if choice is None else dataclasses.asdict(choice),
        "tried": {name: _as_dict(one) for name, one in tried.items()},
    }


def _as_dict(told: Verdict) -> dict[str, Any]:
    return dataclasses.asdict(told) | {"outcome": told.outcome, "sentence": told.sentence}


def _verdict(result: JobResult) -> Verdict | None:
    """Find the verdict on the method that was used; of what `auto` tried in vain, the best one."""
    found = result.learned
    if found is not None:
        if found.method in found.verdicts:
            return found.verdicts[found.method]
        return max(found.verdicts.values(), key=lambda one: one.difference, default=None)
    return _of_phases(result)


def _of_phases(result: JobResult) -> Verdict | None:
    """Compare two phases, without and with pseudo-labels, on human labels that neither learned."""
    last = result.final_clean or result.final
    if last is result.initial:
        return None
    first = result.initial
    if not np.array_equal(first.validation.ids, last.validation.ids):
        return None
    groups = groups_of(first.validation.ids, result.data.train)
    told = verdict.compare_with_supervised(
        result.config.method,
        first.validation.labels,
        last.probability,
        first.probability,
        groups,
        1,
    )
    return dataclasses.replace(told, reference="the first phase", n_labels=len(first.validation))


def count_pseudo_labels(result: JobResult) -> dict[str, Any] | None:
    """Count the pseudo-labels by round, for methods that give any."""
    method = result.config.method if result.learned is None else result.learned.method
    if method not in ("original", "pseudo-label", "self-training"):
        return None
    given = result.labeled.labels[result.labeled.origin == PSEUDO]
    rounds = [] if result.learned is None else result.learned.rounds
    return {
        "threshold": result.config.pseudo_threshold if method == "original" else None,
        "confidence": None if method == "original" else pseudo_labels.CONFIDENCE,
        "pool": len(result.pool_probability),
        "added_without_crater": int((given == 0).sum()),
        "added_with_crater": int((given == 1).sum()),
        "rounds": [dataclasses.asdict(one) | {"crater_share": one.crater_share} for one in rounds],
    }


def lines(found: dict[str, Any]) -> list[str]:
    """Say it in plain lines; `found` is what `summary` and `count_pseudo_labels` gathered."""
    told = []
    if found["class_share"]:
        told.append(found["class_share"]["sentence"])
    told += [one["sentence"] for one in found["tried"].values()]
    if found["auto"]:
        told.append(f"Method auto took {found['auto']['method']}. {found['auto']['reason']}")
    if found["verdict"] and not found["tried"]:
        told.append(found["verdict"]["sentence"])
    pseudo = found["pseudo_labels"]
    if pseudo and pseudo["threshold"] is not None:
        told.append(
            f"Pseudo-labels: {pseudo['added_without_crater']} of {pseudo['pool']} extra patches, "
            "all 'without crater'."
        )
    elif pseudo:
        told.append(
            f"Pseudo-labels: {pseudo['added_with_crater']} with and "
            f"{pseudo['added_without_crater']} without crater, of {pseudo['pool']} extra patches."
        )
    return told


def draw_pool(result: JobResult) -> Figure | None:
    """Draw how probable craters are in the pool, and which patches were given a pseudo-label.

    Calibrated and at the pool's own class share where that is known, else as the first network
    says; None where there is no pool, or nothing was asked of it.
    """
    probability, ids = _asked(result)
    known = ~np.isnan(probability)
    if not known.any():
        return None
    given = np.isin(ids, _pseudo_ids(result))
    figure, (axes,) = figures.new_figure(6.4, 3.6)
    parts = [probability[known & ~given], probability[known & given]]
    names = ["left unlabeled" if given.any() else "unlabeled patches", "given a pseudo-label"]
    axes.hist(
        parts if given.any() else parts[0],
        bins=np.linspace(0, 1, 41).tolist(),
        stacked=True,
        color=["#b9b9b9", figures.ORANGE] if given.any() else "#b9b9b9",
        label=names if given.any() else names[0],
        log=True,
    )
    share = result.learned.share if result.learned is not None else None
    if share is not None:
        text = f"about {share.share:.1%} craters, {share.level:.0%} interval"
        axes.set_title(f"Pool: {text} {share.low:.1%} to {share.high:.1%}", fontsize=10)
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0.8)
    calibrated = ", calibrated at the pool's class share" if share is not None else ""
    axes.set_xlabel(f'probability of "with crater"{calibrated}')
    axes.set_ylabel("unlabeled patches")
    axes.legend(frameon=False, fontsize=9, loc="upper center")
    return figure


def draw_borderline(result: JobResult) -> Figure | None:
    """Draw the pseudo-labeled patches of the least confidence; None where there are none."""
    labeled = result.labeled
    rows = np.flatnonzero(labeled.origin == PSEUDO)
    if len(rows) == 0:
        return None
    confidence = np.abs(labeled.probability[rows] - 0.5)
    rows = rows[np.argsort(confidence, kind="stable")[:_BORDERLINE]]
    captions = [
        f"{labeled.ids[row]}\nas {labeled.labels[row]}, p = {labeled.probability[row]:.3f}"
        for row in rows
    ]
    return figures.contact_sheet(labeled.images[rows], captions)


def _asked(result: JobResult) -> tuple[np.ndarray, np.ndarray]:
    """Return probability and id of the unlabeled patches that were asked about."""
    found: Learned | None = result.learned
    if found is None or found.share is None:
        return result.pool_probability, result.data.pool.ids
    return found.pool_probability, result.data.pool.ids[found.candidates]


def _pseudo_ids(result: JobResult) -> np.ndarray:
    return result.labeled.ids[result.labeled.origin == PSEUDO]


def membership(phase: Phase) -> dict[str, str]:
    """Say in which part of a phase each label stands, by id."""
    if phase.is_cross_fitted:
        return dict.fromkeys(phase.validation.ids, "held out once")
    parts = dict.fromkeys(phase.train.ids, "train")
    return parts | dict.fromkeys(phase.validation.ids, "validation")
