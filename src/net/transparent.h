#pragma once

#include "poise/address.h"
#include "poise/result.h"

/// Transparent proxying ("source_address": "client"): what the machine must allow and route for it.
/// Asks the kernel, changes nothing. Any thread; at start, each call takes some microseconds.
namespace poise::net {

/// May this process send from addresses that are not its own? Needs CAP_NET_RAW or CAP_NET_ADMIN.
Result<void> check_transparent();

/// Would what `server` answers to a client's own address come to us? Two things are needed: the
/// server sends it through this machine (which cannot be seen from here), and this machine takes it
/// for its own: a rule that sends packets from the server's port to a table whose only route is
/// "local" (rtnetlink(7), ip-rule(8)). The error says the commands.
Result<void> check_return_route(const Address& server);

}  // namespace poise::net
