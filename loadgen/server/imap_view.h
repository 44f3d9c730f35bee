#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loadgen/loop/output.h"
#include "loadgen/server/imap_command.h"
#include "loadgen/server/mailbox.h"

namespace poise::loadgen {

/// A selected mailbox as one IMAP session sees it: which messages are left, and their flags. Pure.
class ImapView {
 public:
  enum Flag : std::uint8_t { seen = 1, answered = 2, flagged = 4, deleted = 8, draft = 16 };

  ImapView(const Mailbox& mailbox, bool read_only);

  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  [[nodiscard]] bool read_only() const { return read_only_; }
  [[nodiscard]] std::uint32_t uid_next() const;
  [[nodiscard]] std::size_t first_unseen() const;  ///< sequence number, 0: none

  /// Indices (from 0) of the messages that `set` names ("1,3:5,7:*"), by sequence number or UID;
  /// false: no such syntax.
  bool select(std::string_view set, bool by_uid, std::vector<std::size_t>& chosen) const;

  /// Writes one FETCH response for each chosen message; `tokens` are the items. Returns how many
  /// bodies were written; -1: items not understood, nothing written.
  int fetch(std::span<const std::size_t> chosen, std::span<const ImapToken> tokens, bool by_uid,
            Output& out);

  /// `tokens`: [+-]FLAGS[.SILENT] and a list. False: not understood.
  bool store(std::span<const std::size_t> chosen, std::span<const ImapToken> tokens, bool by_uid,
             Output& out);

  /// Writes the SEARCH response; false: not understood.
  bool search(std::span<const ImapToken> tokens, bool by_uid, Output& out) const;

  /// Takes the deleted messages away; `announce`: writes EXPUNGE responses. `only`, if given,
  /// limits it (UID EXPUNGE).
  void expunge(bool announce, Output& out, const std::vector<std::size_t>* only = nullptr);

 private:
  struct Entry {
    std::uint32_t message;  ///< index in the mailbox
    std::uint8_t flags = 0;
  };
  struct Item;
  static bool parse_items(std::span<const ImapToken> tokens, std::vector<Item>& items);
  static bool add_item(std::string_view text, std::vector<Item>& items);
  void write_item(const Item& item, const Entry& entry, Output& out) const;
  bool matches(std::span<const ImapToken>& keys, std::size_t index, bool& result,
               unsigned depth) const;
  [[nodiscard]] const Mailbox::Message& message(const Entry& entry) const {
    return mailbox_.messages()[entry.message];
  }

  const Mailbox& mailbox_;
  bool read_only_;
  std::vector<Entry> entries_;
};

}  // namespace poise::loadgen
