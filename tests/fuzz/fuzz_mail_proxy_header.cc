// Any bytes as the beginning of a connection that may carry a PROXY header: bounded, decided once
// for all, and what was read can be built again.
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "mail/proxy_header.h"
#include "poise/check.h"

namespace {

using poise::mail::ProxyHeader;
using poise::mail::ProxyHeaderStatus;

/// Both versions say the same of these addresses.
void build_and_parse(const ProxyHeader& header) {
  std::array<char, poise::mail::kProxyBuiltBytesMax> out;
  std::size_t length = poise::mail::build_proxy_v1(out, header.source, header.destination);
  CHECK(length <= poise::mail::kProxyV1BytesMax);
  const bool one_family = header.source.family == header.destination.family;
  ProxyHeader again = poise::mail::parse_proxy_header({out.data(), length});
  CHECK(again.status == ProxyHeaderStatus::complete && again.length == length);
  CHECK(again.source == header.source);
  CHECK(!one_family || again.destination == header.destination);
  length = poise::mail::build_proxy_v2(out, header.source, header.destination, header.unique_id);
  again = poise::mail::parse_proxy_header({out.data(), length});
  CHECK(again.status == ProxyHeaderStatus::complete && again.length == length);
  CHECK(again.source == header.source && again.unique_id == header.unique_id);
  CHECK(!one_family || again.destination == header.destination);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view received(reinterpret_cast<const char*>(data), size);
  const ProxyHeader whole = poise::mail::parse_proxy_header(received);
  if (whole.status == ProxyHeaderStatus::need_more) CHECK(size < poise::mail::kProxyV2BytesMax);
  if (whole.status == ProxyHeaderStatus::malformed) CHECK(whole.reason[0] != 0);
  if (whole.status == ProxyHeaderStatus::complete) {
    CHECK(whole.length <= size && whole.length <= poise::mail::kProxyV2BytesMax);
    CHECK(whole.source.family == 0 ? whole.destination.family == 0 : bool(whole.destination));
    if (whole.source) build_and_parse(whole);
  }
  bool decided = false;
  for (std::size_t have = 0; have <= size; ++have) {
    const ProxyHeader part = poise::mail::parse_proxy_header(received.substr(0, have));
    if (part.status == ProxyHeaderStatus::need_more) {
      CHECK(!decided);
      continue;
    }
    decided = true;
    CHECK(part.status == whole.status && part.length == whole.length);
    CHECK(part.source == whole.source && part.destination == whole.destination);
  }
  return 0;
}
