"""Make the pictures of docs/reviewing.md: python docs/make_review_figures.py.

Everything shown is of the procedural Mars: a run, a scan, and the answers of two simulated people
who err now and then. Needs Chromium with its driver, and the extras geo, review and dev.
"""

import shutil
import sys
import time
from pathlib import Path

import numpy as np

from craters import make_patches, make_scene
from craters.labels import Answer, LabelStore
from craters.maps.scan import ScanConfig, scan_images
from craters.pipeline import run_job
from craters.review import open_target
from craters.review.session import ReviewSession
from craters.training import RunConfig

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs" / "figures"
WORK = ROOT / "benchmarks" / "work" / "review-figures"
SIZE = (1280, 907)  # of the window; what is taken from it is 1280 x 768
PLACE = (1185000.0, 60000.0)  # corner of the image, metres on Mars
ASKED, ERRORS = 260, {"Ann": 0.03, "Bo": 0.08}

sys.path.insert(0, str(ROOT))
from tests.maps.scenes import write_tif  # noqa: E402
from tests.review import browser as review_browser  # noqa: E402


def make_data() -> dict[str, int]:
    """Write the arrays of a job, and return the truth of the unlabeled ones."""
    folder = WORK / "DATA"
    sets = {
        "Xtrain1": make_patches(240, crater_share=0.5, seed=11),
        "Xtrain1_extra": make_patches(1200, crater_share=0.35, seed=12),
        "Xtest1": make_patches(60, crater_share=0.5, seed=13),
    }
    if not folder.exists():
        folder.mkdir(parents=True)
        for name, one in sets.items():
            np.save(folder / f"{name}.npy", one.images.reshape(len(one.images), -1))
        labels = sets["Xtrain1"].labels.astype(np.int32)
        wrong = np.random.default_rng(0).permutation(len(labels))[:12]
        labels[wrong] = 1 - labels[wrong]
        np.save(folder / "Ytrain1.npy", labels)
    pool = sets["Xtrain1_extra"].labels
    truth = {f"Xtrain1_extra:{row}": int(label) for row, label in enumerate(pool)}
    first = sets["Xtrain1"].labels
    return truth | {f"Xtrain1:{row}": int(label) for row, label in enumerate(first)}


def make_run_and_scan() -> None:
    """Train the original network, and scan a scene with it."""
    if not (WORK / "RUN").exists():
        run_job(
            RunConfig(
                data=WORK / "DATA", out=WORK / "RUN", method="supervised", network="original",
                initial_epochs=40, initial_lr=0.001, resolution=100.0, seed=2,
            )
        )  # fmt: skip
    if not (WORK / "SCAN").exists():
        scene = make_scene(640, 900, seed=5, missing=0.0, density=5)
        image = write_tif(WORK / "scene.tif", scene.image, PLACE)
        scan_images(ScanConfig((image,), WORK / "RUN", WORK / "SCAN", decision_threshold=0.7))


def answer(truth: dict[str, int]) -> Path:
    """Simulate two reviewers who answer the queue, with one training in between."""
    path = WORK / "RUN.labels.sqlite"
    if path.exists():
        return path
    random = np.random.default_rng(3)
    session = ReviewSession(open_target(WORK / "RUN"), LabelStore(path, seed=5))
    session.open_model()
    session.background.wait()
    for who, count in (("Ann", ASKED), ("Bo", ASKED // 2)):
        for number in range(count):
            (card,) = session.queue(who, count=1)
            label = truth[card["id"]] ^ int(random.random() < ERRORS[who])
            word = "unsure" if random.random() < 0.04 else ("not", "crater")[label]
            patch = session.source.patch(card["number"])
            seconds = round(float(random.lognormal(0.3, 0.5)), 2)
            one = Answer(patch, word, card["why"], seconds, session.scorer.sha256)
            session.store.add(who, [one], f"{who}-{number}")
        if who == "Ann":
            session.retraining.start()
            session.retraining.wait()
    session.close()
    return path


def take(browser, name: str) -> None:
    """Save a screenshot of the window."""
    time.sleep(1.5)
    browser.save_screenshot(str(FIGURES / f"review_{name}.png"))


def look(store: Path, truth: dict[str, int], *, dark: bool) -> None:
    """Take a picture of every view."""
    from selenium.webdriver import ActionChains

    tone = "dark" if dark else "light"
    with review_browser.browser(dark=dark, size=SIZE) as browser:
        copy = shutil.copy(store, WORK / f"look-{tone}.sqlite")  # the pictures' answers stay out
        with review_browser.server(WORK / "RUN", "--labels", copy) as (address, _):
            root = address.partition("/?")[0]
            browser.get(address)
            time.sleep(6)  # the model looks at the patches
            browser.get(f"{root}/as/Ann/progress")
            take(browser, f"progress_{tone}")
            browser.get(f"{root}/as/Cy/queue")
            for _ in range(6):
                label = truth[browser.find_element("id", "fact-id").text]
                ActionChains(browser).send_keys("nc"[label]).perform()
                time.sleep(0.5)
            take(browser, f"queue_{tone}")
            browser.get(f"{root}/as/Ann/grid?sort=probability&show=all")
            cells = browser.find_elements("css selector", "#cells li")
            wide = browser.execute_script("return columns()")
            actions = ActionChains(browser).move_to_element(cells[wide + 3]).click_and_hold()
            actions.move_to_element(cells[wide + 5]).move_to_element(cells[2 * wide + 8])
            actions.release().perform()
            take(browser, f"grid_{tone}")
        scan = review_browser.server(WORK / "SCAN", "--labels", WORK / f"scan-{tone}.sqlite")
        with scan as (address, _):
            browser.get(address)
            time.sleep(4)
            browser.get(f"{address.partition('/?')[0]}/as/Ann/map")
            for keys in "lclc" + "l" * 6:
                ActionChains(browser).send_keys(keys).perform()
                time.sleep(0.2)
            take(browser, f"map_{tone}")


def make_circles() -> None:
    """Scan a scene for circles."""
    if not (WORK / "CIRCLES").exists():
        scene = make_scene(900, 1100, seed=6, missing=0.0, density=5)
        image = write_tif(WORK / "circles.tif", scene.image, PLACE)
        scan_images(ScanConfig((image,), "circles", WORK / "CIRCLES", sun_azimuth=270.0))


def look_at_circles(*, dark: bool) -> None:
    """Take a picture of a random field in the queue of circles."""
    from selenium.webdriver import ActionChains, Keys

    tone = "dark" if dark else "light"
    store = WORK / f"circles-{tone}.sqlite"
    store.unlink(missing_ok=True)
    LabelStore(store, seed=3).close()
    scan = review_browser.server(WORK / "CIRCLES", "--labels", store)
    with review_browser.browser(dark=dark, size=SIZE) as browser, scan as (address, _):
        browser.get(address)
        browser.get(f"{address.partition('/?')[0]}/as/Ann/queue")
        while browser.find_element("id", "of-field").get_property("hidden"):
            ActionChains(browser).send_keys("c").perform()
            time.sleep(0.5)
        for keys in ("c", "c", "n", Keys.ARROW_LEFT, "+"):
            ActionChains(browser).send_keys(keys).perform()
            time.sleep(0.3)
        take(browser, f"circles_{tone}")


def main() -> None:
    """Make everything that is missing, and all pictures."""
    if missing := review_browser.missing():
        sys.exit(f"make_review_figures: {missing}")
    FIGURES.mkdir(exist_ok=True)
    truth = make_data()
    make_run_and_scan()
    make_circles()
    store = answer(truth)
    for dark in (False, True):
        look(store, truth, dark=dark)
        look_at_circles(dark=dark)


if __name__ == "__main__":
    main()
