#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "health/dialogue.h"

namespace poise::health {

/// What IMAP and ManageSieve share: a line that ends in {n} goes on after n bytes (RFC 9051 4.3,
/// RFC 5804 1.2). The dialogue sees one logical line, without the literals' content.
class LiteralDialogue : public Dialogue {
 public:
  using Dialogue::Dialogue;

 protected:
  void consume(std::string_view& bytes) final;
  void on_line(std::string_view line) final;
  virtual void on_logical_line(std::string_view line) = 0;

 private:
  std::size_t literal_left_ = 0;
  std::string logical_;  ///< of a line that goes on
  bool continues_ = false;
};

/// `line` begins with `word`, in any case, and the word ends there.
bool begins_with_word(std::string_view line, std::string_view word);

/// Whether one of the words of `line`, parted by spaces, is `word`, in any case.
bool has_word(std::string_view line, std::string_view word);

}  // namespace poise::health
