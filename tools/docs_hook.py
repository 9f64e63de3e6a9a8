"""Pages that are made when the documentation is built: commands, settings, the API, the list of decisions."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is made."""
    for name, make in {
        "commands.md": commands,
        "settings.md": settings,
        "api.md": api,
        "adr/index.md": decisions,
    }.items():
        files.append(File.generated(config, name, content=make()))
    for path in (ROOT / "deploy").iterdir():
        files.append(File.generated(config, f"deploy/{path.name}", content=path.read_text()))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Lead links to files of the project, which lie beside ``docs``, to those within the site."""
    return markdown.replace("](../deploy/", "](deploy/")


def commands() -> str:
    """All commands, as their ``--help`` has them."""
    from jobsphere.cli.main import app

    text = app.generate_docs().replace("# jobsphere\n", "# Commands\n", 1)
    return re.sub(r"## Table of Contents\n.*?(?=\n\*\*|\n## )", "", text, count=1, flags=re.DOTALL)


def settings() -> str:
    """Every setting with its default, from the class that reads them."""
    from jobsphere.config import ImageSetting, InstanceTypeSetting, Settings

    lines = [
        "# Settings",
        "",
        "Each is a key of `jobsphere.toml` in the data directory, a variable `JOBSPHERE_NAME` of the environment, and,",
        "for the usual ones, an option of [`jobsphere up`](commands.md). The later of these wins.",
        "",
        "In a variable, lists and tables are JSON.",
        "",
        *_table(Settings),
    ]
    for section, entry in {"instance_types": InstanceTypeSetting, "images": ImageSetting}.items():
        lines += ["", f"## `[{section}]`", "", "What each entry may say.", "", *_table(entry)]
    return "\n".join(lines) + "\n\n" + _VARIABLES


def _table(model: Any) -> Iterator[str]:
    yield from ("| Setting | Default | What it is |", "|---|---|---|")
    told = dict(_docstrings(model))
    for name, field in model.model_fields.items():
        default = "" if field.default_factory or field.is_required() else repr(field.get_default())
        shown = {"None": "", "()": "", "''": ""}.get(default, default)
        yield f"| `{name}` | {f'`{shown}`' if shown else ''} | {_markdown(told[name])} |"


_VARIABLES = """\
## Other variables

| Variable | Who reads it |
|---|---|
| `JOBSPHERE_SECRET_KEY` | the server and `jobsphere secret`: keys that seal secrets, apart by blanks; before any file |
| `JOBSPHERE_ENDPOINT` | `jobsphere.Client` and the commands about jobs: `HOST:PORT` of the API |
| `JOBSPHERE_PROJECT` | the same: the id of the project |
| `YC_IAM_TOKEN` | the same, and the vendor's client: a token |
| `GRPC_DEFAULT_SSL_ROOTS_FILE_PATH` | the same: the certificate authority |

`jobsphere client-env` prints all but the first. What the program of a job sees stands with [its config](config.md).
"""


def api() -> str:
    """Services, methods, messages, from the published descriptors that this server answers for."""
    from jobsphere.api.rest.routes import Routes
    from jobsphere.api.server import implementations

    services: Any = _Anything()
    found = implementations(services, "")
    routes = Routes(one.service for one in found)
    lines = [
        "# The API",
        "",
        "The vendor's published services, over gRPC and as JSON over HTTP ([REST](rest.md)). Fields have the names",
        "that they have in the messages; in JSON they are in camelCase.",
    ]
    for one in found:
        lines += ["", f"## {one.service.name}", "", f"`{one.service.full_name}`"]
        for method in one.service.methods:
            if method.name not in one.methods:
                continue
            lines += ["", f"### {one.service.name}.{method.name}", ""]
            words = inspect.getdoc(one.methods[method.name])
            lines += [words.partition("\n\n")[0], ""] if words else []
            for route in (r for r in routes.all if r.method.full_name == method.full_name):
                lines.append(f"`{route.verb} {route.template}`")
            answer = "a stream of " if method.server_streaming else ""
            lines += ["", f"Answers {answer}`{method.output_type.name}`.", ""]
            if method.input_type.fields:
                lines += ["| Field | Type |", "|---|---|"]
                lines += [f"| `{f.name}` | {_type(f)} |" for f in method.input_type.fields]
    lines += ["", "## Methods that are not here", "", "| Method | Why |", "|---|---|"]
    lines += [
        f"| `{one.service.name}.{name}` | {_markdown(why)} |" for one in found for name, why in one.without.items()
    ]
    return "\n".join(lines) + "\n"


def decisions() -> str:
    """The decision records, by their titles."""
    records = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
    titles = [(record.name, record.read_text().partition("\n")[0].lstrip("# ")) for record in records]
    lines = [f"- [{title}]({name})" for name, title in titles]
    return "# Decisions\n\nWhat was decided on the way, and why.\n\n" + "\n".join(lines) + "\n"


def _docstrings(cls: type) -> Iterator[tuple[str, str]]:
    """The strings that stand below the attributes of a class."""
    body = ast.parse(dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    for place, following in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(place, ast.AnnAssign)
            and isinstance(place.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
        ):
            yield place.target.id, inspect.cleandoc(str(following.value.value))


def _markdown(text: str) -> str:
    return re.sub(r"``(.+?)``", r"`\1`", " ".join(text.split())).replace("|", "\\|")


def _type(field: Any) -> str:
    kind = field.message_type.name if field.message_type else field.enum_type.name if field.enum_type else ""
    scalar = {9: "string", 8: "bool", 12: "bytes", 3: "int64", 5: "int32", 4: "uint64", 13: "uint32", 1: "double"}
    name = kind or scalar.get(field.type, "number")
    return f"list of {name}" if field.is_repeated else name


class _Anything:
    """Stands for use cases that are not called."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *_: object, **__: object) -> Any:
        return self
