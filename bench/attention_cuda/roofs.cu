#include "bench/attention_cuda/roofs.h"

#include <cublasLt.h>

#include <array>
#include <chrono>
#include <thread>

#include "bench/attention_cuda/fill.cuh"

#define CHECK_LT(call)                                                                 \
  do {                                                                                 \
    const cublasStatus_t status = (call);                                              \
    CHECK(status == CUBLAS_STATUS_SUCCESS, "{}: {}", #call, static_cast<int>(status)); \
  } while (false)

namespace ashlar::bench {
namespace {

constexpr uint64_t kSide = 8192;
constexpr int kRepetitions = 15;

// c = a' b, all bf16 of kSide by kSide.
class Product {
 public:
  Product() {
    CHECK_LT(cublasLtCreate(&lt_));
    CHECK_LT(cublasLtMatmulDescCreate(&matmul_, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    const cublasOperation_t transposed = CUBLAS_OP_T;
    CHECK_LT(cublasLtMatmulDescSetAttribute(matmul_, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                            sizeof(transposed)));
    CHECK_LT(cublasLtMatrixLayoutCreate(&layout_, CUDA_R_16BF, kSide, kSide, kSide));
    CHECK_LT(cublasLtMatmulPreferenceCreate(&preference_));
    const size_t bytes = workspace_.bytes();
    CHECK_LT(cublasLtMatmulPreferenceSetAttribute(
        preference_, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof(bytes)));
    fill_normal(a_, DType::bf16, 1, 1.0f);
    fill_normal(b_, DType::bf16, 2, 1.0f);
  }
  ~Product() {
    cublasLtMatmulPreferenceDestroy(preference_);
    cublasLtMatrixLayoutDestroy(layout_);
    cublasLtMatmulDescDestroy(matmul_);
    cublasLtDestroy(lt_);
  }
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;

  // Of the algorithms that the library thinks best.
  double best_us() const {
    std::array<cublasLtMatmulHeuristicResult_t, 4> found{};
    int n = 0;
    CHECK_LT(cublasLtMatmulAlgoGetHeuristic(lt_, matmul_, layout_, layout_, layout_, layout_,
                                            preference_, static_cast<int>(found.size()),
                                            found.data(), &n));
    CHECK(n > 0, "cuBLASLt knows no product of {} bf16", kSide);
    double best = 0;
    for (int i = 0; i < n; ++i) {
      rest();
      const double us =
          cuda::median_us([&] { run(found[static_cast<size_t>(i)].algo); }, kRepetitions);
      best = best > 0 ? std::min(best, us) : us;
    }
    return best;
  }

 private:
  void run(const cublasLtMatmulAlgo_t& algo) const {
    const float one = 1, zero = 0;
    CHECK_LT(cublasLtMatmul(lt_, matmul_, &one, a_.get(), layout_, b_.get(), layout_, &zero,
                            c_.get(), layout_, c_.get(), layout_, &algo, workspace_.get(),
                            workspace_.bytes(), nullptr));
  }

  cuda::DeviceBytes a_{kSide * kSide * 2}, b_{kSide * kSide * 2}, c_{kSide * kSide * 2};
  cuda::DeviceBytes workspace_{size_t{64} << 20};
  cublasLtHandle_t lt_ = nullptr;
  cublasLtMatmulDesc_t matmul_ = nullptr;
  cublasLtMatrixLayout_t layout_ = nullptr;
  cublasLtMatmulPreference_t preference_ = nullptr;
};

}  // namespace

void rest() { std::this_thread::sleep_for(std::chrono::milliseconds(500)); }

CardRoof measure_card_roof() {
  const double flops = 2.0 * static_cast<double>(kSide * kSide * kSide);
  return {.read_bytes_per_s = cuda::measure_read(),
          .matmul_flops_per_s = flops / Product().best_us() * 1e6};
}

}  // namespace ashlar::bench
