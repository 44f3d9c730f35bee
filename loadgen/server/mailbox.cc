#include "loadgen/server/mailbox.h"

#include <fmt/format.h>

#include <algorithm>

#include "loadgen/text/body.h"
#include "mail/dot_stuffing.h"

namespace poise::loadgen {
Mailbox::Mailbox(std::size_t count, std::size_t message_bytes) {
  messages_.reserve(count);
  for (std::size_t at = 0; at < count; ++at) {
    Message message;
    message.uid = static_cast<std::uint32_t>(at + 1);
    message.subject = fmt::format("Message {}", at + 1);
    message.message_id = fmt::format("<{}.mailbox@poise-load.test>", at + 1);
    message.text = fmt::format(
        "Date: {}\r\nFrom: Sender <sender@poise-load.test>\r\nTo: user@poise-load.test\r\nSubject: "
        "{}\r\nMessage-ID: {}\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; "
        "charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n",
        kDate, message.subject, message.message_id);
    message.header_bytes = message.text.size();
    const std::size_t body =
        std::max<std::size_t>(message_bytes, message.header_bytes + 2) - message.header_bytes;
    message.text += make_text(at + 1, body);
    mail::append_stuffed(message.text, message.stuffed);
    message.stuffed += mail::kFinalDot;
    messages_.push_back(std::move(message));
  }
}

}  // namespace poise::loadgen
