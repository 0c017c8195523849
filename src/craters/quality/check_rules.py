"""Rules of the checks of a run: each takes a finished run and returns a finding."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np

from craters.data import UNLABELED
from craters.evaluation import calibration, scores
from craters.models import chose_pretrained
from craters.quality.check_records import TRAIN, VALIDATION, RunRecord, StageSplit

State = Literal["fired", "passed", "not checked"]

ONE_SIDED = 0.02  # share of the rarer prediction below which a network counts as collapsed
NARROW = 0.1  # between the 1st and the 99th percentile of probabilities: nearly constant
WORTH_A_WARNING = 0.05  # change of the share of craters among training labels


@dataclasses.dataclass(frozen=True)
class Finding:
    """Result of a rule: its state and a sentence with the numbers."""

    state: State
    sentence: str


def _judge(fires: bool, sentence: str) -> Finding:
    return Finding("fired" if fires else "passed", sentence)


def _unknown(why: str) -> Finding:
    return Finding("not checked", why)


# Leaks


def equal_copies(record: RunRecord) -> Finding:
    """C01: evaluation patches identical, byte for byte, to a training patch."""
    return _leak(record, 0, "equal")


def near_copies(record: RunRecord) -> Finding:
    """C02: evaluation patches that correlate by more than 0.95 with a training patch."""
    return _leak(record, 1, "are nearly equal to")


def _leak(record: RunRecord, kind: int, relation: str) -> Finding:
    if record.data is None:
        return _unknown(record.why_no_data)
    parts, compared = [], []
    for pair in _comparisons(record):
        compared.append(f"{pair.judged} and {pair.seen}")
        if pair.counts[kind]:
            article = "an" if pair.seen[0] in "aeiou" else "a"
            parts.append(
                f"{pair.counts[kind]} of {pair.n} {pair.judged}{pair.phase} patches {relation} "
                f"{article} {pair.seen} patch"
            )
    if parts:
        return _judge(True, "; ".join(parts) + ".")
    word = "equal" if kind == 0 else "near"
    if any(split.is_cross_fitted for split in record.stage_splits):
        compared.append("folds (those are not on record, but draw copies together)")
    pairs = ", nor between ".join(dict.fromkeys(compared))
    return _judge(False, f"No {word} copies between {pairs} patches.")


@dataclasses.dataclass(frozen=True)
class _Comparison:
    """Number of patches of one set with a copy in another.

    Parameters
    ----------
    judged, seen : str
        Names of the sets.
    n : int
        Patches of the evaluated set.
    counts : (int, int)
        Those with an equal and with a near copy in the `seen` set.
    phase : str
        Stage of the evaluated validation set, in brackets; may be empty.
    """

    judged: str
    seen: str
    n: int
    counts: tuple[int, int]
    phase: str = ""


def _comparisons(record: RunRecord) -> Iterator[_Comparison]:
    """Search the evaluation sets for copies of training patches."""
    copies, ids = record.copies, record.origins["id"]
    measured: list[np.ndarray] = []
    for split in record.stage_splits:
        if split.is_cross_fitted:
            continue
        rows = copies.rows_of(ids[split.rows])
        equal = near = 0
        for name in np.unique(split.names[split.is_evaluated]):
            of_subset = copies.count(rows[split.names != name], rows[split.names == name])
            equal, near = equal + of_subset[0], near + of_subset[1]
        yield _Comparison(
            judged=_evaluated_set_name(split),
            seen="training",
            n=int(split.is_evaluated.sum()),
            counts=(equal, near),
            phase=_stage_suffix(record, split),
        )
        measured.append(rows[split.names == VALIDATION])
    n_test = len(copies.test)
    counts = copies.count(copies.labeled, copies.test)
    yield _Comparison(judged="test", seen="labeled", n=n_test, counts=counts)
    if record.learns_from_pool:
        counts = copies.count(copies.pool, copies.test)
        yield _Comparison(judged="test", seen="unlabeled", n=n_test, counts=counts)
        validation = np.setdiff1d(np.concatenate([np.zeros(0, int), *measured]), copies.pool)
        if len(validation):
            counts = copies.count(copies.pool, validation)
            yield _Comparison(
                judged="validation", seen="unlabeled", n=len(validation), counts=counts
            )


def _evaluated_set_name(split: StageSplit) -> str:
    """Name the evaluation rows of a split."""
    return "validation" if set(split.names[split.is_evaluated]) == {VALIDATION} else "held-out"


def _stage_suffix(record: RunRecord, split: StageSplit) -> str:
    """Return the stage in brackets if there are several splits."""
    return f" ({split.stage} stage)" if len(record.stage_splits) > 1 else ""


def shared_groups(record: RunRecord) -> Finding:
    """C09: source images with patches on both sides of a split."""
    if record.data is None:
        return _unknown(record.why_no_data)
    train, test, ids = record.data.train, record.data.test, record.origins["id"]
    if train.groups is None:
        return _unknown(
            "source images are unknown (no groups_train): figures of validation are optimistic"
        )
    group_of = dict(zip(train.ids.tolist(), train.groups.tolist(), strict=True))
    fired: list[str] = []
    passed: list[str] = []
    for split in record.stage_splits:
        if split.is_cross_fitted:
            rule = record.metrics["validation_rule"]["initial"]
            target = fired if record.held_out == "patch" else passed
            target.append(f"labels were held out once: {rule}")
            continue
        groups = np.array([group_of.get(name, "") for name in ids[split.rows].tolist()])
        judged, both = set(), set()
        for name in np.unique(split.names[split.is_evaluated]):
            mine = set(groups[split.names == name]) - {""}
            judged |= mine
            both |= mine & set(groups[split.names != name])
        word, count = _evaluated_set_name(split), f"the {len(judged)} source images of"
        if both:
            phase = _stage_suffix(record, split)
            fired.append(f"{len(both)} of {count} {word}{phase} have patches in training, too")
        passed.append(f"none of {count} {word} is in training")
    if test.groups is not None:
        judged = set(test.groups.tolist())
        both = judged & set(group_of.values())
        if both:
            fired.append(f"{len(both)} of the {len(judged)} source images of test are labeled, too")
        passed.append(f"none of the {len(judged)} of test is labeled")
    else:
        passed.append("those of test are unknown")
    return _judge(bool(fired), _sentence(fired or passed))


def _sentence(parts: list[str]) -> str:
    text = "; ".join(dict.fromkeys(parts))
    return f"{text[0].upper()}{text[1:]}."


# Chance


def majority(record: RunRecord) -> Finding:
    """C03: no better than predicting the majority class for every patch."""
    return above_majority(_measured(record), record.metrics.get("threshold_chosen_for"))


def above_majority(measured: Iterable[tuple[str, dict[str, Any]]], aim: str | None) -> Finding:
    """Compare metrics with those of predicting the majority class for every patch.

    Parameters
    ----------
    measured : iterable of (str, dict)
        Name and metrics of each evaluation set.
    aim : str or None
        What the decision threshold was chosen for.
    """
    results = []
    for word, row in measured:
        share = _majority_share(row)
        measure, words, floor = "accuracy", "accuracy", share
        if aim and aim != "macro_f1":  # such a threshold trades accuracy on purpose
            measure, words, floor = "macro_f1", "macro F1", share / (1 + share)
        results.append(
            (row[measure] <= floor, f"{words} on {word} is {row[measure]:.4f}, that of the "
             f"commoner class alone {floor:.4f} (n = {row['n']})")
        )  # fmt: skip
    fired = [text for fires, text in results if fires]
    return _judge(bool(fired), _sentence(fired or [text for _, text in results]))


def chance_in_interval(record: RunRecord) -> Finding:
    """C12: intervals that include the chance level."""
    return above_chance(_measured(record), record.metrics.get("threshold_chosen_for"))


def above_chance(measured: Iterable[tuple[str, dict[str, Any]]], aim: str | None) -> Finding:
    """Compare intervals with the chance level; for the parameters, see `above_majority`."""
    fired, passed, reasons = [], [], []
    for word, row in measured:
        intervals = row.get("intervals") or {}
        limits = {"roc_auc": 0.5} | ({} if aim else {"accuracy": _majority_share(row)})
        for name, chance in limits.items():
            if name not in intervals:
                continue
            low, high = intervals[name]
            words = "ROC AUC" if name == "roc_auc" else "accuracy"
            text = f"the interval of {words} on {word}, {low:.4f} to {high:.4f},"
            if low <= chance:
                fired.append(f"{text} does not lie above chance, {chance:.4f}")
            else:
                passed.append(f"{text} lies above chance, {chance:.4f}")
        if not intervals:
            reasons.append(f"{word}: {row.get('no_interval') or 'no intervals in metrics.json'}")
    if not fired and not passed:
        return _unknown("; ".join(reasons))
    return _judge(bool(fired), _sentence(fired or passed))


def collapsed(record: RunRecord) -> Finding:
    """C10: a network that gives nearly the same prediction for every patch."""
    row = record.headline[1] if record.has_labels else None
    return one_sided(row, record.probability, "validation", "test " if record.has_labels else "")


def one_sided(
    row: dict[str, Any] | None, probability: np.ndarray, measured: str, predicted: str
) -> Finding:
    """Find a model that gives nearly the same prediction for every patch.

    Parameters
    ----------
    row : dict or None
        Metrics of evaluated patches.
    probability : ndarray
    measured, predicted : str
        What the patches of `row` and of `probability` are called.
    """
    parts, fires = [], False
    if row is not None:
        (tn, fp), (fn, tp) = row["confusion_matrix"]
        called = (fp + tp) / (tn + fp + fn + tp)
        parts = [f"{called:.1%} of the {row['n']} {measured} patches are called with crater"]
        fires = min(called, 1 - called) < ONE_SIDED
    low, high = np.percentile(probability, (1, 99)) if len(probability) else (0, 1)
    parts.append(
        f"the probabilities of {len(probability)} {predicted}patches lie between {low:.3f} and "
        f"{high:.3f} (98 % of them)"
    )
    fires = fires or high - low < NARROW
    return _judge(bool(fires), _sentence(parts))


def _measured(record: RunRecord) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and metrics of each evaluation set that the run reports."""
    name, row = record.headline
    yield "validation", row
    clean = record.metrics["phases"].get("final_clean")
    if clean is not None and name != "final_clean":
        yield "validation (protocol clean)", clean
    if record.metrics.get("test"):
        yield "the test set", record.metrics["test"]


def _majority_share(row: dict[str, Any]) -> float:
    (tn, fp), (fn, tp) = row["confusion_matrix"]
    n = tn + fp + fn + tp
    return max(tn + fp, fn + tp) / n


# Unlabeled patches


def no_gain(record: RunRecord) -> Finding:
    """C04: no better than the human labels alone."""
    metrics = record.metrics
    if record.method == "supervised":
        return _judge(False, "The final network learned from human labels alone.")
    verdict = metrics.get("verdict")
    if verdict:
        return _judge(
            verdict["outcome"] != "helped",
            f"Unlabeled patches: {verdict['outcome']}; {_verdict_numbers(verdict)}.",
        )
    phases = metrics["phases"]
    before = phases.get("initial")
    after = phases.get("final_clean") or phases.get("final")
    if before is None or after is None:
        return _unknown("the run has no network trained on human labels alone to compare with")
    difference = after["macro_f1"] - before["macro_f1"]
    return _judge(
        difference <= 0,
        f"Macro F1 on the same {after['n']} validation patches is {before['macro_f1']:.4f} from "
        f"human labels alone and {after['macro_f1']:.4f} with pseudo-labels ({difference:+.4f}).",
    )


def unshown_difference(record: RunRecord) -> Finding:
    """C08: a difference between methods is claimed that its interval does not show."""
    if record.method == "supervised":
        return _judge(False, "The final network claims no gain from unlabeled patches.")
    verdict = record.metrics.get("verdict")
    if verdict:
        claims = verdict["outcome"] != "no difference can be shown"
        holds_zero = verdict["low"] <= 0 <= verdict["high"]
        doubt = "its interval includes 0" if holds_zero else _doubt(verdict)
        reason = f", but {doubt}" if doubt and claims else ""
        return _judge(
            claims and bool(doubt),
            f"The verdict is {verdict['outcome']!r}{reason}; {_verdict_numbers(verdict)}.",
        )
    phases = record.metrics["phases"]
    if len(phases) == 1:
        return _judge(False, "The run claims no difference between methods.")
    figures = ", ".join(f"{row['macro_f1']:.4f} ({name})" for name, row in sorted(phases.items()))
    return _judge(
        True,
        f"Macro F1 of {len(phases)} stages is compared, {figures}, each from one training, "
        "without an interval of the difference: chance alone also changes them.",
    )


def _doubt(verdict: dict[str, Any]) -> str:
    """Return why a verdict's interval is too narrow; empty if it is not."""
    if verdict.get("fell_back"):
        return "its interval is over single patches although source images are known"
    groups = verdict.get("n_groups")  # earlier versions did not store it
    if groups is not None and groups < scores.FEW_GROUPS:
        return (
            f"its interval is over {groups} source images (expected at least {scores.FEW_GROUPS})"
        )
    return ""


def _verdict_numbers(verdict: dict[str, Any]) -> str:
    return (
        f"{verdict['method']} minus {verdict['reference']}: {verdict['difference']:+.4f} "
        f"{verdict['measure']} ({100 * verdict['level']:g} % interval {verdict['low']:+.4f} to "
        f"{verdict['high']:+.4f}; seeds: {verdict['n_seeds']}, folds: {verdict['n_folds']})"
    )


def pseudo_labels_evaluated(record: RunRecord) -> Finding:
    """C05: pseudo-labels in an evaluation set."""
    fired: list[str] = []
    passed: list[str] = []
    for split in record.stage_splits:
        pseudo = record.is_pseudo[split.rows] & split.is_evaluated
        word, n = _evaluated_set_name(split), int(split.is_evaluated.sum())
        if pseudo.any():
            whose = f"labels of {word}{_stage_suffix(record, split)}"
            fired.append(f"{int(pseudo.sum())} of the {n} {whose} are the model's own")
        passed.append(f"all {n} labels of {word} were given by people")
    if not passed:
        return _unknown("origins.csv records no split")
    return _judge(bool(fired), _sentence(fired or passed))


def prior_shift(record: RunRecord) -> Finding:
    """C06: pseudo-labels change the share of craters in the training set."""
    pseudo = record.is_pseudo
    if not pseudo.any():
        return _judge(False, "No pseudo-label is among the training labels.")
    split = record.stage_splits[-1]
    rows = split.rows[split.names == TRAIN]
    if not pseudo[rows].any():  # they are used by the final network only, trained on everything
        rows = np.arange(len(pseudo))
    is_crater = record.origins["label"] == "1"
    human = rows[~pseudo[rows]]
    before, after = float(is_crater[human].mean()), float(is_crater[rows].mean())
    text = (
        f"{len(rows) - len(human)} pseudo-labels move the share of craters among the training "
        f"labels from {before:.1%} to {after:.1%}"
    )
    share = record.metrics.get("class_share")
    if share and share["share"] is None:
        text += "; that of the unlabeled patches cannot be estimated"
    elif share:
        text += (
            f"; that of the unlabeled patches is estimated as {share['share']:.1%} "
            f"({share['low']:.1%} to {share['high']:.1%})"
        )
    return _judge(abs(after - before) > WORTH_A_WARNING, f"{text}.")


# Choices made on the evaluation set


def fitted_and_reported(record: RunRecord) -> Finding:
    """C07: calibration or threshold are evaluated only on the patches they were fitted on."""
    metrics = record.metrics
    aim, scaled = metrics.get("threshold_chosen_for"), metrics.get("calibration")
    fitted = [f"the temperature {scaled['temperature']:.3f}"] if scaled else []
    if aim:
        fitted.append(f"the decision threshold {metrics['decision_threshold']:.4g} (for {aim})")
    if not fitted:
        return _judge(False, "Neither a temperature nor a decision threshold was fitted.")
    sentence = f"{' and '.join(fitted)} {'were' if len(fitted) > 1 else 'was'} fitted on validation"
    if metrics.get("test"):
        return _judge(False, _sentence([sentence, "the test set, too, is reported"]))
    if record.evaluations:
        count = len(record.evaluations)
        return _judge(
            False, _sentence([sentence, f"evaluations on other arrays on record: {count}"])
        )
    n = record.headline[1]["n"]
    return _judge(True, _sentence([f"{sentence}, and all figures are of the same {n} patches"]))


def temperature_at_limit(record: RunRecord) -> Finding:
    """C16: no temperature makes the probabilities fit the labels of validation."""
    fitted = record.metrics.get("calibration")
    if not fitted:
        return _judge(False, "No temperature was fitted.")
    temperature = fitted["temperature"]
    text = f"The fitted temperature is {temperature:.3f}"
    if not calibration.is_at_limit(temperature):
        return _judge(False, f"{text}, within its limits.")
    word = "largest" if temperature > 1 else "smallest"
    return _judge(
        True, f"{text}, the {word} allowed: no temperature makes the probabilities fit the labels."
    )


def repeated_test(record: RunRecord) -> Finding:
    """C11: the same test set was evaluated more than once."""
    entries = record.evaluations
    if entries is None:
        if record.metrics.get("test"):
            return _unknown("the run folder has no evaluations.jsonl")
        return _judge(False, "No evaluation on a test set is on record.")
    uses = collections.Counter((entry.images, entry.labels) for entry in entries)
    if not uses:
        return _judge(False, "No evaluation on a test set is on record.")
    key, count = uses.most_common(1)[0]
    mine = [entry for entry in entries if (entry.images, entry.labels) == key]
    models = len({entry.model for entry in mine})
    by = collections.Counter(entry.by for entry in mine)
    times = ", ".join(f"{name}: {number}" for name, number in sorted(by.items()))
    return _judge(
        count > 1,
        f"One labeled set of {mine[0].n} patches was evaluated "
        f"{'once' if count == 1 else f'{count} times'} ({times}), with "
        f"{'one model' if models == 1 else f'{models} models'}.",
    )


def changed_files(record: RunRecord) -> Finding:
    """C13: files changed since the run wrote them."""
    changed = record.changed
    if changed is None:
        return _judge(False, "The files were just written by this run.")
    if not changed:
        return _judge(False, "Every file matches the manifest (SHA-256).")
    named = ", ".join(changed[:3]) + (", ..." if len(changed) > 3 else "")
    return _judge(True, f"{len(changed)} files are missing or changed since the run: {named}.")


def mixed_ranges(record: RunRecord) -> Finding:
    """C14: one array was read with another pixel range than the rest, maybe wrongly."""
    if record.data is None:
        return _unknown(record.why_no_data)
    mixed = record.data.mixed_ranges
    if mixed:
        return _judge(True, _sentence([mixed]))
    pixels = record.data.pixels
    stored = "" if pixels.dtype == "uint8" else f", stored as {pixels.dtype}"
    return _judge(False, f"All arrays were read as {pixels.range_name}{stored}.")


def chosen_on(record: RunRecord) -> Finding:
    """C15: evaluation patches of the sets that the pretrained model was chosen by."""
    start = record.metrics.get("start", {"name": "random"})  # earlier versions knew no other
    if record.has_labels and start["name"] == "random":
        return _judge(False, "Training did not start from the pretrained model.")
    if record.data is None:
        return _unknown(record.why_no_data)
    parts, fires = [], False
    sets = {"labeled": record.data.train} if record.has_labels else {}
    for name, patches in (sets | {"test": record.data.test}).items():
        known = patches.take(np.flatnonzero(patches.labels != UNLABELED))
        if len(known) == 0:
            continue
        count = int(chose_pretrained(known.images).sum())
        parts.append(f"{count} of {len(known)} {name} patches chose the pretrained model")
        fires = fires or count > 0
    if fires:
        parts.append("measured on them, it and the networks trained from it look somewhat better")
    return _judge(fires, _sentence(parts or ["no labeled patch is evaluated"]))
