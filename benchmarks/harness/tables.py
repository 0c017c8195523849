"""Write docs/benchmarks.md, docs/measurements.md and the tables of the README.

All come from benchmarks/results/*.json; nothing is measured here.
"""

from __future__ import annotations

import json
from pathlib import Path

from harness import measurements, summaries
from harness.base import RESULTS, ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
ALL = ROOT / "docs" / "measurements.md"
README = ROOT / "README.md"

_MARKS = ("<!-- results -->", "<!-- /results -->")


def write(out: Path = PAGE, everything: Path = ALL, readme: Path = README) -> Path:
    """Write both pages and the block of the README; equal results give equal bytes."""
    found = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))
    ]
    by_name = {result["name"]: result for result in found}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(summaries.page(by_name), encoding="utf-8")
    everything.write_text(measurements.page(found), encoding="utf-8")
    before, _, rest = readme.read_text(encoding="utf-8").partition(_MARKS[0])
    after = rest.partition(_MARKS[1])[2]
    block = summaries.readme_block(by_name)
    readme.write_text(f"{before}{_MARKS[0]}\n{block}{_MARKS[1]}{after}", encoding="utf-8")
    return out


if __name__ == "__main__":
    print(write().relative_to(ROOT))
