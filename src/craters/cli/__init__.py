"""The command line: parse arguments, call one function, print.

Interface: `main`.
Nothing imports this package, and nothing else prints.
"""

from craters.cli.main import main

__all__ = ["main"]
