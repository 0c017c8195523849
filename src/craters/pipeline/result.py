"""What a job found: its trained networks with their figures, and its predictions."""

from __future__ import annotations

import dataclasses

import numpy as np

from craters.data import JobData, SymmetryReport
from craters.evaluation import Metrics, Scored
from craters.models import Network
from craters.semi_supervised import Learned, pseudo_labels
from craters.settings import JobSettings
from craters.training import TrainingSet, TrainState


@dataclasses.dataclass(frozen=True)
class Phase:
    """One trained network with what it was chosen by.

    Parameters
    ----------
    name : str
        "initial", "final", "final_clean" beside the original protocol's, or the method.
    network : Network
    state : TrainState
        History, kept epoch and restarts.
    train, validation : TrainingSet
    scored : Scored
        The validation patches with their logits; probability of a last phase is after its
        temperature, as predictions are. Groups are left out where pseudo-labels are among them.
    metrics : Metrics
        Of `scored`.
    is_cross_fitted : bool
        Every human label is validation, predicted by a network that was trained without its fold;
        `network`, `state` and `train` are then the first fold's.
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
        """Pseudo-labels among the validation labels."""
        return int((self.validation.origin == pseudo_labels.PSEUDO).sum())


@dataclasses.dataclass(frozen=True)
class JobResult:
    """Everything that a job found; nothing of it is written yet.

    Parameters
    ----------
    config : JobSettings
    data : JobData
    split_rule, final_split_rule : str
        How validation was drawn for the first and the last phase.
    phases : list of Phase
        In the order of training: "initial", "final" and, under the original protocol,
        "final_clean"; or "supervised" alone; or "supervised" and the method that was kept.
    network : Network
        Predicts the test set and is kept as the model. But for the method "original" it was
        trained on all human labels, so no figure here is its own.
    temperature : float
        Fitted on the validation patches of `final`; 1 for the original network, which is left as
        its script left it.
    decision_threshold : float
        Of the last phase and of predictions: given, or chosen on validation for `config.aim`.
    symmetry : SymmetryReport
    labeled : TrainingSet
        Every label that the last phase may have used: human, then pseudo.
    pool_probability, test_probability : ndarray, float32
        Of "with crater": the pool by the first phase's network, the test set by `network`.
    test_predicted : ndarray, int32
    test_scored : Scored or None
        The test set, where its truth is at hand.
    learned : Learned or None
        What methods that learn from the pool found on the way, and what `auto` chose.
    """

    config: JobSettings
    data: JobData
    split_rule: str
    final_split_rule: str
    phases: list[Phase]
    network: Network
    temperature: float
    decision_threshold: float
    symmetry: SymmetryReport
    labeled: TrainingSet
    pool_probability: np.ndarray
    test_probability: np.ndarray
    test_predicted: np.ndarray
    test_scored: Scored | None
    learned: Learned | None = None

    @property
    def initial(self) -> Phase:
        """The first phase."""
        return self.phases[0]

    @property
    def final(self) -> Phase:
        """The phase whose validation figures are the headline."""
        return self.phases[min(1, len(self.phases) - 1)]

    @property
    def final_clean(self) -> Phase | None:
        """Under the original protocol, the last phase as the clean protocol does it."""
        return self.phases[2] if len(self.phases) > 2 else None

    @property
    def n_pseudo(self) -> int:
        """Pseudo-labels that were added."""
        return int((self.labeled.origin == pseudo_labels.PSEUDO).sum())
