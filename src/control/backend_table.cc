#include "control/backend_table.h"

#include <utility>

namespace poise::control {

std::string_view BackendStatus::state() const {
  if (admin.admin != Admin::enabled) return name_of(admin.admin);
  return name_of(health);
}

BackendStatus& BackendTable::at(BackendId id) {
  if (id.value >= backends_.size()) backends_.resize(id.value + 1);
  backends_[id.value].id = id;
  return backends_[id.value];
}

void BackendTable::unconfigure() {
  for (BackendStatus& each : backends_) each.configured = false;
}

void BackendTable::configure(BackendStatus& backend) {
  backend.configured = true;
  by_path_[backend.path()] = backend.id;
}

const BackendStatus* BackendTable::find(std::string_view path) const {
  const auto at = by_path_.find(path);
  if (at == by_path_.end() || !backends_[at->second.value].configured) return nullptr;
  return &backends_[at->second.value];
}

BackendStatus* BackendTable::find(std::string_view path) {
  const BackendStatus* const found = std::as_const(*this).find(path);
  return found == nullptr ? nullptr : &backends_[found->id.value];
}

}  // namespace poise::control
