"""Certificates for TLS on one machine: an authority, and what it signs for a server or a client on loopback."""

import ipaddress
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from sandbox.ports import HOST

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
SIGNING = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)
LIFETIME = timedelta(days=30)
SKEW = timedelta(minutes=5)  # by which another clock may be behind


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM."""

    certificate: bytes
    key: bytes

    def write(self, directory: Path, name: str) -> None:
        """As <name>.crt and <name>.key, each renamed into place, as Envoy waits for it."""
        replace(directory / f"{name}.key", self.key)
        replace(directory / f"{name}.crt", self.certificate)


class Authority:
    """A certificate authority that lives as long as this object: nobody can sign with it afterwards."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self._identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        builder = _builder(self._name, self._name, self._key.public_key(), LIFETIME)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(SIGNING, critical=True)
        builder = builder.add_extension(self._identifier, critical=False)
        self.certificate = builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def issue(self, name: str, usage: x509.ObjectIdentifier, lifetime: timedelta = LIFETIME) -> Pair:
        """For `localhost` and loopback addresses; with a lifetime below zero it has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName("localhost"), *(x509.IPAddress(ipaddress.ip_address(each)) for each in (HOST, "::1"))]
        builder = _builder(_name(name), self._name, key.public_key(), lifetime)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier)
        builder = builder.add_extension(issuer, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
        return Pair(certificate, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def make(directory: Path) -> None:
    """In the directory, anew: tls/tls.crt and .key for Envoy, clients/ca.crt, which signed all, client.crt and .key."""
    authority = Authority("Live Sessions sandbox")
    for name in ("tls", "clients"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    replace(directory / "clients" / "ca.crt", authority.certificate)
    authority.issue("envoy", SERVER).write(directory / "tls", "tls")
    authority.issue("client", CLIENT).write(directory, "client")


def replace(path: Path, content: bytes) -> None:
    """In one step; only this user may read it."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    draft.replace(path)


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, now + lifetime) - SKEW)
        .not_valid_after(now + lifetime)
    )
