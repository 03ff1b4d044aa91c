"""Omniglot→EMNIST, 5-way: figures reported by the papers, none of them measured here.

The ± of each paper is a deviation over training runs, not an interval over tasks. Figures of ProtoNet, MAML and others
are from the table of Deep Kernel Transfer, which later papers copied.
"""

from __future__ import annotations

from dataclasses import dataclass

_DKT = "Patacchiola et al. 2020, 1910.05199"
_HYPERSHOT = "Sendera et al. 2022, 2203.11378"
_BAYESHMAML = "Borycki et al. 2022, 2210.02796"


@dataclass(frozen=True)
class ReportedAccuracy:
    """Accuracies at 1 and 5 shots, in [0, 1]. `transductive`: BatchNorm used the statistics of the queries."""

    name: str
    one_shot: float
    five_shot: float
    source: str
    transductive: bool = False

    def at(self, shot: int) -> float | None:
        """Return the accuracy at this shot, or None if it is not reported."""
        return {1: self.one_shot, 5: self.five_shot}.get(shot)


OF_METHOD = {
    "protonet": ReportedAccuracy("ProtoNet", 0.7204, 0.8722, _DKT),
    "maml": ReportedAccuracy("MAML", 0.7268, 0.8354, _DKT, transductive=True),
    "hypershot": ReportedAccuracy("HyperShot", 0.7806, 0.8904, _HYPERSHOT),
    "hypermaml": ReportedAccuracy(
        "HyperMAML", 0.7907, 0.8922, "Przewięźlikowski et al. 2022, 2205.15745", True
    ),
    "bayeshmaml": ReportedAccuracy("BayesHMAML", 0.8095, 0.8917, _BAYESHMAML, transductive=True),
}
FINE_TUNED = ReportedAccuracy("HyperShot + finetune", 0.8065, 0.9081, _HYPERSHOT)
FIELD = ReportedAccuracy("best reported of each column", 0.8105, 0.9081, f"{_BAYESHMAML}; {_HYPERSHOT}")
OTHERS = (
    ReportedAccuracy("Feature Transfer", 0.6422, 0.8610, _DKT),
    ReportedAccuracy("Baseline++", 0.5684, 0.8001, _DKT),
    ReportedAccuracy("MatchingNet", 0.7501, 0.8741, _DKT),
    ReportedAccuracy("RelationNet", 0.7562, 0.8784, _DKT),
    ReportedAccuracy("DKT", 0.7540, 0.9030, _DKT),
    ReportedAccuracy("BayesHMAML + adaptation", 0.8105, 0.8976, _BAYESHMAML, transductive=True),
)


def reported_for(method: str, *, open_track: bool) -> ReportedAccuracy | None:
    """Return the figure to compare with: that of the method or, on the open track, the best of the field."""
    return FIELD if open_track else OF_METHOD.get(method)
