"""HTML templates and the style sheet shared by all reports."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


def page_templates(package: str) -> Environment:
    """Return the jinja2 templates in the folder `templates` of a package, and those of reports.

    `page.html` is the frame of a report, with the blocks `title`, `style` and `content`;
    `parts.html` has macros. Values are escaped; undefined names raise an error.

    Parameters
    ----------
    package : str
        Dotted name, such as "craters.quality".
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("craters.core")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def embed_png(content: bytes) -> str:
    """Return a PNG as a data URL, so that a page needs no other file."""
    return "data:image/png;base64," + base64.b64encode(content).decode()


def report_style() -> str:
    """Return the CSS of the reports, to embed in a page."""
    return (Path(__file__).parent / "templates" / "report.css").read_text(encoding="utf-8")
