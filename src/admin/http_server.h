#pragma once

#include <string>

#include "admin/requests.h"
#include "log/log.h"
#include "poise/address.h"
#include "poise/result.h"

struct mg_context;
struct mg_connection;

namespace poise::admin {

/// HTTP for people and monitoring: GET / (the status page), /metrics, /api/..., /-/healthy,
/// /-/ready. Reads only, asks nobody for a password: the address decides who sees it. civetweb's
/// few threads wait for control's answers; none of them does work.
class HttpServer {
 public:
  HttpServer(Requests& requests, log::Log& log) : requests_(requests), log_(log) {}
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  /// Port 0 is allowed; the log says which one it became.
  Result<void> start(const Address& address);

 private:
  static int on_request(mg_connection* connection, void* self);
  int answer(mg_connection* connection);
  [[nodiscard]] Json ask(Json request);

  Requests& requests_;
  log::Log& log_;
  mg_context* context_ = nullptr;
  std::string last_error_;  ///< what civetweb said while starting
};

}  // namespace poise::admin
