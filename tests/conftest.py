from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import settings

from craters.core import NullProgress, TimeLeft

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# No test draws unseeded numbers; on a busy machine an example may take long.
settings.register_profile("craters", derandomize=True, deadline=None)
settings.load_profile("craters")

collect_ignore_glob = ["golden/*"]  # what made the files there needs other packages

REPOSITORY = Path(__file__).resolve().parents[1]


class Notes(NullProgress):
    """Keeps the messages and warnings of a computation."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)


class Estimates(NullProgress):
    """Estimates the time left from the finished work, by a clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.shares: list[float] = []
        self.rows: list[tuple[float, float | None]] = []  # time, and estimated time left
        self._left = TimeLeft(lambda: self.now)

    def work(self, done: int, total: int, unit: str, share: float | None = None) -> None:  # noqa: ARG002
        self.shares.append(done / total if share is None else share)
        self._left.update(self.shares[-1])
        self.rows.append((self.now, self._left.seconds))

    def check(self) -> None:
        """Expect "unknown" at first, and at most 30 % of error after a fifth of the time."""
        end = self.now
        assert all(left is None for now, left in self.rows if now < 0.14 * end)
        late = [(end - now, left) for now, left in self.rows if 0.26 * end < now < 0.95 * end]
        assert len(late) > 3
        for true, left in late:
            assert left == pytest.approx(true, rel=0.3)
        assert (self.shares[0], self.shares[-1]) == (0, pytest.approx(1))


def simple_patches(n: int, seed: int, crater_share: float = 0.6, side: int = 48):
    """Noise, with a dark-left bright-right disc in the patches of class 1."""
    random = np.random.default_rng(seed)
    images = random.normal(120, 12, (n, side, side))
    labels = (np.arange(n) < round(n * crater_share)).astype(np.int32)
    random.shuffle(labels)
    rows, columns = np.mgrid[:side, :side]
    for image, label in zip(images, labels, strict=True):
        if label:
            radius = random.uniform(0.15, 0.3) * side
            row, column = random.uniform(0.35, 0.65, 2) * side
            inside = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
            image[inside] += 60 + 70 * (columns[inside] - column) / radius
    return np.clip(images, 0, 255).astype(np.uint8), labels


def write_job(folder: Path, *, n: int = 120, side: int = 48, groups: bool = False) -> Path:
    """Write a small job in the original layout."""
    folder.mkdir(parents=True)
    images, labels = simple_patches(n, 1, side=side)
    np.save(folder / "Xtrain1.npy", images.reshape(n, -1))
    np.save(folder / "Ytrain1.npy", labels)
    np.save(
        folder / "Xtrain1_extra.npy", simple_patches(n // 2, 2, 0.2, side)[0].reshape(n // 2, -1)
    )
    np.save(folder / "Xtest1.npy", simple_patches(n // 4, 3, side=side)[0].reshape(n // 4, -1))
    if groups:
        np.save(folder / "groups_train.npy", np.array([f"image_{row // 4}" for row in range(n)]))
    return folder


@pytest.fixture
def job_folder(tmp_path: Path) -> Path:
    return write_job(tmp_path / "DATA")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CRATERS_")]:
        if name != "CRATERS_DATA":
            monkeypatch.delenv(name)


@pytest.fixture
def float32_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings on the CPU compute in float32, as on the simulated GPU."""
    monkeypatch.setattr(
        "craters.training.device.has_bfloat16", lambda device: device.type == "cuda"
    )


@pytest.fixture
def themis48() -> Path:
    """The real THEMIS patches, or a skip with the reason."""
    root = Path(os.environ.get("CRATERS_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (root / "themis48" / "Xtrain1.npy").is_file():
        pytest.skip(f"no real data: {root.name}/themis48/Xtrain1.npy not found; set $CRATERS_DATA")
    return root / "themis48"


@pytest.fixture
def themis_tiles() -> Path:
    """The real THEMIS images with their catalogue, or a skip with the reason."""
    root = Path(os.environ.get("CRATERS_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (root / "themis_tiles" / "robbins.csv").is_file():
        pytest.skip(f"no real data: {root.name}/themis_tiles not found; set $CRATERS_DATA")
    return root / "themis_tiles"


@pytest.fixture
def real_images() -> Path:
    """The folder of the real images with circles or boxes, or a skip with the reason."""
    root = Path(os.environ.get("CRATERS_DATA", REPOSITORY.parent / "shared" / "data"))
    for name in ("ctx_mars", "hrsc", "nac_moon"):
        if not (root / name).is_dir():
            pytest.skip(f"no real data: {root.name}/{name} not found; set $CRATERS_DATA")
    return root


@contextlib.contextmanager
def full_disk(largest: int = 2000) -> Iterator[None]:
    """Limit the size of files in bytes; beyond it, writing fails as on a full disk."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    full = shutil.disk_usage(tempfile.gettempdir())._replace(free=0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
    try:
        with mock.patch("shutil.disk_usage", return_value=full):
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
