"""From the runs' records to figures, the table, and the verdict on the targets."""

import statistics

UNITS = {"sessions": "us/session", "ping": "us/ping", "bulk": "s/GiB"}


def scale(records):
    """Adds "cost" and the scaled latencies: what they'd be at the batch's median speed."""
    probes = [record["probe_us"] for record in records if "probe_us" in record]
    reference = statistics.median(probes) if probes else None
    for record in records:
        if "probe_us" not in record:
            continue
        record["speed"] = reference / record["probe_us"]
        if "cost_raw" in record:
            record["cost"] = record["cost_raw"] * record["speed"]
        for name in ("latency_p50_us", "latency_p99_us"):
            record[name.replace("_us", "_scaled_us")] = record[name] * record["speed"]
    return reference


def _spread(values):
    if not values:
        return None
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def summarize(records, base):
    """One entry per (workload, mode, logging, peer), in order of first appearance. Ratios are to
    `base` in the same round; "added" latency is over "direct" in the same round."""
    groups = {}
    for record in records:
        key = (record["workload"], record["mode"], record["logging"], record["peer"])
        groups.setdefault(key, []).append(record)
    by_round = {
        (r["workload"], r["mode"], r["logging"], r["peer"], r["round"]): r
        for r in records
        if "error" not in r
    }
    out = []
    for (workload, mode, logging, peer), runs in groups.items():
        good = [run for run in runs if "error" not in run]

        def values(name):
            return [run[name] for run in good if name in run]

        def paired(name, other, combine):
            found = []
            for run in good:
                twin = by_round.get((workload, mode, logging, other, run["round"]))
                if twin and name in run and twin.get(name) is not None:
                    value = combine(run[name], twin[name])
                    if value is not None:
                        found.append(value)
            return _spread(found)

        def quotient(mine, theirs):
            return mine / theirs if theirs else None

        entry = {
            "workload": workload,
            "mode": mode,
            "logging": logging,
            "peer": peer,
            "runs": len(runs),
            "failed_runs": len(runs) - len(good),
            "errors": sum(run.get("errors", 0) for run in runs),
            "first_error": next(
                filter(None, (run.get("error") or run.get("first_error") for run in runs)), ""
            ),
            "ratio": paired("cost", base, quotient) if peer != "direct" else None,
            "ratio_raw": paired("cost_raw", base, quotient) if peer != "direct" else None,
            "per_second_ratio": paired("per_second", base, quotient),
            "added_p50_us": paired("latency_p50_scaled_us", "direct", lambda a, b: a - b),
            "added_p99_us": paired("latency_p99_scaled_us", "direct", lambda a, b: a - b),
            "kernel_bytes_over_direct": paired("kernel_bytes", "direct", lambda a, b: a - b),
        }
        for name in (
            "cost cost_raw load_cost_raw per_second latency_p50_us latency_p99_us rss_bytes "
            "user_share foreign_cpu stolen_cpu rss_base_bytes user_bytes kernel_bytes "
            "own_kernel_bytes idle_cpu_percent"
        ).split():
            entry[name] = _spread(values(name))
        out.append(entry)
    return out


def _mid(entry, name, form, factor=1.0):
    spread = entry.get(name)
    return form.format(spread["median"] * factor) if spread else "-"


def _range(entry, name, form):
    spread = entry.get(name)
    return f"{form}..{form}".format(spread["min"], spread["max"]) if spread else "-"


def _errors(entry):
    if not entry["errors"] and not entry["failed_runs"]:
        return "0"
    text = f"!! {entry['errors']} in {entry['runs']} runs"
    return text + (f", {entry['failed_runs']} FAILED" if entry["failed_runs"] else "")


def _columns(kind, base):
    ratio = [
        (f"x {base}", lambda e: _mid(e, "ratio", "{:.3f}")),
        ("its spread", lambda e: _range(e, "ratio", "{:.2f}")),
    ]
    form = "{:.3f}" if kind == "bulk" else "{:.1f}"
    cost = [
        (f"CPU {UNITS.get(kind, '')}", lambda e: _mid(e, "cost", form)),
        ("min..max", lambda e: _range(e, "cost", form)),
    ]
    rss = [("RSS MB", lambda e: _mid(e, "rss_bytes", "{:.1f}", 1e-6))]
    if kind == "sessions":
        return cost + ratio + [
            ("sessions/s", lambda e: _mid(e, "per_second", "{:.0f}")),
            ("p50 ms", lambda e: _mid(e, "latency_p50_us", "{:.1f}", 1e-3)),
            ("p99 ms", lambda e: _mid(e, "latency_p99_us", "{:.1f}", 1e-3)),
            ("user %", lambda e: _mid(e, "user_share", "{:.0f}", 100)),
            ("load us", lambda e: _mid(e, "load_cost_raw", "{:.0f}")),
        ] + rss
    if kind == "bulk":
        return cost + ratio + [
            ("GiB/s", lambda e: _mid(e, "per_second", "{:.2f}")),
            ("load s/GiB", lambda e: _mid(e, "load_cost_raw", "{:.3f}")),
        ] + rss
    if kind == "ping":
        return cost + ratio + [
            ("p50 us", lambda e: _mid(e, "latency_p50_us", "{:.1f}")),
            ("p99 us", lambda e: _mid(e, "latency_p99_us", "{:.1f}")),
            ("added p50", lambda e: _mid(e, "added_p50_us", "{:+.1f}")),
            ("its spread", lambda e: _range(e, "added_p50_us", "{:.1f}")),
            ("added p99", lambda e: _mid(e, "added_p99_us", "{:+.1f}")),
        ] + rss
    return [
        ("user B/session", lambda e: _mid(e, "user_bytes", "{:.0f}")),
        ("RSS MB", lambda e: _mid(e, "rss_bytes", "{:.1f}", 1e-6)),
        ("empty MB", lambda e: _mid(e, "rss_base_bytes", "{:.1f}", 1e-6)),
        ("kernel B own", lambda e: _mid(e, "own_kernel_bytes", "{:.0f}")),
        ("over direct", lambda e: _mid(e, "kernel_bytes_over_direct", "{:.0f}")),
        ("idle CPU %", lambda e: _mid(e, "idle_cpu_percent", "{:.3f}")),
        ("1 % NOOP p50 ms", lambda e: _mid(e, "latency_p50_us", "{:.1f}", 1e-3)),
        ("p99 ms", lambda e: _mid(e, "latency_p99_us", "{:.1f}", 1e-3)),
    ]


def table(title, kind, base, entries):
    columns = [("", lambda e: e["peer"])] + _columns(kind, base)
    columns.append(("errors", _errors))
    rows = [[head for head, _ in columns]]
    rows += [[cell(entry) for _, cell in columns] for entry in entries]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    lines = [title]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        lines.append("  " + "  ".join(cells).rstrip())
    for entry in entries:
        if entry["first_error"]:
            lines.append(f"  ! {entry['peer']}: {entry['first_error'].strip()}")
    return "\n".join(lines)


# What a stored run is compared by; true: more is better.
STORED_FIGURES = {"ratio": False, "per_second_ratio": True, "user_bytes": False}


def to_store(about, summary, subject):
    """What is kept of a run: the subject's figures that hold on another day, with their spread."""
    entries = [
        {
            **{key: entry[key] for key in ("workload", "mode", "logging")},
            **{name: entry[name] for name in STORED_FIGURES if entry.get(name)},
        }
        for entry in summary
        if entry["peer"] == subject and not entry["errors"] and not entry["failed_runs"]
    ]
    return {"about": about, "figures": entries}


def regressions(stored, summary, subject, tolerance=0.05):
    """(sentences on what is worse than the stored run, how many figures were compared). Worse: all rounds of this run
    lie beyond all of that one, by more than `tolerance`."""
    here = {(e["workload"], e["mode"], e["logging"]): e for e in summary if e["peer"] == subject}
    found, compared = [], 0
    for old in stored["figures"]:
        where = (old["workload"], old["mode"], old["logging"])
        for name, more_is_better in STORED_FIGURES.items():
            before, now = old.get(name), here.get(where, {}).get(name)
            if not before or not now:
                continue
            compared += 1
            if more_is_better:
                worse = now["max"] < before["min"] * (1 - tolerance)
            else:
                worse = now["min"] > before["max"] * (1 + tolerance)
            if worse:
                spread = [f"{s['median']:.3f} ({s['min']:.3f}..{s['max']:.3f})" for s in (before, now)]
                found.append(f"{' '.join(where[:2])}, log {where[2]}: {name} was {spread[0]}, is {spread[1]}")
    return found, compared


def judge(targets, summary, subject):
    """Each target with "value" and "reached" (None: not measured) and a sentence."""
    index = {(e["workload"], e["mode"], e["logging"], e["peer"]): e for e in summary}
    verdicts = []
    for target in targets:
        where = (target["workload"], target["mode"], target["logging"])
        entry = index.get((*where, subject))
        value = spread = None
        note = ""
        if entry:
            measured = entry.get(target["figure"])
            if measured:
                value, spread = measured["median"], measured
            if value is not None and target.get("against") == "best":
                rivals = {
                    e["peer"]: e[target["figure"]]["median"]
                    for e in summary
                    if (e["workload"], e["mode"], e["logging"]) == where
                    and e["peer"] not in (subject, "direct")
                    and e.get(target["figure"])
                }
                if rivals:
                    best = min(rivals, key=rivals.get)
                    note = f"{value:.1f} us, best peer {best} {rivals[best]:.1f} us"
                    value, spread = value / rivals[best], None
                else:
                    value = None
        reached = None
        if value is not None:
            reached = target.get("at_least", value) <= value <= target.get("at_most", value)
        if entry and (entry["errors"] or entry["failed_runs"]):
            reached, note = False, f"{note} (runs with errors)".strip()
        verdicts.append(
            {**target, "value": value, "spread": spread, "reached": reached, "note": note}
        )
    return verdicts


def verdict_lines(verdicts):
    words = {True: "reached", False: "NOT reached", None: "not measured"}
    lines = ["Targets"]
    for verdict in verdicts:
        bound = f"<= {verdict['at_most']}" if "at_most" in verdict else f">= {verdict['at_least']}"
        line = f"  {words[verdict['reached']]:12}  {verdict['text']}: {bound}"
        if verdict["value"] is not None:
            line += f", is {verdict['value']:.3f}"
            if verdict["spread"]:
                line += f" ({verdict['spread']['min']:.3f}..{verdict['spread']['max']:.3f})"
        if verdict["note"]:
            line += f"; {verdict['note']}"
        lines.append(line)
    return "\n".join(lines)
