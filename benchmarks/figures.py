"""What an experiment gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Figure:
    """One measured value, the peer or limit of the same run, and the target that it is held to.

    ``target``: a bound of the ratio (or of the value, where ``peer`` is None); ``at_most``: which way.
    """

    name: str
    value: float
    unit: str
    peer: float | None = None
    peer_name: str = ""
    target: float | None = None
    at_most: bool = False

    @property
    def ratio(self) -> float | None:
        return None if self.peer is None else self.value / self.peer

    @property
    def held(self) -> float:
        """What the target is a bound of."""
        return self.value if self.ratio is None else self.ratio

    @property
    def missed(self) -> bool:
        return self.target is not None and (self.held > self.target if self.at_most else self.held < self.target)

    @property
    def margin(self) -> float | None:
        """How many times better than the target; None without one, or with one of zero."""
        if not self.target or not self.held:
            return None
        return self.target / self.held if self.at_most else self.held / self.target

    @property
    def smaller_is_better(self) -> bool:
        """Whether a growing ratio is a loss: a rate is a gain, all else is a cost."""
        return not self.unit.endswith("/s")

    @property
    def value_text(self) -> str:
        return f"{self.value:.4g} {self.unit}"

    @property
    def peer_text(self) -> str:
        return f"{self.peer:.4g} {self.unit}, {self.peer_name}" if self.peer is not None else ""

    @property
    def ratio_text(self) -> str:
        return f"{self.ratio:.2f}" if self.ratio is not None else ""

    @property
    def target_text(self) -> str:
        if self.target is None:
            return ""
        word = "at most" if self.at_most else "at least"
        return f"{word} {self.target:g}: {'MISSED' if self.missed else 'met'}"

    def as_dict(self) -> dict[str, object]:
        return asdict(self) | {"ratio": self.ratio, "missed": self.missed}


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that ``percent`` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
