#include "cli/options.h"

namespace ashlar {

void add_model_flags(CLI::App* app, ModelFlags* flags, const std::string& json_help) {
  app->add_option("MODEL", flags->model,
                  "Checkpoint folder in HuggingFace's format: config.json, safetensors, "
                  "tokenizer.json. With "
                  "--load-format dummy a config.json alone is enough.")
      ->required();
  app->add_option("--dtype", flags->dtype,
                  "What products are made of: bfloat16 (dot products of bf16 pairs, float sums) or "
                  "float32 (every "
                  "activation in float). auto: bfloat16 for bf16 checkpoints, float32 for others.")
      ->check(CLI::IsMember({"auto", "bfloat16", "float32"}))
      ->capture_default_str();
  app->add_option(
         "--kv-cache-dtype", flags->kv_cache_dtype,
         "What the cache stores: bfloat16, float16, float32, fp8 (= fp8_e4m3), fp8_e5m2, or "
         "fp8_per_token_head: e4m3 with a scale for each token of a head. States keep the "
         "model's type. auto: as --dtype.")
      ->check(CLI::IsMember({"auto", "bfloat16", "float16", "float32", "fp8", "fp8_e4m3",
                             "fp8_e5m2", "fp8_per_token_head"}))
      ->capture_default_str();
  app->add_option("--kv-cache-dtype-skip-layers", flags->kv_skip_layers,
                  "Layers that keep the model's type in the cache, as 0,5.")
      ->delimiter(',');
  app->add_option("--kv-scales", flags->kv_scales,
                  "Scales of an fp8 cache: a JSON file {\"layers\": [{\"k\": 0.1, \"v\": 0.1}, "
                  "...]}, as `ashlar calibrate` writes it. Default: the checkpoint's, or 1.");
  app->add_option("--block-size", flags->block_size,
                  "Tokens per cache page, for every layer kind: 1 to 1024.")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app->add_option("--layout", flags->layout,
                  "arena: pages of every group as they are. uniform: one pool of equal blocks, as "
                  "vLLM lays it out: blocks grow or are padded until all are equal; what it "
                  "refuses is refused.")
      ->check(CLI::IsMember({"arena", "uniform"}))
      ->capture_default_str();
  app->add_option("--attn-pack-size", flags->pack,
                  "Attention layers per page, with --layout uniform.")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  app->add_option(
      "--attention-backend", flags->attention_backend,
      "Exactly this row of `ashlar backends` for every layer that attends, or a refusal "
      "with the reason. Default: the first row that can serve the layer.");
  app->add_option("--memory", flags->memory,
                  "Bytes of the cache, as 4096, 512MiB or 60GiB. Default: half of the free memory, "
                  "at most 4 GiB; "
                  "pages are only committed when used.");
  app->add_option("--max-num-batched-tokens", flags->max_step_tokens,
                  "Rows of one step: long prompts are computed in chunks of this many tokens.")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  app->add_option("--max-num-seqs", flags->max_running, "Sequences that may run at once.")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app->add_option("--load-format", flags->load_format,
                  "auto reads the checkpoint; dummy fills random weights of the config's shapes.")
      ->check(CLI::IsMember({"auto", "dummy"}))
      ->capture_default_str();
  app->add_option(
      "--speculative-config", flags->speculative_config,
      "JSON: what proposes tokens that the model checks many at a time; its answers stay "
      "the same. A draft: {\"method\": \"dflash\", \"model\": DIR, "
      "\"num_speculative_tokens\": N}. For any model, what followed earlier in the "
      "text: {\"method\": \"ngram\", \"num_speculative_tokens\": N, "
      "\"prompt_lookup_max\": 4, \"prompt_lookup_min\": 2}.");
  app->add_option("--threads", flags->threads,
                  "Threads that compute. 0: every processor this process may use.")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app->add_flag("--json", flags->json, json_help);
}

}  // namespace ashlar
