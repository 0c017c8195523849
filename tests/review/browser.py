"""A headless Chromium for tests, benchmarks and pictures, and a server to look at."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--force-device-scale-factor=1",
)  # fmt: skip


def missing() -> str:
    """Say what is missing for a test in a browser; empty: nothing."""
    for name in ("chromium", "chromedriver"):
        if shutil.which(name) is None:
            return f"no {name} (Debian: apt-get install chromium chromium-driver)"
    try:
        import selenium  # noqa: F401
    except ModuleNotFoundError:
        return "no selenium (pip install -c constraints.txt -e '.[dev]')"
    return ""


@contextlib.contextmanager
def browser(*, dark: bool = False, size: tuple[int, int] = (1280, 860)) -> Iterator[Any]:
    """Open a browser of its own, without a past."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory() as profile:
        options = Options()
        options.binary_location = shutil.which("chromium")
        width, height = size
        for flag in (*FLAGS, f"--window-size={width},{height}", f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        found = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            found.get("about:blank")
            for kind in ("performance", "browser"):  # what the browser's own first page asked for
                found.get_log(kind)
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            found.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
            yield found
        finally:
            found.quit()


def requested(found: Any) -> list[str]:
    """Return the addresses that the browser asked for since the last call."""
    addresses = []
    for line in found.get_log("performance"):
        message = json.loads(line["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            addresses.append(message["params"]["request"]["url"])
        if message["method"] == "Network.webSocketCreated":
            addresses.append(message["params"]["url"])
    return addresses


@contextlib.contextmanager
def server(
    *arguments: str | Path, start: Sequence[str] = ("-m", "craters")
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run `craters review`; give its address with the token, and the process."""
    command = [sys.executable, *start, "review", *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            address = process.stdout.readline().strip() if process.stdout else ""
            assert address.startswith("http://127.0.0.1:"), address
            yield address, process
        finally:
            process.terminate()
            process.wait(30)
