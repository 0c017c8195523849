"""The review page in a real browser: from key press to the next patch, and the server's memory."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import harness
from craters.core import Progress
from harness import Row

PATCHES, ANSWERS = 100_000, 300
PAUSE = 0.15  # seconds between two answers of the browser


def write_target(folder: Path, count: int) -> Path:
    """Write patches mixed from the procedural Mars, and a run folder's model of random weights."""
    from craters import make_patches
    from craters.models import (
        ModelDescription,
        initialize,
        make_network,
        network_to_onnx,
        network_weights,
        write_model,
    )

    base = make_patches(1000, crater_share=0.5, seed=3).images
    random = np.random.default_rng(0)
    whole = np.lib.format.open_memmap(folder / "patches.npy", "w+", np.uint8, (count, 48 * 48))
    for first in range(0, count, 1000):
        part = base[random.integers(0, len(base), min(1000, count - first))].astype(np.int16)
        noise = random.integers(-6, 7, part.shape, np.int16)
        shifted = np.roll(part + noise, int(random.integers(0, 48)), axis=2)
        whole[first : first + len(part)] = np.clip(shifted, 0, 255).reshape(len(part), -1)
    whole.flush()
    network = make_network("compact", 48).eval()
    initialize(network, 1)
    write_model(
        folder / "model",
        onnx=network_to_onnx(network, 48),
        weights=network_weights(network),
        description=ModelDescription("compact", {}, 48),
    )
    return folder / "patches.npy"


def measure_page(count: int, answers: int, progress: Progress) -> Row:
    """Label by keys in a real browser, with all patches judged, and read the clocks."""
    sys.path.insert(0, str(harness.ROOT))
    from tests.review import browser as chromium

    if missing := chromium.missing():
        raise harness.BenchError(f"the page is measured in a browser: {missing}")
    harness.WORK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=harness.WORK) as folder:
        target = write_target(Path(folder), count)
        started = time.perf_counter()
        server = chromium.server(
            target, "--model", Path(folder) / "model", "--labels", Path(folder) / "l.sqlite"
        )
        with server as (address, process), chromium.browser() as browser:
            browser.get(address)
            root = address.partition("/?")[0]
            _wait_for_predictions(browser, root)
            judged = time.perf_counter() - started
            progress.say(f"{count:,} patches judged after {judged:.0f} s")
            browser.get(f"{root}/as/Ann/queue")
            shown, replies = _press(browser, answers)
            memory = _memory(process.pid)
    return {
        "key_ms": shown, "reply_all_ms": replies, "answers": len(shown),
        "judged_s": round(judged, 1),
        "median_ms": float(np.median(shown)), "p95_ms": float(np.percentile(shown, 95)),
        "reply_ms": float(np.median(replies)), "reply_p95_ms": float(np.percentile(replies, 95)),
        **memory,
    }  # fmt: skip


def _wait_for_predictions(browser: Any, root: str) -> None:
    while True:
        browser.get(f"{root}/as/Ann/progress?format=json")
        found = json.loads(browser.find_element("tag name", "body").text)["predicting"]
        if found["failure"]:
            raise harness.BenchError(found["failure"])
        if found["done"] >= found["total"]:
            return
        time.sleep(5)


def _press(browser: Any, answers: int) -> tuple[list[float], list[float]]:
    """Press a key for each patch; return milliseconds to the next patch, and to the reply."""
    from selenium.webdriver import ActionChains

    browser.execute_script("performance.setResourceTimingBufferSize(100000)")
    for number in range(answers):
        ActionChains(browser).send_keys("cnu"[number % 3]).perform()
        time.sleep(PAUSE)
    time.sleep(2)
    shown = browser.execute_script(
        "return performance.getEntriesByName('key to patch').map((one) => one.duration)"
    )
    replies = browser.execute_script(
        "return performance.getEntriesByType('resource')"
        ".filter((one) => one.name.endsWith('/answers')).map((one) => one.duration)"
    )
    saved = int(browser.execute_script("return $('mine').textContent.replace(/\\D/g, '')"))
    if not saved == len(shown) == len(replies) == answers:
        raise harness.BenchError(
            f"{answers} keys, {len(shown)} patches, {len(replies)} replies, {saved} saved"
        )
    return shown, replies


def _memory(pid: int) -> Row:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return {
        "memory_mib": int(found["VmRSS"].split()[0]) / 1024,
        "peak_mib": int(found["VmHWM"].split()[0]) / 1024,
    }
