"""What a job's config asks of this server beyond the vendor's keys: the section ``x-jobsphere``. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from jobsphere.domain.errors import InvalidArgumentError

SECTION = "x-jobsphere"
MAX_RETRIES = 100
MAX_CHARS = 1 << 16
_NOTHING = ("", "~", "null")


@dataclass(frozen=True, slots=True)
class Extensions:
    """``retries``: how often the job is started anew when it is lost."""

    retries: int = 0


def extensions_of(config: str) -> Extensions:
    """What the config's section says; the defaults where there is none. The rest of it is the client's business.

    Raises:
        InvalidArgumentError: the section holds what it may not; the text names it and says what may stand there.
    """
    if SECTION not in config:
        return Extensions()
    retries = "0"
    for key, value in _entries(config):
        if key != "retries":
            raise InvalidArgumentError(f"config: {SECTION}.{key}: there is no such key; there is: retries")
        retries = value
    if not (retries.isascii() and retries.isdigit() and len(retries) < 4 and int(retries) <= MAX_RETRIES):
        told = f"{retries[:20]!r}; it must be a number from 0 to {MAX_RETRIES}"
        raise InvalidArgumentError(f"config: {SECTION}.retries: {told}")
    return Extensions(int(retries))


def _entries(config: str) -> Iterator[tuple[str, str]]:
    """The keys of the section with their values. Nodes only, in which an alias is a reference: nothing is blown up."""
    if len(config) > MAX_CHARS:
        raise InvalidArgumentError(f"config: with {SECTION} in it, it may have at most {MAX_CHARS} characters")
    try:
        whole = yaml.compose(config, yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidArgumentError(f"config: it is no YAML, so that {SECTION} cannot be read") from error
    if not isinstance(whole, yaml.MappingNode):
        return
    for name, section in whole.value:
        if name.value != SECTION or section.value in _NOTHING:
            continue
        if not isinstance(section, yaml.MappingNode):
            raise InvalidArgumentError(f"config: {SECTION}: it must hold keys with values, as `retries: 2`")
        for key, value in section.value:
            if not isinstance(key, yaml.ScalarNode) or not isinstance(value, yaml.ScalarNode):
                raise InvalidArgumentError(f"config: {SECTION}: it must hold keys with plain values, as `retries: 2`")
            yield key.value, value.value
