#!/usr/bin/env python3
"""The original script's command line, a thin door into the package.

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
    """Turn the command line into settings; the defaults are the original script's."""
    parser = argparse.ArgumentParser(
        description="Tell 48x48 patches with a crater (1) from those without (0).",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--initial_lr", type=float, default=0.0003, help="step size, first phase")
    parser.add_argument("--final_lr", type=float, default=0.0004, help="step size, last phase")
    parser.add_argument("--initial_epochs", type=int, default=75, help="epochs, first phase")
    parser.add_argument("--final_epochs", type=int, default=50, help="epochs, last phase")
    parser.add_argument(
        "--threshold_initial", type=float, default=0.5, help="decision threshold, first phase"
    )
    parser.add_argument(
        "--threshold_final",
        type=float,
        default=0.5,
        help="decision threshold, last phase and predictions",
    )
    parser.add_argument(
        "--pseudo_threshold",
        type=float,
        default=0.25,
        help="extra patches below it become 'without crater'; 0 takes none",
    )
    parser.add_argument("--seed", type=int, default=0, help="everything random derives from it")
    parser.add_argument(
        "--protocol",
        choices=["clean", "original"],
        default="clean",
        help="clean: one validation set of human labels; original: split again after merging",
    )
    values = vars(parser.parse_args(arguments))
    return JobSettings(method="original", network="original", **values)


def main(arguments: list[str] | None = None) -> None:
    """Do the original job in the working folder."""
    with terminal.report_errors():
        settings = parse(arguments)
        terminal.configure_threads()
        from craters.data import read_job_data
        from craters.pipeline import report, stages, summarize

        data = read_job_data(Path("DATA"))
        with terminal.TerminalProgress(layers=True, stderr=False) as progress:
            result = stages.run_phases(data, settings, progress=progress)
        found = summarize(result)
        written = report.write_original_files(result, found, Path())
        print("\n".join(report.summary_lines(found)))
        print("Written: " + ", ".join(str(path) for path in written))


if __name__ == "__main__":
    main()
