#!/usr/bin/python3
"""Deliberate bugs, and the proof that the simulation catches each.

    tests/sim/mutants.py [--list] [--only NAME] [--build DIR]

Each mutant replaces one piece of text in a copy of the sources (never in the checkout), builds the simulation there
and runs it; it must fail. A mutant whose text is no longer in the sources is an error: it has to be brought up to date.
Exit code 0: all caught.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]

# name, file, text as it stands, text with the bug
MUTANTS = [
    ("fin_is_dropped", "src/proxy/session_relay.cc",
     "  core.io.shutdown_write(sink_of(direction));\n}",
     "}"),
    ("fin_overtakes_bytes", "src/proxy/session.cc",
     "      if (relay.empty()) pass_fin(core, direction);\n",
     "      pass_fin(core, direction);\n"),
    ("short_quiet_send_is_ignored", "src/proxy/session_relay.cc",
     "  if (hold(core, direction, whole.subspan(taken))) send_held(core, direction);\n}",
     "  static_cast<void>(taken);\n}"),
    ("short_write_is_taken_for_whole", "src/proxy/session_relay.cc",
     "    relay.consume(core.blocks, static_cast<std::uint32_t>(res));",
     "    relay.consume(core.blocks, static_cast<std::uint32_t>(relay.front(core.blocks).size()));"),
    ("new_bytes_overtake_held_ones", "src/proxy/session_relay.cc",
     "  if (relay.held_bytes > 0 || relay.sending) {\n    bool held",
     "  if (relay.sending && relay.held_bytes > 90) {\n    bool held"),
    ("buffer_is_lost_while_closing", "src/proxy/session.cc",
     "    if (done.buffer != io::kNoBuffer) core.io.release_buffer(done.buffer);\n    return release_if_quiet",
     "    return release_if_quiet"),
    ("armed_receive_is_not_cancelled", "src/proxy/session.cc",
     "    if (relay.armed != Armed::nothing)\n      core.io.cancel(",
     "    if (relay.armed == Armed::poll)\n      core.io.cancel("),
    ("closed_with_operations_in_flight", "src/proxy/session.cc",
     "  if (state_ != State::closing || in_flight_ > 0) return;",
     "  if (state_ != State::closing) return;"),
    ("reset_overtakes_bytes", "src/proxy/session_relay.cc",
     "  if (waiting && core.tick < deadline_) return core.wheel.set(slot_, core.tick + 1);",
     "  static_cast<void>(waiting);"),
    ("last_words_lost_after_failed_send", "src/proxy/session_relay.cc",
     "  if (at(opposite(direction)).eof) begin_reset(core, opposite(direction));",
     "  begin_reset(core, opposite(direction));"),
    ("place_leaks_when_a_try_fails", "src/proxy/session_gate.cc",
     "  if (has_place_) give_back(core, {.service = service_, .backend = backend_id_, .turn = has_turn_});\n",
     "  settle_turn(core);\n"),
    ("turn_leaks_when_a_try_fails", "src/proxy/session_gate.cc",
     ".backend = backend_id_, .turn = has_turn_});\n  has_place_",
     ".backend = backend_id_, .turn = false});\n  has_place_"),
    ("nobody_serves_the_queue", "src/proxy/session_gate.cc",
     "place.turn);\n  serve_waiters(core, core.service(place.service));",
     "place.turn);"),
    ("a_late_place_is_lost", "src/proxy/worker.cc",
     "  Session::give_back(core_, place);\n}",
     "}"),
    ("the_queue_is_not_left", "src/proxy/session_gate.cc",
     "  if (record.waiters != nullptr) record.waiters->cancel(record.ticket);",
     ""),
    ("a_verdict_on_the_client_is_retried", "src/proxy/session_gate.cc",
     "  if (verdict == mail::Verdict::try_another) {",
     "  if (verdict != mail::Verdict::relay) {"),
    ("the_last_answer_is_withheld", "src/proxy/session_gate.cc",
     "  if (record.all_answered) return true;",
     ""),
    ("an_answer_is_passed_on_after_a_failure", "src/proxy/session_gate.cc",
     "  record.all_answered = record.all_answered && answered;",
     "  record.all_answered = answered;"),
    ("early_bytes_are_sent_to_two", "src/proxy/session_gate.cc",
     "  if (service.early_talk == config::EarlyTalk::pass) begin_relaying(core);\n}\n\n/// Counts",
     "  if (service.early_talk == config::EarlyTalk::pass) send_held(core, Direction::to_backend);\n}\n\n/// Counts"),
    ("hello_is_not_said_again", "src/proxy/session_gate.cc",
     "    to_backend.drop_held(core.blocks);\n    const bool copied",
     "    tries(core).kept.drop_held(core.blocks);\n    const bool copied"),
    ("early_data_is_replayed", "src/proxy/session_gate.cc",
     "  if (status == mail::ClientHello::Status::beyond) return begin_relaying(core);",
     ""),
    ("the_same_backend_is_tried_again", "src/proxy/session_gate.cc",
     "  request.tried = tried;",
     "  request.tried = tried.first(tried.size() / 2);"),
    ("left_backend_is_closed_while_armed", "src/proxy/session_gate.cc",
     "  if (connecting_ || to_backend.sending || to_client.armed != Armed::nothing) return;",
     "  if (connecting_ || to_backend.sending) return;"),
    ("stopped_direction_never_resumes", "src/proxy/session_relay.cc",
     "  if (relay.goal == Goal::stop) return ask_source(core, direction, Goal::receive);",
     "  if (relay.goal == Goal::stop) return;"),
    ("connect_timeout_does_nothing", "src/proxy/session.cc",
     "      core.io.cancel(tag(Op::connect, Direction::to_backend));\n      return;",
     "      return;"),
    ("no_rearm_when_buffers_ran_out", "src/proxy/session_relay.cc",
     "      core.counters.worker.buffers_ran_out.add();\n      return settle_source(core, direction);",
     "      core.counters.worker.buffers_ran_out.add();\n      return;"),
    ("pipe_leaks_at_the_end", "src/proxy/session_relay.cc",
     "    core.pipes.give_back(relay.pipe, relay.pipe_bytes == 0);\n    relay.pipe = PipePool::kNone;\n"
     "    relay.pipe_bytes = 0;",
     "    relay.pipe = PipePool::kNone;\n    relay.pipe_bytes = 0;"),
    ("dirty_pipe_is_lent_again", "src/proxy/pipes.cc",
     "  if (!empty) {",
     "  if (false && !empty) {"),
]

COPIED = ["CMakeLists.txt", "cmake", "include", "src", "config", "tests/sim"]

CMAKE = """cmake_minimum_required(VERSION 3.25)
project(mutants LANGUAGES CXX)
set(CMAKE_BUILD_TYPE Release)
include(cmake/poise.cmake)
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(GTest REQUIRED)
pkg_check_modules(liburing REQUIRED IMPORTED_TARGET liburing)
pkg_check_modules(libcap_ng REQUIRED IMPORTED_TARGET libcap-ng)
foreach(folder include src/net src/io src/balance src/mail src/log src/proxy)
  add_subdirectory(${folder})
endforeach()
file(GLOB sources tests/sim/*.cc)
add_executable(sim ${sources})
target_link_libraries(sim PRIVATE poise_flags poise_proxy poise_io poise_balance poise_mail poise_log GTest::gtest_main)
"""


def check_texts() -> list[str]:
    wrong = []
    for name, file, old, _ in MUTANTS:
        count = (ROOT / file).read_text().count(old)
        if count != 1:
            wrong.append(f"{name}: its text stands {count} times in {file}, not once")
    return wrong


def build(build_dir: pathlib.Path) -> subprocess.CompletedProcess:
    return subprocess.run(["ninja", "-C", str(build_dir), "sim"], capture_output=True, text=True)


def caught(build_dir: pathlib.Path) -> str:
    """How the simulation found the bug; empty if it did not."""
    environment = dict(os.environ, POISE_SIM_SEEDS="4000")
    try:
        done = subprocess.run([str(build_dir / "sim"), "--gtest_filter=Session.*:Gate.*", "--gtest_break_on_failure"],
                              capture_output=True, text=True, errors="replace", timeout=120, env=environment)
    except subprocess.TimeoutExpired:
        return "hangs"
    if done.returncode == 0:
        return ""
    for line in (done.stdout + done.stderr).splitlines():
        if "(seed" in line or "CHECK failed" in line:
            return line.strip()[:110]
    return f"exit code {done.returncode}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Break the code on purpose and see the simulation fail.")
    parser.add_argument("--list", action="store_true", help="name the mutants, see that their texts are current")
    parser.add_argument("--only", help="just this mutant")
    parser.add_argument("--build", help="keep the copy and its build here, to be quicker next time")
    arguments = parser.parse_args()

    wrong = check_texts()
    for line in wrong:
        print(f"mutants: {line}", file=sys.stderr)
    if arguments.list:
        print("\n".join(name for name, *_ in MUTANTS))
    if wrong or arguments.list:
        return 1 if wrong else 0

    chosen = [mutant for mutant in MUTANTS if arguments.only in (None, mutant[0])]
    if not chosen:
        print(f"mutants: no mutant is called {arguments.only}; --list names them", file=sys.stderr)
        return 2
    temporary = None if arguments.build else tempfile.TemporaryDirectory(prefix="poise-mutants-")
    copy = pathlib.Path(arguments.build or temporary.name).resolve()
    for entry in COPIED:
        source, target = ROOT / entry, copy / entry
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copy2(source, target)
    (copy / "CMakeLists.txt").write_text(CMAKE)
    build_dir = copy / "build"
    subprocess.run(["cmake", "-G", "Ninja", "-S", str(copy), "-B", str(build_dir)], check=True, capture_output=True)
    print("building the sources as they are", flush=True)
    plain = build(build_dir)
    if plain.returncode != 0:
        print(plain.stdout, file=sys.stderr)
        return 1
    if found := caught(build_dir):
        print(f"mutants: the simulation fails without any mutant: {found}", file=sys.stderr)
        return 1
    missed = 0
    for number, (name, file, old, new) in enumerate(chosen, 1):
        began = time.monotonic()
        original = (ROOT / file).read_text()
        (copy / file).write_text(original.replace(old, new))
        made = build(build_dir)
        how = caught(build_dir) if made.returncode == 0 else ""
        (copy / file).write_text(original)
        if made.returncode != 0:
            verdict = "does not build:\n" + made.stdout[-1500:]
        else:
            verdict = f"caught: {how}" if how else "NOT CAUGHT"
        missed += not how
        print(f"[{number}/{len(chosen)}] {name}: {verdict} ({time.monotonic() - began:.0f} s)", flush=True)
    print(f"{len(chosen) - missed} caught, {missed} not caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
