#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "loadgen/server/dialogue.h"
#include "loadgen/server/mailbox.h"

namespace poise::loadgen {

/// Remembers what was taken in; can be told to refuse.
class RecordingSink : public MessageSink {
 public:
  bool accept(std::string_view id, std::uint64_t bytes) override {
    if (refuses) return false;
    ids.emplace_back(id);
    sizes.push_back(bytes);
    return true;
  }

  bool refuses = false;
  std::vector<std::string> ids;
  std::vector<std::uint64_t> sizes;
};

/// A server's dialogue with a client of any pieces: what it answers to `input`, as a driver would
/// collect it.
class ServerUnderTest {
 public:
  explicit ServerUnderTest(Protocol protocol, std::size_t messages = 3, std::string password = {})
      : mailbox(messages, 2000) {
    settings.protocol = protocol;
    settings.name = "mx1";
    settings.password = std::move(password);
    settings.size_max = 10'000;
    dialogue = make_server_dialogue(settings, mailbox, sink);
  }

  std::string greet(std::string_view text = {}) {
    dialogue->greet(text, wire);
    return take();
  }

  /// Sends `input` in pieces of `piece` bytes and returns all answers.
  std::string say(std::string_view input, std::size_t piece = SIZE_MAX) {
    std::string answers;
    while (!input.empty() && !wire.close) {
      const std::string arrived(input.substr(0, piece));
      input.remove_prefix(arrived.size());
      std::string_view bytes = arrived;
      do {
        dialogue->receive(bytes, wire);
        answers += take();
      } while (!bytes.empty() && !wire.close);
    }
    return answers;
  }

  std::string take() {
    std::string text = wire.out.text();
    wire.out.clear();
    return text;
  }

  ServerSettings settings;
  Mailbox mailbox;
  RecordingSink sink;
  Wire wire;
  std::unique_ptr<ServerDialogue> dialogue;
};

/// "250", "250", "354": the codes of SMTP's final reply lines.
inline std::string codes(std::string_view replies) {
  std::string list;
  while (!replies.empty()) {
    const std::string_view line = replies.substr(0, replies.find('\n') + 1);
    replies.remove_prefix(line.size());
    if (line.size() > 3 && line[3] == ' ')
      list += (list.empty() ? "" : " ") + std::string(line.substr(0, 3));
  }
  return list;
}

}  // namespace poise::loadgen
