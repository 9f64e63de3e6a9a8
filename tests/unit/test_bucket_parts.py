"""Parts around a bucket: the cache's budget, what the settings say, stores of other providers."""

from __future__ import annotations

import base64
import json
import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from jobsphere.blob.cache import trim, used
from jobsphere.blob.objects import Place
from jobsphere.config import Settings
from jobsphere.domain.errors import FailedPreconditionError
from jobsphere.store.memory import MemoryJobStore
from jobsphere.wiring.blobs import blobs_of

HOUR = timedelta(hours=1)


def copy(cache: Path, name: str, hours_ago: float) -> Path:
    path = cache / ("p" * 20) / name[:2] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 100)
    at = time.time() - hours_ago * 3600
    os.utime(path, (at, at))
    return path


def test_copies_least_lately_used_go_first_and_none_that_a_job_may_be_reading(tmp_path: Path) -> None:
    old, older, new = copy(tmp_path, "aa", 2), copy(tmp_path, "bb", 3), copy(tmp_path, "cc", 0)
    assert trim(tmp_path, 250) == 100
    assert [path.exists() for path in (old, older, new)] == [True, False, True]
    assert used(old)
    assert not used(older)
    assert trim(tmp_path, 0) == 0
    assert trim(tmp_path / "not there", 0) == 0


def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*form).decode()


async def test_other_providers_are_spoken_to_by_the_same_class() -> None:
    azure = {"account_name": "team", "account_key": base64.b64encode(b"k" * 32).decode()}
    (url,) = await Place("az", "box", "jobs", azure).open().signed("PUT", ["a/b"], HOUR)
    assert url.startswith("https://team.blob.core.windows.net/box/jobs/a/b?")
    account = {"type": "service_account", "client_email": "a@b.c", "private_key_id": "1", "private_key": private_key()}
    google = {"service_account_key": json.dumps(account)}
    (url,) = await Place("gs", "box", "jobs", google).open().signed("GET", ["a/b"], HOUR)
    assert url.startswith("https://storage.googleapis.com/box/jobs/a/b?")


@pytest.mark.parametrize(
    ("content", "mode", "told"),
    [
        ('access_key_id = "a"', 0o644, "others can read"),
        ("access_key_id = hush", 0o600, "is no TOML"),
        ('hush_key = "a"', 0o600, "'hush_key' is not valid"),
    ],
)
def test_a_key_file_that_cannot_be_is_told_without_what_it_holds(
    tmp_path: Path, content: str, mode: int, told: str
) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(content)
    keys.chmod(mode)
    settings = Settings(data_dir=tmp_path, blobs="s3://box/prefix", blobs_key_file=keys)
    with pytest.raises(FailedPreconditionError, match=told) as error:
        blobs_of(settings, tmp_path, MemoryJobStore(lambda job: b""))
    assert "hush" not in str(error.value).replace("hush_key", "")


def test_variables_count_where_there_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ann")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    settings = Settings(data_dir=tmp_path, blobs="s3://box/a/b/", blobs_region="r")
    (told,) = blobs_of(settings, tmp_path, MemoryJobStore(lambda job: b"")).for_node.values()
    keys = {"region": "r", "access_key_id": "ann", "secret_access_key": "hush"}
    assert json.loads(told) == {"scheme": "s3", "bucket": "box", "prefix": "a/b", "options": keys}
