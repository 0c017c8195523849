"""The settings of the main job, and the parts of them that need no folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from craters.errors import ConfigError
from craters.settings.declaration import check_settings, setting

Protocol = Literal["clean", "original"]
Method = Literal[
    "auto", "supervised", "original", "pseudo-label", "self-training", "fixmatch", "distillation"
]
NetworkName = Literal["original", "compact", "dense"]
SymmetryChoice = Literal["auto", "none", "up-down", "left-right", "flips", "dihedral"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """What every training of a job needs to know; `JobSettings` declares the fields."""

    network: NetworkName
    members: int
    epochs: int
    initial_lr: float
    final_lr: float
    initial_epochs: int
    final_epochs: int
    batch_size: int
    seed: int
    threads: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobSettings:
    """Everything that the results of the main job depend on beside its data; no folders.

    The page [Settings](settings.md) describes every field.
    """

    method: Method = setting(
        "auto",
        help="auto: what suits the labels; supervised, original, pseudo-label, self-training, "
        "fixmatch, distillation.",
        meaning="supervised: train on the human labels, and once more on all of them, validation "
        "included. original: train, add pseudo-labels 'without crater', train again. "
        "pseudo-label: train, add what the network is sure of, of both classes, in the class "
        "shares of the labels, train again (Lee 2013; Wang et al. 2017, arXiv 1701.03551). "
        "self-training, fixmatch and distillation learn from the [unlabeled "
        "patches](unlabeled.md) and are compared with supervised in folds of the labels. auto "
        "tries those that suit the number of labels and keeps supervised where no gain is likely.",
    )
    network: NetworkName = setting(
        "compact",
        help="compact; dense: scans images exactly; original.",
        meaning="compact: the small residual network. dense: the one that scans whole images "
        "exactly, taught by three compact networks on labels and unlabeled patches. original: the "
        "original script's network with its recipe, whose epochs, rates and batch size are "
        "settings here. See [networks](networks.md).",
    )
    members: int = setting(
        1,
        help="Networks of an ensemble.",
        meaning="Networks of an ensemble, whose logits are averaged.",
        least=1,
        most=20,
    )
    symmetry: SymmetryChoice = setting(
        "auto",
        help="Random flips: auto, none, up-down, left-right, flips, dihedral.",
        meaning="Random flips and rotations in the training of compact and dense. auto measures "
        "which keep the direction of the light.",
    )
    protocol: Protocol = setting(
        "clean",
        help="clean: one validation set, human labels; original: split again.",
        meaning="clean: validation is drawn once, from human labels, for both phases. original: "
        "the last phase splits again after pseudo-labels were merged, as the original script did.",
    )
    epochs: int = setting(
        0,
        help="Of compact, dense; 0: by labels.",
        meaning="Epochs of every training but those of the network original. 0 takes what the "
        "recipe takes for the number of labels. A few give a quick look.",
        least=0,
    )
    initial_lr: float = setting(
        0.0003,
        help="Step, first phase.",
        meaning="Step size of Adam in the first phase, for the network original.",
        above=0,
        most=1,
    )
    final_lr: float = setting(
        0.0004,
        help="Step, last phase.",
        meaning="Step size of Adam in the last phase, for the network original.",
        above=0,
        most=1,
    )
    initial_epochs: int = setting(
        75,
        help="Epochs, first phase.",
        meaning="Epochs of the first phase, for the network original.",
        least=1,
    )
    final_epochs: int = setting(
        50,
        help="Epochs, last phase.",
        meaning="Epochs of the last phase, for the network original.",
        least=1,
    )
    threshold_initial: float = setting(
        0.5,
        help="Decision threshold, first phase.",
        meaning="Decision threshold of the first phase: a patch is 'with crater' where its "
        "probability reaches it.",
        least=0,
        most=1,
    )
    threshold_final: float = setting(
        0.5,
        help="Decision threshold, last phase and predictions.",
        least=0,
        most=1,
    )
    aim: str | None = setting(
        None,
        help="Choose that threshold on validation: macro_f1, 'recall>=0.95', 'precision>=0.9'.",
        meaning="What the decision threshold of the last phase and of predictions is chosen for, "
        "on validation. It takes the place of threshold_final.",
        # `evaluation.parse_aim` takes it apart.
        pattern=r"macro_f1|\s*(recall|precision)\s*>=\s*(0*\.\d*[1-9]\d*|0*1(\.0+)?)\s*",
        expected='"macro_f1", "recall>=0.95" or "precision>=0.9" (any share above 0, up to 1)',
    )
    pseudo_threshold: float = setting(
        0.25,
        help="Unlabeled patches below it become 'without crater'; 0: none.",
        meaning="Unlabeled patches whose probability is below it become 'without crater' in the "
        "method original; 0 takes none.",
        least=0,
        most=1,
    )
    batch_size: int = setting(
        32, help="Patches a step.", meaning="Patches a step, for the network original.", least=1
    )
    validation_share: float = setting(
        0.2,
        help="Share of labels kept for validation.",
        meaning="Share of the labeled patches kept for validation.",
        least=0.02,
        most=0.5,
    )
    seed: int = setting(0, help="Everything random derives from it.", least=0)
    threads: int = setting(
        0,
        help="Threads; 0: all usable CPUs.",
        meaning="Threads of torch; 0 stands for the processors that the process may use.",
        least=0,
    )

    def __post_init__(self) -> None:
        check_settings(self)
        self._check_method()
        if self.aim is not None:
            self._check_aim(self.aim)

    def _check_method(self) -> None:
        """Refuse methods and networks that do not go together."""
        if self.method != "original" and self.protocol == "original":
            raise ConfigError("protocol 'original' is of the method 'original' only")
        if self.network == "original" and self.method not in ("original", "supervised"):
            raise ConfigError(
                f"method {self.method!r} goes with the networks 'compact' and 'dense' only",
                "With --network original, name --method supervised or original.",
            )
        if self.network == "original" and self.epochs:
            raise ConfigError(
                f"epochs is {self.epochs}: it is of the networks 'compact' and 'dense'",
                "The network 'original' takes --initial-epochs and --final-epochs.",
            )
        if self.method == "distillation" and self.network == "dense":
            raise ConfigError(
                "network 'dense' learns by distillation already",
                "Name --method supervised, or fixmatch for its teachers.",
            )

    def _check_aim(self, aim: str) -> None:
        if self.threshold_final != JobSettings.threshold_final:
            raise ConfigError(
                f"found aim {aim!r} and threshold_final {self.threshold_final:g}, expected one",
                "The aim chooses the threshold; leave one of them out.",
            )
        if self.protocol == "original":
            raise ConfigError(
                "aim is of the protocol 'clean' only",
                "Under 'original', the model's own labels would choose the threshold.",
            )

    @property
    def training(self) -> TrainingSettings:
        """The part that trainings need."""
        names = [field.name for field in dataclasses.fields(TrainingSettings)]
        return TrainingSettings(**{name: getattr(self, name) for name in names})


@dataclasses.dataclass(frozen=True)
class _Folders:
    """Where the main job reads and writes."""

    data: Path = setting(
        help="Folder of Xtrain1, Ytrain1, Xtrain1_extra, Xtest1 (.npy or .npz).",
        in_environment=False,  # $CRATERS_DATA is where tests and benchmarks find real images
    )
    out: Path = setting(help="Run folder to make; must not exist.")


@dataclasses.dataclass(frozen=True)
class RunConfig(JobSettings, _Folders):
    """Settings of the main job in a run folder: `data`, `out`, and keywords for all others.

    The page [Settings](settings.md) describes every field, with its default and limits.

    Raises
    ------
    ConfigError
        When a setting is off its limits, or two do not go together.

    Examples
    --------
    >>> config = RunConfig(data=Path("DATA"), out=Path("RUN"), network="dense")
    >>> config.network, config.members
    ('dense', 1)
    """

    _: dataclasses.KW_ONLY
    resolution: float | None = setting(
        None, help="Metres a pixel, stored with the model.", unit="m/px", above=0
    )
    labels: Path | None = setting(
        None,
        help="Label store of craters review; its consensus is trained on.",
        meaning="Label store of `craters review`: its consensus takes the place of the labels in "
        "`data`, and gives unlabeled patches theirs. Its random part, a tenth of the pool, is left "
        "out of the run, of the predictions, too: it measures.",
    )
