#include "admin/requests.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>

#include "config/nearest.h"
#include "config/units.h"
#include "metrics/expose.h"

namespace poise::admin {

using control::Admin;
using control::Commands;
using std::chrono::milliseconds;

namespace {

constexpr int kRefused = 1, kUsage = 2;
constexpr std::size_t kSessionsDefault = 1000, kSessionsMax = 20'000;
constexpr std::size_t kReasonBytesMax = 500;

/// A request that can't be understood; stops in Requests::handle().
struct Misuse : std::runtime_error {
  using std::runtime_error::runtime_error;
};

Json good(Json result) {
  return {{"ok", true}, {"result", std::move(result)}};
}

Json bad(const std::string& why, int code) {
  return {{"ok", false}, {"error", why}, {"code", code}};
}

template <class T>
Json answer_of(const Result<T>& result) {
  return result ? good(to_json(*result)) : bad(result.error().text(), kRefused);
}

Json said(const Commands::Said& said) {
  return said ? good(*said) : bad(said.error().text(), kRefused);
}

/// The members of a request, typed.
class Arguments {
 public:
  explicit Arguments(const Json& json) : json_(json) {}

  [[nodiscard]] std::string text(const char* key, bool needed = false) const {
    const auto at = json_.find(key);
    if (at == json_.end() || at->is_null()) {
      if (needed) throw Misuse(fmt::format("\"{}\" is missing", key));
      return {};
    }
    if (!at->is_string()) throw Misuse(fmt::format("\"{}\" is not a string", key));
    return at->get<std::string>();
  }
  [[nodiscard]] std::uint64_t number(const char* key, std::uint64_t otherwise) const {
    const auto at = json_.find(key);
    if (at == json_.end() || at->is_null()) return otherwise;
    if (!at->is_number_unsigned()) throw Misuse(fmt::format("\"{}\" is not a number", key));
    return at->get<std::uint64_t>();
  }
  [[nodiscard]] bool flag(const char* key) const {
    const auto at = json_.find(key);
    if (at == json_.end() || at->is_null()) return false;
    if (!at->is_boolean()) throw Misuse(fmt::format("\"{}\" is not true or false", key));
    return at->get<bool>();
  }
  [[nodiscard]] milliseconds duration(const char* key) const {
    const std::string value = text(key);
    if (value.empty()) return {};
    const auto parsed = config::parse_duration(value);
    if (!parsed) throw Misuse(fmt::format("\"{}\": {}", key, parsed.error().text()));
    return *parsed;
  }
  [[nodiscard]] control::SessionFilter filter() const {
    control::SessionFilter filter;
    filter.id = number("id", 0);
    filter.service = text("service");
    filter.backend = text("backend");
    filter.source = network("source");
    return filter;
  }
  [[nodiscard]] std::optional<Network> network(const char* key) const {
    const std::string value = text(key);
    if (value.empty()) return std::nullopt;
    const auto parsed = config::parse_network(value);
    if (!parsed) throw Misuse(fmt::format("\"{}\": {}", key, parsed.error().text()));
    return *parsed;
  }

 private:
  const Json& json_;
};

using Answer = Requests::Answer;
using By = Commands::By;

struct Command {
  std::string_view name;
  bool changes;  ///< needs the admin level
  void (*run)(Commands&, const Arguments&, const By&, const Answer&);
};

void set_admin(Commands& commands, const Arguments& arguments, const By& by, const Answer& answer,
               Admin admin) {
  answer(said(
      commands.set_admin(arguments.text("target", true), admin, arguments.duration("over"), by)));
}

/// Sessions that are open go on, unless "kick" is said too.
void ban(Commands& commands, const Arguments& arguments, const By& by, const Answer& answer) {
  control::SessionFilter filter;
  filter.source = arguments.network("source");
  if (!filter.source) throw Misuse("\"source\" is missing");
  const std::string verb = arguments.text("verb", true);
  if (verb == "del") return answer(said(commands.unban(*filter.source, by)));
  if (verb != "add") throw Misuse("\"verb\" is add or del");
  auto banned = commands.ban(*filter.source, arguments.duration("for"), by);
  if (!banned || !arguments.flag("kick")) return answer(said(banned));
  commands.kick(filter, by, [answer, all = *banned](const Result<std::uint64_t>& ended) mutable {
    if (!ended) return answer(bad(ended.error().text(), kRefused));
    all.push_back(fmt::format("{} sessions ended", *ended));
    answer(good(all));
  });
}

const std::vector<Command>& table() {
  static const std::vector<Command> all{
      {"status", false,
       [](Commands& commands, const Arguments&, const By&, const Answer& answer) {
         answer(good(to_json(commands.status())));
       }},
      {"show services", false,
       [](Commands& commands, const Arguments&, const By&, const Answer& answer) {
         answer(good(to_json(commands.services())));
       }},
      {"show backends", false,
       [](Commands& commands, const Arguments&, const By&, const Answer& answer) {
         answer(good(to_json(commands.backends())));
       }},
      {"history", false,
       [](Commands& commands, const Arguments&, const By&, const Answer& answer) {
         answer(good(to_json(commands.history())));
       }},
      {"show sessions", false,
       [](Commands& commands, const Arguments& arguments, const By&, const Answer& answer) {
         const std::uint64_t limit = arguments.number("limit", kSessionsDefault);
         commands.sessions(
             arguments.filter(), std::min<std::uint64_t>(limit, kSessionsMax),
             [answer](const Result<control::SessionList>& list) { answer(answer_of(list)); });
       }},
      {"show config", false,
       [](Commands& commands, const Arguments&, const By&, const Answer& answer) {
         answer(good(Json::parse(commands.config_text())));
       }},
      {"show refusals", false,
       [](Commands& commands, const Arguments&, const By&, const Answer& answer) {
         answer(good(to_json(commands.refusals())));
       }},
      {"show retries", false,
       [](Commands& commands, const Arguments&, const By&, const Answer& answer) {
         answer(good(to_json(commands.retries())));
       }},
      {"show sticky", false,
       [](Commands& commands, const Arguments& arguments, const By&, const Answer& answer) {
         const std::uint64_t limit = arguments.number("limit", kSessionsDefault);
         answer(answer_of(
             commands.sticky(arguments.filter(), std::min<std::uint64_t>(limit, kSessionsMax))));
       }},
      {"show bans", false,
       [](Commands& commands, const Arguments&, const By&, const Answer& answer) {
         answer(good(to_json(commands.bans())));
       }},
      {"events", false,
       [](Commands& commands, const Arguments& arguments, const By&, const Answer& answer) {
         answer(good(to_json(commands.events(
             std::chrono::duration_cast<std::chrono::seconds>(arguments.duration("since"))))));
       }},
      {"why", false,
       [](Commands& commands, const Arguments& arguments, const By&, const Answer& answer) {
         answer(answer_of(
             commands.why(arguments.text("service", true), arguments.text("address", true))));
       }},
      {"doctor", false,
       [](Commands& commands, const Arguments&, const By&, const Answer& answer) {
         answer(good(to_json(commands.doctor())));
       }},
      {"metrics", false,
       [](Commands& commands, const Arguments&, const By&, const Answer& answer) {
         answer(good(metrics::expose(commands.facts())));
       }},
      {"probe", true,
       [](Commands& commands, const Arguments& arguments, const By&, const Answer& answer) {
         commands.probe(
             arguments.text("backend", true), arguments.flag("deep"),
             [answer](const Result<control::ProbeView>& view) { answer(answer_of(view)); });
       }},
      {"doctor proxy", true,
       [](Commands& commands, const Arguments& arguments, const By&, const Answer& answer) {
         commands.doctor_proxy(arguments.text("pool", true),
                               [answer](const Result<std::vector<control::HeadersView>>& views) {
                                 answer(answer_of(views));
                               });
       }},
      {"drain", true,
       [](Commands& commands, const Arguments& arguments, const By& by, const Answer& answer) {
         set_admin(commands, arguments, by, answer, Admin::draining);
       }},
      {"disable", true,
       [](Commands& commands, const Arguments& arguments, const By& by, const Answer& answer) {
         set_admin(commands, arguments, by, answer, Admin::disabled);
       }},
      {"enable", true,
       [](Commands& commands, const Arguments& arguments, const By& by, const Answer& answer) {
         set_admin(commands, arguments, by, answer, Admin::enabled);
       }},
      {"weight", true,
       [](Commands& commands, const Arguments& arguments, const By& by, const Answer& answer) {
         std::optional<unsigned> weight;
         if (const std::uint64_t asked = arguments.number("weight", UINT64_MAX);
             asked != UINT64_MAX)
           weight = static_cast<unsigned>(std::min<std::uint64_t>(asked, UINT32_MAX));
         answer(said(commands.set_weight(arguments.text("backend", true), weight, by)));
       }},
      {"kick", true,
       [](Commands& commands, const Arguments& arguments, const By& by, const Answer& answer) {
         commands.kick(arguments.filter(), by, [answer](const Result<std::uint64_t>& count) {
           answer(count ? good({{"ended", *count}}) : bad(count.error().text(), kRefused));
         });
       }},
      {"ban", true,
       [](Commands& commands, const Arguments& arguments, const By& by, const Answer& answer) {
         ban(commands, arguments, by, answer);
       }},
      {"reload", true,
       [](Commands& commands, const Arguments& arguments, const By& by, const Answer& answer) {
         commands.reload(arguments.flag("dry_run"), by, [answer](const control::ReloadView& view) {
           answer(good(to_json(view)));
         });
       }},
      {"alive", false,
       [](Commands&, const Arguments&, const By&, const Answer& answer) {
         answer(good({{"alive", true}}));
       }},
      {"pair status", false,
       [](Commands& commands, const Arguments&, const By&, const Answer& answer) {
         answer(answer_of(commands.pair_status()));
       }},
      {"pair diff", true,
       [](Commands& commands, const Arguments&, const By&, const Answer& answer) {
         commands.pair_diff([answer](const Result<control::PairDifference>& difference) {
           answer(answer_of(difference));
         });
       }},
      {"pair push", true,
       [](Commands& commands, const Arguments&, const By& by, const Answer& answer) {
         commands.pair_push(by, [answer](const Commands::Said& done) { answer(said(done)); });
       }},
      {"pair switch", true,
       [](Commands& commands, const Arguments& arguments, const By& by, const Answer& answer) {
         commands.pair_switch(arguments.flag("dry_run"), by,
                              [answer](const Commands::Said& done) { answer(said(done)); });
       }},
      {"shutdown", true,
       [](Commands& commands, const Arguments&, const By& by, const Answer& answer) {
         commands.shutdown(by);
         answer(good({{"stopping", true}}));
       }},
  };
  return all;
}

}  // namespace

std::vector<std::string> Requests::commands() {
  std::vector<std::string> names;
  for (const Command& each : table()) names.emplace_back(each.name);
  return names;
}

void Requests::handle(const Json& request, const Caller& caller, Answer answer) {
  if (!request.is_object()) return answer(bad("a request is an object", kUsage));
  const auto named = request.find("command");
  if (named == request.end() || !named->is_string())
    return answer(bad("a request has a \"command\"", kUsage));
  const std::string name = named->get<std::string>();
  if (const auto own = own_.find(name); own != own_.end())
    return control_.ask([run = own->second, request, caller, answer = std::move(answer)](
                            Commands& commands) { run(commands, request, caller, answer); });
  const auto command = std::find_if(table().begin(), table().end(),
                                    [&name](const Command& each) { return each.name == name; });
  if (command == table().end())
    return answer(bad(
        fmt::format("no command {}{}", text_of(Json(name)), config::did_you_mean(name, commands())),
        kUsage));
  if (command->changes && !caller.admin)
    return answer(bad(fmt::format("{} changes things: only root, poised's own user and the group "
                                  "of the control socket may",
                                  name),
                      kRefused));
  control_.ask([request, caller, command, answer = std::move(answer)](Commands& commands) {
    try {
      const Arguments arguments(request);
      const By by{.user = caller.user,
                  .reason = arguments.text("reason").substr(0, kReasonBytesMax)};
      command->run(commands, arguments, by, answer);
    } catch (const Misuse& misuse) {
      answer(bad(misuse.what(), kUsage));
    }
  });
}

void Requests::handle_line(const std::string& line, const Caller& caller, Answer answer) {
  const Json request = Json::parse(line, nullptr, false);
  if (request.is_discarded()) return answer(bad("a request is one line of JSON", kUsage));
  handle(request, caller, std::move(answer));
}

}  // namespace poise::admin
