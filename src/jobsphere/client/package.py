"""A job ready to be sent: what the API is told, and where the bytes lie.

The config is read by the vendor's own library, so that it means here what it means there, to the last default: paths
are relative to the working directory, folders are zipped, ``python: auto`` looks at the code.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from jobsphere.client.changes import Changes
from jobsphere.domain.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True)
class Package:
    """A job ready to be sent.

    Args:
        parameters: The API's ``JobParameters``.
        name: Of the job; may be empty.
        description: Of the job; may be empty.
        config: The text of the config.
        paths: Where the bytes of each input and module lie, by its path in the parameters.
    """

    parameters: Any
    name: str
    description: str
    config: str
    paths: Mapping[str, Path]


@contextmanager
def packed(config: Path) -> Generator[Package]:
    """The job of a config file; folders are archives until this is left.

    Raises:
        InvalidArgumentError: the config or what it names is not as it must be; what, and where.
    """
    with tempfile.TemporaryDirectory(prefix="jobsphere-") as folder:
        with _told(str(config)):
            package = _pack(config, folder)
        yield package


@contextmanager
def packed_changes(source: Any, changes: Changes) -> Generator[Package]:
    """What a fork of a job with the parameters ``source`` is told.

    Raises:
        InvalidArgumentError: it names what the source does not have, or a file that is not there.
    """
    with tempfile.TemporaryDirectory(prefix="jobsphere-") as folder:
        with _told("fork"):
            package = _pack_changes(source, changes, folder)
        yield package


def _pack(path: Path, folder: str) -> Package:
    from datasphere.config import check_limits, parse_config
    from datasphere.files import prepare_inputs, prepare_local_modules
    from datasphere.pyenv import define_py_env
    from datasphere.validation import validate_paths

    config = parse_config(path)
    environment = define_py_env(config.python_root_modules, config.env.python) if config.env.python else None
    validate_paths(config, environment)
    config.inputs = prepare_inputs(config.inputs, folder)
    modules = prepare_local_modules(environment, folder) if environment else []
    module_files = [module.get_file() for module in modules]
    check_limits(config, module_files)
    return Package(
        parameters=config.get_job_params(environment, module_files),
        name=config.name or "",
        description=config.desc or "",
        config=config.content,
        paths={one.path: Path(one.effective_path) for one in [*config.inputs, *modules]},
    )


def _pack_changes(source: Any, changes: Changes, folder: str) -> Package:
    from datasphere.fork import Overrides, fork_params

    is_url = re.search("[/:.]", changes.image)
    image: Any = {"docker": {"image": changes.image} if is_url else changes.image}
    overrides = Overrides(
        args=dict(changes.args),
        vars=dict(changes.files),
        env_vars=dict(changes.env),
        docker_dict=image if changes.image else None,
        cloud_instance_types=list(changes.instance_types),
    )
    config = fork_params(overrides, source, folder)
    return Package(
        parameters=config.get_job_params(py_env=None, local_modules=[]),
        name=changes.name,
        description=changes.description,
        config="",
        paths={one.path: Path(one.effective_path) for one in config.inputs},
    )


@contextmanager
def _told(what: str) -> Generator[None]:
    """The library's complaints as sentences of ours."""
    try:
        yield
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        raise InvalidArgumentError(f"{what}: {error.strerror or error}{where}") from error
    except KeyError as error:
        raise InvalidArgumentError(f"{what}: {error} is missing") from error
    except (ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise InvalidArgumentError(f"{what}: {error}") from error
