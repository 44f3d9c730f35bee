#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "loadgen/cli/command.h"
#include "loadgen/loop/socket.h"
#include "loadgen/server/serve_loop.h"
#include "tls/context.h"

namespace poise::loadgen {
namespace {

struct ServeOptions {
  std::vector<std::string> protocols{"smtp"};
  std::vector<std::string> listens;
  std::vector<std::string> names;
  std::vector<std::string> faults;
  std::string password;
  std::uint64_t messages = 10;
  std::uint64_t message_bytes = 4096;
  std::uint64_t size_limit = 64u << 20;
  double idle_timeout = 35 * 60;
  std::vector<std::string> events;
  bool proxy = false;
  bool starttls = false;
  std::string certificate;
  std::string key;
  std::string ledger;
  std::string json;
};

constexpr std::uint64_t kMailboxBytesMax = std::uint64_t{2} << 30;
constexpr std::uint64_t kMailboxMessagesMax = 10'000;

[[noreturn]] void refuse(const char* option, const std::string& what) {
  throw CLI::ValidationError(option, what);
}

/// One of a list that is as long as the servers are many, or has one entry for all.
const std::string& one_of(const std::vector<std::string>& list, std::size_t at) {
  return list.size() == 1 ? list[0] : list[at];
}

std::vector<ServerSpec> make_specs(const ServeOptions& options) {
  const std::size_t count = options.listens.size();
  if (options.protocols.size() != 1 && options.protocols.size() != count) {
    refuse("--protocol", fmt::format("give it once, or once for each of the {} --listen", count));
  }
  if (!options.names.empty() && options.names.size() != count) {
    refuse("--name", fmt::format("{} names for {} --listen", options.names.size(), count));
  }
  std::vector<ServerSpec> specs;
  for (std::size_t at = 0; at < count; ++at) {
    ServerSpec spec;
    const Result<Address> address = parse_address(options.listens[at]);
    if (!address) refuse("--listen", address.error().text());
    spec.listen = *address;
    spec.settings.protocol = protocol_option(one_of(options.protocols, at));
    spec.settings.name = !options.names.empty() ? options.names[at]
                         : count == 1           ? "poise-load"
                                                : fmt::format("mail{}", at + 1);
    if (spec.settings.name.empty() ||
        spec.settings.name.find_first_of(" \t\r\n") != std::string::npos) {
      refuse("--name", "a name is one word: it stands in the greeting");
    }
    spec.settings.password = options.password;
    spec.settings.size_max = options.size_limit;
    spec.settings.tls = options.starttls && !is_implicit_tls(spec.settings.protocol);
    spec.proxy = options.proxy;
    specs.push_back(std::move(spec));
  }
  for (const std::string& fault : options.faults) {
    std::string_view text = fault;
    const std::size_t colon = fault.find(':');
    const auto named = std::find_if(specs.begin(), specs.end(), [&](const ServerSpec& spec) {
      return colon != std::string::npos &&
             spec.settings.name == std::string_view(fault).substr(0, colon);
    });
    if (named != specs.end()) text.remove_prefix(colon + 1);
    for (auto spec = specs.begin(); spec != specs.end(); ++spec) {
      if (named != specs.end() && named != spec) continue;
      if (const Result<void> added = add_fault(text, spec->faults); !added)
        refuse("--fault", added.error().what);
    }
  }
  return specs;
}

std::vector<Event> make_events(const ServeOptions& options, const std::vector<ServerSpec>& specs) {
  std::vector<std::string> names;
  for (const ServerSpec& spec : specs) names.push_back(spec.settings.name);
  std::vector<Event> events;
  for (const std::string& text : options.events) {
    const Result<Event> event = parse_event(text, names);
    if (!event) refuse("--at", event.error().text());
    events.push_back(*event);
  }
  return events;
}

/// Empty when no server needs one.
Result<std::shared_ptr<const tls::Context>> make_tls(const ServeOptions& options,
                                                     const std::vector<ServerSpec>& specs) {
  const bool needed = std::any_of(specs.begin(), specs.end(), [](const ServerSpec& spec) {
    return spec.settings.tls || is_implicit_tls(spec.settings.protocol);
  });
  if (!needed) return std::shared_ptr<const tls::Context>();
  if (options.certificate.empty())
    return tls::Context::self_signed_server(specs.front().settings.name);
  return tls::Context::server(options.certificate,
                              options.key.empty() ? options.certificate : options.key);
}

nlohmann::json tally_json(const ServeLoop& loop, std::size_t at) {
  const ServerTally& tally = loop.tally(at);
  return {{"name", loop.spec(at).settings.name},
          {"protocol", name_of(loop.spec(at).settings.protocol)},
          {"address", loop.address(at).text()},
          {"sessions", tally.sessions},
          {"finished", tally.finished},
          {"broken", tally.broken},
          {"open", tally.active},
          {"messages", tally.messages},
          {"served", tally.served},
          {"message_bytes", tally.message_bytes},
          {"bytes_in", tally.bytes_in},
          {"bytes_out", tally.bytes_out},
          {"duplicates", tally.duplicates},
          {"without_id", tally.without_id},
          {"proxied", tally.proxied},
          {"proxy_bad", tally.proxy_bad},
          {"tls", tally.tls},
          {"tls_failed", tally.tls_failed},
          {"died", tally.died}};
}

void print_summary(const ServeLoop& loop) {
  fmt::print("{:<12} {:<10} {:<22} {:>9} {:>9} {:>7} {:>9} {:>9} {:>13} {:>10}\n", "server",
             "protocol", "address", "sessions", "finished", "broken", "messages", "served",
             "bytes in", "duplicates");
  for (std::size_t at = 0; at < loop.size(); ++at) {
    const ServerTally& tally = loop.tally(at);
    fmt::print("{:<12} {:<10} {:<22} {:>9} {:>9} {:>7} {:>9} {:>9} {:>13} {:>10}{}\n",
               loop.spec(at).settings.name, name_of(loop.spec(at).settings.protocol),
               loop.address(at).text(), tally.sessions, tally.finished, tally.broken,
               tally.messages, tally.served, tally.bytes_in, tally.duplicates,
               tally.died ? "  died" : "");
  }
}

int serve(const ServeOptions& options, std::vector<ServerSpec> specs, std::vector<Event> events) {
  raise_fd_limit();
  LedgerFile ledger;
  if (!options.ledger.empty()) {
    Result<LedgerFile> opened = LedgerFile::open(options.ledger);
    if (!opened) {
      fmt::print(stderr, "poise-load: {}\n", opened.error().text());
      return 1;
    }
    ledger = std::move(*opened);
  }
  const bool needs_mailbox = std::any_of(specs.begin(), specs.end(), [](const ServerSpec& spec) {
    return !is_smtp(spec.settings.protocol);
  });
  Mailbox mailbox(needs_mailbox ? options.messages : 0, options.message_bytes);
  const auto tls = make_tls(options, specs);
  if (!tls) {
    fmt::print(stderr, "poise-load: {}\n", tls.error().text());
    return 1;
  }
  ServeLoop loop(std::move(specs), std::move(mailbox), std::move(ledger),
                 nanos(options.idle_timeout), *tls, std::move(events));
  if (const Result<void> opened = loop.open(); !opened) {
    fmt::print(stderr, "poise-load: {}\n", opened.error().text());
    return 1;
  }
  for (std::size_t at = 0; at < loop.size(); ++at) {
    fmt::print("ready {} {} {}\n", loop.address(at).text(), loop.spec(at).settings.name,
               name_of(loop.spec(at).settings.protocol));
  }
  std::fflush(stdout);
  loop.run();
  if (options.json != "-") print_summary(loop);
  if (options.json.empty()) return 0;
  nlohmann::json servers = nlohmann::json::array();
  for (std::size_t at = 0; at < loop.size(); ++at) servers.push_back(tally_json(loop, at));
  return write_result(options.json, nlohmann::json{{"servers", servers}}.dump(2)) ? 0 : 1;
}

}  // namespace

void add_serve_command(CLI::App& program, CommandAction& action) {
  auto options = std::make_shared<ServeOptions>();
  CLI::App* command = program.add_subcommand(
      "serve", "Be one mail server or several, well-behaved or not, and count what arrives");
  command
      ->add_option(
          "--protocol", options->protocols,
          "smtp, submission, smtps, lmtp, imap, imaps, pop3, pop3s or managesieve; once, or "
          "once for each --listen")
      ->type_name("NAME")
      ->capture_default_str();
  command
      ->add_option("--listen", options->listens,
                   "Where; port 0 is chosen and shown. Repeat for several servers")
      ->required()
      ->type_name("ADDRESS:PORT");
  command
      ->add_option("--name", options->names,
                   "The server's name, in its greeting; once for each --listen")
      ->type_name("NAME");
  command->add_option("--fault", options->faults, std::string(fault_help()))
      ->type_name("[NAME:]FAULT");
  command
      ->add_option("--at", options->events,
                   "Later: stop (as if it died), start, heal (no faults but capacity), or a fault, "
                   "as in 10s:stop:mx2, 5s:silence; repeatable")
      ->type_name("TIME:WHAT[:NAME]");
  command->add_flag("--starttls", options->starttls, "Offer STARTTLS");
  command
      ->add_option("--certificate", options->certificate,
                   "PEM, with its chain (default: one made now, that nobody need trust)")
      ->type_name("FILE");
  command->add_option("--key", options->key, "PEM (default: in the certificate's file)")
      ->type_name("FILE");
  command->add_flag("--proxy", options->proxy,
                    "Every connection begins with a PROXY header, version 1 or 2");
  command->add_option("--password", options->password, "The only right password (default: any is)")
      ->type_name("TEXT");
  command->add_option("--messages", options->messages, "Messages in everybody's mailbox")
      ->check(CLI::Range(std::uint64_t{0}, kMailboxMessagesMax))
      ->type_name("N")
      ->capture_default_str();
  command->add_option("--message-size", options->message_bytes, "Bytes of each (4KiB, 20MiB)")
      ->transform(size_in_bytes())
      ->type_name("BYTES")
      ->capture_default_str();
  command->add_option("--size-limit", options->size_limit, "The biggest message taken in")
      ->transform(size_in_bytes())
      ->type_name("BYTES")
      ->capture_default_str();
  command
      ->add_option("--idle-timeout", options->idle_timeout,
                   "A session silent for that long is ended")
      ->transform(duration_in_seconds())
      ->type_name("TIME")
      ->capture_default_str();
  command
      ->add_option("--ledger", options->ledger,
                   "Append the id of each message taken in, before it is answered")
      ->type_name("FILE");
  command
      ->add_option("--json", options->json,
                   "At the end write the counts as JSON (- is the standard output)")
      ->type_name("FILE");
  command->callback([options, &action] {
    if (Mailbox::cost(options->messages, options->message_bytes) > kMailboxBytesMax) {
      refuse("--message-size",
             "the mailbox would take more than 2 GiB; fewer --messages or smaller ones");
    }
    if (options->idle_timeout <= 0) refuse("--idle-timeout", "must be above 0");
    if (!options->key.empty() && options->certificate.empty())
      refuse("--key", "needs --certificate");
    std::vector<ServerSpec> specs = make_specs(*options);
    std::vector<Event> events = make_events(*options, specs);
    action = [options, specs, events] { return serve(*options, specs, events); };
  });
}

}  // namespace poise::loadgen
