"""Small translations that every codec needs: times, durations and names of enum values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from jobsphere.domain.errors import InvalidArgumentError

if TYPE_CHECKING:
    from google.protobuf.descriptor import EnumDescriptor

E = TypeVar("E", bound=StrEnum)

MAX_DURATION = timedelta(days=100 * 366)
"""No duration of the API means more than a century: longer ones would only overflow calendars."""


def timestamp(moment: datetime) -> Timestamp:
    """The published form of a timezone-aware moment, to the microsecond."""
    since = moment - _EPOCH
    return Timestamp(seconds=since.days * 86400 + since.seconds, nanos=since.microseconds * 1000)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def timestamp_ns(time_ns: int) -> Timestamp:
    """The published form of nanoseconds since the epoch."""
    return Timestamp(seconds=time_ns // 1_000_000_000, nanos=time_ns % 1_000_000_000)


def duration(seconds: float) -> Duration:
    """The published form of some seconds (not negative), to the microsecond."""
    whole, micros = divmod(round(seconds * 1_000_000), 1_000_000)
    return Duration(seconds=whole, nanos=micros * 1000)


def read_duration(where: str, value: Duration) -> timedelta:
    """A duration of a request, to the microsecond.

    Raises:
        InvalidArgumentError: it is out of any sensible range; ``where`` names the field.
    """
    limit = int(MAX_DURATION.total_seconds())
    if not -limit <= value.seconds <= limit or not -1_000_000_000 < value.nanos < 1_000_000_000:
        raise InvalidArgumentError(f"{where}: is longer than {MAX_DURATION.days} days, or no duration at all")
    return timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)


def enum_name(where: str, descriptor: EnumDescriptor, number: int) -> str:
    """The name of an enum value of a request.

    Raises:
        InvalidArgumentError: the number has no name; ``where`` names the field.
    """
    value = descriptor.values_by_number.get(number)
    if value is None:
        raise InvalidArgumentError(f"{where}: there is no value {number}; there are: {', '.join(_names(descriptor))}")
    return value.name


def enum_numbers(descriptor: EnumDescriptor) -> dict[str, int]:
    """The numbers of an enum's values by their names."""
    return {name: value.number for name, value in descriptor.values_by_name.items()}


def _names(descriptor: EnumDescriptor) -> list[str]:
    return list(descriptor.values_by_name)
