// Matrix products of the played card, libcublas.so.13: those that candle asks cuBLAS for. What cuBLAS
// refuses is refused, and what is read and written has to be memory of the card.

#include "products.h"

#include <map>

namespace
{

// The handles there are, with their streams. candle makes them in the thread that opens the device, before
// all others.
std::map<const void *, cudaStream_t> handles;

struct Product {
    cublasOperation_t turn_a, turn_b;
    int64_t m, n, k;
    Stored a, b, c;
    int64_t batches;
    bool tf32;
};

template <class T> void multiply(const Product &product, T alpha, T beta)
{
    const int64_t m = product.m, n = product.n;
    for (int64_t batch = 0; batch < product.batches; batch++) {
        const std::vector<T> a = taken<T>(product.a, batch, product.turn_a != CUBLAS_OP_N, product.tf32);
        const std::vector<T> b = taken<T>(product.b, batch, product.turn_b != CUBLAS_OP_N, product.tf32);
        std::vector<T> sums(size_t(m * n), T(0));
        add_products(sums.data(), a.data(), b.data(), m, n, product.k, 0, product.k);
        // What is there is not read where it counts for nothing: it may be no number.
        const std::vector<T> before =
            beta != T(0) ? taken<T>(product.c, batch, false, false) : std::vector<T>();
        for (int64_t column = 0; column < n; column++)
            for (int64_t row = 0; row < m; row++) {
                const size_t place = size_t(column * m + row);
                const T made = alpha * sums[place] + (beta != T(0) ? beta * before[place] : T(0));
                const int64_t at = batch * product.c.stride + column * product.c.leading + row;
                void *to = const_cast<void *>(product.c.from);
                if (product.c.kind == CUDA_R_64F)
                    static_cast<double *>(to)[at] = double(made);
                else if (product.c.kind == CUDA_R_32F)
                    static_cast<float *>(to)[at] = float(made);
                else
                    static_cast<uint16_t *>(to)[at] = as_bf16(float(made));
            }
    }
}

cublasStatus_t multiply(const char *what, cublasHandle_t handle, Product product, const void *alpha,
                        const void *beta, cublasComputeType_t compute)
{
    const auto known = handles.find(handle);
    if (known == handles.end())
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!played_card_is_ready(what))
        return CUBLAS_STATUS_EXECUTION_FAILED;
    if (known->second != PER_THREAD)
        return refuse(what, "expected a handle with the stream of the calling thread");
    if (played_card_captures(known->second)) {
        // The numbers are read now, and the matrices when the graph is launched.
        if (alpha == nullptr || beta == nullptr)
            return refuse(what, "expected alpha and beta in the host's memory");
        const size_t bytes = compute == CUBLAS_COMPUTE_64F ? 8 : 4;
        double of_alpha = 0, of_beta = 0;
        memcpy(&of_alpha, alpha, bytes);
        memcpy(&of_beta, beta, bytes);
        const auto again = [=](void *) {
            return multiply(what, handle, product, &of_alpha, &of_beta, compute) == CUBLAS_STATUS_SUCCESS;
        };
        return played_card_notes(known->second, again) ? CUBLAS_STATUS_SUCCESS
                                                       : CUBLAS_STATUS_EXECUTION_FAILED;
    }
    if (product.m < 0 || product.n < 0 || product.k < 0 || product.batches < 0)
        return refuse(what, "a side is negative");
    if (product.turn_a > CUBLAS_OP_T || product.turn_b > CUBLAS_OP_T)
        return refuse(what, "a conjugate is not played");
    if (alpha == nullptr || beta == nullptr || played_card_has(alpha) || played_card_has(beta))
        return refuse(what, "expected alpha and beta in the host's memory");
    const bool turned_a = product.turn_a == CUBLAS_OP_T, turned_b = product.turn_b == CUBLAS_OP_T;
    product.a.rows = turned_a ? product.k : product.m;
    product.a.columns = turned_a ? product.m : product.k;
    product.b.rows = turned_b ? product.n : product.k;
    product.b.columns = turned_b ? product.k : product.n;
    product.c.rows = product.m;
    product.c.columns = product.n;
    if (product.a.stride < 0 || product.b.stride < 0 || product.c.stride < 0)
        return refuse(what, "a negative stride is not played");
    if (meet(product.a, product.c, product.batches) || meet(product.b, product.c, product.batches))
        return refuse(what, "the result lies on a factor");
    for (const Stored *stored : {&product.a, &product.b, &product.c})
        if (const cublasStatus_t wrong =
                expect(what, *stored, product.batches, known->second, stored == &product.c);
            wrong != CUBLAS_STATUS_SUCCESS)
            return wrong;
    if (product.batches > 1 && product.c.stride < product.n * product.c.leading)
        return refuse(what, "results of a batch lie in each other");
    if (product.a.kind != product.b.kind)
        return refuse(what, "factors of two types");
    const bool f32 = product.a.kind == CUDA_R_32F && product.c.kind == CUDA_R_32F;
    const bool bf16 =
        product.a.kind == CUDA_R_16BF && (product.c.kind == CUDA_R_16BF || product.c.kind == CUDA_R_32F);
    if (compute == CUBLAS_COMPUTE_64F && product.a.kind == CUDA_R_64F && product.c.kind == CUDA_R_64F) {
        multiply(product, *static_cast<const double *>(alpha), *static_cast<const double *>(beta));
        return CUBLAS_STATUS_SUCCESS;
    }
    product.tf32 = compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    if ((compute == CUBLAS_COMPUTE_32F && (f32 || bf16)) || (product.tf32 && f32)) {
        multiply(product, *static_cast<const float *>(alpha), *static_cast<const float *>(beta));
        return CUBLAS_STATUS_SUCCESS;
    }
    played_card_tells(what,
                      ("types " + std::to_string(product.a.kind) + " and " + std::to_string(product.c.kind) +
                       " with compute type " + std::to_string(compute) + " are not played")
                          .c_str());
    return CUBLAS_STATUS_NOT_SUPPORTED;
}

} // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t *handle)
{
    if (!played_card_is_ready("cublasCreate"))
        return CUBLAS_STATUS_NOT_INITIALIZED;
    *handle = reinterpret_cast<cublasHandle_t>(new char);
    handles[*handle] = nullptr;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle)
{
    if (handles.erase(handle) == 0)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    delete reinterpret_cast<char *>(handle);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream)
{
    const auto known = handles.find(handle);
    if (known == handles.end())
        return CUBLAS_STATUS_NOT_INITIALIZED;
    known->second = stream;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t turn_a,
                                          cublasOperation_t turn_b, int m, int n, int k, const void *alpha,
                                          const void *a, cudaDataType kind_a, int leading_a,
                                          long long stride_a, const void *b, cudaDataType kind_b,
                                          int leading_b, long long stride_b, const void *beta, void *c,
                                          cudaDataType kind_c, int leading_c, long long stride_c, int batches,
                                          cublasComputeType_t compute, cublasGemmAlgo_t)
{
    const Product product = {turn_a,
                             turn_b,
                             m,
                             n,
                             k,
                             {"A", a, kind_a, 0, 0, leading_a, stride_a},
                             {"B", b, kind_b, 0, 0, leading_b, stride_b},
                             {"C", c, kind_c, 0, 0, leading_c, stride_c},
                             batches,
                             false};
    return multiply("cublasGemmStridedBatchedEx", handle, product, alpha, beta, compute);
}

cublasStatus_t cublasDgemmStridedBatched(cublasHandle_t handle, cublasOperation_t turn_a,
                                         cublasOperation_t turn_b, int m, int n, int k, const double *alpha,
                                         const double *a, int leading_a, long long stride_a, const double *b,
                                         int leading_b, long long stride_b, const double *beta, double *c,
                                         int leading_c, long long stride_c, int batches)
{
    return cublasGemmStridedBatchedEx(handle, turn_a, turn_b, m, n, k, alpha, a, CUDA_R_64F, leading_a,
                                      stride_a, b, CUDA_R_64F, leading_b, stride_b, beta, c, CUDA_R_64F,
                                      leading_c, stride_c, batches, CUBLAS_COMPUTE_64F, CUBLAS_GEMM_DEFAULT);
}

} // extern "C"
