"""What the programs of a build inherit of the server's own environment: what they need to work, and no secret of its.

The build scripts of source packages run with it: they are code of strangers.
"""

from __future__ import annotations

import os
import re

_NEEDED = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_\w+|TZ|TMPDIR|XDG_\w+|NETRC"
    r"|(?i:all_proxy|http_proxy|https_proxy|no_proxy)"
    r"|SSL_CERT_FILE|SSL_CERT_DIR|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|SSL_CLIENT_CERT"
    r"|CC|CXX|CFLAGS|CXXFLAGS|CPPFLAGS|LDFLAGS|LD_LIBRARY_PATH|PKG_CONFIG_PATH|CUDA_HOME|CUDA_PATH|MAX_JOBS"
    r"|UV_\w+|RATTLER_AUTH_FILE|CONDA_OVERRIDE_\w+"
)
"""The last line: how the operator sets up the installers, the logins of its indexes among it."""
_NOT_NEEDED = re.compile(
    r"UV_PUBLISH_\w+|UV_PROJECT|UV_PROJECT_ENVIRONMENT|UV_PYTHON|UV_SYSTEM_PYTHON|UV_WORKING_DIR|UV_ENV_FILE"
)


def inherited_environment() -> dict[str, str]:
    """The variables to start from. Nothing else of the server's environment reaches a build."""
    return {k: v for k, v in os.environ.items() if _NEEDED.fullmatch(k) and not _NOT_NEEDED.fullmatch(k)}
