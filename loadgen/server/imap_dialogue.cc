#include "loadgen/server/imap_dialogue.h"

#include <fmt/format.h>

#include <vector>

#include "loadgen/text/words.h"

namespace poise::loadgen {
namespace {

constexpr std::string_view kCapabilities =
    "IMAP4rev1 LITERAL+ SASL-IR ID IDLE UNSELECT NAMESPACE AUTH=PLAIN";
constexpr std::string_view kFlagList = "(\\Answered \\Flagged \\Deleted \\Seen \\Draft)";

}  // namespace

std::string ImapServerDialogue::capabilities() const {
  return fmt::format("{}{}", kCapabilities, settings_.tls && !secured_ ? " STARTTLS" : "");
}

void ImapServerDialogue::untagged(std::string_view line, Wire& wire) {
  wire.out.append("* ");
  wire.out.append(line);
  wire.out.append("\r\n");
}

void ImapServerDialogue::answer(std::string_view word, std::string_view text, Wire& wire) {
  wire.out.append(fmt::format("{} {} {}\r\n", tag_, word, text));
}

void ImapServerDialogue::ok(std::string_view text, Wire& wire) {
  answer("OK", text, wire);
}

void ImapServerDialogue::no(std::string_view text, Wire& wire) {
  answer("NO", text, wire);
}

void ImapServerDialogue::bad(std::string_view text, Wire& wire) {
  answer("BAD", text, wire);
  if (++errors_ < kMaxErrors) return;
  untagged("BYE Too many errors", wire);
  wire.close = true;
}

void ImapServerDialogue::greet(std::string_view text, Wire& wire) {
  if (text.empty())
    return untagged(fmt::format("OK [CAPABILITY {}] {} ready.", capabilities(), settings_.name),
                    wire);
  wire.out.append(text);
  wire.out.append("\r\n");
  if (starts_with_word(text, "* PREAUTH"))
    logged_in_ = true;
  else if (!starts_with_word(text, "* OK"))
    wire.close = true;
}

void ImapServerDialogue::time_out(Wire& wire) {
  untagged("BYE Idle for too long", wire);
  wire.close = true;
}

void ImapServerDialogue::receive(std::string_view& bytes, Wire& wire) {
  while (!bytes.empty() && !wire.full()) {
    std::string_view piece;
    if (mode_ != Mode::commands) {
      switch (reader_.next_raw(bytes, piece)) {
        case mail::LineReader::Status::more:
          return;
        case mail::LineReader::Status::too_long:
          piece = {};
          [[fallthrough]];
        case mail::LineReader::Status::line:
          on_raw_line(piece, wire);
          break;
      }
      continue;
    }
    switch (reader_.next(bytes, piece)) {
      case ImapCommandReader::Status::more:
        return;
      case ImapCommandReader::Status::literal:
        on_literal(wire);
        break;
      case ImapCommandReader::Status::piece:
        append_bytes_ += piece.size();
        if (appending_) append_id_.add(piece);
        break;
      case ImapCommandReader::Status::malformed:
        ++wire.replies;
        tag_ = reader_.tag();
        bad("Command not understood", wire);
        break;
      case ImapCommandReader::Status::command:
        if (reader_.tokens().empty()) break;  // an empty line
        ++wire.replies;
        on_command(wire);
        break;
    }
  }
}

void ImapServerDialogue::on_literal(Wire& wire) {
  const auto& tokens = reader_.tokens();
  const bool message = tokens.size() >= 3 && same_word(tokens[1].text, "APPEND");
  if (message && !appending_ && logged_in_ && reader_.literal_bytes() <= settings_.size_max) {
    appending_ = true;
    append_bytes_ = 0;
    append_id_.reset();
    if (reader_.literal_waits()) wire.out.append("+ Go ahead\r\n");
    return reader_.stream_literal();
  }
  if (!message && reader_.literal_bytes() <= ImapCommandReader::kMaxKeptBytes) {
    const bool waits = reader_.literal_waits();
    if (reader_.keep_literal()) {
      if (waits) wire.out.append("+ Go ahead\r\n");
      return;
    }
  }
  if (reader_.literal_waits()) {
    tag_ = reader_.tag();
    reader_.abandon();
    ++wire.replies;
    appending_ = false;
    return no("[TOOBIG] Literal refused", wire);
  }
  reader_.stream_literal();  // it is on its way; the command's answer will be no
}

void ImapServerDialogue::on_raw_line(std::string_view line, Wire& wire) {
  ++wire.replies;
  const Mode mode = mode_;
  mode_ = Mode::commands;
  if (mode == Mode::sasl) return finish_sasl(line, wire);
  if (same_word(line, "DONE")) return ok("Idle completed.", wire);
  bad("Expected DONE", wire);
}

void ImapServerDialogue::on_command(Wire& wire) {
  const Tokens tokens = reader_.tokens();
  tag_ = reader_.tag();
  const bool appended = appending_;
  appending_ = false;
  if (tokens.size() < 2 || tokens[0].kind != ImapToken::Kind::atom ||
      tokens[1].kind != ImapToken::Kind::atom) {
    return bad("A command is a tag and a word", wire);
  }
  std::string_view verb = tokens[1].text;
  Tokens arguments = tokens.subspan(2);
  if (on_any_state(verb, wire)) return;
  if (!logged_in_) {
    if (same_word(verb, "LOGIN")) return on_login(arguments, wire);
    if (same_word(verb, "AUTHENTICATE")) return on_authenticate(arguments, wire);
    return bad("Log in first", wire);
  }
  if (same_word(verb, "APPEND")) {
    if (!appended || arguments.size() < 2)
      return bad("Expected a mailbox and a literal no bigger than the limit", wire);
    return on_append(wire);
  }
  if (on_logged_in(verb, arguments, wire)) return;
  const bool by_uid = same_word(verb, "UID");
  if (by_uid) {
    if (arguments.empty()) return bad("UID what?", wire);
    verb = arguments[0].text;
    arguments = arguments.subspan(1);
  }
  if (!view_) return bad("Unknown command, or no mailbox selected", wire);
  if (!on_selected(verb, arguments, by_uid, wire)) bad("Unknown command or arguments", wire);
}

bool ImapServerDialogue::on_any_state(std::string_view verb, Wire& wire) {
  if (same_word(verb, "CAPABILITY")) {
    untagged(fmt::format("CAPABILITY {}", capabilities()), wire);
    return ok("Capability completed.", wire), true;
  }
  if (same_word(verb, "NOOP")) return ok("NOOP completed.", wire), true;
  if (same_word(verb, "ID")) {
    untagged("ID (\"name\" \"poise-load\")", wire);
    return ok("ID completed.", wire), true;
  }
  if (same_word(verb, "STARTTLS") && settings_.tls && !secured_ && !logged_in_) {
    ok("Begin TLS negotiation now.", wire);
    wire.start_tls = true;
    return true;
  }
  if (same_word(verb, "LOGOUT")) {
    untagged("BYE Logging out", wire);
    ok("Logout completed.", wire);
    wire.goodbye = true;
    wire.close = true;
    return true;
  }
  return false;
}

void ImapServerDialogue::on_login(Tokens arguments, Wire& wire) {
  if (arguments.size() != 2) return bad("LOGIN user password", wire);
  finish_login(arguments[1].text, wire);
}

void ImapServerDialogue::on_authenticate(Tokens arguments, Wire& wire) {
  if (arguments.empty() || !same_word(arguments[0].text, "PLAIN"))
    return no("[CANNOT] Only PLAIN", wire);
  if (arguments.size() == 2) return finish_sasl(arguments[1].text, wire);
  wire.out.append("+ \r\n");
  mode_ = Mode::sasl;
}

void ImapServerDialogue::finish_sasl(std::string_view line, Wire& wire) {
  if (line == "*") return bad("Authentication cancelled", wire);
  const auto decoded = decode_base64(line);
  const auto credentials = decoded ? parse_sasl_plain(*decoded) : std::nullopt;
  if (!credentials) return bad("Not a PLAIN response in base64", wire);
  finish_login(credentials->password, wire);
}

void ImapServerDialogue::finish_login(std::string_view password, Wire& wire) {
  if (!settings_.password.empty() && password != settings_.password) {
    return no("[AUTHENTICATIONFAILED] Authentication failed.", wire);
  }
  logged_in_ = true;
  ok(fmt::format("[CAPABILITY {}] Logged in", capabilities()), wire);
}

bool ImapServerDialogue::on_logged_in(std::string_view verb, Tokens arguments, Wire& wire) {
  if (same_word(verb, "SELECT") || same_word(verb, "EXAMINE")) {
    return on_select(arguments, same_word(verb, "EXAMINE"), wire), true;
  }
  if (same_word(verb, "STATUS")) return on_status(arguments, wire), true;
  if (same_word(verb, "LIST") || same_word(verb, "LSUB"))
    return on_list(verb, arguments, wire), true;
  if (same_word(verb, "NAMESPACE")) {
    untagged("NAMESPACE ((\"\" \"/\")) NIL NIL", wire);
    return ok("Namespace completed.", wire), true;
  }
  if (same_word(verb, "SUBSCRIBE") || same_word(verb, "UNSUBSCRIBE"))
    return ok("Noted.", wire), true;
  if (same_word(verb, "CREATE") || same_word(verb, "DELETE") || same_word(verb, "RENAME")) {
    return no("[CANNOT] INBOX is the only mailbox", wire), true;
  }
  if (same_word(verb, "IDLE")) {
    wire.out.append("+ idling\r\n");
    mode_ = Mode::idle;
    return true;
  }
  if (same_word(verb, "LOGIN") || same_word(verb, "AUTHENTICATE"))
    return bad("Already logged in", wire), true;
  return false;
}

void ImapServerDialogue::on_select(Tokens arguments, bool read_only, Wire& wire) {
  view_.reset();
  if (arguments.empty()) return bad("Which mailbox?", wire);
  if (!same_word(arguments[0].text, "INBOX"))
    return no("[NONEXISTENT] INBOX is the only mailbox", wire);
  view_.emplace(mailbox_, read_only);
  untagged(fmt::format("{} EXISTS", view_->size()), wire);
  untagged("0 RECENT", wire);
  untagged(fmt::format("FLAGS {}", kFlagList), wire);
  untagged(
      fmt::format("OK [PERMANENTFLAGS {}] Kept for the session.", read_only ? "()" : kFlagList),
      wire);
  if (view_->first_unseen() > 0)
    untagged(fmt::format("OK [UNSEEN {}] First unseen.", view_->first_unseen()), wire);
  untagged(fmt::format("OK [UIDVALIDITY {}] UIDs valid", Mailbox::kUidValidity), wire);
  untagged(fmt::format("OK [UIDNEXT {}] Predicted next UID", view_->uid_next()), wire);
  ok(read_only ? "[READ-ONLY] Examine completed." : "[READ-WRITE] Select completed.", wire);
}

void ImapServerDialogue::on_status(Tokens arguments, Wire& wire) {
  if (arguments.size() < 2) return bad("STATUS mailbox (items)", wire);
  if (!same_word(arguments[0].text, "INBOX"))
    return no("[NONEXISTENT] INBOX is the only mailbox", wire);
  const ImapView view(mailbox_, true);
  std::string items;
  for (const ImapToken& item : arguments.subspan(1)) {
    if (item.kind != ImapToken::Kind::atom) continue;
    std::size_t value = 0;
    if (same_word(item.text, "MESSAGES") || same_word(item.text, "UNSEEN"))
      value = view.size();
    else if (same_word(item.text, "UIDNEXT"))
      value = view.uid_next();
    else if (same_word(item.text, "UIDVALIDITY"))
      value = Mailbox::kUidValidity;
    else if (!same_word(item.text, "RECENT"))
      return bad("Unknown status item", wire);
    items += fmt::format("{}{} {}", items.empty() ? "" : " ", item.text, value);
  }
  untagged(fmt::format("STATUS INBOX ({})", items), wire);
  ok("Status completed.", wire);
}

void ImapServerDialogue::on_list(std::string_view verb, Tokens arguments, Wire& wire) {
  if (arguments.size() < 2) return bad("LIST reference pattern", wire);
  const std::string_view pattern = arguments[1].text;
  if (pattern.empty()) {
    untagged(fmt::format("{} (\\Noselect) \"/\" \"\"", verb),
             wire);  // RFC 9051 6.3.9: what the delimiter is
  } else if (same_word(pattern, "INBOX") || pattern == "*" || pattern == "%") {
    untagged(fmt::format("{} (\\HasNoChildren) \"/\" INBOX", verb), wire);
  }
  ok("List completed.", wire);
}

void ImapServerDialogue::on_append(Wire& wire) {
  if (!same_word(reader_.tokens()[2].text, "INBOX"))
    return no("[TRYCREATE] INBOX is the only mailbox", wire);
  if (!sink_.accept(append_id_.id(), append_bytes_))
    return no("[UNAVAILABLE] The ledger cannot be written", wire);
  ++wire.messages;
  ok("Append completed: counted.", wire);
}

bool ImapServerDialogue::on_selected(std::string_view verb, Tokens arguments, bool by_uid,
                                     Wire& wire) {
  std::vector<std::size_t> chosen;
  const auto takes_set = [&] {
    if (arguments.empty() || !view_->select(arguments[0].text, by_uid, chosen)) return false;
    arguments = arguments.subspan(1);
    return true;
  };
  if (same_word(verb, "FETCH")) {
    if (!takes_set()) return false;
    const int bodies = view_->fetch(chosen, arguments, by_uid, wire.out);
    if (bodies < 0) return false;
    wire.serve(static_cast<unsigned>(bodies));
    return ok("Fetch completed.", wire), true;
  }
  if (same_word(verb, "STORE")) {
    if (view_->read_only()) return no("[READ-ONLY] The mailbox was examined", wire), true;
    if (!takes_set() || !view_->store(chosen, arguments, by_uid, wire.out)) return false;
    return ok("Store completed.", wire), true;
  }
  if (same_word(verb, "SEARCH")) {
    if (!view_->search(arguments, by_uid, wire.out)) return false;
    return ok("Search completed.", wire), true;
  }
  if (same_word(verb, "COPY") || same_word(verb, "MOVE"))
    return no("[TRYCREATE] INBOX is the only mailbox", wire), true;
  if (same_word(verb, "EXPUNGE")) {
    if (view_->read_only()) return no("[READ-ONLY] The mailbox was examined", wire), true;
    if (by_uid && !takes_set()) return false;
    view_->expunge(true, wire.out, by_uid ? &chosen : nullptr);
    return ok("Expunge completed.", wire), true;
  }
  if (same_word(verb, "CLOSE") || same_word(verb, "UNSELECT")) {
    view_.reset();  // what CLOSE would expunge was deleted in this session's view only
    return ok("Closed.", wire), true;
  }
  if (same_word(verb, "CHECK")) return ok("Check completed.", wire), true;
  return false;
}

}  // namespace poise::loadgen
