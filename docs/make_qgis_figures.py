"""Make the pictures of docs/qgis.md: python docs/make_qgis_figures.py.

The plugin in the window of QGIS, with a synthetic scene. Needs QGIS (Debian: qgis, python3-qgis,
xvfb) and the extras geo and train.
"""

import sys
import tempfile
from pathlib import Path

from craters import make_scene

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs" / "figures"
CORNER = (1185000.0, 60000.0)  # of the image, metres on Mars

sys.path.insert(0, str(ROOT))
from tests.maps.scenes import write_tif  # noqa: E402
from tests.qgis.tools import make_qgis, without_qgis  # noqa: E402


def main() -> None:
    """Open a scene in QGIS, find its craters, and take pictures of dialog and map."""
    if reason := without_qgis():
        sys.exit(f"make_qgis_figures: {reason}")
    scene = make_scene(500, 600, seed=5, missing=0.0, density=5)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        image = write_tif(folder / "scene.tif", scene.image, CORNER)
        make_qgis(folder).window(
            image=str(image),
            extent=[CORNER[0], CORNER[1] - 50000, CORNER[0] + 60000, CORNER[1]],
            dialog=str(FIGURES / "qgis-dialog.png"),
            window=str(FIGURES / "qgis-map.png"),
        )


if __name__ == "__main__":
    main()
