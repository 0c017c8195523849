"""Open rasters with GDAL: bounded memory, no warnings, errors that name the file.

Palettes are expanded to gray levels when a raster is opened, so that all later reading and
resampling sees brightness, not color numbers.
"""

from __future__ import annotations

import contextlib
import glob
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from craters.core import StrPath, luminance
from craters.errors import DataError

_OPENING = threading.Lock()  # Python's warning filters are shared by all threads
_CACHE = 64 << 20  # bytes of the GDAL block cache
_PIXELS, _LABELS = (".img", ".dat", ".raw"), (".lbl", ".xml")  # of PDS, with detached labels
_BROKEN = "Is the file complete? Copy it again, or check it with gdalinfo -checksum."


@contextlib.contextmanager
def gdal_errors(path: str, problem: str = "cannot be read") -> Iterator[None]:
    """Convert errors of rasterio to a DataError that names the file."""
    from rasterio.errors import RasterioError

    try:
        yield
    except (RasterioError, ValueError, MemoryError) as error:
        reason = str(error.__cause__ or error) or type(error).__name__
        raise DataError(f"{path}: {problem} ({reason})", _BROKEN) from error


@contextlib.contextmanager
def bounded_gdal() -> Iterator[None]:
    """Limit the block cache of GDAL."""
    import rasterio

    with rasterio.Env(GDAL_CACHEMAX=_CACHE):
        yield


def open_dataset(path: str) -> Any:
    """Open a raster; the dataset is a context manager.

    Raises
    ------
    DataError
        If GDAL cannot open it, or would read its pixels wrong.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    with _OPENING, warnings.catch_warnings(), gdal_errors(path, "cannot be opened"):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            dataset = rasterio.open(path)
        except rasterio.errors.RasterioIOError:
            _refuse_without_label(Path(path))
            raise
    suffix = _line_suffix(dataset)
    if suffix:
        dataset.close()
        raise DataError(
            f"{path}: each line of pixels ends with {suffix} other bytes (LINE_SUFFIX_BYTES), "
            "which GDAL reads as pixels",
            "Convert it with pds2isis of ISIS, and scan the cube.",
        )
    return dataset


def image_size(path: StrPath) -> tuple[int, int]:
    """Return the height and width of a raster in pixels, as stored.

    Raises
    ------
    DataError
        If GDAL cannot open it.
    """
    with open_dataset(str(path)) as dataset:
        return dataset.height, dataset.width


def _refuse_without_label(path: Path) -> None:
    """Raise DataError if a file holds the pixels of a detached label."""
    if path.suffix.lower() not in _PIXELS or not path.is_file():
        return
    labels = [
        file.name for file in sorted(path.parent.glob(f"{glob.escape(path.stem)}.*"))
        if file.suffix.lower() in _LABELS
    ]  # fmt: skip
    wanted = f"{path.stem}.LBL" if path.suffix.isupper() else f"{path.stem}.lbl"
    hint = f"Give its label: {labels[0]}." if labels else f"Add its label {wanted}, and give that."
    raise DataError(f"{path}: holds pixels without a description of their layout", hint)


def _line_suffix(dataset: Any) -> int:
    """Return the bytes after each line of pixels, by the PDS3 label; GDAL ignores the key."""
    if dataset.driver != "PDS":
        return 0
    label = ":".join(text for item in dataset.tags(ns="json:PDS").items() for text in item)
    found = re.findall(r'"LINE_SUFFIX_BYTES"\s*:\s*"?(\d+)', label)
    return max(map(int, found), default=0)


def open_gray(path: str, band: int) -> tuple[Any, int]:
    """Open a raster to read one band as gray; a band with a palette is replaced by its gray levels.

    Parameters
    ----------
    path : str
    band : int
        0: the luminance of the bands declared red, green and blue.

    Returns
    -------
    dataset : rasterio dataset
    band : int
        Number of the band in this dataset.

    Raises
    ------
    DataError
        If GDAL cannot open it.
    """
    dataset = open_dataset(path)
    if not band or (palette := read_palette(dataset, band)) is None:
        return dataset, band
    with dataset:
        table, nodata = gray_levels(palette, dataset.nodatavals[band - 1])
        levels = list(enumerate(table.tolist()))
        return open_dataset(lookup_vrt(dataset, band, levels, "uint8", nodata)), 1


def color_bands(dataset: Any) -> list[int]:
    """Return the numbers of the bands declared red, green and blue; empty if there are none."""
    from rasterio.enums import ColorInterp

    kinds = list(dataset.colorinterp)
    colors = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
    if any(kinds.count(color) != 1 for color in colors):
        return []
    return [kinds.index(color) + 1 for color in colors]


def read_palette(dataset: Any, band: int) -> np.ndarray | None:
    """Return the palette of a band (n, 4: red, green, blue, alpha; uint8); None if it has none."""
    from rasterio.enums import ColorInterp

    if dataset.colorinterp[band - 1] != ColorInterp.palette:
        return None
    try:
        colors = dataset.colormap(band)
    except ValueError:  # declared, but absent
        return None
    palette = np.zeros((max(colors) + 1, 4), np.uint8)
    palette[list(colors)] = list(colors.values())
    return palette


def is_gray(palette: np.ndarray) -> bool:
    """Return whether all colors of a palette are gray."""
    return bool((palette[:, :2] == palette[:, 1:3]).all())


def gray_levels(palette: np.ndarray, nodata: float | None) -> tuple[np.ndarray, int | None]:
    """Convert a palette to gray levels; return also the level of missing pixels, if any.

    Transparent colors and the color of the nodata value are missing. Their level is their own
    luminance, or else the highest level that no visible color has.
    """
    table = luminance(*palette[:, :3].T)
    missing = palette[:, 3] == 0
    if nodata is not None and 0 <= nodata < len(palette):
        missing[int(nodata)] = True
    if not missing.any():
        return table, None
    free = np.setdiff1d(np.arange(256), table[~missing])
    if not len(free):  # only in palettes of more than 256 colors
        raise DataError("a palette of all 256 gray levels and a transparent color cannot be read")
    own = int(table[missing][0])
    level = own if own in free else int(free[-1])
    table[missing] = level
    return table, level


def lookup_vrt(
    dataset: Any,
    band: int,
    table: Sequence[tuple[float, float]],
    dtype: str,
    nodata: float | None,
) -> str:
    """Describe a view of one band that converts stored values by a table, as VRT.

    Parameters
    ----------
    dataset : rasterio dataset
    band : int
    table : sequence of pairs
        Stored value and new value; linear between the pairs.
    dtype : str
        Type of the pixels of the view, in the words of numpy.
    nodata : float or None
        Nodata value of the view.
    """
    kind = "Byte" if dtype == "uint8" else dtype.capitalize().replace("Ui", "UI")
    size = f'xSize="{dataset.width}" ySize="{dataset.height}"'
    lines = [f'<VRTDataset rasterXSize="{dataset.width}" rasterYSize="{dataset.height}">']
    if dataset.crs:
        lines.append(f"<SRS>{escape(dataset.crs.to_wkt())}</SRS>")
    if not dataset.transform.is_identity:
        numbers = ", ".join(repr(float(number)) for number in dataset.transform.to_gdal())
        lines.append(f"<GeoTransform>{numbers}</GeoTransform>")
    lines.append(f'<VRTRasterBand dataType="{kind}" band="1">')
    if nodata is not None:
        lines.append(f"<NoDataValue>{float(nodata)!r}</NoDataValue>")
    entries = ",".join(f"{float(old)!r}:{float(new)!r}" for old, new in table)
    lines += [
        f'<ComplexSource><SourceFilename relativeToVRT="0">{escape(dataset.name)}</SourceFilename>',
        f'<SourceBand>{band}</SourceBand><SrcRect xOff="0" yOff="0" {size}/>',
        f'<DstRect xOff="0" yOff="0" {size}/><LUT>{entries}</LUT></ComplexSource>',
        "</VRTRasterBand>",
    ]
    flags = [flag.name for flag in dataset.mask_flag_enums[band - 1]]
    if nodata is None and "per_dataset" in flags:
        lines += [
            '<MaskBand><VRTRasterBand dataType="Byte"><SimpleSource><SourceFilename '
            f'relativeToVRT="0">{escape(dataset.name)}</SourceFilename>',
            f"<SourceBand>mask,{band}</SourceBand></SimpleSource></VRTRasterBand></MaskBand>",
        ]
    lines.append("</VRTDataset>")
    return "\n".join(lines)
