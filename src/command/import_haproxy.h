#pragma once

#include <string_view>

#include "command/importer.h"
#include "poise/result.h"

namespace poise {

/// An haproxy.cfg (docs.haproxy.org/2.6/configuration.html) as far as it is about TCP: `defaults`,
/// `listen`, `frontend` with `default_backend`, `backend`. Everything that has no counterpart is in
/// Imported::left_out with its line. `file` names it in messages. An error when nothing is left to
/// serve. Pure.
Result<Imported> import_haproxy(std::string_view text, std::string_view file);

}  // namespace poise
