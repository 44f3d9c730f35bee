#include "pair/protocol.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "poise/check.h"

namespace poise::pair {

void Protocol::connected() {
  disconnected();
  connected_ = true;
  encode(Hello{.version_min = self_.version_min,
               .version_max = self_.version_max,
               .node = self_.node,
               .program = self_.program,
               .epoch = self_.epoch,
               .heard_epoch = heard_epoch_,
               .heard = heard_},
         out_);
}

void Protocol::disconnected() {
  connected_ = joined_ = false;
  in_.clear();
  out_.clear();
}

Result<void> Protocol::receive(std::string_view bytes) {
  in_ += bytes;
  const std::uint64_t before = heard_;
  std::string_view rest = in_;
  while (const auto length = frame_length(rest)) {
    if (*length == 0 || *length > (joined_ ? kFrameMax : kHelloMax))
      return Error{"", fmt::format("a message of {} bytes, {} are taken", *length,
                                   joined_ ? kFrameMax : kHelloMax)};
    if (rest.size() < sizeof(*length) + *length) break;
    if (auto good = on_frame(rest.substr(sizeof(*length), *length)); !good) return good;
    rest.remove_prefix(sizeof(*length) + *length);
  }
  in_.erase(0, in_.size() - rest.size());
  if (heard_ != before) encode(Ack{heard_}, out_);
  return {};
}

Result<void> Protocol::on_frame(std::string_view frame) {
  auto message = decode(frame);
  if (!message) return message.error();
  if (auto* hello = std::get_if<Hello>(&*message)) return on_hello(*hello);
  if (!joined_) return Error{"", "no greeting before the first message"};
  if (auto* ack = std::get_if<Ack>(&*message)) on_ack(ack->number);
  if (auto* numbered = std::get_if<Numbered>(&*message)) return on_change(std::move(*numbered));
  if (auto* ping = std::get_if<Ping>(&*message)) events_.emplace_back(*ping);
  if (auto* request = std::get_if<Request>(&*message)) events_.emplace_back(std::move(*request));
  if (auto* answer = std::get_if<Answer>(&*message)) events_.emplace_back(std::move(*answer));
  return {};
}

Result<void> Protocol::on_hello(const Hello& hello) {
  if (joined_) return Error{"", "a second greeting"};
  const std::uint16_t version = std::min(hello.version_max, self_.version_max);
  if (version < std::max(hello.version_min, self_.version_min))
    return Error{"", fmt::format("it runs poise {} and speaks versions {} to {} of the pair's "
                                 "language, we {} to {}: upgrade the older one",
                                 hello.program, hello.version_min, hello.version_max,
                                 self_.version_min, self_.version_max)};
  if (hello.node != self_.peer)
    return Error{"", fmt::format("it calls itself node \"{}\", not \"{}\": is its file \"node\" "
                                 "right?",
                                 hello.node, self_.peer)};
  Joined joined{.peer = hello, .version = version};
  joined.forgot = hello.epoch != heard_epoch_;
  if (joined.forgot) {
    heard_epoch_ = hello.epoch;
    heard_ = 0;
  }
  joined_ = true;
  // A peer may know our epoch from a connection that broke before we knew of it.
  if (hello.heard_epoch == self_.epoch && begun_) {
    on_ack(hello.heard);
    for (const Unacked& each : unacked_) out_ += each.frame;
  } else {
    joined.wants_everything = begun_ = true;
    unacked_.clear();
    unacked_bytes_ = 0;
    acknowledged_ = pushed_;
  }
  events_.emplace_back(std::move(joined));
  return {};
}

void Protocol::on_ack(std::uint64_t number) {
  while (!unacked_.empty() && unacked_.front().number <= number) {
    unacked_bytes_ -= unacked_.front().frame.size();
    unacked_.pop_front();
  }
  acknowledged_ = std::max(acknowledged_, std::min(number, pushed_));
}

/// Of a peer in a new life the first number is where it begins.
Result<void> Protocol::on_change(Numbered numbered) {
  if (heard_ != 0 && numbered.number <= heard_) return {};  // said again: the answer was lost
  if (heard_ != 0 && numbered.number != heard_ + 1)
    return Error{"", fmt::format("change {} after {}", numbered.number, heard_)};
  heard_ = numbered.number;
  events_.emplace_back(std::move(numbered.change));
  return {};
}

void Protocol::push(Change change) {
  CHECK(joined_);
  Unacked& next = unacked_.emplace_back(Unacked{.number = ++pushed_, .frame = {}});
  encode(Numbered{.number = next.number, .change = std::move(change)}, next.frame);
  unacked_bytes_ += next.frame.size();
  out_ += next.frame;
}

void Protocol::send(const Message& message) {
  if (joined_) encode(message, out_);
}

}  // namespace poise::pair
