"""The server's own log: structured, on stderr, for a person or for a machine."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from jobsphere.domain.text import one_line, readable
from jobsphere.service import call_facts


def configure_logging(log_format: str) -> None:
    """Write events from ``info`` on, as ``console`` lines or as ``json`` objects; of libraries from ``warning`` on."""
    renderer = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _of_its_call,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _harmless,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_Libraries()], level=logging.WARNING, force=True)


class _Libraries(logging.Handler):
    """What libraries write goes the same way."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one event on."""
        try:
            structlog.get_logger(record.name).log(record.levelno, record.getMessage(), exc_info=record.exc_info)
        except Exception:  # noqa: BLE001 - as every handler: a broken event must not break who wrote it
            self.handleError(record)


def _of_its_call(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A line that is written while a call is served says which one."""
    for name, value in call_facts.current().items():
        event.setdefault(name, value)
    return event


def _harmless(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Parts of it are what clients have sent: no line is forged, no terminal is steered by them."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = _indented(value) if key == "exception" else one_line(value)
    return event


def _indented(traceback: str) -> str:
    return readable(traceback).replace("\n", "\n  ")
