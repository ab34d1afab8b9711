// The pool cache against the reference's own answers, recorded: every lookup, allocation and free.

#include "pool_cache.h"

#include <gtest/gtest.h>

#include <map>
#include <sstream>

#include "base/file.h"
#include "base/json.h"

namespace ashlar::reuse {
namespace {

int32_t integer(const Json& object, const char* key, int32_t fallback = 0) {
  const Json* value = object.find(key);
  return value == nullptr || value->is_null() ? fallback : static_cast<int32_t>(value->as_int());
}

std::vector<std::vector<int32_t>> lists(const Json& value) {
  std::vector<std::vector<int32_t>> out;
  for (const Json& list : value.as_array()) {
    out.emplace_back();
    for (const Json& id : list.as_array()) out.back().push_back(static_cast<int32_t>(id.as_int()));
  }
  return out;
}

// What the pool cache does not have is not played.
bool in_scope(const Json& config) {
  if (config.find("retention") != nullptr || config.find("use_eagle") != nullptr) return false;
  for (const Json& group : config.find("groups")->as_array()) {
    const std::string& kind = group.find("kind")->as_string();
    if (kind == "chunk") return false;
    if (kind == "mamba" && integer(group, "block_size") != integer(config, "hash_block_size"))
      return false;
  }
  return true;
}

PoolOptions read_options(const Json& config) {
  PoolOptions options;
  for (const Json& group : config.find("groups")->as_array()) {
    const std::string& kind = group.find("kind")->as_string();
    options.groups.push_back({.kind = kind == "swa"     ? UniformKind::window
                                      : kind == "mamba" ? UniformKind::state
                                                        : UniformKind::full,
                              .block_tokens = integer(group, "block_size"),
                              .window = integer(group, "window")});
  }
  options.n_blocks = integer(config, "num_blocks");
  options.max_model_len = integer(config, "max_model_len");
  options.max_in_flight = integer(config, "max_in_flight", options.max_model_len);
  options.schedule_tokens = integer(config, "scheduler_block_size");
  options.hash_tokens = integer(config, "hash_block_size");
  return options;
}

std::vector<int32_t> read_prompt(const Json& op) {
  std::vector<int32_t> tokens;
  for (const Json& segment : op.find("prompt")->as_array()) {
    const int64_t first = segment.as_array()[0].as_int() * 1000;
    for (int64_t i = 0; i < segment.as_array()[1].as_int(); ++i)
      tokens.push_back(static_cast<int32_t>(first + i));
  }
  return tokens;
}

class Session {
 public:
  explicit Session(const Json& config) : cache_(read_options(config)) {}

  void play(const Json& op) {
    const std::string& verb = op.find("op")->as_string();
    if (verb == "step") return cache_.begin_step();
    if (op.find("req") == nullptr) return;  // dump_cached
    PoolRequest& request = requests_[op.find("req")->as_string()];
    const Json* expected = op.find("expect");
    if (verb == "new") {
      request = cache_.add(read_prompt(op));
    } else if (verb == "append") {
      cache_.append(&request, lists(Json(Json::Array{*op.find("tokens")}))[0]);
    } else if (verb == "lookup") {
      cache_.look_up(&request);
      EXPECT_EQ(request.hit.n_tokens, integer(*expected, "hit"));
      EXPECT_EQ(request.hit.branch, integer(*expected, "shared_prefix_boundary"));
      EXPECT_EQ(request.hit.blocks, lists(*expected->find("blocks")));
    } else if (verb == "split") {
      EXPECT_EQ(cache_.split(request, integer(op, "want")), expected->as_int());
    } else if (verb == "alloc") {
      allocate(&request, op, *expected);
    } else if (verb == "free") {
      cache_.free(&request);
      const Json::Array queue = {*expected->find("free_queue")};
      EXPECT_EQ(cache_.pool().free_queue(), lists(Json(queue))[0]);
    }
  }

 private:
  void allocate(PoolRequest* request, const Json& op, const Json& expected) {
    const bool done = cache_.allocate(request, integer(op, "num_new"), integer(op, "lookahead"),
                                      op.find("full_sequence_must_fit")->as_bool());
    ASSERT_EQ(done, !expected.is_null());
    if (!done) return;
    EXPECT_EQ(request->blocks, lists(*expected.find("table")));
    EXPECT_EQ(cache_.pool().n_free(), integer(expected, "free"));
  }

  PoolCache cache_;
  std::map<std::string, PoolRequest> requests_;
};

TEST(PoolCache, AnswersAsTheReferenceDid) {
  const std::string path = ASHLAR_SOURCE_DIR "/tests/peers/prefix_sessions.jsonl";
  std::istringstream text(*read_file(path));
  int n_played = 0, n_lookups = 0;
  for (std::string line; std::getline(text, line);) {
    const Json json = *parse_json(line, path);
    if (!in_scope(*json.find("config"))) continue;
    SCOPED_TRACE(json.find("name")->as_string());
    Session session(*json.find("config"));
    int at = 0;
    for (const Json& op : json.find("ops")->as_array()) {
      SCOPED_TRACE(testing::Message() << "operation " << at++ << ": " << op.dump());
      session.play(op);
      n_lookups += op.find("op")->as_string() == "lookup";
      if (HasFailure()) break;
    }
    ++n_played;
  }
  // The others use what the pool cache does not have.
  EXPECT_EQ(n_played, 77);
  EXPECT_GT(n_lookups, 500);
}

}  // namespace
}  // namespace ashlar::reuse
