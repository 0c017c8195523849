"""The review page: from key press to the next patch, memory, and labels that a reviewer saves."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import harness
from harness import Bench, Row, RowStore

NAME = "review"
TITLE = "The review page: latency, memory, and labels to macro F1 0.90"
PATCHES, ANSWERS = 100_000, 300
PAUSE = 0.15  # seconds between two answers of the browser
REPEATS, FOLDS = 5, 5
START, STEP, MOST = 30, 60, 750  # labels: drawn at random first, asked a round, at most
WRONG = 0.05  # of the simulated reviewer's answers
GOAL = 0.90
ORDERS = ("queue", "random")
ALL = "all"  # every patch answered: what can be reached at all

_PAGE = ("median_ms", "p95_ms", "reply_ms", "reply_p95_ms", "memory_mib", "peak_mib")
_TITLES = {
    "median_ms": ["key press to next patch, median ms", 1],
    "p95_ms": ["95th percentile, ms", 1],
    "reply_ms": ["answer on disk and replied, median ms", 1],
    "reply_p95_ms": ["95th percentile, ms", 1],
    "memory_mib": ["server's memory, MiB", 0],
    "peak_mib": ["its peak, MiB", 0],
    "labels": [f"labels asked until macro F1 {GOAL}", 0],
}
_METHOD = "pseudo-label"  # what the page trains by
_MODULES = (
    "augment", "fitting", "labels_merge", "networks", "patches", "phases", "pseudo_label",
    "recipes", "review_model", "review_queue", "semi_supervised", "splits", "train",
)  # fmt: skip


def run(bench: Bench, say: Callable[[str], None]) -> Row | None:
    """Do what is missing, and write the result after each path; a quick call shows it."""
    if not bench.full:
        return harness.tell_stored(NAME, say)
    from craters.parallel import Task, run_tasks

    page = _page_row(bench, say)
    # The queue goes ahead: its first round is also the random order's.
    paths_wanted = [(order, repeat) for order in ORDERS for repeat in range(REPEATS)]
    paths_wanted.sort(key=lambda path: path[1] + (1.5 if path[0] == "random" else 0))
    paths_wanted += [(ALL, repeat) for repeat in range(REPEATS)]
    wanted = {f"{order} {repeat}": (order, repeat) for order, repeat in paths_wanted}
    tasks = [
        Task(word, _path, {"bench": bench, "order": order, "repeat": repeat})
        for word, (order, repeat) in wanted.items()
    ]
    paths = {}
    for word, rounds in run_tasks(tasks, threads=len(harness.usable_cpus())):
        paths[wanted[word]] = rounds
        say(f"{word}: {rounds[-1]['labels']} labels, macro F1 {rounds[-1]['macro_f1']:.3f}")
        harness.write_result(NAME, _result(page, paths))
    return _result(page, paths)


def _path(*, tell: Any, bench: Bench, order: str, repeat: int) -> list[Row]:  # noqa: ARG001
    """Follow one order to the goal, on one thread."""
    from craters.train import torch_threads

    with torch_threads(1):
        return simulate(bench, order, repeat, lambda _: None)


# The page


def write_target(folder: Path, count: int) -> Path:
    """Write patches mixed from the procedural Mars, and a run folder's model of random weights."""
    from craters import make_patches
    from craters.classifier import write_model
    from craters.interop import network_to_onnx, network_weights
    from craters.model_description import ModelDescription
    from craters.networks import initialize, make_network

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


def measure_page(count: int, answers: int, say: Callable[[str], None]) -> Row:
    """Label by keys in a real browser, with all patches judged, and read the clocks."""
    sys.path.insert(0, str(harness.ROOT))
    from tests import review_browser

    if missing := review_browser.missing():
        raise harness.BenchError(f"the page is measured in a browser: {missing}")
    with tempfile.TemporaryDirectory(dir=_work()) as folder:
        target = write_target(Path(folder), count)
        started = time.perf_counter()
        server = review_browser.server(
            target, "--model", Path(folder) / "model", "--labels", Path(folder) / "l.sqlite"
        )
        with server as (address, process), review_browser.browser() as browser:
            browser.get(address)
            root = address.partition("/?")[0]
            _wait_for_predictions(browser, root)
            judged = time.perf_counter() - started
            say(f"{count:,} patches judged after {judged:.0f} s")
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


def _work() -> Path:
    harness.WORK.mkdir(parents=True, exist_ok=True)
    return harness.WORK


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


def _page_row(bench: Bench, say: Callable[[str], None]) -> Row:
    code = [path for path in harness.package_modules() if path.stem.startswith(("review", "label"))]
    settings = {"patches": PATCHES, "answers": ANSWERS, "pause": PAUSE}
    key = harness.row_key(bench, "page", 0, settings, harness.versions(), code)
    store = RowStore(NAME)
    row = None if bench.again else store.find(key)
    if row is None:
        row = measure_page(PATCHES, ANSWERS, say)
        store.add(key, row)
    return row


# The simulated reviewer


def simulate(
    bench: Bench, order: str, repeat: int, say: Callable[[str], None], *, most: int = MOST,
    network: str = "compact",
) -> list[Row]:  # fmt: skip
    """Label round by round until the goal is reached; finished rounds are not repeated.

    Each round, `STEP` patches are asked in the order, and a network is trained as the page trains
    it: on all answers so far without those of the queue's random part, and on its own sure answers
    for the patches that nobody was asked about. It is measured on the held-out regions. The first
    round is the same for both orders; `ALL` asks for everything at once.
    """
    store, rounds = RowStore(NAME), list[Row]()
    for labels in [ALL] if order == ALL else range(START, most + 1, STEP):
        settings = {"labels": labels, "start": START, "step": STEP, "wrong": WRONG,
                    "network": network, "method": _METHOD}  # fmt: skip
        code = [path for path in harness.package_modules() if path.stem in _MODULES]
        name = order if rounds or order == ALL else "start"
        key = harness.row_key(bench, name, repeat, settings, harness.versions(), code)
        row = None if bench.again else store.find(key)
        if row is None:
            row = _one_round(bench, order, repeat, rounds, network)
            store.add(key, row)
            say(f"{order} {repeat}: {row['labels']} labels, macro F1 {row['macro_f1']:.3f}")
        rounds.append(row)
        if row["macro_f1"] >= GOAL:
            break
    return rounds


def _one_round(bench: Bench, order: str, repeat: int, rounds: list[Row], network: str) -> Row:
    """Ask for more patches, train on all that was answered, and measure."""
    from craters.review_scores import estimate
    from craters.train import predict_logits

    clock = time.process_time()
    images, truth, pool, held_out = _arrays(bench, repeat)
    random = np.random.default_rng([31, repeat])
    shuffled = random.permutation(pool)
    wrong = random.random(len(truth)) < WRONG  # the same patches in every order
    said = np.where(wrong, 1 - truth, truth)
    asked = list(rounds[-1]["asked"]) if rounds else []
    apart = list(rounds[-1]["apart"]) if rounds else []
    if order == ALL:
        asked = shuffled.tolist()
    elif not rounds:
        asked = shuffled[:START].tolist()
    elif order == "random":
        asked = shuffled[: len(asked) + STEP].tolist()
    else:
        last = rounds[-1]
        if not _model_folder(repeat, last["labels"]).is_dir():  # the work folder was cleared
            _train(images, said, pool, last, repeat, network)
        more, held = _ask_queue(images, said, pool, asked, last, repeat)
        asked, apart = asked + more, apart + held
    row = {"asked": [int(one) for one in asked], "apart": [int(one) for one in apart],
           "labels": len(asked), "trained_on": len(asked) - len(apart)}  # fmt: skip
    keep = order == "queue" or (order == "random" and not rounds)
    trained = _train(images, said, pool, row, repeat, network, keep=keep)
    found = estimate(truth[held_out], predict_logits(trained, images[held_out]) >= 0)
    return row | {"macro_f1": found.macro_f1, "accuracy": found.accuracy,
                  "seconds": time.process_time() - clock}  # fmt: skip


def _train(
    images: np.ndarray, said: np.ndarray, pool: np.ndarray, row: Row, repeat: int, network: Any,
    *, keep: bool = True,
) -> Any:  # fmt: skip
    """Train on the answers of a row as the page does, and write the model where it is asked."""
    from craters.patches import make_patch_set
    from craters.phases import kept_network
    from craters.recipes import derive_seed
    from craters.settings import RunConfig

    train = np.setdiff1d(row["asked"], row["apart"])
    rest = np.setdiff1d(pool, row["asked"])
    seed = derive_seed(repeat, row["labels"]) % 2**32
    config = RunConfig(Path(), Path(), method=_METHOD, network=network, seed=seed, threads=1)
    left = make_patch_set(images).take(rest)  # which may be nothing
    trained = kept_network(make_patch_set(images[train], said[train]), left, config)
    if keep:
        _keep_model(trained, _model_folder(repeat, row["labels"]))
    return trained


def _arrays(bench: Bench, repeat: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Read images and truth, and split whole regions off: rows of the pool, rows held out."""
    from craters import patches, splits

    names = ("Xtrain1", "Ytrain1", "groups_train")
    found = patches.read_patches(*(bench.data / f"{name}.npy" for name in names))
    fold = splits.whole_folds(splits.regions_of(found.groups), FOLDS)[repeat % FOLDS]
    return np.asarray(found.images), found.labels.astype(int), fold.train, fold.validation


def _model_folder(repeat: int, labels: int) -> Path:
    return _work() / "review-models" / f"{repeat}-{labels}"


def _keep_model(network: Any, folder: Path) -> None:
    """Write a network as the page reads it."""
    from craters.classifier import write_model
    from craters.interop import network_to_onnx, network_weights, over_images
    from craters.model_description import ModelDescription

    whole = over_images(network.eval())
    write_model(
        folder, onnx=network_to_onnx(whole, 48), weights=network_weights(network),
        description=ModelDescription(
            network.name, {}, 48, stride=whole.stride, symmetry=network.symmetry
        ),
        force=True,
    )  # fmt: skip


def _ask_queue(
    images: np.ndarray, said: np.ndarray, pool: np.ndarray, asked: list[int], last: Row, repeat: int
) -> tuple[list[int], list[int]]:
    """Ask the page's own queue for patches, answer by answer; also say which are set apart."""
    from craters.labels import Answer, LabelStore
    from craters.labels_tally import Tally
    from craters.review_model import Judge, judge_all
    from craters.review_queue import Picker
    from craters.review_source import open_arrays

    words, more, apart = ("not", "crater"), [], []
    with tempfile.TemporaryDirectory(dir=_work()) as folder:
        np.save(Path(folder) / "pool.npy", images[pool])
        source = open_arrays(Path(folder) / "pool.npy")
        place = {int(row): number for number, row in enumerate(pool)}
        with LabelStore(Path(folder) / "l.sqlite", seed=repeat) as store:
            tally = Tally()
            picker = Picker(source, store.seed)
            model = _model_folder(repeat, last["labels"])
            picker.learn(judge_all(source, Judge(model)))
            for row in asked:
                one = Answer(source.patch(place[row]), words[said[row]], "grid")
                store.add("simulated", [one])
            for _ in range(STEP):
                tally.catch_up(store)
                found = picker.upcoming("simulated", tally, 1)
                if not found:
                    break
                row = int(pool[found[0].row])
                one = Answer(source.patch(found[0].row), words[said[row]], found[0].why)
                store.add("simulated", [one])
                more.append(row)
                if found[0].why == "random":
                    apart.append(row)
    return more, apart


def labels_needed(rounds: list[Row]) -> int | None:
    """Return how many labels were asked when the goal was first reached; None: it was not."""
    return next((row["labels"] for row in rounds if row["macro_f1"] >= GOAL), None)


def _result(page: Row, paths: dict[tuple[str, int], list[Row]]) -> Row:
    """Lay out the page, and the repeats that both orders have gone through."""
    both = [repeat for repeat in range(REPEATS) if all((one, repeat) in paths for one in ORDERS)]
    needed = {order: {repeat: labels_needed(paths[order, repeat]) for repeat in both}
              for order in ORDERS}  # fmt: skip
    # Where the goal was not reached, at least all that was asked was needed.
    rows = {
        order: {repeat: {"labels": count or paths[order, repeat][-1]["labels"]}
                for repeat, count in found.items()}
        for order, found in needed.items()
    }  # fmt: skip
    contenders = [
        harness.contender(f"page at {PATCHES:,} patches", {0: page}, _PAGE, False),
        *(harness.contender(f"{order} order", rows[order], ("labels",), order == "random")
          for order in reversed(ORDERS) if both),
    ]  # fmt: skip
    return harness.result(
        NAME,
        TITLE,
        about=[
            f"A headless Chromium presses {ANSWERS} keys, one every {PAUSE} s at the earliest; "
            "the clock runs from the key press to the frame after the next patch is decoded.",
            f"A simulated reviewer answers patches of themis48, {WRONG:.0%} of them wrongly. Every "
            f"{STEP} answers, `compact` is trained as the page does it (`--method {_METHOD}`, the "
            "patches that are left as the pool) and measured on held-out regions, in either order. "
            "The queue's random part counts as asked and is not trained on; what was not asked of "
            "it is in the pool here, where the page leaves it out.",
        ],
        settings={
            "patches": PATCHES,
            "answers": ANSWERS,
            "start": START,
            "step": STEP,
            "wrong": WRONG,
            "goal": GOAL,
        },
        titles=_TITLES,
        tables={"Page": _PAGE} | ({"Labels": ("labels",)} if both else {}),
        contenders=contenders,
        findings=[*_findings(page, needed, rows), *_ceiling(paths)],
        curves={
            order: {
                str(repeat): [[row["labels"], row["macro_f1"]] for row in paths[order, repeat]]
                for repeat in both
            }
            for order in ORDERS
        },
    )


def _findings(
    page: Row, needed: dict[str, dict[int, int | None]], rows: dict[str, dict[int, Row]]
) -> list[str]:
    def words(order: str) -> str:
        return ", ".join(
            str(count) if count else f"over {rows[order][repeat]['labels']}"
            for repeat, count in needed[order].items()
        )

    said = [
        f"At {PATCHES:,} patches, the next patch is there {page['median_ms']:.0f} ms after a key "
        f"press (median of {page['answers']}; 95th percentile {page['p95_ms']:.0f} ms), and the "
        f"answer is on disk after {page['reply_ms']:.0f} ms (95th percentile "
        f"{page['reply_p95_ms']:.0f} ms); the server takes {page['memory_mib']:.0f} MiB, "
        f"{page['peak_mib']:.0f} at most."
    ]
    if count := len(rows["queue"]):
        sums = {order: sum(row["labels"] for row in rows[order].values()) for order in ORDERS}
        said.append(
            f"Labels until macro F1 {GOAL} on held-out regions, {count} of {REPEATS} repeats: "
            f"queue {words('queue')}; random order {words('random')}; "
            f"{sums['queue'] / sums['random']:.2f} of the random order's in all (target: 0.6)."
        )
    return said


def _ceiling(paths: dict[tuple[str, int], list[Row]]) -> list[str]:
    """Say what all answers together would have given."""
    found = [rounds[-1] for (order, _), rounds in sorted(paths.items()) if order == ALL]
    if not found:
        return []
    counts, reached = ([row[name] for row in found] for name in ("labels", "macro_f1"))
    return [
        f"With every patch answered ({min(counts):,} to {max(counts):,}, {WRONG:.0%} wrongly), "
        f"macro F1 is {np.mean(reached):.3f} ({min(reached):.3f} to {max(reached):.3f}, "
        f"n = {len(found)})."
    ]


def main() -> None:
    """Try one part alone: nothing of it is stored as a result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["page", "simulate"])
    parser.add_argument("--patches", type=int, default=PATCHES)
    parser.add_argument("--answers", type=int, default=ANSWERS)
    parser.add_argument("--repeat", type=int, default=0)
    parser.add_argument("--data", type=Path)
    asked = parser.parse_args()
    if asked.part == "page":
        found = measure_page(asked.patches, asked.answers, print)
        print(json.dumps({name: value for name, value in found.items()
                          if not isinstance(value, list)}, indent=2))  # fmt: skip
        return
    bench = Bench(harness.find_data(asked.data), full=True, seeds=1)
    for order in ORDERS:
        simulate(bench, order, asked.repeat, print)


if __name__ == "__main__":
    main()
