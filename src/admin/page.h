#pragma once

#include <string>

namespace poise::admin {

/// The status page: page.html, which reads /api and draws itself. Nothing comes from elsewhere.
const std::string& page();

}  // namespace poise::admin
