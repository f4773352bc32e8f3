"""Network namespaces joined by a bridge: each process gets an address of its own and can be cut off from all others at once.

Needs root and iproute2 (Debian package `iproute2`); `available` says whether this machine has them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

NOBODY = "02:00:00:00:00:01"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def available() -> str:
    """Empty when namespaces can be made here, else why not."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need `ip` (apt-get install iproute2)"
    name = f"probe{os.getpid()}"
    try:
        _ip("netns", "add", name)
        _ip("netns", "del", name)
    except subprocess.CalledProcessError as error:
        return f"network namespaces cannot be made here: {error.stderr.strip()}"
    return ""


class Namespaces:
    """Namespaces by name. The bridge has one of its own, where this machine's packet filters have no say."""

    def __init__(self, names: list[str]) -> None:
        self._tag = f"{os.getpid() % 100_000:05d}"
        self.addresses = {name: f"10.77.0.{number}" for number, name in enumerate(names, start=2)}
        self._links = {name: f"port{number}" for number, name in enumerate(names)}
        self._hub = self._space("hub")

    def _space(self, name: str) -> str:
        return f"t{self._tag}{name}"

    def open(self) -> None:
        """Make everything."""
        _ip("netns", "add", self._hub)
        _ip("-n", self._hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self._hub, "link", "set", "bridge", "up")
        for name, address in self.addresses.items():
            space, link = self._space(name), self._links[name]
            _ip("netns", "add", space)
            _ip("-n", self._hub, "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
            _ip("-n", self._hub, "link", "set", link, "master", "bridge", "up")
            _ip("-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", space, "link", "set", "eth0", "up")
            _ip("-n", space, "link", "set", "lo", "up")

    def command(self, name: str, command: list[str]) -> list[str]:
        """The command, run in a namespace."""
        return ["ip", "netns", "exec", self._space(name), *command]

    def cut(self, name: str) -> None:
        """Nothing gets in or out of a namespace any more."""
        _ip("-n", self._hub, "link", "set", self._links[name], "down")

    def heal(self, name: str) -> None:
        """End that."""
        _ip("-n", self._hub, "link", "set", self._links[name], "up")

    def block(self, source: str, target: str) -> None:
        """What one namespace sends to another is lost, silently; the other way stays open.

        The packets go to a hardware address that nobody has, which needs no packet filter.
        """
        entry = ("neigh", "replace", self.addresses[target], "lladdr", NOBODY, "dev", "eth0", "nud", "permanent")
        _ip("-n", self._space(source), *entry)

    def unblock(self, source: str, target: str) -> None:
        """End that."""
        _ip("-n", self._space(source), "neigh", "del", self.addresses[target], "dev", "eth0")

    def close(self) -> None:
        """Take everything away."""
        for name in (*self.addresses, "hub"):
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "del", self._space(name))


@contextmanager
def namespaces(names: list[str]) -> Iterator[Namespaces]:
    """Namespaces that are gone when the block ends."""
    made = Namespaces(names)
    try:
        made.open()
        yield made
    finally:
        made.close()
