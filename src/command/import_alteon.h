#pragma once

#include <string_view>

#include "command/importer.h"
#include "poise/result.h"

namespace poise {

/// The /c/slb part of an Alteon dump (/cfg/dump of Web OS and Alteon OS): real, group and virt with
/// its services. Everything that has no counterpart is in Imported::left_out with its line. `file`
/// names it in messages. An error when nothing is left to serve. Pure.
Result<Imported> import_alteon(std::string_view text, std::string_view file);

}  // namespace poise
