from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from craters.errors import ConfigError, DataError
from craters.evaluation import estimate, gain
from craters.evaluation.intervals import macro_f1
from craters.labels import LabelStore, Tally, in_random_part
from craters.models import Classifier
from craters.models import folder as model_folder
from craters.review import open_target
from craters.review.features import PatchPredictions, Scorer, pixel_features, predict_all
from craters.review.guard import LARGEST
from craters.review.progress import LEAST_CHANGED, progress
from craters.review.queue import MIX, QueryStrategy, doubted, k_center, uncertainty
from craters.review.session import ReceivedAnswer, read_audit
from craters.review.source import FilePixels, open_arrays
from tests.conftest import REPOSITORY, simple_patches
from tests.review.tools import HOST, PLACE, PORT, TOKEN, Client, make_run, make_session


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def session(run_folder: Path, tmp_path: Path):
    found = make_session(run_folder, tmp_path / "labels.sqlite")
    yield found
    found.close()


@pytest.fixture(scope="module")
def lasting(run_folder: Path, tmp_path_factory):
    """One session for all the examples of a property."""
    found = make_session(run_folder, tmp_path_factory.mktemp("fuzz") / "labels.sqlite")
    yield Client(found)
    found.close()


@pytest.mark.parametrize("layout", ["flat", "square", "npz", "float"])
def test_pixels_are_those_of_the_array(tmp_path: Path, layout: str) -> None:
    images = simple_patches(30, 1)[0]
    path = tmp_path / ("a.npz" if layout == "npz" else "a.npy")
    if layout == "npz":
        np.savez(path, images)
    else:
        stored = {"flat": images.reshape(30, -1), "square": images, "float": images / 255}[layout]
        np.save(path, stored)
    source = open_arrays(path)
    assert isinstance(source.parts[0].pixels, FilePixels) == (layout in ("flat", "square"))
    rows = np.array([3, 4, 5, 29, 0, 1, 1, 7])
    assert (source.read(rows) == images[rows]).all()
    assert (np.concatenate([part for _, part in source.pieces()]) == images).all()
    assert source.id_of(7) == "a:7"
    assert source.row_of("a:7") == 7
    for name in ("a:30", "a:-1", "a:07", "b:1", "a", "a:", "a:1²", "a:9999999999999999"):
        assert source.row_of(name) is None


def test_a_run_shows_its_labeled_and_extra_arrays_but_not_the_test_set(run_folder: Path) -> None:
    source = open_target(run_folder)
    assert len(source) == 60 + 300
    assert source.given[:60].min() >= 0
    assert (source.given[60:] == -1).all()
    assert source.id_of(60) == "Xtrain1_extra:0"
    assert source.facts(0) == {"part": "labeled", "image": "image_0"}
    with pytest.raises(DataError, match="cannot be reviewed"):
        open_target(run_folder.parent)
    with pytest.raises(DataError, match="no such file"):
        open_target(run_folder / "nowhere")


def test_scorer_equals_the_classifier_and_gives_network_features(
    run_folder: Path,
) -> None:
    images = simple_patches(41, 3)[0]
    scorer = Scorer(run_folder, threads=1)
    probability, features = scorer.score(images)
    expected = Classifier.load(run_folder, threads=1).predict_proba(images)
    assert np.abs(probability - expected).max() < 1e-6
    assert features.shape == (41, 8)  # the original network's last hidden layer
    weights = np.abs(features).sum()
    assert weights > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["original", "compact", "dense"])
def test_every_network_has_features_for_the_last_layer(name: str) -> None:
    import torch

    from craters.data import normalize
    from craters.models import initialize, make_network, network_to_onnx, open_graph, over_images
    from craters.review.features import _flat, find_feature_name, with_output

    network = over_images(make_network(name, 48)).eval()
    initialize(make_network(name, 48), 3)
    graph = network_to_onnx(network, 48)
    feature = find_feature_name(graph)
    session = open_graph(with_output(graph, feature), threads=1)
    images = normalize(simple_patches(3, 1)[0])
    logits, inner = session.run(["logits", feature], {"images": images})
    with torch.inference_mode():
        ours = network(torch.from_numpy(images)).numpy()
    assert np.abs(logits.reshape(-1) - ours).max() < 1e-4
    assert _flat(inner).shape == (3, {"original": 8, "compact": 192, "dense": 96}[name])


def test_predictions_are_cached_and_damaged_caches_recomputed(
    run_folder: Path, tmp_path: Path
) -> None:
    source, scorer = open_target(run_folder), Scorer(run_folder, threads=1)
    first = predict_all(source, scorer, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    reported = []
    again = predict_all(
        source, scorer, cache=tmp_path, proceed=lambda *one: reported.append(one) or True
    )
    assert reported == []
    assert (again.probability == first.probability).all()
    assert (again.features == first.features).all()
    path.write_bytes(path.read_bytes()[:100])
    third = predict_all(source, scorer, cache=tmp_path)
    assert (third.probability == first.probability).all()
    assert predict_all(source, scorer, proceed=lambda *_: False) is None


def test_a_second_start_takes_the_predictions_that_are_there(
    run_folder: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        session = make_session(run_folder, tmp_path / "labels.sqlite")
        assert session.background.progress == (360, 360)
        assert np.isfinite(session.predictions.probability).all()
        session.close()


def test_k_center_is_the_greedy_one() -> None:
    random = np.random.default_rng(5)
    features, centers = random.normal(size=(40, 3)), random.normal(size=(4, 3))
    found = k_center(features, centers, 10)
    have = list(centers)
    for row in found:
        far = [min(np.linalg.norm(one - other) for other in have) for one in features]
        assert far[row] == pytest.approx(max(far))
        have.append(features[row])
    assert len(set(found.tolist())) == 10
    assert len(k_center(features, centers, 99)) == 40


def test_copies_are_not_chosen_before_others() -> None:
    features = np.repeat(np.arange(5.0), 20)[:, None]
    assert len(set(features[k_center(features, np.empty((0, 1)), 5), 0])) == 5


def test_uncertainty_is_least_at_the_threshold() -> None:
    found = uncertainty(np.array([0, 0.2, 0.5, 0.7, 1]), 0.7)
    assert found.argmin() == 3
    assert found[3] == 0
    assert np.isfinite(found).all()


def test_doubted_labels_are_those_of_confident_learning() -> None:
    from craters.quality.label_errors import confident_learning

    random = np.random.default_rng(1)
    labels = random.integers(0, 2, 200).astype(np.int8)
    probability = np.clip(labels * 0.6 + random.normal(0.2, 0.25, 200), 0.001, 0.999)
    found = doubted(labels, probability)
    theirs = confident_learning(labels, probability)
    assert set(found) == set(np.flatnonzero(theirs.suspected))
    order = [row for row in theirs.order if theirs.suspected[row]]
    assert found.tolist() == order
    assert len(doubted(np.full(9, -1, np.int8), np.full(9, 0.5))) == 0


def strategy_of(count: int, given: np.ndarray | None = None) -> QueryStrategy:
    path = Path("unused")

    class Plain:
        def __init__(self) -> None:
            self.given = np.full(count, -1, np.int8) if given is None else given
            self.path = path

        def __len__(self) -> int:
            return count

        def id_of(self, row: int) -> str:
            return f"p:{row}"

        def row_of(self, name: str) -> int:
            return int(name[2:])

        def part_of(self, row: int) -> str:
            return "extra" if self.given[row] < 0 else "labeled"

    return QueryStrategy(Plain(), 3)


def test_the_mix_is_as_stated(tmp_path: Path) -> None:
    from craters.labels import Answer, Patch

    random = np.random.default_rng(0)
    given = np.full(500, -1, np.int8)
    given[:100] = random.integers(0, 2, 100)
    strategy = strategy_of(500, given)
    probability = random.random(500).astype(np.float32)
    features = random.normal(size=(500, 4)).astype(np.float32)
    strategy.update(PatchPredictions("m", probability, features, "network", 0.5))
    tally, whys = Tally(), []
    with LabelStore(tmp_path / "l.sqlite") as store:
        for _ in range(40):
            (query,) = strategy.upcoming("Ann", tally, 1)
            name = f"p:{query.row}"
            store.add("Ann", [Answer(Patch(name, np.zeros((8, 8), np.uint8)), "not", query.why)])
            tally.catch_up(store)
            whys.append(query.why)
            assert (query.why == "suspected") == (query.row in strategy.suspected_rows)
            assert (query.why == "random") == strategy.is_random[query.row]
    assert whys == [*MIX] * 4
    assert len(tally.answered()) == 40
    order = [int(name[2:]) for name in tally.answered() if strategy.is_random[int(name[2:])]]
    assert order == strategy.random_rows[:4].tolist()
    ahead = strategy.upcoming("Ann", tally, 8)
    assert len({one.row for one in ahead}) == 8
    others = strategy.upcoming("Bo", tally, 8)
    both = {one.row for one in ahead} & {one.row for one in others}
    assert all(strategy.is_random[row] for row in both)


def test_everything_is_asked_once_and_then_nothing(tmp_path: Path) -> None:
    from craters.labels import Answer, Patch

    strategy, tally, asked = strategy_of(45), Tally(), []
    features = np.arange(45, dtype=np.float32)[:, None]
    strategy.update(PatchPredictions("", np.full(45, np.nan, np.float32), features, "pixels", 0.5))
    with LabelStore(tmp_path / "l.sqlite") as store:
        while found := strategy.upcoming("Ann", tally, 1):
            name = f"p:{found[0].row}"
            one = Answer(Patch(name, np.zeros((8, 8), np.uint8)), "not", found[0].why)
            store.add("Ann", [one])
            tally.catch_up(store)
            asked.append(found[0].row)
            assert found[0].why in ("random", "diverse")
    assert sorted(asked) == list(range(45))


def test_scores_are_scikit_learns() -> None:
    from sklearn.metrics import accuracy_score, f1_score

    random = np.random.default_rng(2)
    labels, before = random.integers(0, 2, (2, 80))
    after = np.where(random.random(80) < 0.7, labels, before)
    found = estimate(labels, before)
    assert found.accuracy == pytest.approx(accuracy_score(labels, before))
    assert found.macro_f1 == pytest.approx(f1_score(labels, before, average="macro"))
    assert found.macro_f1_interval[0] < found.macro_f1 < found.macro_f1_interval[1]
    expected = f1_score(labels, after, average="macro") - found.macro_f1
    assert gain(labels, before, after)["macro_f1"] == pytest.approx(expected)
    low, high = gain(labels, before, before)["interval"]
    assert low < 0 < high < 0.05  # equal answers are no proof of equal networks
    assert estimate(np.empty(0), np.empty(0)).accuracy is None
    assert float(macro_f1(np.array([[0, 0], [0, 4]]))) == 0.5


def test_html_and_json_say_the_same(session) -> None:
    client = Client(session)
    for view in ("queue", "grid", "progress"):
        status, found = client.get(f"/as/Ann/{view}")
        assert status == 200
        code, headers, body = client.send("GET", f"/as/Ann/{view}")
        html = body.decode()
        assert (code, headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "default-src 'none'" in headers["content-security-policy"]
        for card in found.get("cards", [])[:1]:
            assert card["id"] in html
        if view == "grid":
            assert re.findall(r'data-id="([^"]+)"', html) == [one["id"] for one in found["cards"]]
        if view == "progress":
            assert f"<b>{found['classes']['labels']}</b>" in html
            assert f"{found['random']['patches']} patches" in html
    assert client.get("/as/Ann/map")[0] == 404


def test_a_page_does_not_show_what_would_bias(session) -> None:
    client = Client(session)
    _, found = client.get("/as/Ann/queue")
    assert found["cards"]
    for card in found["cards"]:
        assert not {"probability", "given", "votes"} & set(card)
    name = found["cards"][0]["id"]
    details = client.get(f"/as/Ann/details?patch={name}")[1]
    row = session.source.row_of(name)
    assert details["probability"] == pytest.approx(
        float(session.predictions.probability[row]), abs=1e-4
    )


def test_answers_undo_and_what_comes_next(session) -> None:
    client = Client(session)
    cards = client.get("/as/Ann/queue")[1]["cards"]
    one = {"patch": cards[0]["id"], "answer": "crater", "why": cards[0]["why"], "seconds": 1.25,
           "saw_probability": False, "knew": None}  # fmt: skip
    content = {"key": "k1", "answers": [one], "want": 2, "skip": [card["id"] for card in cards]}
    status, found = client.post("/as/Ann/answers", content)
    assert status == 200
    assert found["counts"]["mine"] == 1
    assert found["conflicts"] == []
    assert not {card["id"] for card in found["next"]} & {card["id"] for card in cards}
    assert client.post("/as/Ann/answers", content)[1]["saved"] == found["saved"]
    entry = session.store.entries()[0]
    assert (entry.patch, entry.seconds, entry.why) == (one["patch"], 1.25, one["why"])
    assert entry.model == session.scorer.sha256
    _, undone = client.post("/as/Ann/undo", {"key": "k2"})
    assert undone["patches"][0]["id"] == one["patch"]
    assert undone["patches"][0]["answer"] is None
    assert undone["counts"]["mine"] == 0
    assert client.post("/as/Ann/undo", {"key": "k3"})[1]["patches"] == []


def test_two_tabs_and_two_reviewers_are_kept_and_warned(session) -> None:
    client = Client(session)

    def answer(who: str, word: str, key: str, knew: int | None = None):
        one = {"patch": "Xtrain1_extra:4", "answer": word, "why": "chosen", "knew": knew}
        return client.post(f"/as/{who}/answers", {"key": key, "answers": [one]})[1]

    first = answer("Ann", "crater", "a")
    assert first["conflicts"] == []
    other_tab = answer("Ann", "not", "b")  # which never heard of the first
    assert [(one["reviewer"], one["answer"], one["own"]) for one in other_tab["conflicts"]] == [
        ("Ann", "crater", True)
    ]
    aware = answer("Ann", "crater", "c", knew=other_tab["saved"][0]["entry"])
    assert aware["conflicts"] == []
    bo = answer("Bo", "not", "d")
    assert [(one["reviewer"], one["own"]) for one in bo["conflicts"]] == [("Ann", False)]
    assert answer("Cy", "unsure", "e")["conflicts"] == []
    assert len(session.store.entries()) == 5
    assert client.get("/as/Ann/queue?show=disputed")[1]["cards"][0]["id"] == "Xtrain1_extra:4"
    found = client.get("/as/Ann/progress")[1]
    assert found["agreement"]["disputed"][0]["votes"] == {
        "Ann": "crater", "Bo": "not", "Cy": "unsure"
    }  # fmt: skip


def test_reviewers_at_once_lose_nothing(session) -> None:
    client, failures = Client(session), []

    def work(who: str) -> None:
        for number in range(12):
            one = {"patch": f"Xtrain1_extra:{number}", "answer": "not", "why": "grid"}
            status, _ = client.post(f"/as/{who}/answers", {"key": f"{number}", "answers": [one]})
            failures.extend([status] if status != 200 else [])

    threads = [threading.Thread(target=work, args=(who,)) for who in ("Ann", "Bo", "Cy")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert {session.tally.standing[who] for who in ("Ann", "Bo", "Cy")} == {12}


def test_the_grid_sorts_filters_and_pages(session) -> None:
    client = Client(session)
    first = client.get("/as/Ann/grid?sort=probability&show=all")[1]
    second = client.get("/as/Ann/grid?sort=probability&show=all&page=2")[1]
    rows = [card["number"] for card in first["cards"] + second["cards"]]
    assert sorted(rows) == list(range(360))
    words = session.predictions.probability[rows]
    assert (np.diff(words) <= 0).all()
    turned = client.get("/as/Ann/grid?sort=probability&show=all&reverse=1")[1]
    assert turned["cards"][0]["number"] == rows[-1]
    answers = [{"patch": f"Xtrain1_extra:{n}", "answer": "unsure", "why": "grid"} for n in (2, 5)]
    assert client.post("/as/Ann/answers", {"key": "x", "answers": answers})[0] == 200
    found = client.get("/as/Ann/grid?sort=position&show=unsure")[1]
    assert [card["id"] for card in found["cards"]] == ["Xtrain1_extra:2", "Xtrain1_extra:5"]
    assert client.get("/as/Ann/grid?show=open")[1]["total"] == 358
    assert client.get("/as/Bo/grid?show=open")[1]["total"] == 360
    assert client.get("/as/Ann/grid?show=disputed")[1]["total"] == 0
    assert client.get("/as/Ann/grid?sort=beauty")[0] == 400
    assert len(client.post("/as/Ann/undo", {"key": "y"})[1]["undone"]) == 2


def test_the_estimate_is_of_the_answered_start_of_the_random_part(session) -> None:
    rows = session.strategy.random_rows
    assert len(rows) > 5
    assert all(
        in_random_part(session.store.seed, session.source.id_of(row), "extra")
        for row in rows.tolist()
    )
    for place in (0, 1, 2, 4):  # the fourth is missing: what comes after it must not count
        name = session.source.id_of(int(rows[place]))
        session.add(
            "Ann",
            [ReceivedAnswer(name, ("crater", "not", "unsure", "", "not")[place])],
            f"k{place}",
        )
    found = progress(session)
    assert found["random"]["labels"] == 2
    assert found["gain"] is None
    for estimated in (found["random"]["estimate"], found["models"][0]["estimate"]):
        assert (estimated["n"], estimated["craters"]) == (2, 1)
        assert estimated["macro_f1"] is estimated["accuracy"] is None


def test_an_audit_says_which_labels_are_doubted(run_folder: Path, tmp_path: Path) -> None:
    source = open_target(run_folder)
    labels = source.given[:60]
    lines = ["rank,id,row,label,probability,confidence,suspected"]
    for row, label in enumerate(labels):
        p = 0.9 if label else 0.1
        lines.append(f"{row},Xtrain1:{row},{row},{label},{1 - p if row == 7 else p},0.9,0")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    words = read_audit(tmp_path, source)
    session = make_session(run_folder, tmp_path / "l.sqlite", audit=words)
    assert session.strategy.suspected_rows.tolist() == [7]
    assert (
        session.grid("Ann", sort="suspected", show="all", page=1)["cards"][0]["id"] == "Xtrain1:7"
    )
    session.close()
    with pytest.raises(DataError, match="expected the folder of an audit"):
        read_audit(run_folder, source)


def test_arrays_can_be_reviewed_without_any_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(model_folder._SHIPPED, "pretrained", tmp_path / "none")
    np.save(tmp_path / "p.npy", simple_patches(50, 1)[0])
    session = make_session(tmp_path / "p.npy", tmp_path / "l.sqlite")
    cards = session.queue("Ann", count=4)
    assert {card["why"] for card in cards} <= {"diverse", "random"}
    assert session.details(0)["probability"] is None
    assert session.predictions.origin == "pixels"
    assert progress(session)["random"]["estimate"] is None
    assert Client(session).send("GET", "/as/Ann/progress")[0] == 200
    session.close()


def test_pixel_features_know_brightness_patterns_but_not_brightness() -> None:
    images = simple_patches(6, 2, side=50)[0]
    assert pixel_features(images).shape == (6, 144)
    darker = (images // 2 + 20).astype(np.uint8)
    assert np.abs(pixel_features(images) - pixel_features(darker)).max() < 0.15


# Requests from other places.


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": f"evil.example:{PORT}"}, 421),
        ({"host": "127.0.0.1:9"}, 421),
        ({"cookie": ""}, 403),
        ({"cookie": f"craters-{PORT}=wrong"}, 403),
        ({"cookie": f"craters-{PORT + 1}={TOKEN}"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": f"https://{HOST}"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"content-length": str(LARGEST + 1)}, 413),
        ({"content-length": "-1"}, 413),
        ({"content-length": "1e9"}, 413),
    ],
)
def test_the_guard_refuses(lasting: Client, headers: dict[str, str], status: int) -> None:
    body = json.dumps({"key": "k"}).encode()
    before = lasting.app.app  # the session behind it must not be reached
    assert lasting.send("POST", "/as/Ann/undo", body, headers)[0] == status
    assert before is lasting.app.app


def test_a_change_needs_an_origin(lasting: Client) -> None:
    headers = {"origin": None}
    assert lasting.send("POST", "/as/Ann/undo", b"{}", headers)[0] == 403


def test_the_token_becomes_a_cookie_and_leaves_the_address(lasting: Client) -> None:
    status, headers, _ = lasting.send("GET", f"/?token={TOKEN}&a=1", cookie=False)
    assert (status, headers["location"]) == (303, f"/{PLACE}/?a=1")
    assert headers["set-cookie"] == (
        f"craters-{PORT}={TOKEN}; HttpOnly; SameSite=Strict; Path=/{PLACE}"
    )
    assert lasting.send("GET", "/?token=wrong", cookie=False)[0] == 403
    status, headers, _ = lasting.send("GET", f"//evil.example/?token={TOKEN}", cookie=False)
    assert headers["location"] == f"/{PLACE}//evil.example/"


@pytest.mark.parametrize("root", ["", "/", "/other", f"/{PLACE}x", f"/{PLACE[:-1]}", f"//{PLACE}"])
def test_nothing_is_outside_the_secret_place(lasting: Client, root: str) -> None:
    """Cookies are sent to all ports of a host, but only to their path."""
    status, headers, _ = lasting.send("GET", f"/?token={TOKEN}", cookie=False, root=root)
    assert (status, "set-cookie" in headers) == (403, False)
    assert lasting.send("GET", "/as/Ann/queue", root=root)[0] == 403
    body = json.dumps({"key": "k"}).encode()
    assert lasting.send("POST", "/as/Ann/undo", body, root=root)[0] == 403


def test_all_links_stay_below_the_secret_place(lasting: Client) -> None:
    headers = lasting.send("GET", "/enter?name=Ann")[1]
    assert headers["location"] == f"/{PLACE}/as/Ann/queue"
    for path in ("/", "/as/Ann/queue", "/as/Ann/grid", "/as/Ann/progress", "/nowhere"):
        body = lasting.send("GET", path)[2].decode()
        links = re.findall(r'(?:href|src|action)="(/[^"]*)"', body)
        assert links
        assert all(link.startswith(f"/{PLACE}/") for link in links), path


@pytest.mark.parametrize(
    "number", ["1" * 4300, "9" * 4301, "1" * 7000, "\u0663", "1e3", "+1", "-0"]
)
@pytest.mark.parametrize(
    "path", ["/patches/x/{}.png", "/windows/x/0/1/{}/0.png", "/windows/x/{}/1/0/0.png"]
)
def test_odd_numbers_in_paths_are_not_found(lasting: Client, path: str, number: str) -> None:
    assert lasting.send("GET", path.format(quote(number)))[0] == 404


@pytest.mark.parametrize("number", ["1" * 4300, "9" * 4301, "1" * 7000])
def test_ids_of_thousands_of_digits_are_refused(lasting: Client, number: str) -> None:
    for path in ("details?patch=p:{}", "queue?patch={}", "grid?page={}", "map?image={}",
                 "map?least={}", "grid?reverse={}"):  # fmt: skip
        assert lasting.send("GET", f"/as/Ann/{path.format(number)}")[0] in (400, 404), path
    assert lasting.send("GET", f"/as/{number}/queue")[0] == 400
    for text in (f'"{number}"', number, f'"p:{number}"'):
        answer = f'{{"key": "k", "answers": [{{"patch": {text}, "answer": "not", "why": "grid"}}]}}'
        assert lasting.send("POST", "/as/Ann/answers", answer.encode())[0] in (400, 404)
        for name in ("want", "skip", "show"):
            body = f'{{"{name}": {text}}}'.encode()
            assert lasting.send("POST", "/as/Ann/next", body)[0] < 500


@pytest.mark.parametrize(
    "path",
    [
        "/static/x/../../../cli.py", "/static/x/..%2f..%2fcli.py", "/static/x/%2e%2e/cli.py",
        "/static/x//etc/passwd", "/static/../../../../etc/passwd", "/patches/x/../../etc/passwd",
        "/patches/x/-1.png", "/patches/x/99999999.png", "/patches/x/%00.png", "/as/../../x/queue",
        "/as/%2e%2e/queue", "/as/a%2fb/queue", "/windows/x/0/1/0/0.png", "/nowhere",
    ],
)  # fmt: skip
def test_paths_lead_nowhere_else(lasting: Client, path: str) -> None:
    status, _, body = lasting.send("GET", path)
    assert status in (400, 404)
    assert b"root:" not in body
    assert b"typer" not in body


def test_large_bodies_and_long_addresses_are_refused(lasting: Client) -> None:
    assert lasting.send("POST", "/as/Ann/answers", b"x" * (LARGEST + 1))[0] == 413
    assert lasting.send("GET", "/as/Ann/queue?patch=" + "x" * 9000)[0] == 414
    assert lasting.send("DELETE", "/as/Ann/queue")[0] == 405
    assert lasting.send("GET", "/as/Ann/answers")[0] == 405
    deep = b"[" * 100_000
    assert lasting.send("POST", "/as/Ann/answers", deep)[0] == 400


_ids = st.one_of(
    st.integers(0, 400).map(lambda n: f"Xtrain1_extra:{n}"),
    st.integers(0, 80).map(lambda n: f"Xtrain1:{n}"),
    st.text(max_size=8),
)
_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12), _ids
)
_anything = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)  # fmt: skip
_answer = st.fixed_dictionaries(
    {},
    optional={
        "patch": _ids | _scalars,
        "answer": st.sampled_from(["crater", "not", "unsure"]) | _scalars,
        "why": st.sampled_from(["grid", "chosen", "random"]) | _scalars,
        "seconds": _scalars,
        "knew": _scalars,
        "saw_probability": _scalars,
    },
)
_content = st.one_of(
    _anything,
    st.fixed_dictionaries(
        {},
        optional={
            "key": st.text(alphabet="ab", min_size=1, max_size=5) | _scalars,
            "answers": st.lists(_answer, max_size=3) | _anything,
            "want": st.integers(-1, 9) | _scalars,
            "skip": st.lists(_ids, max_size=3) | _anything,
            "show": st.sampled_from(["mix", "disputed"]) | _scalars,
        },
    ),
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(["answers", "undo", "next"]), content=_content)
@example(path="answers", content={"key": "k", "answers": [{"patch": "Xtrain1:0", "answer": "not",
         "why": "grid", "seconds": float("inf")}]})  # fmt: skip
@example(path="answers", content={"key": "\ud800", "answers": []})
@example(path="next", content={"want": 3, "skip": ["\ud800", "a\x00:1"]})
def test_no_json_makes_the_server_fail(lasting: Client, path: str, content) -> None:
    body = json.dumps(content).encode()
    status, headers, reply = lasting.send("POST", f"/as/Ann/{path}", body)
    assert status < 500
    assert "application/json" in headers["content-type"]
    found = json.loads(reply)
    assert ("error" in found) == (status != 200)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=60))
@example(body=b"\xff\xfe")
@example(body=b"1" * 5000)
@example(body=b'{"key": "k", "answers": [NaN]}')
def test_no_bytes_make_the_server_fail(lasting: Client, body: bytes) -> None:
    assert lasting.send("POST", "/as/Ann/answers", body)[0] < 500


_values = st.text(st.characters(codec="utf-8"), max_size=8) | st.integers().map(str) | _ids


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    who=st.sampled_from(["Ann", "Bo"]) | st.text(st.characters(codec="utf-8"), max_size=6),
    view=st.sampled_from(["queue", "grid", "map", "progress", "details", "nowhere"]),
    query=st.dictionaries(
        st.sampled_from(["sort", "show", "page", "reverse", "patch", "image", "least", "format"]),
        _values,
        max_size=4,
    ),
)
@example(who="Ann", view="grid", query={"page": "1" * 12, "sort": "position"})
@example(who="Ann", view="map", query={"least": "nan"})
@example(who="\x00", view="queue", query={"patch": "\x00"})
def test_no_address_makes_the_server_fail(lasting: Client, who, view, query) -> None:
    from urllib.parse import urlencode

    address = f"/as/{quote(who, safe='')}/{view}?{urlencode(query)}"
    assert lasting.send("GET", address)[0] < 500


def test_nothing_served_points_elsewhere(lasting: Client) -> None:
    bodies = [lasting.send("GET", path)[2] for path in ("/", "/as/Ann/queue", "/as/Ann/grid",
                                                        "/as/Ann/progress")]  # fmt: skip
    folder = REPOSITORY / "src" / "craters" / "review" / "static"
    names = [path.name for path in folder.iterdir()]
    assert {"review.css", "common.js", "queue.js", "grid.js", "map.js", "progress.js"} <= set(names)
    bodies += [lasting.send("GET", f"/static/x/{name}")[2] for name in names]
    for body in bodies:
        found = re.findall(rb"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}[^\s\"']*", body)
        assert set(found) <= {b"http://www.w3.org/2000/svg"}  # the name of a format
        assert b" style=" not in body
        assert not re.search(rb"<script(?! src=| type=\"application/json\")", body)


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(scheme: str) -> None:
    css = (REPOSITORY / "src/craters/review/static/review.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", blocks[scheme == "dark"]))
    for ground in ("ground", "sheet"):
        for name in ("ink", "soft", "crater", "not", "unsure", "good", "bad"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
        assert contrast(colours["ring"], colours[ground]) >= 3
    for name in ("crater", "not", "unsure"):
        assert contrast(colours["on"], colours[name]) >= 4.5, name


def test_bad_settings_of_a_page(session) -> None:
    with pytest.raises(ConfigError, match="twice"):
        session.add(
            "Ann", [ReceivedAnswer("Xtrain1:0", "not"), ReceivedAnswer("Xtrain1:0", "crater")], "k"
        )
    with pytest.raises(DataError, match="no patch"):
        session.find("Xtest1:0")


@pytest.mark.slow
def test_training_anew_names_what_it_does_and_is_used(session) -> None:
    names = [session.source.id_of(int(row)) for row in session.strategy.random_rows[:60]]
    names += [f"Xtrain1_extra:{row}" for row in range(20)]
    labels = simple_patches(300, 5, 0.3)[1]
    for name in dict.fromkeys(names):
        word = ("not", "crater")[labels[int(name.rpartition(":")[2])]]
        session.add("Ann", [ReceivedAnswer(name, word)], f"k{name.replace(':', '-')}")
    before = session.scorer.sha256
    client = Client(session)
    assert client.post("/as/Ann/train", {})[1] == {"number": 1}
    assert client.post("/as/Ann/train", {})[0] == 409
    session.retraining.wait()
    status = session.retraining.to_dict()
    assert status["state"] == "done", status
    assert session.scorer.sha256 != before
    found = client.get("/as/Ann/progress")[1]
    assert [row["is_current"] for row in found["models"]] == [False, True]
    held = sum(in_random_part(session.store.seed, name, "extra") for name in set(names))
    assert found["models"][1]["labels"] == 60 + len(set(names)) - held
    assert found["training"]["merged"]["merged"]["held_out"] == held

    first, second = (row["estimate"]["macro_f1"] for row in found["models"])
    is_shown = found["gain"]["changed"] >= LEAST_CHANGED
    expected = pytest.approx(second - first) if is_shown else None
    assert found["gain"]["macro_f1"] == expected
    assert found["gain"]["n"] == found["random"]["labels"] >= 20
    html = client.send("GET", "/as/Ann/progress")[2].decode()
    assert f"{second:.3f}" in html


def test_a_training_that_fails_says_why(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", simple_patches(50, 1)[0])
    session = make_session(tmp_path / "p.npy", tmp_path / "l.sqlite")
    session.add("Ann", [ReceivedAnswer("p:0", "crater")], "k")
    session.retraining.start()
    session.retraining.wait()
    assert session.retraining.status.state == "failed"
    assert "expected both classes" in session.retraining.status.error
    assert Client(session).get("/as/Ann/progress")[1]["training"]["state"] == "failed"
    session.close()
