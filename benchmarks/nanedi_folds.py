"""Repeat the protocol of Nanedi: published folds, with and without copies, and quoted scores.

python benchmarks/nanedi_folds.py west.npz center.npz --out NANEDI --seeds 3
python benchmarks/nanedi_folds.py west.npz center.npz --out NANEDI --seeds 3 --resume
"""

from __future__ import annotations

import argparse
from pathlib import Path

from craters.cli.terminal import TerminalProgress, configure_threads, report_errors


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="REGION.npz",
        help="a file for each region: X (uint8), y (0 or 1) and fold",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder to create; must not exist")
    parser.add_argument(
        "--network", default="compact",
        help="compact or original, from random weights; pretrained: compact as craters run trains "
        "it [compact]",
    )  # fmt: skip
    parser.add_argument(
        "--members", type=int, default=1, help="averaged networks for each fold [1]"
    )
    parser.add_argument(
        "--seeds", type=int, default=1, help="repetitions with increasing seeds [1]"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all random numbers [0]")
    parser.add_argument("--threads", type=int, default=0, help="parallel trainings [usable CPUs]")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run")
    parser.add_argument("--force", action="store_true", help="move an earlier folder aside first")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run the protocol and print its table."""
    options = vars(parse(arguments))
    with report_errors():
        configure_threads()
        from accuracy.fixed_folds import report
        from accuracy.fixed_folds.run import KFoldConfig, run_kfold

        restart = {name: options.pop(name) for name in ("resume", "force")}
        config = KFoldConfig(**options | {"paths": tuple(options["paths"])})
        outcome = run_kfold(config, **restart, progress=TerminalProgress())
        print(report.table(outcome.summary), end="")


if __name__ == "__main__":
    main()
