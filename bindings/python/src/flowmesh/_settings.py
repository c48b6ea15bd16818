"""How a client is opened: what FlowMesh was given, and how that becomes options of the library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from . import _arguments as arguments
from ._library import call
from ._native import lib

# How the arguments of FlowMesh become options of the library.
_ONE_SETTER: dict[str, tuple[Callable[[str, Any], Any], Callable[..., int]]] = {
    "auth_token": (arguments.text, lib.flowmesh_client_options_set_auth_token),
    "auth_token_file": (arguments.path, lib.flowmesh_client_options_set_auth_token_file),
    "allow_plaintext_token": (arguments.flag, lib.flowmesh_client_options_set_allow_plaintext_token),
    "tls_ca_file": (arguments.path, lib.flowmesh_client_options_set_tls_ca_file),
    "tls_ca_pem": (arguments.view, lib.flowmesh_client_options_set_tls_ca_pem),
    "tls_server_name": (arguments.text, lib.flowmesh_client_options_set_tls_server_name),
    "timeout": (arguments.milliseconds, lib.flowmesh_client_options_set_timeout_ms),
    "connect_timeout": (arguments.milliseconds, lib.flowmesh_client_options_set_connect_timeout_ms),
    "max_message_bytes": (arguments.size, lib.flowmesh_client_options_set_max_message_bytes),
    "fsync": (arguments.fsync, lib.flowmesh_client_options_set_fsync),
    "create": (arguments.flag, lib.flowmesh_client_options_set_create),
}
_PAIR_SETTERS: list[tuple[str, str, Callable[[str, Any], Any], Callable[..., int]]] = [
    (
        "tls_certificate_file",
        "tls_key_file",
        arguments.path,
        lib.flowmesh_client_options_set_tls_certificate_file,
    ),
    (
        "tls_certificate_pem",
        "tls_key_pem",
        arguments.view,
        lib.flowmesh_client_options_set_tls_certificate_pem,
    ),
]


@dataclass(frozen=True)
class Settings:
    """How to open a client; FlowMesh says what each of them means."""

    endpoint: str | None
    auth_token: str | None = None
    auth_token_file: arguments.Path | None = None
    allow_plaintext_token: bool | None = None
    tls_ca_file: arguments.Path | None = None
    tls_ca_pem: bytes | None = None
    tls_certificate_file: arguments.Path | None = None
    tls_key_file: arguments.Path | None = None
    tls_certificate_pem: bytes | None = None
    tls_key_pem: bytes | None = None
    tls_server_name: str | None = None
    timeout: timedelta | None = None
    connect_timeout: timedelta | None = None
    max_message_bytes: int | None = None
    fsync: str | None = None
    create: bool | None = None
    test_clock: bool = False


def apply(settings: Settings, options: Any) -> None:
    """Sets what is not left open. A pair of files, or of texts, is one setting."""
    for name, (form, setter) in _ONE_SETTER.items():
        value = getattr(settings, name)
        if value is not None:
            call(setter, options, form(name, value))
    if settings.test_clock:
        call(lib.flowmesh_client_options_set_test_clock, options, True)
    for first, second, form, setter in _PAIR_SETTERS:
        values = [(name, getattr(settings, name)) for name in (first, second)]
        given = [form(name, value) for name, value in values if value is not None]
        if len(given) == 1:
            raise arguments.refuse(f"{first} and {second} go together")
        if given:
            call(setter, options, *given)
