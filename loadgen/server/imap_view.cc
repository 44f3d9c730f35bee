#include "loadgen/server/imap_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "loadgen/text/words.h"

namespace poise::loadgen {
namespace {

struct FlagName {
  std::string_view name;
  std::uint8_t bit;
};
constexpr FlagName kFlags[] = {{"\\Seen", ImapView::seen},
                               {"\\Answered", ImapView::answered},
                               {"\\Flagged", ImapView::flagged},
                               {"\\Deleted", ImapView::deleted},
                               {"\\Draft", ImapView::draft}};

std::string flags_text(std::uint8_t flags) {
  std::string text = "FLAGS (";
  for (const FlagName& flag : kFlags) {
    if (!(flags & flag.bit)) continue;
    if (!text.ends_with('(')) text += ' ';
    text += flag.name;
  }
  return text + ")";
}

/// Header lines of `header` whose names are (or, if `negated`, are not) among `names`; then the
/// blank line.
std::string header_fields(std::string_view header, const std::vector<std::string>& names,
                          bool negated) {
  std::string chosen;
  while (!header.empty()) {
    const std::size_t end = header.find('\n') + 1;
    const std::string_view line = header.substr(0, end);
    header.remove_prefix(end);
    const std::string_view name = line.substr(0, line.find(':'));
    const bool named = std::any_of(names.begin(), names.end(),
                                   [&](const std::string& n) { return same_word(n, name); });
    if (line != "\r\n" && named != negated) chosen += line;
  }
  return chosen + "\r\n";
}

bool contains_word(std::string_view text, std::string_view part) {
  const auto same = [](char a, char b) {
    return (a >= 'A' && a <= 'Z' ? a + 32 : a) == (b >= 'A' && b <= 'Z' ? b + 32 : b);
  };
  return std::search(text.begin(), text.end(), part.begin(), part.end(), same) != text.end();
}

/// "1-Jan-2026" as 20260101; 0 when it is none.
unsigned parse_date(std::string_view text) {
  static constexpr std::string_view kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                 "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const std::size_t first = text.find('-');
  const std::size_t second = text.rfind('-');
  if (first == std::string_view::npos || first == second) return 0;
  const auto day = parse_number(text.substr(0, first));
  const auto year = parse_number(text.substr(second + 1));
  if (!day || !year || *day > 31 || *year > 9999) return 0;
  for (unsigned month = 0; month < 12; ++month) {
    if (same_word(text.substr(first + 1, second - first - 1), kMonths[month])) {
      return static_cast<unsigned>(*year) * 10000 + (month + 1) * 100 + static_cast<unsigned>(*day);
    }
  }
  return 0;
}

constexpr unsigned kMailboxDate = 20260101;  // Mailbox::kDate

}  // namespace

/// One thing asked for by FETCH.
struct ImapView::Item {
  enum class Kind : std::uint8_t { flags, uid, internal_date, size, envelope, structure, section };
  Kind kind = Kind::flags;
  std::string label;  ///< as the response names it
  enum class Part : std::uint8_t { all, header, text, fields, fields_not, none } part = Part::all;
  std::vector<std::string> names{};
  bool sets_seen = false;
  bool partial = false;
  std::uint64_t offset = 0;
  std::uint64_t count = 0;
};

ImapView::ImapView(const Mailbox& mailbox, bool read_only)
    : mailbox_(mailbox), read_only_(read_only) {
  entries_.reserve(mailbox.messages().size());
  for (std::uint32_t at = 0; at < mailbox.messages().size(); ++at) entries_.push_back({at, 0});
}

std::uint32_t ImapView::uid_next() const {
  return mailbox_.messages().empty() ? 1 : mailbox_.messages().back().uid + 1;
}

std::size_t ImapView::first_unseen() const {
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [](const Entry& e) { return !(e.flags & seen); });
  return found == entries_.end()
             ? 0
             : static_cast<std::size_t>(std::distance(entries_.begin(), found)) + 1;
}

bool ImapView::select(std::string_view set, bool by_uid, std::vector<std::size_t>& chosen) const {
  std::vector<bool> in(entries_.size(), false);
  const std::uint64_t last = entries_.empty() ? 0
                             : by_uid         ? message(entries_.back()).uid
                                              : entries_.size();
  const auto number = [&](std::string_view text, std::uint64_t& value) {
    if (text == "*") {
      value = last;
      return true;
    }
    const auto parsed = parse_number(text);
    value = parsed.value_or(0);
    return value > 0;
  };
  if (set.empty()) return false;
  while (!set.empty()) {
    std::string_view range = set.substr(0, set.find(','));
    set.remove_prefix(range.size());
    if (set.starts_with(',')) {
      set.remove_prefix(1);
      if (set.empty()) return false;
    }
    const std::size_t colon = range.find(':');
    std::uint64_t low = 0;
    std::uint64_t high = 0;
    if (!number(range.substr(0, colon), low)) return false;
    high = low;
    if (colon != std::string_view::npos && !number(range.substr(colon + 1), high)) return false;
    if (low > high) std::swap(low, high);
    for (std::size_t at = 0; at < entries_.size(); ++at) {
      const std::uint64_t value = by_uid ? message(entries_[at]).uid : at + 1;
      if (value >= low && value <= high) in[at] = true;
    }
  }
  for (std::size_t at = 0; at < in.size(); ++at) {
    if (in[at]) chosen.push_back(at);
  }
  return true;
}

bool ImapView::add_item(std::string_view text, std::vector<Item>& items) {
  using Kind = Item::Kind;
  using Part = Item::Part;
  const auto add = [&](Kind kind, std::string_view label, Part part = Part::all,
                       bool sets_seen = false) {
    items.push_back({kind, std::string(label), part, {}, sets_seen});
    return true;
  };
  if (same_word(text, "FLAGS")) return add(Kind::flags, "FLAGS");
  if (same_word(text, "UID")) return add(Kind::uid, "UID");
  if (same_word(text, "INTERNALDATE")) return add(Kind::internal_date, "INTERNALDATE");
  if (same_word(text, "RFC822.SIZE")) return add(Kind::size, "RFC822.SIZE");
  if (same_word(text, "ENVELOPE")) return add(Kind::envelope, "ENVELOPE");
  if (same_word(text, "BODY")) return add(Kind::structure, "BODY");
  if (same_word(text, "BODYSTRUCTURE")) return add(Kind::structure, "BODYSTRUCTURE");
  if (same_word(text, "RFC822")) return add(Kind::section, "RFC822", Part::all, true);
  if (same_word(text, "RFC822.HEADER")) return add(Kind::section, "RFC822.HEADER", Part::header);
  if (same_word(text, "RFC822.TEXT")) return add(Kind::section, "RFC822.TEXT", Part::text, true);

  const bool peek = starts_with_word(text, "BODY.PEEK[");
  if (!peek && !starts_with_word(text, "BODY[")) return false;
  const std::size_t open = text.find('[');
  const std::size_t close = text.rfind(']');
  if (close == std::string_view::npos || close < open) return false;
  Item item{Kind::section,
            fmt::format("BODY{}", text.substr(open, close - open + 1)),
            Part::all,
            {},
            !peek};
  std::string_view section = text.substr(open + 1, close - open - 1);
  if (same_word(section, "HEADER"))
    item.part = Part::header;
  else if (same_word(section, "TEXT") || section == "1")
    item.part = Part::text;
  else if (starts_with_word(section, "HEADER.FIELDS")) {
    std::string_view names = section;
    const std::string_view kind = take_word(names);
    item.part = same_word(kind, "HEADER.FIELDS.NOT") ? Part::fields_not : Part::fields;
    if (!names.starts_with('(') || !names.ends_with(')')) return false;
    names = names.substr(1, names.size() - 2);
    while (!names.empty()) {
      std::string_view name = take_word(names);
      if (name.size() >= 2 && name.starts_with('"') && name.ends_with('"'))
        name = name.substr(1, name.size() - 2);
      item.names.emplace_back(name);
    }
  } else if (!section.empty()) {
    item.part = Part::none;  // a part that our messages don't have
  }
  const std::string_view rest = text.substr(close + 1);
  if (!rest.empty()) {  // <offset.count>
    const std::size_t dot = rest.find('.');
    if (!rest.starts_with('<') || !rest.ends_with('>') || dot == std::string_view::npos)
      return false;
    const auto offset = parse_number(rest.substr(1, dot - 1));
    const auto count = parse_number(rest.substr(dot + 1, rest.size() - dot - 2));
    if (!offset || !count) return false;
    item.partial = true;
    item.offset = *offset;
    item.count = *count;
    item.label += fmt::format("<{}>", *offset);
  }
  items.push_back(std::move(item));
  return true;
}

bool ImapView::parse_items(std::span<const ImapToken> tokens, std::vector<Item>& items) {
  if (tokens.empty()) return false;
  if (tokens.size() == 1) {
    const std::string& text = tokens[0].text;
    const bool full = same_word(text, "FULL");
    if (full || same_word(text, "ALL") || same_word(text, "FAST")) {
      for (const std::string_view item : {"FLAGS", "INTERNALDATE", "RFC822.SIZE"})
        add_item(item, items);
      if (!same_word(text, "FAST")) add_item("ENVELOPE", items);
      if (full) add_item("BODY", items);
      return true;
    }
    return tokens[0].kind == ImapToken::Kind::atom && add_item(text, items);
  }
  if (tokens.front().kind != ImapToken::Kind::open || tokens.back().kind != ImapToken::Kind::close)
    return false;
  for (const ImapToken& token : tokens.subspan(1, tokens.size() - 2)) {
    if (token.kind != ImapToken::Kind::atom || !add_item(token.text, items)) return false;
  }
  return !items.empty();
}

void ImapView::write_item(const Item& item, const Entry& entry, Output& out) const {
  const Mailbox::Message& text = message(entry);
  switch (item.kind) {
    case Item::Kind::flags:
      return out.append(flags_text(entry.flags));
    case Item::Kind::uid:
      return out.append(fmt::format("UID {}", text.uid));
    case Item::Kind::internal_date:
      return out.append(fmt::format("INTERNALDATE \"{}\"", Mailbox::kInternalDate));
    case Item::Kind::size:
      return out.append(fmt::format("RFC822.SIZE {}", text.text.size()));
    case Item::Kind::envelope:
      return out.append(
          fmt::format("ENVELOPE (\"{}\" \"{}\" ((\"Sender\" NIL \"sender\" \"poise-load.test\")) "
                      "((\"Sender\" NIL \"sender\" "
                      "\"poise-load.test\")) ((\"Sender\" NIL \"sender\" \"poise-load.test\")) "
                      "((NIL NIL \"user\" "
                      "\"poise-load.test\")) NIL NIL NIL \"{}\")",
                      Mailbox::kDate, text.subject, text.message_id));
    case Item::Kind::structure: {
      const auto body = std::string_view(text.text).substr(text.header_bytes);
      return out.append(
          fmt::format("{} (\"TEXT\" \"PLAIN\" (\"CHARSET\" \"utf-8\") NIL NIL \"8BIT\" {} {})",
                      item.label, body.size(), std::count(body.begin(), body.end(), '\n')));
    }
    case Item::Kind::section:
      break;
  }
  std::string made;
  std::string_view section = text.text;
  bool shared = true;
  switch (item.part) {
    case Item::Part::all:
      break;
    case Item::Part::header:
      section = section.substr(0, text.header_bytes);
      break;
    case Item::Part::text:
      section = section.substr(text.header_bytes);
      break;
    case Item::Part::fields:
    case Item::Part::fields_not:
      made = header_fields(section.substr(0, text.header_bytes), item.names,
                           item.part == Item::Part::fields_not);
      section = made;
      shared = false;
      break;
    case Item::Part::none:
      section = {};
      break;
  }
  if (item.partial)
    section = section.substr(std::min<std::uint64_t>(item.offset, section.size()), item.count);
  out.append(fmt::format("{} {{{}}}\r\n", item.label, section.size()));
  if (shared)
    out.append_shared(section);
  else
    out.append(section);
}

int ImapView::fetch(std::span<const std::size_t> chosen, std::span<const ImapToken> tokens,
                    bool by_uid, Output& out) {
  std::vector<Item> items;
  if (!parse_items(tokens, items)) return -1;
  const auto has = [&](Item::Kind kind) {
    return std::any_of(items.begin(), items.end(),
                       [&](const Item& item) { return item.kind == kind; });
  };
  if (by_uid && !has(Item::Kind::uid)) items.insert(items.begin(), Item{Item::Kind::uid, "UID"});
  const bool sets_seen =
      !read_only_ &&
      std::any_of(items.begin(), items.end(), [](const Item& item) { return item.sets_seen; });
  const bool says_flags = has(Item::Kind::flags);
  int bodies = 0;
  for (const std::size_t index : chosen) {
    Entry& entry = entries_[index];
    const bool newly_seen = sets_seen && !(entry.flags & seen);
    if (newly_seen) entry.flags |= seen;
    out.append(fmt::format("* {} FETCH (", index + 1));
    bool first = true;
    for (const Item& item : items) {
      if (!first) out.append(" ");
      first = false;
      write_item(item, entry, out);
      if (item.kind == Item::Kind::section && item.part != Item::Part::header) ++bodies;
    }
    if (newly_seen && !says_flags)
      out.append(" " + flags_text(entry.flags));  // RFC 9051 6.4.5: told when it changes
    out.append(")\r\n");
  }
  return bodies;
}

bool ImapView::store(std::span<const std::size_t> chosen, std::span<const ImapToken> tokens,
                     bool by_uid, Output& out) {
  if (tokens.size() < 2) return false;
  std::string_view how = tokens[0].text;
  const char sign = how.empty() ? ' ' : how[0];
  if (sign == '+' || sign == '-') how.remove_prefix(1);
  const bool silent = same_word(how, "FLAGS.SILENT");
  if (!silent && !same_word(how, "FLAGS")) return false;
  std::uint8_t bits = 0;
  for (const ImapToken& token : tokens.subspan(1)) {
    if (token.kind != ImapToken::Kind::atom) continue;
    const auto* found = std::find_if(std::begin(kFlags), std::end(kFlags), [&](const FlagName& f) {
      return same_word(f.name, token.text);
    });
    if (found != std::end(kFlags))
      bits |= found->bit;  // keywords are not kept: PERMANENTFLAGS says so
  }
  for (const std::size_t index : chosen) {
    std::uint8_t& flags = entries_[index].flags;
    if (sign == '+')
      flags = static_cast<std::uint8_t>(flags | bits);
    else if (sign == '-')
      flags = static_cast<std::uint8_t>(flags & ~bits);
    else
      flags = bits;
    if (silent) continue;
    const std::string uid = by_uid ? fmt::format("UID {} ", message(entries_[index]).uid) : "";
    out.append(fmt::format("* {} FETCH ({}{})\r\n", index + 1, uid, flags_text(flags)));
  }
  return true;
}

bool ImapView::matches(std::span<const ImapToken>& keys, std::size_t index, bool& result,
                       unsigned depth) const {
  if (keys.empty() || depth > 16) return false;
  const Entry& entry = entries_[index];
  const Mailbox::Message& text = message(entry);
  const ImapToken key = keys.front();
  keys = keys.subspan(1);
  const auto argument = [&](std::string_view& value) {
    if (keys.empty() || keys.front().kind == ImapToken::Kind::open ||
        keys.front().kind == ImapToken::Kind::close)
      return false;
    value = keys.front().text;
    keys = keys.subspan(1);
    return true;
  };
  if (key.kind == ImapToken::Kind::open) {
    result = true;
    while (!keys.empty() && keys.front().kind != ImapToken::Kind::close) {
      bool one = false;
      if (!matches(keys, index, one, depth + 1)) return false;
      result = result && one;
    }
    if (keys.empty()) return false;
    keys = keys.subspan(1);
    return true;
  }
  if (key.kind != ImapToken::Kind::atom) return false;
  const std::string& name = key.text;
  struct FlagKey {
    std::string_view name;
    std::uint8_t bit;
    bool set;
  };
  static constexpr FlagKey kFlagKeys[] = {
      {"SEEN", seen, true},         {"UNSEEN", seen, false},
      {"ANSWERED", answered, true}, {"UNANSWERED", answered, false},
      {"FLAGGED", flagged, true},   {"UNFLAGGED", flagged, false},
      {"DELETED", deleted, true},   {"UNDELETED", deleted, false},
      {"DRAFT", draft, true},       {"UNDRAFT", draft, false}};
  for (const FlagKey& flag : kFlagKeys) {
    if (!same_word(name, flag.name)) continue;
    result = ((entry.flags & flag.bit) != 0) == flag.set;
    return true;
  }
  std::string_view value;
  if (same_word(name, "ALL") || same_word(name, "OLD")) return result = true, true;
  if (same_word(name, "NEW") || same_word(name, "RECENT")) return result = false, true;
  if (same_word(name, "NOT")) {
    bool one = false;
    if (!matches(keys, index, one, depth + 1)) return false;
    result = !one;
    return true;
  }
  if (same_word(name, "OR")) {
    bool one = false;
    bool other = false;
    if (!matches(keys, index, one, depth + 1) || !matches(keys, index, other, depth + 1))
      return false;
    result = one || other;
    return true;
  }
  if (same_word(name, "UID")) {
    std::vector<std::size_t> chosen;
    if (!argument(value) || !select(value, true, chosen)) return false;
    result = std::binary_search(chosen.begin(), chosen.end(), index);
    return true;
  }
  if (same_word(name, "LARGER") || same_word(name, "SMALLER")) {
    const auto size = argument(value) ? parse_number(value) : std::nullopt;
    if (!size) return false;
    result = same_word(name, "LARGER") ? text.text.size() > *size : text.text.size() < *size;
    return true;
  }
  for (const std::string_view date :
       {"SINCE", "BEFORE", "ON", "SENTSINCE", "SENTBEFORE", "SENTON"}) {
    if (!same_word(name, date)) continue;
    const unsigned day = argument(value) ? parse_date(value) : 0;
    if (day == 0) return false;
    result = date.ends_with("SINCE")    ? kMailboxDate >= day
             : date.ends_with("BEFORE") ? kMailboxDate < day
                                        : kMailboxDate == day;
    return true;
  }
  const std::string_view header = std::string_view(text.text).substr(0, text.header_bytes);
  const std::string_view body = std::string_view(text.text).substr(text.header_bytes);
  for (const std::string_view field : {"SUBJECT", "FROM", "TO", "CC", "BCC", "HEADER"}) {
    if (!same_word(name, field)) continue;
    std::string_view field_name = field;
    if (field == "HEADER" && !argument(field_name)) return false;
    if (!argument(value)) return false;
    const std::string line = header_fields(header, {std::string(field_name)}, false);
    const std::size_t colon = line.find(':');
    result = colon != std::string::npos &&
             contains_word(std::string_view(line).substr(colon + 1), value);
    return true;
  }
  if (same_word(name, "TEXT") || same_word(name, "BODY")) {
    if (!argument(value)) return false;
    result =
        contains_word(body, value) || (same_word(name, "TEXT") && contains_word(header, value));
    return true;
  }
  std::vector<std::size_t> chosen;  // a sequence set
  if (!select(name, false, chosen)) return false;
  result = std::binary_search(chosen.begin(), chosen.end(), index);
  return true;
}

bool ImapView::search(std::span<const ImapToken> tokens, bool by_uid, Output& out) const {
  if (tokens.size() >= 2 && same_word(tokens[0].text, "CHARSET")) tokens = tokens.subspan(2);
  if (tokens.empty()) return false;
  std::string line = "* SEARCH";
  for (std::size_t index = 0; index < entries_.size(); ++index) {
    std::span<const ImapToken> keys = tokens;
    bool all = true;
    while (!keys.empty()) {
      bool one = false;
      if (!matches(keys, index, one, 0)) return false;
      all = all && one;
    }
    if (all) line += fmt::format(" {}", by_uid ? message(entries_[index]).uid : index + 1);
  }
  out.append(line + "\r\n");
  return true;
}

void ImapView::expunge(bool announce, Output& out, const std::vector<std::size_t>* only) {
  std::vector<Entry> left;
  std::size_t gone = 0;
  for (std::size_t index = 0; index < entries_.size(); ++index) {
    const bool chosen = !only || std::binary_search(only->begin(), only->end(), index);
    if (chosen && (entries_[index].flags & deleted)) {
      // Sequence numbers move up with each one that goes (RFC 9051 7.5.1).
      if (announce) out.append(fmt::format("* {} EXPUNGE\r\n", index + 1 - gone));
      ++gone;
    } else {
      left.push_back(entries_[index]);
    }
  }
  entries_ = std::move(left);
}

}  // namespace poise::loadgen
