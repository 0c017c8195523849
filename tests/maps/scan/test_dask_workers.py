from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from craters.errors import ConfigError, DataError, MissingExtraError, WorkerError
from craters.maps.scan import dask_workers
from tests.maps import tools as maps
from tests.maps.tools import config, gappy, noise, same_results, write_raster

pytest.importorskip("rasterio", reason="rasterio is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")
distributed = pytest.importorskip("distributed", reason="Dask is not installed")

from craters.core import NullProgress
from craters.maps.scan import (
    plan_scan,
    scan_images,
)

ONE_TILE = {"decision_threshold": 0.5, "memory": 400.0}  # a block is one tile, for one thread


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return maps.write_classifier(tmp_path_factory.mktemp("m") / "model", resolution=100.0)


def start(**changes: object) -> object:
    quiet = {"dashboard_address": "127.0.0.1:0", "memory_limit": 0, "silence_logs": 50}
    return distributed.LocalCluster(threads_per_worker=1, **(quiet | changes))


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    """Two workers that are threads here, for speed."""
    with start(n_workers=2, processes=False) as found:
        yield found


class Watcher(NullProgress):
    """Does something once, when so many blocks have ended."""

    def __init__(self, after: int, act) -> None:
        self.after, self.act, self.seen = after, act, []

    def work(self, ended: int, *_: object) -> None:
        self.seen.append(ended)
        if self.act is not None and ended >= self.after:
            self.act, act = None, self.act
            act()


def test_a_cluster_gives_the_same_bytes_and_is_left_clean(
    model: Path, tmp_path: Path, cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_raster(tmp_path / "a.tif", gappy(2000, 900, 3), nodata=0)
    monkeypatch.chdir(tmp_path)  # workers are elsewhere
    image, held, most = Path("a.tif"), [], 0
    scan_images(config(model, image, tmp_path / "threads", **ONE_TILE))
    submit = dask_workers.DaskExecutor.submit
    monkeypatch.setattr(
        dask_workers.DaskExecutor, "submit", lambda *a: held.append(submit(*a)) or held[-1]
    )

    class Counter(NullProgress):
        def work(self, ended: int, *_: object) -> None:
            nonlocal most
            most = max(most, len(held) - ended)

    scan_images(
        config(model, image, tmp_path / "dask", dask=cluster.scheduler_address, **ONE_TILE),
        progress=Counter(),
    )
    same_results(tmp_path / "threads", tmp_path / "dask")
    assert len(held) == len(plan_scan(config(model, image, tmp_path / "x", **ONE_TILE)).blocks(0))
    assert most <= 4  # two for each thread of the cluster
    held.clear()
    with distributed.Client(cluster) as client:
        names = client.run(lambda dask_worker: list(dask_worker.plugins))
        assert not any(name.startswith("craters") for found in names.values() for name in found)


def test_a_block_that_fails_in_a_worker_is_listed(model: Path, tmp_path: Path, cluster) -> None:
    image = write_raster(tmp_path / "a.tif", noise(1600, 400), driver="COG",
                         overviews="NONE", blocksize=128)  # fmt: skip
    content = image.read_bytes()
    image.write_bytes(content[: len(content) * 3 // 4])
    found = [
        scan_images(config(model, image, tmp_path / name, dask=address, **ONE_TILE)).failed
        for name, address in (("threads", ""), ("dask", cluster.scheduler_address))
    ]
    assert found[0] == found[1] != []
    assert "Is the file complete?" in found[1][0]["reason"]


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(model: Path, tmp_path: Path) -> None:
    image = write_raster(tmp_path / "a.tif", gappy(4000, 2400, 3), nodata=0)
    scan_images(config(model, image, tmp_path / "threads", **ONE_TILE))
    killed = []
    with start(n_workers=2, processes=True) as cluster:

        def kill() -> None:
            killed.append(next(iter(cluster.workers.values())).pid)
            os.kill(killed[-1], signal.SIGKILL)

        watcher = Watcher(3, kill)
        outcome = scan_images(
            config(model, image, tmp_path / "dask", dask=cluster.scheduler_address, **ONE_TILE),
            progress=watcher,
        )
    assert killed
    assert watcher.seen[-1] == len(
        plan_scan(config(model, image, tmp_path / "x", **ONE_TILE)).blocks(0)
    )
    assert outcome.failed == []
    same_results(tmp_path / "threads", tmp_path / "dask")


@pytest.mark.slow
def test_local_processes_by_the_command_line(model: Path, tmp_path: Path) -> None:
    import subprocess

    image = write_raster(tmp_path / "a.tif", gappy(1000, 900, 3), nodata=0)
    command = [sys.executable, "-m", "craters", "scan", str(image), "--model", str(model), "-q"]
    for name, more in (("threads", []), ("dask", ["--dask", "local"])):
        done = subprocess.run(
            [*command, *more, "--workers", "2", "--out", str(tmp_path / name)],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
    same_results(tmp_path / "threads", tmp_path / "dask")


def test_a_lost_scheduler_is_reported_and_resumed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_workers, "_CONNECT_TIMEOUT", 2)
    image = write_raster(tmp_path / "a.tif", noise(3000, 900))
    scan_images(config(model, image, tmp_path / "threads", **ONE_TILE))
    with start(n_workers=1, processes=False) as mine:
        address = mine.scheduler_address
        with pytest.raises(WorkerError, match="the Dask scheduler is gone. Start it again"):
            scan_images(
                config(model, image, tmp_path / "out", dask=address, **ONE_TILE),
                progress=Watcher(1, mine.close),
            )
    assert not (tmp_path / "out").exists()
    scan_images(config(model, image, tmp_path / "out", **ONE_TILE), resume=True)
    same_results(tmp_path / "threads", tmp_path / "out")


def test_an_address_without_a_scheduler_or_workers(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_raster(tmp_path / "a.tif", noise(60, 60))
    monkeypatch.setattr(dask_workers, "_CONNECT_TIMEOUT", 0.5)
    for address in ("tcp://127.0.0.1:9", "nonsense://x"):
        with pytest.raises(ConfigError, match="does not answer"):
            scan_images(config(model, image, tmp_path / "out", dask=address), resume=True)
    with start(n_workers=0, processes=False) as empty:
        settings = config(model, image, tmp_path / "out", dask=empty.scheduler_address)
        with pytest.raises(WorkerError, match="has no worker. Start some"):
            scan_images(settings, resume=True)


def test_without_dask_the_hint_says_what_to_install(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtraError, match=r"-e '\.\[dask\]'"):
        scan_images(config(model, tmp_path / "none.tif", tmp_path / "out", dask="local"))


def test_a_block_that_ends_every_worker_is_a_failed_block() -> None:
    from distributed.scheduler import KilledWorker

    class Ticket:
        def result(self):
            raise KilledWorker("key", None, 3)

    crew = dask_workers.DaskExecutor("local", lambda: None, 1)
    with pytest.raises(DataError, match=r"4 of them\). Out of memory"):
        crew.result(Ticket())
