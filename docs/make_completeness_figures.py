"""Make the figures of docs/completeness.md, and those of THEMIS images in docs/counting.md.

python docs/make_completeness_figures.py [FOLDER] keeps scan, completeness and count in FOLDER, and
uses a scan that is there; the images are those of $CRATERS_DATA.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from craters.detection import (
    PlantingWindow,
    completeness_of_scan,
    completeness_sentences,
    describe_size_frequency,
    measure_completeness,
    write_size_frequency,
)
from craters.detection.completeness import FRESHNESS
from craters.detection.planting import fresh_fit, local_spread, measure_contrast, plant
from craters.detection.scan_completeness import sample_windows
from craters.evaluation.figures import new_figure, save_figure
from craters.maps.scan import ScanConfig, describe_results, read_scan_folder, scan_images

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs" / "figures"
DATA = Path(os.environ.get("CRATERS_DATA", ROOT.parent / "shared" / "data"))
EDGES = 14.0, 28.0  # px: craters that are shown
HALF = 32  # px: half the side of a view
SHOWN = 10  # views in a row
SURE = 0.9  # least probability of detections that are shown


def main() -> None:
    """Scan, plant and count; copy the figures, and draw planted craters beside real ones."""
    given = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    folder = given or Path(tempfile.mkdtemp())
    if not (folder / "SCAN").exists():
        scan = scan_images(ScanConfig(images=(DATA / "themis_tiles",), out=folder / "SCAN"))
        sys.stdout.write("\n".join(describe_results(scan.summary)) + "\n")
    completeness = completeness_of_scan(folder / "SCAN", folder / "COMPLETENESS")
    sys.stdout.write("\n".join(completeness_sentences(completeness)) + "\n")
    count = write_size_frequency(
        folder / "SCAN", folder / "SFD", completeness=folder / "COMPLETENESS"
    )
    sys.stdout.write("\n".join(describe_size_frequency(count)) + "\n")
    shutil.copy(folder / "COMPLETENESS" / "completeness.png", FIGURES / "completeness-themis.png")
    shutil.copy(folder / "SFD" / "sfd.png", FIGURES / "sfd-themis.png")
    windows, _ = sample_windows(read_scan_folder(folder / "SCAN"), 0)
    save_figure(FIGURES / "planted-craters.png", draw_craters(windows))
    if given is None:
        shutil.rmtree(folder)


def draw_craters(windows: list[PlantingWindow]) -> Figure:
    """Draw rows of planted craters, by freshness, and of detections, by contrast."""
    measured = measure_completeness(
        windows, lambda window, _: (window.circles[:0], np.zeros(0)), EDGES, count=200, border=HALF
    )
    gain = measured.contrast[0] / fresh_fit(float(np.sqrt(EDGES[0] * EDGES[1])), measured.blur)
    own = own_views(windows, measured.blur)
    rows = []
    for number, (_, least, most) in enumerate(FRESHNESS):
        chosen = [each for each in measured.planted if least <= each["freshness"] < most]
        rows.append([planted_view(windows, each, gain, measured.blur) for each in chosen[:SHOWN]])
        first = len(own) * (2 - number) // 3
        own_row = own[first : len(own) * (3 - number) // 3]
        rows.append(
            [own_row[place] for place in np.linspace(0, len(own_row) - 1, SHOWN, dtype=int)]
        )
    figure, (axes,) = new_figure(7.4, 3.8)
    axes.imshow(np.vstack([np.hstack(row) for row in rows]), cmap="gray", vmin=0, vmax=255)
    names = [name for each, *_ in FRESHNESS for name in (each, "detected")]
    axes.set_yticks([(place + 0.5) * 2 * HALF for place in range(len(rows))], names)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def planted_view(
    windows: list[PlantingWindow], crater: np.void, gain: float, blur: float
) -> np.ndarray:
    """Plant one crater, and return the pixels around it."""
    window, one = windows[int(crater["window"])], np.array([crater])
    strength = gain * local_spread(window, one, window.pixels)
    return view(plant(window, one, strength, blur, seed=0), crater)


def own_views(windows: list[PlantingWindow], blur: float) -> list[np.ndarray]:
    """Return the pixels around sure detections of an image, those of least contrast first."""
    found = []
    for window in windows:
        circles = window.circles[window.probability >= SURE]
        contrasts = measure_contrast(window, circles, blur)
        for circle, contrast in zip(circles, contrasts.tolist(), strict=True):
            is_inside = all(
                HALF <= circle[name] < length - HALF
                for name, length in zip(("row", "col"), window.pixels.shape, strict=True)
            )
            if is_inside and EDGES[0] <= circle["diameter"] < EDGES[1]:
                found.append((contrast, view(window.pixels, circle)))
    found.sort(key=lambda each: each[0])
    return [pixels for _, pixels in found]


def view(pixels: np.ndarray, crater: np.void) -> np.ndarray:
    """Return the pixels around a crater, stretched to all grey levels."""
    row, col = int(crater["row"]), int(crater["col"])
    part = pixels[row - HALF : row + HALF, col - HALF : col + HALF].astype(float)
    low, high = np.percentile(part, [1, 99])
    return np.clip((part - low) / max(high - low, 1) * 255, 0, 255)


if __name__ == "__main__":
    main()
