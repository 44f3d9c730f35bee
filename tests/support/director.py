"""A director and what is around it, for tests of the kernel's forwarding: a client and three real servers, each a
network namespace on one bridge; the director is the namespace that lay_out() is called in. Both families. And the
kernel's table, as ipvsadm sees it."""

import re
import subprocess

# An address for each way: the kernel keeps one route to a server for all its connections, and what a reused client port
# still has of another way then gets lost ("no route to host").
VIPS = {"proxy": "10.9.1.97", "ipvs-nat": "10.9.1.98", "ipvs-dr": "10.9.1.99", "ipvs-tun": "10.9.1.100"}
MORE_VIPS = [f"10.9.1.{number}" for number in range(101, 107)]
VIP6 = "fd09:1::100"
GATEWAY, GATEWAY6 = "10.9.2.1", "fd09:2::1"
CLIENT, CLIENT6 = "10.9.1.2", "fd09:1::2"
SERVERS = {f"rs{i}": f"10.9.2.2{i}" for i in (1, 2, 3)}
# Somebody else's.
FOREIGN = ["-A -t 10.9.1.100:80 -s lc -p 77 -M 255.255.0.0", "-a -t 10.9.1.100:80 -r 10.9.2.99:80 -g -w 5"]


def sh(command):
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout


def inside(name, command):
    return sh(f"ip netns exec {name} sh -ec '{command}'")


def server6(address):
    """A server's other address: 10.9.2.21 -> fd09:2::21."""
    return f"fd09:2::{address.rpartition('.')[2]}"


def _add_host(name, address, address6):
    sh(
        f"ip netns add {name} && ip link add v{name} type veth peer name eth0 netns {name} && "
        f"ip link set v{name} master br0 up"
    )
    inside(
        name,
        f"ip link set lo up; ip addr add {address}/24 dev eth0; ip addr add {address6}/64 dev eth0 nodad; "
        "ip link set eth0 up",
    )


def lay_out():
    sh("ip link add br0 type bridge && ip link set br0 up")
    for address in (*VIPS.values(), *MORE_VIPS, "10.9.1.11", GATEWAY):
        sh(f"ip addr add {address}/24 dev br0")
    for address in (VIP6, GATEWAY6):
        sh(f"ip addr add {address}/64 dev br0 nodad")
    sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
    # One segment for both sides: else redirects would let the answers bypass the director.
    sh("sysctl -qw net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.br0.send_redirects=0")
    _add_host("cl", CLIENT, CLIENT6)
    for name, address in SERVERS.items():
        _add_host(name, address, server6(address))
        inside(
            name,
            f"ip route add default via {GATEWAY}; sysctl -qw net.ipv6.conf.all.accept_redirects=0 "
            f"net.ipv6.conf.eth0.accept_redirects=0; ip -6 route add fd09:1::/64 via {GATEWAY6}",
        )


def prepare_servers(mode):
    """What docs/ipvs.md tells to do on real servers."""
    vip = VIPS[mode]
    for name in SERVERS:
        quiet = "net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2"
        if mode == "ipvs-dr":
            inside(name, f"sysctl -qw {quiet}; ip addr add {vip}/32 dev lo; ip route add 10.9.1.0/24 dev eth0")
        elif mode == "ipvs-tun":
            inside(
                name,
                f"sysctl -qw {quiet}; ip link set tunl0 up; ip addr add {vip}/32 dev tunl0; "
                "sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.tunl0.rp_filter=0; "
                "ip route add 10.9.1.0/24 dev eth0",
            )


def clear_servers(mode):
    if mode not in ("ipvs-dr", "ipvs-tun"):
        return
    device = "lo" if mode == "ipvs-dr" else "tunl0"
    for name in SERVERS:
        inside(name, f"ip addr del {VIPS[mode]}/32 dev {device}; ip route del 10.9.1.0/24 dev eth0")


def add_foreign():
    for line in FOREIGN:
        sh(f"ipvsadm {line}")


def table():
    """What another program sees, sorted."""
    return sorted(sh("ipvsadm -Sn").splitlines())


def weights(vip, port):
    """{server's address: weight} of the service on that port."""
    found = {}
    service = re.escape(f"[{vip}]" if ":" in vip else vip)
    for line in table():
        match = re.match(rf"-a -t {service}:{port} -r \[?([\da-f.:]+?)\]?:\d+ .*-w (\d+)", line)
        if match:
            found[match[1]] = int(match[2])
    return found
