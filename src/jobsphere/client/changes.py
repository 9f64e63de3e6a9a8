"""What a fork changes of its source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Changes:
    """Only what is named changes.

    Args:
        args: Values of arguments, by name.
        files: Paths of inputs and outputs, by their variables.
        env: Environment variables; if there are any, they replace all of the source.
        image: The id of an image resource, or its URL.
        instance_types: In the order of preference.
        name: Of the new job.
        description: Of the new job.
    """

    args: Mapping[str, str] = field(default_factory=dict[str, str])
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    image: str = ""
    instance_types: Sequence[str] = ()
    name: str = ""
    description: str = ""
