"""The study's report: tables beside the study's own, plots, and what was to be shown."""

import html

# Submits a second and per cent of connection errors, 2001.
STUDY_2001 = [
    ("none, best of ten tunings", 1, 49.0, 0.0),
    ("Alteon 180", 2, 95.9, 43.1),
    ("balance", 2, 74.6, 30.1),
    ("Alteon 180", 3, 102.8, 87.8),
    ("balance", 3, 103.8, 81.4),
]

CONDITIONS = {
    "well": "all servers well",
    "dead": "mail1 dies half-way",
    "hung": "mail1 hangs half-way: it accepts and says nothing",
    "busy": "mail1 answers 421 from half-way on",
}

COLUMNS = [
    ("way", lambda r: r["way"]),
    ("servers", lambda r: str(r["servers"])),
    ("submits/s", lambda r: f"{r['submits_per_second']:.1f}"),
    ("connection errors", lambda r: f"{r['connection_error_percent']:.1f} %"),
    ("found no server", lambda r: str(r["no_server"])),
    ("cut in mid-session", lambda r: str(r["cut"])),
    ("given up", lambda r: str(r["failed_sessions"])),
    ("deferred", lambda r: str(r["deferrals"])),
    ("still queued", lambda r: str(r["queued_sessions"])),
    ("session p99", lambda r: f"{r['session_p99_seconds']:.2f} s"),
    ("lost", lambda r: str(r["lost"])),
    ("twice", lambda r: str(r["duplicated"])),
    ("generator", lambda r: f"{r['generator_busy_percent']:.0f} %"),
]

SCALING_WANTED = 1.4


def scaling(results, way):
    """What the third server brings over two; None when not measured."""
    well = {r["servers"]: r for r in results if r["way"] == way and r["condition"] == "well"}
    if 2 not in well or 3 not in well or well[2]["submits_per_second"] == 0:
        return None
    return well[3]["submits_per_second"] / well[2]["submits_per_second"]


def ways_of(results):
    return list(dict.fromkeys(row["way"] for row in results))


def verdicts(results):
    """(sentence, holds) for what the study must show of poised."""
    rows = [row for row in results if row["way"] in ("poised", "poise-balance")]
    found = []
    for way in ways_of(rows):
        mine = [row for row in rows if row["way"] == way]
        if way == "poise-balance":  # its patience for a greeting cannot be told, and stays at 15 s
            mine = [row for row in mine if row["condition"] != "hung"]
        lost = sum(row["no_server"] for row in mine)
        found.append((f"{way}: {lost} sessions found no server in {len(mine)} rows in which one was alive", lost == 0))
        gain = scaling(results, way)
        if gain is not None:
            found.append((f"{way}: the third server brings {gain:.2f}x over two, wanted {SCALING_WANTED}x",
                          gain >= SCALING_WANTED))
    if results:
        vanished = sum(row["lost"] for row in results)
        found.append((f"{vanished} messages were lost in all rows", vanished == 0))
    return found


def _table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _rows(results, condition):
    return [[cell(row) for _, cell in COLUMNS] for row in results if row["condition"] == condition]


def _study_rows():
    return [[way, str(servers), f"{rate:.1f}", f"{errors:.1f} %"] for way, servers, rate, errors in STUDY_2001]


STUDY_HEAD = ["2001, by means of", "servers", "submits/s", "connection errors"]


def _scaling_lines(results):
    gains = [(way, scaling(results, way)) for way in ways_of(results)]
    return [f"{way}: the third server brings {gain:.2f}x over two" for way, gain in gains if gain is not None]


def text(results, skipped, setting, about):
    """Markdown."""
    parts = ["# The study, run again", setting]
    parts.append("\n".join(f"- {'holds' if holds else 'DOES NOT HOLD'}: {what}" for what, holds in verdicts(results)))
    parts.append(_table(STUDY_HEAD, _study_rows()))
    for condition, title in CONDITIONS.items():
        rows = _rows(results, condition)
        if rows:
            parts += [f"## {title[0].upper()}{title[1:]}", _table([name for name, _ in COLUMNS], rows)]
        if condition == "well":
            parts.append("\n".join(f"- {line}" for line in _scaling_lines(results)))
    ways = [f"- {way}: {about[way]}" for way in ways_of(results) if way in about]
    parts += ["## Ways", "\n".join(ways)] if ways else []
    parts += [f"Not run: {way}, {why}." for way, why in skipped.items()]
    return "\n\n".join(part for part in parts if part) + "\n"


# The page


COLOURS = ["#2456a6", "#b3261e", "#2b7a3d", "#d98200", "#7b3fa0", "#00838f", "#8d6e63", "#607d8b", "#c2185b"]


def _bars(rows, colour_of):
    """Submits a second as bars, connection errors as a red part of the row's end."""
    width, left, line = 900, 190, 22
    most = max(row["submits_per_second"] for row in rows) or 1
    svg = []
    for number, row in enumerate(rows):
        y = number * line
        length = (width - left - 260) * row["submits_per_second"] / most
        label = f"{row['way']}, {row['servers']} server{'s' if row['servers'] > 1 else ''}"
        errors = row["connection_error_percent"]
        note = f"{row['submits_per_second']:.1f}/s"
        svg.append(
            f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{html.escape(label)}</text>'
            f'<rect x="{left}" y="{y + 4}" width="{length:.1f}" height="14" fill="{colour_of[row["way"]]}"/>'
            f'<text x="{left + length + 6:.1f}" y="{y + 15}">{note}</text>'
            f'<rect x="{width - 180}" y="{y + 4}" width="{errors:.1f}" height="14" class="bad"/>'
            f'<text x="{width - 174 + errors:.1f}" y="{y + 15}">{errors:.1f} %</text>'
        )
    head = (f'<text x="{left}" y="-6" class="head">submits a second</text>'
            f'<text x="{width - 180}" y="-6" class="head">connection errors</text>')
    return f'<svg viewBox="0 -20 {width} {len(rows) * line + 24}" role="img">{head}{"".join(svg)}</svg>'


def _over_time(rows, colour_of):
    """Submits of each second, one small plot a way, all on one scale."""
    width, height, columns = 270, 90, 3
    most = max((second["submits"] for row in rows for second in row["intervals"]), default=0) or 1
    cells = []
    for number, row in enumerate(rows):
        x0, y0 = (number % columns) * (width + 20), (number // columns) * (height + 40)
        seconds = row["intervals"]
        step = width / max(len(seconds) - 1, 1)

        def line(key, style):
            points = " ".join(
                f"{x0 + at * step:.1f},{y0 + height - height * min(second[key], most) / most:.1f}"
                for at, second in enumerate(seconds)
            )
            return f'<polyline points="{points}" {style}/>'

        cells.append(
            f'<text x="{x0}" y="{y0 - 6}" class="head">{html.escape(row["way"])}</text>'
            f'<rect x="{x0}" y="{y0}" width="{width}" height="{height}" class="frame"/>'
            + line("submits", f'stroke="{colour_of[row["way"]]}"')
            + line("connection_errors", 'class="errors"')
            + f'<text x="{x0}" y="{y0 + height + 14}">0 s</text>'
            f'<text x="{x0 + width}" y="{y0 + height + 14}" text-anchor="end">{len(seconds)} s</text>'
            f'<text x="{x0 + width - 4}" y="{y0 + 12}" text-anchor="end">{most}/s</text>'
        )
    lines = (len(rows) + columns - 1) // columns
    box = f"0 -22 {columns * (width + 20) - 20} {lines * (height + 40) + 10}"
    return f'<svg viewBox="{box}" role="img">{"".join(cells)}</svg>'


def _html_table(head, rows):
    def cells(tag, values):
        return "<tr>" + "".join(f"<{tag}>{html.escape(value)}</{tag}>" for value in values) + "</tr>"

    return "<table>" + cells("th", head) + "".join(cells("td", row) for row in rows) + "</table>"


STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:1080px;margin:2em auto;padding:0 1em;color:#1c1c1c}
h1{font-size:1.5em}h2{font-size:1.15em;margin:2em 0 .4em}
table{border-collapse:collapse;font-size:13px;margin:.8em 0}
td,th{text-align:right;padding:.2em .7em;border-bottom:1px solid #e4e4e4;vertical-align:bottom}
td:first-child,th:first-child{text-align:left;white-space:nowrap}
svg{width:100%;height:auto;max-width:900px}svg text{font-size:12px;fill:#444}svg .head{font-weight:600;fill:#1c1c1c}
.bad{fill:#b3261e}.frame{fill:#fafafa;stroke:#ddd}
polyline{fill:none;stroke-width:1.8}.errors{stroke:#b3261e;stroke-dasharray:3 3}
.holds{color:#2b7a3d}.not{color:#b3261e;font-weight:600}
"""


def page(results, skipped, setting, about):
    """The report as one HTML page that needs nothing else."""
    colour_of = {way: COLOURS[number % len(COLOURS)] for number, way in enumerate(ways_of(results))}
    parts = ["<h1>The study, run again</h1>", f"<p>{html.escape(setting)}</p>", "<ul>"]
    for what, holds in verdicts(results):
        mark = '<span class="holds">holds</span>' if holds else '<span class="not">does not hold</span>'
        parts.append(f"<li>{mark}: {html.escape(what)}</li>")
    parts += ["</ul>", "<h2>The study of 2001</h2>", _html_table(STUDY_HEAD, _study_rows())]
    for condition, title in CONDITIONS.items():
        rows = [row for row in results if row["condition"] == condition]
        if not rows:
            continue
        parts += [f"<h2>{title[0].upper()}{title[1:]}</h2>", _bars(rows, colour_of)]
        if condition != "well":
            parts += ["<p>Submits and, dashed, connection errors of each second:</p>", _over_time(rows, colour_of)]
        parts.append(_html_table([name for name, _ in COLUMNS], _rows(results, condition)))
        if condition == "well":
            parts += ["<ul>", *(f"<li>{html.escape(line)}</li>" for line in _scaling_lines(results)), "</ul>"]
    parts += ["<h2>Ways</h2><ul>"]
    parts += [f"<li>{way}: {html.escape(about[way]).replace('`', '')}</li>" for way in colour_of if way in about]
    parts += [f"<li>not run: {way}, {html.escape(why)}</li>" for way, why in skipped.items()]
    body = "\n".join(parts) + "</ul>"
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>The study, run again</title>\n'
            f"<style>{STYLE}</style></head><body>\n{body}\n</body></html>\n")
