#include "log/names.h"

#include "log/escape.h"

namespace poise::log {

namespace {

std::string as_word(std::string_view name) {
  std::string word;
  bool cut = false;
  escape(name, Escape::word, [&](std::string_view piece) {
    cut = cut || word.size() + piece.size() > NameTable::kNameBytesMax;
    if (!cut) word.append(piece);
  });
  return word.empty() ? "-" : word;
}

}  // namespace

NameTable::Column::~Column() {
  for (std::atomic<Block*>& block : blocks_) delete block.load(std::memory_order_relaxed);
}

void NameTable::Column::set(std::uint32_t id, const Entry* entry) {
  const std::size_t index = id / kBlockIds;
  if (index >= blocks_.size()) return;
  Block* block = blocks_[index].load(std::memory_order_relaxed);
  if (block == nullptr) {
    block = new Block{};
    blocks_[index].store(block, std::memory_order_release);
  }
  (*block)[id % kBlockIds].store(entry, std::memory_order_release);
}

NameTable::Views NameTable::Column::find(std::uint32_t id) const noexcept {
  if (id == UINT32_MAX) return {"-", "-"};
  const std::size_t index = id / kBlockIds;
  const Block* block =
      index < blocks_.size() ? blocks_[index].load(std::memory_order_acquire) : nullptr;
  const Entry* entry =
      block != nullptr ? (*block)[id % kBlockIds].load(std::memory_order_acquire) : nullptr;
  if (entry == nullptr) return {"?", "?"};
  return {entry->name, entry->path};
}

NameTable::~NameTable() = default;

void NameTable::set_service(ServiceId id, std::string_view name) {
  set(services_, id.value, {as_word(name), as_word(name)});
}

void NameTable::set_backend(BackendId id, std::string_view pool, std::string_view name) {
  const std::string word = as_word(name);
  set(backends_, id.value, {word, as_word(pool) + "/" + word});
}

void NameTable::set(Column& column, std::uint32_t id, Entry entry) {
  const std::lock_guard lock(mutex_);
  // A reload sets what it keeps once more; only a change costs memory.
  const Views now = column.find(id);
  if (now.name == entry.name && now.path == entry.path) return;
  entries_.push_back(std::make_unique<Entry>(std::move(entry)));
  column.set(id, entries_.back().get());
}

}  // namespace poise::log
