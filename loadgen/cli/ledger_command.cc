#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "loadgen/cli/command.h"
#include "loadgen/ledger/compare.h"

namespace poise::loadgen {
namespace {

struct LedgerOptions {
  std::vector<std::string> sent;
  std::vector<std::string> received;
  std::string json;
};

int compare_ledgers(const LedgerOptions& options) {
  LedgerComparison comparison;
  const auto read = [&](const std::string& path, bool sent) {
    std::ifstream file(path);
    if (!file) {
      fmt::print(stderr, "poise-load: cannot read {}\n", path);
      return false;
    }
    if (sent)
      comparison.add_sent(file);
    else
      comparison.add_received(file);
    return true;
  };
  for (const std::string& path : options.sent) {
    if (!read(path, true)) return kExitUsage;
  }
  for (const std::string& path : options.received) {
    if (!read(path, false)) return kExitUsage;
  }
  const LedgerBalance balance = comparison.balance();
  fmt::print(
      "accepted     {}\nreceived     {}\nlost         {}\nduplicated   {}\nunconfirmed  {}\n",
      balance.accepted, balance.received, balance.lost, balance.duplicated, balance.unconfirmed);
  for (const std::string& id : balance.lost_examples) fmt::print("lost: {}\n", id);
  for (const std::string& id : balance.duplicated_examples) fmt::print("duplicated: {}\n", id);
  if (balance.untracked > 0)
    fmt::print("{} ids were too many to keep: this result is not exact\n", balance.untracked);
  if (!options.json.empty()) {
    const nlohmann::json json = {{"accepted", balance.accepted},
                                 {"received", balance.received},
                                 {"lost", balance.lost},
                                 {"duplicated", balance.duplicated},
                                 {"unconfirmed", balance.unconfirmed},
                                 {"untracked", balance.untracked}};
    if (!write_result(options.json, json.dump(2))) return kExitUsage;
  }
  return balance.balanced() ? 0 : 1;
}

}  // namespace

void add_ledger_command(CLI::App& program, CommandAction& action) {
  auto options = std::make_shared<LedgerOptions>();
  CLI::App* command = program.add_subcommand("ledger",
                                             "Compare what clients were told is accepted with what "
                                             "servers received; exit 1 on any loss or duplicate");
  command->add_option("--sent", options->sent, "Ledger of a `run` (more than one may follow)")
      ->required()
      ->type_name("FILE");
  command
      ->add_option("--received", options->received,
                   "Ledger of a `serve` (more than one may follow)")
      ->required()
      ->type_name("FILE");
  command
      ->add_option("--json", options->json, "Write the counts as JSON (- is the standard output)")
      ->type_name("FILE");
  command->callback(
      [options, &action] { action = [options] { return compare_ledgers(*options); }; });
}

}  // namespace poise::loadgen
