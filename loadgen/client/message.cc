#include "loadgen/client/message.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>
#include <random>

#include "loadgen/text/body.h"
#include "mail/dot_stuffing.h"

namespace poise::loadgen {

MessageMaker::MessageMaker(std::string run, std::size_t bytes, std::string sender,
                           std::string recipient)
    : run_(std::move(run)) {
  fixed_header_ = fmt::format(
      "Date: {:%a, %d %b %Y %H:%M:%S} +0000\r\nFrom: <{}>\r\nTo: <{}>\r\nSubject: poise-load run "
      "{}\r\nMIME-Version: 1.0\r\n"
      "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n",
      fmt::gmtime(std::time(nullptr)), sender, recipient, run_);
  std::string header;
  next(header);
  made_ = 0;
  const std::size_t body = bytes > header.size() ? bytes - header.size() : 0;
  mail::append_stuffed(make_text(0, body), body_);
  body_ += mail::kFinalDot;
}

std::string MessageMaker::next(std::string& header) {
  std::string id = fmt::format("{}-{}", run_, ++made_);
  // The id comes first: a server that counts need look no further.
  fmt::format_to(std::back_inserter(header), "{}: {}\r\nMessage-ID: <{}@poise-load.test>\r\n",
                 kIdHeader, id, id);
  header += fixed_header_;
  return id;
}

std::string random_run_id() {
  return fmt::format("{:08x}", std::random_device{}());
}

}  // namespace poise::loadgen
