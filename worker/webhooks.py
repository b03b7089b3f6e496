"""Tells the receivers of webhooks how runs ended.

The worker that leads puts what has ended into the outbox and delivers what is due, each
receiver with so many deliveries at a time, so that one that hangs holds nobody else up. An
attempt is counted before it is made: what was begun by a worker that died is due again a
while later, and a delivery is made at least once, and never more often than it may.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http import HTTPStatus

import httpx2
import structlog

from shared.errors import FlowManagerError, InvalidSettings
from shared.models_webhooks import DeliveryState
from shared.retry import GiveUp, RetryPolicy, decide_retry
from shared.run_events import CONTENT_TYPE
from shared.settings import Settings
from shared.store.webhooks import (
    Delivered,
    Delivery,
    Look,
    Looked,
    look_for_deliveries,
    record_deliveries,
)
from shared.webhook_signing import signed_headers, signing_keys
from shared.writer import Writer
from worker.outbound.client import Outbound
from worker.outbound.errors import HttpError, RequestRefused
from worker.outbound.messages import OutboundRequest, OutboundResponse
from worker.outbound.urls import read_url

_log = structlog.get_logger(__name__)

_AT_A_TIME = 8
"""Deliveries to one receiver: enough for hundreds a second, and few for whom we call."""
_FIRST_DELAY_SECONDS = 5.0
_LOOKS_A_SWEEP = 2
_MARGIN_SECONDS = 5.0
"""Beyond its time limit an attempt may take so long to be recorded."""
_TRY_AGAIN = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
_MAX_ERROR = 500
_STOP_SECONDS = 2.0
"""What deliveries under way are given at most when the worker stops: they may come twice."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A receiver."""

    digest: str
    """Names it in the database, where its URL, which may hold a token, is not stored."""
    url: httpx2.URL


def endpoints_of(settings: Settings) -> Sequence[Endpoint]:
    """The receivers that the settings name.

    Raises:
        InvalidSettings: a URL cannot be used.
    """
    found = []
    for number, secret in enumerate(settings.webhook_urls, 1):
        text = secret.get_secret_value()
        try:
            url = read_url(text)
        except RequestRefused as error:
            raise InvalidSettings(f"FLOW_WEBHOOK_URLS: the {number}. one: {error}") from None
        found.append(Endpoint(sha256(text.encode()).hexdigest()[:16], url))
    return found


class Webhooks:
    """Delivers while ``is_leading`` says so."""

    def __init__(
        self,
        writer: Writer,
        settings: Settings,
        outbound: Outbound,
        is_leading: Callable[[], bool],
    ) -> None:
        self._writer = writer
        self._settings = settings
        self._outbound = outbound
        self._is_leading = is_leading
        self._endpoints = {one.digest: one for one in endpoints_of(settings)}
        secret = settings.webhook_secret.get_secret_value()
        self._keys = signing_keys(secret) if secret else ()
        self._policy = RetryPolicy(
            max_attempts=settings.webhook_max_attempts,
            delay=_FIRST_DELAY_SECONDS,
            max_delay=settings.webhook_max_delay_seconds,
        )
        self._under_way: Counter[str] = Counter()
        self._ended = asyncio.Event()
        """Set whenever a delivery is over."""
        self._is_stopping = False

    async def deliver_for_ever(self) -> None:
        """Look for what there is to tell, twice a sweep and while there is more at once."""
        pause_seconds = self._settings.sweep_seconds / _LOOKS_A_SWEEP
        async with asyncio.TaskGroup() as group:
            while True:
                has_more = False
                if self._is_leading() and not self._is_stopping:
                    self._ended.clear()
                    looked = await self._look()
                    has_more = looked.has_more
                    for delivery in looked.taken:
                        self._under_way[delivery.endpoint] += 1
                        group.create_task(self._deliver(delivery), name="webhook")
                await self._pause(pause_seconds, until_ended=has_more)

    async def stop(self, grace_seconds: float) -> None:
        """Begin nothing more, and give what is under way its time."""
        self._is_stopping = True
        try:
            async with asyncio.timeout(min(grace_seconds, _STOP_SECONDS)):
                while self._under_way.total():
                    self._ended.clear()
                    await self._ended.wait()
        except TimeoutError:
            # They are due again a while later.
            _log.warning("webhooks_cut_off", deliveries=self._under_way.total())

    async def _pause(self, seconds: float, *, until_ended: bool) -> None:
        if not until_ended:
            await asyncio.sleep(seconds)
            return
        try:
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            return

    async def _look(self) -> Looked:
        now = datetime.now(UTC)
        seconds = 2 * self._settings.webhook_timeout_seconds + _MARGIN_SECONDS
        look = Look(
            hosts={digest: one.url.host for digest, one in self._endpoints.items()},
            room={digest: _AT_A_TIME - self._under_way[digest] for digest in self._endpoints},
            public_url=self._settings.public_url,
            now=now,
            due_again=now + timedelta(seconds=seconds),
        )
        try:
            return await self._writer.call(look_for_deliveries, look)
        except FlowManagerError as error:
            _log.warning("webhooks_delayed", error=str(error))
        except Exception:  # noqa: BLE001  # the border of one loop of upkeep
            # What is only told to others must not end a worker.
            _log.exception("webhooks_broke_off")
        return Looked((), has_more=False)

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            await self._record(await self._attempt(delivery))
        finally:
            self._under_way[delivery.endpoint] -= 1
            self._ended.set()

    async def _attempt(self, delivery: Delivery) -> Delivered:
        """Send it once; what that means."""
        try:
            response = await self._outbound.send(
                self._request(delivery), timeout_seconds=self._settings.webhook_timeout_seconds
            )
        except HttpError as error:
            return self._failed(delivery, None, f"{type(error).__name__}: {error}")
        except Exception as error:  # noqa: BLE001  # the border of one attempt
            _log.exception("webhook_attempt_broke_off", event_id=delivery.event_id)
            return self._failed(delivery, None, type(error).__name__)
        status = response.status
        now = datetime.now(UTC)
        if 200 <= status < 300:
            return Delivered(delivery, DeliveryState.DELIVERED, now, status, None, now)
        told = f"the receiver answered {status}"
        if 400 <= status < 500 and status not in _TRY_AGAIN:
            return Delivered(delivery, DeliveryState.DEAD, now, status, told, now)
        return self._failed(delivery, status, told, _retry_after(response))

    def _request(self, delivery: Delivery) -> OutboundRequest:
        signed = signed_headers(self._keys, delivery.event_id, int(time.time()), delivery.body)
        return OutboundRequest(
            method="POST",
            url=self._endpoints[delivery.endpoint].url,
            headers={"content-type": CONTENT_TYPE, "user-agent": "flow-manager", **signed},
            body=delivery.body,
        )

    def _failed(
        self, delivery: Delivery, status: int | None, error: str, retry_after: float = 0.0
    ) -> Delivered:
        """Whether and when it is tried again."""
        now = datetime.now(UTC)
        decision = decide_retry(
            self._policy,
            failed_attempts=delivery.attempt,
            kind="error",
            elapsed_seconds=0,
            draw=random.random(),
        )
        error = error[:_MAX_ERROR]
        if isinstance(decision, GiveUp):
            return Delivered(delivery, DeliveryState.DEAD, now, status, error, now)
        wait = max(decision.delay_seconds, min(retry_after, self._policy.max_delay))
        due = now + timedelta(seconds=wait)
        return Delivered(delivery, DeliveryState.PENDING, now, status, error, due)

    async def _record(self, result: Delivered) -> None:
        told = {
            "event_id": result.delivery.event_id,
            "host": self._endpoints[result.delivery.endpoint].url.host,
            "attempt": result.delivery.attempt,
        }
        if result.state is DeliveryState.DELIVERED:
            _log.info("webhook_delivered", **told)
        else:
            event = "webhook_dead" if result.state is DeliveryState.DEAD else "webhook_failed"
            _log.warning(event, **told, error=result.error)
        try:
            await self._writer.call(record_deliveries, result)
        except FlowManagerError as error:
            # It is delivered again when it is due again: at least once.
            _log.warning("webhook_not_recorded", **told, error=str(error))


def _retry_after(response: OutboundResponse) -> float:
    """The seconds that a receiver asks us to wait."""
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0.0
