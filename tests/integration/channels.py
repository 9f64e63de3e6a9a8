"""A conda channel of tests: packages made here, in a folder."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rattler import index

VERSION = ".".join(map(str, sys.version_info[:3]))


@dataclass
class Channel:
    """A folder of packages. A file's content is its bytes, or the target of a link as text."""

    folder: Path

    @property
    def url(self) -> str:
        return f"file://{self.folder}"

    def add(
        self,
        name: str,
        version: str = "1.0",
        depends: Sequence[str] = (),
        files: Mapping[str, bytes | str] | None = None,
        build: str = "0",
    ) -> None:
        files = {f"share/{name}": version.encode(), **(files or {})}
        about = {"name": name, "version": version, "build": build, "build_number": 0, "depends": list(depends)}
        info = {
            "info/index.json": json.dumps({**about, "subdir": "noarch", "noarch": "generic"}).encode(),
            "info/paths.json": json.dumps(
                {"paths_version": 1, "paths": [_path(path, content) for path, content in files.items()]}
            ).encode(),
        }
        (self.folder / "noarch").mkdir(parents=True, exist_ok=True)
        with tarfile.open(self.folder / "noarch" / f"{name}-{version}-{build}.tar.bz2", "w:bz2") as archive:
            for path, content in {**info, **files}.items():
                _put(archive, path, content)

    def add_python(self) -> None:
        """A python that is the interpreter of these tests, taken for the one of the prefix that it lies in."""
        home = Path(sys.executable).resolve()
        config = f"home = {home.parent}\nversion = {VERSION}\n".encode()
        links = {"bin/python": str(home), f"bin/python{VERSION.rpartition('.')[0]}": "python"}
        self.add("python", VERSION, (), {"pyvenv.cfg": config, **links})

    def publish(self) -> str:
        """Write the index; the channel's URL."""
        (self.folder / "noarch").mkdir(parents=True, exist_ok=True)
        asyncio.run(index.index_fs(self.folder))
        return self.url


def _path(path: str, content: bytes | str) -> dict[str, object]:
    if isinstance(content, str):
        return {"_path": path, "path_type": "softlink", "size_in_bytes": 0}
    digest = hashlib.sha256(content).hexdigest()
    return {"_path": path, "path_type": "hardlink", "sha256": digest, "size_in_bytes": len(content)}


def _put(archive: tarfile.TarFile, path: str, content: bytes | str) -> None:
    entry = tarfile.TarInfo(path)
    if isinstance(content, str):
        entry.type, entry.linkname = tarfile.SYMTYPE, content
        archive.addfile(entry)
        return
    entry.size, entry.mode = len(content), 0o755 if path.startswith("bin/") else 0o644
    archive.addfile(entry, io.BytesIO(content))
