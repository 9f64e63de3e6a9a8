"""What the programs of a build inherit of the server's own environment: what they need to work, and no secret of its.

The build scripts of source packages run with it: they are code of strangers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

_NEEDED = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_\w+|TZ|TMPDIR|XDG_\w+|NETRC"
    r"|(?i:all_proxy|http_proxy|https_proxy|no_proxy)"
    r"|SSL_CERT_FILE|SSL_CERT_DIR|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|SSL_CLIENT_CERT"
    r"|CC|CXX|CFLAGS|CXXFLAGS|CPPFLAGS|LDFLAGS|LD_LIBRARY_PATH|PKG_CONFIG_PATH|CUDA_HOME|CUDA_PATH|MAX_JOBS"
    r"|UV_\w+|RATTLER_AUTH_FILE|CONDA_OVERRIDE_\w+"
)
"""The last line: how the operator sets up the installers, the logins of its indexes among it."""
_NEEDED_IN_IMAGES = re.compile(
    r"(?i:all_proxy|http_proxy|https_proxy|no_proxy)"
    r"|SSL_CERT_FILE|SSL_CERT_DIR|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|SSL_CLIENT_CERT|MAX_JOBS|UV_(?!PYTHON_)\w+"
)
"""Those that say how to reach the indexes. An image has its own programs, compilers, language and home, and no Python
is fetched in there."""
_NOT_NEEDED = re.compile(
    r"UV_PUBLISH_\w+|UV_PROJECT|UV_PROJECT_ENVIRONMENT|UV_PYTHON|UV_SYSTEM_PYTHON|UV_WORKING_DIR|UV_ENV_FILE"
)
_NAME_FILES = (
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CLIENT_CERT",
    "UV_CONFIG_FILE", "UV_CONSTRAINT", "UV_BUILD_CONSTRAINT", "UV_OVERRIDE", "UV_FIND_LINKS",
)  # fmt: skip


def inherited_environment(*, in_image: bool = False) -> dict[str, str]:
    """The variables to start from. Nothing else of the server's environment reaches a build."""
    needed = _NEEDED_IN_IMAGES if in_image else _NEEDED
    return {k: v for k, v in os.environ.items() if needed.fullmatch(k) and not _NOT_NEEDED.fullmatch(k)}


def named_files(env: Mapping[str, str]) -> list[Path]:
    """The files and folders of this host that variables of :func:`inherited_environment` name."""
    words = (word for name in _NAME_FILES for word in re.split(r"[\s,]+", env.get(name, "")))
    return [Path(word) for word in words if word.startswith("/") and os.path.exists(word)]
