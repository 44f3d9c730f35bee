#include <algorithm>
#include <array>
#include <cerrno>

#include "poise/check.h"
#include "proxy/session.h"

/// Session's other half: moving bytes. What it holds, when it stops, how it ends are Relay's; which
/// states there are and how one leads to the next is in session.cc.
namespace poise::proxy {

using io::Direction;
using io::Op;

// ---- the receiving end of a direction ----

void Session::receive(Core& core, Direction direction) {
  Relay& relay = at(direction);
  core.io.recv(source_of(direction), tag(Op::recv, direction));
  relay.goal = Goal::receive;
  relay.armed = Armed::recv;
  relay.cancelling = false;
  ++in_flight_;
}

void Session::poll_source(Core& core, Direction direction) {
  core.io.poll_in(source_of(direction), tag(Op::poll_in, direction));
  at(direction).armed = Armed::poll;
  ++in_flight_;
}

/// Says what the receiving end should do from now on, and ends what it does instead.
void Session::ask_source(Core& core, Direction direction, Goal goal) {
  Relay& relay = at(direction);
  relay.goal = goal;
  if (relay.armed == Armed::nothing) return settle_source(core, direction);
  const bool in_the_way =
      relay.armed == Armed::recv ? goal != Goal::receive : goal == Goal::stop || goal == Goal::end;
  if (!in_the_way || relay.cancelling) return;
  core.io.cancel(tag(relay.armed == Armed::recv ? Op::recv : Op::poll_in, direction));
  relay.cancelling = true;
}

/// Nothing is armed on the receiving end: begin what its goal asks for.
void Session::settle_source(Core& core, Direction direction) {
  Relay& relay = at(direction);
  if (relay.armed != Armed::nothing || relay.eof) return;
  switch (relay.goal) {
    case Goal::receive:
      return receive(core, direction);
    case Goal::park:
      return poll_source(core, direction);
    case Goal::bulk:
      return begin_bulk(core, direction);
    case Goal::stop:
    case Goal::end:
      return;
  }
}

void Session::touch(Core& core, Direction direction) {
  last_activity_ = core.tick;
  client_spoke_last_ = direction == Direction::to_backend;
}

/// Received while nothing is relayed.
void Session::on_received(Core& core, const io::Completion& done) {
  const auto bytes = core.io.buffer(done.buffer, done.res);
  switch (state_) {
    case State::greeting:
      if (done.tag.direction == Direction::to_client) {
        if (judge(core, bytes)) return relay_received(core, done);
        break;
      }
      [[fallthrough]];
    case State::opening:
    case State::queued:
    case State::connecting:
      on_early(core, bytes);
      break;
    case State::refusing:
      on_refused_bytes(core, bytes);
      break;
    case State::relaying:
    case State::resetting:
    case State::closing:
    case State::free:
      break;
  }
  core.io.release_buffer(done.buffer);
}

/// The buffer joins the batch of its direction, which goes out at the end of the turn.
void Session::relay_received(Core& core, const io::Completion& done) {
  const Direction direction = done.tag.direction;
  Relay& relay = at(direction);
  if (relay.sink_dead) return core.io.release_buffer(done.buffer);
  const auto length = static_cast<std::size_t>(done.res);
  touch(core, direction);
  count_received(core, direction, length);
  if (relay.goal == Goal::park) wake_up(core, direction);
  core.chain[done.buffer] = {.length = done.res, .next = io::kNoBuffer};
  if (relay.has_batch()) {
    core.chain[relay.batch_tail].next = done.buffer;
  } else {
    relay.batch_head = done.buffer;
    core.unflushed.push_back({.slot = slot_, .generation = generation_, .direction = direction});
  }
  relay.batch_tail = done.buffer;
  if (length == core.io.buffer_bytes()) {
    if (relay.full_run < UINT8_MAX) ++relay.full_run;
    if (relay.full_run >= core.tuning.bulk_after && relay.goal == Goal::receive &&
        core.tuning.pipes_max > 0)
      ask_source(core, direction, Goal::bulk);
  } else {
    relay.full_run = 0;
  }
}

void Session::on_recv(Core& core, const io::Completion& done) {
  const Direction direction = done.tag.direction;
  if (done.res > 0) {
    CHECK(done.buffer != io::kNoBuffer);
    if (state_ == State::relaying) {
      relay_received(core, done);
    } else {
      on_received(core, done);
    }
    // The session may be over by now, or have given up the backend these bytes came from.
    const bool over = state_ == State::closing || state_ == State::free;
    const bool given_up =
        direction == Direction::to_client && (abandoning_ || state_ == State::connecting ||
                                              state_ == State::queued || state_ == State::refusing);
    if (!done.more && !over && !given_up) settle_source(core, direction);
    return;
  }
  switch (-done.res) {
    case 0:
      return on_eof(core, direction);
    case ENOBUFS:
      core.counters.worker.buffers_ran_out.add();
      return settle_source(core, direction);
    case ECANCELED:
    case EINTR:
    case EAGAIN:
      return settle_source(core, direction);
    default:
      return on_source_error(core, direction);
  }
}

// ---- the sending end of a direction ----

void Session::flush(Core& core, Direction direction) {
  Relay& relay = at(direction);
  if (!relay.has_batch()) return;  // the session ended within the batch
  const std::uint16_t first = relay.batch_head;
  relay.batch_head = relay.batch_tail = io::kNoBuffer;
  const auto bytes_of = [&](std::uint16_t id) { return core.io.buffer(id, core.chain[id].length); };
  const auto release_from = [&](std::uint16_t id) {
    while (id != io::kNoBuffer) {
      const std::uint16_t following = core.chain[id].next;
      core.io.release_buffer(id);
      id = following;
    }
  };
  if (relay.sink_dead) return release_from(first);

  if (relay.held_bytes > 0 || relay.sending) {
    bool held = true;
    for (std::uint16_t id = first; held && id != io::kNoBuffer; id = core.chain[id].next)
      held = hold(core, direction, bytes_of(id));
    return release_from(first);
  }
  if (core.chain[first].next == io::kNoBuffer && !relay.eof && relay.goal != Goal::bulk &&
      state_ == State::relaying) {
    core.io.send_quietly(sink_of(direction), bytes_of(first), tag(Op::report, direction));
    relay.quiet_buffer = first;
    quiet_epoch_ = core.epoch;
    core.in_kernel.push_back(first);
    return;
  }

  // Several buffers, or the last bytes before a FIN, or splice is to follow: at once, so that the
  // order is certain.
  const bool with_fin =
      relay.eof && state_ == State::relaying && !at(opposite(direction)).fin_passed;
  std::uint16_t id = first;
  while (id != io::kNoBuffer) {
    std::array<std::span<const std::byte>, 32> parts;
    std::size_t count = 0, total = 0;
    std::uint16_t after = id;
    for (; after != io::kNoBuffer && count < parts.size(); after = core.chain[after].next) {
      parts[count] = bytes_of(after);
      total += parts[count++].size();
    }
    const bool last = with_fin && after == io::kNoBuffer;
    const std::ptrdiff_t sent =
        core.io.send_now(sink_of(direction), std::span(parts).first(count), last);
    if (sent < 0 && sent != -EAGAIN) {
      release_from(id);
      return on_sink_error(core, direction);
    }
    auto taken = static_cast<std::size_t>(std::max<std::ptrdiff_t>(sent, 0));
    if (taken == total) {
      while (id != after) {
        const std::uint16_t following = core.chain[id].next;
        core.io.release_buffer(id);
        id = following;
      }
      if (last) {
        relay.fin_passed = true;  // went out with the last byte
        return;
      }
      continue;
    }
    bool held = true;
    for (std::uint16_t rest = id; held && rest != io::kNoBuffer; rest = core.chain[rest].next) {
      const auto bytes = bytes_of(rest);
      const std::size_t skip = std::min(taken, bytes.size());
      taken -= skip;
      if (skip < bytes.size()) held = hold(core, direction, bytes.subspan(skip));
    }
    release_from(id);
    if (held) send_held(core, direction);
    return;
  }
  drained(core, direction);
}

/// Keeps a copy until the sink takes it, and stops receiving at the mark. False: out of blocks, and
/// the session is closing.
bool Session::hold(Core& core, Direction direction, std::span<const std::byte> bytes) {
  Relay& relay = at(direction);
  if (!relay.append(core.blocks, bytes)) {
    core.warn(Warning::blocks, "a session was closed: all {} MiB for slow readers are in use",
              core.blocks.blocks_max() / (1048576 / io::BlockPool::kBlockBytes));
    close(core, CloseReason::resources);
    return false;
  }
  // When memory gets scarce everybody who is slow gets less of it.
  const std::uint32_t mark = core.blocks.used() * 2 > core.blocks.blocks_max()
                                 ? core.tuning.held_bytes_max / 4
                                 : core.tuning.held_bytes_max;
  if (relay.held_bytes >= mark && relay.goal != Goal::end && relay.goal != Goal::stop) {
    relay.full_run = 0;
    ask_source(core, direction, Goal::stop);
  }
  return true;
}

void Session::send_held(Core& core, Direction direction) {
  Relay& relay = at(direction);
  if (relay.sending || relay.held_bytes == 0) return;
  core.io.send(sink_of(direction), relay.front(core.blocks), tag(Op::send, direction));
  relay.sending = true;
  ++in_flight_;
}

void Session::on_send(Core& core, Direction direction, std::int32_t res) {
  Relay& relay = at(direction);
  if (relay.sink_dead) return relay.drop_held(core.blocks);
  if (res < 0 && res != -EINTR && res != -EAGAIN) {
    if (state_ == State::greeting) return try_failed(core, TryOutcome::reset);
    return on_sink_error(core, direction);
  }
  if (res > 0) {
    relay.consume(core.blocks, static_cast<std::uint32_t>(res));
    last_activity_ = core.tick;  // a slow reader is not a silent one
  }
  if (relay.held_bytes > 0) {
    send_held(core, direction);
    if (relay.goal == Goal::stop && relay.held_bytes <= core.tuning.held_bytes_max / 4)
      ask_source(core, direction, Goal::receive);
    return;
  }
  if (relay.empty()) drained(core, direction);
}

/// All that was received has been taken by the sink.
void Session::drained(Core& core, Direction direction) {
  Relay& relay = at(direction);
  if (state_ == State::resetting) {
    if (direction == reset_) finish_reset(core);
    return;
  }
  if (relay.eof) return pass_fin(core, direction);
  if (relay.goal == Goal::stop) return ask_source(core, direction, Goal::receive);
  if (relay.goal == Goal::bulk && relay.pipe == PipePool::kNone)
    return settle_source(core, direction);
}

void Session::pass_fin(Core& core, Direction direction) {
  Relay& relay = at(direction);
  if (relay.fin_passed) return;
  relay.fin_passed = true;
  if (at(opposite(direction)).fin_passed)
    return close(core, first_fin_ == Direction::to_backend ? CloseReason::client_closed
                                                           : CloseReason::backend_closed);
  core.io.shutdown_write(sink_of(direction));
}

/// The sink takes nothing any more (its side reset, or we were told so): drop what is meant for it.
/// What the same socket still has for us comes first; then the reset is passed on.
void Session::on_sink_error(Core& core, Direction direction) {
  Relay& relay = at(direction);
  if (relay.sink_dead) return;
  drop_unsent(core, direction);
  ask_source(core, direction, Goal::end);
  if (state_ == State::resetting) {
    if (direction == reset_)
      close(core, reset_ == Direction::to_backend ? CloseReason::client_reset
                                                  : CloseReason::backend_reset);
    return;
  }
  if (at(opposite(direction)).eof) begin_reset(core, opposite(direction));
}

void Session::drop_unsent(Core& core, Direction direction) {
  Relay& relay = at(direction);
  relay.sink_dead = true;
  while (relay.has_batch()) {
    const std::uint16_t id = relay.batch_head;
    relay.batch_head = core.chain[id].next;
    core.io.release_buffer(id);
  }
  relay.batch_tail = io::kNoBuffer;
  if (relay.pipe != PipePool::kNone) {
    core.pipes.give_back(relay.pipe, relay.pipe_bytes == 0);
    relay.pipe = PipePool::kNone;
    relay.pipe_bytes = 0;
  }
  if (!relay.sending)
    relay.drop_held(core.blocks);  // else the kernel still reads it; on_send() drops it
}

void Session::on_report(Core& core, const io::Completion& done) {
  CHECK(done.tag.generation == generation_ && state_ != State::free);
  if (state_ == State::closing) return;  // the buffer goes back with the epoch
  const Direction direction = done.tag.direction;
  Relay& relay = at(direction);
  if (relay.sink_dead) return;
  const auto whole = core.io.buffer(relay.quiet_buffer, core.chain[relay.quiet_buffer].length);
  if (done.res < 0 && done.res != -EAGAIN) return on_sink_error(core, direction);
  const auto taken = static_cast<std::size_t>(std::max(done.res, 0));
  if (hold(core, direction, whole.subspan(taken))) send_held(core, direction);
}

// ---- bulk ----

void Session::begin_bulk(Core& core, Direction direction) {
  Relay& relay = at(direction);
  if (!relay.empty() || quiet_epoch_ == core.epoch) {
    // Splice would overtake what is on its way. drained() comes back here; a quiet send only needs
    // the epoch to pass.
    if (relay.empty()) receive(core, direction);
    return;
  }
  relay.pipe = core.pipes.take();
  if (relay.pipe == PipePool::kNone) {
    relay.full_run = 0;
    return receive(core, direction);
  }
  relay.small_run = 0;
  core.counters.worker.bulk_turns.add();
  pump(core, direction);
}

void Session::pump(Core& core, Direction direction) {
  Relay& relay = at(direction);
  if (relay.pipe == PipePool::kNone)
    return settle_source(core, direction);  // dropped while a poll was out
  const io::Pipe& pipe = core.pipes[relay.pipe];
  for (int round = 0; round < 4; ++round) {
    if (relay.pipe_bytes == 0) {
      if (relay.small_run >= core.tuning.bulk_small_max) return leave_bulk(core, direction);
      const std::ptrdiff_t got =
          core.io.splice(source_of(direction), pipe.write_end, pipe.capacity_bytes);
      if (got == -EAGAIN) break;
      if (got == 0) {
        core.pipes.give_back(relay.pipe, true);
        relay.pipe = PipePool::kNone;
        return on_eof(core, direction);
      }
      if (got < 0) {
        core.pipes.give_back(relay.pipe, true);
        relay.pipe = PipePool::kNone;
        return on_source_error(core, direction);
      }
      relay.pipe_bytes = static_cast<std::uint32_t>(got);
      count_received(core, direction, static_cast<std::uint64_t>(got));
      relay.small_run = static_cast<std::size_t>(got) < core.io.buffer_bytes()
                            ? static_cast<std::uint8_t>(std::min(relay.small_run + 1, 255))
                            : std::uint8_t{0};
      touch(core, direction);
    }
    const std::ptrdiff_t put = core.io.splice(pipe.read_end, sink_of(direction), relay.pipe_bytes);
    if (put > 0) {
      relay.pipe_bytes -= static_cast<std::uint32_t>(put);
      last_activity_ = core.tick;
      continue;
    }
    if (put != -EAGAIN) return on_sink_error(core, direction);
    return await_room(core, direction);
  }
  if (relay.pipe_bytes > 0) {  // enough for one turn; others wait
    return await_room(core, direction);
  }
  if (relay.armed != Armed::nothing) return;
  poll_source(core, direction);
}

/// In bulk: the sink has no room for what the pipe holds.
void Session::await_room(Core& core, Direction direction) {
  core.io.poll_out(sink_of(direction), tag(Op::poll_out, direction));
  at(direction).sending = true;
  ++in_flight_;
}

/// The direction has calmed down: back to the shared buffers.
void Session::leave_bulk(Core& core, Direction direction) {
  Relay& relay = at(direction);
  core.pipes.give_back(relay.pipe, true);
  relay.pipe = PipePool::kNone;
  relay.full_run = 0;
  relay.goal = Goal::receive;
  settle_source(core, direction);
}

// ---- resets ----

/// The source of `direction` has reset, or died under our sends. What it had sent goes out first
/// and is waited for: postscreen says 521 and resets, and the client must read the 521.
void Session::begin_reset(Core& core, Direction direction) {
  state_ = State::resetting;
  reset_ = direction;
  deadline_ = core.tick + ticks(core.tuning.reset_patience);
  at(direction).goal = Goal::end;
  const Direction back = opposite(direction);
  drop_unsent(core, back);
  ask_source(core, back, Goal::end);
  finish_reset(core);
}

void Session::finish_reset(Core& core) {
  const Relay& relay = at(reset_);
  const int other = sink_of(reset_);
  const bool waiting = !relay.sink_dead && (!relay.empty() || quiet_epoch_ == core.epoch ||
                                            core.io.unacknowledged_bytes(other) > 0);
  if (waiting && core.tick < deadline_) return core.wheel.set(slot_, core.tick + 1);
  core.io.reset_on_close(other);
  const bool finished_before = relay.eof && first_fin_ == reset_;
  if (reset_ == Direction::to_backend)
    return close(core, finished_before ? CloseReason::client_closed : CloseReason::client_reset);
  close(core, finished_before ? CloseReason::backend_closed : CloseReason::backend_reset);
}

// ---- idle ----

/// Idle: no buffer, no message header, only a poll on each side. TCP keepalive towards the backend
/// starts here: a short session never pays for it.
void Session::park(Core& core) {
  parked_ = true;
  for (const Direction direction : kDirections) {
    Relay& relay = at(direction);
    if (relay.eof) continue;
    if (relay.armed == Armed::recv && relay.goal == Goal::receive)
      ask_source(core, direction, Goal::park);
    if (relay.armed == Armed::poll && relay.goal == Goal::bulk && relay.pipe_bytes == 0) {
      core.pipes.give_back(relay.pipe, true);
      relay.pipe = PipePool::kNone;
      relay.full_run = 0;
      relay.goal = Goal::park;
    }
  }
  if (!keepalive_set_) {
    const Service& service = core.service(service_);
    core.io.set_keepalive(backend_, service.keepalive, service.user_timeout);
    keepalive_set_ = true;
  }
}

/// Something stirs in a parked direction: receive again, and look in a while whether it is quiet
/// again.
void Session::wake_up(Core& core, Direction direction) {
  at(direction).goal = Goal::receive;
  parked_ = false;
  core.wheel.set(slot_, core.tick + ticks(core.tuning.park_after));
}

}  // namespace poise::proxy
