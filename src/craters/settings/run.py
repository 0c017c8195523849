"""Settings of the main job; `JobSettings` is the part without folders."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Literal

from craters.errors import ConfigError
from craters.settings.catalogues import parse_diameters
from craters.settings.data import DataForm
from craters.settings.declaration import check_settings, setting

Protocol = Literal["clean", "original"]
Method = Literal[
    "auto", "supervised", "original", "pseudo-label", "self-training", "fixmatch", "distillation"
]
NetworkName = Literal["original", "compact", "dense", "circles"]
StartName = Literal["pretrained", "random"]
SymmetryChoice = Literal["auto", "none", "up-down", "left-right", "flips", "dihedral"]

DEVICE = {
    "help": "cpu, or a GPU: cuda, cuda:1, ...",
    "meaning": "What the steps of trainings are computed on: the CPU, or [a GPU](speed.md#a-gpu) "
    "by a build of torch with CUDA. Trainings on a GPU run one after another. Tested on CPU "
    "tensors; not measured on a GPU.",
    "pattern": r"cpu|cuda(:\d+)?",
    "expected": "cpu, cuda or cuda:NUMBER",
}
"""The setting `device` of all commands that train."""

_OBJECTIVE = r"macro_f1|\s*(recall|precision)\s*>=\s*(0*\.\d*[1-9]\d*|0*1(?:\.0+)?)\s*"
_OBJECTIVE_FORMS = '"macro_f1", "recall>=0.95" or "precision>=0.9" (any share above 0, up to 1)'


def parse_objective(text: str) -> tuple[str, float]:
    """Parse a threshold objective, which the decision threshold is chosen for.

    Parameters
    ----------
    text : str
        "macro_f1", or a least recall or precision of craters, such as "recall>=0.95".

    Returns
    -------
    measure : {"macro_f1", "recall", "precision"}
    least : float
        Least value of recall or precision; 0 for "macro_f1".

    Raises
    ------
    ConfigError

    Examples
    --------
    >>> parse_objective("recall >= 0.95")
    ('recall', 0.95)
    """
    match = re.fullmatch(_OBJECTIVE, text)
    if match is None:
        raise ConfigError(f"aim is {text!r}, expected {_OBJECTIVE_FORMS}")
    return (match[1], float(match[2])) if match[1] else ("macro_f1", 0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Settings that every training of a job needs; `JobSettings` declares the fields."""

    network: NetworkName
    start: StartName
    members: int
    epochs: int
    initial_lr: float
    final_lr: float
    initial_epochs: int
    final_epochs: int
    batch_size: int
    seed: int
    threads: int
    device: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobSettings:
    """Settings that determine the results of the main job, besides its data; no folders.

    The page [Settings](settings.md) describes every field.
    """

    method: Method = setting(
        "auto",
        help="auto: chosen by the number of labels; supervised, original, pseudo-label, "
        "self-training, fixmatch, distillation.",
        meaning="supervised: train on the human labels, then retrain on all of them, "
        "including the validation set. original: train, add pseudo-labels 'without crater', "
        "retrain. pseudo-label: train, add confident pseudo-labels of both classes in the class "
        "shares of the labels, retrain (Lee 2013; Wang et al. 2017, arXiv 1701.03551). "
        "self-training, fixmatch and distillation learn from the [unlabeled "
        "patches](unlabeled.md) and are compared with supervised by cross-validation on the "
        "labels. auto is supervised, except from random weights with up to 300 labels: then it "
        "tries fixmatch, and keeps supervised if no gain is likely.",
    )
    network: NetworkName = setting(
        "compact",
        help="compact; dense: fully convolutional, for scans; circles: a detector; original.",
        meaning="compact: the small residual network. dense: a fully convolutional network, "
        "which scans whole images with exactly the results of separate patches; distilled from "
        "three compact networks on labeled and unlabeled patches. circles: the [circle "
        "detector](circles.md), which learns from labeled patches and then finds circles with "
        "diameters in images ([how](few-labels.md#circles-from-labels-of-patches)). original: the "
        "network and "
        "recipe of the original script, with its epochs, learning rates and batch size as "
        "settings. See [networks](networks.md).",
    )
    start: StartName = setting(
        "pretrained",
        help="Weights that training starts from: pretrained or random.",
        meaning="Weights that the training of compact starts from, and that of the teachers of "
        "dense: those of the [pretrained model](pretrained.md), or random ones. The network "
        "original always starts from random weights.",
    )
    diameters: str | None = setting(
        None,
        help="Diameters of the craters that labels are about, for circles, pixels: 10,48.",
        meaning="Smallest and largest diameter of the craters that the labels are about, in "
        "pixels, for the network circles: a patch 'with crater' holds at least half of the disc "
        "of such a crater, and no such crater touches a patch 'without'.",
        unset="as `craters patches` recorded them, else 10 pixels to a patch",
    )
    members: int = setting(
        1,
        help="Networks in the ensemble.",
        meaning="Networks in the ensemble; their logits are averaged.",
        least=1,
        most=20,
    )
    symmetry: SymmetryChoice = setting(
        "auto",
        help="Random flips: auto, none, up-down, left-right, flips, dihedral.",
        meaning="Random flips and rotations in the training of compact and dense. auto uses those "
        "that preserve the direction of the light: from 100 labels on it is measured on the "
        "labeled patches; with fewer, the pretrained model estimates it without labels.",
    )
    sun_azimuth: float | None = setting(
        None,
        help="Where the light comes from, in degrees clockwise from image up.",
        meaning="Direction that the light comes from in the patches, clockwise from image up (map "
        "north), for symmetry auto and for runs without labels. It replaces what labels or the "
        "pretrained model say.",
        unit="degrees",
        least=0,
        most=360,
        unset="measured on labels, or estimated",
    )
    protocol: Protocol = setting(
        "clean",
        help="clean: one validation set of human labels; original: split again.",
        meaning="clean: the validation set is drawn once, from human labels, for both stages. "
        "original: labels and pseudo-labels are split again before the last stage, as in the "
        "original script.",
    )
    epochs: int = setting(
        0,
        help="Epochs of compact, dense; 0: by number of labels.",
        meaning="Epochs of every training of compact and dense. 0: as many as the recipe "
        "prescribes for the number of labels.",
        least=0,
    )
    initial_lr: float = setting(
        0.0003,
        help="Learning rate, first stage.",
        meaning="Learning rate of Adam in the first stage, for the network original.",
        above=0,
        most=1,
    )
    final_lr: float = setting(
        0.0004,
        help="Learning rate, last stage.",
        meaning="Learning rate of Adam in the last stage, for the network original.",
        above=0,
        most=1,
    )
    initial_epochs: int = setting(
        75,
        help="Epochs, first stage.",
        meaning="Epochs of the first stage, for the network original.",
        least=1,
    )
    final_epochs: int = setting(
        50,
        help="Epochs, last stage.",
        meaning="Epochs of the last stage, for the network original.",
        least=1,
    )
    threshold_initial: float = setting(
        0.5,
        help="Decision threshold, first stage.",
        meaning="Decision threshold of the first stage: the least probability of a patch "
        "'with crater'.",
        least=0,
        most=1,
    )
    threshold_final: float = setting(
        0.5,
        help="Decision threshold, last stage and predictions.",
        least=0,
        most=1,
    )
    aim: str | None = setting(
        None,
        help="Choose that threshold on validation for: macro_f1, 'recall>=0.95', 'precision>=0.9'.",
        meaning="Threshold objective: what the decision threshold of the last stage and of "
        "predictions is chosen for, on the validation set. Replaces threshold_final.",
        pattern=_OBJECTIVE,
        expected=_OBJECTIVE_FORMS,
    )
    pseudo_threshold: float = setting(
        0.25,
        help="Unlabeled patches of lower probability become 'without crater'; 0: none.",
        meaning="With the method original, unlabeled patches of lower probability get the "
        "pseudo-label 'without crater'; 0: none.",
        least=0,
        most=1,
    )
    batch_size: int = setting(
        32,
        help="Patches per training step.",
        meaning="Patches per training step, for the network original.",
        least=1,
    )
    validation_share: float = setting(
        0.2,
        help="Share of labels held out for validation.",
        meaning="Share of the labeled patches held out for validation, for the methods original "
        "and pseudo-label, and for supervised from random weights. Otherwise every label is held "
        "out once, in three folds.",
        least=0.02,
        most=0.5,
    )
    seed: int = setting(0, help="Random seed.", least=0)
    threads: int = setting(
        0,
        help="Threads; 0: all usable CPUs.",
        meaning="Threads of torch; 0: all CPUs that the process may use.",
        least=0,
    )
    device: str = setting("cpu", **DEVICE)

    def __post_init__(self) -> None:
        check_settings(self)
        self._check_method()
        self._check_circles()
        self._check_light()
        if self.aim is not None:
            self._check_objective(self.aim)

    def _check_method(self) -> None:
        """Refuse combinations of method and network that do not exist."""
        if self.method != "original" and self.protocol == "original":
            raise ConfigError("protocol 'original' requires the method 'original'")
        if self.network == "original" and self.method not in ("original", "supervised"):
            raise ConfigError(
                f"method {self.method!r} requires the network 'compact' or 'dense'",
                "With --network original, give --method supervised or original.",
            )
        if self.network == "original" and self.epochs:
            raise ConfigError(
                f"epochs is {self.epochs}, but applies to the networks 'compact' and 'dense' only",
                "For the network 'original', give --initial-epochs and --final-epochs.",
            )
        if self.method == "distillation" and self.network == "dense":
            raise ConfigError(
                "network 'dense' is always trained by distillation",
                "Give --method supervised, or fixmatch for its teachers.",
            )

    def _check_circles(self) -> None:
        """Refuse what the network circles has not, and its diameters for other networks."""
        if self.diameters is not None:
            low, high = parse_diameters(self.diameters)
            if not 0 < low < high:
                raise ConfigError(
                    f"diameters are {low:g} to {high:g}, expected the smaller one first, above 0"
                )
        if self.network != "circles":
            if self.diameters is not None:
                raise ConfigError(
                    f"diameters is {self.diameters!r}, but applies to the network 'circles' only",
                    "Leave it out, or give --network circles.",
                )
            return
        if self.method not in ("auto", "supervised"):
            raise ConfigError(
                f"method is {self.method!r}, but the network 'circles' learns from labels alone",
                "Give --method supervised, or another --network.",
            )
        if self.start != "pretrained" or self.members != 1:
            raise ConfigError(
                f"start is {self.start!r} and members is {self.members}, but the network 'circles' "
                "is one network and starts from the shipped circle detector",
                "Leave --start and --members out.",
            )

    def _check_light(self) -> None:
        """Refuse a direction of light that nothing would use."""
        if self.sun_azimuth is not None and (self.symmetry != "auto" or self.network == "original"):
            raise ConfigError(
                f"sun_azimuth is {self.sun_azimuth:g}, but applies with symmetry 'auto' to the "
                "networks 'compact' and 'dense' only",
                "Leave it out.",
            )

    def _check_objective(self, objective: str) -> None:
        """Refuse a threshold objective with a given threshold or the original protocol."""
        if self.threshold_final != JobSettings.threshold_final:
            raise ConfigError(
                f"found aim {objective!r} and threshold_final {self.threshold_final:g}, "
                "expected one",
                "The aim chooses the threshold; leave one of them out.",
            )
        if self.protocol == "original":
            raise ConfigError(
                "aim requires the protocol 'clean'",
                "Under 'original', pseudo-labels would influence the threshold.",
            )

    @property
    def training(self) -> TrainingSettings:
        """The part that each training needs."""
        names = [field.name for field in dataclasses.fields(TrainingSettings)]
        return TrainingSettings(**{name: getattr(self, name) for name in names})


@dataclasses.dataclass(frozen=True)
class _Folders:
    """Input and output folders of the main job."""

    data: Path = setting(
        help="Data set: arrays (Xtrain1, Ytrain1, ...), class folders, a table, or an archive.",
        meaning="Data set: a folder of the arrays Xtrain1 and Ytrain1, and optionally "
        "Xtrain1_extra, Xtest1 and others (.npy or .npz); class folders of pictures; a table (CSV) "
        "of files and labels; or an archive (.npz) of X and y. See [your own data](own-data.md).",
        in_environment=False,  # $CRATERS_DATA is where tests and benchmarks find real images
    )
    out: Path = setting(help="Run folder to create; must not exist.")


@dataclasses.dataclass(frozen=True)
class RunConfig(JobSettings, DataForm, _Folders):
    """Settings of the main job in a run folder: `data`, `out`, and keywords for all others.

    The page [Settings](settings.md) describes every field, with its default and limits.

    Raises
    ------
    ConfigError
        If a setting is outside its limits, or two contradict each other.

    Examples
    --------
    >>> config = RunConfig(data=Path("DATA"), out=Path("RUN"), network="dense")
    >>> config.network, config.members
    ('dense', 1)
    """

    _: dataclasses.KW_ONLY
    resolution: float | None = setting(
        None, help="Resolution in m/px, stored with the model.", unit="m/px", above=0
    )
    labels: Path | None = setting(
        None,
        help="Label store of `craters review`, whose consensus labels are used.",
        meaning="Label store of `craters review`: its consensus labels replace those in `data` "
        "and label unlabeled patches. Its random part, a tenth of the pool, is excluded from "
        "training and prediction; it serves to measure the model.",
    )
    no_labels: bool = setting(
        False,
        help="State that the data folder has no labels, where this could be a mistake.",
        meaning="States that there are no labels to train on: the pretrained model predicts all "
        "patches ([no labels](no-labels.md)). Without it, this is so only if nothing in the data "
        "folder looks like labels.",
        in_environment=False,
    )
