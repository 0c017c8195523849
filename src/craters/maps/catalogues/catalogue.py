"""Crater catalogues and detections as arrays, and which craters may lie in which image."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from craters.core import files
from craters.errors import DataError, GeoError
from craters.maps.geo import NO_PLANET, Planet


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """A crater catalogue.

    Parameters
    ----------
    places : ndarray, shape (N, 2)
        Longitude and latitude in degrees, or x and y in pixels.
    diameters : ndarray, shape (N,)
        Metres or pixels.
    sources : ndarray of str, shape (N,), or None
        The image of each row, for catalogues made image by image.
    in_pixels : bool
        Whether positions and diameters are in pixels.
    name : str
        File name, for messages.
    rows : ndarray of int, shape (N,), or None
        Number of each crater in its files: the row of a table, the header being row 1; elsewhere
        counted from 1. None: a table of which no row was left out.
    notes : tuple of str
        What the reader understood, left out, converted or had to assume.
    planet : Planet
        CRS that the file states; `NO_PLANET` if it states none.
    paths : tuple of Path
        The files that were read.
    counted : ndarray of bool, shape (N,), or None
        Rows that are not counted may be craters or not: matching ignores them, and nothing is
        learned from them. None: all are counted.
    """

    places: np.ndarray
    diameters: np.ndarray
    sources: np.ndarray | None = None
    in_pixels: bool = False
    name: str = "catalogue"
    rows: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    planet: Planet = NO_PLANET
    paths: tuple[Path, ...] = ()
    counted: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.places)

    def are_counted(self, rows: np.ndarray) -> np.ndarray:
        """Return which rows are counted, as bool of the shape of `rows`."""
        return np.ones(len(rows), bool) if self.counted is None else self.counted[rows]

    def sha256(self) -> str:
        """Return the SHA-256 hash of the file; of several files, that of their names and hashes."""
        if len(self.paths) == 1:
            return files.sha256_of(self.paths[0])
        digest = hashlib.sha256()
        for path in self.paths:
            digest.update(f"{path.name} {files.sha256_of(path)}\n".encode())
        return digest.hexdigest()

    def file_rows(self, craters: np.ndarray) -> np.ndarray:
        """Return the numbers of craters in their files; see `rows`."""
        return craters + 2 if self.rows is None else self.rows[craters]

    def check_body(self, planet: Planet) -> None:
        """Raise an error if the catalogue is of another body, or a crater is larger than the body.

        Raises
        ------
        DataError, GeoError
        """
        if self.planet.is_known and not self.planet.shares_body(planet):
            raise GeoError(
                f"{self.name}: its coordinate system is of {self.planet.body_label} "
                f"({self.planet.crs.name}), the images are of {planet.body_label}",
                "Give a catalogue of that body. If only the coordinate system of the file is "
                "wrong, assign the right one, such as IAU_2015:49900, in a GIS.",
            )
        largest = int(np.argmax(self.diameters))
        if self.diameters[largest] > 2 * planet.radius:
            raise DataError(
                f"{self.name}: row {int(self.file_rows(np.array([largest]))[0])} has a diameter of "
                f"{self.diameters[largest] / 1000:.6g} km, larger than {planet.body}",
                "Is it in metres? If so: --columns diameter_m=NAME. Otherwise correct the row.",
            )

    def rows_of(self, image: str, images: Collection[str]) -> np.ndarray:
        """Return the rows of the craters that may lie in an image.

        Parameters
        ----------
        image : str
        images : collection of str
            Names of all images, distinct; "" for an image without a name.

        Returns
        -------
        ndarray of int
            The rows that name the image. In degrees all rows, if none names any of the images. In
            pixels all rows, if there is one image and the rows name none, or one unnamed image.

        Raises
        ------
        DataError
            If positions are in pixels, and it is not clear of which image.
        """
        rows = np.arange(len(self))
        if self.sources is None:
            if self.in_pixels and len(images) > 1:
                raise DataError(
                    f"{self.name}: gives positions in pixels of an image that it does not name, "
                    f"but there are {len(images)} images",
                    "Add a column 'image' with the image of each crater, or use one image.",
                )
            return rows
        if _are_named(self.sources, images).any():
            return rows[self.sources == image]
        named = np.unique(self.sources).tolist()
        if self.in_pixels and (set(images) != {""} or len(named) > 1):
            raise DataError(
                f"{self.name}: gives positions in pixels of {_listed(named)}, "
                f"but the images are {_listed(sorted(images))}",
                "Correct the names in the column of the image, or use the images that it names.",
            )
        return rows

    def source_notes(self, images: Collection[str]) -> list[str]:
        """Note how many craters name none of the images."""
        if self.sources is None or set(images) == {""}:
            return []
        others = int((~_are_named(self.sources, images)).sum())
        if others == len(self):
            named = _listed(np.unique(self.sources).tolist())
            return [
                f"The catalogue names {named}, none of which is an image: the names are ignored"
            ]
        if others:
            return [f"{others} of {len(self)} craters of the catalogue name other images"]
        return []


def _are_named(sources: np.ndarray, images: Collection[str]) -> np.ndarray:
    """Return which rows name one of the images."""
    return np.isin(sources, [name for name in images if name])


def _listed(names: Sequence[str]) -> str:
    """List up to three names in quotes."""
    return ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")


@dataclasses.dataclass(frozen=True)
class Detections:
    """Detections of a scan.

    Parameters
    ----------
    places : ndarray, shape (N, 2)
        As in `Catalogue`.
    probability : ndarray, shape (N,)
    sources : ndarray of str, shape (N,), or None
        Image of each detection.
    planet : Planet
        CRS of the file; `NO_PLANET` if it names none.
    name : str
        File name, for messages.
    notes : tuple of str
        What the reader converted or had to assume.
    diameters, diameter_errors : ndarray, shape (N,), or None
        Diameters, and their standard deviations, in metres or pixels; None: not known.
    """

    places: np.ndarray
    probability: np.ndarray
    sources: np.ndarray | None = None
    planet: Planet = NO_PLANET
    name: str = "detections"
    notes: tuple[str, ...] = ()
    diameters: np.ndarray | None = None
    diameter_errors: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.places)
