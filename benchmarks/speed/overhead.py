"""What `craters run` costs beyond training: CPU seconds, now and at an earlier commit."""

from __future__ import annotations

import functools
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import harness
from craters.core import Progress
from harness import ROOT, WORK, Bench, BenchError, Keys, Row, Rows

NAME = "overhead"
TITLE = "`craters run` beyond training"
RESULT_VERSION = {"default": 2, "default_before": 1, "random": 2, "before": 2}
LABELS = {
    "default": "`craters run`",
    "random": "`--method supervised --start random`",
}
ROUNDS, EPOCHS = 3, 2
BEFORE = "42368d3"
BASELINES = {"default": "default_before", "random": "before"}
MOST = 0.3  # of the seconds before: the target

_PEER = Path(__file__).parent / "peers" / "overhead_run.py"
_NEEDED_BEFORE = ("crepes", "pandas")  # that the package no longer needs
_COSTS = ("beyond_s", "training_s", "cpu_s")


def run(bench: Bench, progress: Progress) -> Row | None:
    """Measure the missing rounds in turn; a quick call reports the stored result."""
    before = functools.cache(lambda: _check_out(progress))

    def measure(name: str, number: int) -> Row:
        row = _measure(bench, name, before() if name.endswith("before") else [ROOT / "src"])
        progress.say(f"{name}, round {number}: {row['beyond_s']:.2f} s of CPU beyond training")
        return row

    return _result(harness.measure_missing(bench, NAME, keys(bench), measure))


def keys(bench: Bench) -> Keys:
    """Return what the row of each contender and round depends on."""
    settings = {"cpus": 1, "epochs": EPOCHS}
    return {
        (name, number): harness.row_key(bench, name, number, settings, version)
        for number in range(ROUNDS)
        for name, version in RESULT_VERSION.items()
    }


def _check_out(progress: Progress) -> list[Path]:
    """Unpack the earlier commit; return the folders that Python finds its packages in."""
    progress.say(f"unpacking {BEFORE} ...")
    folder, packages = WORK / NAME / "before", WORK / NAME / "packages"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    archive = folder / "src.tar"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"]
    for command in (
        ["git", "archive", "--output", str(archive), BEFORE, "src"],
        ["tar", "-xf", str(archive), "-C", str(folder)],
        [*install, "--target", str(packages), *_NEEDED_BEFORE],
    ):
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            raise BenchError(f"{' '.join(command)} failed")
    return [folder / "src", packages]


def _measure(bench: Bench, name: str, packages: list[Path]) -> Row:
    """Run one contender on one core with one thread, in a process of its own."""
    out, file = WORK / NAME / "run", WORK / NAME / "training.json"
    for folder in (out, out.with_name(".run.unfinished")):
        shutil.rmtree(folder, ignore_errors=True)
    module = "craters.fitting" if name.endswith("before") else "craters.training.trainer"
    method = [] if name.startswith("default") else ["--method", "supervised"]
    method += ["--start", "random"] if name == "random" else []
    usage = harness.measure_process(
        ["env", f"PYTHONPATH={':'.join(map(str, packages))}", sys.executable, str(_PEER),
         str(file), module, "run", *method, "--epochs", str(EPOCHS), "--threads", "1",
         "--data", str(bench.data), "--out", str(out)],
        WORK / NAME / f"{name}.log",
        cpus=harness.usable_cpus(1),
        one_thread=True,
    )  # fmt: skip
    training = json.loads(file.read_text())["training_s"]
    beyond = round(usage.cpu_s - training, 3)
    return {"cpu_s": usage.cpu_s, "training_s": training, "beyond_s": beyond}


def _result(rows: Rows) -> Row:
    """Assemble the result from the rows."""
    found = harness.by_contender(rows, RESULT_VERSION)
    beyond = {
        name: statistics.median(row["beyond_s"] for row in of.values())
        for name, of in found.items()
    }
    return harness.result(
        NAME,
        TITLE,
        rows=rows.values(),
        about=[
            f"`craters run --epochs {EPOCHS}` on themis48 in a new process each round, in turn, on "
            "one core with one thread. Training is the CPU time in the function that trains a "
            "network (`fit`), all else is beyond it: start, checks, features, predictions, "
            f"intervals, figures, model files. {BEFORE} is the state before the pretrained start. "
            "Its default measured methods for unlabeled patches in folds, besides `supervised`. "
            "Today's is `supervised` from the pretrained network, in folds: from it, unlabeled "
            "patches have not been found to help. `--start random` does the job of `--method "
            "supervised` then.",
        ],
        settings={"rounds": ROUNDS},
        titles={
            "beyond_s": ["CPU seconds beyond training", 2],
            "training_s": ["CPU seconds of training", 2],
            "cpu_s": ["CPU seconds", 2],
        },
        tables={"What it took": _COSTS},
        contenders=[
            *(
                harness.contender(label, found[name], _COSTS, False)
                for name, label in LABELS.items()
            ),
            harness.contender(f"`craters run`, at {BEFORE}", found["default_before"], _COSTS, True),
            harness.contender(f"`--method supervised`, at {BEFORE}", found["before"], _COSTS, True),
        ],
        findings=[
            f"{label} takes {beyond[name]:.1f} s beyond training, "
            f"{beyond[name] / beyond[baseline]:.2f} times the {beyond[baseline]:.1f} s of "
            f"{BEFORE} (medians of {ROUNDS} rounds; target: {MOST:g})."
            for name, label in LABELS.items()
            for baseline in [BASELINES[name]]
        ],
    )
