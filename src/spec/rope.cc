#include "spec/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace ashlar {
namespace {

// Long wavelengths are stretched by `factor`, short ones kept, a band between them blended.
Status scale_llama3(const ConfigReader& keys, std::vector<float>* inv_freq) {
  TRY(const double factor, keys.number("factor"));
  TRY(const double low, keys.number("low_freq_factor"));
  TRY(const double high, keys.number("high_freq_factor"));
  TRY(const int32_t original, keys.integer("original_max_position_embeddings"));
  if (!(factor >= 1)) return keys.reject("factor", "must be at least 1");
  if (!(low > 0)) return keys.reject("low_freq_factor", "must exceed 0");
  if (!(high > low)) return keys.reject("high_freq_factor", "must exceed low_freq_factor");
  for (float& frequency : *inv_freq) {
    const double wavelength = 2 * std::numbers::pi / frequency;
    if (wavelength < original / high) continue;
    const double keep =
        wavelength > original / low ? 0 : (original / wavelength - low) / (high - low);
    frequency = static_cast<float>((1 - keep) * frequency / factor + keep * frequency);
  }
  return {};
}

// YaRN: dims that turn more than beta_fast times over the original length keep their frequency,
// those that turn less than beta_slow times are stretched, a linear ramp between.
Status scale_yarn(const ConfigReader& keys, double theta, int32_t dim, int32_t max_positions,
                  RopeSpec* rope) {
  TRY(const double factor, keys.number("factor"));
  TRY(const double fast, keys.number_or("beta_fast", 32));
  TRY(const double slow, keys.number_or("beta_slow", 1));
  TRY(const int32_t original, keys.integer_or("original_max_position_embeddings", max_positions));
  TRY(const bool truncate, keys.boolean_or("truncate", true));
  if (!(factor >= 1)) return keys.reject("factor", "must be at least 1");
  if (!(slow > 0)) return keys.reject("beta_slow", "must exceed 0");
  if (!(fast > 0)) return keys.reject("beta_fast", "must exceed 0");
  const auto dim_turning = [&](double turns) {
    return dim * std::log(original / (turns * 2 * std::numbers::pi)) / (2 * std::log(theta));
  };
  double low = dim_turning(fast), high = dim_turning(slow);
  if (truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0), high = std::min(high, dim - 1.0);
  if (low == high) high += 0.001;
  for (size_t i = 0; i < rope->inv_freq.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    const double frequency = rope->inv_freq[i];
    rope->inv_freq[i] = static_cast<float>(frequency / factor * ramp + frequency * (1 - ramp));
  }
  const auto magnitude = [&](double m) {
    return factor <= 1 ? 1.0 : 0.1 * m * std::log(factor) + 1.0;
  };
  TRY(const double mscale, keys.number_or("mscale", 0));
  TRY(const double mscale_all, keys.number_or("mscale_all_dim", 0));
  const double derived =
      mscale != 0 && mscale_all != 0 ? magnitude(mscale) / magnitude(mscale_all) : magnitude(1);
  TRY(const double amplitude, keys.number_or("attention_factor", derived));
  rope->amplitude = static_cast<float>(amplitude);
  return {};
}

struct Plain {
  double theta = 0;
  int32_t rotary_dim = 0;
};

Result<Plain> read_plain(const ConfigReader& keys, int32_t head_dim, double default_theta) {
  TRY(const double theta, keys.number_or("rope_theta", default_theta));
  TRY(const double fraction, keys.number_or("partial_rotary_factor", 1.0));
  if (!(theta > 1)) return keys.reject("rope_theta", "must exceed 1");
  if (!(fraction > 0 && fraction <= 1)) {
    return keys.reject("partial_rotary_factor", "must be in (0, 1]");
  }
  return Plain{theta, static_cast<int32_t>(head_dim * fraction)};
}

// `base` holds theta and the rotated part, `keys` the kind of scaling and its numbers.
Result<RopeSpec> read_scaled(const ConfigReader& base, const ConfigReader& keys, int32_t head_dim,
                             double default_theta, int32_t max_positions) {
  TRY(const Plain plain, read_plain(base, head_dim, default_theta));
  RopeSpec rope{.inv_freq = rope_frequencies(plain.theta, plain.rotary_dim)};
  const char* type_key = keys.has("rope_type") || !keys.has("type") ? "rope_type" : "type";
  TRY_STATUS(keys.require_text(type_key, "default", {"default", "linear", "llama3", "yarn"}));
  TRY(const std::string type, keys.text_or(type_key, "default"));
  if (type == "linear") {
    TRY(const double factor, keys.number("factor"));
    if (!(factor >= 1)) return keys.reject("factor", "must be at least 1");
    for (float& frequency : rope.inv_freq) frequency /= static_cast<float>(factor);
  } else if (type == "llama3") {
    TRY_STATUS(scale_llama3(keys, &rope.inv_freq));
  } else if (type == "yarn") {
    TRY_STATUS(scale_yarn(keys, plain.theta, plain.rotary_dim, max_positions, &rope));
  }
  return rope;
}

}  // namespace

std::vector<float> rope_frequencies(double theta, int32_t rotary_dim) {
  std::vector<float> inv_freq;
  for (int32_t i = 0; i < rotary_dim; i += 2) {
    const float exponent = static_cast<float>(i) / static_cast<float>(rotary_dim);
    inv_freq.push_back(1.0f / std::pow(static_cast<float>(theta), exponent));
  }
  return inv_freq;
}

Result<RopeSpec> read_rope(const ConfigReader& config, int32_t head_dim, double default_theta,
                           int32_t max_positions) {
  if (config.has("rope_parameters")) {
    TRY(const ConfigReader keys, config.object("rope_parameters"));
    return read_scaled(keys, keys, head_dim, default_theta, max_positions);
  }
  if (!config.has("rope_scaling")) {
    TRY(const Plain plain, read_plain(config, head_dim, default_theta));
    return RopeSpec{.inv_freq = rope_frequencies(plain.theta, plain.rotary_dim)};
  }
  TRY(const ConfigReader scaling, config.object("rope_scaling"));
  return read_scaled(config, scaling, head_dim, default_theta, max_positions);
}

Result<RopeSpec> read_rope_keys(const ConfigReader& keys, int32_t head_dim, double default_theta,
                                int32_t max_positions) {
  return read_scaled(keys, keys, head_dim, default_theta, max_positions);
}

}  // namespace ashlar
