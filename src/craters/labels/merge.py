"""Merge labels of reviewers into the arrays of a job, keeping a random part out of training.

The random part is a share of the patches without a given label, selected by a hash of the store's
seed and the patch's id. (For a scan: the windows sampled uniformly.) Reviewers label it in the
order of these hashes, independent of any model. It is never trained on, labeled or not, so the
labels of its first patches give an unbiased estimate for every model. Scan windows that share
pixels with an answered window of the random part are not trained on either.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from craters.core import StrPath, files
from craters.data import UNLABELED, JobData, PatchSet, PixelRecord, check_two_classes, dataset
from craters.errors import DataError
from craters.labels.consensus import RULE, Tally
from craters.labels.store import CRATER, NOT, LabelStore, Patch, digest_of

RANDOM_SHARE = 0.1  # of the patches that came without a label

LABELED, EXTRA, TEST = "labeled", "extra", "test"
SCAN, DRAWN = "scan", "drawn"  # windows of a scan: selected by the model, sampled uniformly


def random_place(seed: int, patch: str) -> float:
    """Return a patch's position in the random order, 0..1; below `RANDOM_SHARE`: random part.

    Examples
    --------
    >>> round(random_place(7, "Xtrain1_extra:0"), 6) == round(random_place(7, "Xtrain1_extra:0"), 6)
    True
    """
    digest = hashlib.blake2b(f"{seed}:{patch}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def in_random_part(seed: int, patch: str, part: str, given: int = UNLABELED) -> bool:
    """Return whether a patch belongs to the random part, held out for evaluation.

    For arrays, a share of the patches without a given label; for scans, the windows sampled
    uniformly, since a model selected the others.
    """
    if part == DRAWN:
        return True
    return part == EXTRA and given == UNLABELED and random_place(seed, patch) < RANDOM_SHARE


@dataclasses.dataclass(frozen=True)
class Merged:
    """Number of patches by how merging changed them.

    Parameters
    ----------
    confirmed, changed : int
        Labels of the labeled set that reviewers confirmed or changed.
    from_extra, added : int
        New labels of pool patches, and of patches in neither array.
    held_out : int
        Labeled patches of the random part, not used for training.
    apart : int
        Unlabeled patches removed from the pool with the random part.
    overlapping : int
        Labeled windows that share pixels with answered windows of the random part.
    of_test : int
        Labeled patches of the test set, left unchanged.
    without_label : int
        Patches that reviewers are unsure of or disagree about.
    """

    confirmed: int = 0
    changed: int = 0
    from_extra: int = 0
    added: int = 0
    held_out: int = 0
    apart: int = 0
    overlapping: int = 0
    of_test: int = 0
    without_label: int = 0

    def sentence(self) -> str:
        """Describe the counts in one sentence."""
        unanswered = f" ({self.apart} more in the pool)" if self.apart else ""
        near = f", {self.overlapping} that overlap it" if self.overlapping else ""
        return (
            f"Labels of reviewers: {self.confirmed} confirmed, {self.changed} changed, "
            f"{self.from_extra} of extra patches, {self.added} of other patches; left out: "
            f"{self.held_out} of the random part{unanswered}{near}, "
            f"{self.of_test} of the test set, "
            f"{self.without_label} unsure or disputed"
        )


def merge_labels(
    store: LabelStore, data: JobData, *, least: int = 1, order: Sequence[str] | None = None
) -> tuple[JobData, Merged]:
    """Merge the consensus of reviewers into the arrays of a job.

    Labels of the labeled set are updated, labeled pool patches move to the labeled set, and other
    patches, such as scan windows, are added. The random part is removed from the pool and not added
    to the labels. The test set and patches without consensus do not change.

    Parameters
    ----------
    store : LabelStore
    data : JobData
    least : int
        Votes that a label needs.
    order : sequence of str, optional
        Ids of the random part in order, where other patches than the pool are reviewed.

    Raises
    ------
    DataError
        If the pixels of a patch have changed since it was labeled.
    """
    tally = Tally.of(store)
    known, seed = store.patches(), store.seed
    labels = tally.consensus_labels(least=least)
    places = {
        str(name): (part, row)
        for part, patches in data.sets.items()
        for row, name in enumerate(patches.ids.tolist())
    }
    counts = dict.fromkeys((field.name for field in dataclasses.fields(Merged)), 0)
    counts["without_label"] = len(tally.answered()) - len(labels)
    column = data.train.labels.copy()
    moved: list[tuple[int, int]] = []
    others: list[tuple[Patch, int]] = []
    answered_random = [known[name] for name in tally.answered() if known[name].part == DRAWN]
    overlapping = {
        name for name, near in zip(labels, overlap(labels, answered_random), strict=True) if near
    }
    for name, label in sorted(labels.items()):
        patch = known[name]
        part, row = places.get(name, ("", -1))
        if part:
            _check_same(store, data.sets[part], row, patch)
        if in_random_part(seed, name, patch.part, patch.given):
            counts["held_out"] += 1
        elif patch.part == SCAN and name in overlapping:
            counts["overlapping"] += 1
        elif part == TEST:
            counts["of_test"] += 1
        elif part == LABELED:
            counts["confirmed" if column[row] == label else "changed"] += 1
            column[row] = label
        elif part == EXTRA:
            counts["from_extra"] += 1
            moved.append((row, label))
        else:
            counts["added"] += 1
            others.append((patch, label))
    random = random_order(data.pool, seed) if order is None else order
    apart = np.flatnonzero(np.isin(data.pool.ids, random) | overlap(data.pool.ids, answered_random))
    counts["apart"] = len(apart) - sum(str(name) in labels for name in data.pool.ids[apart])
    train = dataclasses.replace(data.train, labels=column)
    job = dataclasses.replace(data, train=train)
    return _assemble(job, moved, others, apart), Merged(**counts)


def random_order(pool: PatchSet, seed: int) -> list[str]:
    """Return the ids of a pool's random part in labeling order."""
    names = [str(name) for name in pool.ids if in_random_part(seed, str(name), EXTRA)]
    return sorted(names, key=lambda name: random_place(seed, name))


def overlap(names: Iterable[str], windows: Sequence[Patch]) -> np.ndarray:
    """Return which windows, named image/row/col, share pixels with any of the given windows.

    Examples
    --------
    >>> window = Patch("A/0/0", np.zeros((48, 48), np.uint8), part=DRAWN)
    >>> overlap(["A/47/0", "A/48/0", "B/0/0", "Xtrain1:0"], [window]).tolist()
    [True, False, False, False]
    """
    positions = [_place(str(name)) for name in names]
    is_near = np.zeros(len(positions), bool)
    others: dict[str, list[tuple[int, int]]] = {}
    for window in windows:
        if place := _place(window.id):
            others.setdefault(place[0], []).append(place[1:])
    corners = {image: np.array(places) for image, places in others.items()}
    for number, place in enumerate(positions):
        if place and place[0] in corners:
            apart = np.abs(corners[place[0]] - place[1:]).max(axis=1)
            is_near[number] = apart.min() < windows[0].pixels.shape[0]
    return is_near


def _place(name: str) -> tuple[str, int, int] | None:
    """Parse image, row and column from the name of a window; None for other patches."""
    image, *corner = name.rsplit("/", 2)
    try:
        row, col = map(int, corner)
    except ValueError:
        return None
    return image, row, col


def _check_same(store: LabelStore, patches: PatchSet, row: int, patch: Patch) -> None:
    if digest_of(patches.images[row]) != patch.digest:
        raise DataError(
            f"{store.path}: patch {patch.id} has other pixels in {patches.source}",
            "Do the labels belong to these arrays?",
        )


def _assemble(
    data: JobData,
    moved: list[tuple[int, int]],
    others: list[tuple[Patch, int]],
    apart: np.ndarray,
) -> JobData:
    """Add patches to the labeled set in a fixed order; remove them and `apart` from the pool.

    Unchanged arrays are not copied.
    """
    train, pool = data.train, data.pool
    left = np.setdiff1d(np.arange(len(pool)), [*apart, *(row for row, _ in moved)])
    if len(left) < len(pool):
        data = dataclasses.replace(data, pool=pool.take(left))
    if not moved and not others:
        return data
    for patch, _ in others:
        if patch.pixels.shape[0] != train.side:
            raise DataError(
                f"patch {patch.id} has {patch.pixels.shape[0]} pixels a side, expected "
                f"{train.side} as in {train.source}"
            )
    rows = np.array([row for row, _ in moved], np.intp)
    images = [train.images, pool.images[rows], *(patch.pixels[None] for patch, _ in others)]
    labels = [*train.labels, *(label for _, label in moved), *(label for _, label in others)]
    ids = [*train.ids, *pool.ids[rows], *(patch.id for patch, _ in others)]
    groups = None
    if train.groups is not None:
        of_pool = pool.ids if pool.groups is None else pool.groups
        groups = np.array(
            [*train.groups, *of_pool[rows], *(patch.image or patch.id for patch, _ in others)]
        )
    extended = dataclasses.replace(
        train,
        images=np.concatenate(images),
        labels=np.array(labels, np.int8),
        ids=np.array(ids),
        groups=groups,
    )
    return dataclasses.replace(data, train=extended)


def answered_start(
    names: Iterable[str], tally: Tally, *, least: int = 1
) -> list[tuple[int, str, int]]:
    """Return position, id and label of the patches before the first unanswered one.

    Later answers may be a biased selection. Patches without a consensus are skipped.

    Parameters
    ----------
    names : iterable of str
        Ids of the whole random part, in order.
    tally : Tally
    least : int
        Votes that a label needs.
    """
    labels = []
    for place, name in enumerate(names):
        if not tally.votes(name):
            break
        word = tally.consensus(name, least=least)
        if word in (CRATER, NOT):
            labels.append((place, name, int(word == CRATER)))
    return labels


def write_snapshot(
    store: LabelStore,
    data: JobData,
    folder: StrPath,
    *,
    least: int = 1,
    order: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Write the merged arrays to a new folder for `craters run --data`, atomically.

    The answered start of the random part becomes the test set, with its labels, so that the run's
    report evaluates on it. Without such answers the test set does not change.

    Parameters
    ----------
    store : LabelStore
    data : JobData
    folder : path-like
    least : int
        Votes that a label needs, also in the test set.
    order : sequence of str, optional
        As in `merge_labels`.

    Returns
    -------
    dict
        Content of labels.json in the folder.

    Raises
    ------
    DataError
        If a class has no labels.
    """
    order = random_order(data.pool, store.seed) if order is None else order
    merged, counts = merge_labels(store, data, least=least, order=order)
    check_two_classes(merged.train, 1)
    tally, known = Tally.of(store), store.patches()
    start = answered_start(order, tally, least=least)
    held = [(known[name], label) for _, name, label in start]
    arrays = {"Xtrain1": _flat(merged.train.images), "Xtrain1_extra": _flat(merged.pool.images),
              "Ytrain1": merged.train.labels.astype(np.int32)}  # fmt: skip
    if merged.train.groups is not None:
        arrays["groups_train"] = merged.train.groups.astype(str)
    if merged.pool.groups is not None:
        arrays["groups_extra"] = merged.pool.groups.astype(str)
    if held:
        arrays["Xtest1"] = _flat(np.stack([patch.pixels for patch, _ in held]))
        arrays["Ytest1"] = np.array([label for _, label in held], np.int32)
    else:
        arrays["Xtest1"] = _flat(merged.test.images)
    facts: dict[str, Any] = {
        "merged": dataclasses.asdict(counts),
        "sentence": counts.sentence(),
        "labels": len(merged.train),
        "last_entry": tally.last,
        "rule": RULE,
        "test": "the answered start of the random part" if held else "as before",
    }
    if data.pixels != PixelRecord():  # the arrays no longer show how they were scaled
        facts[dataset.RECORD] = dataclasses.asdict(data.pixels)
    with files.new_folder(folder) as partial:
        for stem, array in arrays.items():
            files.write_array(partial / f"{stem}.npy", array)
        files.write_json(partial / "labels.json", facts)
    return json.loads(files.to_json(facts))


def _flat(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images).reshape(len(images), images.shape[1] * images.shape[2])
