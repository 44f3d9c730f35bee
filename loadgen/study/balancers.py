"""The balancers of the study: how each is configured and started. FOLDER is for files, PORT is the study's own."""

import json
import os
import pathlib
import shutil
import socket

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("POISE_BIN_DIR", ROOT / "build/bin"))
NGINX_STREAM_MODULE = pathlib.Path("/usr/lib/nginx/modules/ngx_stream_module.so")

# poise-balance takes the protocol from the port, so it gets 25 on an address that nobody else uses.
_BALANCE_ADDRESS = f"127.{64 + (os.getpid() >> 8) % 128}.{os.getpid() % 256}.25"


def _haproxy(folder, address, servers, checks):
    check = " check inter 1s" if checks else ""
    lines = "\n".join(f"    server mail{n} {server}{check}" for n, server in enumerate(servers, 1))
    mail = "    option redispatch\n    option smtpchk EHLO study.test\n" if checks else ""
    (folder / "haproxy.cfg").write_text(
        "global\n    maxconn 4000\ndefaults\n    mode tcp\n    timeout connect 4s\n    timeout client 5m\n"
        f"    timeout server 5m\nlisten mail\n    bind {address}\n    balance roundrobin\n{mail}{lines}\n"
    )
    return ["haproxy", "-db", "-f", folder / "haproxy.cfg"]


def haproxy(folder, address, servers):
    return _haproxy(folder, address, servers, checks=True)


def haproxy_bare(folder, address, servers):
    return _haproxy(folder, address, servers, checks=False)


def nginx(folder, address, servers):
    lines = "".join(f"        server {server};\n" for server in servers)
    (folder / "nginx.conf").write_text(
        f"load_module {NGINX_STREAM_MODULE};\ndaemon off;\npid {folder}/nginx.pid;\nerror_log stderr warn;\n"
        f"events {{ worker_connections 4000; }}\nstream {{\n    access_log off;\n    upstream mail {{\n{lines}    }}\n"
        f"    server {{\n        listen {address};\n        proxy_pass mail;\n"
        "        proxy_connect_timeout 4s;\n        proxy_timeout 5m;\n    }\n}\n"
    )
    return ["nginx", "-e", "stderr", "-c", folder / "nginx.conf"]


def pen(folder, address, servers):
    return ["pen", "-f", "-r", "-x", "4000", address, *servers]


def poise_balance(folder, address, servers):
    host, port = address.split(":")
    return [BIN / "poise-balance", "-f", "-b", host, port, *servers]


def _poised(folder, address, servers, greeting):
    backends = [{"name": f"mail{n}", "address": server} for n, server in enumerate(servers, 1)]
    service = {"name": "smtp", "listen": [address], "protocol": "smtp", "pool": "mx", **greeting}
    config = {
        "version": 1,
        "admin": {"socket": "off", "http": "off"},
        "services": [service],
        "pools": [{"name": "mx", "backends": backends}],
    }
    (folder / "poise.json").write_text(json.dumps(config, indent=2))
    return [BIN / "poised", "-c", folder / "poise.json"]


def poised(folder, address, servers):
    """Its patience for a greeting is compressed like everybody's, and less: 15 s to 1 s, 300 s to 4 s."""
    return _poised(folder, address, servers, {"greeting": {"timeout": "1s"}})


def poised_15s(folder, address, servers):
    return _poised(folder, address, servers, {})


BALANCERS = {
    "haproxy": haproxy,
    "haproxy-bare": haproxy_bare,
    "nginx": nginx,
    "pen": pen,
    "poise-balance": poise_balance,
    "poised": poised,
    "poised-15s": poised_15s,
}

ABOUT = {
    "dns-rr": "several addresses that rotate, kept for 60 s; half of the senders try the first one only",
    "mx": "preferences 10, 20, 30; the next one after a failure",
    "haproxy": "mode tcp, `option smtpchk` every second, `option redispatch`",
    "haproxy-bare": "HAProxy without checks",
    "nginx": "the stream module as it comes: passive checks",
    "pen": "pen -r as it comes",
    "poise-balance": "our command line in the manner of `balance`, everything as it comes",
    "poised": "SMTP service and pool as they come, patience for a greeting compressed from 15 s to 1 s",
    "poised-15s": "the same with its 15 s, against senders whose patience is compressed",
}


def address_for(way):
    if way == "poise-balance":
        return f"{_BALANCE_ADDRESS}:25"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def missing(way):
    """Why it can't run here, or None."""
    program = {"poised-15s": "poised", "haproxy-bare": "haproxy"}.get(way, way)
    if program in ("poised", "poise-balance"):
        if not (BIN / program).exists():
            return f"{BIN / program} is not built"
        if way == "poise-balance" and os.geteuid() != 0:
            return "port 25, from which it takes its protocol, needs root"
        return None
    if way in BALANCERS and shutil.which(program) is None:
        return f"{program} is not installed"
    if way == "nginx" and not NGINX_STREAM_MODULE.exists():
        return "nginx has no stream module (Debian: libnginx-mod-stream)"
    return None
