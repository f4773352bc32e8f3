"""Accounts: rows of mysql.user, changed and found with SQL of the server's own; and what a new cluster starts with."""

# ruff: noqa: S608 - values are quoted by `quoted`, names by backticks

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tidb_py.errors import CannotUser
from tidb_py.mysql.auth import Account, native_hash, sha2_hash
from tidb_py.mysql.constants import CACHING_SHA2, NATIVE_PASSWORD
from tidb_py.parser.ast import SetPassword, UserSpec, UserStatement
from tidb_py.session.ddl_text import quoted

Run = Callable[[str], Awaitable[list[tuple[Any, ...]]]]
BOOTSTRAP = (
    "CREATE DATABASE IF NOT EXISTS mysql",
    "CREATE DATABASE IF NOT EXISTS test",
    (
        "CREATE TABLE IF NOT EXISTS mysql.user (Host char(255) NOT NULL, User char(32) NOT NULL, authentication_string text, "
        "plugin char(64) NOT NULL DEFAULT 'mysql_native_password', account_locked char(1) NOT NULL DEFAULT 'N', "
        "PRIMARY KEY (Host, User))"
    ),
    "INSERT IGNORE INTO mysql.user (Host, User, authentication_string) VALUES ('%', 'root', '')",
)


async def find_account(run: Run, user: str, host: str) -> Account | None:
    """The account for a user from a host: the exact host before a pattern."""
    rows = await run(
        f"SELECT Host, authentication_string, plugin, account_locked FROM mysql.user WHERE User = {quoted(user)}"
    )
    best: Account | None = None
    for raw_host, auth, plugin, locked in rows:
        pattern = raw_host.decode()
        if pattern not in ("%", host) and not (pattern == "localhost" and host in ("127.0.0.1", "::1", "localhost")):
            continue
        account = Account(
            user=user, host=pattern, plugin=plugin.decode(), auth_string=(auth or b"").decode(), locked=locked == b"Y"
        )
        if best is None or pattern != "%":
            best = account
    return best


def hashed(password: str, plugin: str, random_bytes: Callable[[int], bytes]) -> str:
    """What is stored for a password."""
    if plugin == CACHING_SHA2:
        salt = bytes(b % 64 + 46 if b % 64 + 46 != 92 else 65 for b in random_bytes(20))
        return sha2_hash(password, bytes(c if c not in b"'$\\" else 65 for c in salt))
    return native_hash(password)


async def change_users(run: Run, statement: UserStatement, random_bytes: Callable[[int], bytes]) -> None:
    """CREATE, ALTER and DROP USER."""
    for spec in statement.users:
        found = await run(
            f"SELECT plugin FROM mysql.user WHERE User = {quoted(spec.user)} AND Host = {quoted(spec.host)}"
        )
        if statement.verb == "CREATE":
            if found:
                _refuse(statement, spec)
                continue
            plugin = spec.plugin or NATIVE_PASSWORD
            if plugin not in (NATIVE_PASSWORD, CACHING_SHA2):
                raise CannotUser(f"Plugin '{plugin}' is not loaded")
            stored = hashed(spec.password or "", plugin, random_bytes)
            await run(
                "INSERT INTO mysql.user (Host, User, authentication_string, plugin) VALUES "
                f"({quoted(spec.host)}, {quoted(spec.user)}, {quoted(stored)}, {quoted(plugin)})"
            )
            continue
        if not found:
            _refuse(statement, spec)
            continue
        where = f"WHERE User = {quoted(spec.user)} AND Host = {quoted(spec.host)}"
        if statement.verb == "DROP":
            await run(f"DELETE FROM mysql.user {where}")
        elif spec.password is not None:
            plugin = spec.plugin or found[0][0].decode()
            stored = hashed(spec.password, plugin, random_bytes)
            await run(
                f"UPDATE mysql.user SET authentication_string = {quoted(stored)}, plugin = {quoted(plugin)} {where}"
            )


def _refuse(statement: UserStatement, spec: UserSpec) -> None:
    if not statement.tolerant:
        raise CannotUser(f"Operation {statement.verb} USER failed for '{spec.user}'@'{spec.host}'")


async def set_password(
    run: Run, statement: SetPassword, user: str, host: str, random_bytes: Callable[[int], bytes]
) -> None:
    """SET PASSWORD."""
    spec = UserSpec(statement.user or user, statement.host or host, statement.password)
    await change_users(run, UserStatement("ALTER", (spec,)), random_bytes)
