#include "loadgen/client/script.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "config/document.h"
#include "config/nearest.h"
#include "loadgen/text/times.h"
#include "loadgen/text/words.h"

namespace poise::loadgen {
namespace {

using Verb = Action::Verb;

constexpr std::uint64_t kRepeatsMax = 100'000;
constexpr std::size_t kActionsMax = 1'000'000;

struct Word {
  std::string_view name;
  Verb verb;
  bool timed;
};

constexpr std::array kSmtpWords{Word{"message", Verb::message, false},
                                Word{"rset", Verb::rset, false}, Word{"noop", Verb::noop, false},
                                Word{"wait", Verb::wait, true}};
constexpr std::array kImapWords{
    Word{"select", Verb::select, false}, Word{"status", Verb::status, false},
    Word{"search", Verb::search, false}, Word{"fetch", Verb::fetch, false},
    Word{"append", Verb::append, false}, Word{"idle", Verb::idle, true},
    Word{"noop", Verb::noop, false},     Word{"wait", Verb::wait, true}};
constexpr std::array kPop3Words{Word{"stat", Verb::stat, false}, Word{"list", Verb::list, false},
                                Word{"uidl", Verb::uidl, false}, Word{"retr", Verb::retr, false},
                                Word{"dele", Verb::dele, false}, Word{"noop", Verb::noop, false},
                                Word{"wait", Verb::wait, true}};
constexpr std::array kSieveWords{Word{"noop", Verb::noop, false}, Word{"wait", Verb::wait, true}};

std::pair<const Word*, std::size_t> words_of(Protocol protocol) {
  switch (language_of(protocol)) {
    case Language::imap:
      return {kImapWords.data(), kImapWords.size()};
    case Language::pop3:
      return {kPop3Words.data(), kPop3Words.size()};
    case Language::managesieve:
      return {kSieveWords.data(), kSieveWords.size()};
    case Language::smtp:
    case Language::unknown:
      break;
  }
  return {kSmtpWords.data(), kSmtpWords.size()};
}

std::string list_words(Protocol protocol) {
  const auto [words, count] = words_of(protocol);
  std::string list;
  for (std::size_t at = 0; at < count; ++at) {
    if (at > 0) list += ", ";
    list += words[at].name;
    if (words[at].timed) list += "=TIME";
  }
  return list + ", poll=TIME";
}

}  // namespace

Result<Protocol> parse_protocol(std::string_view name) {
  const auto protocol = protocol_named(name);
  if (protocol && *protocol != Protocol::tcp) return *protocol;
  std::vector<std::string> names(kProtocolNames.begin(), kProtocolNames.end());
  std::erase(names, name_of(Protocol::tcp));
  return Error{"", fmt::format("no protocol {}{} (known: {})", config::quote(name),
                               config::did_you_mean(name, names), config::enumerate(names))};
}

std::string login_name(const Script& script, std::uint64_t session) {
  if (script.users <= 1) return script.user;
  return fmt::format("{}{}", script.user, session % script.users + 1);
}

std::vector<Action> usual_actions(Protocol protocol) {
  switch (language_of(protocol)) {
    case Language::imap:
      return {{Verb::select}, {Verb::fetch}};
    case Language::pop3:
      return {{Verb::stat}, {Verb::list}, {Verb::retr}};
    case Language::managesieve:
      return {};
    case Language::smtp:
    case Language::unknown:
      break;
  }
  return {{Verb::message}};
}

Script usual_script(Protocol protocol) {
  Script script;
  script.name = name_of(protocol);
  script.protocol = protocol;
  script.tls = is_implicit_tls(protocol) ? Tls::implicit : Tls::none;
  script.auth = is_submission(protocol);
  script.actions = usual_actions(protocol);
  return script;
}

Result<void> add_action(Protocol protocol, std::string_view text, std::vector<Action>& actions) {
  const auto wrong = [&](std::string what) { return Error{std::string(text), std::move(what)}; };
  std::string_view rest = text;
  std::uint64_t repeats = 1;
  if (const std::size_t star = rest.rfind('*'); star != std::string_view::npos) {
    const auto number = parse_number(rest.substr(star + 1));
    if (!number || *number == 0 || *number > kRepeatsMax)
      return wrong(fmt::format("after * comes how often: 1 to {}", kRepeatsMax));
    repeats = *number;
    rest = rest.substr(0, star);
  }
  const std::size_t equals = rest.find('=');
  const std::string_view name = rest.substr(0, equals);
  const bool is_poll = name == "poll";
  const auto [words, count] = words_of(protocol);
  const Word* const found =
      std::find_if(words, words + count, [&](const Word& word) { return word.name == name; });
  if (!is_poll && found == words + count)
    return wrong(fmt::format("no such command in {}; there are {}", name_of(protocol),
                             list_words(protocol)));
  const bool timed = is_poll || found->timed;
  if (timed != (equals != std::string_view::npos))
    return wrong(timed ? fmt::format("say how long: {}=30s", name)
                       : fmt::format("{} takes no time", name));
  Nanos time = 0;
  if (timed) {
    const Result<Nanos> parsed = parse_time(rest.substr(equals + 1));
    if (!parsed) return parsed.error();
    time = *parsed;
  }
  if (actions.size() + 2 * repeats > kActionsMax)
    return wrong(fmt::format("more than {} commands in a session", kActionsMax));
  for (std::uint64_t at = 0; at < repeats; ++at) {
    if (is_poll) {
      actions.push_back({Verb::wait, time});
      actions.push_back({language_of(protocol) == Language::pop3 ? Verb::stat : Verb::noop, 0});
    } else {
      actions.push_back({found->verb, time});
    }
  }
  return {};
}

Result<void> check_actions(const std::vector<Action>& actions) {
  bool selected = false;
  bool counted = false;
  bool retrieved = false;
  for (const Action& action : actions) {
    const Verb verb = action.verb;
    if ((verb == Verb::fetch || verb == Verb::search || verb == Verb::idle) && !selected)
      return Error{"", "fetch, search and idle need a select before them"};
    if (verb == Verb::retr && !counted) return Error{"", "retr needs a stat before it"};
    if (verb == Verb::dele && !retrieved) return Error{"", "dele needs a retr before it"};
    selected = selected || verb == Verb::select;
    counted = counted || verb == Verb::stat;
    if (verb == Verb::retr) retrieved = true;
  }
  return {};
}

}  // namespace poise::loadgen
