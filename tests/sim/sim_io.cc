#include "sim_io.h"

#include <algorithm>
#include <cerrno>

namespace poise::sim {

using io::Op;
using io::Tag;

namespace {

void require(bool condition, const char* what) {
  if (!condition) throw Violation(what);
}

}  // namespace

SimIo::SimIo(std::uint64_t seed, const Settings& settings)
    : settings_(settings),
      random_(seed),
      buffers_(settings.buffers, std::vector<std::byte>(settings.buffer_bytes)),
      buffer_out_(settings.buffers, false) {}

void SimIo::add_client(int listener, Script script, std::size_t window, io::Time delay) {
  arrivals_.push_back(
      {.listener = listener, .script = std::move(script), .window = window, .at = now_ + delay});
}

std::size_t SimIo::buffers_out() const {
  return static_cast<std::size_t>(std::count(buffer_out_.begin(), buffer_out_.end(), true));
}

Connection& SimIo::at(int fd) {
  const auto found = by_fd_.find(fd);
  require(found != by_fd_.end(), "a descriptor is used that is not open");
  return *found->second;
}

// ---- operations
// ----------------------------------------------------------------------------------------------------

void SimIo::queue(Op op, int fd, Tag tag, std::span<const std::byte> bytes, const Address& to) {
  if (op != Op::accept) at(fd);
  queued_.push_back({.op = op, .tag = tag, .fd = fd, .bytes = bytes, .to = to});
}

void SimIo::accept(int listener, Tag tag) {
  queue(Op::accept, listener, tag);
}
void SimIo::connect(int fd, const Address& to, Tag tag) {
  queue(Op::connect, fd, tag, {}, to);
}
void SimIo::recv(int fd, Tag tag) {
  queue(Op::recv, fd, tag);
}
void SimIo::send(int fd, std::span<const std::byte> bytes, Tag tag) {
  require(!bytes.empty(), "an empty send");
  queue(Op::send, fd, tag, bytes);
}
void SimIo::send_quietly(int fd, std::span<const std::byte> bytes, Tag tag) {
  require(!bytes.empty(), "an empty send");
  require(tag.op == Op::report, "a quiet send must be tagged as a report");
  queue(Op::report, fd, tag, bytes);
}
void SimIo::poll_in(int fd, Tag tag) {
  queue(Op::poll_in, fd, tag);
}
void SimIo::poll_out(int fd, Tag tag) {
  queue(Op::poll_out, fd, tag);
}
void SimIo::cancel(Tag tag) {
  Request& request = queued_.emplace_back();
  request.tag = tag;
  request.cancels = true;
}
void SimIo::close(int fd) {
  at(fd);
  queued_.emplace_back().fd = fd;
}

void SimIo::begin_queued() {
  std::vector<Request> now;
  now.swap(queued_);
  for (const Request& request : now) begin(request);
}

void SimIo::begin(const Request& request) {
  if (request.cancels) {
    for (Request& each : armed_)
      if (each.tag == request.tag) each.cancelled = true;
    return;
  }
  if (request.op == Op::none) {
    Connection& connection = at(request.fd);
    for (const Request& each : armed_)
      require(each.fd != request.fd || each.op == Op::accept,
              "a descriptor is closed while an operation is armed on it");
    close_proxy_end(connection);
    by_fd_.erase(request.fd);
    connection.fd = -1;
    return;
  }
  if (request.op == Op::report) {
    Connection& connection = at(request.fd);
    for (const Request& each : armed_)
      require(each.fd != request.fd || each.op != Op::send, "a quiet send overtakes one in flight");
    const std::size_t at_most = random(4) == 0
                                    ? random(static_cast<std::uint32_t>(request.bytes.size()) + 1)
                                    : request.bytes.size();
    const std::ptrdiff_t taken = take(connection, request.bytes, at_most);
    if (taken != static_cast<std::ptrdiff_t>(request.bytes.size()))
      complete(request, static_cast<std::int32_t>(taken));
    return;
  }
  for (const Request& each : armed_) {
    require(!(each.tag == request.tag), "a tag is armed twice");
    const bool both_receive = (each.op == Op::recv || each.op == Op::poll_in) &&
                              (request.op == Op::recv || request.op == Op::poll_in);
    require(
        each.fd != request.fd || !both_receive || each.op == Op::accept || request.op == Op::accept,
        "two receives are armed on one socket");
  }
  if (request.op == Op::connect) {
    Connection& connection = at(request.fd);
    connection.connecting = true;
    if (on_connect) on_connect(request.to, connection);
  }
  armed_.push_back(request);
}

void SimIo::complete(const Request& request, std::int32_t res, bool more, std::uint16_t buffer) {
  ready_.push_back({.tag = request.tag, .res = res, .buffer = buffer, .more = more});
}

// ---- the proxy's ends
// ----------------------------------------------------------------------------------------------

std::size_t SimIo::room(const End& from, const End& to, const Connection& connection) const {
  const std::size_t used = (from.sent.size() - from.delivered) + (to.received.size() - to.read);
  return used >= connection.window ? 0 : connection.window - used;
}

/// What the socket takes of the proxy's bytes, or -errno.
std::ptrdiff_t SimIo::take(Connection& connection, std::span<const std::byte> bytes,
                           std::size_t at_most) {
  End& end = connection.proxy;
  require(!end.fin_sent || end.rst_received, "bytes are sent after the FIN");
  if (end.rst_received) {
    if (!end.error_pending) return -EPIPE;
    end.error_pending = false;
    return -ECONNRESET;
  }
  const std::size_t count =
      std::min({bytes.size(), at_most, room(end, connection.remote, connection)});
  if (count == 0) return -EAGAIN;
  for (const std::byte byte : bytes.first(count))
    end.sent.push_back(static_cast<std::uint8_t>(byte));
  return static_cast<std::ptrdiff_t>(count);
}

/// Bytes to be read, 0 at EOF, -EAGAIN, or the error that a read would report now.
std::ptrdiff_t SimIo::readable(const Connection& connection) const {
  const End& end = connection.proxy;
  if (end.received.size() > end.read)
    return static_cast<std::ptrdiff_t>(end.received.size() - end.read);
  if (end.rst_received) return end.error_pending ? -ECONNRESET : 0;
  return end.fin_received ? 0 : -EAGAIN;
}

std::ptrdiff_t SimIo::send_now(int fd, std::span<const std::span<const std::byte>> parts,
                               bool last) {
  Connection& connection = at(fd);
  for (const Request& each : armed_)
    require(each.fd != fd || each.op != Op::send, "send_now overtakes a send in flight");
  for (const Request& each : queued_)
    require(each.fd != fd || (each.op != Op::send && each.op != Op::report),
            "send_now overtakes a queued send");
  std::vector<std::byte> bytes;
  for (const auto& part : parts) bytes.insert(bytes.end(), part.begin(), part.end());
  const std::size_t at_most =
      random(4) == 0 ? random(static_cast<std::uint32_t>(bytes.size()) + 1) : bytes.size();
  const std::ptrdiff_t taken = take(connection, bytes, at_most);
  if (last && taken == static_cast<std::ptrdiff_t>(bytes.size())) connection.proxy.fin_sent = true;
  return taken;
}

void SimIo::shutdown_write(int fd) {
  Connection& connection = at(fd);
  for (const Request& each : armed_)
    require(each.fd != fd || each.op != Op::send, "a FIN overtakes a send in flight");
  for (const Request& each : queued_)
    require(each.fd != fd || (each.op != Op::send && each.op != Op::report),
            "a FIN overtakes a queued send");
  connection.proxy.fin_sent = true;
}

void SimIo::reset_on_close(int fd) {
  at(fd).proxy.reset_on_close = true;
}

std::uint32_t SimIo::unacknowledged_bytes(int fd) {
  const End& end = at(fd).proxy;
  return static_cast<std::uint32_t>(end.sent.size() - end.delivered +
                                    (end.fin_sent && !end.fin_delivered ? 1 : 0));
}

void SimIo::close_proxy_end(Connection& connection) {
  End& end = connection.proxy;
  require(!end.closed, "a descriptor is closed twice");
  end.closed = true;
  if (end.rst_received || (!connection.client && connection.connecting)) return;
  if (end.reset_on_close || end.received.size() > end.read) {
    end.rst_sent = true;
    end.sent.resize(end.delivered);  // what was not acknowledged is lost
  } else {
    end.fin_sent = true;
  }
}

int SimIo::open_socket(int /*family*/, const std::string& /*congestion*/) {
  if (by_fd_.size() >= settings_.sockets_max) return -EMFILE;
  connections_.emplace_back();
  Connection& connection = connections_.back();
  connection.fd = next_fd_++;
  connection.number = next_number_++;
  by_fd_[connection.fd] = &connection;
  return connection.fd;
}

int SimIo::bind_source(int fd, const Address& /*from*/, bool /*transparent*/) {
  at(fd);
  return random(8) == 0 ? -EADDRNOTAVAIL : 0;
}

int SimIo::accept_now(int /*listener*/) {
  return -EAGAIN;
}

void SimIo::set_keepalive(int fd, std::chrono::milliseconds /*idle*/,
                          std::chrono::milliseconds /*user_timeout*/) {
  at(fd);
}

Address SimIo::local_address(int fd) {
  at(fd);
  return *Address::from_ip("127.0.0.1", 1000);
}

Address SimIo::peer_address(int fd) {
  const Connection& connection = at(fd);
  if (connection.proxy.rst_received) return {};  // ENOTCONN
  return *Address::from_ip("127.0.0.2", static_cast<std::uint16_t>(connection.number));
}

// ---- pipes and buffers
// ---------------------------------------------------------------------------------------------

bool SimIo::open_pipe(io::Pipe& pipe) {
  if (settings_.fail_pipes) return false;
  pipe = {.read_end = next_fd_, .write_end = next_fd_ + 1, .capacity_bytes = settings_.pipe_bytes};
  next_fd_ += 2;
  pipes_[pipe.read_end];
  return true;
}

void SimIo::close_pipe(const io::Pipe& pipe) {
  require(pipes_.erase(pipe.read_end) == 1, "a pipe is closed twice");
}

std::ptrdiff_t SimIo::splice(int from, int to, std::size_t bytes_max) {
  require(bytes_max > 0, "an empty splice");
  const auto into = pipes_.find(to - 1), out_of = pipes_.find(from);
  if (into != pipes_.end()) {
    Connection& connection = at(from);
    for (const Request& each : armed_)
      require(each.fd != from || each.op != Op::recv, "a splice competes with an armed receive");
    const std::ptrdiff_t available = readable(connection);
    if (available <= 0) {
      if (available == -ECONNRESET) connection.proxy.error_pending = false;
      return available;
    }
    const std::size_t space = settings_.pipe_bytes - into->second.size();
    std::size_t count = std::min({bytes_max, static_cast<std::size_t>(available), space});
    if (count == 0) return -EAGAIN;
    if (random(3) == 0) count = 1 + random(static_cast<std::uint32_t>(count));
    count = std::min(count, static_cast<std::size_t>(available));
    End& end = connection.proxy;
    const auto begin = end.received.begin() + static_cast<std::ptrdiff_t>(end.read);
    into->second.insert(into->second.end(), begin, begin + static_cast<std::ptrdiff_t>(count));
    end.read += count;
    return static_cast<std::ptrdiff_t>(count);
  }
  require(out_of != pipes_.end(), "a splice from or to something else than a pipe");
  Connection& connection = at(to);
  for (const Request& each : armed_)
    require(each.fd != to || each.op != Op::send, "a splice overtakes a send in flight");
  for (const Request& each : queued_)
    require(each.fd != to || (each.op != Op::send && each.op != Op::report),
            "a splice overtakes a queued send");
  std::vector<std::uint8_t>& pipe = out_of->second;
  const std::size_t most = std::min(bytes_max, pipe.size());
  if (most == 0) return -EAGAIN;
  const std::ptrdiff_t taken =
      take(connection, std::as_bytes(std::span(pipe)).first(most),
           random(3) == 0 ? 1 + random(static_cast<std::uint32_t>(most)) : most);
  if (taken > 0) pipe.erase(pipe.begin(), pipe.begin() + taken);
  return taken;
}

std::span<const std::byte> SimIo::buffer(std::uint16_t id, std::int32_t length) const {
  require(buffer_out_[id], "a buffer is read after it was given back");
  return std::span(buffers_[id]).first(static_cast<std::size_t>(length));
}

void SimIo::release_buffer(std::uint16_t id) {
  require(buffer_out_[id], "a buffer is given back twice");
  buffer_out_[id] = false;
  std::fill(buffers_[id].begin(), buffers_[id].end(), std::byte{0xee});
}

// ---- the world
// -----------------------------------------------------------------------------------------------------

bool SimIo::deliver(Connection& connection, End& from, End& to) {
  if (from.rst_sent && !from.rst_delivered) {
    from.rst_delivered = true;
    if (!to.closed || &to == &connection.remote) {
      to.rst_received = true;
      to.error_pending = true;
    }
    from.delivered = from.sent.size();
    // The other way nothing arrives any more either.
    to.sent.resize(to.delivered);
    return true;
  }
  if (to.rst_received || to.rst_sent) return false;
  if (from.delivered < from.sent.size()) {
    const std::size_t count =
        1 + random(static_cast<std::uint32_t>(from.sent.size() - from.delivered));
    if (to.closed) {  // data for a socket nobody holds: RST
      to.rst_sent = true;
      to.sent.resize(to.delivered);
      from.delivered += count;
      return true;
    }
    const auto begin = from.sent.begin() + static_cast<std::ptrdiff_t>(from.delivered);
    to.received.insert(to.received.end(), begin, begin + static_cast<std::ptrdiff_t>(count));
    from.delivered += count;
    return true;
  }
  if (from.fin_sent && !from.fin_delivered) {
    from.fin_delivered = true;
    to.fin_received = true;
    return true;
  }
  return false;
}

bool SimIo::step_remote(Connection& connection) {
  End& end = connection.remote;
  if (connection.connecting || end.closed) return false;
  bool moved = false;
  // Reading goes on beside the script.
  if (connection.script.reads_max > 0 && end.received.size() > end.read) {
    const auto waiting = static_cast<std::uint32_t>(end.received.size() - end.read);
    end.read += std::min<std::size_t>(1 + random(connection.script.reads_max), waiting);
    moved = true;
  }
  if (connection.finished_script) return moved;
  if (connection.step == connection.script.steps.size()) {
    connection.finished_script = true;
    return moved;
  }
  Step& step = connection.script.steps[connection.step];
  const auto next = [&] {
    ++connection.step;
    if (connection.step < connection.script.steps.size() &&
        connection.script.steps[connection.step].kind == Step::Kind::pause)
      connection.wake =
          now_ + std::chrono::milliseconds(connection.script.steps[connection.step].amount);
    return true;
  };
  const bool over = end.rst_received;
  switch (step.kind) {
    case Step::Kind::say: {
      std::string& opening = connection.script.opening;
      if (const std::size_t at = opening.find("#####"); at != std::string::npos)
        opening.replace(at, 5, fmt::format("{:05}", connection.number));
      const std::size_t left = opening.size() - step.amount;
      const std::size_t space = room(end, connection.proxy, connection);
      if (over || left == 0) return next();
      if (space == 0) return moved;
      const std::uint32_t count = 1 + random(static_cast<std::uint32_t>(std::min(space, left)));
      end.sent.insert(end.sent.end(), opening.begin() + step.amount,
                      opening.begin() + step.amount + count);
      step.amount += count;
      return true;
    }
    case Step::Kind::send: {
      if (over || step.amount == 0) return next();
      const std::size_t space = room(end, connection.proxy, connection);
      if (space == 0) return moved;
      const auto most = static_cast<std::uint32_t>(std::min<std::size_t>(space, step.amount));
      const std::uint32_t count = 1 + random(most);
      for (std::uint32_t i = 0; i < count; ++i)
        end.sent.push_back(
            stream_byte(connection.number, end.sent.size() - connection.script.opening.size()));
      step.amount -= count;
      return true;
    }
    case Step::Kind::pause:
      if (connection.wake == io::Time{})
        connection.wake = now_ + std::chrono::milliseconds(step.amount);
      return now_ >= connection.wake ? next() : moved;
    case Step::Kind::await_bytes:
      return end.received.size() >= step.amount || end.fin_received || over ? next() : moved;
    case Step::Kind::await_end:
      return (end.fin_received && end.read == end.received.size()) || over ? next() : moved;
    case Step::Kind::await_acked:
      return end.delivered == end.sent.size() || over ? next() : moved;
    case Step::Kind::finish:
      if (!over) end.fin_sent = true;
      return next();
    case Step::Kind::close:
      end.closed = true;
      if (!over) {
        if (end.received.size() > end.read) {
          end.rst_sent = true;
          end.sent.resize(end.delivered);
        } else {
          end.fin_sent = true;
        }
      }
      return next();
    case Step::Kind::reset:
      end.closed = true;
      if (!over) {
        end.rst_sent = true;
        end.sent.resize(end.delivered);
      }
      return next();
  }
  return moved;
}

/// Whether the operation has something to report now.
bool SimIo::can_complete(const Request& request) {
  if (request.cancelled) return true;
  switch (request.op) {
    case Op::accept:
      return false;  // step_arrival() does it
    case Op::connect:
      return at(request.fd).answer != ConnectAnswer::never;
    case Op::recv:
    case Op::poll_in:
      return readable(at(request.fd)) != -EAGAIN;
    case Op::send:
    case Op::poll_out: {
      const Connection& connection = at(request.fd);
      return connection.proxy.rst_received ||
             room(connection.proxy, connection.remote, connection) > 0;
    }
    case Op::none:
    case Op::report:
    case Op::wake:
      return false;
  }
  return false;
}

bool SimIo::step_request(std::size_t index) {
  if (!can_complete(armed_[index])) return false;
  Request request = armed_[index];
  const auto end_it = [&](std::int32_t res, std::uint16_t buffer = io::kNoBuffer) {
    complete(request, res, false, buffer);
    armed_.erase(armed_.begin() + static_cast<std::ptrdiff_t>(index));
    return true;
  };
  // A cancelled operation may still deliver what it has.
  if (request.cancelled && (request.op == Op::accept || random(3) != 0)) return end_it(-ECANCELED);
  switch (request.op) {
    case Op::connect: {
      Connection& connection = at(request.fd);
      if (connection.answer == ConnectAnswer::never) return end_it(-ECANCELED);
      const ConnectAnswer answer = connection.answer;
      if (answer == ConnectAnswer::accept) connection.connecting = false;
      return end_it(answer == ConnectAnswer::accept   ? 0
                    : answer == ConnectAnswer::refuse ? -ECONNREFUSED
                                                      : -EHOSTUNREACH);
    }
    case Op::recv: {
      Connection& connection = at(request.fd);
      End& end = connection.proxy;
      const std::ptrdiff_t available = readable(connection);
      if (available == -EAGAIN) return end_it(-ECANCELED);
      if (available <= 0) {
        if (available == -ECONNRESET) end.error_pending = false;
        return end_it(static_cast<std::int32_t>(available));
      }
      const auto free = std::find(buffer_out_.begin(), buffer_out_.end(), false);
      if (free == buffer_out_.end()) return end_it(-ENOBUFS);
      const auto id = static_cast<std::uint16_t>(free - buffer_out_.begin());
      const auto most = static_cast<std::uint32_t>(
          std::min<std::size_t>(static_cast<std::size_t>(available), settings_.buffer_bytes));
      const std::uint32_t count = random(3) == 0 ? 1 + random(most) : most;
      for (std::uint32_t i = 0; i < count; ++i)
        buffers_[id][i] = static_cast<std::byte>(end.received[end.read + i]);
      end.read += count;
      buffer_out_[id] = true;
      if (request.cancelled || (settings_.end_multishots && random(8) == 0))
        return end_it(static_cast<std::int32_t>(count), id);
      complete(request, static_cast<std::int32_t>(count), true, id);
      return true;
    }
    case Op::poll_in:
    case Op::poll_out:
      return end_it(request.cancelled ? -ECANCELED : 1);
    case Op::send: {
      const std::size_t at_most = 1 + random(static_cast<std::uint32_t>(request.bytes.size()));
      const std::ptrdiff_t taken = take(at(request.fd), request.bytes, at_most);
      return end_it(taken == -EAGAIN ? -ECANCELED : static_cast<std::int32_t>(taken));
    }
    case Op::none:
    case Op::accept:
    case Op::report:
    case Op::wake:
      break;
  }
  return false;
}

bool SimIo::step_arrival() {
  for (std::size_t i = 0; i < arrivals_.size(); ++i) {
    if (arrivals_[i].at > now_) continue;
    for (std::size_t k = 0; k < armed_.size(); ++k) {
      const Request request = armed_[k];
      if (request.op != Op::accept || request.fd != arrivals_[i].listener || request.cancelled)
        continue;
      if (by_fd_.size() >= settings_.sockets_max) {
        complete(request, -EMFILE);
        armed_.erase(armed_.begin() + static_cast<std::ptrdiff_t>(k));
        return true;
      }
      connections_.emplace_back();
      Connection& connection = connections_.back();
      connection.client = true;
      connection.fd = next_fd_++;
      connection.number = next_number_++;
      connection.script = std::move(arrivals_[i].script);
      connection.window = arrivals_[i].window;
      by_fd_[connection.fd] = &connection;
      arrivals_.erase(arrivals_.begin() + static_cast<std::ptrdiff_t>(i));
      ++accepted_;
      const bool more = !settings_.end_multishots || random(8) != 0;
      complete(request, connection.fd, more);
      if (!more) armed_.erase(armed_.begin() + static_cast<std::ptrdiff_t>(k));
      return true;
    }
  }
  return false;
}

/// One thing happens somewhere, if anything can.
bool SimIo::step_world() {
  const auto connections = static_cast<std::uint32_t>(connections_.size());
  const auto requests = static_cast<std::uint32_t>(armed_.size());
  const std::uint32_t kinds = connections * 3 + requests + 1;
  const std::uint32_t first = random(kinds);
  for (std::uint32_t i = 0; i < kinds; ++i) {
    std::uint32_t what = (first + i) % kinds;
    bool moved = false;
    if (what < connections * 3) {
      Connection& connection = connections_[what / 3];
      if (connection.connecting) continue;
      if (what % 3 == 0)
        moved = deliver(connection, connection.proxy, connection.remote);
      else if (what % 3 == 1)
        moved = deliver(connection, connection.remote, connection.proxy);
      else
        moved = step_remote(connection);
    } else if (what < connections * 3 + requests) {
      moved = step_request(what - connections * 3);
    } else {
      moved = step_arrival();
    }
    if (moved) return true;
  }
  return false;
}

io::Time SimIo::next_event() const {
  io::Time earliest = io::Time::max();
  for (const Connection& connection : connections_)
    if (!connection.finished_script && connection.wake > now_)
      earliest = std::min(earliest, connection.wake);
  for (const Arrival& arrival : arrivals_)
    if (arrival.at > now_) earliest = std::min(earliest, arrival.at);
  return earliest;
}

bool SimIo::world_at_rest() {
  return arrivals_.empty() && queued_.empty() && ready_.empty() && next_event() == io::Time::max();
}

std::span<const io::Completion> SimIo::submit() {
  begin_queued();
  batch_.clear();
  batch_.swap(ready_);
  return batch_;
}

std::span<const io::Completion> SimIo::wait(io::Time until) {
  begin_queued();
  const std::uint32_t steps = 1 + random(24);
  for (std::uint32_t i = 0; i < steps || (ready_.empty() && !woken_); ++i) {
    now_ += std::chrono::microseconds(random(50));
    if (step_world()) {
      if (now_ >= until && random(4) == 0) break;
      continue;
    }
    if (!ready_.empty() || woken_) break;
    const io::Time next = std::min(until, next_event());
    if (next == io::Time::max()) break;  // at rest
    now_ = std::max(now_, next);
    if (now_ >= until) break;
  }
  batch_.clear();
  batch_.swap(ready_);
  // Any order, except that what one multishot reports stays in order.
  for (std::size_t i = batch_.size(); i > 1; --i) {
    const std::size_t j = random(static_cast<std::uint32_t>(i));
    const std::size_t low = std::min(i - 1, j), high = std::max(i - 1, j);
    bool movable = true;
    for (std::size_t k = low; k < high && movable; ++k)
      movable = !(batch_[k].tag == batch_[high].tag) && !(batch_[k + 1].tag == batch_[low].tag);
    if (movable) std::swap(batch_[low], batch_[high]);
  }
  if (woken_) {
    woken_ = false;
    batch_.push_back({.tag = Tag{.op = Op::wake}});
  }
  return batch_;
}

}  // namespace poise::sim
