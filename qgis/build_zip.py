"""Build the QGIS plugin as a zip: python qgis/build_zip.py [FOLDER]; equal files, equal bytes."""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = Path(__file__).with_name("craters_qgis")
SUFFIXES = {".py", ".svg", ".txt"}
EARLIEST = (1980, 1, 1, 0, 0, 0)  # that a zip can state


def build(folder: Path) -> Path:
    """Write `craters_qgis-VERSION.zip` into a folder, and return its path."""
    version = _version()
    contents = {
        path.name: path.read_bytes() for path in PLUGIN.iterdir() if path.suffix in SUFFIXES
    }
    contents["LICENSE"] = (ROOT / "LICENSE").read_bytes()
    metadata = contents["metadata.txt"].decode()
    contents["metadata.txt"] = metadata.replace("=development", f"={version}").encode()
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{PLUGIN.name}-{version}.zip"
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in sorted(contents.items()):
            entry = zipfile.ZipInfo(f"{PLUGIN.name}/{name}", EARLIEST)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return target


def _version() -> str:
    text = (ROOT / "src" / "craters" / "_version.py").read_text()
    match = re.search(r'__version__ = "(.+)"', text)
    assert match is not None
    return match[1]


if __name__ == "__main__":
    written = build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist")
    sys.stdout.write(f"Written: {written}\n")
