"""The proxies: their configuration files, how they start, and how one knows that they listen."""

import ctypes
import functools
import json
import os
import shutil
import signal
import subprocess
import time

import cgroups

LISTEN_PORT = 2500
SERVER_PORTS = (3001, 3002, 3003)
SESSIONS_MAX = 9900  # two descriptors each, under the common hard limit of 20,000
SPLICE_SESSIONS_MAX = 4000  # with pipes haproxy wants more descriptors for each

NGINX_STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"

# The tcplog line of haproxy, as near as nginx can say it.
NGINX_LOG_FORMAT = (
    "$remote_addr:$remote_port [$time_local] $server_port $upstream_addr "
    "$upstream_connect_time/$session_time $bytes_sent $bytes_received $status"
)


class StartFailed(Exception):
    """The proxy didn't come up; the text holds what it said."""


def haproxy_config(files, workload, logging, splice=False):
    servers = "\n".join(
        f"    server b{i} 127.0.0.1:{port}" for i, port in enumerate(SERVER_PORTS, 1)
    )
    return f"""global
    nbthread {workload.workers}
    maxconn {SPLICE_SESSIONS_MAX if splice else SESSIONS_MAX}
{"    log stdout format raw local0" if logging else ""}

defaults
    mode tcp
    timeout connect 4s
    timeout client 35m
    timeout server 35m
{"    log global" if logging else ""}
{"    option tcplog" if logging else ""}
{"    option splice-auto" if splice else ""}

frontend mail
    bind 127.0.0.1:{LISTEN_PORT}
    default_backend mx

backend mx
    balance roundrobin
{servers}
"""


def nginx_config(files, workload, logging):
    servers = "\n".join(
        f"        server 127.0.0.1:{port} max_fails=0;" for port in SERVER_PORTS
    )
    log = (
        f"log_format session '{NGINX_LOG_FORMAT}';\n    access_log {files}/session.log session;"
        if logging
        else "access_log off;"
    )
    return f"""load_module {NGINX_STREAM_MODULE};
daemon off;
pid {files}/nginx.pid;
worker_processes {workload.workers};
worker_rlimit_nofile 20000;
error_log stderr warn;
events {{ worker_connections 20000; }}
stream {{
    {log}
    upstream mx {{
{servers}
    }}
    server {{
        listen 127.0.0.1:{LISTEN_PORT} backlog=4096{" reuseport" if workload.workers > 1 else ""};
        proxy_pass mx;
        proxy_connect_timeout 4s;
        proxy_timeout 35m;
    }}
}}
"""


def poised_config(files, workload, logging, **service):
    config = {
        "version": 1,
        "workers": workload.workers,
        "admin": {"socket": "off", "http": "off"},
        "log": {"level": "info" if logging else "warning"},
        "services": [
            {
                "name": "mail",
                "listen": [f"127.0.0.1:{LISTEN_PORT}"],
                "protocol": workload.protocol,
                "pool": "mx",
                **service,
            }
        ],
        "pools": [
            {
                "name": "mx",
                "scheduler": "round_robin",
                "probe": "off",  # the peers check nobody either
                "passive": "off",
                "backends": [
                    {"name": f"b{i}", "address": f"127.0.0.1:{port}"}
                    for i, port in enumerate(SERVER_PORTS, 1)
                ],
            }
        ],
    }
    return json.dumps(config, indent=2) + "\n"


def prepare_child(accounting, cpus, groups=()):
    """Between fork and exec: its CPUs, its cgroups, priority, and an end together with this one."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    for group in groups:
        group.adopt_self()
    if accounting.priority:
        accounting.priority.adopt_self()
    os.sched_setaffinity(0, cpus)
    try:
        os.nice(-20)
    except OSError:
        pass


class Peer:
    """One way of running one proxy. `make_config` gets (folder for files, workload, logging)."""

    def __init__(
        self, name, program, command, make_config=None, only_kinds=None, workers=True, logs=True
    ):
        self.name = name
        self.program = program
        self.command = command
        self.make_config = make_config
        self.only_kinds = only_kinds
        self.workers = workers  # whether it can use more than one thread
        self.logs = logs  # whether it can log a line per session
        self.says_ready = False

    def missing(self):
        """Why it can't run here, or None."""
        if self.program is None:
            return None
        if shutil.which(self.program) is None:
            return f"{self.program} not found"
        if self.name == "nginx" and not os.path.exists(NGINX_STREAM_MODULE):
            return "nginx has no stream module (Debian: libnginx-mod-stream)"
        return None

    def takes(self, workload, logging):
        if self.only_kinds and workload.kind not in self.only_kinds:
            return False
        if logging == "on" and not self.logs:
            return False
        return workload.workers == 1 or self.workers

    def version(self):
        if self.program == "pen":  # has no such option
            return self.program
        flag = "-v" if self.program in ("nginx", "haproxy") else "--version"
        try:
            done = subprocess.run([self.program, flag], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        lines = (done.stdout + done.stderr).strip().splitlines()
        return lines[0].removesuffix(" - https://haproxy.org/") if lines else "?"


def known_peers(poised):
    """By name; `poised` is {name: path}, more than one to compare builds."""
    listen = f"127.0.0.1:{LISTEN_PORT}"
    servers = [f"127.0.0.1:{port}" for port in SERVER_PORTS]
    peers = [
        Peer("direct", None, None),
        Peer("haproxy", "haproxy", lambda config: ["haproxy", "-db", "-f", config], haproxy_config),
        Peer(
            "haproxy-splice",
            "haproxy",
            lambda config: ["haproxy", "-db", "-f", config],
            lambda *about: haproxy_config(*about, splice=True),
            only_kinds=("bulk",),
        ),
        Peer(
            "nginx",
            "nginx",
            lambda config: ["nginx", "-e", "stderr", "-c", config],
            nginx_config,
        ),
        Peer(
            "pen",
            "pen",
            # -r: round robin without remembering clients. It keeps no log of sessions.
            lambda config: ["pen", "-f", "-r", "-x", str(SESSIONS_MAX), listen, *servers],
            workers=False,
            logs=False,
        ),
    ]
    for name, path in poised.items():
        command = functools.partial(lambda path, config: [path, "-c", config], path)
        ungated = functools.partial(poised_config, greeting="off")  # what does the gate cost?
        for suffix, make_config in (("", poised_config), ("-ungated", ungated)):
            peers.append(Peer(name + suffix, path, command, make_config))
            peers[-1].says_ready = True
    return {peer.name: peer for peer in peers}


class Running:
    """A started proxy in its own cgroup; a context manager that leaves nothing behind."""

    def __init__(self, peer, workload, logging, cpus, accounting, files):
        self.peer = peer
        self.accounting = accounting
        self.group = accounting.new(peer.name)
        self.memory_group = accounting.new_memory(peer.name)
        groups = list(filter(None, (self.group, self.memory_group)))
        self.process = None
        os.makedirs(files)
        self.output = os.path.join(files, "output")
        config = os.path.join(files, "config")
        if peer.make_config:
            with open(config, "w") as file:
                file.write(peer.make_config(files, workload, logging))
        os.chmod(files, 0o755)  # nginx's workers are another user

        with open(self.output, "w") as output:
            self.process = subprocess.Popen(
                peer.command(config),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=functools.partial(prepare_child, accounting, cpus, groups),
                start_new_session=True,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def said(self):
        with open(self.output, errors="replace") as file:
            return file.read()

    def wait_until_listening(self, limit_s=15.0):
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise StartFailed(
                    f"{self.peer.name} ended with status {self.process.returncode}:\n{self.said()}"
                )
            if _listening(LISTEN_PORT):
                return self._wait_until_ready()
            time.sleep(0.005)
        raise StartFailed(f"{self.peer.name} doesn't listen after {limit_s:.0f} s:\n{self.said()}")

    def _wait_until_ready(self, limit_s=4.0):
        """poised says so when its first verdicts on the servers are in. A log level that hides the
        line is no failure, and is waited for only once."""
        if not self.peer.says_ready:
            return
        end = time.monotonic() + limit_s
        while time.monotonic() < end and self.process.poll() is None:
            if "ready" in self.said():
                return
            time.sleep(0.01)
        self.peer.says_ready = False
        print(f"note: {self.peer.name} listens but didn't say ready in {limit_s:.0f} s; going on")

    def pids(self):
        return self.group.pids() if self.group else cgroups.children_of(self.process.pid)

    def cpu_seconds(self):
        return self.accounting.seconds(self.group, self.pids())

    def rss_bytes(self):
        return sum(_rss_bytes(pid) for pid in self.pids())

    def kernel_bytes(self):
        return self.accounting.kernel_bytes(self.memory_group)

    def user_and_system_seconds(self):
        """By the scheduler's ticks: coarse, good for the share of user time."""
        both = [cgroups.process_times(pid) for pid in self.pids()]
        return sum(user for user, _ in both), sum(system for _, system in both)

    def alive(self):
        return self.process.poll() is None

    def stop(self):
        pids = self.pids()
        for sign, wait_s in ((signal.SIGTERM, 1.0), (signal.SIGTERM, 1.0), (signal.SIGKILL, 5.0)):
            for pid in pids:
                try:
                    os.kill(pid, sign)
                except ProcessLookupError:
                    pass
            try:
                self.process.wait(wait_s)
                break
            except subprocess.TimeoutExpired:
                continue
        for pid in self.pids() if self.group else []:  # a worker that outlived its master
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for group in filter(None, (self.group, self.memory_group)):
            group.remove()


def _listening(port):
    with open("/proc/self/net/tcp") as file:
        wanted = f":{port:04X}"
        return any(
            fields[1].endswith(wanted) and fields[3] == "0A"
            for fields in (line.split() for line in file)
        )


def _rss_bytes(pid):
    try:
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
    except FileNotFoundError:
        pass
    return 0
