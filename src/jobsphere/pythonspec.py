"""What a job's ``python_env`` asks for, as one canonical value: the one place that reads YAML for it. Pure."""

from __future__ import annotations

import re
from typing import cast

import yaml

from jobsphere.domain.conda import MAX_YAML_CHARS, CondaPackages, read_conda
from jobsphere.domain.environment import PythonEnvironment, canonical
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.job import PythonEnv


def environment_of(env: PythonEnv) -> PythonEnvironment:
    """The canonical environment: the same for every spelling of the same wish.

    Raises:
        InvalidArgumentError: a requirement, an option or the ``conda_yaml`` cannot be; with its line if it is no YAML.
    """
    return canonical(env, _conda(env.conda_yaml) if env.conda_yaml.strip() else None)


class _Text(yaml.SafeLoader):
    """Scalars stay text: ``3.10`` is not the number 3.1, and a package called ``on`` is no truth value."""


_Text.yaml_implicit_resolvers = {None: [("tag:yaml.org,2002:null", re.compile(r"~?$"))]}
_MAX_DEPTH = 8


def _conda(text: str) -> CondaPackages:
    if len(text) > MAX_YAML_CHARS:
        raise InvalidArgumentError(f"conda_yaml: {len(text)} characters, while the limit is {MAX_YAML_CHARS}")
    try:
        _check_shape(text)
        return read_conda(cast("object", yaml.load(text, _Text)))  # noqa: S506 - made from the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise InvalidArgumentError(f"conda_yaml: {where}{error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise InvalidArgumentError("conda_yaml: it holds a character that cannot be part of YAML") from error


def _check_shape(text: str) -> None:
    """Before anything is built of it: what a few bytes could blow up, or keep the parser busy with for long."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise InvalidArgumentError("conda_yaml: it is nested too deeply")
        if isinstance(event, yaml.AliasEvent):
            raise InvalidArgumentError("conda_yaml: aliases (*name) are not supported; write the entries out")
