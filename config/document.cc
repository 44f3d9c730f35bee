#include "config/document.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <iterator>
#include <unordered_map>

#include "poise/check.h"
#include "poise/number.h"

namespace poise::config {
namespace {

using Json = nlohmann::json;

/// Walks the text and says how far the parser has read; the parser copies its iterators, so the
/// count is outside.
class CountingIterator {
 public:
  using iterator_category = std::forward_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, std::size_t* count) : at_(at), count_(count) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    ++at_;
    ++*count_;
    return *this;
  }
  CountingIterator operator++(int) {
    CountingIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }

 private:
  const char* at_;
  std::size_t* count_;
};

constexpr bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/// Builds the tree. An event arrives when the parser has just read the token's last byte (numbers:
/// one more), so the token's first byte is what follows the previous token, blanks, comments and
/// punctuation.
class Builder : public nlohmann::json_sax<Json> {
 public:
  Builder(std::string_view text, const std::size_t& read, Document& document)
      : text_(text), read_(read), document_(document) {}

  bool null() override { return scalar(Node::Kind::null); }

  bool boolean(bool value) override {
    if (!scalar(Node::Kind::boolean)) return false;
    last_->boolean = value;
    return true;
  }

  bool number_integer(number_integer_t value) override {
    if (!number(Node::Kind::integer)) return false;
    last_->integer = value;
    last_->real = static_cast<double>(value);
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    const bool fits = value <= static_cast<number_unsigned_t>(INT64_MAX);
    if (!number(fits ? Node::Kind::integer : Node::Kind::real)) return false;
    if (fits) last_->integer = static_cast<std::int64_t>(value);
    last_->real = static_cast<double>(value);
    return true;
  }

  bool number_float(number_float_t value, const string_t&) override {
    if (!number(Node::Kind::real)) return false;
    last_->real = value;
    return true;
  }

  bool string(string_t& value) override {
    if (!scalar(Node::Kind::string)) return false;
    last_->text = std::move(value);
    return true;
  }

  bool binary(binary_t&) override { return false; }  // JSON text has none

  bool start_object(std::size_t) override { return open(Node::Kind::object); }
  bool start_array(std::size_t) override { return open(Node::Kind::array); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    Level& level = levels_.back();
    Member member;
    member.begin = next_token();
    const auto [known, added] = level.keys.emplace(name, member.begin);
    if (!added) member.first_begin = known->second;
    member.key = std::move(name);
    level.node->members.push_back(std::move(member));
    cursor_ = read_;
    return true;
  }

  bool parse_error(std::size_t position, const std::string& token,
                   const Json::exception& error) override {
    document_.error = explain(position, token, error.what());
    return false;
  }

 private:
  struct Level {
    Node* node;
    std::unordered_map<std::string, std::size_t> keys;
  };

  std::size_t skip_blanks_and_comments(std::size_t at) const {
    while (at < text_.size()) {
      if (is_space(text_[at]))
        ++at;
      else if (text_.substr(at, 2) == "//")
        at = std::min(text_.find_first_of("\r\n", at), text_.size());
      else if (text_.substr(at, 2) == "/*") {
        const std::size_t end = text_.find("*/", at + 2);
        if (end == std::string_view::npos) break;
        at = end + 2;
      } else
        break;
    }
    return at;
  }

  std::size_t next_token() const {
    std::size_t at = skip_blanks_and_comments(cursor_);
    while (at < text_.size() && (text_[at] == ',' || text_[at] == ':'))
      at = skip_blanks_and_comments(at + 1);
    return at;
  }

  /// Puts a new value where it belongs. A parent's vector may move its other elements, but never
  /// the node of an open level: that is always the last element of its own parent, and nothing is
  /// added there until it closes.
  bool add(Node::Kind kind) {
    const std::size_t begin = next_token();
    if (++values_ > kValuesMax) {
      document_.error = SyntaxError{begin, fmt::format("more than {} values", kValuesMax)};
      return false;
    }
    if (levels_.empty())
      last_ = &document_.root;
    else if (levels_.back().node->kind == Node::Kind::array)
      last_ = &levels_.back().node->items.emplace_back();
    else
      last_ = &levels_.back().node->members.back().value;
    last_->kind = kind;
    last_->begin = begin;
    cursor_ = read_;
    return true;
  }

  bool scalar(Node::Kind kind) { return add(kind); }

  bool number(Node::Kind kind) {
    if (!add(kind)) return false;
    const std::size_t end =
        std::min(text_.find_first_not_of("+-.0123456789eE", last_->begin), text_.size());
    last_->text = text_.substr(last_->begin, end - last_->begin);
    cursor_ = end;
    return true;
  }

  bool open(Node::Kind kind) {
    if (!add(kind)) return false;
    if (levels_.size() == kDepthMax) {
      document_.error =
          SyntaxError{last_->begin, fmt::format("nested deeper than {} levels", kDepthMax)};
      return false;
    }
    levels_.push_back({last_, {}});
    return true;
  }

  bool close() {
    levels_.pop_back();
    cursor_ = read_;
    return true;
  }

  /// The library's sentence without its own coordinates, at the first byte of what it stumbled
  /// over.
  SyntaxError explain(std::size_t position, const std::string& token, std::string_view what) const {
    const bool at_end = position > text_.size();
    const std::size_t end = std::min(position, text_.size());
    if (const std::size_t column = what.find(", column "); column != std::string_view::npos) {
      const std::size_t colon = what.find(": ", column);
      if (colon != std::string_view::npos) what.remove_prefix(colon + 2);
    }
    if (what.find("control character U+000A (LF)") != std::string_view::npos ||
        what.find("missing closing quote") != std::string_view::npos) {
      return {end - std::min(end, token_bytes(token, at_end)),
              "syntax error: this string has no closing quote on its line"};
    }
    if (what.find("missing closing '*/'") != std::string_view::npos) {
      return {open_comment(), "syntax error: this comment has no closing */"};
    }
    if (what.find("number overflow") != std::string_view::npos) {
      return {next_token(), fmt::format("syntax error: the number {} is too large", quote(token))};
    }
    if (what.find("invalid string") != std::string_view::npos) {
      const std::size_t from = what.find("invalid string: ") + 16;
      const std::size_t to = what.find("; last read");
      return {end == 0 ? 0 : end - 1,
              fmt::format("syntax error: in this string: {}", what.substr(from, to - from))};
    }
    if (at_end) return {text_.size(), end_of_file()};
    const std::size_t begin = token_begin(end, token, what);
    if (what.find("invalid literal") != std::string_view::npos) {
      return {begin, fmt::format("syntax error: {} is not JSON; strings go in double quotes",
                                 quote(word_at(begin)))};
    }
    const char first = begin < text_.size() ? text_[begin] : ' ';
    if ((first == '}' || first == ']') && before(begin) == ',') {
      return {begin, fmt::format("syntax error: a comma stands before this {}", first)};
    }
    if ((first == '"' || first == '{' || first == '[') &&
        what.find("expected") != std::string_view::npos &&
        (what.find("expected ','") != std::string_view::npos ||
         what.find("expected '}'") != std::string_view::npos ||
         what.find("expected ']'") != std::string_view::npos)) {
      return {begin, "syntax error: a comma is missing before this"};
    }
    const std::size_t dash = what.find(" - ");
    std::string detail(dash == std::string_view::npos ? what : what.substr(dash + 3));
    for (const auto& [theirs, ours] :
         {std::pair<std::string_view, std::string_view>{"'[', '{', or a literal", "a value"},
          {"string literal", "a string"},
          {"number literal", "a number"},
          {"end of input", "the end of the file"}}) {
      if (const std::size_t at = detail.find(theirs); at != std::string::npos)
        detail.replace(at, theirs.size(), ours);
    }
    return {begin, fmt::format("syntax error: {}", detail)};
  }

  std::string end_of_file() const {
    if (levels_.empty()) return "syntax error: the file has no JSON value";
    std::size_t line = 1;
    for (const char c : text_.substr(0, levels_.back().node->begin)) line += c == '\n';
    return fmt::format("syntax error: the file ends inside the {} that begins on line {}",
                       levels_.back().node->kind == Node::Kind::array ? "list" : "object", line);
  }

  /// The library's token is right for strings and numbers only; elsewhere it holds what was before
  /// it, too.
  std::size_t token_begin(std::size_t end, std::string_view token, std::string_view what) const {
    constexpr std::string_view kPunctuation = ",:[]{}";
    if (end == 0) return 0;
    if (what.find("unexpected string literal") != std::string_view::npos ||
        what.find("unexpected number literal") != std::string_view::npos) {
      return end - std::min(end, token_bytes(token, false));
    }
    std::size_t begin = end - 1;
    if (kPunctuation.find(text_[begin]) != std::string_view::npos) return begin;
    while (begin > cursor_ && !is_space(text_[begin - 1]) &&
           kPunctuation.find(text_[begin - 1]) == std::string_view::npos)
      --begin;
    return begin;
  }

  /// Bytes the token has in the text; the library writes control characters in it as <U+000A>.
  static std::size_t token_bytes(std::string_view token, bool at_end) {
    std::size_t bytes = 0;
    for (std::size_t i = 0; i < token.size(); ++bytes) {
      i +=
          token.substr(i, 3) == "<U+" && token.substr(i).size() >= 8 && token[i + 7] == '>' ? 8 : 1;
    }
    return at_end && bytes > 0 ? bytes - 1 : bytes;
  }

  std::string_view word_at(std::size_t at) const {
    std::size_t end = at;
    while (end < text_.size() && !is_space(text_[end]) &&
           std::string_view(",:[]{}\"").find(text_[end]) == std::string_view::npos)
      ++end;
    return text_.substr(at, std::max<std::size_t>(end - at, 1));
  }

  /// Where the comment that never closes begins; nothing but blanks, comments and punctuation is
  /// before it.
  std::size_t open_comment() const {
    std::size_t at = skip_blanks_and_comments(cursor_);
    while (at < text_.size() && text_.substr(at, 2) != "/*") at = skip_blanks_and_comments(at + 1);
    return std::min(at, text_.size());
  }

  char before(std::size_t at) const {
    // Comments between the two are rare; then the plain message serves.
    while (at > 0 && is_space(text_[at - 1])) --at;
    return at == 0 ? ' ' : text_[at - 1];
  }

  std::string_view text_;
  const std::size_t& read_;
  Document& document_;
  std::vector<Level> levels_;
  Node* last_ = nullptr;
  std::size_t cursor_ = 0;  ///< just behind the last token
  std::size_t values_ = 0;
};

/// Splits "/a/0/b" and hands each part to `step` until that says false.
template <class Step>
void walk(std::string_view pointer, Step step) {
  while (!pointer.empty()) {
    pointer.remove_prefix(1);
    const std::size_t slash = std::min(pointer.find('/'), pointer.size());
    if (!step(pointer.substr(0, slash))) return;
    pointer.remove_prefix(slash);
  }
}

const Node* child(const Node& node, std::string_view part) {
  if (node.kind == Node::Kind::object) return node.find(part);
  const auto index = parse_number<std::size_t>(part);
  const bool found = node.kind == Node::Kind::array && index && *index < node.items.size();
  return found ? &node.items[*index] : nullptr;
}

}  // namespace

const Node* Node::find(std::string_view key) const {
  for (const Member& member : members) {
    if (member.key == key) return &member.value;
  }
  return nullptr;
}

std::string Node::describe() const {
  switch (kind) {
    case Kind::null:
      return "null";
    case Kind::boolean:
      return boolean ? "true" : "false";
    case Kind::integer:
    case Kind::real:
      return fmt::format("the number {}", text.size() > 40 ? text.substr(0, 40) + "..." : text);
    case Kind::string:
      return fmt::format("the string {}", quote(text));
    case Kind::array:
      return "a list";
    case Kind::object:
      return "an object";
  }
  CHECK(false);
  return {};
}

Document parse_document(std::string_view text) {
  Document document;
  if (text.size() > kFileBytesMax) {
    document.error = SyntaxError{
        0, fmt::format("the file has {} bytes, {} are allowed", text.size(), kFileBytesMax)};
  } else if (text.substr(0, 3) == "\xEF\xBB\xBF") {
    document.error =
        SyntaxError{0, "the file begins with a byte order mark; save it as UTF-8 without one"};
  } else if (const std::size_t nul = text.find('\0'); nul != std::string_view::npos) {
    // The library ends a comment at a NUL and reads on.
    document.error = SyntaxError{nul, "a NUL byte; is this a text file?"};
  }
  if (document.error) return document;
  std::size_t read = 0;
  Builder builder(text, read, document);
  const bool complete = Json::sax_parse(
      CountingIterator(text.data(), &read), CountingIterator(text.data() + text.size(), &read),
      &builder, nlohmann::detail::input_format_t::json, true, true);
  CHECK(complete || document.error);
  return document;
}

std::size_t locate(const Node& root, std::string_view pointer) {
  const Node* node = &root;
  walk(pointer, [&node](std::string_view part) {
    const Node* next = child(*node, part);
    if (next != nullptr) node = next;
    return next != nullptr;
  });
  return node->begin;
}

const Node* find_at(const Node& root, std::string_view pointer) {
  const Node* node = &root;
  walk(pointer, [&node](std::string_view part) {
    node = child(*node, part);
    return node != nullptr;
  });
  return node;
}

std::string quote(std::string_view text) {
  constexpr std::size_t kBytesMax = 80;
  const bool cut = text.size() > kBytesMax;
  if (cut) {
    std::size_t end = kBytesMax;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0u) == 0x80u) --end;
    text = text.substr(0, end);
  }
  std::string quoted = Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
  for (std::size_t at = 0; (at = quoted.find('\x7f', at)) != std::string::npos;)
    quoted.replace(at, 1, "\\u007f");
  if (cut) quoted.insert(quoted.size() - 1, "...");
  return quoted;
}

}  // namespace poise::config
