"""The rules of the honesty checks: each looks at a finished run and says what it found."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from craters.quality.check_evidence import TRAIN, VALIDATION, Evidence, Part

State = Literal["fired", "passed", "not checked"]

ONE_SIDED = 0.02  # share of the rarer answer below which a network is called collapsed
NARROW = 0.1  # between the 1st and the 99th percentile of probabilities: nearly constant
WORTH_A_WARNING = 0.05  # change of the share of craters among training labels
LEAST_PAIRS = 5  # of trainings; fewer make a t interval that hardly says anything


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a rule found: its state and a sentence with the numbers in it."""

    state: State
    sentence: str


def _judge(fires: bool, sentence: str) -> Finding:
    return Finding("fired" if fires else "passed", sentence)


def _unknown(why: str) -> Finding:
    return Finding("not checked", why)


# Leaks


def equal_copies(evidence: Evidence) -> Finding:
    """C01: judged patches that equal, byte for byte, one that was learned from."""
    return _leak(evidence, 0, "equal")


def near_copies(evidence: Evidence) -> Finding:
    """C02: judged patches that correlate by more than 0.95 with one that was learned from."""
    return _leak(evidence, 1, "are nearly equal to")


def _leak(evidence: Evidence, kind: int, verb: str) -> Finding:
    if evidence.data is None:
        return _unknown(evidence.why_no_data)
    parts, compared = [], []
    for pair in _comparisons(evidence):
        compared.append(f"{pair.judged} and {pair.seen}")
        if pair.counts[kind]:
            article = "an" if pair.seen[0] in "aeiou" else "a"
            parts.append(
                f"{pair.counts[kind]} of {pair.n} {pair.judged}{pair.phase} patches {verb} "
                f"{article} {pair.seen} patch"
            )
    if parts:
        return _judge(True, "; ".join(parts) + ".")
    word = "equal" if kind == 0 else "near"
    if any(part.is_cross_fitted for part in evidence.parts):
        compared.append("folds (those are not on record, but draw copies together)")
    pairs = ", nor between ".join(dict.fromkeys(compared))
    return _judge(False, f"No {word} copies between {pairs} patches.")


@dataclasses.dataclass(frozen=True)
class _Comparison:
    """Copies of the patches of one set among those of another.

    Parameters
    ----------
    judged, seen : str
        Names of the sets.
    n : int
        Patches of the judged set.
    counts : (int, int)
        Of them, those with an equal and with a near copy among the seen ones.
    phase : str
        In brackets, which phase's validation set was judged; may be empty.
    """

    judged: str
    seen: str
    n: int
    counts: tuple[int, int]
    phase: str = ""


def _comparisons(evidence: Evidence) -> Iterator[_Comparison]:
    """Search the judged sets for copies of what was learned from."""
    copies, ids = evidence.copies, evidence.origins["id"]
    measured: list[np.ndarray] = []
    for part in evidence.parts:
        if part.is_cross_fitted:
            continue
        rows = copies.rows_of(ids[part.rows])
        equal = near = 0
        for name in np.unique(part.names[part.judged]):
            counts = copies.count(rows[part.names != name], rows[part.names == name])
            equal, near = equal + counts[0], near + counts[1]
        yield _Comparison(
            judged=_judged_word(part),
            seen="training",
            n=int(part.judged.sum()),
            counts=(equal, near),
            phase=_phase_word(evidence, part),
        )
        measured.append(rows[part.names == VALIDATION])
    n_test = len(copies.test)
    found = copies.count(copies.labeled, copies.test)
    yield _Comparison(judged="test", seen="labeled", n=n_test, counts=found)
    if evidence.learns_from_pool:
        found = copies.count(copies.pool, copies.test)
        yield _Comparison(judged="test", seen="unlabeled", n=n_test, counts=found)
        validation = np.setdiff1d(np.concatenate([np.zeros(0, int), *measured]), copies.pool)
        if len(validation):
            found = copies.count(copies.pool, validation)
            yield _Comparison(
                judged="validation", seen="unlabeled", n=len(validation), counts=found
            )


def _judged_word(part: Part) -> str:
    """Name the part of a split that is measured on."""
    return "validation" if set(part.names[part.judged]) == {VALIDATION} else "held-out"


def _phase_word(evidence: Evidence, part: Part) -> str:
    """Name the phase in brackets, where there are several splits."""
    return f" ({part.phase} phase)" if len(evidence.parts) > 1 else ""


def shared_groups(evidence: Evidence) -> Finding:
    """C09: source images with patches on both sides of a split."""
    if evidence.data is None:
        return _unknown(evidence.why_no_data)
    train, test, ids = evidence.data.train, evidence.data.test, evidence.origins["id"]
    if train.groups is None:
        return _unknown(
            "source images are unknown (no groups_train): figures of validation are optimistic"
        )
    group_of = dict(zip(train.ids.tolist(), train.groups.tolist(), strict=True))
    fired: list[str] = []
    passed: list[str] = []
    for part in evidence.parts:
        if part.is_cross_fitted:
            rule = evidence.metrics["validation_rule"]["initial"]
            told = fired if evidence.held_out == "patch" else passed
            told.append(f"labels were held out once: {rule}")
            continue
        groups = np.array([group_of.get(name, "") for name in ids[part.rows].tolist()])
        judged, both = set(), set()
        for name in np.unique(part.names[part.judged]):
            mine = set(groups[part.names == name]) - {""}
            judged |= mine
            both |= mine & set(groups[part.names != name])
        word, count = _judged_word(part), f"the {len(judged)} source images of"
        if both:
            phase = _phase_word(evidence, part)
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


def majority(evidence: Evidence) -> Finding:
    """C03: no better than the commoner class for every patch."""
    aim = evidence.metrics.get("threshold_chosen_for")
    told = []
    for word, row in _measured(evidence):
        share = _majority_share(row)
        measure, words, floor = "accuracy", "accuracy", share
        if aim and aim != "macro_f1":  # such a threshold gives accuracy away on purpose
            measure, words, floor = "macro_f1", "macro F1", share / (1 + share)
        told.append(
            (row[measure] <= floor, f"{words} on {word} is {row[measure]:.4f}, that of the "
             f"commoner class alone {floor:.4f} (n = {row['n']})")
        )  # fmt: skip
    fired = [text for fires, text in told if fires]
    return _judge(bool(fired), _sentence(fired or [text for _, text in told]))


def chance_in_interval(evidence: Evidence) -> Finding:
    """C12: intervals that hold what chance would give."""
    fired, passed, reasons = [], [], []
    aim = evidence.metrics.get("threshold_chosen_for")
    for word, row in _measured(evidence):
        found = row.get("intervals") or {}
        limits = {"roc_auc": 0.5} | ({} if aim else {"accuracy": _majority_share(row)})
        for name, chance in limits.items():
            if name not in found:
                continue
            low, high = found[name]
            words = "ROC AUC" if name == "roc_auc" else "accuracy"
            text = f"the interval of {words} on {word}, {low:.4f} to {high:.4f},"
            if low <= chance:
                fired.append(f"{text} does not lie above chance, {chance:.4f}")
            else:
                passed.append(f"{text} lies above chance, {chance:.4f}")
        if not found:
            reasons.append(f"{word}: {row.get('no_interval') or 'no intervals in metrics.json'}")
    if not fired and not passed:
        return _unknown("; ".join(reasons))
    return _judge(bool(fired), _sentence(fired or passed))


def collapsed(evidence: Evidence) -> Finding:
    """C10: a network that says nearly the same of every patch."""
    row = evidence.headline[1]
    (tn, fp), (fn, tp) = row["confusion_matrix"]
    called = (fp + tp) / (tn + fp + fn + tp)
    low, high = (
        np.percentile(evidence.probability, (1, 99)) if len(evidence.probability) else (0, 1)
    )
    parts = [
        f"{called:.1%} of the {row['n']} validation patches are called with crater",
        f"the probabilities of {len(evidence.probability)} test patches lie between {low:.3f} and "
        f"{high:.3f} (98 % of them)",
    ]
    fires = min(called, 1 - called) < ONE_SIDED or high - low < NARROW
    return _judge(bool(fires), _sentence(parts))


def _measured(evidence: Evidence) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the measured sets that figures are quoted of."""
    name, row = evidence.headline
    yield "validation", row
    clean = evidence.metrics["phases"].get("final_clean")
    if clean is not None and name != "final_clean":
        yield "validation (protocol clean)", clean
    if evidence.metrics.get("test"):
        yield "the test set", evidence.metrics["test"]


def _majority_share(row: dict[str, Any]) -> float:
    (tn, fp), (fn, tp) = row["confusion_matrix"]
    n = tn + fp + fn + tp
    return max(tn + fp, fn + tp) / n


# Unlabeled patches


def no_gain(evidence: Evidence) -> Finding:
    """C04: no better than the human labels alone."""
    metrics = evidence.metrics
    if evidence.method == "supervised":
        return _judge(False, "The network that is kept learned from human labels alone.")
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
        return _unknown("the run holds no network of the human labels alone to compare with")
    difference = after["macro_f1"] - before["macro_f1"]
    return _judge(
        difference <= 0,
        f"Macro F1 on the same {after['n']} validation patches is {before['macro_f1']:.4f} from "
        f"human labels alone and {after['macro_f1']:.4f} with pseudo-labels ({difference:+.4f}).",
    )


def too_few_seeds(evidence: Evidence) -> Finding:
    """C08: a difference between methods is told from too few trainings."""
    if evidence.method == "supervised":
        return _judge(False, "The network that is kept claims no gain from unlabeled patches.")
    verdict = evidence.metrics.get("verdict")
    if verdict:
        pairs = verdict["n_seeds"] * max(verdict.get("n_folds") or 1, 1)
        claims = verdict["outcome"] != "no difference can be shown"
        holds_zero = verdict["low"] <= 0 <= verdict["high"]
        return _judge(
            claims and (pairs < LEAST_PAIRS or holds_zero),
            f"The verdict is {verdict['outcome']!r}, paired trainings: {pairs} (at least "
            f"{LEAST_PAIRS} are asked for); {_verdict_numbers(verdict)}.",
        )
    phases = evidence.metrics["phases"]
    if len(phases) == 1:
        return _judge(False, "The run claims no difference between methods.")
    figures = ", ".join(f"{row['macro_f1']:.4f} ({name})" for name, row in sorted(phases.items()))
    return _judge(
        True,
        f"Macro F1 of {len(phases)} phases stands side by side, {figures}, each from one training "
        f"(at least {LEAST_PAIRS} pairs are asked for): luck alone moves them, too.",
    )


def _verdict_numbers(verdict: dict[str, Any]) -> str:
    return (
        f"{verdict['method']} minus {verdict['reference']}: {verdict['difference']:+.4f} "
        f"{verdict['measure']} ({100 * verdict['level']:g} % interval {verdict['low']:+.4f} to "
        f"{verdict['high']:+.4f}; seeds: {verdict['n_seeds']}, folds: {verdict['n_folds']})"
    )


def judged_by_itself(evidence: Evidence) -> Finding:
    """C05: labels of the model's own in a set that it is judged on."""
    fired: list[str] = []
    passed: list[str] = []
    for part in evidence.parts:
        pseudo = evidence.is_pseudo[part.rows] & part.judged
        word, n = _judged_word(part), int(part.judged.sum())
        if pseudo.any():
            whose = f"labels of {word}{_phase_word(evidence, part)}"
            fired.append(f"{int(pseudo.sum())} of the {n} {whose} are the model's own")
        passed.append(f"all {n} labels of {word} were given by people")
    if not passed:
        return _unknown("origins.csv tells of no part")
    return _judge(bool(fired), _sentence(fired or passed))


def prior_shift(evidence: Evidence) -> Finding:
    """C06: pseudo-labels change the share of craters that the network learns."""
    pseudo = evidence.is_pseudo
    if not pseudo.any():
        return _judge(False, "No pseudo-label is among the training labels.")
    part = evidence.parts[-1]
    rows = part.rows[part.names == TRAIN]
    if not pseudo[rows].any():  # they serve the network that is kept, trained on everything
        rows = np.arange(len(pseudo))
    is_crater = evidence.origins["label"] == "1"
    human = rows[~pseudo[rows]]
    before, after = float(is_crater[human].mean()), float(is_crater[rows].mean())
    text = (
        f"{len(rows) - len(human)} pseudo-labels move the share of craters among the training "
        f"labels from {before:.1%} to {after:.1%}"
    )
    share = evidence.metrics.get("class_share")
    if share:
        text += (
            f"; that of the unlabeled patches is estimated as {share['share']:.1%} "
            f"({share['low']:.1%} to {share['high']:.1%})"
        )
    return _judge(abs(after - before) > WORTH_A_WARNING, f"{text}.")


# What was chosen by what


def fitted_and_reported(evidence: Evidence) -> Finding:
    """C07: calibration or threshold are judged only on what they were fitted on."""
    metrics = evidence.metrics
    aim, calibration = metrics.get("threshold_chosen_for"), metrics.get("calibration")
    fitted = [f"the temperature {calibration['temperature']:.3f}"] if calibration else []
    if aim:
        fitted.append(f"the decision threshold {metrics['decision_threshold']:.4g} (for {aim})")
    if not fitted:
        return _judge(False, "Neither a temperature nor a decision threshold was fitted.")
    what = f"{' and '.join(fitted)} {'were' if len(fitted) > 1 else 'was'} fitted on validation"
    if metrics.get("test"):
        return _judge(False, _sentence([what, "the test set, too, is reported"]))
    if evidence.evaluations:
        count = len(evidence.evaluations)
        return _judge(False, _sentence([what, f"evaluations on other arrays on record: {count}"]))
    n = evidence.headline[1]["n"]
    return _judge(True, _sentence([f"{what}, and all figures are of the same {n} patches"]))


def repeated_test(evidence: Evidence) -> Finding:
    """C11: the same test set was looked at more than once."""
    entries = evidence.evaluations
    if entries is None:
        if evidence.metrics.get("test"):
            return _unknown("the run folder has no evaluations.jsonl")
        return _judge(False, "No evaluation on a test set is on record.")
    looks = collections.Counter((entry.images, entry.labels) for entry in entries)
    if not looks:
        return _judge(False, "No evaluation on a test set is on record.")
    key, count = looks.most_common(1)[0]
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


def as_written(evidence: Evidence) -> Finding:
    """C13: files that are not as the run wrote them."""
    changed = evidence.changed
    if changed is None:
        return _judge(False, "The files were written by this very run.")
    if not changed:
        return _judge(False, "Every file is as the manifest has it (SHA-256).")
    named = ", ".join(changed[:3]) + (", ..." if len(changed) > 3 else "")
    return _judge(True, f"{len(changed)} files are missing or changed since the run: {named}.")


def mixed_ranges(evidence: Evidence) -> Finding:
    """C14: one array is read as of another pixel range than the rest, maybe wrongly."""
    if evidence.data is None:
        return _unknown(evidence.why_no_data)
    found = evidence.data.mixed_ranges
    if found:
        return _judge(True, _sentence([found]))
    told = evidence.data.train.pixel_range or "0..255"  # empty where no array was read
    return _judge(False, f"All arrays were read as {told}.")
