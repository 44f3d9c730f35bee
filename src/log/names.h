#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "poise/ids.h"

namespace poise::log {

/// The names behind the ids in records. Append-only: ids are never reused, a name stays until the
/// table dies, so readers on any thread need no lock and keep the views they got. Setting (control
/// thread, before any worker can log the id) is serialised by a mutex.
///
/// A name is kept as a log line shows it: bytes that would end a word there (control bytes, space,
/// quote, comma, '=', backslash, what is not UTF-8) are escaped as \xNN, and it is cut at
/// kNameBytesMax.
class NameTable {
 public:
  static constexpr std::size_t kNameBytesMax = 128;

  NameTable() = default;
  NameTable(const NameTable&) = delete;
  NameTable& operator=(const NameTable&) = delete;
  ~NameTable();

  void set_service(ServiceId id, std::string_view name);
  void set_backend(BackendId id, std::string_view pool, std::string_view name);

  /// "-" for no id, "?" for one never set.
  [[nodiscard]] std::string_view service(ServiceId id) const noexcept {
    return services_.find(id.value).name;
  }
  [[nodiscard]] std::string_view backend(BackendId id) const noexcept {
    return backends_.find(id.value).name;
  }

  /// "pool/name", as commands and events say it.
  [[nodiscard]] std::string_view backend_path(BackendId id) const noexcept {
    return backends_.find(id.value).path;
  }

 private:
  struct Entry {
    std::string name;
    std::string path;
  };
  struct Views {
    std::string_view name;
    std::string_view path;
  };

  /// id -> Entry in blocks that never move. A million ids; those beyond (many thousand reloads that
  /// change everything) are logged as "?".
  class Column {
   public:
    ~Column();
    void set(std::uint32_t id, const Entry* entry);
    [[nodiscard]] Views find(std::uint32_t id) const noexcept;

   private:
    static constexpr std::size_t kBlockIds = 1024;
    using Block = std::array<std::atomic<const Entry*>, kBlockIds>;
    std::array<std::atomic<Block*>, 1024> blocks_{};
  };

  void set(Column& column, std::uint32_t id, Entry entry);

  std::mutex mutex_;  ///< between setters
  std::vector<std::unique_ptr<Entry>>
      entries_;  ///< all ever set: a reader may hold a view of a replaced one
  Column services_;
  Column backends_;
};

}  // namespace poise::log
