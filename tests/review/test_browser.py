from __future__ import annotations

import time
from pathlib import Path

import pytest

from craters.labels import LabelStore, Tally
from tests.maps import tools as maps
from tests.review import browser as review_browser
from tests.review.tools import make_run, truth_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(review_browser.missing()), reason=review_browser.missing()),
]
WAIT = 120  # seconds; a busy machine takes its time


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def scan_folder(run_folder: Path) -> Path:
    """Scan an image of noise by the run's model, with a threshold that finds something."""
    pytest.importorskip("rasterio")
    from craters.maps.scan import ScanConfig, scan_images

    image = maps.write_raster(run_folder.parent / "image.tif", maps.noise(300, 420, 3))
    out = run_folder.parent / "SCAN"
    scan_images(ScanConfig((image,), run_folder, out, decision_threshold=0.01))
    return out


def until(check, what: str, times: int = 1):
    for _ in range(10 * WAIT * times):
        found = check()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {WAIT} s for {what}")


class Page:
    """What a person does on the page."""

    def __init__(self, found, address: str) -> None:
        self.browser, self.root = found, address.partition("/?")[0]
        self.asked: list[str] = []
        found.get(address)

    def open(self, view: str) -> None:
        self.asked += review_browser.requested(self.browser)
        self.browser.get(f"{self.root}/as/{view}")

    def press(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.browser).send_keys(*keys).perform()

    def text(self, name: str) -> str:
        return self.browser.find_element("id", name).get_attribute("textContent").strip()

    def saved(self) -> bool:
        return self.browser.execute_script("return outbox.waiting.length === 0 && !outbox.busy")

    def quiet(self) -> None:
        """Assert that nothing went wrong, and that nothing but this server was asked."""
        self.asked += review_browser.requested(self.browser)
        outside = [url for url in self.asked if not url.startswith((f"{self.root}/", "data:"))]
        assert outside == []
        assert len(self.asked) > 3
        errors = [line for line in self.browser.get_log("browser") if line["level"] == "SEVERE"]
        assert errors == []


def standing(store: Path, who: str) -> dict[str, str]:
    with LabelStore(store) as labels:
        tally = Tally()
        tally.catch_up(labels)
        votes = {name: tally.answer_of(name, who) for name in tally.answered()}
    return {name: one.answer for name, one in votes.items() if one is not None}


def test_label_undo_sweep_train_and_see_the_figures(run_folder: Path, tmp_path: Path) -> None:  # noqa: PLR0915
    from selenium.webdriver import ActionChains, Keys

    truth, store = truth_of(run_folder), tmp_path / "labels.sqlite"
    with (
        review_browser.server(run_folder, "--labels", store, "--threads", "1") as (address, _),
        review_browser.browser() as found,
    ):
        page = Page(found, address)
        box = found.find_element("id", "name")
        box.clear()
        box.send_keys("Ann", Keys.ENTER)
        until(lambda: found.find_elements("id", "patch"), "the queue")
        assert found.current_url == f"{page.root}/as/Ann/queue"
        given = {}
        for number in range(30):
            name = page.text("fact-id")
            assert name not in given
            key = {"crater": "c", "not": "n"}.get(truth.get(name, ""), "u")
            page.press(key)
            given[name] = {"c": "crater", "n": "not", "u": "unsure"}[key]
            shown = found.find_element("id", "patch").get_attribute("src")
            assert number == 0 or shown.startswith(f"{page.root}/patches/")
        until(page.saved, "the answers")
        assert page.text("mine") == "30"
        assert standing(store, "Ann") == given
        last = list(given)[-2:]
        page.press(Keys.BACKSPACE)
        until(page.saved, "the undo")
        assert page.text("fact-id") == last[1]
        page.press(Keys.BACKSPACE)
        until(page.saved, "the undo")
        assert page.text("fact-id") == last[0]
        assert page.text("mine") == "28"
        kept = {name: word for name, word in given.items() if name not in last}
        assert standing(store, "Ann") == kept
        assert not found.find_element("id", "revealed").is_displayed()
        page.press("p")
        until(lambda: page.text("fact-p") not in ("–", ""), "the probability")
        assert 0 <= float(page.text("fact-p")) <= 1
        page.press("?")
        assert found.find_element("id", "help").is_displayed()
        page.press(Keys.ESCAPE)
        assert not found.find_element("id", "help").is_displayed()
        page.quiet()

        page.open("Ann/grid?sort=position&show=all&page=2")
        cells = found.find_elements("css selector", "#cells li")
        wide = found.execute_script("return columns()")
        ActionChains(found).move_to_element(cells[0]).click_and_hold().move_to_element(
            cells[2]
        ).move_to_element(cells[wide + 2]).release().perform()
        swept = [0, 1, 2, wide, wide + 1, wide + 2]
        assert page.text("selected").startswith("6")
        names = [cells[number].get_attribute("data-id") for number in swept]
        page.press("n")
        until(page.saved, "the swept answers")
        assert {standing(store, "Ann")[name] for name in names} == {"not"}
        assert cells[1].get_attribute("data-answer") == "not"
        page.quiet()

        page.open("Ann/progress")
        before = found.find_elements("css selector", "#models tbody tr")
        assert len(before) == 1
        found.find_element("id", "train").click()
        until(lambda: found.find_element("id", "stop").is_displayed(), "the training")
        until(
            lambda: len(found.find_elements("css selector", "#models tbody tr")) == 2,
            "the new model",
            times=4,
        )
        assert "in use" in found.find_elements("css selector", "#models tbody tr")[1].text
        assert "is done" in page.text("training")
        assert not found.find_elements("id", "gain")  # the random part has too few answers
        page.quiet()


def test_two_tabs_of_one_reviewer_are_warned_of_each_other(
    run_folder: Path, tmp_path: Path
) -> None:
    store = tmp_path / "labels.sqlite"
    with (
        review_browser.server(run_folder, "--labels", store, "--threads", "1") as (address, _),
        review_browser.browser() as found,
    ):
        page = Page(found, address)
        first = found.current_window_handle
        page.open("Ann/queue?patch=Xtrain1_extra:3")
        found.switch_to.new_window("tab")
        second = found.current_window_handle
        page.open("Ann/queue?patch=Xtrain1_extra:3")
        page.press("c")
        until(page.saved, "the first answer")
        found.switch_to.window(first)
        page.press("n")
        until(lambda: not found.find_element("id", "notice").get_property("hidden"), "the notice")
        assert "Both answers are kept" in page.text("notice")
        found.switch_to.window(second)
        with LabelStore(store) as labels:
            assert [one.answer for one in labels.entries()] == ["crater", "not"]


def test_a_server_that_comes_back_gets_what_was_answered_meanwhile(
    run_folder: Path, tmp_path: Path
) -> None:
    """An answer that was not confirmed is sent again; the page says so until then."""
    store = tmp_path / "labels.sqlite"
    with (
        review_browser.server(run_folder, "--labels", store, "--threads", "1") as (address, server),
        review_browser.browser() as found,
    ):
        page = Page(found, address)
        page.open("Ann/queue?patch=Xtrain1_extra:3")
        import os
        import signal

        os.kill(server.pid, signal.SIGSTOP)
        page.press("c")
        assert "1 on the way" in page.text("saved")
        assert standing_is_empty(store)
        os.kill(server.pid, signal.SIGCONT)
        until(page.saved, "the answer")
        assert standing(store, "Ann") == {"Xtrain1_extra:3": "crater"}


def standing_is_empty(store: Path) -> bool:
    with LabelStore(store) as labels:
        return labels.entries() == []


def test_filter_and_label_the_map(scan_folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "labels.sqlite"
    with (
        review_browser.server(scan_folder, "--labels", store, "--threads", "1") as (address, _),
        review_browser.browser() as found,
    ):
        page = Page(found, address)
        page.open("Ann/map")
        total = int(page.text("shown"))
        assert total > 1
        words = found.execute_script("return shown.map((one) => one.probability)")
        assert words == sorted(words, reverse=True)
        middle = (
            next(  # a place of the slider that is clearly between two probabilities, or its end
                (
                    step / 100
                    for step in range(1, 100)
                    if 0 < sum(word >= step / 100 for word in words) < total
                    and min(abs(word - step / 100) for word in words) > 2e-4
                ),
                1.0,
            )
        )
        found.execute_script(
            "const s = $('least'); s.value = arguments[0]; s.dispatchEvent(new Event('input'))",
            middle,
        )
        expected = sum(word >= middle for word in words)
        until(lambda: int(page.text("shown")) == expected, "the filter")
        assert expected < total
        found.execute_script(
            "const s = $('least'); s.value = 0; s.dispatchEvent(new Event('input'))"
        )
        until(lambda: int(page.text("shown")) == total, "the filter")
        page.press("l", "c")
        until(page.saved, "the answer")
        chosen = page.text("chosen-id")
        assert standing(store, "Ann") == {chosen: "crater"}
        drawn = found.execute_script(
            "const [w, h] = [canvas.width, canvas.height];"
            "const data = draw.getImageData(0, 0, w, h).data;"
            "const tones = new Set();"
            "for (let i = 0; i < data.length; i += 404) tones.add(data[i]);"
            "return tones.size"
        )
        assert drawn > 20
        page.press("l")
        found.find_element("id", "open").click()
        until(lambda: "queue?patch=" in found.current_url, "the queue")
        page.press("s")
        src = found.find_element("id", "patch").get_attribute("src")
        assert src.endswith("?around=1")
        page.quiet()
