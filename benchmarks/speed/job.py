"""Training compared with peers: time, memory, and quality on unseen regions."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np

import harness
from craters.core import Progress
from harness import WORK, Bench, Keys, Row, Rows

NAME = "job"
TITLE = "Training, side by side"
RESULT_VERSION = {"keras": 1, "tutorial": 1, "sklearn": 1, "craters": 1, "pretrained": 1}
ROUNDS = 3  # each holds out another fifth of the regions
SHORT = 5  # epochs of `compact` that are to reach the original job's quality

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
    """One contender: its script, arguments, number of CPUs, and environment."""

    label: str
    by: str  # whose script
    cpus: int
    extra: tuple[str, ...] = ()

    @property
    def in_tensorflow(self) -> bool:
        """Whether it runs in the environment of TensorFlow."""
        return self.by in ("keras", "sklearn")


WAYS = {
    "keras_1": Way("original job, TensorFlow/Keras, 1 core", "keras", 1),
    "tutorial_1": Way("original job, plain PyTorch, 1 core", "tutorial", 1),
    "original_1": Way("original job, craters, 1 core", "craters", 1, ("original",)),
    "keras_2": Way("original job, TensorFlow/Keras, 2 cores", "keras", 2),
    "tutorial_2": Way("original job, plain PyTorch, 2 cores", "tutorial", 2),
    "original_2": Way("original job, craters, 2 cores", "craters", 2, ("original",)),
    "sklearn_2": Way("HOG, SVM, self-training, scikit-learn, 2 cores", "sklearn", 2),
    "short_2": Way(
        f"`compact`, {SHORT} epochs, craters, 2 cores", "craters", 2, ("compact", str(SHORT))
    ),
    "compact_2": Way("`compact`, craters, 2 cores", "craters", 2, ("compact",)),
    "pretrained_2": Way("`craters predict`, pretrained, 2 cores", "pretrained", 2),
}


def run(bench: Bench, progress: Progress) -> Row:
    """Measure the missing rounds, contender by contender in turn.

    A quick call does one round, and only what runs on two cores.
    """

    def train(name: str, fold: int) -> Row:
        row = measure(bench, WAYS[name], fold, progress)
        progress.say(f"{WAYS[name].label}, fold {fold}: macro F1 {row['macro_f1']:.3f}, "
            f"{row['wall_s']:.1f} s")  # fmt: skip
        return row

    def due(name: str, fold: int) -> bool:
        return bench.full or (fold == 0 and WAYS[name].cpus > 1)

    def by(name: str, _: int) -> Row | None:
        way = WAYS[name]
        return harness.tensorflow_versions(_python(way, progress)) if way.in_tensorflow else None

    return _result(harness.measure_missing(bench, NAME, keys(bench), train, due=due, by=by))


def keys(bench: Bench) -> Keys:
    """Return what the row of each contender and fold depends on."""
    return {
        (name, fold): harness.row_key(
            bench,
            name,
            fold,
            {"cpus": way.cpus, "extra": list(way.extra), "folds": harness.REGION_FOLDS},
            RESULT_VERSION[way.by],
        )
        for fold in range(ROUNDS)
        for name, way in WAYS.items()
    }  # fmt: skip


def _python(way: Way, progress: Progress) -> Path:
    return harness.scikit_python(progress) if way.in_tensorflow else Path(sys.executable)


def measure(bench: Bench, way: Way, fold: int, progress: Progress) -> Row:
    """Train without a fold's regions in a process of its own; score it on that fold's labels."""
    from craters.evaluation import Scored, metrics

    cpus = harness.usable_cpus(way.cpus)
    arrays, truth = take_fold(bench.data, fold)
    out = WORK / NAME / "said.npy"
    out.unlink(missing_ok=True)
    if way.by == "pretrained":
        table = out.with_name("predictions.csv")
        table.unlink(missing_ok=True)
        command = [sys.executable, "-m", "craters", "predict", arrays / "Xtest1.npy", "--out",
                   table, "--threads", way.cpus, "--quiet"]  # fmt: skip
    else:
        script = Path(__file__).parent / "peers" / f"{way.by}_job.py"
        command = [_python(way, progress), script, arrays, way.cpus, fold, out, *way.extra]
    usage = harness.measure_process(
        list(map(str, command)), WORK / NAME / "last.log", cpus=cpus, one_thread=way.cpus == 1
    )
    if way.by == "pretrained":
        np.save(out, harness.read_probabilities(table))
    found = metrics.measure(Scored(labels=truth, probability=np.load(out)))
    return {"macro_f1": found.macro_f1, "roc_auc": found.roc_auc} | dataclasses.asdict(usage)


def take_fold(data: Path, fold: int) -> tuple[Path, np.ndarray]:
    """Write the arrays of a fold: its regions' labeled patches are the test set; return its truth.

    Neither labeled nor unlabeled patches of those regions are trained on.
    """
    from craters.data import splits

    regions = harness.held_out_regions(data, fold)
    folder = harness.write_arrays(data, regions, WORK / NAME / f"fold-{fold}")
    chosen = np.isin(splits.regions_of(np.load(data / "groups_train.npy")), regions)
    np.save(folder / "Xtest1.npy", np.load(data / "Xtrain1.npy")[chosen])
    return folder, np.load(data / "Ytrain1.npy").reshape(-1)[chosen].astype(np.int8)


def _result(found: Rows) -> Row:
    """Put the rounds together; ratios are taken round by round."""
    rows = harness.by_contender(found, WAYS)
    measures = ("macro_f1", "roc_auc", *_COSTS)
    contenders = [
        harness.contender(way.label, rows[name], measures, way.by not in ("craters", "pretrained"))
        for name, way in WAYS.items()
        if rows[name]
    ]
    return harness.result(
        NAME,
        TITLE,
        rows=found.values(),
        about=[
            "themis48 without a fifth of its regions, another fifth each round; every contender in "
            "a process of its own on pinned cores, in turn. Measured from the start of the process "
            "to the predictions of the held-out patches; figures and reports are left out. The "
            "original job: 75 and 50 epochs, batch 32, confident 'without crater' predictions "
            "added between; in Keras, in PyTorch as a tutorial writes it (DataLoader, NCHW, "
            "float32), and in craters. The pretrained network is only predicted with: it was "
            "trained before, on synthetic planets.",
            f"Nobody stops by held-out data: the {SHORT} epochs of the short `compact` were fixed "
            "beforehand, and its time to the original job's quality is that of the whole process.",
        ],
        settings={"rounds": ROUNDS, "short": SHORT},
        titles=_TITLES,
        tables={"Time, memory and quality": measures},
        contenders=contenders,
        findings=_findings(rows),
    )


def _findings(rows: dict[str, dict[int, Row]]) -> list[str]:
    said = []
    for theirs, ours, cost, text in (
        ("keras_1", "original_1", "cpu_s",
         "The original job, same recipe and updates, one core: Keras takes {} times the CPU "
         "seconds of craters (target: 2.6)."),
        ("tutorial_1", "original_1", "cpu_s", "... and plain PyTorch {} times."),
        ("keras_2", "short_2", "wall_s",
         "Time to the original job's quality, wall, two cores: Keras {} times that of craters "
         "(target: 9)."),
        ("tutorial_2", "short_2", "wall_s", "... and plain PyTorch {} times."),
        ("keras_2", "pretrained_2", "wall_s",
         "... with the pretrained network, by a cold `craters predict`: Keras {} times (target: "
         "25)."),
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
