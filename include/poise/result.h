#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace poise {

/// What went wrong during set-up or control: `where` names the thing ("listener [::]:25",
/// "/pools/0/backends/1/address"), `what` says what is wrong and, where we know, what to do.
struct Error {
  std::string where;
  std::string what;

  [[nodiscard]] std::string text() const { return where.empty() ? what : where + ": " + what; }
};

/// A value or an Error. For set-up and control only; the data path handles a negative result where
/// it arrives. Dereferencing a failed Result is our own bug and ends in std::bad_variant_access.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}      // NOLINT: conversions are the point
  Result(Error error) : state_(std::move(error)) {}  // NOLINT

  explicit operator bool() const { return state_.index() == 0; }
  T& operator*() { return std::get<0>(state_); }
  const T& operator*() const { return std::get<0>(state_); }
  T* operator->() { return &std::get<0>(state_); }
  const T* operator->() const { return &std::get<0>(state_); }
  [[nodiscard]] const Error& error() const { return std::get<1>(state_); }

 private:
  std::variant<T, Error> state_;
};

/// Success without a value, or an Error.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT

  explicit operator bool() const { return !error_; }
  [[nodiscard]] const Error& error() const { return *error_; }

 private:
  std::optional<Error> error_;
};

}  // namespace poise
