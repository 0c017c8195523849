"""Run `craters` and write the CPU seconds of its trainings: FILE MODULE ARGUMENTS...

MODULE is the one that calls `fit`, which trains a network.
"""

from __future__ import annotations

import importlib
import json
import runpy
import sys
import time
from pathlib import Path
from typing import Any

file, name, *arguments = sys.argv[1:]
module = importlib.import_module(name)
fit = module.fit
spent: list[float] = []


def measured(*given: Any, **named: Any) -> Any:
    start = time.process_time()
    found = fit(*given, **named)
    spent.append(time.process_time() - start)
    return found


module.fit = measured
sys.argv = ["craters", *arguments]
try:
    runpy.run_module("craters", run_name="__main__")
finally:
    Path(file).write_text(json.dumps({"training_s": round(sum(spent), 3)}))
