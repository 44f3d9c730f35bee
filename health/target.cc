#include "health/target.h"

namespace poise::health {

ProbeRequest probe_request(const Target& target, Tier tier) {
  const config::Probe& probe = target.probe;
  ProbeRequest request;
  request.address = target.address;
  request.type = probe.type;
  request.tls = probe.tls;
  if (tier == Tier::cheap && target.probed_deep() && probe.tls == config::ProbeTls::starttls)
    request.tls = config::ProbeTls::none;
  request.sni = probe.sni;
  request.verify = probe.verify;
  request.ca_file = probe.ca_file;
  switch (probe.send_proxy) {
    case config::ProbeSendProxy::off:
      request.send_proxy = config::SendProxy::off;
      break;
    case config::ProbeSendProxy::v1:
      request.send_proxy = config::SendProxy::v1;
      break;
    case config::ProbeSendProxy::v2:
      request.send_proxy = config::SendProxy::v2;
      break;
    case config::ProbeSendProxy::as_traffic:
      request.send_proxy = target.send_proxy;
      break;
  }
  request.deep = tier == Tier::deep;
  if (request.deep) {
    request.steps.ehlo = probe.deep.ehlo;
    request.steps.rcpt = probe.deep.rcpt;
    request.steps.login_user = probe.deep.login_user;
    request.steps.login_password = target.login_password;
  }
  request.hostname = target.hostname;
  request.source_address = target.source_address;
  request.timeout = probe.timeout;
  return request;
}

}  // namespace poise::health
