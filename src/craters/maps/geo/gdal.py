"""Open rasters with GDAL: bounded memory, no warnings, errors that name the file."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from craters.errors import DataError

_OPENING = threading.Lock()  # Python's warning filters are shared by all threads
_CACHE = 64 << 20  # bytes of the GDAL block cache
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
        If GDAL cannot open it.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    with _OPENING, warnings.catch_warnings(), gdal_errors(path, "cannot be opened"):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path)
