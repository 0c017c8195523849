from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from craters.errors import CratersError
from craters.labels import LabelStore
from craters.review import open_target, serve
from tests.conftest import simple_patches

# Starts a server, answers one patch over HTTP, and kills the server at once after the reply; again
# and again. Servers are forks, so that 200 of them take seconds.
KILLER = """
import http.client, json, os, signal, sys
from pathlib import Path
from craters.review import server
import uvicorn.lifespan.off, uvicorn.loops.auto, uvicorn.protocols.http.h11_impl

target, store, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
for number in range(count):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        server.serve(target, store=store, threads=1,
                            on_ready=lambda text: os.write(write, text.encode()))
        os._exit(1)
    address = os.read(read, 200).decode()
    os.close(read), os.close(write)
    host = address.split("/")[2]
    cookie = f"craters-{host.split(':')[1]}={address.partition('token=')[2]}"
    answer = {"patch": f"p:{number}", "answer": ("crater", "not", "unsure")[number % 3],
              "why": "chosen"}
    link = http.client.HTTPConnection(host, timeout=60)
    link.request("POST", f"/{address.split('/')[3]}/as/Ann/answers",
                 json.dumps({"key": f"k{number}", "answers": [answer]}),
                 {"Cookie": cookie, "Origin": f"http://{host}"})
    reply = link.getresponse()
    saved = json.loads(reply.read())["saved"]
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    link.close()
    print(json.dumps({"status": reply.status, "patch": saved[0]["patch"],
                      "answer": saved[0]["answer"]}), flush=True)
"""


@pytest.mark.parametrize("count", [5, pytest.param(200, marks=pytest.mark.slow)])
def test_a_server_killed_after_each_confirmed_answer_loses_none(tmp_path: Path, count: int) -> None:
    np.save(tmp_path / "p.npy", simple_patches(count, 1, side=16)[0])
    store = tmp_path / "labels.sqlite"
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path / "p.npy"), str(store), str(count)],
        capture_output=True, text=True, check=False, timeout=1200,
    )  # fmt: skip
    confirmed = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(confirmed) == count, done.stderr[-2000:]
    assert {one["status"] for one in confirmed} == {200}
    with LabelStore(store) as labels:
        kept = [(one.patch, one.answer) for one in labels.entries()]
    assert kept == [(one["patch"], one["answer"]) for one in confirmed]


def test_an_interrupt_just_after_the_address_ends_the_predictions_first(tmp_path: Path) -> None:
    # A thread that still computes in ONNX Runtime when Python exits aborts the process.
    np.save(tmp_path / "p.npy", simple_patches(1500, 1, side=48)[0])
    before = threading.enumerate()
    predicting = []

    def interrupt(_: str) -> None:
        predicting.extend(set(threading.enumerate()) - set(before))
        raise SystemExit(0)

    with pytest.raises(SystemExit):
        serve(tmp_path / "p.npy", threads=1, on_ready=interrupt)
    assert len(predicting) == 1
    assert threading.enumerate() == before


def test_windows_is_refused_with_the_way_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "p.npy", simple_patches(3, 1, side=16)[0])
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(CratersError) as refused:
        open_target(tmp_path / "p.npy")
    assert str(refused.value) == "reviews need Linux or macOS. On Windows, use WSL."
