"""The project's own files, as the structure tests see them."""

import os
import pathlib
import re

ROOT = pathlib.Path(os.environ.get("POISE_SOURCE_DIR", pathlib.Path(__file__).resolve().parents[2]))

_INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^">]+)[">]')


def files(*suffixes, under="."):
    """Every file of the project below `under` whose name ends in one of `suffixes` (all when none is given),
    relative to ROOT. Build folders, .git and caches are not the project's."""
    found = []
    for folder, folders, names in os.walk(ROOT / under):
        folders[:] = sorted(
            f
            for f in folders
            if f not in (".git", "build", "__pycache__", ".cache") and not f.startswith("build-")
        )
        for name in sorted(names):
            if not suffixes or name.endswith(suffixes):
                found.append((pathlib.Path(folder) / name).relative_to(ROOT))
    return found


def text(path):
    return (ROOT / path).read_text(encoding="utf-8", errors="replace")


def is_text(path):
    return b"\0" not in (ROOT / path).read_bytes()[:8192]


def includes(path):
    """(line number, is it <...>, what) of every #include."""
    for number, line in enumerate(text(path).splitlines(), 1):
        match = _INCLUDE.match(line)
        if match:
            yield number, match[1] == "<", match[2]
