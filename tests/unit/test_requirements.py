"""Requirement lines: what is a package passes, and what would read the server's disk does not."""

import pytest

from jobsphere.domain.environment import canonical
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.job import PipOptions, PythonEnv


@pytest.mark.parametrize(
    "line",
    [
        "numpy",
        "numpy==1.26.4",
        "torch==2.1.0+cpu",
        "numpy>=1.26,<3",
        "numpy >= 1.26, < 3",
        "numpy~=1.26",
        "numpy===1.0",
        "numpy!=1.5.*",
        "requests[security,socks]>=2",
        "zope.interface",
        "numpy (>=1.26)",
        'tomli>=2; python_version < "3.11"',
        "pkg ; sys_platform == 'linux' and (python_version in '3.10, 3.11')",
        "pkg==1!2.0.post1",
    ],
)
def test_packages_pass(line: str) -> None:
    assert canonical(PythonEnv(requirements=(line,))).requirements == (line,)


@pytest.mark.parametrize(
    "line",
    [
        "name @ file:///etc/passwd",
        "name@file:///etc/passwd",
        "name @ https://example.org/a.whl",
        "https://example.org/a.whl",
        "git+https://example.org/a.git",
        "./folder",
        "/etc/passwd",
        "../up",
        "folder/package",
        "~/package",
        ".",
        "wheel.whl",
        "a-1.0-py3-none-any.whl[extra]",
        "archive.tar.gz",
        "archive.ZIP ; python_version > '3'",
        "numpy\n-r /etc/passwd",
        "numpy --hash=sha256:00",
        "numpy -r /etc/passwd",
        "numpy==${SECRET}",
        "numpy; extra == '$SECRET'",
        "numpy \\",
        "numpy==",
        "numpy 1.0",
        "a b",
        "-r /etc/passwd",
        "-e .",
        "--find-links /",
        "--requirement=/etc/passwd",
    ],
)
def test_what_is_no_package_is_refused(line: str) -> None:
    with pytest.raises(InvalidArgumentError, match="requirements"):
        canonical(PythonEnv(requirements=(line,)))


def test_a_long_line_is_read_in_no_time() -> None:
    with pytest.raises(InvalidArgumentError):
        canonical(PythonEnv(requirements=("a" + " " * 1_000_000 + "b",)))


def test_comments_and_blanks_say_nothing() -> None:
    env = PythonEnv(requirements=("# all", "", "  numpy   # for arrays", "numpy"))
    assert canonical(env).requirements == ("numpy",)


@pytest.mark.parametrize("form", ["--extra-index-url {}", "--extra-index-url={}", "--extra-index-url   {}"])
def test_an_index_may_have_a_query(form: str) -> None:
    url = "https://example.org/simple?a=b"
    assert canonical(PythonEnv(requirements=(form.format(url),))).extra_index_urls == (url,)


@pytest.mark.parametrize(
    "url",
    ["file:///etc", "/etc", "name=https://u:secret@h/", "https://u:secret@h/ https://other/", "https://", "ftp://h/"],
)
def test_an_index_is_a_web_address_and_is_not_shown(url: str) -> None:
    for options in (PipOptions(index_url=url), PipOptions(extra_index_urls=(url,))):
        with pytest.raises(InvalidArgumentError, match="http") as caught:
            canonical(PythonEnv(pip_options=options))
        assert "secret" not in str(caught.value)


def test_a_refused_url_does_not_show_its_password() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        canonical(PythonEnv(requirements=("name @ https://user:secret@example.org/a.whl",)))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "good"), [("example.org", True), ("h:8080", True), ("[::1]:80", True), ("a b", False)]
)
def test_a_trusted_host_is_a_host(host: str, good: bool) -> None:
    env = PythonEnv(pip_options=PipOptions(trusted_hosts=(host,)))
    if good:
        assert canonical(env).trusted_hosts == (host,)
    else:
        with pytest.raises(InvalidArgumentError, match="trusted host"):
            canonical(env)
