"""A review session, independent of the web page: items to label, answers, progress."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np

from craters.data import CLASS_NAMES
from craters.errors import ConfigError, CratersError, DataError, ModelError
from craters.labels import ANSWERS, Answer, Entry, LabelStore, Tally
from craters.models import (
    doubts,
    find_pretrained,
    load_model,
    measured_quality,
    read_description,
    sides_text,
)
from craters.review.features import Background, PatchPredictions, Scorer
from craters.review.queue import Query, QueryStrategy, uncertainty
from craters.review.retrain import Retraining
from craters.review.source import Source

SORTS = ("uncertainty", "probability", "suspected", "position")
SHOWN = ("open", "all", "answered", *ANSWERS, "disputed")
PAGE = 200  # patches of the grid on one page
AHEAD = 8  # patches that a page may fetch in advance
MOST_ANSWERS = 1000  # in one request

_SAMPLE = 512  # patches that are compared with the training patches of the pretrained model


@dataclasses.dataclass(frozen=True)
class ReceivedAnswer:
    """One answer as received from the page.

    Parameters
    ----------
    patch, answer, why : str
    seconds : float or None
    saw_probability : bool
    knew : int or None
        Entry that the page showed as this reviewer's current answer about the patch.
    """

    patch: str
    answer: str
    why: str = "chosen"
    seconds: float | None = None
    saw_probability: bool = False
    knew: int | None = None


class ReviewSession:
    """A review of one target. Thread-safe.

    Parameters
    ----------
    source : Source
    store : LabelStore
    threads : int
        Threads for predictions; 0: all usable CPUs.
    audit : ndarray or None
        Out-of-fold probabilities of the labeled patches, NaN elsewhere.
    sun_azimuth : float or None
        Direction of light, as the user stated it, for models that turn patches to it.
    """

    def __init__(
        self,
        source: Source,
        store: LabelStore,
        *,
        threads: int = 0,
        audit: np.ndarray | None = None,
        sun_azimuth: float | None = None,
    ) -> None:
        self.source, self.store, self.threads, self.audit = source, store, threads, audit
        self.sun_azimuth = sun_azimuth
        self.notes = list(source.notes)
        self.lock = threading.RLock()
        self.evaluating = threading.Lock()  # held while models predict the random part
        self.tally = Tally()
        self.strategy = QueryStrategy(source, store.seed)
        self.scorer: Scorer | None = None
        self.predictions: PatchPredictions | None = None
        self.scorers: dict[str, Scorer] = {}
        self.decisions: dict[str, dict[str, int]] = {}  # predicted class of patches, by SHA-256
        self.cache = store.path.with_name(f"{store.path.stem}.cache")
        self.background = Background(source, self.cache, self._update_predictions)
        self.retraining = Retraining(
            store.path, source.target, source.data, source.settings, self._adopt
        )
        self.tally.catch_up(store)

    def open_model(self) -> None:
        """Load the last model trained in this review, else the target's; start predictions.

        Without either, the pretrained model is used, if it takes patches of this size.

        Raises
        ------
        ConfigError
            If an azimuth is stated, and the target's model does not turn patches to their light.
        DataError
            If the model takes no patches of this size.
        """
        shipped = self._find_pretrained()
        start = self.source.model or shipped
        self._check_sun_azimuth(start)
        noted = (Path(row["folder"]) for row in reversed(self.store.models()))
        folder = next((path for path in noted if path.is_dir() and not _is_pretrained(path)), start)
        if folder is None:
            self.background.start(None)
            return
        scorer = self.make_scorer(folder)
        is_pretrained = scorer.classifier.description.pretraining is not None
        self._use(scorer, 0 if is_pretrained else int((self.source.given >= 0).sum()), "as given")
        if is_pretrained:
            self._note_pretrained(scorer)

    def _find_pretrained(self) -> Path | None:
        """Return the folder of the pretrained model if it takes patches of this size."""
        try:
            folder = find_pretrained().resolve()
            least, largest = read_description(folder).side_range
        except ModelError:  # this installation lacks it
            return None
        return folder if least <= self.source.side <= largest else None

    def _check_sun_azimuth(self, model: Path | None) -> None:
        if self.sun_azimuth is None:
            return
        if model is None:
            raise ConfigError(
                f"--sun-azimuth {self.sun_azimuth:g}: there is no model that needs it"
            )
        none = np.empty((0, self.source.side, self.source.side), np.uint8)
        load_model(model, threads=1).find_light(none, sun_azimuth=self.sun_azimuth)

    def _note_pretrained(self, scorer: Scorer) -> None:
        """Add notes for the user: which model orders the queue, and when not to trust it."""
        description = scorer.classifier.description
        quality = measured_quality(description, self.source.side)
        self.notes.append(
            "until you retrain, the pretrained model, which has seen no real label, orders the "
            f"queue; on real patches like these: {quality}"
        )
        count = min(len(self.source), _SAMPLE)
        rows = np.linspace(0, len(self.source) - 1, count).round().astype(np.int64)
        self.notes += [
            f"{self.source.target.name} {text}"
            for text in doubts(description, self.source.read(rows))
        ]

    def make_scorer(self, folder: Path) -> Scorer:
        """Load a model with the settings of this review."""
        return Scorer(folder, self.threads, sun_azimuth=self.sun_azimuth)

    def _use(self, scorer: Scorer, labels: int, note: str) -> None:
        least, largest = scorer.classifier.description.side_range
        if not least <= self.source.side <= largest:
            raise DataError(
                f"{scorer.folder}: expects patches of {sides_text((least, largest))} pixels, but "
                f"these have {self.source.side} a side",
                "Name another model by --model.",
            )
        if scorer.sha256 not in {row["sha256"] for row in self.store.models()}:
            self.store.note_model(scorer.sha256, scorer.folder.resolve(), labels, note)
        with self.lock:
            self.scorer = scorer
            self.scorers[scorer.sha256] = scorer
        self.background.start(scorer)

    def _update_predictions(self, predictions: PatchPredictions) -> None:
        with self.lock:
            self.predictions = predictions
            self.strategy.update(predictions, self.audit)

    def _adopt(self, run: Path, merged: dict[str, Any]) -> None:
        """Replace the model by the one that was just trained."""
        scorer = self.make_scorer(run / "model")
        self._use(scorer, int(merged.get("labels", 0)), merged.get("sentence", ""))
        self.background.wait()

    def close(self) -> None:
        """Stop training and predictions, and close the label store."""
        self.retraining.stop()
        self.background.close()
        self.retraining.wait()
        self.store.close()

    # Items to show.

    def find(self, patch: str) -> int:
        """Return the row of a patch, or raise DataError."""
        row = self.source.row_of(patch)
        if row is None:
            raise DataError(f"there is no patch {patch[:80]!r} here")
        return row

    def item(self, row: int, reviewer: str, why: str = "chosen") -> dict[str, Any]:
        """Describe a patch, without information that could bias a reviewer."""
        name = self.source.id_of(row)
        own = self.tally.answer_of(name, reviewer)
        return {
            "id": name,
            "number": row,
            "why": why,
            "side": self.source.side,
            "has_surroundings": self.source.kind == "scan",
            "answer": None if own is None else own.answer,
            "entry": None if own is None else own.entry,
            **self.source.facts(row),
        }

    def details(self, row: int) -> dict[str, Any]:
        """Return the model's probability, the given label and all votes on a patch."""
        with self.lock:
            self.tally.catch_up(self.store)
            name, given = self.source.id_of(row), int(self.source.given[row])
            probability = self.probability(row)
            return {
                "id": name,
                "number": row,
                "probability": probability,
                "threshold": None if self.predictions is None else self.predictions.threshold,
                "given": None if given < 0 else CLASS_NAMES[given],
                "votes": {who: vote.answer for who, vote in self.tally.votes(name).items()},
                "consensus": self.tally.consensus(name),
                "random_part": bool(self.strategy.is_random[row]),
            }

    def probability(self, row: int) -> float | None:
        """Return the predicted probability of a patch, or None if unknown."""
        if self.predictions is None or not np.isfinite(self.predictions.probability[row]):
            return None
        return round(float(self.predictions.probability[row]), 4)

    def queue(
        self, reviewer: str, *, count: int = 4, skip: list[str] | None = None, show: str = "mix"
    ) -> list[dict[str, Any]]:
        """Return the next patches for a reviewer."""
        with self.lock:
            self.tally.catch_up(self.store)
            rows = {row for name in skip or [] if (row := self.source.row_of(name)) is not None}
            if show == "disputed":
                queries = [
                    Query(row, "disputed") for row in self._disputed_rows() if row not in rows
                ]
            else:
                queries = self.strategy.upcoming(reviewer, self.tally, count, rows)
            return [self.item(query.row, reviewer, query.why) for query in queries[:count]]

    def _disputed_rows(self) -> list[int]:
        rows = (self.source.row_of(name) for name in self.tally.disputed())
        return [row for row in rows if row is not None]

    # Answers.

    def add(self, reviewer: str, answers: list[ReceivedAnswer], key: str) -> dict[str, Any]:
        """Store answers of one reviewer; they are on disk when this returns.

        Returns
        -------
        dict
            `saved`: the new entries; `conflicts`: opposite answers (crater, not) of other
            reviewers, and answers of this reviewer that the page did not show. All are kept.
        """
        if len({received.patch for received in answers}) < len(answers):
            raise ConfigError("a patch is answered twice in one request")
        rows = [self.find(received.patch) for received in answers]
        patches = [self.source.patch(row) for row in rows]
        with self.lock:
            self.tally.catch_up(self.store)
            conflicts = [
                conflict
                for received in answers
                for conflict in self._conflicts(reviewer, received, key)
            ]
            model = "" if self.predictions is None else self.predictions.sha256
            saved = self.store.add(
                reviewer,
                [
                    Answer(
                        patch=patch,
                        answer=received.answer,
                        why=received.why,
                        seconds=received.seconds,
                        model=model,
                        probability=self.probability(row),
                        saw_probability=received.saw_probability,
                    )
                    for row, patch, received in zip(rows, patches, answers, strict=True)
                ],
                key,
            )
            self.tally.catch_up(self.store)
            return {"saved": [_entry(entry) for entry in saved], "conflicts": conflicts}

    def _conflicts(self, reviewer: str, given: ReceivedAnswer, key: str) -> list[dict[str, Any]]:
        conflicts = []
        for who, vote in self.tally.votes(given.patch).items():
            if who == reviewer:
                is_conflict = vote.entry != given.knew and vote.key != key
            else:
                is_conflict = {vote.answer, given.answer} == {"crater", "not"}
            if is_conflict:
                conflicts.append(
                    {"patch": given.patch, "reviewer": who, "answer": vote.answer, "at": vote.at,
                     "own": who == reviewer}
                )  # fmt: skip
        return conflicts

    def undo(self, reviewer: str, key: str) -> dict[str, Any]:
        """Undo a reviewer's last answers, and return their patches."""
        with self.lock:
            undone = self.store.undo(reviewer, key)
            self.tally.catch_up(self.store)
            rows = [self.source.row_of(entry.patch) for entry in undone]
            return {
                "undone": [_entry(entry) for entry in undone],
                "patches": [
                    self.item(row, reviewer, entry.why)
                    for row, entry in zip(rows, undone, strict=True)
                    if row is not None
                ],
            }

    def counts(self, reviewer: str) -> dict[str, int]:
        """Count current answers: this reviewer's, and everyone's."""
        with self.lock:
            self.tally.catch_up(self.store)
            return {
                "mine": self.tally.standing[reviewer],
                "all": sum(self.tally.standing.values()),
                "patches": len(self.source),
            }

    # The grid.

    def grid(
        self, reviewer: str, *, sort: str, show: str, page: int, reverse: bool = False
    ) -> dict[str, Any]:
        """Return one page of sorted and filtered patches."""
        with self.lock:
            self.tally.catch_up(self.store)
            order = self._order(sort)
            if reverse:
                order = order[::-1]
            rows = self._filter(order, show, reviewer)
            pages = max(1, -(-len(rows) // PAGE))
            page = min(page, pages)
            shown = rows[(page - 1) * PAGE : page * PAGE]
            return {
                "sort": sort, "show": show, "reverse": reverse, "page": page, "pages": pages,
                "total": len(rows), "sorts": list(SORTS), "shows": list(SHOWN),
                "cards": [self.item(int(row), reviewer, "grid") for row in shown],
            }  # fmt: skip

    def _order(self, sort: str) -> np.ndarray:
        if sort == "position" or self.predictions is None:
            return self.source.position_order()
        probability = self.predictions.probability
        if sort == "probability":
            return np.argsort(-probability, kind="stable")
        if sort == "suspected":
            return self.strategy.suspected_rows
        return np.argsort(uncertainty(probability, self.predictions.threshold), kind="stable")

    def _filter(self, order: np.ndarray, show: str, reviewer: str) -> np.ndarray:
        if show == "all":
            return order
        if show == "disputed":
            wanted = set(self._disputed_rows())
        else:
            wanted = set()
            for name in self.tally.answered():
                own = self.tally.answer_of(name, reviewer)
                row = self.source.row_of(name)
                if own is None or row is None:
                    continue
                if show in ("open", "answered") or own.answer == show:
                    wanted.add(row)
        inside = np.zeros(len(self.source), bool)
        inside[list(wanted)] = True
        return order[~inside[order]] if show == "open" else order[inside[order]]

    def check_sort(self, sort: str, show: str) -> None:
        """Raise ConfigError for an unknown order or filter."""
        for name, value, choices in (("sort", sort, SORTS), ("show", show, SHOWN)):
            if value not in choices:
                raise ConfigError(f"{name} is {value[:40]!r}, expected {', '.join(choices)}")


def _is_pretrained(folder: Path) -> bool:
    """Return whether a model was trained without labels, so that any other goes before it."""
    try:
        return read_description(folder).pretraining is not None
    except ModelError:  # its use will say why
        return False


def _entry(entry: Entry) -> dict[str, Any]:
    return {"entry": entry.entry, "patch": entry.patch, "answer": entry.answer,
            "undoes": entry.undoes, "why": entry.why}  # fmt: skip


def read_audit(folder: Path, source: Source) -> np.ndarray:
    """Read out-of-fold probabilities from a `craters audit` folder; NaN where there are none."""
    import csv

    path = folder / "labels.csv"
    if not path.is_file():
        raise DataError(f"{path}: no such file, expected the folder of an audit of labels")
    probability = np.full(len(source), np.nan)
    with path.open(encoding="utf-8", newline="") as stream:
        try:
            for row in csv.DictReader(stream):
                place = source.row_of(row["id"])
                if place is not None:
                    probability[place] = float(row["probability"])
        except (KeyError, ValueError) as error:
            raise DataError(f"{path}: is not the table of an audit ({error})") from error
    if not np.isfinite(probability).any():
        raise CratersError(f"{path}: is an audit of other patches")
    return probability
