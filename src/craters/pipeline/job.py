"""Settings, data and trainer of a job: evaluate its stages and assemble its result."""

from __future__ import annotations

import dataclasses

import numpy as np

from craters.core import Progress
from craters.data import JobData, SymmetryReport
from craters.evaluation import (
    LEAST_PATCHES,
    Scored,
    calibration,
    decide,
    fit_temperature,
    measure,
    scores,
)
from craters.models import Network
from craters.pipeline.result import JobResult, Stage
from craters.semi_supervised import CrossFit, Learned, pseudo_labels
from craters.settings import JobSettings
from craters.training import (
    Trainer,
    TrainingRun,
    TrainingSet,
    TrainState,
    human_only,
    predict_logits,
    sigmoid,
)

ONE_SIDED = 0.02  # share of the rarer prediction below which a network is called one-sided
LOOK_FIRST = (
    "Look at the images and labels (craters audit): another --seed helps only where the images "
    "show what the labels say."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """Settings, data and trainer shared by all stages of a job."""

    config: JobSettings
    data: JobData
    symmetry: SymmetryReport
    trainer: Trainer
    progress: Progress

    def evaluate(self, run: TrainingRun, network: Network, state: TrainState) -> Stage:
        """Evaluate the network of a training run on its validation patches."""
        assert run.validation is not None
        config = self.config
        scored = self._score(
            run.validation,
            predict_logits(network, run.validation.images),
            config.threshold_initial if run.name == "initial" else config.threshold_final,
        )
        self._warn_if_one_sided(run.name, scored)
        return Stage(
            name=run.name,
            network=network,
            state=state,
            train=run.train,
            validation=run.validation,
            scored=scored,
            metrics=measure(scored),
        )

    def evaluate_cross_fit(self, cross_fit: CrossFit) -> Stage:
        """Evaluate a method on its out-of-fold predictions of all human labels."""
        network, state = cross_fit.first
        human = human_only(self.data.train)
        scored = self._score(human, cross_fit.logits, self.config.threshold_final)
        self._warn_if_one_sided(cross_fit.method, scored)
        return Stage(
            name=cross_fit.method,
            network=network,
            state=state,
            train=cross_fit.runs[0].train,
            validation=human,
            scored=scored,
            metrics=measure(scored),
            is_cross_fitted=True,
        )

    def assemble(
        self,
        stages: list[Stage],
        network: Network,
        labeled: TrainingSet,
        *,
        split_rule: str,
        final_split_rule: str,
        learned: Learned | None = None,
    ) -> JobResult:
        """Fit the temperature, set the threshold, predict the test set.

        Parameters
        ----------
        stages : list of Stage
            As evaluated: before the temperature, at the thresholds of the settings.
        network : Network
            The final network.
        labeled, split_rule, final_split_rule, learned
            As in `JobResult`.
        """
        config, data = self.config, self.data
        first_of_last = min(1, len(stages) - 1)
        temperature = self._fit_temperature(stages[first_of_last])
        self._warn_if_at_limit(temperature)
        threshold = self._choose_threshold(stages[first_of_last], temperature)
        last = [
            _as_predicted(stage, self._fit_temperature(stage), threshold)
            for stage in stages[first_of_last:]
        ]
        test = data.test
        test_probability = sigmoid(predict_logits(network, test.images) / temperature)
        test_scored = None
        if len(test) and (test.labels >= 0).all():
            test_scored = Scored(
                labels=test.labels,
                probability=test_probability,
                decision_threshold=threshold,
                groups=test.groups,
            )
        return JobResult(
            config=config,
            data=data,
            split_rule=split_rule,
            final_split_rule=final_split_rule,
            stages=[*stages[:first_of_last], *last],
            network=network,
            temperature=temperature,
            decision_threshold=threshold,
            symmetry=self.symmetry,
            labeled=labeled,
            test_probability=test_probability,
            test_predicted=decide(test_probability, threshold),
            test_scored=test_scored,
            learned=learned,
        )

    def _score(self, validation: TrainingSet, logits: np.ndarray, threshold: float) -> Scored:
        is_human = bool((validation.origin != pseudo_labels.PSEUDO).all())
        return Scored(
            labels=validation.labels,
            probability=sigmoid(logits),
            decision_threshold=threshold,
            groups=scores.groups_of(validation.ids, self.data.train) if is_human else None,
            logits=logits,
        )

    def _warn_if_one_sided(self, name: str, scored: Scored) -> None:
        """Warn about a network that predicts the same class for nearly every patch."""
        share = float(scored.called.mean())
        if min(share, 1 - share) < ONE_SIDED:
            word = "without crater" if share < 0.5 else "with crater"
            self.progress.warn(
                f"stage {name}: the network predicts {word!r} for {max(share, 1 - share):.0%} of "
                f"the validation patches; it has learned little. {LOOK_FIRST}"
            )

    def _fit_temperature(self, stage: Stage) -> float:
        """Fit the temperature; 1 for the original network or too few validation patches."""
        scored = stage.scored
        is_fitted = self.config.network != "original" and len(scored) >= LEAST_PATCHES
        if not (is_fitted and scored.has_both_classes):
            return 1.0
        assert scored.logits is not None
        return fit_temperature(scored.labels, scored.logits)

    def _warn_if_at_limit(self, temperature: float) -> None:
        """Warn about a temperature at a limit of its fit."""
        if calibration.is_at_limit(temperature):
            self.progress.warn(
                f"the fitted temperature {temperature:.3g} is at a limit: no temperature makes the "
                f"probabilities fit the labels, so they mean nothing. {LOOK_FIRST}"
            )

    def _choose_threshold(self, stage: Stage, temperature: float) -> float:
        """Return the decision threshold: the given one, or the best for the objective."""
        given, objective = self.config.threshold_final, self.config.aim
        scored = _as_predicted(stage, temperature, given).scored
        threshold = scores.decision_threshold(scored, objective)
        if objective is not None:
            self.progress.say(f"Decision threshold {threshold:.4g}, chosen for {objective}.")
        return threshold


def _as_predicted(stage: Stage, temperature: float, threshold: float) -> Stage:
    """Evaluate a stage as predictions are made: temperature-scaled, at the decision threshold."""
    assert stage.scored.logits is not None
    scored = dataclasses.replace(
        stage.scored,
        probability=sigmoid(stage.scored.logits / temperature),
        decision_threshold=threshold,
    )
    return dataclasses.replace(stage, scored=scored, metrics=measure(scored))
