#include "admin/http_server.h"

#include <civetweb.h>
#include <fmt/format.h>

#include <array>
#include <cstring>
#include <functional>
#include <future>
#include <memory>
#include <optional>

#include "admin/page.h"
#include "metrics/expose.h"

namespace poise::admin {
namespace {

/// How long control may take; it answers in a millisecond, and not at all when it has ended.
constexpr std::chrono::seconds kPatience{10};

/// What a browser may do with our pages: show them, and nothing from elsewhere.
constexpr const char* kSecurityHeaders =
    "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; script-src "
    "'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "Cache-Control: no-store\r\n";

struct Reply {
  int status = 200;
  std::string type = "text/plain; charset=utf-8";
  std::string body{};
  std::string more_headers{};
};

const char* words_of(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    default:
      return "Service Unavailable";
  }
}

int send(mg_connection* connection, const Reply& reply, bool head) {
  mg_printf(connection,
            "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s%sConnection: "
            "close\r\n\r\n",
            reply.status, words_of(reply.status), reply.type.c_str(), reply.body.size(),
            kSecurityHeaders, reply.more_headers.c_str());
  if (!head) mg_write(connection, reply.body.data(), reply.body.size());
  return reply.status;
}

/// Of the query "a=b&c=d"; empty when it isn't there.
std::string parameter(const mg_request_info& info, const char* name) {
  std::array<char, 256> value{};
  if (info.query_string == nullptr) return {};
  const int length = mg_get_var(info.query_string, std::strlen(info.query_string), name,
                                value.data(), value.size());
  return length > 0 ? std::string(value.data(), static_cast<std::size_t>(length)) : "";
}

/// The request behind a path under /api/.
std::optional<Json> request_for(std::string_view path, const mg_request_info& info) {
  for (const char* command : {"status", "doctor", "history"})
    if (path == command) return Json{{"command", command}};
  for (const char* view : {"services", "backends", "refusals", "retries", "bans", "config"})
    if (path == view) return Json{{"command", fmt::format("show {}", view)}};
  if (path == "events") return Json{{"command", "events"}, {"since", parameter(info, "since")}};
  if (path == "sessions" || path == "sticky")
    return Json{{"command", fmt::format("show {}", path)},
                {"service", parameter(info, "service")},
                {"backend", parameter(info, "backend")},
                {"source", parameter(info, "source")}};
  if (path == "why")
    return Json{{"command", "why"},
                {"service", parameter(info, "service")},
                {"address", parameter(info, "address")}};
  return std::nullopt;
}

/// What `begin` has control hand to the function it is given; waits for it.
template <class T>
Result<T> from_control(const std::function<void(std::function<void(T)>)>& begin) {
  auto promise = std::make_shared<std::promise<T>>();
  auto future = promise->get_future();
  begin([promise](T value) { promise->set_value(std::move(value)); });
  promise.reset();  // else a request dropped by control would be waited for
  if (future.wait_for(kPatience) != std::future_status::ready)
    return Error{"", "control does not answer"};
  try {
    return future.get();
  } catch (const std::future_error&) {
    return Error{"", "poised is stopping"};
  }
}

}  // namespace

HttpServer::~HttpServer() {
  if (context_ != nullptr) mg_stop(context_);
}

Result<void> HttpServer::start(const Address& address) {
  const std::string where = address.text();
  const std::array<const char*, 13> options{"listening_ports",
                                            where.c_str(),
                                            "num_threads",
                                            "4",
                                            "request_timeout_ms",
                                            "10000",
                                            "max_request_size",
                                            "16384",
                                            "enable_keep_alive",
                                            "no",
                                            "connection_queue",
                                            "32",
                                            nullptr};
  mg_callbacks callbacks{};
  callbacks.log_message = [](const mg_connection* connection, const char* message) {
    // A client that hangs up is no news; what start() needs comes through the error data.
    static_cast<void>(connection);
    static_cast<void>(message);
    return 1;
  };
  std::array<char, 256> text{};
  mg_init_data init{};
  init.callbacks = &callbacks;
  init.user_data = this;
  init.configuration_options = const_cast<const char**>(options.data());
  mg_error_data error{};
  error.text = text.data();
  error.text_buffer_size = text.size();
  context_ = mg_start2(&init, &error);
  if (context_ == nullptr)
    return Error{"admin.http " + where,
                 fmt::format("cannot listen there: {}; set \"admin\": {{\"http\": ...}} to another "
                             "address or \"off\"",
                             text[0] != '\0' ? text.data() : "is it in use?")};
  mg_set_request_handler(context_, "/", &HttpServer::on_request, this);
  std::array<mg_server_port, 4> ports{};
  Address bound = address;
  if (mg_get_server_ports(context_, static_cast<int>(ports.size()), ports.data()) > 0)
    bound.port = static_cast<std::uint16_t>(ports[0].port);
  log_.message(config::LogLevel::info, "http address={} (status page, /metrics, /api)",
               bound.text());
  return {};
}

int HttpServer::on_request(mg_connection* connection, void* self) {
  return static_cast<HttpServer*>(self)->answer(connection);
}

Json HttpServer::ask(Json request) {
  auto answer = from_control<Json>([&](std::function<void(Json)> give) {
    requests_.handle(request, Caller{.user = "http", .admin = false}, std::move(give));
  });
  if (!answer) return {{"ok", false}, {"error", answer.error().what}, {"code", 3}};
  return std::move(*answer);
}

int HttpServer::answer(mg_connection* connection) {
  const mg_request_info& info = *mg_get_request_info(connection);
  const std::string_view method = info.request_method, path = info.local_uri;
  const bool head = method == "HEAD";
  if (method != "GET" && !head)
    return send(
        connection,
        {.status = 405, .body = "these pages only read\n", .more_headers = "Allow: GET, HEAD\r\n"},
        false);
  Reply reply;
  constexpr std::string_view kApi = "/api/";
  if (path == "/") {
    reply.type = "text/html; charset=utf-8";
    reply.body = page();
  } else if (path == "/metrics") {
    auto facts = from_control<metrics::Facts>([this](std::function<void(metrics::Facts)> give) {
      requests_.control().ask(
          [give = std::move(give)](control::Commands& commands) { give(commands.facts()); });
    });
    if (!facts) return send(connection, {.status = 503, .body = facts.error().what + "\n"}, head);
    reply.type = metrics::kContentType;
    reply.body = metrics::expose(*facts);
  } else if (path == "/-/healthy" || path == "/-/ready") {
    const Json status = ask({{"command", "status"}});
    const bool answers = status["ok"].get<bool>();
    const bool ready = answers && !status["result"]["stopping"].get<bool>();
    reply.status = (path == "/-/healthy" ? answers : ready) ? 200 : 503;
    reply.body = answers ? status["result"]["sentence"].get<std::string>() + "\n"
                         : status["error"].get<std::string>() + "\n";
  } else if (path.substr(0, kApi.size()) == kApi) {
    const auto request = request_for(path.substr(kApi.size()), info);
    reply.type = "application/json";
    if (!request) {
      reply.status = 404;
      reply.body = text_of({{"error", "no such thing under /api"}});
    } else if (const Json answer = ask(*request); answer["ok"].get<bool>()) {
      reply.body = text_of(answer["result"]);
    } else {
      reply.status = answer["code"] == 3 ? 503 : 400;
      reply.body = text_of({{"error", answer["error"]}});
    }
    reply.body += '\n';
  } else {
    reply.status = 404;
    reply.body = "not found; there are /, /metrics, /api/..., /-/healthy and /-/ready\n";
  }
  return send(connection, reply, head);
}

}  // namespace poise::admin
