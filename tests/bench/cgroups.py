"""Accounting of a proxy: a cgroup of its own where possible, else the sum over its processes."""

import glob
import os
import time

PREFIX = "poise-bench-"


def _mounts():
    """(v1 controller name or "v2", mount point) of every cgroup hierarchy."""
    with open("/proc/self/mountinfo") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            kind, _, options = right.split(" ", 2)
            point = left.split()[4]
            if kind == "cgroup":
                for option in options.strip().split(","):
                    yield option, point
            elif kind == "cgroup2":
                yield "v2", point


class Group:
    """A directory in one hierarchy. Made at once, removed by remove()."""

    def __init__(self, path):
        self.path = path
        os.makedirs(path)

    def adopt_self(self):
        with open(os.path.join(self.path, "cgroup.procs"), "w") as file:
            file.write(str(os.getpid()))

    def pids(self):
        with open(os.path.join(self.path, "cgroup.procs")) as file:
            return [int(pid) for pid in file.read().split()]

    def write(self, name, value):
        with open(os.path.join(self.path, name), "w") as file:
            file.write(value)

    def remove(self):
        for _ in range(50):  # the kernel takes a moment to let go of the last process
            try:
                os.rmdir(self.path)
                return
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(0.02)


def _remove_stale(point):
    """Groups of a bench that was killed: those whose maker is gone, and only when empty."""
    for path in glob.glob(os.path.join(point, PREFIX + "*")):
        if os.path.exists("/proc/" + path.rpartition("-")[2]):
            continue
        for folder in glob.glob(path + "/*/") + [path]:
            try:
                os.rmdir(folder)
            except OSError:
                pass


class Accounting:
    """Where the bench's groups live. `how` says in words what the figures are."""

    def __init__(self):
        mounts = dict(_mounts())
        name = f"{PREFIX}{os.getpid()}"
        for point in set(mounts.values()):
            _remove_stale(point)
        self.parent = None
        self.priority = None
        self.v2 = False
        for controller in ("cpuacct", "v2"):
            if controller not in mounts:
                continue
            try:
                self.parent = Group(os.path.join(mounts[controller], name))
                self.v2 = controller == "v2"
                break
            except OSError:
                continue
        if self.parent is None:
            self.how = "utime + stime of the proxy's processes, in 10 ms steps: no cgroup to be had"
        else:
            self.how = "cgroup " + ("v2 cpu.stat" if self.v2 else "v1 cpuacct.usage")
        # Proxy and load alike get a larger share than whatever else runs here.
        if "cpu" in mounts and mounts["cpu"] != mounts.get("cpuacct"):
            try:
                self.priority = Group(os.path.join(mounts["cpu"], name))
                self.priority.write("cpu.shares", "100000")
            except OSError:
                self.priority = None

        # What the kernel holds on behalf of a proxy; only v1 has it in a hierarchy apart.
        self.memory = None
        if os.path.exists(os.path.join(mounts.get("memory", ""), "memory.kmem.usage_in_bytes")):
            try:
                self.memory = Group(os.path.join(mounts["memory"], name))
            except OSError:
                pass

    def new(self, name):
        return Group(os.path.join(self.parent.path, name)) if self.parent else None

    def new_memory(self, name):
        return Group(os.path.join(self.memory.path, name)) if self.memory else None

    def kernel_bytes(self, memory_group):
        """Kernel memory charged to a proxy, None where the kernel doesn't say."""
        if memory_group is None:
            return None
        with open(os.path.join(memory_group.path, "memory.kmem.usage_in_bytes")) as file:
            return int(file.read())

    def seconds(self, group, pids):
        """CPU seconds so far of a proxy; `pids` are asked when there is no group."""
        if group is None:
            return sum(sum(process_times(pid)) for pid in pids)
        if not self.v2:
            with open(os.path.join(group.path, "cpuacct.usage")) as file:
                return int(file.read()) * 1e-9
        with open(os.path.join(group.path, "cpu.stat")) as file:
            for line in file:
                key, value = line.split()
                if key == "usage_usec":
                    return int(value) * 1e-6
        raise RuntimeError(f"no usage_usec in {group.path}/cpu.stat")

    def close(self):
        for group in (self.parent, self.priority, self.memory):
            if group:
                group.remove()


def process_times(pid):
    """(user, system) seconds of a process, its threads included."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0, 0.0
    ticks = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / ticks, int(fields[12]) / ticks


def children_of(pid):
    """The process and everything below it, by /proc."""
    out, at = [pid], 0
    while at < len(out):
        try:
            for task in os.listdir(f"/proc/{out[at]}/task"):
                with open(f"/proc/{out[at]}/task/{task}/children") as file:
                    out += [int(child) for child in file.read().split()]
        except FileNotFoundError:
            pass
        at += 1
    return out
