#include "log/recent.h"

#include <algorithm>

#include "log/escape.h"

namespace poise::log {
namespace {

RecentSession copy_of(const SessionEnd& end, const NameTable& names) {
  const SessionRecord& record = end.record;
  RecentSession session;
  session.id = record.id;
  session.ended_unix_us = record.ended_unix_us;
  session.client = record.client;
  session.service = names.service(record.service);
  session.total_seconds = static_cast<double>(record.total_us) / 1e6;
  if (record.close_reason == CloseReason::refused)
    session.reason = name_of(record.refusal);
  else if (record.backend)
    session.backend = names.backend(record.backend);
  for (const TryRecord& each : record.tries) {
    RecentSession::Try& out = session.tries.emplace_back();
    out.backend = names.backend(each.backend);
    out.outcome = name_of(each.outcome);
    const auto length = std::find(each.words.begin(), each.words.end(), '\0') - each.words.begin();
    escape({each.words.data(), static_cast<std::size_t>(length)}, Escape::line,
           [&out](std::string_view piece) { out.words += piece; });
  }
  return session;
}

void keep(std::deque<RecentSession>& list, RecentSession session) {
  if (list.size() == Recent::kMax) list.pop_front();
  list.push_back(std::move(session));
}

}  // namespace

void Recent::see(const SessionEnd& end, const NameTable& names) {
  const bool refused = end.record.close_reason == CloseReason::refused;
  const bool retried =
      std::any_of(end.record.tries.begin(), end.record.tries.end(),
                  [](const TryRecord& each) { return each.outcome != TryOutcome::ok; });
  if (!refused && !retried) return;
  RecentSession session = copy_of(end, names);
  const std::lock_guard lock(mutex_);
  if (retried) keep(retries_, session);
  if (refused) keep(refusals_, std::move(session));
}

std::vector<RecentSession> Recent::refusals() const {
  const std::lock_guard lock(mutex_);
  return {refusals_.begin(), refusals_.end()};
}

std::vector<RecentSession> Recent::retries() const {
  const std::lock_guard lock(mutex_);
  return {retries_.begin(), retries_.end()};
}

}  // namespace poise::log
