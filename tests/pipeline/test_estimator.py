from __future__ import annotations

import dataclasses
import inspect
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

from craters import CraterClassifier
from craters.data import PixelRecord, make_patch_set
from craters.errors import ConfigError, CratersError, DataError
from craters.models import Classifier
from craters.pipeline import stages
from craters.settings import JobSettings, declared
from craters.training import RunConfig, predict_logits, trainer
from craters.training.recipes import modern_recipe
from tests.conftest import simple_patches

TABLES = "feeds a table of a few columns, which is no square patch; passes with tables as images"


def quick(**changes: object) -> CraterClassifier:
    """Make an estimator whose network is small and quickly trained."""
    values = {"network": "original", "initial_epochs": 6, "initial_lr": 0.006, "batch_size": 8,
              "n_jobs": 1}  # fmt: skip
    return CraterClassifier(**(values | changes))


@pytest.fixture(scope="module")
def patches() -> tuple[np.ndarray, np.ndarray]:
    return simple_patches(80, 1, 0.5, side=28)


@pytest.fixture(scope="module")
def fitted(patches) -> CraterClassifier:
    return quick().fit(*patches)


# --- scikit-learn's own checks -----------------------------------------------------------------

# These fit to tables of 1 to 10 columns. `OfTables` below passes them.
ON_TABLES = [
    "check_fit_score_takes_y", "check_estimators_overwrite_params",
    "check_dont_overwrite_parameters", "check_estimators_fit_returns_self",
    "check_readonly_memmap_input", "check_n_features_in_after_fitting",
    "check_positive_only_tag_during_fit", "check_estimators_dtypes", "check_dtype_object",
    "check_pipeline_consistency", "check_estimators_nan_inf", "check_estimators_pickle",
    "check_f_contiguous_array_estimator", "check_classifier_data_not_an_array",
    "check_classifiers_classes", "check_classifiers_train", "check_supervised_y_2d",
    "check_decision_proba_consistency", "check_methods_sample_order_invariance",
    "check_methods_subset_invariance", "check_fit2d_1feature", "check_dict_unchanged",
    "check_fit_idempotent", "check_fit_check_is_fitted", "check_n_features_in",
    "check_fit2d_predict1d",
]  # fmt: skip


def outcomes(estimator: CraterClassifier, expected: dict[str, str]) -> dict[str, set[str]]:
    """Run scikit-learn's checks; return the names of each outcome."""
    found: dict[str, set[str]] = {}
    results = check_estimator(
        estimator, expected_failed_checks=expected, on_fail=None, on_skip=None
    )
    for result in results:
        found.setdefault(result["status"], set()).add(result["check_name"])
    return found


def test_settings_have_the_defaults_of_a_run() -> None:
    mine = inspect.signature(CraterClassifier).parameters
    defaults = {each.name: each.default for each in declared(JobSettings)}
    shared = mine.keys() & defaults.keys()
    assert mine.keys() - shared == {"decision_threshold", "random_state", "n_jobs"}
    assert {name: mine[name].default for name in shared} == {
        name: defaults[name] for name in shared
    }
    assert mine["decision_threshold"].default == defaults["threshold_final"]
    assert mine["random_state"].default == defaults["seed"]
    documented = CraterClassifier.__doc__.partition("Attributes")[0]
    for name in mine:
        assert re.search(rf"\b{name}\b", documented), name


def test_scikit_learns_checks_pass_but_those_on_tables() -> None:
    found = outcomes(quick(initial_epochs=1), dict.fromkeys(ON_TABLES, TABLES))
    assert found.get("failed", set()) == set()
    assert found["xfail"] == set(ON_TABLES)  # none is named that would pass
    assert found.get("skipped", set()) <= {"check_array_api_input"}
    assert len(found["passed"]) >= 20


class OfTables(CraterClassifier):
    """The estimator on tables: each row is painted as a patch, a stripe a column.

    The upper half rises with the numbers; the lower half tells them apart however large they are.
    """

    side = 16

    def _pixels(self, X, **first: bool) -> np.ndarray:
        numbers = np.asarray(X, np.float64)
        columns = np.linspace(0, numbers.shape[1], self.side, endpoint=False).astype(int)
        stripes = np.repeat(numbers[:, None, columns], self.side, axis=1)
        stripes[:, : self.side // 2] = 1 / (1 + np.exp(-stripes[:, : self.side // 2] / 2))
        stripes[:, self.side // 2 :] = 0.5 + 0.5 * np.sin(stripes[:, self.side // 2 :])
        stripes[:, 0] = np.linspace(0, 1, self.side)  # so that no patch is constant
        return super()._pixels((255 * stripes).astype(np.uint8), **first)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = False
        return tags


@pytest.mark.slow
def test_the_others_pass_too_where_tables_are_painted_as_patches() -> None:
    table = OfTables("original", initial_epochs=2, initial_lr=0.006, batch_size=8, n_jobs=1)
    expected = {
        "check_classifiers_classes": "-1 is a class there; here it marks unlabeled rows",
        "check_fit2d_1feature": "10 rows are too few to hold some out and choose an epoch by them",
    }
    at_times = {"check_methods_sample_order_invariance": "asks for 1e-9 of float32 sums"}
    found = outcomes(table, expected | at_times)
    assert found.get("failed", set()) == set()
    assert found["xfail"] - set(at_times) == set(expected)
    skipped = found.get("skipped", set()) & {"check_classifier_data_not_an_array"}  # needs pandas
    assert set(ON_TABLES) - set(expected) - set(at_times) <= found["passed"] | skipped


# --- what it learns and says -------------------------------------------------------------------


def test_it_trains_the_network_that_a_run_keeps(patches, fitted: CraterClassifier) -> None:
    images, labels = patches
    config = RunConfig(
        Path(), Path(), method="supervised", network="original", initial_epochs=6,
        initial_lr=0.006, batch_size=8, threads=1, seed=0,
    )  # fmt: skip
    labeled = make_patch_set(images, labels)
    network = stages.kept_network(labeled, labeled.take(np.arange(0)), config)
    expected = predict_logits(network, images)
    assert np.array_equal(fitted.decision_function(images), expected)
    assert np.ptp(expected) > 0.5


def test_probabilities_labels_and_score_belong_together(patches, fitted: CraterClassifier) -> None:
    images, labels = patches
    probability = fitted.predict_proba(images)
    assert np.abs(probability.sum(1) - 1).max() < 1e-12
    logits = fitted.decision_function(images).astype(np.float64)
    assert np.abs(probability[:, 1] - 1 / (1 + np.exp(-logits))).max() < 1e-6
    predicted = fitted.predict(images)
    assert predicted.tolist() == (probability[:, 1] >= 0.5).astype(int).tolist()
    assert fitted.score(images, labels) == (predicted == labels).mean() > 0.7
    low = float(np.sort(probability[:, 1])[len(labels) // 4])
    stricter = clone(fitted).set_params(decision_threshold=low).fit(images, labels)
    assert stricter.predict(images).sum() == 80 - len(labels) // 4


def test_texts_are_labels_too(patches, fitted: CraterClassifier) -> None:
    images, labels = patches
    names = np.array(["bare", "crater"])
    model = quick().fit(images, names[labels])
    assert model.classes_.tolist() == ["bare", "crater"]
    assert model.predict(images).tolist() == names[fitted.predict(images)].tolist()


def test_rows_without_a_label_are_the_pool(patches, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = patches
    y = labels.copy()
    y[50:] = -1
    seen = []

    def watch(labeled, pool, config):
        seen.append((labeled, pool))
        return stages.kept_network(labeled, pool, config)

    monkeypatch.setattr("craters.pipeline.estimator.kept_network", watch)
    groups = np.array([f"image {row // 4}" for row in range(80)])
    order = np.random.default_rng(0).permutation(80)
    model = quick(initial_epochs=1).fit(images[order], y[order], groups=groups[order])
    labeled, pool = seen[0]
    assert np.array_equal(labeled.images, images[order][y[order] >= 0])
    assert np.array_equal(labeled.labels, y[order][y[order] >= 0])
    assert labeled.groups.tolist() == groups[order][y[order] >= 0].tolist()
    assert np.array_equal(pool.images, images[order][y[order] < 0])
    assert set(pool.labels) == {-1}
    assert (model.n_labeled_, model.n_unlabeled_) == (50, 30)
    assert set(model.predict(images)) <= {0, 1}


@pytest.mark.parametrize(
    ("network", "method", "unlabeled", "expected"),
    [
        ("compact", "auto", 0, "supervised"),
        ("compact", "auto", 10, "auto"),
        ("original", "auto", 10, "supervised"),
        ("compact", "supervised", 10, "supervised"),
        ("original", "original", 0, "original"),
    ],
)
def test_auto_learns_from_unlabeled_rows_where_there_are_any(
    patches, monkeypatch, network: str, method: str, unlabeled: int, expected: str
) -> None:
    images, labels = patches
    y = labels.copy()
    y[:unlabeled] = -1
    seen = []
    monkeypatch.setattr(
        "craters.pipeline.estimator.kept_network", lambda *args: seen.append(args[2].method)
    )
    CraterClassifier(network, method=method, start="random").fit(images, y)
    assert seen == [expected]


def test_no_unlabeled_row_is_plain_supervised_and_the_method_original_uses_them(patches) -> None:
    images, labels = patches
    y = labels.copy()
    y[50:] = -1
    plain, alone = quick().fit(images, y), quick().fit(images[:50], labels[:50])
    assert np.array_equal(plain.decision_function(images), alone.decision_function(images))
    settings = {"method": "original", "pseudo_threshold": 0.6, "final_epochs": 4, "final_lr": 0.003}
    taught = quick(**settings).fit(images, y)
    assert not np.array_equal(taught.decision_function(images), alone.decision_function(images))
    nothing = quick(**settings | {"pseudo_threshold": 0.0})
    assert np.array_equal(
        nothing.fit(images, y).decision_function(images),
        clone(nothing).fit(images[:50], labels[:50]).decision_function(images),
    )


def test_the_score_leaves_unlabeled_rows_out(patches, fitted: CraterClassifier) -> None:
    images, labels = patches
    y = labels.copy()
    y[::3] = -1
    kept = y >= 0
    assert fitted.score(images, y) == fitted.score(images[kept], labels[kept])
    weight = np.arange(80.0)
    assert fitted.score(images, y, weight) == pytest.approx(
        np.average(fitted.predict(images)[kept] == labels[kept], weights=weight[kept])
    )
    with pytest.raises(ValueError, match="found no labeled row"):
        fitted.score(images, np.full(80, -1))


def test_groups_are_kept_whole_where_rows_are_held_out(patches, monkeypatch) -> None:
    images, labels = patches
    groups = np.repeat(np.arange(20), 4)
    splits = []
    draw = stages.draw_split
    monkeypatch.setattr(
        stages, "draw_split", lambda *args: splits.append(draw(*args)) or splits[-1]
    )
    quick(initial_epochs=1).fit(images, labels, groups=groups)
    held_out, used = groups[splits[0].validation], groups[splits[0].train]
    assert len(held_out) > 0
    assert not set(held_out) & set(used)


# --- layouts and ranges ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda images: images.reshape(len(images), -1),
        lambda images: images[..., None],
        lambda images: images.astype(np.float32),
        lambda images: images / 255,
        lambda images: images.astype(np.uint16) * 257,
        lambda images: images.astype(np.int64),
    ],
    ids=["rows", "channel", "float 0..255", "float 0..1", "16-bit", "int64"],
)
def test_layouts_and_ranges_are_one(patches, fitted: CraterClassifier, change) -> None:
    images, labels = patches
    changed = change(images)
    again = quick().fit(changed, labels)
    assert np.array_equal(again.decision_function(changed), fitted.decision_function(images))
    assert np.array_equal(
        again.decision_function(changed[3:4]), fitted.decision_function(images[3:4])
    )
    dark = change(images // 255)  # nearly all 0: its range alone would tell nothing
    assert np.array_equal(again.decision_function(dark), fitted.decision_function(images // 255))


def test_another_range_or_size_than_in_fit_is_refused(patches) -> None:
    images, labels = patches
    model = quick(initial_epochs=1).fit(images.astype(float), labels)
    assert model._training_pixels == PixelRecord(dtype="float64").measured(images)
    with pytest.raises(ValueError, match=r"pixels range from 0.* to .*, expected 0..255 as in fit"):
        model.predict(images / 255)
    with pytest.raises(ValueError, match=r"pixels range from 0 to 510, expected 0..255 as in fit"):
        model.predict(510.0 * (images == images.max()))
    rows = quick(initial_epochs=1).fit(images.reshape(80, -1), labels)
    with pytest.raises(ValueError, match="784 features"):
        rows.predict(np.zeros((3, 900)))
    rows.n_features_in_ = 900
    with pytest.raises(DataError, match="found patches of 30 x 30 pixels, expected 28 x 28"):
        rows.predict(np.zeros((3, 900), np.uint8))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((9, 28, 28)), np.arange(9) % 2, "all 9 images are constant"),
        (np.ones((9, 28, 30)), np.arange(9) % 2, r"X: found shape \(9, 28, 30\)"),
        (-np.ones((9, 28, 28)), np.arange(9) % 2, "pixels range from -1 to -1"),
        (np.ones((9, 28, 28)), np.arange(9) % 3, "Only binary classification is supported"),
        (np.ones((9, 28, 28)), np.ones(9), "found 1 class among 9 labeled rows"),
        (np.ones((9, 28, 28)), -np.ones(9), "found 0 class among 0 labeled rows"),
        (np.full((9, 28, 28), np.nan), np.arange(9) % 2, "contains NaN"),
    ],
    ids=range(7),
)
def test_what_cannot_be_used_is_a_value_error(x, y, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quick().fit(x, y)


def test_wrong_settings_and_groups_are_named(patches) -> None:
    images, labels = patches
    with pytest.raises(ConfigError, match="network is 'resnet', expected"):
        quick(network="resnet").fit(images, labels)
    with pytest.raises(ConfigError, match="'circles' makes a detector for images"):
        quick(network="circles").fit(images, labels)
    with pytest.raises(DataError, match="groups are .* expected one name or number for each of 80"):
        quick().fit(images, labels, groups=np.arange(3))
    with pytest.raises(NotFittedError):
        quick().predict(images)


@pytest.mark.parametrize("side", [28, 64, 128])
def test_sizes_from_28_to_128(side: int) -> None:
    images, labels = simple_patches(12, 4, 0.5, side=side)
    model = quick(initial_epochs=1).fit(images, labels)
    assert model.side_ == side
    assert model.predict_proba(images).shape == (12, 2)


# --- with scikit-learn's tools -----------------------------------------------------------------


def test_seeds(patches) -> None:
    images, labels = patches
    logits = [
        quick(initial_epochs=2, random_state=state).fit(images, labels).decision_function(images)
        for state in (3, 3, 4, np.random.RandomState(3), np.random.RandomState(3))
    ]
    assert np.array_equal(logits[0], logits[1])
    assert not np.array_equal(logits[0], logits[2])
    assert np.array_equal(logits[3], logits[4])


def test_clone_and_pickle(patches, fitted: CraterClassifier) -> None:
    images, _ = patches
    fresh = clone(fitted)
    assert fresh.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        fresh.predict(images)
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.decision_function(images), fitted.decision_function(images))


def test_it_works_in_a_pipeline_and_a_cross_validation(patches) -> None:
    images, labels = patches
    y = labels.copy()
    y[:10] = -1
    darker = FunctionTransformer(lambda x: x // 2)
    pipeline = make_pipeline(darker, quick(random_state=2))
    direct = quick(random_state=2).fit(images // 2, y)
    groups = np.repeat(np.arange(20), 4)
    pipeline.fit(images, y, craterclassifier__groups=groups)
    grouped = quick(random_state=2).fit(images // 2, y, groups=groups)
    assert np.array_equal(pipeline.predict_proba(images), grouped.predict_proba(images // 2))
    assert not np.array_equal(pipeline.predict_proba(images), direct.predict_proba(images // 2))
    folds = GroupKFold(2)
    found = cross_val_score(quick(), images, y, cv=folds, groups=groups)
    expected = [
        quick().fit(images[train], y[train]).score(images[test], y[test])
        for train, test in folds.split(images, y, groups)
    ]
    assert found.tolist() == expected
    guess = cross_val_score(DummyClassifier(), images, labels, cv=folds, groups=groups)
    assert found.mean() > guess.mean()


def test_it_works_in_a_grid_search(patches) -> None:
    images, labels = patches
    grid = GridSearchCV(quick(initial_epochs=12), {"initial_lr": [1e-6, 0.006]}, cv=2)
    grid.fit(images, labels)
    assert grid.best_params_ == {"initial_lr": 0.006}
    assert grid.score(images, labels) == grid.best_estimator_.score(images, labels)


def test_the_model_folder_says_the_same(patches, fitted: CraterClassifier, tmp_path: Path) -> None:
    images, _ = patches
    model = Classifier.load(fitted.save_model(tmp_path / "model", resolution=100.0))
    assert np.abs(model.predict_proba(images) - fitted.predict_proba(images)[:, 1]).max() < 1e-6
    assert model.description.class_names == ("without crater", "with crater")
    assert (model.description.stride, model.description.resolution) == (6, 100.0)
    assert model.description.pixels == PixelRecord().measured(images)
    with pytest.raises(CratersError, match="exists already"):
        fitted.save_model(tmp_path / "model")


def test_the_default_is_compact_with_its_own_recipe(patches, monkeypatch) -> None:
    images, labels = patches
    given = []

    def short(n: int, side: int, **rest: object):
        given.append((n, side))
        return dataclasses.replace(modern_recipe(n, side, **rest), epochs=2)

    monkeypatch.setattr(trainer, "modern_recipe", short)
    model = CraterClassifier().fit(images, labels)
    assert model.network_.name == "compact"
    assert set(given) == {(53, 28), (54, 28), (80, 28)}  # three folds, and all rows


# --- labels of other forms ---------------------------------------------------------------------


def test_labels_of_other_forms_are_explained(patches) -> None:
    images, labels = patches
    with pytest.raises(ValueError, match=r"shape \(80, 2\), expected \(N,\). .* column means cra"):
        quick().fit(images, np.stack([1 - labels, labels], 1))
    with pytest.raises(DataError, match=r"-1 marks unlabeled .* give \(y == 1\).astype\('int8'\)"):
        quick().fit(images, np.where(labels == 1, 1, -1))
    with pytest.raises(DataError, match=r"found '-1' as text, .* y.astype\(int\)"):
        quick().fit(images, np.array(["0", "1", "-1"])[np.where(np.arange(80) < 9, -1, labels)])


def test_a_model_folder_does_not_swap_named_classes(patches, tmp_path: Path) -> None:
    images, labels = patches
    model = quick(initial_epochs=1).fit(images, np.where(labels == 1, "crater", "none"))
    assert model.classes_.tolist() == ["crater", "none"]
    with pytest.raises(DataError, match=r"the second class .*: \(y == 'crater'\).astype\('int8'\)"):
        model.save_model(tmp_path / "MODEL")
    assert not (tmp_path / "MODEL").exists()
    model = quick(initial_epochs=1).fit(images, np.where(labels == 1, "with crater", "none"))
    assert Classifier.load(model.save_model(tmp_path / "MODEL")).description.class_names == (
        "none",
        "with crater",
    )
