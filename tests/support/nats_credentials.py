"""A NATS operator with one account, as `nsc` would make them: what a server trusts, and the credentials
of a user."""

import base64
import binascii
import hashlib
import json
import time

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

_SEED, _OPERATOR, _ACCOUNT, _USER = 18 << 3, 14 << 3, 0, 20 << 3
_UNLIMITED = {
    name: -1
    for name in ("subs", "data", "payload", "imports", "exports", "conn", "leaf", "mem_storage",
                 "disk_storage", "streams", "consumer")
}  # fmt: skip


def _base32(data):
    data += binascii.crc_hqx(data, 0).to_bytes(2, "little")
    return base64.b32encode(data).decode().rstrip("=")


def _base64(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class _Key:
    """An Ed25519 key in the texts that NATS writes for it."""

    def __init__(self, kind):
        self._key = ed25519.Ed25519PrivateKey.generate()
        raw = serialization.Encoding.Raw
        public = self._key.public_key().public_bytes(raw, serialization.PublicFormat.Raw)
        private = self._key.private_bytes(raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
        self.public = _base32(bytes([kind]) + public)
        self.seed = _base32(bytes([_SEED | kind >> 5, (kind & 31) << 3]) + private)

    def token(self, subject, name, claims):
        body = {"iat": int(time.time()), "iss": self.public, "name": name, "sub": subject,
                "nats": {"version": 2, **claims}}  # fmt: skip
        body["jti"] = base64.b32encode(hashlib.sha256(json.dumps(body).encode()).digest()).decode().rstrip("=")
        header = _base64(b'{"typ":"JWT","alg":"ed25519-nkey"}')
        signed = f"{header}.{_base64(json.dumps(body).encode())}"
        return f"{signed}.{_base64(self._key.sign(signed.encode()))}"


class Operator:
    def __init__(self):
        self._key, self._system, self._account = _Key(_OPERATOR), _Key(_ACCOUNT), _Key(_ACCOUNT)

    def server_config(self):
        account = {"type": "account", "limits": {**_UNLIMITED, "wildcards": True}}
        system = {"type": "account", "limits": {"subs": -1, "data": -1, "payload": -1, "imports": -1,
                                                "exports": -1, "conn": -1, "leaf": -1, "wildcards": True}}  # fmt: skip
        operator = self._key.token(self._key.public, "operator", {"type": "operator"})
        return (
            f"operator: {operator}\nsystem_account: {self._system.public}\nresolver: MEMORY\n"
            f"resolver_preload: {{\n"
            f"  {self._system.public}: {self._key.token(self._system.public, 'SYS', system)}\n"
            f"  {self._account.public}: {self._key.token(self._account.public, 'account', account)}\n}}"
        )

    def write_user(self, path):
        """Writes credentials of a new user of the account."""
        user = _Key(_USER)
        claims = {"type": "user", "subs": -1, "data": -1, "payload": -1}
        path.write_text(
            f"-----BEGIN NATS USER JWT-----\n{self._account.token(user.public, 'user', claims)}\n"
            "------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
        )
        path.chmod(0o600)
        return str(path)
