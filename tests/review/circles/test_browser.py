from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rasterio", reason="rasterio is not installed")
pytest.importorskip("pyogrio", reason="pyogrio is not installed")

from craters.labels import CircleEntry, CircleLabels, CircleTally, LabelStore
from craters.review.circles.session import ReceivedCircle
from tests.conftest import REPOSITORY
from tests.review import browser as review_browser
from tests.review.circles.scans import open_session, some_circles, write_circle_scan
from tests.review.test_browser import Page, until

pytestmark = pytest.mark.slow
needs_browser = pytest.mark.skipif(
    bool(review_browser.missing()), reason=review_browser.missing() or "-"
)

# The shipped detector with another calibration of its errors takes the place of a trained one,
# where this version has no command that trains.
STUB = """
import dataclasses, sys
from pathlib import Path
from craters.models import CircleDetector, find_model, restore_circle_net
from craters.models.circles import write_circle_model
from safetensors.numpy import load_file
folder = find_model("circles")
description = CircleDetector.load(folder).description
network = restore_circle_net(load_file(folder / "model.safetensors"))
changed = dataclasses.replace(description, error_scale=1.01 * description.error_scale)
Path(sys.argv[1]).mkdir()
write_circle_model(Path(sys.argv[1]) / "model", network.eval(), changed)
"""
START = f"""
import sys
from craters.cli import main
from craters.cli.main import app
from craters.review.circles.training import CircleRetraining
names = {{command.name for command in app.registered_commands}}
if "train" not in names:
    CircleRetraining.train_command = lambda self, python, data, out: [
        sys.executable, "-c", {STUB!r}, str(out)]
main()
"""


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scan two synthetic scenes with the shipped detector."""
    from craters import make_scene
    from craters.maps.scan import ScanConfig, scan_images
    from tests.maps.scenes import write_tif

    folder = tmp_path_factory.mktemp("circles")
    images = []
    for seed in (5, 6):
        scene = make_scene(900, 1100, seed=seed, missing=0.0, density=5)
        corner = (1185000.0 + 2e5 * seed, 60000.0)
        images.append(write_tif(folder / f"scene{seed}.tif", scene.image, corner))
    scan_images(ScanConfig(tuple(images), "circles", folder / "SCAN", sun_azimuth=270.0))
    return folder / "SCAN"


def complete_all(scan: Path, store: Path, reviewer: str) -> None:
    """Accept all detections of all random fields, as a careful reviewer might."""
    session = open_session(scan, store)
    for number, field in enumerate(session.fields):
        for row in session.open_in_field(field, reviewer):
            one = ReceivedCircle(session.place(row).id, "crater", circle=session.source.circle(row))
            session.add(reviewer, [one], f"b{row}")
        done = ReceivedCircle(field.id, "complete", why="random")
        session.add(reviewer, [done], f"f{number}")
    session.close()


def own(store: Path, who: str) -> dict[str, CircleEntry]:
    with LabelStore(store) as labels:
        tally = CircleTally.of(CircleLabels(labels))
        return {name: one for name in tally.answered() if (one := tally.own(name, who))}


class Canvas:
    """The canvas of the page, in pixels of the image."""

    def __init__(self, page: Page) -> None:
        self.page, self.found = page, page.browser

    def ask(self, expression: str):
        return self.found.execute_script(f"return {expression}")

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press at x, y of the image, and let go at another place."""
        from selenium.webdriver import ActionChains

        canvas = self.found.find_element("id", "canvas")
        width, height = self.ask("[canvas.clientWidth, canvas.clientHeight]")
        places = [self.ask(f"[toX({x}), toY({y})]") for x, y in (start, end)]
        (x0, y0), (x1, y1) = [(round(x - width / 2), round(y - height / 2)) for x, y in places]
        actions = ActionChains(self.found, duration=20)
        actions.move_to_element_with_offset(canvas, x0, y0).click_and_hold()
        for share in (0.3, 0.6, 1.0):
            actions.move_to_element_with_offset(
                canvas, round(x0 + share * (x1 - x0)), round(y0 + share * (y1 - y0))
            )
        actions.release().perform()


def correct(page: Page, canvas: Canvas, number: int) -> str:
    """Answer the circle of the queue in one of several ways; return what was meant."""
    from selenium.webdriver import Keys

    shown = canvas.ask("({x: chosen.x, y: chosen.y, d: chosen.diameter})")
    x, y, d = shown["x"], shown["y"], shown["d"]
    way = number % 5
    if way == 0:
        page.press("c")
        return "accepted"
    if way == 1:
        page.press("n")
        return "not"
    if way == 2:
        page.press(Keys.ARROW_RIGHT, Keys.ARROW_DOWN, "+")
        assert page.browser.find_element("id", "unsaved").is_displayed()
        page.press("a")
        return "moved and larger"
    if way == 3:
        canvas.drag((x, y), (x + d / 3, y))
        page.press("c")
        return "dragged"
    canvas.drag((x + d / 2, y), (x + 0.7 * d, y))
    page.browser.find_element("css selector", "[data-answer=crater]").click()
    return "resized"


@needs_browser
def test_correct_undo_draw_train_and_see_the_figures(scan: Path, tmp_path: Path) -> None:  # noqa: PLR0915
    from selenium.webdriver import Keys

    store = tmp_path / "labels.sqlite"
    complete_all(scan, store, "Bo")
    with (
        review_browser.server(scan, "--labels", store, start=("-c", START)) as (address, _),
        review_browser.browser() as found,
    ):
        page = Page(found, address)
        canvas = Canvas(page)
        box = found.find_element("id", "name")
        box.clear()
        box.send_keys("Ann", Keys.ENTER)
        until(lambda: found.find_elements("id", "canvas"), "the queue")
        given: list[tuple[str, str, dict]] = []
        while len(given) < 20:
            until(lambda: canvas.ask("Boolean(current && (chosen || current.field))"), "a circle")
            if canvas.ask("Boolean(current.field)"):
                page.press("s")
                continue
            card = canvas.ask("current.circle")
            assert canvas.ask("chosen.id") == card["id"]
            given.append((card["id"], correct(page, canvas, len(given)), card))
        until(page.saved, "the answers")
        assert page.text("mine") == "20"
        stored = own(store, "Ann")
        assert set(stored) == {name for name, _, _ in given}
        for name, meant, card in given:
            entry, x, d = stored[name], card["x"], card["diameter"]
            step = max(0.5, 0.02 * d)
            if meant == "not":
                assert (entry.answer, entry.circle) == ("not", None)
                continue
            assert entry.answer == "crater"
            assert entry.circle is not None
            expected = {
                "accepted": (x, d), "moved and larger": (x + step, d + 2 * step),
                "dragged": (x + d / 3, d), "resized": (x, 1.4 * d),
            }[meant]  # fmt: skip
            scale = 0.7  # px of the image per px of the screen, at most
            assert (entry.circle.x, entry.circle.diameter) == pytest.approx(expected, abs=2 * scale)
        page.press(Keys.BACKSPACE)
        until(page.saved, "the undo")
        assert canvas.ask("current.id") == given[-1][0]
        page.press(Keys.BACKSPACE)
        until(page.saved, "the undo")
        assert canvas.ask("current.id") == given[-2][0]
        assert page.text("mine") == "18"
        assert set(own(store, "Ann")) == {name for name, _, _ in given[:-2]}
        assert not found.find_element("id", "revealed").is_displayed()
        page.press("p")
        assert 0 <= float(page.text("fact-p")) <= 1
        page.press("?")
        assert found.find_element("id", "help").is_displayed()
        page.press(Keys.ESCAPE)
        page.quiet()

        page.open("Ann/map")
        until(lambda: canvas.ask("circles.length > 3"), "the circles")
        page.press("d")
        canvas.drag((256.0, 256.0), (256.0 + 60, 256.0))  # over four squares of the image
        until(page.saved, "the drawn circle")
        new = [one for name, one in own(store, "Ann").items() if name not in stored]
        assert len(new) == 1
        assert new[0].circle is not None
        assert (new[0].circle.x, new[0].circle.y, new[0].circle.diameter) == pytest.approx(
            (256, 256, 120), abs=4
        )
        assert canvas.ask("chosen.answer") == "crater"
        assert page.text("chosen-own") == "crater"
        page.press(Keys.ESCAPE)
        left = new[0].circle.x - new[0].circle.diameter / 2
        ring = found.execute_script(
            "paint(); const ratio = canvas.width / canvas.clientWidth;"
            "return [...draw.getImageData(Math.round(toX(arguments[0]) * ratio), "
            "Math.round(toY(arguments[1]) * ratio), 1, 1).data].slice(0, 3)",
            left, new[0].circle.y,
        )  # fmt: skip
        assert ring[0] > 180 > ring[2]  # orange, across the seam
        page.press("d", Keys.ENTER)  # and one by the keyboard
        until(lambda: canvas.ask("Boolean(chosen && chosen.isNew)"), "a new circle")
        page.press(Keys.ESCAPE)
        assert len(own(store, "Ann")) == 19
        page.quiet()

        page.open("Ann/progress")
        rows = found.find_elements("css selector", "#models tbody tr")
        assert len(rows) == 1
        before = page.text("recall")
        assert 0 <= float(before) <= 1
        found.find_element("id", "train").click()
        until(lambda: found.find_element("id", "stop").is_displayed(), "the training")
        until(
            lambda: page.text("training") and found.find_element("id", "train").is_displayed(),
            "the new detector",
            times=15,  # a real training takes minutes
        )
        assert "is done" in page.text("training"), page.text("training")
        rows = found.find_elements("css selector", "#models tbody tr")
        assert len(rows) == 2
        assert "in use" in rows[1].text
        assert 0 <= float(page.text("recall")) <= 1
        assert "changed recall by" in page.text("gain")
        page.quiet()
        page.open("Ann/map")
        until(lambda: canvas.ask("circles.some((circle) => circle.answer)"), "the answers")
        page.quiet()


@needs_browser
def test_a_field_is_corrected_and_completed(scan: Path, tmp_path: Path) -> None:
    store = tmp_path / "labels.sqlite"
    with (
        review_browser.server(scan, "--labels", store) as (address, _),
        review_browser.browser() as found,
    ):
        page = Page(found, address)
        canvas = Canvas(page)
        page.open("Ann/queue")
        field = canvas.found.execute_async_script(
            "const done = arguments[0];"
            "ask('/circles?image=0').then((reply) => done(reply.fields[0].id))"
        )
        page.open(f"Ann/queue?place={field}")
        until(lambda: canvas.ask("Boolean(loaded && current && current.field)"), "the field")
        left = canvas.ask("openInField().length")
        if left:
            page.press("f")
            assert "no answer of yours" in page.text("notice")
        for _ in range(left):
            page.press("c")
        until(page.saved, "the answers")
        assert page.text("field-left") == "All detections are answered"
        page.press("f")
        until(page.saved, "the field")
        answers = own(store, "Ann")
        assert answers[field].answer == "complete"
        assert len(answers) == left + 1
        page.quiet()


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from craters.labels import Circle
from craters.review.circles.session import ReceivedCircle
from tests.review.circles.scans import open_session
scan, store = Path(sys.argv[1]), Path(sys.argv[2])
session = open_session(scan, store)
session.close()
for number in range(200):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        session = open_session(scan, store)
        circle = session.source.circle(number)
        moved = Circle(circle.x + 0.5, circle.y, circle.diameter)
        one = ReceivedCircle(session.source.place(number).id, "crater", circle=moved)
        session.add("Ann", [one], f"k{number}")
        os.write(writing, b"saved")
        signal.pause()
    assert os.read(reading, 5) == b"saved"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reading)
    os.close(writing)
    print(number, flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks processes")
def test_no_correction_is_lost_when_the_process_is_killed_after_each(tmp_path: Path) -> None:
    scan, store = write_circle_scan(tmp_path / "SCAN", some_circles(230)), tmp_path / "l.sqlite"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(scan), str(store), str(REPOSITORY)],
        capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "199"
    session = open_session(scan, store)
    entries = session.labels.entries()
    assert len(entries) == 200
    expected = {session.source.place(row).id: session.source.circle(row) for row in range(200)}
    for entry in entries:
        assert entry.circle is not None
        assert entry.circle.x == pytest.approx(expected[entry.patch].x + 0.5)
    assert np.flatnonzero(session.is_answered).tolist() == list(range(200))
    session.close()
