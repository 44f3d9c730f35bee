#!/usr/bin/env python3
"""What of docs/style.md can be stated, tested: layout, names, READMEs, nothing left for later."""

import re
import shutil
import subprocess
import unittest

import sources

SCRIPT_COLUMNS_MAX = 120  # C++ is clang-format's business: 100
README_LINES_MAX = 60  # a screen, or little more

# Data that a README two folders up speaks for.
WITHOUT_README = re.compile(
    r"^(\.|\.ci|cmake|docs|include(/.*)?|tests/fuzz/(corpus|regressions)(/.*)?|tests/unit/.*"
    r"|tests/.*/(data|cases)(/.*)?|config/examples)$"
)

SCRIPTS = (".py", ".sh", ".cmake", "CMakeLists.txt")


def is_script(path):
    if path.name.endswith(SCRIPTS):
        return True
    return not path.suffix and sources.is_text(path) and sources.text(path).startswith("#!")


class Style(unittest.TestCase):
    def fail_if(self, faults):
        if faults:
            self.fail(f"{len(faults)} faults\n" + "\n".join(faults))

    def test_clang_format_has_nothing_to_change(self):
        program = shutil.which("clang-format-14") or shutil.which("clang-format")
        self.assertTrue(
            program, "clang-format is not installed: packaging/install-dependencies test"
        )
        version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
        self.assertIn(
            "version 14.", version, "each version lays out a little differently; Debian 12's is 14"
        )
        paths = [str(p) for p in sources.files(".h", ".cc")]
        result = subprocess.run(
            [program, "--dry-run", "--Werror", *paths],
            cwd=sources.ROOT,
            capture_output=True,
            text=True,
        )
        faults = sorted(set(re.findall(r"^(\S+?:\d+):\d+: error", result.stderr, re.M)))
        if faults:
            self.fail(
                f"clang-format -i would change {len(faults)} lines\n" + "\n".join(faults[:40])
            )
        self.assertEqual(result.returncode, 0, result.stderr[:2000])

    def test_nothing_is_left_for_later(self):
        later = re.compile(
            r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK"]) + r")\b"
        )
        faults = []
        for path in sources.files():
            if not sources.is_text(path) or re.match(
                r"tests/fuzz/(corpus|regressions)/", str(path)
            ):
                continue
            for number, line in enumerate(sources.text(path).splitlines(), 1):
                if later.search(line):
                    faults.append(f"{path}:{number}: do it, or write an issue: {line.strip()[:80]}")
        self.fail_if(faults)

    def test_every_folder_has_a_readme(self):
        folders = {path.parent for path in sources.files()}
        faults = []
        for folder in sorted(folders):
            if WITHOUT_README.match(str(folder)):
                continue
            own, parents = (sources.ROOT / f / "README.md" for f in (folder, folder.parent))
            if own.exists() or parents.exists() and f"{folder.name}/" in parents.read_text():
                continue
            faults.append(
                f"{folder}: no README.md: what is here, what comes in, what goes out"
                f" (or a line on {folder.name}/ in the one above)"
            )
        self.fail_if(faults)

    def test_a_folders_readme_is_a_screen(self):
        faults = []
        for path in sources.files("README.md"):
            lines = len(sources.text(path).splitlines())
            if path.parent != sources.pathlib.Path(".") and lines > README_LINES_MAX:
                faults.append(f"{path}: {lines} lines are more than a screen ({README_LINES_MAX})")
        self.fail_if(faults)

    def test_names_say_what_a_thing_is(self):
        vague = re.compile(r"manager|helper|util", re.I)
        declaration = re.compile(r"\b(class|struct|enum class|namespace)\s+(\w+)")
        faults = []
        for path in sources.files(".h", ".cc", ".py"):
            if vague.search(path.name):
                faults.append(
                    f"{path}: manager, helper and util mark a responsibility not yet understood"
                )
            if path.suffix == ".py":
                continue
            for number, line in enumerate(sources.text(path).splitlines(), 1):
                for _, name in declaration.findall(line.split("//")[0]):
                    if vague.search(name):
                        faults.append(
                            f"{path}:{number}: {name}: manager, helper and util mark a responsibility "
                            "not yet understood"
                        )
        self.fail_if(faults)

    def test_file_names_are_snake_case(self):
        faults = [
            f"{path}: file names are snake_case"
            for path in sources.files(".h", ".cc", ".py")
            if not re.fullmatch(r"[a-z0-9_]+(\.[a-z]+)", path.name)
        ]
        self.fail_if(faults)

    def test_headers_begin_with_pragma_once(self):
        faults = [
            f"{path}:1: begins with #pragma once"
            for path in sources.files(".h")
            if not sources.text(path).startswith("#pragma once\n")
        ]
        self.fail_if(faults)

    def test_scripts_fit_the_page(self):
        faults = []
        for path in sources.files():
            if not is_script(path):
                continue
            for number, line in enumerate(sources.text(path).splitlines(), 1):
                if len(line) > SCRIPT_COLUMNS_MAX:
                    faults.append(f"{path}:{number}: {len(line)} columns, {SCRIPT_COLUMNS_MAX} fit")
                if "\t" in line and path.name != "rules":  # debian/rules is a makefile
                    faults.append(f"{path}:{number}: a tab")
        self.fail_if(faults)

    def test_text_ends_lines_plainly(self):
        faults = []
        for path in sources.files(".h", ".cc", ".py", ".md", ".json", ".cmake", ".txt"):
            if re.match(r"tests/fuzz/(corpus|regressions)/", str(path)):
                continue
            content = sources.text(path)
            if "\r" in content:
                faults.append(f"{path}: has carriage returns")
            if content and not content.endswith("\n"):
                faults.append(f"{path}: the last line has no end")
            for number, line in enumerate(content.splitlines(), 1):
                if line != line.rstrip() and path.suffix in (".py", ".cmake", ".txt"):
                    faults.append(f"{path}:{number}: blanks at the end of the line")
        self.fail_if(faults)


if __name__ == "__main__":
    unittest.main()
