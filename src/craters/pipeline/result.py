"""Result of a job: its trained networks with their metrics, and its predictions."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from craters.data import JobData, SymmetryReport
from craters.evaluation import Metrics, Scored
from craters.models import Network
from craters.semi_supervised import Learned, pseudo_labels
from craters.settings import JobSettings
from craters.training import TrainingSet, TrainState, predict_logits, sigmoid

_TITLES = {
    "initial": "first stage",
    "final": "last stage",
    "final_clean": "last stage, protocol clean",
    "measured": "evaluated network",
}


def stage_title(name: str) -> str:
    """Return the title of a stage for text and figures: in words, or its method."""
    return _TITLES.get(name, name)


@dataclasses.dataclass(frozen=True)
class Stage:
    """One training stage: its network, data and validation metrics.

    Parameters
    ----------
    name : str
        "initial", "final", "final_clean" (with the original protocol only), or the method.
    network : Network
    state : TrainState
        History, selected epoch and restarts.
    train, validation : TrainingSet
    scored : Scored
        The validation patches with their logits. Probabilities of a last stage are
        temperature-scaled, like predictions. Groups are None if there are pseudo-labels.
    metrics : Metrics
        Metrics of `scored`.
    is_cross_fitted : bool
        Whether validation is all human labels, each predicted out of fold; `network`, `state` and
        `train` are then the first fold's.
    """

    name: str
    network: Network
    state: TrainState
    train: TrainingSet
    validation: TrainingSet
    scored: Scored
    metrics: Metrics
    is_cross_fitted: bool = False

    @property
    def n_pseudo(self) -> int:
        """Number of pseudo-labels among the validation labels."""
        return int((self.validation.origin == pseudo_labels.PSEUDO).sum())


@dataclasses.dataclass(frozen=True)
class JobResult:
    """Complete result of a job, before anything is written.

    Parameters
    ----------
    config : JobSettings
    data : JobData
    split_rule, final_split_rule : str
        How validation was drawn for the first and the last stage.
    stages : list of Stage
        In the order of training: "initial", "final" and, under the original protocol,
        "final_clean"; or "supervised" alone; or "supervised" and the final method.
    network : Network
        The final network, which predicts the test set. Except for the method "original" it was
        trained on all human labels, so the validation metrics are those of other networks.
    temperature : float
        Fitted on the validation patches of `final`; 1 for the original network.
    decision_threshold : float
        Of the last stage and of predictions: given, or chosen on validation for `config.aim`.
    symmetry : SymmetryReport
    labeled : TrainingSet
        All labels available to the last stage: human, then pseudo.
    test_probability : ndarray, float32
        Probability of "with crater" of the test set, by `network`.
    test_predicted : ndarray, int32
    test_scored : Scored or None
        The test set, if its labels are known.
    learned : Learned or None
        Result of the semi-supervised methods, and the choice of `auto`.
    """

    config: JobSettings
    data: JobData
    split_rule: str
    final_split_rule: str
    stages: list[Stage]
    network: Network
    temperature: float
    decision_threshold: float
    symmetry: SymmetryReport
    labeled: TrainingSet
    test_probability: np.ndarray
    test_predicted: np.ndarray
    test_scored: Scored | None
    learned: Learned | None = None

    @functools.cached_property
    def pool_probability(self) -> np.ndarray:
        """Probability of "with crater" of the pool, by the first stage's network."""
        return sigmoid(predict_logits(self.stages[0].network, self.data.pool.images))

    @property
    def initial(self) -> Stage:
        """The first stage."""
        return self.stages[0]

    @property
    def final(self) -> Stage:
        """The stage whose validation metrics are the headline."""
        return self.stages[min(1, len(self.stages) - 1)]

    @property
    def final_clean(self) -> Stage | None:
        """With the original protocol, the last stage repeated with the clean protocol."""
        return self.stages[2] if len(self.stages) > 2 else None

    @property
    def n_pseudo(self) -> int:
        """Number of pseudo-labels that were added."""
        return int((self.labeled.origin == pseudo_labels.PSEUDO).sum())
