#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "loadgen/loop/time.h"
#include "loadgen/text/random.h"
#include "poise/address.h"

namespace poise::loadgen {

/// How a client comes to its server: the ways that the study compared.
enum class Choice : std::uint8_t {
  turns,     ///< target after target, each session has one
  single,    ///< one server
  dns_rr,    ///< several addresses of one name; the list rotates from answer to answer
  mx,        ///< the lowest preference first, equal ones in random order, higher ones as fallback
  balancer,  ///< one address in front of many servers; several are a pair, tried in turn
};

inline constexpr std::array<std::string_view, 5> kChoiceNames{"turns", "single", "dns-rr", "mx",
                                                              "balancer"};

struct Target {
  Address address;
  unsigned preference = 10;  ///< mx: lower is better
  bool further = false;      ///< another address of the name that the target before it has
};

struct ChoiceSettings {
  Choice choice = Choice::turns;
  double first_only = 0;   ///< dns_rr: the share of senders that never try the next address
  Nanos ttl = 0;           ///< dns_rr: a sender asks again after that long; 0: each time
  unsigned senders = 100;  ///< how many share the work: each has its own cached answer
};

/// In which order a session tries the targets. Pure: time is a value, chance is seeded.
class Chooser {
 public:
  Chooser(ChoiceSettings settings, std::vector<Target> targets);

  /// Replaces `order` with the targets (their indices) that session `number` tries, in its order.
  void order_for(std::uint64_t number, Nanos now, std::vector<std::uint32_t>& order);

  [[nodiscard]] const std::vector<Target>& targets() const { return targets_; }
  [[nodiscard]] const ChoiceSettings& settings() const { return settings_; }

 private:
  struct Answer {
    Nanos until = 0;
    std::uint32_t first = 0;
  };

  ChoiceSettings settings_;
  std::vector<Target> targets_;
  std::vector<Answer> cached_;  ///< by sender
  std::uint32_t rotation_ = 0;
  Random random_{1};
};

}  // namespace poise::loadgen
