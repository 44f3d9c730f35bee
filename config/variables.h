#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "config/document.h"
#include "config/problem.h"

/// One file for both boxes of a pair: where a value differs the file says ${name}, and each of
/// "pair" / "nodes" has its own "variables". ${node} is the box's name. Without a pair ${...} is a
/// text like any other.
namespace poise::config {

/// Which of the nodes is called `name`, or is when `name` is cut at its first dot; nodes.size()
/// when none is.
std::size_t own_node(const Node& root, std::string_view name);

/// Puts the values of node `own` in place of every ${name} in the file's strings.
void substitute_variables(Node& root, std::size_t own, Problems& problems);

}  // namespace poise::config
