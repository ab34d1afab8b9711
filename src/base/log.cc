#include "base/log.h"

namespace ashlar {
namespace {

LogSink& sink() {
  static LogSink the_sink;
  return the_sink;
}

}  // namespace

void set_log_sink(LogSink new_sink) { sink() = std::move(new_sink); }

void log_text(LogLevel level, const std::string& text) {
  if (sink()) sink()(level, text);
}

}  // namespace ashlar
