"""The kind `tcp_window`: one transfer over HTTP while the kernel's view of its connection is sampled."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import h11

from streamswarm import __version__
from streamswarm.targets import Target, shown
from streamswarm.v1 import probe_pb2
from streamswarm.v1.probes.tcp_window_pb2 import TcpWindowResult, TcpWindowSpec
from worker.evaluation import bottleneck, flows
from worker.failures import network_failure, target_failure
from worker.probing import Availability, FailingWith, Need, Outcome, ProbeContext
from worker.wire import options, tcp_info, tls
from worker.wire.addresses import endpoint, host_field, without_zone
from worker.wire.connect import Connection, connect, failure_of, spent
from worker.wire.http_exchange import DEFAULT_PORTS, HeaderTooLargeError
from worker.wire.source import Source
from worker.wire.stream import ByteStream, PeerClosedError
from worker.wire.tcp_sampling import Sampler, sampling
from worker.wire.transfer import HttpTransfer, Transfer
from worker.wire.volume import SpentError, Volume

T = TypeVar("T")

#: Points of the timeline in the detail.
_TIMELINE = 120
#: What moves beside the body, at most in practice: heads, the certificates of a TLS handshake, the last piece read.
_BESIDE_BODY_BYTES = 262_144


async def run(target: Target, spec: TcpWindowSpec, context: ProbeContext) -> Outcome:
    """Transfer once; a transfer that a limit ended is as good as one that ended by itself."""
    parts = urlsplit(target.url or "")
    port = target.port or DEFAULT_PORTS[parts.scheme]
    if parts.scheme == "https":
        await tls.prepare(verify=spec.verify_tls, alpn=tls.HTTP1)
    source = Source.parse(spec.source)
    resolved = await context.resolve(target.host, source.family(target.host, spec.address_family))
    address = resolved.addresses[0]
    detail: dict[str, Any] = {"address": str(address), "port": port}
    metrics = TcpWindowResult()
    if resolved.elapsed_ms is not None:
        metrics.dns_ms = resolved.elapsed_ms
    with FailingWith(detail):
        context.guard.check(address, port)
        connection = await connect(
            address,
            port,
            timeout_s=spec.timeout_ms / 1000,
            dscp=spec.dscp,
            source=source,
            metrics=metrics,
        )
        with connection.sock:
            metrics.connect_ms = connection.connect_ms
            run = _Run(target, spec, connection, endpoint(address, port), metrics, detail)
            await run.transfer()
    return Outcome(metrics=metrics, detail=detail)


def availability() -> Availability:
    """Only Linux shows a connection's state."""
    if tcp_info.SUPPORTED:
        return Availability(available=True)
    return Availability(available=False, reason="this system has no TCP_INFO, which only Linux has")


def duration_s(spec: TcpWindowSpec) -> float:
    """Return the longest time that a run may take: connection, first byte and an upload's answer have one each."""
    return (3 * spec.timeout_ms + spec.duration_ms) / 1000


def need(spec: TcpWindowSpec) -> Need:
    """Return the most that a run may need: a full segment or its acknowledgement for each 1,220 bytes, IPv6's least.

    When the last byte is read, as much more may have come as this host lets a connection receive ahead.
    """
    return Need(
        packets=-(-spec.max_bytes // 1220) + 10,
        size=_most_bytes(spec) + options.most_received_ahead(),
    )


def _most_bytes(spec: TcpWindowSpec) -> int:
    """Return the most bytes that are read and sent; TLS and chunks add to a body, the more the smaller its pieces are."""
    return spec.max_bytes + spec.max_bytes // 16 + _BESIDE_BODY_BYTES


class _Run:
    """A transfer over an open connection, from the TLS handshake to the metrics."""

    def __init__(
        self,
        target: Target,
        spec: TcpWindowSpec,
        connection: Connection,
        where: str,
        metrics: TcpWindowResult,
        detail: dict[str, Any],
    ) -> None:
        self._target = target
        self._spec = spec
        self._sock = connection.sock
        self._where = where
        self._metrics = metrics
        self._detail = detail
        self._stream = ByteStream(connection.sock, Volume(_most_bytes(spec)))
        self._transfer = Transfer()
        self._http = HttpTransfer(self._stream, self._transfer)
        self._deadline = time.monotonic() + spec.timeout_ms / 1000
        self._sampler: Sampler | None = None
        #: The limit of time ended the transfer.
        self._out_of_time = False
        #: Bytes that were given to the kernel before the body of an upload.
        self._before_body = 0

    async def transfer(self) -> None:
        """Transfer and fill in the metrics, also when it fails half-way."""
        try:
            await self._secure()
            if self._spec.direction == "upload":
                await self._upload()
            else:
                await self._download()
        except h11.RemoteProtocolError as error:
            broken = "without sending complete message body" in str(error)
            raise target_failure(
                f"{self._where} did not answer in HTTP: {shown(str(error), 200)}",
                self._metrics,
                reason=probe_pb2.FAILURE_REASON_BROKEN_OFF if broken else probe_pb2.FAILURE_REASON_BAD_ANSWER,
            ) from error
        except HeaderTooLargeError as error:
            raise target_failure(
                f"{self._where}: {error}", self._metrics, reason=probe_pb2.FAILURE_REASON_TOO_MUCH
            ) from error
        except PeerClosedError as error:
            raise target_failure(
                f"{self._where} {error}", self._metrics, reason=probe_pb2.FAILURE_REASON_BROKEN_OFF
            ) from error
        except SpentError as error:
            raise spent(error, self._where, self._metrics) from error
        except ssl.SSLError as error:
            raise target_failure(
                f"{self._where} broke the TLS connection: {tls.reason_of(error)}",
                self._metrics,
                reason=probe_pb2.FAILURE_REASON_BROKEN_OFF,
            ) from error
        except OSError as error:
            raise failure_of(error, self._where, self._metrics) from error
        finally:
            self._fill()
        self._check()

    async def _secure(self) -> None:
        if urlsplit(self._target.url or "").scheme != "https":
            return
        context = tls.client_context(verify=self._spec.verify_tls, alpn=tls.HTTP1)
        with tls.handshake_failures(self._where, self._metrics):
            took_ns = await self._within(
                self._stream.start_tls(context, without_zone(self._target.host)),
                "the TLS handshake did not end",
            )
        self._metrics.tls_ms = took_ns / 1e6

    async def _download(self) -> None:
        await self._within(self._http.begin(self._request(), with_body=False), "the request was not taken")
        await self._within(self._http.head(), "no answer came")
        if not 200 <= (self._transfer.status or 0) <= 299:
            return
        async with sampling(self._sock, self._spec.sample_ms / 1000) as self._sampler:
            # What came until the limit is what there is to say.
            try:
                await asyncio.wait_for(
                    self._http.download(self._spec.max_bytes), self._spec.duration_ms / 1000
                )
            except asyncio.TimeoutError:
                self._out_of_time = True

    async def _upload(self) -> None:
        await self._within(self._http.begin(self._request(), with_body=True), "the request was not taken")
        self._before_body = self._stream.bytes_sent
        interval_s = self._spec.sample_ms / 1000
        async with sampling(self._sock, interval_s) as sampler:
            self._sampler = sampler
            try:
                await asyncio.wait_for(
                    self._http.upload(self._spec.max_bytes, sampler, interval_s),
                    self._spec.duration_ms / 1000,
                )
            except asyncio.TimeoutError:
                # The body is not complete, so no answer is waited for; unless one has come that refuses the rest.
                if not self._http.refused():
                    self._out_of_time = True
                    return
        self._deadline = time.monotonic() + self._spec.timeout_ms / 1000
        await self._within(self._http.head(), "the upload was not answered")

    async def _within(self, step: Awaitable[T], otherwise: str) -> T:
        """Take a step before the time-out, or say what did not happen."""
        try:
            return await asyncio.wait_for(step, max(0.0, self._deadline - time.monotonic()))
        except asyncio.TimeoutError:
            raise network_failure(
                f"{self._where}: {otherwise} within {self._spec.timeout_ms} ms", self._metrics
            ) from None

    def _request(self) -> h11.Request:
        parts = urlsplit(self._target.url or "")
        headers = [
            ("Host", host_field(self._target.host, self._target.port, DEFAULT_PORTS[parts.scheme])),
            ("User-Agent", f"streamswarm/{__version__}"),
            ("Accept", "*/*"),
            ("Accept-Encoding", "identity"),
            ("Connection", "close"),
        ]
        upload = self._spec.direction == "upload"
        if upload:
            headers += [
                ("Content-Type", "application/octet-stream"),
                ("Content-Length", str(self._spec.max_bytes)),
            ]
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return h11.Request(method="POST" if upload else "GET", target=path, headers=headers)

    def _fill(self) -> None:
        """Set the metrics of what has happened."""
        transfer, metrics = self._transfer, self._metrics
        if transfer.status is not None:
            metrics.status = transfer.status
        if transfer.sent_ns:
            metrics.body_bytes = transfer.body_bytes
        if transfer.first_byte_ns and transfer.first_byte_ns > transfer.sent_ns:
            metrics.ttfb_ms = (transfer.first_byte_ns - transfer.sent_ns) / 1e6
        if self._sampler is None:
            info = Sampler(self._sock).take()
            if info is not None:
                flows.fill_connection(metrics, info)
            return
        samples = self._sampler.samples
        sending = self._spec.direction == "upload"
        # An upload's answer comes after the last sample.
        flows.fill_connection(metrics, tcp_info.read(self._sock) or samples[-1].info)
        flows.fill(metrics, samples, sending=sending, out_of_time=self._out_of_time)
        if flows.is_enough(metrics, samples):
            figures = flows.figures(metrics, sending=sending)
            metrics.efficiency_score = bottleneck.score(figures)
            metrics.bottleneck, why = bottleneck.attribute(figures)
            self._detail["bottleneck"] = bottleneck.NAMES[metrics.bottleneck]
            self._detail["why"] = why
        else:
            self._detail["why"] = "the transfer was too short to say what limited it"
        self._detail["ended"] = self._end()
        self._detail["timeline"] = flows.timeline(samples, _TIMELINE, sending=sending)

    def _end(self) -> str:
        """Say what ended the transfer."""
        transfer, spec = self._transfer, self._spec
        if self._out_of_time or (spec.direction == "download" and transfer.body_bytes >= spec.max_bytes):
            return "by a limit"
        return "by itself" if transfer.complete else "by the far end, before it was complete"

    def _check(self) -> None:
        """Raise ProbeFailure unless something moved and the answer, if one was due, says that all is well."""
        status = self._transfer.status
        if status is None or 200 <= status <= 299:
            self._check_movement()
            return
        url = shown(self._target.url or "")
        text = f"{url} answered with status {status}; the test wants 200 to 299"
        if self._transfer.location is not None:
            text += (
                f" and follows no redirects: name `{shown(self._transfer.location)}` as destination instead"
            )
        raise target_failure(text, self._metrics, reason=probe_pb2.FAILURE_REASON_WRONG_STATUS)

    def _check_movement(self) -> None:
        """Raise ProbeFailure when a transfer stood still until the limit of time."""
        if not self._out_of_time or self._sampler is None:
            return
        if self._spec.direction == "upload":
            acked = self._sampler.samples[-1].info.bytes_acked
            # The kernel counts the SYN.
            if acked is None or acked > self._before_body + 1:
                return
            what = "no byte of the body was acknowledged"
        elif self._transfer.body_bytes:
            return
        else:
            what = "the head of the answer came, but no byte of the body"
        raise network_failure(f"{self._where}: {what} within {self._spec.duration_ms} ms", self._metrics)
