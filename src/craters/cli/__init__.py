"""The command line: parse arguments, call one function, print.

Interface: `main`.
No other package imports this one or prints.
"""

from craters.cli.main import main

__all__ = ["main"]
