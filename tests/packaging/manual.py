"""The man pages: their form by man and mandoc, their words against what the programs say of themselves."""

import os
import pathlib
import re
import subprocess
import unittest

from poised import BIN

ROOT = pathlib.Path(os.environ["POISE_SOURCE_DIR"])
PAGES = ROOT / "packaging/man"
PAGE_OF = {
    "poised": "poised.8", "poisectl": "poisectl.8", "poise-load": "poise-load.1", "poise-balance": "poise-balance.8",
}


def run(*command, **environment):
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=60, check=False, env={**os.environ, **environment})
    return done.returncode, done.stdout, done.stderr


def text_of(page):
    """The page's source as words: no requests, no quoting."""
    text = re.sub(r"\\f[A-Z]", "", (PAGES / page).read_text())
    text = re.sub(r"^\.[A-Z]+ ?", "", text, flags=re.M)
    return text.replace("\\-", "-").replace("\\&", "").replace('"', "")


def words_of_help(program, *command):
    """Every option and command that --help has, those of commands too."""
    code, said, complaint = run(BIN / program, *command, "--help")
    assert code == 0, complaint
    words = set(re.findall(r"^ +(?:-\w,)?(--[\w-]+)", said, re.M)) | set(re.findall(r"(?<![\w-])(-\w)(?![\w-])", said))
    _, _, commands = said.partition("\nSubcommands:\n")
    for name in re.findall(r"^  ([\w-]+) ", commands.split("\n\n")[0], re.M):
        words |= {name} | words_of_help(program, *command, name)
    return words


class Form(unittest.TestCase):
    def test_man_and_mandoc_have_no_complaint(self):
        pages = sorted(PAGES.glob("*.[158]"))
        self.assertEqual(5, len(pages))
        for page in pages:
            with self.subTest(page.name):
                self.assertEqual((0, "", ""), run("mandoc", "-Tlint", page))
                code, said, complaint = run("man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", page, MANROFFSEQ="",
                                            MANWIDTH="100", LC_ALL="C.UTF-8")
                self.assertEqual((0, ""), (code, complaint))
                self.assertGreater(len(said), 1000)
                # What apropos finds it by.
                code, said, _ = run("lexgrog", page)
                self.assertIn(f': "{page.name.rpartition(".")[0]} - ', said)


class Words(unittest.TestCase):
    def test_the_tables_are_what_the_program_knows(self):
        code, _, complaint = run(PAGES / "tables", "--check")
        self.assertEqual((0, ""), (code, complaint))

    def test_every_option_and_command_is_explained(self):
        for program, page in PAGE_OF.items():
            words = words_of_help(program)
            self.assertGreater(len(words), 5, program)
            text = text_of(page)
            for word in sorted(words):
                with self.subTest(f"{program} {word}"):
                    self.assertRegex(text, rf"(?<![\w-]){re.escape(word)}(?![\w-])")

    def test_no_option_is_explained_that_is_not_there(self):
        for program, page in PAGE_OF.items():
            words = words_of_help(program)
            for word in set(re.findall(r"(?<![\w-])--[a-z][\w-]+", text_of(page))):
                if program == "poise-balance" and word == "--print-config":
                    continue
                with self.subTest(f"{page} {word}"):
                    self.assertIn(word, words)

    def test_completion_knows_the_same_commands(self):
        completion = (ROOT / "packaging/completion/poisectl").read_text()
        _, said, _ = run(BIN / "poisectl", "--help")
        commands = re.findall(r"^  ([\w-]+) ", said.partition("\nSubcommands:\n")[2].split("\n\n")[0], re.M)
        self.assertGreater(len(commands), 12)
        for command in commands:
            words = f'COMP_WORDS=(poisectl {command}); COMP_CWORD=1; _poisectl; echo "${{COMPREPLY[@]}}"'
            code, said, _ = run("bash", "-c", f". {ROOT}/packaging/completion/poisectl; {words}")
            self.assertEqual((0, True), (code, command in said.split()), command)
        self.assertNotIn("  ", re.search(r'commands="([^"]*)"', completion)[1].replace("\n    ", " "))


class Readme(unittest.TestCase):
    def test_every_common_setup_is_a_file_that_is_valid(self):
        linked = re.findall(r"\(config/examples/([\w-]+\.json)\)", (ROOT / "README.md").read_text())
        self.assertEqual(sorted(path.name for path in (ROOT / "config/examples").glob("*.json")), sorted(linked))
        self.assertGreaterEqual(len(linked), 10)
        for name in linked:
            with self.subTest(name):
                code, said, complaint = run(BIN / "poised", "--check", "-c", ROOT / "config/examples" / name)
                self.assertEqual(0, code, complaint)
                # One warning is right: that servers see our address is for the operator to weigh.
                self.assertRegex(said, r": valid, [01] warnings")


if __name__ == "__main__":
    unittest.main()
