#!/usr/bin/env python3
"""Which folder may see which, and where each library lives: docs/style.md as a test.

CMake already refuses most wrong arrows (a folder's include root comes only with its target). This test also sees
those that another target's link line would let through, and says in words what is wrong.
"""

import unittest

import sources

# main > {admin, command} > control > {proxy, ipvs, health, config, metrics, pair} > {balance, io, mail, tls, log}
# > net > include/poise. Those on one line don't see each other.
LAYERS = [
    ["poise"],
    ["net"],
    ["balance", "io", "mail", "tls", "log"],
    ["proxy", "ipvs", "health", "config", "metrics", "pair"],
    ["control"],
    ["admin", "command", "ctl"],
    ["main"],
]

# Programs beside the daemon: they see these and themselves.
ASIDE = {
    "loadgen": {"poise", "config", "io", "mail", "net", "tls"},
    "ctl": {"poise", "net"},
}

# A library's headers, and the only places that may include them. A place is a folder or a file.
HOMES = {
    "liburing": ["src/io"],
    "ev.h": ["health", "loadgen"],
    "ares": ["health"],
    "openssl/": ["src/tls"],
    "netlink/": ["src/ipvs"],
    "prometheus/": ["src/metrics"],
    "civetweb": ["src/admin"],
    "CivetServer": ["src/admin"],
    "nlohmann/": ["config", "src/admin", "src/ctl", "loadgen", "tests"],
    "CLI/": ["src/main.cc", "src/command", "src/poisectl.cc", "loadgen", "tests/bench"],
    "spdlog/": ["src/log"],
    "systemd/": ["src/main.cc"],
    "cap-ng": ["src/net"],
    "gtest/": ["tests"],
    "gmock/": ["tests"],
    "rapidcheck": ["tests"],
    "benchmark/": ["tests"],
}

_RANK = {folder: rank for rank, folders in enumerate(LAYERS) for folder in folders}


def folder_of(path):
    """The architectural folder a file belongs to; None for tests, which see everything."""
    parts = path.parts
    if parts[0] == "include":
        return parts[1]
    if parts[0] == "src":
        return parts[1] if len(parts) > 2 else "main"
    return parts[0] if parts[0] != "tests" else None


def fault(path, included):
    """Why `path` may not include "included"; None when it may."""
    here = folder_of(path)
    there = included.split("/", 1)[0]
    if here is None or here == there:
        return None
    if "/" not in included:
        return f'say which folder: #include "FOLDER/{included}"'
    if here in ASIDE:
        if there in ASIDE[here]:
            return None
        return f"{here} sees only {', '.join(sorted(ASIDE[here]))}, not {there}"
    if here not in _RANK:
        return f"folder {here} has no place in the layers: give it one in {__file__} and in docs/style.md"
    if there not in _RANK:
        return f"{there} has no place in the layers of docs/style.md"
    if _RANK[there] < _RANK[here]:
        return None
    if _RANK[there] == _RANK[here]:
        return f"{here} and {there} stand side by side and don't see each other"
    return f"{there} stands above {here}: includes point downwards only"


def at_home(path, home):
    """In the folder, or the file, or among the unit tests of the folder."""
    places = [home, home.replace("src/", "tests/unit/")]
    return any(str(path) == place or str(path).startswith(place + "/") for place in places)


class Includes(unittest.TestCase):
    """Reads every #include of the sources."""

    def test_includes_point_one_way(self):
        faults = []
        for path in sources.files(".h", ".cc"):
            for number, angled, included in sources.includes(path):
                if not angled:
                    why = fault(path, included)
                    if why:
                        faults.append(f'{path}:{number}: "{included}": {why}')
        if faults:
            self.fail(f"{len(faults)} faults\n" + "\n".join(faults))

    def test_each_library_has_one_home(self):
        faults = []
        for path in sources.files(".h", ".cc"):
            for number, angled, included in sources.includes(path):
                for library, homes in HOMES.items():
                    if not angled or not included.startswith(library):
                        continue
                    if not any(at_home(path, home) for home in homes):
                        faults.append(
                            f"{path}:{number}: <{included}> lives in {' and '.join(homes)} only"
                        )
        if faults:
            self.fail(f"{len(faults)} faults\n" + "\n".join(faults))

    def test_own_header_comes_first(self):
        """So that a header that leans on what others include is found out by its own .cc."""
        faults = []
        for path in sources.files(".cc"):
            header = path.with_suffix(".h")
            if folder_of(path) is None or not (sources.ROOT / header).exists():
                continue
            parts = header.parts[1:] if header.parts[0] == "src" else header.parts
            own = "/".join(parts)
            first = next(sources.includes(path), (1, False, "nothing"))
            if first[2] != own:
                faults.append(f'{path}:{first[0]}: includes {first[2]} before its own "{own}"')
        if faults:
            self.fail(f"{len(faults)} faults\n" + "\n".join(faults))


class Rules(unittest.TestCase):
    """The rules themselves: what they let through, what they catch."""

    def test_layers(self):
        allowed = [
            ("src/proxy/a.cc", "balance/pool.h"),
            ("src/control/a.cc", "health/probe.h"),
            ("src/main.cc", "control/control.h"),
            ("loadgen/a.cc", "mail/reply.h"),
            ("src/proxy/a.cc", "proxy/session.h"),
            ("tests/sim/a.cc", "proxy/session.h"),
        ]
        refused = [
            ("src/balance/pool.cc", "proxy/session.h"),
            ("src/proxy/a.cc", "metrics/catalog.h"),
            ("src/mail/a.cc", "io/io.h"),
            ("loadgen/a.cc", "proxy/session.h"),
            ("src/io/a.cc", "uring.h"),
            ("include/poise/a.h", "net/fd.h"),
            ("health/probe.cc", "proxy/session.h"),
        ]
        for path, included in allowed:
            self.assertIsNone(fault(sources.pathlib.Path(path), included), f"{path} -> {included}")
        for path, included in refused:
            self.assertIsNotNone(
                fault(sources.pathlib.Path(path), included), f"{path} -> {included}"
            )


if __name__ == "__main__":
    unittest.main()
