"""A QGIS plugin that runs `craters`: find craters, match, sample patches, count."""

from __future__ import annotations

from typing import Any


def classFactory(iface: Any) -> Any:
    """Return the plugin; QGIS calls this."""
    from craters_qgis.plugin import CratersPlugin

    return CratersPlugin(iface)
