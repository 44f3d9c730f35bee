#include "loadgen/client/message.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <random>

#include "loadgen/text/body.h"
#include "loadgen/text/random.h"
#include "loadgen/text/words.h"
#include "mail/dot_stuffing.h"

namespace poise::loadgen {

MessageMaker::MessageMaker(std::string run, std::vector<SizeClass> sizes, const std::string& sender,
                           const std::string& recipient)
    : run_(std::move(run)) {
  fixed_header_ = fmt::format(
      "Date: {:%a, %d %b %Y %H:%M:%S} +0000\r\nFrom: <{}>\r\nTo: <{}>\r\nSubject: poise-load run "
      "{}\r\nMIME-Version: 1.0\r\n"
      "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n",
      fmt::gmtime(std::time(nullptr)), sender, recipient, run_);
  std::string header;
  next(header);
  made_ = 0;
  double weights = 0;
  for (const SizeClass& one : sizes) weights += one.weight;
  double sum = 0;
  for (const SizeClass& one : sizes) {
    body_bytes_.push_back(one.bytes > header.size() ? one.bytes - header.size() : 0);
    sum += one.weight;
    up_to_.push_back(sum / weights);
    std::string& body = bodies_.emplace_back();
    mail::append_stuffed(make_text(0, body_bytes_.back()), body);
    body += mail::kFinalDot;
  }
}

std::string MessageMaker::next(std::string& header, std::string again) {
  std::string id = again.empty() ? fmt::format("{}-{}", run_, ++made_) : std::move(again);
  // The id comes first: a server that counts need look no further.
  fmt::format_to(std::back_inserter(header), "{}: {}\r\nMessage-ID: <{}@poise-load.test>\r\n",
                 kIdHeader, id, id);
  header += fixed_header_;
  return id;
}

std::size_t MessageMaker::class_of(std::string_view id) const {
  if (bodies_.size() == 1) return 0;
  const auto number = parse_number(id.substr(id.rfind('-') + 1));
  Random random(number.value_or(0));
  const auto found = std::upper_bound(up_to_.begin(), up_to_.end(), random.share());
  return std::min<std::size_t>(static_cast<std::size_t>(found - up_to_.begin()),
                               bodies_.size() - 1);
}

std::string_view MessageMaker::body(std::string_view id) const {
  return bodies_[class_of(id)];
}

std::string_view MessageMaker::plain_body(std::string_view id) {
  if (plain_.empty()) {
    for (const std::size_t bytes : body_bytes_) plain_.push_back(make_text(0, bytes));
  }
  return plain_[class_of(id)];
}

std::string random_run_id() {
  return fmt::format("{:08x}", std::random_device{}());
}

}  // namespace poise::loadgen
