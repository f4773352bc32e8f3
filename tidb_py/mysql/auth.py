"""Password checks: mysql_native_password and caching_sha2_password, as a pure exchange of messages.

Accounts hold hashes, never passwords: native keeps `*` + SHA1(SHA1(password)) in hex, caching_sha2 keeps MySQL's
`$A$005$` salt and digest (sha256-crypt). An account without a password accepts only an empty answer, by either plugin;
a client that answers as any other plugin is told which one to use, for it waits for that even when it has no password.
caching_sha2 compares a scramble against a cache of SHA256(SHA256(password)) (fast); a miss needs the password itself,
which is only asked for over TLS or encrypted with our RSA key. All comparisons take constant time.

`AuthExchange` consumes the client's messages and says what to send next; it never does I/O. The cache belongs to the
server and is dropped for an account whose password changes.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tidb_py.mysql.constants import CACHING_SHA2, NATIVE_PASSWORD
from tidb_py.mysql.handshake import auth_more_data, auth_switch

_B64 = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PLUGINS = (NATIVE_PASSWORD, CACHING_SHA2)


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def native_hash(password: str) -> str:
    """What mysql_native_password stores."""
    if not password:
        return ""
    inner = hashlib.sha1(password.encode()).digest()  # noqa: S324 - the protocol's own hash
    return "*" + hashlib.sha1(inner).hexdigest().upper()  # noqa: S324


def native_scramble(password: str, scramble: bytes) -> bytes:
    """What a client answers for mysql_native_password (used by tests and by our own client)."""
    if not password:
        return b""
    stage1 = hashlib.sha1(password.encode()).digest()  # noqa: S324
    stage2 = hashlib.sha1(stage1).digest()  # noqa: S324
    return _xor(stage1, hashlib.sha1(scramble + stage2).digest())  # noqa: S324


def check_native(answer: bytes, scramble: bytes, stored: str) -> bool:
    """Whether a native answer fits the stored hash."""
    if not stored or len(answer) != 20:
        return not stored and not answer
    stage2 = bytes.fromhex(stored[1:])
    stage1 = _xor(answer, hashlib.sha1(scramble + stage2).digest())  # noqa: S324
    return hmac.compare_digest(hashlib.sha1(stage1).digest(), stage2)  # noqa: S324


def sha2_scramble(password: str, scramble: bytes) -> bytes:
    """What a client answers first for caching_sha2_password."""
    if not password:
        return b""
    digest1 = hashlib.sha256(password.encode()).digest()
    digest2 = hashlib.sha256(digest1).digest()
    return _xor(digest1, hashlib.sha256(digest2 + scramble).digest())


def _crypt_digest(password: bytes, salt: bytes) -> bytes:
    alternate = hashlib.sha256(password + salt + password).digest()
    first = hashlib.sha256(password + salt)
    for start in range(0, len(password), 32):
        first.update(alternate[: len(password) - start])
    bits = len(password)
    while bits:
        first.update(alternate if bits & 1 else password)
        bits >>= 1
    result = first.digest()
    p_sum = hashlib.sha256(password * len(password)).digest()
    p_bytes = (p_sum * (len(password) // 32 + 1))[: len(password)]
    s_sum = hashlib.sha256(salt * (16 + result[0])).digest()
    s_bytes = (s_sum * (len(salt) // 32 + 1))[: len(salt)]
    for i in range(5000):
        data = p_bytes if i & 1 else result
        if i % 3:
            data += s_bytes
        if i % 7:
            data += p_bytes
        data += result if i & 1 else p_bytes
        result = hashlib.sha256(data).digest()
    return result


def _crypt_text(digest: bytes) -> str:
    order = (0, 10, 20), (21, 1, 11), (12, 22, 2), (3, 13, 23), (24, 4, 14), (15, 25, 5), (6, 16, 26), (27, 7, 17)
    groups = [*order, (18, 28, 8), (9, 19, 29)]
    out: list[str] = []
    for a, b, c in groups:
        value = digest[a] << 16 | digest[b] << 8 | digest[c]
        out.extend(_B64[value >> shift & 63] for shift in (0, 6, 12, 18))
    value = digest[31] << 8 | digest[30]
    out.extend(_B64[value >> shift & 63] for shift in (0, 6, 12))
    return "".join(out)


def sha2_hash(password: str, salt: bytes) -> str:
    """What caching_sha2_password stores; `salt` is 20 printable bytes."""
    if not password:
        return ""
    return f"$A$005${salt.decode()}{_crypt_text(_crypt_digest(password.encode(), salt))}"


def check_sha2_password(password: bytes, stored: str) -> bool:
    """Whether a password fits the stored caching_sha2 hash."""
    if not stored:
        return not password
    if not stored.startswith("$A$005$") or len(stored) != 7 + 20 + 43:
        return False
    salt = stored[7:27].encode()
    return hmac.compare_digest(_crypt_text(_crypt_digest(password, salt)).encode(), stored[27:].encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One row of mysql.user, as far as authentication goes."""

    user: str
    host: str
    plugin: str = NATIVE_PASSWORD
    auth_string: str = ""
    locked: bool = False


class RsaKey:
    """The key pair with which a client without TLS hides its password."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.public_pem = self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def decrypt(self, data: bytes) -> bytes | None:
        """The plain bytes, or None when they were not encrypted for this key."""
        oaep = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)  # noqa: S303 - fixed by the protocol
        try:
            return self._key.decrypt(data, oaep)
        except ValueError:
            return None


class AuthStatus(enum.Enum):
    """Where an exchange stands."""

    CONTINUE = "continue"
    ACCEPTED = "accepted"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class AuthStep:
    """What to send (possibly nothing), and whether the exchange is over."""

    status: AuthStatus
    payloads: tuple[bytes, ...] = ()


_REFUSED = AuthStep(AuthStatus.REFUSED)
_ACCEPTED = AuthStep(AuthStatus.ACCEPTED)


class AuthCache:
    """SHA256(SHA256(password)) of accounts that authenticated in full, by account and stored hash."""

    def __init__(self) -> None:
        self._digests: dict[tuple[str, str, str], bytes] = {}

    def get(self, account: Account) -> bytes | None:
        """The cached digest; a changed password has another key, so it is never found by the old one."""
        return self._digests.get((account.user, account.host, account.auth_string))

    def put(self, account: Account, password: bytes) -> None:
        """Remember a password that was just verified."""
        digest = hashlib.sha256(hashlib.sha256(password).digest()).digest()
        self._digests[account.user, account.host, account.auth_string] = digest


class AuthExchange:
    """One authentication of one client against one account (None: unknown user, refused like a wrong password)."""

    def __init__(
        self, account: Account | None, scramble: bytes, cache: AuthCache, rsa_key: RsaKey | None, *, secure: bool
    ) -> None:
        self._account = account
        self._scramble = scramble
        self._cache = cache
        self._rsa_key = rsa_key
        self._secure = secure  # the transport already hides what the client sends
        self._wait = ""  # what the next message of the client is: "", "switch", "full" or "rsa"

    def start(self, plugin: str, answer: bytes) -> AuthStep:
        """Judge the answer that came with the handshake response."""
        account = self._account
        if account is None or account.locked:
            return _REFUSED
        if account.plugin not in _PLUGINS:
            return _REFUSED
        if not account.auth_string and plugin in _PLUGINS:
            return self._judge(answer)  # an empty answer is the same by each plugin we know: no need to switch
        if plugin != account.plugin:
            self._wait = "switch"
            return AuthStep(AuthStatus.CONTINUE, (auth_switch(account.plugin, self._scramble),))
        return self._judge(answer)

    def receive(self, message: bytes) -> AuthStep:
        """Judge the client's next message."""
        wait, self._wait = self._wait, ""
        if wait == "switch":
            return self._judge(message)
        if wait == "full":
            if self._secure:
                return self._judge_password(message.removesuffix(b"\0"))
            if message == b"\x02" and self._rsa_key is not None:
                self._wait = "rsa"
                return AuthStep(AuthStatus.CONTINUE, (auth_more_data(self._rsa_key.public_pem),))
            return self._judge_encrypted(message)
        if wait == "rsa":
            return self._judge_encrypted(message)
        return _REFUSED

    def _judge(self, answer: bytes) -> AuthStep:
        account = self._account
        assert account is not None
        if not account.auth_string:
            return _REFUSED if answer.strip(b"\0") else _ACCEPTED
        if account.plugin == NATIVE_PASSWORD:
            return _ACCEPTED if check_native(answer, self._scramble, account.auth_string) else _REFUSED
        if not answer.strip(b"\0"):
            return _REFUSED
        cached = self._cache.get(account)
        if cached is not None and len(answer) == 32:
            digest1 = _xor(answer, hashlib.sha256(cached + self._scramble).digest())
            if hmac.compare_digest(hashlib.sha256(digest1).digest(), cached):
                return AuthStep(AuthStatus.ACCEPTED, (auth_more_data(b"\x03"),))
            return _REFUSED
        self._wait = "full"
        return AuthStep(AuthStatus.CONTINUE, (auth_more_data(b"\x04"),))

    def _judge_encrypted(self, message: bytes) -> AuthStep:
        plain = self._rsa_key.decrypt(message) if self._rsa_key is not None else None
        if plain is None:
            return _REFUSED
        key = (self._scramble * (len(plain) // len(self._scramble) + 1))[: len(plain)]
        return self._judge_password(_xor(plain, key).removesuffix(b"\0"))

    def _judge_password(self, password: bytes) -> AuthStep:
        assert self._account is not None
        if not check_sha2_password(password, self._account.auth_string):
            return _REFUSED
        self._cache.put(self._account, password)
        return _ACCEPTED
