"""The original job by the package against the same job in plain TensorFlow/Keras."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from pathlib import Path

import numpy as np

import harness
from craters.core import Progress
from harness import WORK, Bench, Keys, Row, RowStore

NAME = "keras_parity"
TITLE = "The original job: craters against TensorFlow/Keras"
RESULT_VERSION = {"craters": 1, "keras": 1}
INDEPENDENT = "keras_parity_independent"
MARGIN = 0.02  # of macro F1: closer than this counts as the same
ONE_SIDED = 0.5  # macro F1 below it: one class is hardly ever predicted

_SETTINGS = {
    "protocol": "clean",
    "epochs": [75, 50],
    "learning_rates": [3e-4, 4e-4],
    "batch_size": 32,
    "pseudo_threshold": 0.25,
    "decision_threshold": 0.5,
    "threads": 1,
    "cpus": 1,
}
_PEERS = Path(__file__).parent / "peers"
_SCORES = ("macro_f1_final", "macro_f1_initial", "roc_auc_final", "loss_final")
_COMPARED = ("macro_f1_final", "macro_f1_initial", "roc_auc_final")
_COUNTS = ("pseudo_labels", "test_called_with_crater", "best_epoch_initial", "best_epoch_final")
_COSTS = ("wall_s", "cpu_s", "cpu_ms_per_patch", "peak_mib")
_TITLES = {
    "macro_f1_final": ["macro F1, last phase", 4],
    "macro_f1_initial": ["macro F1, first phase", 4],
    "roc_auc_final": ["ROC AUC, last phase", 4],
    "loss_final": ["loss, last phase", 4],
    "pseudo_labels": ["pseudo-labels added", 0],
    "test_called_with_crater": ["test patches called with crater", 1],
    "best_epoch_initial": ["epoch kept, first phase", 1],
    "best_epoch_final": ["epoch kept, last phase", 1],
    "wall_s": ["wall seconds", 1],
    "cpu_s": ["CPU seconds", 1],
    "cpu_ms_per_patch": ["CPU ms per patch and epoch", 3],
    "peak_mib": ["peak memory, MiB", 0],
}


def run(bench: Bench, progress: Progress) -> Row:
    """Run the missing seeds and compare."""
    ours, theirs = {}, {}
    for seed in range(bench.seeds):
        ours[seed], theirs[seed] = _pair(bench, seed, progress)
        found = f"{ours[seed]['macro_f1_final']:.4f} and {theirs[seed]['macro_f1_final']:.4f}"
        progress.say(f"seed {seed}: macro F1 {found} (craters, Keras)")
    return _result(bench, ours, theirs)


def keys(bench: Bench) -> Keys:
    """Return what the rows of each seed depend on; those of Keras where its split is known."""
    found = {("craters", seed): _our_key(bench, seed) for seed in range(bench.seeds)}
    rows = {seed: RowStore(NAME).find(key) for (_, seed), key in found.items()}
    return found | {
        ("keras", seed): _their_key(bench, seed, row["split"]) for seed, row in rows.items() if row
    }


def _our_key(bench: Bench, seed: int) -> Row:
    """Return what a row of craters depends on: each way to start has its own, taken in turn."""
    version = RESULT_VERSION["craters"]
    return harness.row_key(bench, "craters", seed, _settings(bench), version)


def _their_key(bench: Bench, seed: int, split: str) -> Row:
    """Return what a row of Keras depends on: only the split drawn by craters."""
    settings = _settings(bench) | {"split": split}
    return harness.row_key(bench, "keras", seed, settings, RESULT_VERSION["keras"])


def _settings(bench: Bench) -> Row:
    return _SETTINGS | ({"same_start": True} if bench.same_start else {})


def _pair(bench: Bench, seed: int, progress: Progress) -> tuple[Row, Row]:
    """Return the rows of both contenders for one seed, from the store where they are there."""
    store, our_key = RowStore(NAME), _our_key(bench, seed)
    ours = None if bench.fresh else store.find(our_key)
    ours = ours or _train_ours(bench, our_key, store)
    key = _their_key(bench, seed, ours["split"])
    theirs = None if bench.fresh else store.find(key)
    if theirs is None:
        split = _scratch(our_key)
        if not split.is_file():
            ours = _train_ours(bench, our_key, store)
            key = _their_key(bench, seed, ours["split"])
        theirs = _train_theirs(bench, key, split, store, progress)
    return ours, theirs


def _train_ours(bench: Bench, key: Row, store: RowStore) -> Row:
    """Run the job with the package; write its split for the other contender."""
    out = _scratch(key)
    command = [sys.executable, str(_PEERS / "craters_original.py"), str(bench.data)]
    usage = _measure([*command, str(key["round"]), str(out)], out)
    return store.add(key, _score(bench, out, out, usage))


def _train_theirs(bench: Bench, key: Row, split: Path, store: RowStore, progress: Progress) -> Row:
    """Run the job with Keras, on the same split."""
    python, out = harness.tensorflow_python(progress), _scratch(key)
    command = [str(python), str(_PEERS / "keras_original.py"), str(bench.data)]
    command += [str(key["round"]), str(split), str(out), *(["same"] * bench.same_start)]
    usage = _measure(command, out)
    row = _score(bench, split, out, usage)
    return store.add(key, row, harness.tensorflow_versions(python))


def _scratch(key: Row) -> Path:
    """Name the file of a row's probabilities."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
    return WORK / NAME / f"{key['contender']}-{key['round']}-{digest}.npz"


def _measure(command: list[str], out: Path) -> harness.Usage:
    """Run a contender on one core with one thread."""
    cpus = harness.usable_cpus(1)
    return harness.measure_process(command, out.with_suffix(".log"), cpus=cpus, one_thread=True)


def _score(bench: Bench, split: Path, out: Path, usage: harness.Usage) -> Row:
    """Measure a contender's probabilities on the human validation labels."""
    from craters.evaluation import Scored, decide, metrics

    with np.load(split) as rows:
        labels = np.load(bench.data / "Ytrain1.npy").reshape(-1)[rows["validation"]]
        train_patches = len(rows["train"])
        split_hash = hashlib.sha256(rows["train"].tobytes() + rows["validation"].tobytes())
    with np.load(out) as said:
        initial, final = (
            metrics.measure(Scored(labels=labels, probability=said[name]))
            for name in ("initial", "final")
        )
        seen = patches_seen(train_patches, int(said["pseudo_labels"]))
        return {
            "macro_f1_initial": initial.macro_f1,
            "macro_f1_final": final.macro_f1,
            "roc_auc_final": final.roc_auc,
            "loss_final": final.loss,
            "pseudo_labels": int(said["pseudo_labels"]),
            "test_called_with_crater": int(decide(said["test"], 0.5).sum()),
            "best_epoch_initial": int(said["best_epochs"][0]),
            "best_epoch_final": int(said["best_epochs"][1]),
            "dead_networks": int(said["restarts"].sum()),
            "train_patches": train_patches,
            "split": split_hash.hexdigest()[:12],
            "cpu_ms_per_patch": 1000 * usage.cpu_s / seen,
            **dataclasses.asdict(usage),
        }


def patches_seen(train_patches: int, pseudo_labels: int) -> int:
    """Count the training patches of all epochs of both phases."""
    first, last = _SETTINGS["epochs"]
    return train_patches * first + (train_patches + pseudo_labels) * last


def _result(bench: Bench, ours: dict[int, Row], theirs: dict[int, Row]) -> Row:
    """Assemble the result from the rows."""
    compared = [compare(ours, theirs, name) for name in _COMPARED]
    names = _SCORES + _COUNTS + _COSTS
    command = f".venv/bin/python benchmarks/bench.py full --only {NAME} --seeds {bench.seeds}"
    return harness.result(
        NAME,
        TITLE + ("" if bench.same_start else ", independent starts"),
        rows=[*ours.values(), *theirs.values()],
        about=_about(bench.same_start),
        settings=_SETTINGS,
        titles=_TITLES,
        tables={
            "On the human validation labels": _SCORES,
            "What else it did": _COUNTS,
            "What it took": _COSTS,
        },
        contenders=[
            harness.contender("craters (torch)", ours, names, False),
            harness.contender("TensorFlow/Keras", theirs, names, True),
        ],
        findings=[
            *(_verdict(one) for one in compared),
            _one_sided(ours, theirs),
            _deaths(ours, theirs),
            _costs(ours, theirs),
        ],
        result_name=NAME if bench.same_start else INDEPENDENT,
        command=command + ("" if bench.same_start else " --independent"),
        comparisons=compared,
    )


def _about(same_start: bool) -> list[str]:
    return [
        "Both train the original network as the original script did, on themis48: first phase, "
        "pseudo-labels, last phase.",
        "Each seed has one split, drawn by craters with whole source images on one side; both "
        "contenders train and choose their epoch on it.",
        "Both start from the same weights and take the same patches and dropout masks in the same "
        "order, in the last phase only where both added as many pseudo-labels; what remains is "
        "rounding."
        if same_start
        else "Weights, order and dropout are each contender's own, so single seeds differ.",
        "The validation labels also chose the epoch, so the scores flatter both alike.",
        "The Keras figures come from tensorflow-cpu in an environment of its own "
        "(benchmarks/.venv-tf, pinned in benchmarks/tf-requirements.txt).",
        "Times and memory are of the whole process, kept on one core with one thread. Wall "
        "seconds also count what else the machine did; CPU seconds do not.",
    ]


def compare(ours: dict[int, Row], theirs: dict[int, Row], name: str) -> Row:
    """Summarize the paired differences, craters minus Keras, and judge them by the margin."""
    found = harness.summarize(ours[seed][name] - theirs[seed][name] for seed in ours)
    return {
        "label": "craters minus Keras, paired by seed",
        "measure": name,
        "margin": MARGIN,
        "verdict": judge(found["low"], found["high"]),
        **found,
    }


def judge(low: float | None, high: float | None) -> str:
    """Return whether an interval lies within the margin, beyond it, or neither."""
    if low is None or high is None:
        return "open"
    if max(abs(low), abs(high)) < MARGIN:
        return "same"
    return "different" if low > MARGIN or high < -MARGIN else "open"


def _verdict(compared: Row) -> str:
    title = _TITLES[compared["measure"]][0]
    if compared["low"] is None:
        return f"Of {title} there is one seed, and so no interval."
    words = {
        "same": f"lies within ±{MARGIN}: the two do the same",
        "different": f"lies beyond ±{MARGIN}: the two differ",
        "open": f"reaches beyond ±{MARGIN}: {compared['n']} seeds do not settle it",
    }[compared["verdict"]]
    return (
        f"Difference in {title}, craters minus Keras: mean {compared['mean']:+.4f}, median "
        f"{compared['median']:+.4f}; the 95 % interval of the mean ({compared['low']:+.4f} to "
        f"{compared['high']:+.4f}) {words}."
    )


def _one_sided(ours: dict[int, Row], theirs: dict[int, Row]) -> str:
    """Count the networks that put nearly every patch on one side of 0.5."""
    counts = [
        sum(row[name] < ONE_SIDED for row in rows.values() for name in _COMPARED[:2])
        for rows in (ours, theirs)
    ]
    return (
        f"Networks that are not dead and yet put nearly every patch in one class (macro F1 below "
        f"{ONE_SIDED}): craters {counts[0]}, Keras {counts[1]} of {2 * len(ours)} each. They are "
        "kept in every figure and make the spread of macro F1; ROC AUC, which needs no decision "
        "threshold, hardly feels them."
    )


def _costs(ours: dict[int, Row], theirs: dict[int, Row]) -> str:
    ratios = {
        name: sum(row[name] for row in theirs.values()) / sum(row[name] for row in ours.values())
        for name in _COSTS
    }
    return (
        f"Keras takes {ratios['cpu_s']:.1f} times the CPU seconds of craters "
        f"({ratios['cpu_ms_per_patch']:.1f} times for each patch that it trains on: more "
        f"pseudo-labels mean more work) and {ratios['peak_mib']:.1f} times the memory."
    )


def _deaths(ours: dict[int, Row], theirs: dict[int, Row]) -> str:
    dead = [sum(row["dead_networks"] for row in rows.values()) for rows in (ours, theirs)]
    return (
        f"Dead networks (constant output) that were started again, in {2 * len(ours)} trainings "
        f"each: craters {dead[0]}, Keras {dead[1]}."
    )
