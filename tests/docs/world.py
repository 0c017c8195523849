"""The folder that documented commands run in: small files of the names in the pages."""

from __future__ import annotations

import shutil
from pathlib import Path

from PIL import Image

from craters import make_patches, make_scene, write_dataset
from craters.models import OriginalNet, initialize
from craters.models.keras.writer import write_keras_zip
from tests.maps.scenes import catalogue_rows, write_csv, write_tif
from tests.models.test_onnx_import import write_graph

LARGE_IMAGES = ("IMAGE.tif", "scene.tif", "mosaic.tif", "part.tif", "IMAGE/IMAGE.tif")
TILES = [f"{region}_{n}_0" for region in ("amazonis", "elysium", "tharsis") for n in range(2)]


# What makes the results that pages start from.
STEPS = (
    "craters run --data DATA --out RUN --epochs 1 --resolution 100",
    "cp -r RUN/model MODEL",
    "craters scan IMAGE.tif --out SCAN",
    "craters scan IMAGE.tif --model RUN --out WINDOWS",
    "craters labels import RUN.labels.sqlite ann.csv --target RUN --reviewer Ann",
    "craters labels import SCAN.labels.sqlite robbins.csv --target SCAN --reviewer Ann",
)


def write_inputs(folder: Path) -> Path:
    """Write all inputs that the pages name."""
    _write_patches(folder)
    _write_images(folder)
    _write_models(folder)
    return folder


def _write_patches(folder: Path) -> None:
    """Write data folders, one array, pictures in class folders, tables of labels and answers."""
    for seed, name in enumerate(("DATA", "LABELED", "OTHER")):
        write_dataset(folder / name, seed=seed, n_labeled=80, n_unlabeled=160, n_test=40)
    shutil.copytree(folder / "DATA", folder / "DATA48")
    shutil.copy(folder / "DATA" / "Xtest1.npy", folder / "patches.npy")
    patches = make_patches(60, crater_share=0.5, seed=9)
    rows = []
    for n, (image, label) in enumerate(zip(patches.images, patches.labels, strict=True)):
        name = f"{'crater' if label else 'no_crater'}/ESP_{n // 4:04}_{n}.png"
        for parent in (folder / "FOLDER" / name, folder / "PATCHES" / Path(name).name):
            parent.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(parent)
        rows.append((f"FOLDER/{name}", "hole" if label else "plain"))
    write_csv(folder / "labels.csv", rows, "file,label")
    for name, late in (("ann", 0), ("bo", 1)):
        answers = [(f"Xtrain1_extra:{n}", int(n % 3 > late)) for n in range(40)]
        write_csv(folder / f"{name}.csv", answers, "id,answer")


def _write_images(folder: Path) -> None:
    """Write images with coordinates, single ones and those of three regions, and catalogues."""
    corner = (1185000.0, 15000.0)
    large = make_scene(700, 700, seed=5, missing=0.0, density=8)
    for name in LARGE_IMAGES:
        write_tif(folder / name, large.image, corner)
    rows = catalogue_rows(large, corner)
    for index, name in enumerate(TILES):
        scene = make_scene(400, 400, seed=6, index=index, missing=0.0, density=6)
        corner = (1485000.0 + index * 200000.0, 15000.0)
        for parent in ("tiles", "IMAGES"):
            write_tif(folder / parent / f"{name}.tif", scene.image, corner)
        rows += catalogue_rows(scene, corner)
    for path in ("robbins.csv", "tiles/robbins.csv", "bo_craters.csv"):
        write_csv(folder / path, rows)


def _write_models(folder: Path) -> None:
    network = OriginalNet(48)
    initialize(network, 1)
    network.eval()
    for name in ("MODEL.keras", "my_model.keras"):
        write_keras_zip(folder / name, network)
    start: list[tuple[str, float]] = [("Div", 255.0)]
    write_graph(
        folder / "my_model.onnx", shape=("N", 48, 48), side=48, start=start, end=["Sigmoid"]
    )
    write_graph(folder / "torch_model.onnx", shape=("N", 1, 48, 48), side=48)
