#pragma once

// The one log sink. Rooms below cli and server print nothing; they log here, and `main` decides
// where it goes. The sink is the program's only global, set once before any thread starts.

#include <functional>
#include <string>

#include "base/text.h"

namespace ashlar {

enum class LogLevel { info, warning };
using LogSink = std::function<void(LogLevel, const std::string& text)>;

// Not thread-safe: call once, first thing in main. Without a sink, messages are dropped.
void set_log_sink(LogSink sink);

// Thread-safe when the sink is.
void log_text(LogLevel level, const std::string& text);

template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_text(LogLevel::info, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_text(LogLevel::warning, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace ashlar
