#pragma once

#include <string>

#include "ctl/client.h"
#include "ctl/table.h"

/// The daemon's answers as a person reads them. Pure.
namespace poise::ctl {

std::string show_status(const Json& status, const Screen& screen);
std::string show_services(const Json& services, const Screen& screen);
std::string show_backends(const Json& backends, const Screen& screen);
std::string show_sessions(const Json& list, const Screen& screen);
/// Refusals and retries.
std::string show_troubled(const Json& sessions, const Screen& screen);
std::string show_events(const Json& events, const Screen& screen);
std::string show_why(const Json& why, const Screen& screen);
std::string show_sticky(const Json& list, const Screen& screen);
std::string show_bans(const Json& bans, const Screen& screen);
std::string show_probe(const Json& probe, const Screen& screen);
/// Which PROXY headers each backend of a pool takes.
std::string show_headers(const Json& backends, const Screen& screen);
std::string show_pair(const Json& pair, const Screen& screen);
std::string show_pair_difference(const Json& difference);
std::string show_doctor(const Json& findings, const Screen& screen);
std::string show_reload(const Json& reload, bool dry_run, const Screen& screen);
/// A list of sentences, or anything else as JSON.
std::string show_said(const Json& said);

[[nodiscard]] Colour colour_of_state(const std::string& state);

}  // namespace poise::ctl
