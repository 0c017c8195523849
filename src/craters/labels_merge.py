"""Answers of reviewers merged into the arrays of a job; a random part is never trained on.

Of the patches that came without a label, a share is set apart by the hash of the store's seed and
the patch's id: the random part. (Of a scan, it is the windows drawn from all.) It is asked in the
order of these hashes, whatever a model says, and never trained on, so the answers about its first
patches measure every model without bias.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from craters import files
from craters.errors import DataError
from craters.job_data import JobData
from craters.labels import LabelStore, Patch, digest_of
from craters.labels_tally import RULE, Tally
from craters.patches import UNLABELED, PatchSet, check_two_classes

RANDOM_SHARE = 0.1  # of the patches that came without a label

LABELED, EXTRA, TEST = "labeled", "extra", "test"
SCAN, DRAWN = "scan", "drawn"  # windows of a scan: found by the model, drawn from all


def random_place(seed: int, patch: str) -> float:
    """Return a patch's place in the random order, 0..1; below `RANDOM_SHARE` it is set apart.

    Examples
    --------
    >>> round(random_place(7, "Xtrain1_extra:0"), 6) == round(random_place(7, "Xtrain1_extra:0"), 6)
    True
    """
    digest = hashlib.blake2b(f"{seed}:{patch}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def in_random_part(seed: int, patch: str, part: str, given: int = UNLABELED) -> bool:
    """Tell whether a patch is set apart for measuring.

    Of arrays, a share of what came without a label; of scans, the windows drawn from all, since
    the others were chosen by a model.
    """
    if part == DRAWN:
        return True
    return part == EXTRA and given == UNLABELED and random_place(seed, patch) < RANDOM_SHARE


@dataclasses.dataclass(frozen=True)
class Merged:
    """What the answers did to the arrays, in numbers of patches.

    Parameters
    ----------
    confirmed, changed : int
        Labels of the labeled set that reviewers repeated, or turned.
    from_extra, added : int
        Labels given to patches of the pool, and to patches of neither array.
    held_out : int
        Answered patches of the random part, which are not trained on.
    of_test : int
        Answered patches of the test set, left where they are.
    without_label : int
        Patches that reviewers are unsure of or disagree about.
    """

    confirmed: int = 0
    changed: int = 0
    from_extra: int = 0
    added: int = 0
    held_out: int = 0
    of_test: int = 0
    without_label: int = 0

    def sentence(self) -> str:
        """Say it in words."""
        return (
            f"Labels of reviewers: {self.confirmed} confirmed, {self.changed} changed, "
            f"{self.from_extra} of extra patches, {self.added} of other patches; left out: "
            f"{self.held_out} of the random part, {self.of_test} of the test set, "
            f"{self.without_label} unsure or disputed"
        )


def merge_labels(store: LabelStore, data: JobData, *, least: int = 1) -> tuple[JobData, Merged]:
    """Put the consensus of reviewers into the arrays of a job.

    Labels of the labeled set are changed; patches of the pool become labeled and leave it; others,
    such as windows of a scan, are added. The random part stays out of the labels, the test set as
    it is, and what has no consensus keeps what it had.

    Parameters
    ----------
    store : LabelStore
    data : JobData
    least : int
        Votes that a label needs.

    Raises
    ------
    DataError
        When a patch is not as it was labeled.
    """
    tally = Tally()
    tally.catch_up(store)
    known, seed = store.patches(), store.seed
    labels = tally.consensus_labels(least=least)
    places = {
        str(name): (part, row)
        for part, one in data.sets.items()
        for row, name in enumerate(one.ids.tolist())
    }
    counts = dict.fromkeys((field.name for field in dataclasses.fields(Merged)), 0)
    counts["without_label"] = len(tally.answered()) - len(labels)
    column = data.train.labels.copy()
    moved: list[tuple[int, int]] = []
    others: list[tuple[Patch, int]] = []
    for name, label in sorted(labels.items()):
        patch = known[name]
        part, row = places.get(name, ("", -1))
        if part:
            _check_same(store, data.sets[part], row, patch)
        if in_random_part(seed, name, patch.part, patch.given):
            counts["held_out"] += 1
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
    train = dataclasses.replace(data.train, labels=column)
    return _assemble(dataclasses.replace(data, train=train), moved, others), Merged(**counts)


def _check_same(store: LabelStore, patches: PatchSet, row: int, patch: Patch) -> None:
    if digest_of(patches.images[row]) != patch.digest:
        raise DataError(
            f"{store.path}: patch {patch.id} is another one in {patches.source}",
            "Are the labels of these arrays?",
        )


def _assemble(
    data: JobData, moved: list[tuple[int, int]], others: list[tuple[Patch, int]]
) -> JobData:
    """Add patches to the labeled set, in a fixed order, and take them from the pool."""
    if not moved and not others:
        return data
    train, pool = data.train, data.pool
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
    whole = dataclasses.replace(
        train,
        images=np.concatenate(images),
        labels=np.array(labels, np.int8),
        ids=np.array(ids),
        groups=groups,
    )
    rest = np.setdiff1d(np.arange(len(pool)), rows)
    return dataclasses.replace(data, train=whole, pool=pool.take(rest) if len(rows) else pool)


def random_part(store: LabelStore, tally: Tally) -> list[tuple[float, Patch, int | None]]:
    """Return the answered patches of the random part in order, with label 1, 0 or None."""
    seed, labels = store.seed, tally.consensus_labels()
    found = [
        (random_place(seed, name), patch, labels.get(name))
        for name, patch in store.patches().items()
        if in_random_part(seed, name, patch.part, patch.given) and tally.votes(name)
    ]
    return sorted(found, key=lambda one: one[0])


def write_snapshot(
    store: LabelStore, data: JobData, folder: Path, *, least: int = 1
) -> dict[str, Any]:
    """Write the merged arrays into a new folder that `craters run --data` reads.

    The answered random part becomes the test set, with its truth, so that the run's own report
    measures on it; where nothing of it is answered, the test set stays as it is.

    Returns
    -------
    dict
        What was merged, as in labels.json in the folder.

    Raises
    ------
    DataError
        When a class has no label yet.
    """
    merged, counts = merge_labels(store, data, least=least)
    check_two_classes(merged.train, 1)
    tally = Tally()
    tally.catch_up(store)
    held = [(patch, label) for _, patch, label in random_part(store, tally) if label is not None]
    folder.mkdir(parents=True)
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
    for stem, array in arrays.items():
        files.write_array(folder / f"{stem}.npy", array)
    facts = {
        "merged": dataclasses.asdict(counts),
        "sentence": counts.sentence(),
        "labels": len(merged.train),
        "last_entry": tally.last,
        "rule": RULE,
        "test": "the answered random part" if held else "as before",
    }
    files.write_json(folder / "labels.json", facts)
    return json.loads(files.to_json(facts))


def _flat(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images).reshape(len(images), images.shape[1] * images.shape[2])
