"""Hosts for tests: network namespaces behind a bridge, whose links can be cut. Needs root, iproute2 and a kernel that allows them."""

import contextlib
import dataclasses
import itertools
import os
import shutil
import subprocess

USES = itertools.count()
# What no packet fits into: the way out of a device is cut, and the way in goes on.
NOTHING_PASSES = "root tbf rate 8bit burst 1 limit 1".split()


class Unavailable(RuntimeError):
    """this machine has no namespaces for us"""


@dataclasses.dataclass
class Host:
    name: str  # of its namespace
    address: str
    link: str  # its end at the bridge; the other end is its eth0

    def within(self, *command):
        return [*within(self.name), *map(str, command)]

    def cut(self, way):
        """way: "both", "in" (nothing reaches it) or "out" (nothing comes from it)"""
        if way in ("both", "in"):
            run("tc", "qdisc", "add", "dev", self.link, *NOTHING_PASSES)
        if way in ("both", "out"):
            run(*self.within("tc", "qdisc", "add", "dev", "eth0", *NOTHING_PASSES))

    def mend(self):
        run("tc", "qdisc", "del", "dev", self.link, "root", check=False)
        run(*self.within("tc", "qdisc", "del", "dev", "eth0", "root"), check=False)


def run(*args, check=True):
    return subprocess.run(args, capture_output=True, text=True, check=check)


def ip(*args, check=True, namespace=None):
    return run(*within(namespace), "ip", *args, check=check)


def within(namespace):
    """what runs a command in it; `ip netns exec` and `ip -n` would remount /sys, which not every root has"""
    return ["nsenter", f"--net=/run/netns/{namespace}"] if namespace else []


@contextlib.contextmanager
def hosts(n):
    """-> (the master's address, [Host] of n)"""
    use = next(USES)  # the kernel takes links of an earlier use down when it pleases
    tag = f"pg{os.getpid() % 10000}x{use}"
    net = f"10.231.{(os.getpid() + use) % 250}"
    made = [Host(f"{tag}n{i}", f"{net}.{i + 2}", f"{tag}v{i}") for i in range(n)]
    mounted = os.path.ismount("/run/netns")  # `ip netns add` mounts it over itself when it is not
    if os.getuid() != 0 or not shutil.which("ip") or ip("netns", "add", made[0].name, check=False).returncode != 0:
        raise Unavailable("network namespaces need root, iproute2 and a kernel that allows them")
    try:
        for host in made[1:]:
            ip("netns", "add", host.name)
        if ip("link", "add", f"{tag}br", "type", "bridge", check=False).returncode != 0:
            raise Unavailable("this kernel has no bridges")
        ip("addr", "add", f"{net}.1/24", "dev", f"{tag}br")
        ip("link", "set", f"{tag}br", "up")
        for host in made:
            ip("link", "add", host.link, "type", "veth", "peer", "name", "eth0", "netns", host.name)
            ip("link", "set", host.link, "master", f"{tag}br", "up")
            for args in (["addr", "add", f"{host.address}/24", "dev", "eth0"], ["link", "set", "eth0", "up"], ["link", "set", "lo", "up"]):
                ip(*args, namespace=host.name)
        yield f"{net}.1", made
    finally:
        for host in made:
            ip("netns", "del", host.name, check=False)
        for link in (*(host.link for host in made), f"{tag}br"):
            ip("link", "del", link, check=False)
        if not mounted and not os.listdir("/run/netns"):
            run("umount", "/run/netns", check=False)
