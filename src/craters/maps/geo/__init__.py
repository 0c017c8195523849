"""Planetary coordinates, rasters and vector layers.

Interface: `Planet`, `Reader`, `describe_image`, `write_layers`.
This package does not depend on patches or networks.
"""

from craters.maps.geo import map_files, vectors
from craters.maps.geo.brightness import EIGHT_BIT, PixelReference, to_bytes
from craters.maps.geo.footprints import (
    VECTOR_SUFFIXES,
    Footprint,
    measure_rims,
    read_footprints,
    rim_polygons,
    to_segments,
)
from craters.maps.geo.gdal import bounded_gdal, gdal_errors, image_size
from craters.maps.geo.image import Image, image_notes, pixel_sides
from craters.maps.geo.image_files import find_images, image_name, skipped_files
from craters.maps.geo.map_files import Layer, require_parquet, write_layers
from craters.maps.geo.masks import box_sums, no_values, read_missing
from craters.maps.geo.planet import NO_PLANET, Planet, resolve_planet
from craters.maps.geo.raster import describe_image, describe_scanned, is_north_up
from craters.maps.geo.reader import Reader, small_copy
from craters.maps.geo.sphere import BODIES, EARTH, Plane, Space, Sphere, read_length, wrap_lon
from craters.maps.geo.undeclared import Undeclared
from craters.settings import ReadOptions

__all__ = [
    "BODIES",
    "EARTH",
    "EIGHT_BIT",
    "NO_PLANET",
    "VECTOR_SUFFIXES",
    "Footprint",
    "Image",
    "Layer",
    "PixelReference",
    "Plane",
    "Planet",
    "ReadOptions",
    "Reader",
    "Space",
    "Sphere",
    "Undeclared",
    "bounded_gdal",
    "box_sums",
    "describe_image",
    "describe_scanned",
    "find_images",
    "gdal_errors",
    "image_name",
    "image_notes",
    "image_size",
    "is_north_up",
    "map_files",
    "measure_rims",
    "no_values",
    "pixel_sides",
    "read_footprints",
    "read_length",
    "read_missing",
    "require_parquet",
    "resolve_planet",
    "rim_polygons",
    "skipped_files",
    "small_copy",
    "to_bytes",
    "to_segments",
    "vectors",
    "wrap_lon",
    "write_layers",
]
