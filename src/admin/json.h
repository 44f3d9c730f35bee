#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

#include "control/bans.h"
#include "control/events.h"
#include "control/views.h"
#include "log/recent.h"

/// Control's answers as JSON: the shapes that `poisectl --json` prints and /api answers with. Times
/// are RFC 3339, durations seconds, counts numbers.
namespace poise::admin {

using Json = nlohmann::ordered_json;

Json to_json(const control::BackendView& view);
Json to_json(const control::ServiceView& view);
Json to_json(const control::HistoryView& view);
Json to_json(const control::SessionList& list);
Json to_json(const control::Event& event);
Json to_json(const control::PairView& view);
Json to_json(const control::PairDifference& difference);
Json to_json(const control::StatusView& view);
Json to_json(const control::WhyView& view);
Json to_json(const control::StickyList& list);
Json to_json(const control::Ban& ban);
/// The members of `poised --probe --json`.
Json to_json(const control::ProbeView& view);
Json to_json(const control::HeadersView& view);
Json to_json(const control::Finding& finding);
Json to_json(const control::ReloadView& view);
Json to_json(const log::RecentSession& session);

template <class T>
Json to_json(const std::vector<T>& views) {
  Json list = Json::array();
  for (const T& each : views) list.push_back(to_json(each));
  return list;
}

/// One line; what is not UTF-8 (an operator's words from a terminal) is replaced.
std::string text_of(const Json& json);

/// "2026-11-21T18:50:17Z"; null for no time.
Json time_of(control::WallTime time);

}  // namespace poise::admin
