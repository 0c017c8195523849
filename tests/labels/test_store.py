from __future__ import annotations

import csv
import dataclasses
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from craters.cli.main import app
from craters.core import files
from craters.data import read_job_data
from craters.errors import ConfigError, DataError, ExistsError
from craters.labels import (
    ANSWERS,
    CRATER,
    NOT,
    Answer,
    LabelStore,
    Patch,
    Tally,
    add_answers,
    agreement_summary,
    export_labels,
    in_random_part,
    merge_labels,
    random_place,
    read_answers,
    write_snapshot,
)
from craters.labels.consensus import agreements, cohen_kappa, consensus
from craters.labels.merge import RANDOM_SHARE, random_order
from craters.labels.store import UNSURE
from craters.labels.tables import labels_csv
from tests.conftest import write_job


def patch(number: int, **facts) -> Patch:
    pixels = np.full((8, 8), number % 256, np.uint8)
    return Patch(f"p:{number}", pixels, "p.npy", **facts)


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    with LabelStore(tmp_path / "labels.sqlite", seed=7) as found:
        yield found


def test_answers_come_back_as_they_were_given(store: LabelStore) -> None:
    one = Answer(patch(3), CRATER, "uncertain", 1.5, "abc", 0.7, True)
    (entry,) = store.add("Ann", [one])
    assert (entry.patch, entry.reviewer, entry.answer, entry.why) == (
        "p:3", "Ann", "crater", "uncertain"
    )  # fmt: skip
    assert (entry.seconds, entry.model, entry.probability, entry.saw_probability) == (
        1.5, "abc", 0.7, True
    )  # fmt: skip
    with LabelStore(store.path) as again:
        assert again.entries() == [entry]
        assert again.patches()["p:3"].digest == patch(3).digest
        assert again.seed == store.seed


def test_nothing_can_be_changed_or_removed(store: LabelStore) -> None:
    store.add("Ann", [Answer(patch(1), CRATER)])
    store.note_model("x", Path("m"), 3)
    base = sqlite3.connect(store.path)
    for table in ("entries", "patches", "models"):
        with pytest.raises(sqlite3.IntegrityError, match="never changed"):
            base.execute(f"DELETE FROM {table}")
    with pytest.raises(sqlite3.IntegrityError, match="never changed"):
        base.execute("UPDATE entries SET answer = 'not'")
    base.close()


def test_undo_is_an_entry_and_brings_the_answer_before_back(store: LabelStore) -> None:
    store.add("Ann", [Answer(patch(1), NOT)])
    store.add("Ann", [Answer(patch(1), CRATER), Answer(patch(2), CRATER)])
    undone = store.undo("Ann")
    assert [one.undoes for one in undone] == [2, 3]
    tally = Tally.of(store)
    assert tally.answer_of("p:1", "Ann").answer == NOT
    assert tally.answer_of("p:2", "Ann") is None
    assert store.undo("Ann")[0].undoes == 1
    assert store.undo("Ann") == []
    assert len(store.entries()) == 6
    assert Tally.of(store).answered() == []


def test_a_request_repeated_under_its_key_is_done_once(store: LabelStore) -> None:
    first = store.add("Ann", [Answer(patch(1), CRATER)], key="k1")
    assert store.add("Ann", [Answer(patch(1), CRATER)], key="k1") == first
    assert store.add("Bo", [Answer(patch(1), CRATER)], key="k1") != first
    undone = store.undo("Ann", key="k2")
    assert store.undo("Ann", key="k2") == undone
    assert len(store.entries()) == 3


def test_the_fingerprint_is_of_the_entries(store: LabelStore) -> None:
    before = store.fingerprint()
    store.add("Ann", [Answer(patch(1), CRATER)])
    after = store.fingerprint()
    assert before != after
    with LabelStore(store.path) as again:
        assert again.fingerprint() == after
    store.undo("Ann")
    assert store.fingerprint() not in (before, after)


def test_all_answers_of_a_call_or_none(store: LabelStore) -> None:
    store.add("Ann", [Answer(patch(1), CRATER)])
    other = Patch("p:1", np.zeros((8, 8), np.uint8))
    with pytest.raises(DataError, match="other pixels"):
        store.add("Ann", [Answer(patch(5), CRATER), Answer(other, NOT)])
    assert len(store.entries()) == 1
    assert set(store.patches()) == {"p:1"}


@pytest.mark.parametrize("name", ["", " Ann", "a/b", "x" * 41, "a\n", "\ud800", "<b>"])
def test_names_that_are_refused(store: LabelStore, name: str) -> None:
    with pytest.raises(ConfigError, match="reviewer"):
        store.add(name, [Answer(patch(1), CRATER)])


def test_bad_answers_and_files_are_refused(tmp_path: Path, store: LabelStore) -> None:
    with pytest.raises(ConfigError, match="answer is 'yes'"):
        Answer(patch(1), "yes")
    with pytest.raises(ConfigError, match="finite"):
        Answer(patch(1), CRATER, seconds=float("nan"))
    with pytest.raises(ConfigError, match="why"):
        Answer(patch(1), CRATER, why="bored")
    with pytest.raises(ConfigError, match="key"):
        store.add("Ann", [Answer(patch(1), CRATER)], key="a b")
    (tmp_path / "text.sqlite").write_text("no database, whatever its name says" * 40)
    with pytest.raises(DataError, match="is no label store"):
        LabelStore(tmp_path / "text.sqlite")
    other = sqlite3.connect(tmp_path / "other.sqlite")
    other.execute("CREATE TABLE t (x)")
    other.commit()
    other.close()
    with pytest.raises(DataError, match="not a label store"):
        LabelStore(tmp_path / "other.sqlite")
    with pytest.raises(DataError, match="no such label store"):
        LabelStore(tmp_path / "absent.sqlite", must_exist=True)
    assert not (tmp_path / "absent.sqlite").exists()


def test_many_threads_and_stores_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    shared = LabelStore(path)

    def work(name: str, own: bool) -> None:
        one = LabelStore(path) if own else shared
        for number in range(15):
            one.add(name, [Answer(patch(number), CRATER)])

    threads = [threading.Thread(target=work, args=(f"r{n}", n % 2 == 0)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tally = Tally.of(shared)
    assert {tally.standing[f"r{n}"] for n in range(6)} == {15}
    assert [entry.entry for entry in shared.entries()] == list(range(1, 91))
    shared.close()


def test_a_writer_that_is_killed_loses_nothing_it_confirmed(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from craters.labels import Answer, LabelStore, Patch\n"
        "store = LabelStore(Path(sys.argv[1]))\n"
        "for n in range(10**6):\n"
        "    store.add('Ann', [Answer(Patch(f'p:{n}', np.zeros((8, 8), np.uint8)), 'crater')])\n"
        "    print(n, flush=True)\n"
    )
    path = tmp_path / "labels.sqlite"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        confirmed = -1
        for line in process.stdout:
            confirmed = int(line)
            if confirmed == 25:
                os.kill(process.pid, signal.SIGKILL)
                break
        rest = process.stdout.read().split()
    confirmed = int(rest[-1]) if rest else confirmed
    with LabelStore(path) as store:
        kept = {entry.patch for entry in store.entries()}
    assert {f"p:{n}" for n in range(confirmed + 1)} <= kept
    assert len(kept) <= confirmed + 2


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from("ABC"), st.integers(0, 4), st.sampled_from(
    [*ANSWERS, "undo"])), max_size=40))  # fmt: skip
def test_the_tally_is_what_a_simple_model_says(tmp_path_factory, steps) -> None:
    path = tmp_path_factory.mktemp("tally") / "labels.sqlite"
    stacks: dict[str, list[tuple[int, str]]] = {name: [] for name in "ABC"}
    running = Tally()
    with LabelStore(path) as store:
        for who, number, word in steps:
            if word == "undo":
                store.undo(who)
                stacks[who] = stacks[who][:-1]
            else:
                store.add(who, [Answer(patch(number), word)])
                stacks[who].append((number, word))
            running.catch_up(store)
        fresh = Tally.of(store)
    expected: dict[str, dict[str, str]] = {}
    for who, stack in stacks.items():
        for number, word in stack:
            expected.setdefault(f"p:{number}", {})[who] = word
    for tally in (running, fresh):
        assert {
            name: {who: one.answer for who, one in tally.votes(name).items()}
            for name in tally.answered()
        } == expected
        for who in "ABC":
            assert tally.standing[who] == len({number for number, _ in stacks[who]})
        for name, votes in expected.items():
            assert tally.consensus(name) == consensus(votes.values())


@given(st.lists(st.sampled_from(ANSWERS), max_size=9))
def test_consensus_does_not_depend_on_order_nor_on_the_unsure(answers) -> None:
    found = consensus(answers)
    assert found == consensus(reversed(answers))
    votes = [one for one in answers if one != UNSURE]
    if votes:
        assert found == consensus(votes)
        swapped = [{CRATER: NOT, NOT: CRATER}.get(one, one) for one in answers]
        mirror = {CRATER: NOT, NOT: CRATER}
        assert consensus(swapped) == mirror.get(found, found)


def test_kappa_is_scikit_learns() -> None:
    from sklearn.metrics import cohen_kappa_score

    random = np.random.default_rng(4)
    for _ in range(20):
        first, second = random.integers(0, 2, (2, 30))
        table = np.zeros((2, 2), int)
        np.add.at(table, (first, second), 1)
        assert float(cohen_kappa(table)) == pytest.approx(cohen_kappa_score(first, second))
    assert np.isnan(cohen_kappa(np.array([[9, 0], [0, 0]])))


def test_agreement_of_a_known_pair(store: LabelStore) -> None:
    said = [(CRATER, CRATER)] * 15 + [(CRATER, NOT)] * 10 + [(NOT, CRATER)] * 5 + [(NOT, NOT)] * 20
    for number, (ann, bo) in enumerate([*said, (UNSURE, CRATER)]):
        store.add("Ann", [Answer(patch(number), ann)])
        store.add("Bo", [Answer(patch(number), bo)])
    store.add("Cy", [Answer(patch(0), CRATER)])
    pairs = {(one.first, one.second): one for one in agreements(Tally.of(store))}
    found = pairs["Ann", "Bo"]
    assert (found.n, found.agreement, found.unsure) == (50, 0.7, 1)
    assert found.kappa == pytest.approx(0.4)
    assert found.interval[0] < 0.4 < found.interval[1]
    assert found.table == [[20, 5], [10, 15]]
    assert np.isnan(pairs["Ann", "Cy"].kappa)
    summary = agreement_summary(store)
    assert len(summary["disputed"]) == 15
    assert summary["pairs"][0]["kappa"] == found.kappa
    assert summary["pairs"][0]["interval"] == list(found.interval)
    json.dumps(summary, allow_nan=False)


def test_the_random_part_is_a_fixed_share_and_depends_on_seed_and_id_alone() -> None:
    names = [f"Xtrain1_extra:{row}" for row in range(20000)]
    inside = [in_random_part(7, name, "extra") for name in names]
    assert np.mean(inside) == pytest.approx(RANDOM_SHARE, abs=0.01)
    assert [in_random_part(8, name, "extra") for name in names] != inside
    assert not any(in_random_part(7, name, "extra", 1) for name in names)
    assert not any(in_random_part(7, name, part) for name in names for part in ("labeled", "scan"))
    assert in_random_part(7, "any", "drawn")
    places = [random_place(7, name) for name in names]
    assert 0 <= min(places) < 0.001
    assert 0.999 < max(places) < 1


def answered_job(folder: Path, store: LabelStore) -> dict[str, str]:
    """Answer the first 40 extra patches, turn a label of the labeled set, confirm another."""
    data = read_job_data(folder)
    said = {}
    for row in range(40):
        said[str(data.pool.ids[row])] = (CRATER, NOT)[row % 2]
    for name, word in said.items():
        row = int(name.rpartition(":")[2])
        store.add("Ann", [Answer(Patch(name, data.pool.images[row], part="extra"), word)])
    for row, turn in ((0, True), (1, False)):
        label = int(data.train.labels[row]) ^ turn
        one = Patch(f"Xtrain1:{row}", data.train.images[row], part="labeled",
                    given=int(data.train.labels[row]))  # fmt: skip
        store.add("Ann", [Answer(one, (NOT, CRATER)[label])])
    return said


def test_labels_merge_into_the_arrays_of_a_job(tmp_path: Path, store: LabelStore) -> None:
    folder = write_job(tmp_path / "DATA", groups=True)
    said = answered_job(folder, store)
    before = read_job_data(folder)
    merged, counts = merge_labels(store, before)
    held = {name for name in said if in_random_part(store.seed, name, "extra")}
    assert counts.changed == counts.confirmed == 1
    assert counts.held_out == len(held)
    assert counts.from_extra == 40 - len(held)
    by_id = dict(zip(merged.train.ids.tolist(), merged.train.labels.tolist(), strict=True))
    assert by_id["Xtrain1:0"] == 1 - before.train.labels[0]
    assert by_id["Xtrain1:1"] == before.train.labels[1]
    for name, word in said.items():
        assert (by_id[name] == (word == CRATER)) if name not in held else (name not in by_id)
    random = {
        str(name) for name in before.pool.ids if in_random_part(store.seed, str(name), "extra")
    }
    assert held < random
    assert counts.apart == len(random - held)
    assert set(merged.pool.ids) == set(before.pool.ids) - random - set(said)
    assert set(merged.train.ids) == set(before.train.ids) | (set(said) - held)
    for one in (merged.train, merged.pool):
        for name, image in zip(one.ids, one.images, strict=True):
            stem, _, row = name.partition(":")
            source = before.train if stem == "Xtrain1" else before.pool
            assert (image == source.images[int(row)]).all()
    assert len(merged.train.groups) == len(merged.train)
    assert before.train.labels[0] != by_id["Xtrain1:0"]  # the input was left alone


def test_no_answers_leave_the_arrays_as_they_are(job_folder: Path, store: LabelStore) -> None:
    data = read_job_data(job_folder)
    merged, counts = merge_labels(store, data)
    assert merged.train.images is data.train.images
    assert (merged.train.labels == data.train.labels).all()
    assert len(merged.pool) == len(data.pool) - counts.apart < len(data.pool)
    assert counts.from_extra == counts.changed == counts.held_out == 0


def test_labels_of_another_array_are_refused(job_folder: Path, store: LabelStore) -> None:
    store.add("Ann", [Answer(Patch("Xtrain1:0", np.zeros((48, 48), np.uint8)), CRATER)])
    with pytest.raises(DataError, match="has other pixels in"):
        merge_labels(store, read_job_data(job_folder))


def test_a_snapshot_is_a_job_whose_test_set_is_the_random_part(
    tmp_path: Path, store: LabelStore
) -> None:
    folder = write_job(tmp_path / "DATA", n=300, groups=True)
    before = read_job_data(folder)
    order = random_order(before.pool, store.seed)
    assert len(order) > 5
    images = dict(zip(before.pool.ids.tolist(), before.pool.images, strict=True))
    others = [name for name in images if name not in order][:10]
    said = {name: (CRATER, NOT)[number % 2] for number, name in enumerate([*order, *others])}
    said[order[1]] = UNSURE
    for name, word in said.items():
        if name != order[4]:  # what follows the gap may have been chosen
            store.add("Bo", [Answer(Patch(name, images[name], part="extra"), word)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write_snapshot(store, before, tmp_path / "MERGED")
    assert not list(tmp_path.glob("*MERGED*"))
    facts = write_snapshot(store, before, tmp_path / "MERGED")
    job = read_job_data(tmp_path / "MERGED")
    wanted = [order[0], order[2], order[3]]
    assert job.test.labels.tolist() == [said[name] == CRATER for name in wanted]
    assert (job.test.images == np.stack([images[name] for name in wanted])).all()
    merged, _ = merge_labels(store, before)
    assert (job.train.images == merged.train.images).all()
    assert (job.train.labels == merged.train.labels).all()
    assert (job.pool.images == merged.pool.images).all()
    assert facts["test"] == "the answered start of the random part"
    assert facts["labels"] == len(job.train) == len(before.train) + len(others)
    learned = {image.tobytes() for one in (job.train, job.pool) for image in one.images}
    assert not learned & {images[name].tobytes() for name in order}


def test_the_votes_asked_for_count_in_the_test_set_too(tmp_path: Path, store: LabelStore) -> None:
    folder = write_job(tmp_path / "DATA", n=300)
    data = read_job_data(folder)
    images = dict(zip(data.pool.ids.tolist(), data.pool.images, strict=True))
    order = random_order(data.pool, store.seed)[:4]
    for who, names in (("Ann", order), ("Bo", order[1:3])):
        for name in names:
            store.add(who, [Answer(Patch(name, images[name], part="extra"), CRATER)])
    once = write_snapshot(store, data, tmp_path / "ONCE")
    twice = write_snapshot(store, data, tmp_path / "TWICE", least=2)
    assert [once["test"], twice["test"]] == ["the answered start of the random part"] * 2
    found = [read_job_data(tmp_path / name).test.images for name in ("ONCE", "TWICE")]
    assert (found[0] == np.stack([images[name] for name in order])).all()
    assert (found[1] == np.stack([images[name] for name in order[1:3]])).all()
    never = write_snapshot(store, data, tmp_path / "NEVER", least=3)
    assert never["test"] == "as before"


def test_windows_that_overlap_what_measures_are_not_trained_on(
    tmp_path: Path, store: LabelStore
) -> None:
    data = read_job_data(write_job(tmp_path / "DATA"))
    random = np.random.default_rng(5)
    places = {"A/100/100": "drawn", "A/147/53": "scan", "A/148/100": "scan", "B/100/100": "scan"}
    for name, part in places.items():
        one = Patch(name, random.integers(0, 256, (48, 48), np.uint8), part=part, image=name[0])
        store.add("Ann", [Answer(one, CRATER)])
    merged, counts = merge_labels(store, data)
    assert set(merged.train.ids) - set(data.train.ids) == {"A/148/100", "B/100/100"}
    assert (counts.held_out, counts.overlapping, counts.added) == (1, 1, 2)
    assert "1 that overlap it" in counts.sentence()
    ids = np.array(["A/120/120", "A/200/200", *data.pool.ids[2:].tolist()])
    pool = dataclasses.replace(data.pool, ids=ids)
    left, _ = merge_labels(store, dataclasses.replace(data, pool=pool), order=["A/100/100"])
    assert set(left.pool.ids) == set(ids) - {"A/120/120"}


def test_export_is_the_original_layout_and_import_brings_it_back(
    tmp_path: Path, store: LabelStore
) -> None:
    for number in range(6):
        store.add(
            "Ann", [Answer(patch(number), (CRATER, NOT, UNSURE)[number % 3], at="2026-01-01")]
        )
    store.add("Bo", [Answer(patch(0), NOT)])
    store.add("Bo", [Answer(patch(1), CRATER)])
    store.undo("Bo")
    found = export_labels(store, tmp_path / "OUT")
    assert found == {"patches": 6, "labels": 3, "entries": 9}
    images, labels = (np.load(tmp_path / "OUT" / f"{name}.npy") for name in ("Xtrain1", "Ytrain1"))
    assert images.shape == (3, 64)
    assert images[:, 0].tolist() == [1, 3, 4]
    assert labels.tolist() == [0, 1, 0]
    assert labels.dtype == np.int32
    rows = {
        row["id"]: row
        for row in csv.DictReader((tmp_path / "OUT/labels.csv").read_text().splitlines())
    }
    assert rows["p:0"]["consensus"] == "disputed"
    assert rows["p:0"]["label"] == ""
    assert rows["p:2"]["consensus"] == "unsure"
    with pytest.raises(ExistsError):
        export_labels(store, tmp_path / "OUT")
    by_id = store.patches()
    with LabelStore(tmp_path / "copy.sqlite") as copy:
        table = tmp_path / "OUT" / "answers.csv"
        assert add_answers(copy, read_answers(table, by_id.__getitem__))[0] == 7
        assert add_answers(copy, read_answers(table, by_id.__getitem__))[0] == 0
        ours, theirs = Tally.of(store), Tally.of(copy)
        for name in ours.answered():
            assert {w: v.answer for w, v in ours.votes(name).items()} == {
                w: v.answer for w, v in theirs.votes(name).items()
            }
        assert labels_csv(copy, theirs).count("\n") == 7


KILLED_EXPORT = """
import os, signal, sys
from craters.core import files
from craters.labels import LabelStore, export_labels
files.write_text = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
export_labels(LabelStore(sys.argv[1]), sys.argv[2])
"""


def test_an_export_goes_through_after_one_that_was_killed(
    tmp_path: Path, store: LabelStore
) -> None:
    store.add("Ann", [Answer(patch(0), CRATER), Answer(patch(1), NOT)])
    done = subprocess.run(
        [sys.executable, "-c", KILLED_EXPORT, str(store.path), str(tmp_path / "new" / "OUT")],
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert [path.suffix for path in (tmp_path / "new").iterdir()] == [".partial"]
    assert export_labels(store, tmp_path / "new" / "OUT")["labels"] == 2
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["OUT"]


def test_a_copy_of_before_takes_back_no_correction(tmp_path: Path, store: LabelStore) -> None:
    patches = {f"p:{number}": patch(number) for number in range(4)}

    def says(number: int, word: str, day: int) -> None:
        store.add("Ann", [Answer(patch(number), word, at=f"2026-03-{day:02}T00:00:00+00:00")])

    for number in range(3):
        says(number, CRATER, 1)
    export_labels(store, tmp_path / "BEFORE")
    table = tmp_path / "BEFORE" / "answers.csv"
    assert add_answers(store, read_answers(table, patches.__getitem__))[0] == 0  # the store's own
    says(0, NOT, 5)
    store.undo("Ann")
    says(1, NOT, 5)
    says(3, NOT, 5)
    store.undo("Ann")
    assert add_answers(store, read_answers(table, patches.__getitem__))[0] == 0
    assert Tally.of(store).consensus_labels() == {"p:0": 1, "p:1": 0, "p:2": 1}
    other = tmp_path / "other.csv"
    other.write_text(
        "id,answer,reviewer,at\n"
        "p:0,not,Ann,2026-02-01\n"  # older than what she says now
        "p:1,crater,Ann,2026-03-09\n"  # newer
        "p:2,not,Ann,\n"  # of no known time: said now
        "p:3,crater,Ann,2026-02-01\n"  # nothing of hers stands
        "p:0,not,Bo,2026-02-01\n"
    )
    answers = read_answers(other, patches.__getitem__)
    assert add_answers(store, answers) == (4, 1)
    assert add_answers(store, answers) == (0, 1)
    votes = {name: Tally.of(store).votes(name)["Ann"].answer for name in patches}
    assert votes == {"p:0": CRATER, "p:1": CRATER, "p:2": NOT, "p:3": CRATER}


def test_tables_that_cannot_be_imported(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    for text, words in (
        ("a,b\n1,2\n", "expected id and answer"),
        ("id,answer\np:1,maybe\n", "row 2: answer is 'maybe', .* Which values mean crater"),
        ("id,label\np:1,1.0\n", "row 2: answer is '1.0', .* 1 or 0. Write 1."),
        ("id,label\np:1,False\n", "row 2: answer is 'False', .* 1 or 0. Write 0."),
        ("id,label\np:1,2\n", "row 2: answer is '2', .* Which values mean crater"),
        ("id,answer,seconds\np:1,crater,soon\n", "seconds is 'soon'"),
    ):
        table.write_text(text)
        with pytest.raises(DataError, match=words):
            read_answers(table, lambda _: patch(1), reviewer="Ann")
    table.write_bytes("id,answer\np:1,cratère\n".encode("latin-1"))
    with pytest.raises(DataError, match="not text in UTF-8.*Save it as CSV UTF-8"):
        read_answers(table, lambda _: patch(1), reviewer="Ann")
    table.write_text("id,answer\np:1,crater\n")
    with pytest.raises(ConfigError, match="reviewer"):
        read_answers(table, lambda _: patch(1))


@pytest.mark.parametrize("between", [",", ";", "\t"])
def test_tables_may_have_other_separators(tmp_path: Path, store: LabelStore, between: str) -> None:
    table = tmp_path / "t.csv"
    rows = [("id", "answer", "reviewer"), ("p:1", "crater", "Ann"), ("p:2", "not", "Ann")]
    table.write_text("".join(f"{between.join(row)}\n" for row in rows))
    number = {"p:1": 1, "p:2": 2}
    assert add_answers(store, read_answers(table, lambda name: patch(number[name]))) == (2, 0)
    assert [(one.patch, one.answer) for one in store.entries()] == [("p:1", CRATER), ("p:2", NOT)]


def test_a_failed_import_makes_no_store(tmp_path: Path, job_folder: Path) -> None:
    path, table = tmp_path / "L.sqlite", tmp_path / "bo.csv"
    run = CliRunner()
    args = ["labels", "import", str(path), str(table), "--target", str(job_folder), "--reviewer"]
    for text in ("id;label\nabsent:0;1\n", "id;label\nXtrain1:0;2\n", "a;b\n1;2\n"):
        table.write_text(text)
        assert run.invoke(app, [*args, "Bo"]).exit_code == 3
        assert not path.exists()
    table.write_text("id;label\nXtrain1:0;1\n")
    made = run.invoke(app, [*args, "Bo"])
    assert made.stdout == f"1 answers added to a new store: {path}\n"
    assert run.invoke(app, [*args, "Bo"]).stdout == "0 answers added.\n"
    again = run.invoke(app, [*args, "Cy", "--json"]).stdout
    assert json.loads(again) == {"added": 1, "older": 0, "new_store": False}


def test_the_verbs(tmp_path: Path, job_folder: Path) -> None:
    path, table = tmp_path / "L.sqlite", tmp_path / "bo.csv"
    table.write_text("id,label\nXtrain1_extra:0,1\nXtrain1_extra:1,0\nXtrain1:2,1\n")
    run = CliRunner()
    args = ["labels", "import", str(path), str(table), "--target", str(job_folder), "--reviewer"]
    assert "3 answers added" in run.invoke(app, [*args, "Bo"]).stdout
    assert "0 answers added" in run.invoke(app, [*args, "Bo"]).stdout
    assert "3 answers added" in run.invoke(app, [*args, "Cy"]).stdout
    printed = run.invoke(app, ["labels", "agree", str(path)]).stdout
    assert "Bo and Cy: n = 3, equal 100.0%, kappa shown from 20 common patches on" in printed
    found = json.loads(run.invoke(app, ["labels", "agree", str(path), "--json"]).stdout)
    assert found["pairs"][0]["kappa"] is None
    assert found["pairs"][0]["interval"] == [None, None]
    out = run.invoke(app, ["labels", "export", str(path), "--out", str(tmp_path / "E")])
    assert out.stdout.startswith("3 labels of 3 patches, 6 entries")
    merged = tmp_path / "MERGED"
    args = ["labels", "merge", str(path), str(job_folder), "--out", str(merged)]
    assert "Labels of reviewers" in run.invoke(app, args).stdout
    assert read_job_data(merged).train.labels[2] == 1
    assert run.invoke(app, args).exit_code == 6
    lost = run.invoke(app, ["labels", "agree", str(tmp_path / "absent.sqlite")])
    assert lost.exit_code == 3
