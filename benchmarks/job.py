"""Training side by side with the peers: time, memory, and the quality on unseen regions."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

import harness
from harness import FOLDER, WORK, Bench, BenchError, Row, RowStore
from keras_parity import tensorflow_python, tensorflow_versions
from tiles import held_out, write_arrays

NAME = "job"
TITLE = "Training, side by side"
ROUNDS = 5  # each holds out another fifth of the regions
SHORT = 5  # epochs of `compact` that are to reach the original job's quality

_PEERS = FOLDER / "peers"
_KERAS, _TUTORIAL, _SKLEARN, _OURS = (
    _PEERS / f"{name}_job.py" for name in ("keras", "tutorial", "sklearn", "craters")
)
_COSTS = ("wall_s", "cpu_s", "peak_mib")
_TITLES = {
    "macro_f1": ["macro F1, unseen regions", 3],
    "roc_auc": ["ROC AUC", 3],
    "wall_s": ["wall seconds", 1],
    "cpu_s": ["CPU seconds", 1],
    "peak_mib": ["peak memory, MiB", 0],
}


@dataclasses.dataclass(frozen=True)
class Way:
    """One contender: its script, what it is told, on how many CPUs, in whose environment."""

    label: str
    script: Path
    cpus: int
    extra: tuple[str, ...] = ()
    is_peer: bool = False
    in_tensorflow: bool = False


WAYS = {
    "keras_1": Way("original job, TensorFlow/Keras, 1 core", _KERAS, 1, (), True, True),
    "tutorial_1": Way("original job, plain PyTorch, 1 core", _TUTORIAL, 1, (), True),
    "original_1": Way("original job, craters, 1 core", _OURS, 1, ("original",)),
    "keras_2": Way("original job, TensorFlow/Keras, 2 cores", _KERAS, 2, (), True, True),
    "tutorial_2": Way("original job, plain PyTorch, 2 cores", _TUTORIAL, 2, (), True),
    "original_2": Way("original job, craters, 2 cores", _OURS, 2, ("original",)),
    "sklearn_2": Way("HOG, SVM, self-training, scikit-learn, 2 cores", _SKLEARN, 2, (), True, True),
    "short_2": Way(
        f"`compact`, {SHORT} epochs, craters, 2 cores", _OURS, 2, ("compact", str(SHORT))
    ),
    "compact_2": Way("`compact`, craters, 2 cores", _OURS, 2, ("compact",)),
}


def run(bench: Bench, say: Callable[[str], None]) -> Row:
    """Measure the missing rounds, contender by contender in turn.

    A quick call does one round, and only what runs on two cores.
    """
    python = tensorflow_python(say)
    made_by = tensorflow_versions(python)
    _install_scikit(python, say)
    rows: dict[str, dict[int, Row]] = {name: {} for name in WAYS}
    store = RowStore(NAME)
    for fold in range(ROUNDS):
        for name, way in WAYS.items():
            key = _key(bench, name, fold, made_by)
            row = None if bench.again else store.find(key)
            if row is None and (bench.full or (fold == 0 and way.cpus > 1)):
                row = measure(bench, way, fold, python)
                store.add(key, row)
                say(f"{way.label}, fold {fold}: macro F1 {row['macro_f1']:.3f}, "
                    f"{row['wall_s']:.1f} s")  # fmt: skip
            if row is not None:
                rows[name][fold] = row
    return _result(rows, harness.versions() | made_by)


def _install_scikit(python: Path, say: Callable[[str], None]) -> None:
    """Put scikit-learn and scikit-image into the peers' environment."""
    looked = [python, "-c", "import skimage, sklearn"]
    if subprocess.run(looked, check=False, stderr=subprocess.DEVNULL).returncode:
        say("installing scikit-learn and scikit-image into benchmarks/.venv-tf ...")
        wanted = FOLDER / "sklearn-requirements.txt"
        command = [python, "-m", "pip", "install", "--quiet", "-r", wanted]
        if subprocess.run(command, check=False).returncode:
            raise BenchError(f"the packages of {wanted.name} could not be installed")


def _key(bench: Bench, name: str, fold: int, made_by: Row) -> Row:
    way = WAYS[name]
    code = [way.script, _PEERS / "draw.py"]
    if way.script == _KERAS:
        code.append(_PEERS / "keras_original.py")
    if way.script == _OURS:
        code += harness.training_modules()
    settings = {"cpus": way.cpus, "extra": list(way.extra), "folds": ROUNDS}
    versions = made_by if way.in_tensorflow else harness.versions()
    return harness.row_key(bench, name, fold, settings, versions, code)


def measure(bench: Bench, way: Way, fold: int, peers: Path) -> Row:
    """Train without a fold's regions in a process of its own; score it on that fold's labels."""
    from craters import evaluate

    cpus = harness.usable_cpus()
    if len(cpus) < way.cpus:
        raise BenchError(f"{way.cpus} CPUs are needed, {len(cpus)} may be used")
    arrays, truth = take_fold(bench.data, fold)
    out = WORK / NAME / "said.npy"
    out.unlink(missing_ok=True)
    python = str(peers if way.in_tensorflow else sys.executable)
    command = [python, str(way.script), str(arrays), str(way.cpus), str(fold), str(out), *way.extra]
    usage = harness.measure_process(
        command, WORK / NAME / "last.log", cpus=cpus[: way.cpus], one_thread=way.cpus == 1
    )
    found = evaluate.measure(truth, np.load(out))
    return {"macro_f1": found.macro_f1, "roc_auc": found.roc_auc} | dataclasses.asdict(usage)


def take_fold(data: Path, fold: int) -> tuple[Path, np.ndarray]:
    """Write the arrays of a fold: its regions' labeled patches are the test set; return its truth.

    Neither labeled nor unlabeled patches of those regions are trained on.
    """
    from craters import splits

    regions = held_out(data, fold)
    folder = write_arrays(data, regions, WORK / NAME / f"fold-{fold}")
    chosen = np.isin(splits.regions_of(np.load(data / "groups_train.npy")), regions)
    np.save(folder / "Xtest1.npy", np.load(data / "Xtrain1.npy")[chosen])
    return folder, np.load(data / "Ytrain1.npy").reshape(-1)[chosen].astype(np.int8)


def _result(rows: dict[str, dict[int, Row]], made_by: Row) -> Row:
    """Put the rounds together; ratios are taken round by round."""
    contenders = [
        harness.contender(way.label, rows[name], ("macro_f1", "roc_auc", *_COSTS), way.is_peer)
        for name, way in WAYS.items()
        if rows[name]
    ]
    return harness.result(
        NAME,
        TITLE,
        about=[
            "themis48 without a fifth of its regions, another fifth each round; every contender in "
            "a process of its own on pinned cores, in turn. Measured from the start of the process "
            "to the predictions of the held-out patches; figures and reports are left out. The "
            "original job: 75 and 50 epochs, batch 32, confident 'without crater' predictions "
            "added between; in Keras, in PyTorch as a tutorial writes it (DataLoader, NCHW, "
            "float32), and in craters.",
            f"Nobody stops by held-out data: the {SHORT} epochs of the short `compact` were fixed "
            "beforehand, and its time to the original job's quality is that of the whole process.",
        ],
        settings={"rounds": ROUNDS, "short": SHORT},
        titles=_TITLES,
        tables={"Time, memory and quality": ("macro_f1", "roc_auc", *_COSTS)},
        contenders=contenders,
        findings=_findings(rows),
        made_by=made_by,
    )


def _findings(rows: dict[str, dict[int, Row]]) -> list[str]:
    said = []
    for theirs, ours, cost, text in (
        ("keras_1", "original_1", "cpu_s",
         "The original job, same recipe and updates, one core: Keras takes {} times the CPU "
         "seconds of craters (target: 1.6)."),
        ("tutorial_1", "original_1", "cpu_s", "... and plain PyTorch {} times."),
        ("keras_2", "short_2", "wall_s",
         "Time to the original job's quality, wall, two cores: Keras {} times that of craters "
         "(target: 8)."),
        ("tutorial_2", "short_2", "wall_s", "... and plain PyTorch {} times (target: 4)."),
    ):  # fmt: skip
        both = sorted(rows[theirs].keys() & rows[ours].keys())
        if both:
            ratios = [rows[theirs][fold][cost] / rows[ours][fold][cost] for fold in both]
            scores = [np.mean([rows[n][fold]["macro_f1"] for fold in both]) for n in (theirs, ours)]
            said.append(
                text.format(harness.spread(ratios))
                + f" Mean macro F1 {scores[0]:.3f} and {scores[1]:.3f}."
            )
    return said
