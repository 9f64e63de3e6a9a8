"""Wrong tokens, counted by the address that they come from: nobody guesses at speed, nobody honest is locked out."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from ipaddress import IPv6Address, ip_address, ip_network

from jobsphere.domain.errors import ResourceExhaustedError, UnauthenticatedError

AT_ONCE = 20
PER_S = 1.0
_ADDRESSES = 10_000
_origin: ContextVar[Callable[[], str] | None] = ContextVar("origin", default=None)


def comes_from(origin: Callable[[], str]) -> None:
    """Say, at the start of a call, where it comes from: ``host:port``, asked for only when that matters."""
    _origin.set(origin)


class Guesses:
    """Each address may be wrong :data:`AT_ONCE` times, and :data:`PER_S` times a second after that.

    The addresses of one IPv6 network (/64) count as one: they are one customer's.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._now = monotonic
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()

    @contextmanager
    def one(self) -> Generator[None]:
        """Around the look at a token that may be a guess. It counts if it is wrong.

        Raises:
            ResourceExhaustedError: there were too many wrong ones; this one is not looked at.
        """
        origin = _origin.get()
        if origin is None:
            yield
            return
        address = _address(origin())
        self._charge(address)
        try:
            yield
        except UnauthenticatedError:
            raise
        except BaseException:
            self._pay_back(address)
            raise
        self._pay_back(address)

    def _charge(self, address: str) -> None:
        spent = self._still_spent(address)
        if spent > AT_ONCE - 1:
            wait_s = math.ceil((spent - AT_ONCE + 1) / PER_S)
            raise ResourceExhaustedError(
                f"too many wrong tokens came from this address: try again in {wait_s} s. Tokens that were right here "
                "before, and short-lived ones that this server has issued, go on working"
            )
        self._note(address, spent + 1)

    def _pay_back(self, address: str) -> None:
        self._note(address, self._still_spent(address) - 1)

    def _still_spent(self, address: str) -> float:
        spent, at = self._spent.get(address, (0.0, 0.0))
        return max(0.0, spent - (self._now() - at) * PER_S)

    def _note(self, address: str, spent: float) -> None:
        self._spent.pop(address, None)
        if spent > 0:
            self._spent[address] = (spent, self._now())
        if len(self._spent) > _ADDRESSES:
            self._spent.popitem(last=False)


def _address(origin: str) -> str:
    host = origin.rpartition(":")[0].strip("[]") or origin
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return str(ip_network(f"{address}/64", strict=False)) if isinstance(address, IPv6Address) else host
