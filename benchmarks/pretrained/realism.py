"""How well a classifier tells synthetic patches from real ones: its AUC, for each real set."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from pathlib import Path

import numpy as np

import harness
from craters.core import Progress
from craters.synthetic import GENERATOR_VERSION, PRESETS, sample_scenes
from harness import Bench, Keys, Row, Rows
from pretrained import sets
from pretrained.texture import BRIGHTNESS, describe_patches

NAME = "realism"
TITLE = "Realism of the synthetic patches"
RESULT_VERSION = 1
PATCHES = 600  # of each side of a comparison, half of them with crater
ROUNDS, FOLDS, TREES, SEED = 3, 5, 50, 24_003

# Real sets by sensor, and the sets of `sets.py` that they are made of.
SENSORS = {
    "themis48": "THEMIS", "tiles": "THEMIS", "nanedi": "HRSC", "hrsc": "HRSC",
    "ctx_mars": "CTX", "nac_moon": "NAC",
}  # fmt: skip
_MEMBERS = {name: (name,) for name in SENSORS} | {"nanedi": ("nanedi_west", "nanedi_center")}

_COLUMNS = {**{look: f"`{look}`" for look in PRESETS}, "real": "other sensor"}
_TITLES = {
    f"{kind} {column}": [title, 3] for kind in ("plain", "bright") for column, title in
    _COLUMNS.items()
}  # fmt: skip
_TABLES = {
    f"AUC against the looks, and against the most similar real set of another sensor; {words}": [
        f"{kind} {column}" for column in _COLUMNS
    ]
    for kind, words in (
        ("plain", "each patch brought to mean 0 and standard deviation 1, as the network sees it"),
        ("bright", "with brightness, contrast and grey levels"),
    )
}


@dataclasses.dataclass(frozen=True, eq=False)
class Described:
    """Patches of one source, described.

    Parameters
    ----------
    features : ndarray, shape (N, F)
    groups : ndarray, shape (N,)
        Region, image or scene of each patch; never in training and test at once.
    """

    features: np.ndarray
    groups: np.ndarray


def run(bench: Bench, progress: Progress) -> Row:
    """Measure the sets whose rows are missing."""

    def find(name: str, number: int) -> Row:
        row = measure(name, number, bench.data.parent)
        progress.say(f"{name}, round {number}: least AUC {min(row.values()):.3f}")
        return row

    return _result(harness.measure_missing(bench, NAME, keys(bench), find))


def keys(bench: Bench) -> Keys:
    """Return what the row of each set and round depends on."""
    data = bench.data.parent
    settings = {"patches": PATCHES, "trees": TREES, "generator": GENERATOR_VERSION}
    return {
        (name, number): harness.row_key(
            bench, name, number,
            settings | {"sets": [sets.fingerprint(each, data) for each in _MEMBERS[name]]},
            RESULT_VERSION,
        )
        for number in range(ROUNDS)
        for name in _there(data)
    }  # fmt: skip


def measure(name: str, number: int, data: Path) -> Row:
    """Tell a real set from each look, and from the real sets of other sensors."""
    side, row = draw_real(name, number, data)[0].shape[1], Row()
    one = describe_real(name, number, data, side)
    others = []
    for other in _there(data):
        if SENSORS[other] != SENSORS[name]:
            least = min(side, draw_real(other, number, data)[0].shape[1])
            others.append([describe_real(each, number, data, least) for each in (name, other)])
    for kind in ("plain", "bright"):
        for look in PRESETS:
            row[f"{kind} {look}"] = auc(one, describe_look(look, number, side), kind, number)
        row[f"{kind} real"] = min(auc(*pair, kind, number) for pair in others)
    return row


def _there(data: Path) -> list[str]:
    return [
        name
        for name, members in _MEMBERS.items()
        if all(sets.folder_of(each, data).is_dir() for each in members)
    ]


@functools.cache
def draw_real(name: str, number: int, data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Draw real patches, as many with as without crater; return images and groups."""
    random = np.random.default_rng((SEED, number))
    images, groups = [], []
    members = sets.load_sets(data, _MEMBERS[name])
    for one in members:
        for label in (0, 1):
            rows = random.permutation(np.flatnonzero(one.labels == label))
            rows = rows[: PATCHES // 2 // len(members)]
            images.append(one.images[rows])
            groups.append(one.groups[rows])
    return np.concatenate(images), np.concatenate(groups)


@functools.cache
def describe_real(name: str, number: int, data: Path, side: int) -> Described:
    """Describe the middle of real patches, `side` px wide."""
    images, groups = draw_real(name, number, data)
    first = (images.shape[1] - side) // 2
    inside = slice(first, first + side)
    return Described(describe_patches(images[:, inside, inside]), groups)


@functools.cache
def describe_look(look: str, number: int, side: int) -> Described:
    """Describe synthetic patches, as many with as without crater."""
    images, groups = [], []
    left = np.array([PATCHES // 2, PATCHES // 2])
    for index in itertools.count():
        made = sample_scenes(range(index, index + 1), seed=SEED + number, size=side, look=look)
        for label in (0, 1):
            taken = made.images[made.labels == label][: left[label]]
            left[label] -= len(taken)
            images.append(taken)
            groups += [index] * len(taken)
        if not left.any():
            break
    return Described(describe_patches(np.concatenate(images)), np.array(groups))


def auc(one: Described, other: Described, kind: str, number: int) -> float:
    """Return the AUC of boosted trees that tell two sources of patches apart, cross-validated.

    Folds hold whole groups of each; the AUC is the mean over folds.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold

    both = (one, other)
    folds = min(FOLDS, *(len(np.unique(each.groups)) for each in both))
    used = slice(None) if kind == "bright" else slice(-BRIGHTNESS)
    features = np.concatenate([each.features for each in both])[:, used]
    truth = np.repeat([0, 1], [len(each.groups) for each in both])
    fold = np.empty(len(truth), int)
    for label, each in enumerate(both):
        numbers = np.empty(len(each.groups), int)
        splits = GroupKFold(folds).split(each.groups, groups=each.groups)
        for place, (_, test) in enumerate(splits):
            numbers[test] = place
        fold[truth == label] = numbers
    scores = []
    for place in range(folds):
        trees = HistGradientBoostingClassifier(
            max_iter=TREES, max_leaf_nodes=15, early_stopping=False, random_state=number
        )
        trees.fit(features[fold != place], truth[fold != place])
        probability = trees.predict_proba(features[fold == place])[:, 1]
        scores.append(roc_auc_score(truth[fold == place], probability))
    return float(np.mean(scores))


def _result(rows: Rows) -> Row:
    """Assemble the result."""
    found = harness.by_contender(rows, [name for name in SENSORS if (name, 0) in rows])
    return harness.result(
        NAME,
        TITLE,
        rows=rows.values(),
        about=[
            f"Boosted trees ({TREES}) on statistics of each patch that do not depend on how it is "
            "turned (`benchmarks/pretrained/texture.py`: quantiles, roughness by scale, power by "
            "frequency, grey levels) tell synthetic patches from real ones: 0.5 is a coin, 1 "
            f"certainty. Up to {PATCHES} patches of each, half of them with crater; folds, 2 to "
            f"{FOLDS}, hold whole regions, images and scenes. A look is meant to be wider than any "
            "one sensor, which alone makes an AUC high; the last column shows how well real "
            "sensors are told from each other.",
        ],
        settings={"patches": PATCHES, "trees": TREES, "rounds": ROUNDS},
        titles=_TITLES,
        tables=_TABLES,
        contenders=[
            harness.contender(f"`{name}`", by_round, _TITLES, baseline=False)
            for name, by_round in found.items()
        ],
        findings=[_finding(name, by_round) for name, by_round in found.items()],
    )


def _finding(name: str, by_round: dict[int, Row]) -> str:
    """Name the look that a set is least told from."""
    mean = {
        look: float(np.mean([row[f"plain {look}"] for row in by_round.values()]))
        for look in PRESETS
    }
    look = min(mean, key=mean.__getitem__)
    real = float(np.mean([row["plain real"] for row in by_round.values()]))
    return (
        f"{name}: told from `{look}` at AUC {mean[look]:.3f}, from real images of another sensor "
        f"at {real:.3f}."
    )
