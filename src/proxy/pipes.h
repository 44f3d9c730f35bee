#pragma once

#include <cstdint>
#include <vector>

#include "io/io.h"

namespace poise::proxy {

/// The pipes that directions in bulk borrow.
class PipePool {
 public:
  static constexpr std::uint16_t kNone = 0xffff;

  PipePool(io::Io& io, std::uint32_t pipes_max) : io_(io), pipes_max_(pipes_max) {}
  ~PipePool();
  PipePool(const PipePool&) = delete;
  PipePool& operator=(const PipePool&) = delete;

  /// kNone when all are lent or none can be made.
  std::uint16_t take();
  /// A pipe that still holds bytes is closed and made anew when next needed.
  void give_back(std::uint16_t pipe, bool empty);
  [[nodiscard]] const io::Pipe& operator[](std::uint16_t pipe) const { return pipes_[pipe]; }
  [[nodiscard]] std::size_t lent() const { return pipes_.size() - free_.size(); }

 private:
  io::Io& io_;
  std::uint32_t pipes_max_;
  std::vector<io::Pipe> pipes_;
  std::vector<std::uint16_t> free_;
};

}  // namespace poise::proxy
