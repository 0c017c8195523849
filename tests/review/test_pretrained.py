"""The pretrained model orders the first queue; with a tiny stand-in for it, trained on discs."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from craters.errors import ConfigError, DataError
from craters.labels import LabelStore
from craters.models import Classifier, LightFrame, folder
from craters.review import open_target, server
from craters.review.features import Scorer, predict_all
from craters.review.progress import progress
from craters.review.session import ReceivedAnswer, ReviewSession
from craters.review.source import open_arrays, open_data
from tests.conftest import simple_patches
from tests.models.tools import lit_patches, write_lit
from tests.review.tools import Client, make_session

AZIMUTH = 100


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lit(tmp_path_factory.mktemp("package") / "lit")


@pytest.fixture
def place(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with 200 patches lit from 100 degrees; the stand-in is shipped."""
    monkeypatch.setitem(folder._SHIPPED, "pretrained", shipped)
    np.save(tmp_path / "p.npy", lit_patches(200, AZIMUTH, 5)[0])
    return tmp_path


def test_the_first_queue_of_an_array_is_that_of_the_pretrained_model(place: Path) -> None:
    session = make_session(place / "p.npy", place / "l.sqlite")
    images, labels = lit_patches(200, AZIMUTH, 5)
    known = Classifier.load("pretrained", threads=1)
    expected = known.predict_proba(images)
    np.testing.assert_allclose(session.predictions.probability, expected, rtol=0, atol=1e-6)
    assert ((expected > 0.5) == labels).mean() > 0.9
    azimuth = known.find_light(images).groups[""].azimuth
    assert f"light from {azimuth:.0f} degrees (image right)" in session.predictions.light
    cards = session.queue("Ann", count=8)
    uncertain = [card["number"] for card in cards if card["why"] == "uncertain"]
    assert len(uncertain) >= 6
    rank = np.argsort(np.argsort(np.abs(np.log(expected / (1 - expected)))))
    assert rank[uncertain].max() < 70  # of 200, of which 20 or so are the random part
    page = progress(session)
    assert [row["labels"] for row in page["models"]] == [0]
    assert page["light"] == session.predictions.light
    client = Client(session)
    _, _, body = client.send("GET", "/?format=html")
    assert "until you retrain, the pretrained model, which has seen no real label" in body.decode()
    assert "macro F1 0.88 on Nanedi West" in body.decode()
    html = client.send("GET", "/as/Ann/progress")[2].decode()
    assert "Light from 1" in html
    session.close()


def test_the_page_measures_it_on_the_random_part(place: Path) -> None:
    images, labels = lit_patches(400, AZIMUTH, 5)
    np.save(place / "many.npy", images)
    session = make_session(place / "many.npy", place / "l.sqlite")
    rows = session.strategy.random_rows.tolist()
    answers = [
        ReceivedAnswer(session.source.id_of(row), ("not", "crater")[labels[row]], "random")
        for row in rows
    ]
    session.add("Ann", answers, "k")
    called = session.predictions.probability[rows] >= 0.5
    expected = float((called == labels[rows]).mean())
    assert progress(session)["models"][0]["estimate"]["accuracy"] == expected
    session.close()
    # A restart takes the predictions that are there, and finds the light anew for the table.
    again = make_session(place / "many.npy", place / "l.sqlite")
    assert again.predictions.light == session.predictions.light
    assert progress(again)["models"][0]["estimate"]["accuracy"] == expected
    again.close()


def test_any_other_model_goes_before_it(place: Path, tmp_path: Path) -> None:
    make_session(place / "p.npy", place / "l.sqlite").close()
    other = write_lit(tmp_path / "other", pretraining=None)
    source = open_target(place / "p.npy", model=other)
    session = ReviewSession(source, LabelStore(place / "l.sqlite"), threads=1)
    session.open_model()
    assert session.scorer.folder == other
    assert session.notes == []
    session.close()
    # It is the last one used, so it stays when none is named; as one trained here would.
    session = make_session(place / "p.npy", place / "l.sqlite")
    assert session.scorer.folder == other.resolve()
    session.close()


def test_a_stated_light_is_used(place: Path) -> None:
    images = lit_patches(200, AZIMUTH, 5)[0]
    known = Classifier.load("pretrained", threads=1)
    for azimuth in (AZIMUTH, 280.0):
        session = make_session(place / "p.npy", place / "l.sqlite", sun_azimuth=azimuth)
        expected = known.predict_proba(images, sun_azimuth=azimuth)
        np.testing.assert_allclose(session.predictions.probability, expected, rtol=0, atol=1e-6)
        assert session.predictions.light.endswith("as stated")
        session.close()
    with pytest.raises(ConfigError, match="azimuth of the light is 361, expected 0 to 360"):
        make_session(place / "p.npy", place / "l.sqlite", sun_azimuth=361)


def test_a_stated_light_is_refused_where_no_model_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(folder._SHIPPED, "pretrained", tmp_path / "none")
    np.save(tmp_path / "p.npy", simple_patches(30, 1)[0])
    with pytest.raises(ConfigError, match="there is no model that needs it"):
        make_session(tmp_path / "p.npy", tmp_path / "l.sqlite", sun_azimuth=90)


def test_features_and_probabilities_follow_the_orientations(shipped: Path) -> None:
    """Several lights at once, one of them unknown, in batches of any size."""
    images = np.concatenate([lit_patches(40, azimuth, 3)[0] for azimuth in (270, 315, 90)])
    azimuth = np.repeat([270, 315, np.nan], 40)
    scorer, known = Scorer(shipped, threads=1), Classifier.load(shipped, threads=1)
    order = np.random.default_rng(0).permutation(len(images))
    probability, features = scorer.score(images[order], azimuth[order])
    expected = known.probability(known.logits(images, azimuth=azimuth))
    np.testing.assert_allclose(probability, expected[order], rtol=0, atol=1e-6)
    assert features.shape == (120, 16)
    one, alone = scorer.score(images[:1], azimuth[:1])
    assert one[0] == pytest.approx(expected[0], abs=1e-6)
    np.testing.assert_allclose(alone[0], features[np.flatnonzero(order == 0)[0]], atol=1e-5)
    shown, _ = scorer.score(images[:40])
    np.testing.assert_allclose(shown, known.predict_proba(images[:40]), rtol=0, atol=1e-6)


def test_images_have_their_own_light(place: Path) -> None:
    parts = {azimuth: lit_patches(60, azimuth, 3)[0] for azimuth in (20, 200)}
    data = place / "DATA"
    data.mkdir()
    np.save(data / "Xtrain1.npy", np.concatenate(list(parts.values())))
    np.save(data / "Ytrain1.npy", np.zeros(120, np.int32))
    np.save(data / "groups_train.npy", np.repeat(["a_0_0", "b_0_0"], 60))
    source = open_data(data, data)
    assert source.groups.tolist() == ["a_0_0"] * 60 + ["b_0_0"] * 60
    scorer = Scorer(folder.find_pretrained(), threads=1)
    light = scorer.light_of(source)
    assert [light.groups[name].azimuth for name in ("a_0_0", "b_0_0")] == [
        pytest.approx(20, abs=15),
        pytest.approx(200, abs=15),
    ]
    assert scorer.light_of(source) is light
    found = predict_all(source, scorer).probability
    known = Classifier.load("pretrained", threads=1)
    for number, azimuth in enumerate(light.azimuth[[0, 60]]):
        expected = known.predict_proba(list(parts.values())[number], sun_azimuth=azimuth)
        np.testing.assert_allclose(found[60 * number :][:60], expected, rtol=0, atol=1e-6)
    assert predict_all(source, Scorer(scorer.folder), proceed=lambda *_: False) is None
    assert open_arrays(place / "p.npy").groups is None


def test_an_unknown_light_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    doubtful = write_lit(tmp_path / "doubtful", light=LightFrame(least_certainty=1))
    monkeypatch.setitem(folder._SHIPPED, "pretrained", doubtful)
    np.save(tmp_path / "p.npy", lit_patches(40, AZIMUTH, 5)[0])
    session = make_session(tmp_path / "p.npy", tmp_path / "l.sqlite")
    assert progress(session)["light"].startswith("direction of light unknown (")
    html = Client(session).send("GET", "/as/Ann/progress")[2].decode()
    assert "predictions are averaged over four orientations" in html
    session.close()


def test_unlike_patches_are_noted(place: Path) -> None:
    np.save(place / "dark.npy", lit_patches(40, AZIMUTH, 5)[0] // 4)
    session = make_session(place / "dark.npy", place / "l.sqlite")
    assert any(note.startswith("dark.npy is darker than training") for note in session.notes)
    session.close()


def test_patches_of_other_sizes_have_no_model(place: Path) -> None:
    np.save(place / "small.npy", lit_patches(40, AZIMUTH, 5, side=20)[0])
    session = make_session(place / "small.npy", place / "l.sqlite")
    assert session.scorer is None
    assert {card["why"] for card in session.queue("Ann")} <= {"diverse", "random"}
    session.close()
    source = open_target(place / "small.npy", model="pretrained")
    session = ReviewSession(source, LabelStore(place / "m.sqlite"), threads=1)
    with pytest.raises(DataError, match="expects patches of 24 x 24 to 96 x 96 pixels, but these"):
        session.open_model()
    session.close()


def test_a_scan_is_reviewed_with_its_own_light(place: Path) -> None:
    pytest.importorskip("rasterio", reason="rasterio is not installed")
    from craters.maps.scan import scan_images
    from tests.maps.scan.test_appearance import discs
    from tests.maps.tools import classifier, config, write_classifier, write_raster

    (place / "images").mkdir()
    write_raster(place / "images" / "a.tif", discs(90))
    write_raster(place / "images" / "b.tif", discs(180, seed=5))
    scan_images(config("pretrained", place / "images", place / "SCAN", window=24))
    source = open_target(place / "SCAN")
    assert (source.model, source.side) == (folder.find_pretrained(), 24)
    session = make_session(place / "SCAN", place / "l.sqlite")
    np.testing.assert_allclose(
        session.predictions.probability, source.windows.probability, rtol=0, atol=1e-6
    )
    assert "estimated for each of 2 groups" in session.predictions.light
    session.close()
    summary = json.loads((place / "SCAN" / "summary.json").read_text())
    lights = {row["image"]: row["azimuth"] for row in summary["light"]}
    assert {name: light.azimuth for name, light in source.light.groups.items()} == lights
    stated = make_session(place / "SCAN", place / "l.sqlite", sun_azimuth=0.0)
    assert not np.allclose(stated.predictions.probability, source.windows.probability, atol=0.2)
    stated.close()
    # A scan by another model knows no light: it is found for each image.
    plain = write_classifier(place / "plain", side=24)
    scan_images(config(plain, place / "images", place / "PLAIN", decision_threshold=0.4))
    assert classifier(side=24).description.light is None
    other = open_target(place / "PLAIN", model="pretrained")
    light = Scorer(other.model, threads=1).light_of(other)
    assert other.light is None
    known = Classifier.load("pretrained", threads=1)
    for number, name in enumerate("ab"):
        rows = np.flatnonzero(other.windows.image == number)
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), 512)).round().astype(int)]
        alone = known.find_light(other.read(rows)).groups[""]
        assert light.groups[name].azimuth == alone.azimuth


def test_the_server_says_which_model_it_uses(place: Path) -> None:
    from craters.core import NullProgress

    class Listener(NullProgress):
        def say(self, text: str) -> None:
            said.append(text)

    said: list[str] = []
    stop = threading.Event()
    server.serve(
        place / "p.npy", store=place / "l.sqlite", threads=1, model="pretrained",
        progress=Listener(), on_ready=lambda _: stop.set(), stop=stop,
    )  # fmt: skip
    assert len(said) == 1
    assert said[0].startswith("Note: until you retrain, the pretrained model")
