"""Progress messages of a job: its arrays, its class balance, and what unlabeled data gave."""

from __future__ import annotations

from craters.core import Progress
from craters.data import JobData, patches, splits
from craters.semi_supervised import Learned
from craters.training import TrainingSet

NOTHING_SURE = "no patch of one class is confident enough: no pseudo-labels were added."
NO_POOL = "there are no unlabeled patches: no pseudo-labels were added."
WORTH_A_WARNING = 0.05  # change of the crater share that is reported as a shift


def report_data(data: JobData, progress: Progress) -> None:
    """Report size and class balance of every array, and patches that occur more than once."""
    progress.say("Classes: 1 = with crater, 0 = without crater.")
    for name, array in data.sets.items():
        for note in array.notes:
            progress.say(f"Note: {note}.")
        counts = patches.class_counts(array.labels)
        known = "no labels" if len(array) else "none"
        if len(array) and counts["unlabeled"] == 0:
            known = (
                f"{counts['with_crater']} with crater, {counts['without_crater']} without "
                f"({counts['crater_share']:.1%} craters)"
            )
        progress.say(f"{name:8} {counts['n']:6} patches of {array.side} x {array.side}: {known}")
    if data.mixed_ranges:
        progress.warn(
            f"{data.mixed_ranges}. The range of a dark array may be misjudged: see the notes above."
        )
    for first, second, count in splits.repeats_between(data.sets):
        arrays = f"in {first} and {second}" if first != second else f"more than once in {first}"
        progress.warn(f"{count} patches occur {arrays}, byte for byte.")


def report_balance(before: TrainingSet, after: TrainingSet, progress: Progress) -> None:
    """Report how pseudo-labels change the class shares of the training set."""
    old, new = patches.class_counts(before.labels), patches.class_counts(after.labels)
    for word, counts in (("before", old), ("after", new)):
        progress.say(
            f"Training set {word} pseudo-labels: {counts['with_crater']} with crater, "
            f"{counts['without_crater']} without ({counts['crater_share']:.1%} craters)"
        )
    shift = new["crater_share"] - old["crater_share"]
    if abs(shift) > WORTH_A_WARNING:
        progress.warn(
            f"pseudo-labels move the share of craters in the training set from "
            f"{old['crater_share']:.1%} to {new['crater_share']:.1%}: the next network will "
            f"predict too {'few' if shift < 0 else 'many'} craters."
        )


def report_learned(learned: Learned, progress: Progress) -> None:
    """Report the pool's class share, the verdicts, the choice and the pseudo-labels."""
    if learned.supervised.start_choice is not None:
        progress.say(learned.supervised.start_choice.sentence)
    if learned.share is not None:
        progress.say(learned.share.sentence)
    for verdict in learned.verdicts.values():
        progress.say(verdict.sentence)
    if learned.choice is not None:
        progress.say(f"Method auto: {learned.choice.reason}")
    for counts in learned.rounds:
        progress.say(
            f"Round {counts.number}: {counts.with_crater} pseudo-labels with and "
            f"{counts.without_crater} without crater."
        )
    if learned.method == "self-training" and not learned.rounds[-1].with_crater:
        progress.warn(NOTHING_SURE)
