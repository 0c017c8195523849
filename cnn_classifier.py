#!/usr/bin/env python3
"""Run the original script's job with its command line, by the package.

Run it from a folder that holds DATA/ with Xtrain1.npy, Ytrain1.npy, Xtrain1_extra.npy and
Xtest1.npy. It writes MODELS/, PLOTS/ and DATA/y_pred_final.npy there.
"""

import argparse
import sys
from pathlib import Path

try:
    from craters.cli import terminal
    from craters.evaluation import plot_image_48x48
    from craters.settings import JobSettings
except ImportError as error:
    sys.exit(f"cnn_classifier.py: {error}. Install the package first: pip install '.[train]'")

__all__ = ["main", "plot_image_48x48"]


def parse(arguments: list[str] | None = None) -> JobSettings:
    """Parse the command line into settings; defaults are those of the original script."""
    parser = argparse.ArgumentParser(
        description="Classify 48x48 patches: with a crater (1) or without (0).",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--initial_lr", type=float, default=0.0003, help="step size, first stage")
    parser.add_argument("--final_lr", type=float, default=0.0004, help="step size, last stage")
    parser.add_argument("--initial_epochs", type=int, default=75, help="epochs, first stage")
    parser.add_argument("--final_epochs", type=int, default=50, help="epochs, last stage")
    parser.add_argument(
        "--threshold_initial", type=float, default=0.5, help="decision threshold, first stage"
    )
    parser.add_argument(
        "--threshold_final",
        type=float,
        default=0.5,
        help="decision threshold, last stage and predictions",
    )
    parser.add_argument(
        "--pseudo_threshold",
        type=float,
        default=0.25,
        help="extra patches with a lower probability become 'without crater'; 0: none",
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument(
        "--protocol",
        choices=["clean", "original"],
        default="clean",
        help="clean: one validation set of human labels; original: split again after merging",
    )
    values = vars(parser.parse_args(arguments))
    return JobSettings(method="original", network="original", **values)


def main(arguments: list[str] | None = None) -> None:
    """Run the original job in the working folder."""
    with terminal.report_errors():
        settings = parse(arguments)
        terminal.configure_threads()
        from craters.data import read_job_data
        from craters.pipeline import report, stages, summarize

        data = read_job_data(Path("DATA"))
        with terminal.TerminalProgress(layers=True, stderr=False) as progress:
            result = stages.run_stages(data, settings, progress=progress)
        found = summarize(result)
        written = report.write_original_files(result, found, Path())
        print("\n".join(report.summary_lines(found)))
        print("Written: " + ", ".join(str(path) for path in written))


if __name__ == "__main__":
    main()
