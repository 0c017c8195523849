from __future__ import annotations

collect_ignore = ["in_qgis.py"]  # runs in the Python of QGIS
