// What the played cuBLAS and cuBLASLt have in common: matrices in the card's memory, and products of them.
//
// Matrices are stored by columns. Sums are f32 (f64 for products of f64), in the order of the inner side.
// Numbers are rounded to tf32 first where that is asked for.
#pragma once

#include "memory.h"

#include <cublas_v2.h>

#include <stdio.h>
#include <string.h>

#include <string>
#include <vector>

namespace
{

// CU_STREAM_PER_THREAD. candle works on no other stream.
const auto PER_THREAD = reinterpret_cast<cudaStream_t>(2);

inline cublasStatus_t refuse(const char *what, const std::string &wrong)
{
    played_card_tells(what, wrong.c_str());
    return CUBLAS_STATUS_INVALID_VALUE;
}

inline float of_bits(uint32_t bits)
{
    float number;
    memcpy(&number, &bits, sizeof(number));
    return number;
}

inline uint32_t bits_of(float number)
{
    uint32_t bits;
    memcpy(&bits, &number, sizeof(bits));
    return bits;
}

// To 10 bits behind the point, halves away from zero.
inline float as_tf32(float number)
{
    const uint32_t bits = bits_of(number);
    return (bits & 0x7f800000) == 0x7f800000 ? number : of_bits((bits + 0x1000) & 0xffffe000);
}

inline size_t bytes_of(cudaDataType kind)
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

// What is wrong with a matrix, if anything. It has to begin at a multiple of so many bytes, or of those of a
// number.
inline cublasStatus_t expect(const char *what, const Stored &stored, int64_t batches, cudaStream_t stream,
                             bool written, size_t aligned = 1)
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
        const size_t multiple = aligned > bytes ? aligned : bytes;
        if (!played_card_holds(name.c_str(), from, length, multiple, stream, written))
            return CUBLAS_STATUS_EXECUTION_FAILED;
    }
    return CUBLAS_STATUS_SUCCESS;
}

// Whether two batches of matrices have bytes in common, from their first one to their last.
inline bool meet(const Stored &one, const Stored &other, int64_t batches)
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

// Adds to the product what places `first` to `last` of the inner side come to. Four columns of it at a time,
// each the sum of columns of `a`: so the innermost loop goes along a column.
template <class T>
void add_products(T *__restrict__ to, const T *__restrict__ a, const T *b, int64_t m, int64_t n, int64_t k,
                  int64_t first, int64_t last)
{
    constexpr int64_t PART = 512;
    for (int64_t part = 0; part < m; part += PART) {
        const int64_t length = m - part < PART ? m - part : PART;
        int64_t column = 0;
        for (; column + 4 <= n; column += 4) {
            T *to0 = to + column * m + part, *to1 = to0 + m, *to2 = to1 + m, *to3 = to2 + m;
            const T *b0 = b + column * k, *b1 = b0 + k, *b2 = b1 + k, *b3 = b2 + k;
            for (int64_t inner = first; inner < last; inner++) {
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
            for (int64_t inner = first; inner < last; inner++) {
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
inline uint16_t as_bf16(float number)
{
    const uint32_t bits = bits_of(number);
    return number != number ? 0x7fff : uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

} // namespace
