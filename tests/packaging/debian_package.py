"""The Debian packages: built, judged by lintian, and lived with in a Debian 12 that has nothing else. Needs root."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

from blocks import blocks

ROOT = pathlib.Path(os.environ["POISE_SOURCE_DIR"])
PACKAGES = ROOT / "build/packages"


def run(*command, env=None):
    done = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=2400, check=False, env={**os.environ, **(env or {})},
    )
    print(done.stdout)
    return done


class DebianPackage(unittest.TestCase):
    def test_from_build_to_purge(self):
        """build-deb (which fails on any error or warning of lintian), then in a fresh root by the guide's commands:
        install, every file, the examples, first mail, upgrade and downgrade under open sessions, remove, purge."""
        built = run(ROOT / "packaging/build-deb", env={"DEB_BUILD_OPTIONS": "noautodbgsym"})
        self.assertEqual(built.returncode, 0)
        with tempfile.TemporaryDirectory() as folder:
            now, later = pathlib.Path(folder, "now"), pathlib.Path(folder, "later")
            now.mkdir()
            later.mkdir()
            packages = [p for p in PACKAGES.glob("*.deb") if "-dbgsym" not in p.name]
            self.assertEqual(len(packages), 2, packages)
            for package in packages:
                shutil.copy(package, now)
                self.repack(package, later / package.name, folder)
            self.write_guide(pathlib.Path(folder, "guide"))
            done = run(
                ROOT / "tests/packaging/clean_root", "tests/packaging/debian_inside", "/packages", "installation",
                env={"PACKAGES": folder, "BOOTED": "tests/packaging/debian_inside /packages life"},
            )
        self.assertEqual(done.returncode, 0)
        self.assertEqual(len([l for l in done.stdout.splitlines() if l.startswith("ok ")]), 11)

    @staticmethod
    def write_guide(folder):
        """What docs/guide.md says for the first box, as files."""
        folder.mkdir()
        page = ROOT / "docs/guide.md"
        second = page.read_text().partition("\n## Second box")[0].count("\n")
        first = [block for block in blocks(page) if block.line < second]
        (folder / "poise.json").write_text(next(b.text for b in first if b.note == "/etc/poise/poise.json"))
        (folder / "install.sh").write_text("".join(b.text for b in first if b.note == "install"))
        (folder / "first.sh").write_text("".join(b.text for b in first if (b.kind, b.note) == ("sh", "")))
        (folder / "upgrade.sh").write_text("".join(b.text for b in blocks(page) if b.note == "upgrade"))

    @staticmethod
    def repack(package, later, folder):
        """The same package with a later version."""
        tree = pathlib.Path(folder, "tree")
        subprocess.run(["dpkg-deb", "-R", package, tree], check=True)
        control = tree / "DEBIAN/control"
        version = subprocess.check_output(["dpkg-deb", "-f", package, "Version"], text=True).strip()
        control.write_text(
            control.read_text().replace(f"Version: {version}", f"Version: {version}+later")
        )
        subprocess.run(["dpkg-deb", "-Znone", "-b", tree, later], check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(tree)


if __name__ == "__main__":
    unittest.main()
