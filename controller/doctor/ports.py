"""Whether the controller's ports answer on this machine, and with which certificate the gateway's does."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
from collections.abc import Iterator, Sequence

from cryptography import x509

from controller.errors import ConfigurationError
from controller.settings import PREFIX, Settings, on_this_machine, split_address
from controller.store.queries.health import ProcessRecord
from streamswarm.findings import Finding, ok, unknown, wrong

_TIMEOUT_S = 5.0
#: Gateways renew a certificate of seven days after half of them.
_LEAST_LEFT = dt.timedelta(days=1)
_LISTENERS = (("gateway", "gateway_listen"), ("gateway", "enrolment_listen"), ("web", "web_listen"))


def examine(settings: Settings, running: Sequence[ProcessRecord] | None) -> Iterator[Finding]:
    """Yield a finding for each listener; `running` are the processes, None when they could not be asked for."""
    for role, setting in _LISTENERS:
        try:
            address = on_this_machine(getattr(settings, setting))
        except ConfigurationError:
            continue  # that it is no address is told with the settings
        name = f"port {address}"
        host, port = split_address(address, what=setting)
        if _answers(host, port):
            yield ok(name, f"answers ({PREFIX}{setting.upper()})")
            if setting == "gateway_listen":
                yield _certificate(settings, host, port)
        else:
            yield _silent(name, role, f"{PREFIX}{setting.upper()}", running)


def _silent(name: str, role: str, variable: str, running: Sequence[ProcessRecord] | None) -> Finding:
    here = socket.gethostname()
    alive = [process for process in running or () if process.role == role and process.alive]
    if any(process.host_name == here for process in alive):
        mend = f"see the log of the {role}; is {variable} here the same as there?"
        return wrong(name, f"nothing listens, though a {role} runs on this machine ({variable})", mend)
    if alive:
        return ok(name, f"nothing listens here; {role} runs on {alive[0].host_name}")
    return unknown(
        name, f"nothing listens ({variable})", f"start `streamswarm {role}`, if it belongs on this machine"
    )


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), _TIMEOUT_S).close()
    except OSError:
        return False
    return True


def _certificate(settings: Settings, host: str, port: int) -> Finding:
    """Say until when the gateway's certificate is good, and whether the roots here vouch for it."""
    name = "gateway's certificate"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # it is for the names that workers dial
    context.set_alpn_protocols(["h2"])
    roots = sorted((settings.data_dir / "ca").glob("root*.pem"))
    try:
        for path in roots:
            context.load_verify_locations(cafile=path)
        with (
            socket.create_connection((host, port), _TIMEOUT_S) as connection,
            context.wrap_socket(connection, server_hostname=host) as wrapped,
        ):
            der = wrapped.getpeercert(binary_form=True) or b""
    except ssl.SSLCertVerificationError as error:
        if not roots:
            return unknown(name, "there are no roots here to check it with")
        mend = "restart the gateway; if that does not help, restore the folder `ca` from a backup"
        return wrong(
            name, f"the roots in {settings.data_dir / 'ca'} do not vouch for it: {error.verify_message}", mend
        )
    except OSError as error:
        mend = "see that the gateway, and not another program, has this port"
        return wrong(name, f"no TLS 1.3 on {host}:{port}: {error}", mend)
    end = x509.load_der_x509_certificate(der).not_valid_after_utc
    text = f"good until {end:%Y-%m-%d %H:%M} UTC"
    if end - dt.datetime.now(dt.UTC) < _LEAST_LEFT:
        return wrong(name, f"{text}, and should have been renewed", "restart the gateway, and see its log")
    return ok(name, text)
