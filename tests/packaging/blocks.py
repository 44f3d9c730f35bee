"""The code blocks of a page of docs/, and lists of what the packages install."""

import collections
import glob
import pathlib
import re

Block = collections.namedtuple("Block", "kind note text line")  # ```KIND NOTE


def blocks(path):
    text = pathlib.Path(path).read_text()
    found = []
    for match in re.finditer(r"^```(\w+) *(.*)\n((?:.*\n)*?)```$", text, re.M):
        found.append(Block(match[1], match[2], match[3], text[: match.start()].count("\n") + 1))
    assert 2 * len(found) == len(re.findall(r"^```", text, re.M)), f"{path}: a block that is not understood"
    return found


def installed_files(root, package):
    """[(source, path on the machine)] by packaging/debian/PACKAGE.install, .examples, .docs."""
    debian = pathlib.Path(root, "packaging/debian")

    def lines(kind):
        path = debian / f"{package}.{kind}"
        return [line for line in path.read_text().splitlines() if line] if path.exists() else []

    found = []
    for line in lines("install"):
        source, folder = line.split()
        found.append((source, f"/{folder}/{pathlib.Path(source).name}"))
    for kind, folder in (("examples", "/examples"), ("docs", "")):
        for pattern in lines(kind):
            for source in sorted(glob.glob(str(pathlib.Path(root, pattern)))):
                name = pathlib.Path(source)
                found.append((str(name.relative_to(root)), f"/usr/share/doc/{package}{folder}/{name.name}"))
    return found
