#include "control/backend_table.h"

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

BackendStatus* BackendTable::find(std::string_view path) {
  for (BackendStatus& each : backends_)
    if (each.configured && each.path() == path) return &each;
  return nullptr;
}

}  // namespace poise::control
