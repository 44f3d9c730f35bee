#!/usr/bin/env python3
"""Each header compiles alone: whoever includes it need not know what it leans on.

The compiler reads every header as if it were a source file, with the include folders that its own library gives.
"""

import concurrent.futures
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import unittest

import sources

BUILD = pathlib.Path(os.environ.get("POISE_BUILD_DIR", sources.ROOT / "build"))


def flags_by_folder():
    """{folder: compiler and the flags that matter here}, from a source file of that folder."""
    found = {}
    for entry in json.loads((BUILD / "compile_commands.json").read_text()):
        path = pathlib.Path(entry["file"])
        if not path.is_relative_to(sources.ROOT):
            continue
        folder = path.relative_to(sources.ROOT).parent
        words = shlex.split(entry["command"])
        compiler = next(w for w in words if "++" in pathlib.Path(w).name)
        flags = []
        for word, following in zip(words, [*words[1:], ""]):
            if word == "-isystem":
                flags += [word, following]
            elif (
                word.startswith(("-I", "-D", "-std="))
                or word.startswith("-W")
                and word != "-Werror"
            ):
                flags.append(word)
        if folder in found:  # another target there: what any of them sees
            found[folder] += [f for f in flags if f.startswith("-I") and f not in found[folder]]
        else:
            found[folder] = [compiler, *flags, "-Wno-pragma-once-outside-header", "-Werror"]
    return found


class Headers(unittest.TestCase):
    def test_each_compiles_alone(self):
        by_folder = flags_by_folder()
        # A folder without a source file of its own (include/poise, or header-only) borrows from one that sees it.
        every = sorted({f for flags in by_folder.values() for f in flags if f.startswith("-I")})

        folder_for_objects = BUILD / "headers"
        folder_for_objects.mkdir(exist_ok=True)
        cached = [shutil.which("ccache")] if shutil.which("ccache") else []

        def check(header):
            folder = next(
                (f for f in (header.parent, *header.parent.parents) if f in by_folder), None
            )
            command = by_folder[folder] if folder else [*next(iter(by_folder.values())), *every]
            # To an object, at a place of its own: then the compiler cache knows it the next time.
            source = folder_for_objects / (str(header).replace("/", ".") + ".cc")
            source.write_text(f'#include "{sources.ROOT / header}"\n')
            result = subprocess.run(
                [*cached, *command, "-c", "-O0", "-o", source.with_suffix(".o"), source],
                capture_output=True,
                text=True,
            )
            if result.returncode != 0:
                return f"{header} does not compile alone:\n{result.stderr[:1500]}"
            return None

        headers = sources.files(".h")
        self.assertTrue(headers)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
            faults = [fault for fault in threads.map(check, headers) if fault]
        if faults:
            self.fail(f"{len(faults)} faults\n" + "\n".join(faults))


if __name__ == "__main__":
    unittest.main()
