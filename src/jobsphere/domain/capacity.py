"""Instance types: named capacity that a job asks for, in order of preference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jobsphere.domain.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True)
class InstanceType:
    """A named machine shape: virtual CPUs and whole GPUs."""

    name: str
    vcpus: int
    gpus: int = 0


INSTANCE_TYPES: Mapping[str, InstanceType] = {
    t.name: t
    for t in (
        InstanceType("c1.4", 4),
        InstanceType("c1.8", 8),
        InstanceType("c1.32", 32),
        InstanceType("c1.80", 80),
        InstanceType("g1.1", 8, 1),
        InstanceType("g1.2", 16, 2),
        InstanceType("g1.4", 32, 4),
        InstanceType("g2.mig", 4, 1),
        InstanceType("g2.1", 28, 1),
        InstanceType("g2.2", 56, 2),
        InstanceType("g2.4", 112, 4),
        InstanceType("g2.8", 224, 8),
    )
}
"""The vendor's published types. The embedded node scales them down to the machine: all of them run here."""


def check_instance_types(names: tuple[str, ...]) -> None:
    """Refuse names that no node could ever give.

    Raises:
        InvalidArgumentError: with the list of those that exist.
    """
    for name in names:
        if name not in INSTANCE_TYPES:
            known = ", ".join(INSTANCE_TYPES)
            raise InvalidArgumentError(f"cloud_instance_types: there is no instance type {name!r}; there are: {known}")
