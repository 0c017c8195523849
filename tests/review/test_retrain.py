from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from craters.review import retrain
from craters.review.features import Background
from craters.review.retrain import Retraining
from tests.conftest import simple_patches
from tests.core.test_parallel import is_running
from tests.review.tools import Client, make_session

STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
time.sleep(600)
"""
MERGED = """
import sys
from pathlib import Path
Path(sys.argv[1]).mkdir()
(Path(sys.argv[1]) / "labels.json").write_text("{}")
"""


class Planted(Retraining):
    """Runs other commands than a training's."""

    training = STUBBORN

    def commands(self, number: int) -> list[list[str]]:
        data = str(self.folder / f"{number}.data")
        return [[sys.executable, "-c", code, data] for code in (MERGED, self.training)]


def planted(folder: Path, done: Any = lambda _run, _merged: None) -> Planted:
    return Planted(folder / "l.sqlite", folder / "p.npy", None, {}, done)


def wait_for(condition: Any, why: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, why
        time.sleep(0.02)


def test_a_training_that_does_not_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrain, "_GRACE", 0.2)
    training = planted(tmp_path)
    training.start()
    wait_for(lambda: training.lines, "it never began")
    begun = time.monotonic()
    training.stop()
    assert time.monotonic() - begun < 30
    assert training.status.state == "stopped"
    assert not training.is_running
    assert not is_running(int(training.lines[0]))


def test_what_is_stopped_before_its_process_begins_does_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, enter, stopping = planted(tmp_path), Retraining._enter, []

    def stopped_just_then(self: Retraining, state: str) -> bool:
        may_begin = enter(self, state)
        if state == "training":
            stopping.append(threading.Thread(target=self.stop))
            stopping[0].start()
            wait_for(lambda: self.status.state == "stopped", "it was not stopped")
        return may_begin

    monkeypatch.setattr(Retraining, "_enter", stopped_just_then)
    training.start()
    training.wait(60)
    stopping[0].join(60)
    assert (training.status.state, list(training.lines)) == ("stopped", [])


def test_stopping_does_not_wait_for_the_predictions_of_the_new_model(tmp_path: Path) -> None:
    begun, free = threading.Event(), threading.Event()

    def predict(run: Path, merged: dict[str, Any]) -> None:
        begun.set()
        free.wait(60)

    training = planted(tmp_path, predict)
    training.training = ""
    training.start()
    assert begun.wait(60)
    training.stop()  # returns at once: nothing is trained any more
    assert training.status.state == "judging"
    free.set()
    training.wait(60)
    assert training.status.state == "done"


def test_a_closed_background_starts_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", simple_patches(30, 1)[0])
    session = make_session(tmp_path / "p.npy", tmp_path / "l.sqlite")
    background = Background(session.source, tmp_path, lambda _: pytest.fail("predicted"))
    background.close()
    background.start(session.scorer)
    background.wait()
    assert not list(tmp_path.glob("*.npz"))
    session.close()


SERVER = """
import sys, time
from pathlib import Path
from craters.review.retrain import Retraining
store, target = map(Path, sys.argv[1:])
training = Retraining(store, target, None, {}, lambda run, merged: None)
training.start()
while True:
    print(training.status.state, flush=True)
    time.sleep(0.05)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
def test_a_training_ends_with_a_server_that_is_killed(tmp_path: Path) -> None:
    images, labels = simple_patches(300, 1)
    np.save(tmp_path / "p.npy", images)
    store = tmp_path / "l.sqlite"
    session = make_session(tmp_path / "p.npy", store)
    client = Client(session)
    for row, label in enumerate(labels):
        answer = {"patch": f"p:{row}", "answer": ("not", "crater")[label], "why": "chosen"}
        assert client.post("/as/Ann/answers", {"key": f"k{row}", "answers": [answer]})[0] == 200
    session.close()
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(store), str(tmp_path / "p.npy")],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    for line in server.stdout:
        assert line.strip() in ("merging", "training")
        if line.strip() == "training":
            break
    wait_for(lambda: trainings(store), "no training runs")
    found = trainings(store)
    time.sleep(3)  # in the midst of it
    assert any(map(is_running, found))
    server.send_signal(signal.SIGKILL)
    server.wait()
    server.stdout.close()
    wait_for(lambda: not any(map(is_running, found)), "the training goes on")
    assert not trainings(store)


def trainings(store: Path) -> list[int]:
    """Return the processes of `craters run` on a store's folder of models."""
    folder, found = os.fsencode(store.with_name(f"{store.stem}.models")), []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes()
            if b"\0run\0" in words and folder in words and is_running(int(path.parent.name)):
                found.append(int(path.parent.name))
    return found
