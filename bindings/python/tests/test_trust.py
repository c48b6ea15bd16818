"""TLS and tokens: how clients prove who they are, and have servers prove it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Name, Server
from test_client import new_token

from flowmesh import (
    FlowMesh,
    FlowMeshAuthError,
    FlowMeshConnectionError,
    FlowMeshError,
    FlowMeshInvalidArgumentError,
    blocking,
)

NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
BY = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:FALSE"]


def certify(directory: Path, name: str, *options: str) -> None:
    command = ["openssl", "req", "-x509", "-subj", f"/CN={name}", *NEW_KEY, *options]
    files = ["-keyout", f"{name}.key", "-out", f"{name}.pem"]
    subprocess.run([*command, *files], cwd=directory, capture_output=True, check=True)


class House:
    """A server that wants a certificate and a token, and what gets a client in."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        certify(directory, "ca")
        certify(directory, "server", *BY, "-addext", "subjectAltName=DNS:flowmesh.test")
        certify(directory, "client", *BY)
        certify(directory, "other")
        self.token, entry = new_token("kv.read", "kv.write")
        (directory / "tokens.toml").write_text(entry)
        (directory / "token").write_text(self.token + "\n")
        files = {"--tls-cert": "server.pem", "--tls-key": "server.key", "--tls-client-ca": "ca.pem"}
        arguments = [part for option, file in files.items() for part in (option, str(directory / file))]
        tokens = ["--tokens", str(directory / "tokens.toml")]
        self.server = Server(*arguments, *tokens, listen="127.0.0.1:0")
        self.endpoint = f"https://{self.server.endpoint}"

    def options(self, how: str) -> dict[str, Any]:
        """All that is needed, from files or from memory."""
        path = self.directory
        if how == "files":
            return {
                "auth_token_file": path / "token",
                "tls_ca_file": path / "ca.pem",
                "tls_certificate_file": str(path / "client.pem"),
                "tls_key_file": str(path / "client.key"),
                "tls_server_name": "flowmesh.test",
            }
        return {
            "auth_token": self.token,
            "tls_ca_pem": (path / "ca.pem").read_bytes(),
            "tls_certificate_pem": (path / "client.pem").read_bytes(),
            "tls_key_pem": bytearray((path / "client.key").read_bytes()),
            "tls_server_name": "flowmesh.test",
        }


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("house"))
    yield made
    made.server.stop()


@pytest.mark.parametrize("how", ["files", "memory"])
async def test_who_shows_everything_gets_in(house: House, how: str, name: Name) -> None:
    async with FlowMesh(house.endpoint, **house.options(how)) as client:
        await client.kv.set(*name, "key", b"v")
        assert await client.kv.get(*name, "key") == b"v"
    with blocking.FlowMesh(house.endpoint, **house.options(how)) as blocked:
        assert blocked.kv.get(*name, "key") == b"v"


@pytest.mark.parametrize("how", ["files", "memory"])
async def test_each_of_them_is_needed(house: House, how: str, name: Name) -> None:
    for missing in house.options(how):
        if "certificate" in missing or "key" in missing:
            continue
        options = house.options(how)
        del options[missing]
        kind: type[FlowMeshError] = FlowMeshAuthError if "token" in missing else FlowMeshConnectionError
        await refused(house.endpoint, kind, name, options)
    ours = ("tls_c", "tls_k")
    options = {name: value for name, value in house.options(how).items() if not name.startswith(ours)}
    options["tls_ca_file"] = house.directory / "ca.pem"
    await refused(house.endpoint, FlowMeshConnectionError, name, options)


async def refused(endpoint: str, kind: type[FlowMeshError], name: Name, options: dict[str, Any]) -> None:
    client = FlowMesh(endpoint, **options)
    with pytest.raises(kind):
        await client.kv.set(*name, "key", b"v")
    await client.close()


async def test_another_authority_is_not_trusted(house: House, name: Name) -> None:
    options = {**house.options("files"), "tls_ca_file": house.directory / "other.pem"}
    await refused(house.endpoint, FlowMeshConnectionError, name, options)


async def test_a_token_file_is_read_again(house: House, name: Name, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("fm_old")
    async with FlowMesh(house.endpoint, **{**house.options("files"), "auth_token_file": file}) as client:
        with pytest.raises(FlowMeshAuthError):
            await client.kv.set(*name, "key", b"v")
        file.write_text(house.token)
        await client.kv.set(*name, "key", b"v")


async def test_a_token_does_not_go_unencrypted(name: Name) -> None:
    with pytest.raises(FlowMeshInvalidArgumentError, match="unencrypted"):
        await FlowMesh("flowmesh.test:1", "token").kv.get(*name, "key")
    client = FlowMesh("flowmesh.test:1", "token", allow_plaintext_token=True)
    assert client.get_client_stats().calls_started == 0
    await client.close()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"tls_ca_pem": b"no certificate"}, "pem must hold a certificate"),
        ({"tls_certificate_pem": b"no certificate", "tls_key_pem": b"k"}, "certificate must hold"),
        ({"tls_certificate_pem": b"x"}, "tls_certificate_pem and tls_key_pem go together"),
        ({"tls_key_file": "x"}, "tls_certificate_file and tls_key_file go together"),
        ({"tls_ca_file": "\0"}, "tls_ca_file must not hold control characters"),
        ({"max_message_bytes": -1}, "max_message_bytes"),
        ({"max_message_bytes": 1}, "max_bytes"),
        ({"fsync": "never"}, "fsync must be one of always, interval, none"),
    ],
)
async def test_bad_options(options: dict[str, Any], match: str) -> None:
    with pytest.raises(FlowMeshInvalidArgumentError, match=match):
        await FlowMesh("https://localhost:1", **options).connect()


@pytest.mark.parametrize(
    "options",
    [
        {"tls_ca_file": 5},
        {"tls_ca_pem": "text"},
        {"create": "yes"},
        {"allow_plaintext_token": 1},
        {"fsync": 1},
    ],
)
async def test_options_of_a_wrong_type(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, FlowMeshInvalidArgumentError)):
        await FlowMesh("https://localhost:1", **options).connect()


async def test_options_of_embedded_engines(tmp_path: Path, name: Name) -> None:
    async with FlowMesh(f"embedded:{tmp_path}/data", fsync="none", create=False) as client:
        with pytest.raises(FlowMeshError) as missing:
            await client.kv.set(*name, "key", b"v")
        assert missing.value.code == 5
