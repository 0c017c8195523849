"""Run the benchmarks, store their results, and write docs/benchmarks.md.

Finished rows are kept in benchmarks/results/NAME.jsonl and are not measured again while settings,
data and the RESULT_VERSION of the benchmark are the same; so an interrupted call continues
where it stopped. `--fresh` measures them again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import harness
from accuracy import designs, intervals, nanedi, region_cv
from circles import bench as circles
from circles import completeness as circles_completeness
from circles import own_images as circles_training
from circles import patches as circles_patches
from circles import reviewer as circles_review
from circles import speed as circles_speed
from craters.core import NullProgress
from craters.errors import CratersError
from harness import charts, tables
from labels import audit, review
from pretrained import generator, ideas, light, quality, realism
from scans import scan, tiles
from speed import (
    cold_predict,
    floor,
    folds,
    growth,
    installed,
    job,
    keras_parity,
    original_job_time,
    overhead,
    runs,
)
from unlabeled import auto_choice, methods, share, starts

_MODULES = (
    audit, auto_choice, circles, circles_completeness, circles_patches,
    circles_review, circles_speed, circles_training, cold_predict, designs, floor, folds,
    generator, growth, ideas, installed, intervals, job, keras_parity, light, methods, nanedi,
    original_job_time, overhead, quality, realism, region_cv, review, runs, scan, share,
    starts, tiles,
)  # fmt: skip
_QUICK = (floor, job, original_job_time)  # a quick call measures a part of them
BENCHMARKS = {module.NAME: module for module in _MODULES}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", nargs="?", choices=["quick", "full"], default="quick")
    parser.add_argument("--only", choices=list(BENCHMARKS), help="one benchmark")
    parser.add_argument("--data", type=Path, help="folder of the themis48 arrays")
    parser.add_argument("--seeds", type=int, default=10, help="paired seeds of comparisons [10]")
    parser.add_argument(
        "--fresh", action="store_true", help="measure again although a row is stored"
    )
    parser.add_argument(
        "--independent", action="store_true", help="keras_parity: starts drawn independently"
    )
    return parser.parse_args(arguments)


class _Lines(NullProgress):
    """Print messages after the name of a benchmark."""

    def __init__(self, name: str) -> None:
        self.name = name

    def say(self, text: str) -> None:
        """Print a message."""
        print(f"{self.name}: {text}")


def main(arguments: list[str] | None = None) -> None:
    """Run the chosen benchmarks."""
    options = parse(arguments)
    try:
        data = harness.find_data(options.data)
        bench = harness.Bench(
            data=data,
            full=options.mode == "full",
            seeds=options.seeds,
            fresh=options.fresh,
            same_start=not options.independent,
        )
        for name in [options.only] if options.only else BENCHMARKS:
            if bench.full or BENCHMARKS[name] in _QUICK:
                result = BENCHMARKS[name].run(bench, _Lines(name))
                harness.write_result(result.pop("result_name", name), result)
            else:
                result = harness.read_result(name)
            for line in result["findings"] if result else ["nothing is stored; needs `full`"]:
                print(f"{name}: {line}")
    except (harness.BenchError, CratersError) as error:
        sys.exit(f"bench: error: {error}")
    charts.draw_all()
    print(f"Written: {tables.write().relative_to(harness.ROOT)}")


if __name__ == "__main__":
    main()
