// Matrix products of the played card, libcublas.so.13: those that candle and we ask cuBLAS for. What cuBLAS
// refuses is refused, and what is read and written has to be memory of the card.
//
// Matrices are stored by columns. Sums are f32 (f64 for products of f64), in the order of the inner side.
// Numbers are rounded to tf32 first where that is asked for.

#include "memory.h"

#include <cublas_v2.h>

#include <stdio.h>
#include <string.h>

#include <map>
#include <string>
#include <vector>

namespace
{

// The handles there are, with their streams. candle makes them in the thread that opens the device, before
// all others.
std::map<const void *, cudaStream_t> handles;

// CU_STREAM_PER_THREAD. candle works on no other stream.
const auto PER_THREAD = reinterpret_cast<cudaStream_t>(2);

cublasStatus_t refuse(const char *what, const std::string &wrong)
{
    played_card_tells(what, wrong.c_str());
    return CUBLAS_STATUS_INVALID_VALUE;
}

float of_bits(uint32_t bits)
{
    float number;
    memcpy(&number, &bits, sizeof(number));
    return number;
}

uint32_t bits_of(float number)
{
    uint32_t bits;
    memcpy(&bits, &number, sizeof(bits));
    return bits;
}

// To 10 bits behind the point, halves away from zero.
float as_tf32(float number)
{
    const uint32_t bits = bits_of(number);
    return (bits & 0x7f800000) == 0x7f800000 ? number : of_bits((bits + 0x1000) & 0xffffe000);
}

size_t bytes_of(cudaDataType kind)
{
    switch (kind) {
    case CUDA_R_16BF:
        return 2;
    case CUDA_R_32F:
        return 4;
    case CUDA_R_64F:
        return 8;
    default:
        return 0;
    }
}

// A matrix in the card's memory, as it is stored.
struct Stored {
    const char *which;
    const void *from;
    cudaDataType kind;
    int64_t rows, columns, leading;
    long long stride;
};

// What is wrong with a matrix, if anything.
cublasStatus_t expect(const char *what, const Stored &stored, int64_t batches, cudaStream_t stream,
                      bool written)
{
    const std::string name = std::string(what) + ", " + stored.which;
    const size_t bytes = bytes_of(stored.kind);
    if (bytes == 0)
        return refuse(name.c_str(), "type " + std::to_string(stored.kind) + " is not played");
    if (stored.leading < (stored.rows > 1 ? stored.rows : 1))
        return refuse(name.c_str(), "a leading dimension of " + std::to_string(stored.leading) +
                                        ", expected at least " + std::to_string(stored.rows));
    if (stored.rows == 0 || stored.columns == 0)
        return CUBLAS_STATUS_SUCCESS;
    for (int64_t batch = 0; batch < batches; batch++) {
        const char *from = static_cast<const char *>(stored.from) + batch * stored.stride * int64_t(bytes);
        const size_t length = size_t((stored.columns - 1) * stored.leading + stored.rows) * bytes;
        if (!played_card_holds(name.c_str(), from, length, bytes, stream, written))
            return CUBLAS_STATUS_EXECUTION_FAILED;
    }
    return CUBLAS_STATUS_SUCCESS;
}

// Whether two batches of matrices have bytes in common, from their first one to their last.
bool meet(const Stored &one, const Stored &other, int64_t batches)
{
    const auto begin = [](const Stored &stored) { return reinterpret_cast<uintptr_t>(stored.from); };
    const auto end = [&](const Stored &stored) {
        const int64_t length =
            (batches - 1) * stored.stride + (stored.columns - 1) * stored.leading + stored.rows;
        return begin(stored) + uintptr_t(length) * bytes_of(stored.kind);
    };
    for (const Stored *stored : {&one, &other})
        if (batches == 0 || stored->rows == 0 || stored->columns == 0)
            return false;
    return begin(one) < end(other) && begin(other) < end(one);
}

// A matrix as numbers to compute with, by columns without gaps.
template <class T> std::vector<T> taken(const Stored &stored, int64_t batch, bool turned, bool tf32)
{
    const int64_t rows = turned ? stored.columns : stored.rows,
                  columns = turned ? stored.rows : stored.columns;
    std::vector<T> numbers(size_t(rows * columns));
    const int64_t first = batch * stored.stride;
    const auto fill = [&](const auto &at) {
        for (int64_t column = 0; column < columns; column++)
            for (int64_t row = 0; row < rows; row++)
                numbers[size_t(column * rows + row)] =
                    at(first + (turned ? row * stored.leading + column : column * stored.leading + row));
    };
    if (stored.kind == CUDA_R_64F)
        fill([&](int64_t i) { return T(static_cast<const double *>(stored.from)[i]); });
    else if (stored.kind == CUDA_R_16BF)
        fill([&](int64_t i) {
            return T(of_bits(uint32_t(static_cast<const uint16_t *>(stored.from)[i]) << 16));
        });
    else if (tf32)
        fill([&](int64_t i) { return T(as_tf32(static_cast<const float *>(stored.from)[i])); });
    else
        fill([&](int64_t i) { return T(static_cast<const float *>(stored.from)[i]); });
    return numbers;
}

// Four columns of the product, each the sum of columns of `a`: so the innermost loop goes along a column.
template <class T>
void add_products(T *__restrict__ to, const T *__restrict__ a, const T *b, int64_t m, int64_t n, int64_t k)
{
    constexpr int64_t PART = 512;
    for (int64_t part = 0; part < m; part += PART) {
        const int64_t length = m - part < PART ? m - part : PART;
        int64_t column = 0;
        for (; column + 4 <= n; column += 4) {
            T *to0 = to + column * m + part, *to1 = to0 + m, *to2 = to1 + m, *to3 = to2 + m;
            const T *b0 = b + column * k, *b1 = b0 + k, *b2 = b1 + k, *b3 = b2 + k;
            for (int64_t inner = 0; inner < k; inner++) {
                const T *of = a + inner * m + part;
                const T x0 = b0[inner], x1 = b1[inner], x2 = b2[inner], x3 = b3[inner];
#pragma GCC ivdep
                for (int64_t row = 0; row < length; row++) {
                    to0[row] += of[row] * x0;
                    to1[row] += of[row] * x1;
                    to2[row] += of[row] * x2;
                    to3[row] += of[row] * x3;
                }
            }
        }
        for (; column < n; column++)
            for (int64_t inner = 0; inner < k; inner++) {
                const T *of = a + inner * m + part;
                const T x = b[column * k + inner];
                T *into = to + column * m + part;
#pragma GCC ivdep
                for (int64_t row = 0; row < length; row++)
                    into[row] += of[row] * x;
            }
    }
}

// As bf16, to the nearest, halves to the even one.
uint16_t as_bf16(float number)
{
    const uint32_t bits = bits_of(number);
    return number != number ? 0x7fff : uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

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
        add_products(sums.data(), a.data(), b.data(), m, n, product.k);
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

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t turn_a, cublasOperation_t turn_b, int m,
                            int n, int k, const void *alpha, const void *a, cudaDataType kind_a,
                            int leading_a, const void *b, cudaDataType kind_b, int leading_b,
                            const void *beta, void *c, cudaDataType kind_c, int leading_c,
                            cublasComputeType_t compute, cublasGemmAlgo_t)
{
    const Product product = {turn_a,
                             turn_b,
                             m,
                             n,
                             k,
                             {"A", a, kind_a, 0, 0, leading_a, 0},
                             {"B", b, kind_b, 0, 0, leading_b, 0},
                             {"C", c, kind_c, 0, 0, leading_c, 0},
                             1,
                             false};
    return multiply("cublasGemmEx", handle, product, alpha, beta, compute);
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
