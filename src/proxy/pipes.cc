#include "proxy/pipes.h"

namespace poise::proxy {

PipePool::~PipePool() {
  for (const io::Pipe& pipe : pipes_)
    if (pipe.read_end >= 0) io_.close_pipe(pipe);
}

std::uint16_t PipePool::take() {
  if (free_.empty()) {
    if (pipes_.size() >= pipes_max_) return kNone;
    pipes_.emplace_back();
    free_.push_back(static_cast<std::uint16_t>(pipes_.size() - 1));
  }
  const std::uint16_t pipe = free_.back();
  if (pipes_[pipe].read_end < 0 && !io_.open_pipe(pipes_[pipe])) return kNone;
  free_.pop_back();
  return pipe;
}

void PipePool::give_back(std::uint16_t pipe, bool empty) {
  if (!empty) {
    io_.close_pipe(pipes_[pipe]);
    pipes_[pipe] = io::Pipe{};
  }
  free_.push_back(pipe);
}

}  // namespace poise::proxy
